//! The example file, the mistakes, and that all of them are reported.

use std::path::Path;

use super::{yaml::Node, *};

const EXAMPLE: &str = include_str!("../../config.example.yaml");

const MINIMAL: &str = r#"
listeners: [{name: main, address: "127.0.0.1:0", mode: explicit}]
tls: {certificate_file: c.pem, key_file: k.pem}
users: {file: users.yaml}
backends: {disk: {type: fs, root: data}, cloud: {type: s3, bucket: b, endpoint: "http://localhost:9000"}}
mounts: [{path: /, backend: disk}]
"#;

fn environment(name: &str) -> Option<String> {
    name.starts_with("CAUSEWAY_").then(|| match name {
        "CAUSEWAY_REDIS_URL" => "rediss://127.0.0.1:6379/0".to_owned(),
        "CAUSEWAY_HOOK_URL" => "https://example.com/hooks/ftp".to_owned(),
        _ => format!("value of {name}"),
    })
}

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, Path::new("/etc/causeway/config.yaml"), &environment)
}

/// The errors as `path: message`.
#[track_caller]
fn errors(text: &str) -> Vec<String> {
    let errors = parse(text).expect_err("the text must be refused").errors;
    errors.iter().map(ToString::to_string).collect()
}

/// `MINIMAL` with one text replaced by another.
#[track_caller]
fn changed(from: &str, to: &str) -> String {
    assert!(
        MINIMAL.contains(from),
        "{from:?} is not part of the minimal configuration"
    );
    MINIMAL.replacen(from, to, 1)
}

/// The example with every optional key set: the `#` in front of keys taken away.
fn full_example() -> String {
    let uncomment = |line: &str| {
        let indent = line.len() - line.trim_start().len();
        match line.trim_start().strip_prefix('#') {
            Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => {
                format!("{}{rest}\n", &line[..indent])
            }
            _ => format!("{line}\n"),
        }
    };
    EXAMPLE.lines().map(uncomment).collect()
}

#[test]
fn example_file_parses_as_it_stands_and_with_every_key_set() {
    let config = parse(EXAMPLE).unwrap();
    assert_eq!(config.listeners.len(), 2);
    assert!(config.admin.is_none());
    let config = parse(&full_example()).unwrap();
    let admin = config.admin.unwrap();
    assert_eq!(admin.address, "127.0.0.1:9090".parse().unwrap());
    assert_eq!(admin.metrics, MetricsAccess::Token);
    assert!(admin.token.is_some() && admin.tls.is_some());
    assert_eq!(config.backends.len(), 6);
}

#[test]
fn example_file_names_every_key() {
    for key in resolve::all_keys() {
        assert!(
            full_example().contains(&format!("{key}:")),
            "config.example.yaml lacks {key}"
        );
    }
}

#[test]
fn defaults_of_the_example_are_those_of_the_code() {
    let written = parse(&full_example()).unwrap();
    let default = parse(MINIMAL).unwrap();
    assert_eq!(
        format!("{:?}", written.limits),
        format!("{:?}", default.limits)
    );
    assert_eq!(
        format!("{:?}", written.timeouts),
        format!("{:?}", default.timeouts)
    );
    assert_eq!(
        format!("{:?}", written.limits),
        format!("{:?}", Limits::default())
    );
    assert_eq!(
        format!("{:?}", written.timeouts),
        format!("{:?}", Timeouts::default())
    );
    assert_eq!(written.uploads, default.uploads);
    assert_eq!(default.uploads, Uploads::default());
    assert_eq!(written.log, default.log);
    assert_eq!(written.mounts[0].prefix, default.mounts[0].prefix);
    assert_eq!(written.mounts[0].read_only, default.mounts[0].read_only);
    let (written_listener, listener) = (&written.listeners[0], &default.listeners[0]);
    assert_eq!(written_listener.clear_text, listener.clear_text);
    assert_eq!(written_listener.upload_end, listener.upload_end);
    assert_eq!(written_listener.resumption, listener.resumption);
    let written_profile = Profile {
        greeting: None,
        upload_end: None,
        ..(*written_listener.profile).clone()
    };
    assert_eq!(written_profile, *listener.profile);
    let address = PublicAddress::Connection;
    let written_passive = Passive {
        address,
        ..written_listener.passive.clone()
    };
    assert_eq!(written_passive, listener.passive);
    assert_eq!(
        written_listener.proxy_protocol.header,
        listener.proxy_protocol.header
    );
    assert_eq!(written_listener.ccc, listener.ccc);
    assert_eq!(written_listener.connections, listener.connections);
    // The second listener has the top-level `tls`.
    let (written_tls, tls) = (&written.listeners[1].tls, &listener.tls);
    assert_eq!(written_tls.certificates.len(), 2);
    assert_eq!(written_tls.sni, tls.sni);
    assert_eq!(written_tls.minimum_version, tls.minimum_version);
    assert_eq!(written_tls.cipher_suites, tls.cipher_suites);
    assert_eq!(written_tls.client_certificates, tls.client_certificates);
    let s3 = |config: &Config, name: &str| match &config.backends[name] {
        Backend::S3(s3) => s3.clone(),
        other => panic!("{name} must be an S3 backend, found {other:?}"),
    };
    let (written_s3, s3) = (s3(&written, "archive"), s3(&default, "cloud"));
    let written_s3 = S3Backend {
        bucket: s3.bucket.clone(),
        endpoint: s3.endpoint.clone(),
        credentials: None,
        ca_file: None,
        storage_class: None,
        ..*written_s3
    };
    assert_eq!(format!("{written_s3:?}"), format!("{:?}", *s3));
    let local_time = |config: &Config, name: &str| match &config.backends[name] {
        Backend::Fs(local) => (local.set_time, local.durability, local.free_space_bytes),
        other => panic!("{name} must be a local directory, found {other:?}"),
    };
    assert_eq!(local_time(&written, "local"), local_time(&default, "disk"));
}

/// The schema comes from the reader's own questions: none may be left out, and each is explained.
#[test]
fn schema_knows_every_key_its_kind_and_its_description() {
    let schema = schema::configuration();
    let mut odd = Vec::new();
    schema::keys_without_kind(&schema, "", &mut odd);
    assert!(odd.is_empty(), "no kind was asked for: {odd:?}");
    let text = schema.to_string();
    for key in resolve::all_keys() {
        assert!(
            text.contains(&format!("\"{key}\":")),
            "the schema lacks {key}"
        );
    }
    let mut silent = Vec::new();
    undescribed(&schema, "", &mut silent);
    assert!(
        silent.is_empty(),
        "no comment in config.example.yaml: {silent:?}"
    );
    let users = crate::auth::users_schema();
    schema::keys_without_kind(&users, "", &mut odd);
    assert!(odd.is_empty(), "no kind was asked for: {odd:?}");
    let demanded = |pointer: &str| schema.pointer(pointer).cloned().unwrap_or_default();
    assert_eq!(
        demanded("/required"),
        serde_json::json!(["listeners", "backends", "mounts"])
    );
    assert_eq!(
        demanded("/properties/listeners/items/required"),
        serde_json::json!(["name", "address", "mode"])
    );
}

/// Keys that nothing is said of.
fn undescribed(schema: &serde_json::Value, path: &str, found: &mut Vec<String>) {
    let properties = schema["properties"].as_object().into_iter().flatten();
    for (key, below) in properties {
        let path = format!("{path}.{key}");
        if below.get("description").is_none() && below.get("const").is_none() {
            // Tables are explained by what is in them.
            let has_keys = below.get("properties").is_some() || below.get("anyOf").is_some();
            let is_plain = ["integer", "boolean"]
                .iter()
                .any(|kind| below["type"] == **kind);
            if is_plain || !has_keys {
                found.push(path.clone());
            }
        }
        undescribed(below, &path, found);
    }
    for key in ["items", "additionalProperties"] {
        if schema[key].is_object() {
            undescribed(&schema[key], &format!("{path}[]"), found);
        }
    }
    for below in schema["anyOf"].as_array().into_iter().flatten() {
        undescribed(below, path, found);
    }
}

/// What is printed is read again and means the same, for everything that a file can say.
#[test]
fn effective_configuration_reads_as_the_same() {
    // Secrets that stand in the file itself would be masked.
    let full = full_example()
        .replace(
            "url: https://example.com/hooks/ftp",
            "url: {env: CAUSEWAY_HOOK_URL}",
        )
        .replace(
            "url: https://accounts.example.com/ftp-login",
            "url: {env: CAUSEWAY_HOOK_URL}",
        )
        .replace(
            "endpoint: http://127.0.0.1:4318",
            "endpoint: {env: CAUSEWAY_HOOK_URL}",
        )
        .replace(
            "endpoint: https://oss-cn",
            "endpoint: {env: CAUSEWAY_ENDPOINT} # ",
        )
        .replace(
            "      bucket: my-bucket",
            "      bucket: {env: CAUSEWAY_BUCKET}",
        );
    for text in [full.as_str(), MINIMAL, EXAMPLE] {
        let first = parse(text).unwrap();
        let printed = first.effective.to_yaml().unwrap();
        assert!(!printed.contains("***"), "{printed}");
        let second = Config::parse(&printed, Path::new("/else/where.yaml"), &environment);
        let second = second.unwrap_or_else(|errors| panic!("{errors}\n{printed}"));
        assert_eq!(first, second, "{printed}");
    }
}

/// hickory-dns's idea: a key that nobody knows must be refused wherever it stands.
#[test]
fn unknown_key_is_refused_in_every_table() {
    let node = yaml::parse(&full_example()).unwrap();
    let mut paths = Vec::new();
    collect_tables(&node, String::new(), &mut paths);
    assert!(paths.len() > 15, "tables found: {paths:?}");
    for path in paths {
        let mut changed = node.clone();
        insert(&mut changed, "", &path);
        let errors = resolve::file(&changed, Path::new("config.yaml"), &environment)
            .expect_err(&format!("an unknown key in {path:?} must be refused"));
        let expected = typed::join(&path, "zzz_unknown");
        assert!(
            errors.errors.iter().any(|error| error.path == expected),
            "{path:?}: {errors}"
        );
    }
}

fn collect_tables(node: &Node, path: String, paths: &mut Vec<String>) {
    match node {
        Node::Mapping(entries) => {
            for (key, value) in entries {
                let Node::String(key) = key else {
                    panic!("key {key:?}")
                };
                collect_tables(value, typed::join(&path, key), paths);
            }
            paths.push(path);
        }
        Node::Sequence(items) => {
            for (index, item) in items.iter().enumerate() {
                collect_tables(item, format!("{path}[{index}]"), paths);
            }
        }
        _ => {}
    }
}

fn insert(node: &mut Node, path: &str, target: &str) {
    match node {
        Node::Mapping(entries) => {
            for (key, value) in entries.iter_mut() {
                let Node::String(key) = key else {
                    panic!("key {key:?}")
                };
                insert(value, &typed::join(path, key), target);
            }
            if path == target {
                entries.push((Node::String("zzz_unknown".to_owned()), Node::Integer(1)));
            }
        }
        Node::Sequence(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                insert(item, &format!("{path}[{index}]"), target);
            }
        }
        _ => {}
    }
}

#[test]
fn many_mistakes_are_reported_together() {
    let text = r#"
listners: []
listeners:
  - {name: a, address: "127.0.0.1:21", mode: explicit, clear_text: maybe}
  - {name: a, address: nonsense, mode: 2, passive: {ports: 60000-50000}, connections: 0}
  - {name: c, address: "0.0.0.0:21", mode: implicit, clear_text: allow, tls: {certificate_file: x}}
tls: {certificate_file: c.pem, key_file: k.pem, keyfile: k.pem}
users: {}
backends:
  disk: {type: fs}
  cloud: {type: s3, bucket: b, access_key_id: id, part_size_bytes: 1000}
  other: {type: ftp}
mounts:
  - {path: /a/../b, backend: dsk, prefix: "x/{name}"}
timeouts: {idle_seconds: 0}
limits: yes please
admin: {address: "0.0.0.0:9090"}
log: {level: verbose}
"#;
    let errors = errors(text);
    for expected in [
        "listners: unknown key; did you mean `listeners`?",
        "listeners[0].clear_text: expected `refuse` or `allow`, found \"maybe\"",
        "listeners[1].name: another listener has the name \"a\"",
        "listeners[1].address: expected an IP address and a port",
        "listeners[1].mode: expected `explicit` or `implicit`, found a number",
        "listeners[1].passive.ports: the range ends before it starts",
        "listeners[1].connections: expected a whole number from 1 to 1000000, found the number 0",
        "listeners[2].clear_text: an implicit listener is encrypted",
        "listeners[2].tls.key_file: missing: expected the path of a PEM file",
        "tls.keyfile: unknown key; did you mean `key_file`?",
        "users.file: missing",
        "backends.disk.root: missing",
        "backends.cloud.region: missing",
        "backends.cloud.secret_access_key: missing: access_key_id is given",
        "backends.cloud.part_size_bytes: expected a whole number from 5242880 to 5368709120",
        "backends.other.type: expected `fs` or `s3` or `gcs` or `azblob` or `memory` or `opendal`, found \"ftp\"",
        "mounts[0].path: expected the plain absolute form \"/b\", found \"/a/../b\"",
        "mounts[0].prefix: the templates are {home}, {user}, {certificate} and {attribute.NAME}, found \"x/{name}\"",
        "timeouts.idle_seconds: expected a whole number from 1 to 604800, found the number 0",
        "limits: expected a table of keys, found the string \"yes please\"",
        "admin.token: missing: \"0.0.0.0:9090\" is no loopback address",
        "log.level: expected `error` or `warn`",
    ] {
        assert!(
            errors.iter().any(|error| error.starts_with(expected)),
            "{expected}\n{errors:#?}"
        );
    }
    assert_eq!(errors.len(), 22, "{errors:#?}");
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn each_mistake_names_its_path() {
    let listener = r#"{name: main, address: "127.0.0.1:0", mode: explicit}"#;
    let cases = [
        (listener, "", "listeners: empty"),
        ("listeners:", "listener:", "listeners: missing"),
        (
            "mode: explicit",
            "mode: Explicit",
            "listeners[0].mode: expected `explicit` or `implicit`, found \"Explicit\"; did you mean `explicit`?",
        ),
        (
            "mode: explicit",
            "mode: explicit, mode: implicit",
            "listeners[0].mode: given twice",
        ),
        (
            "mode: explicit",
            "mode: explicit, passive: {ports: 80}",
            "listeners[0].passive.ports: ports below 1024",
        ),
        (
            "mode: explicit",
            "mode: explicit, passive: {address: \"::1\"}",
            "listeners[0].passive.address: the 227 reply",
        ),
        (
            "mode: explicit",
            "mode: explicit, passive: {address: 0.0.0.0}",
            "listeners[0].passive.address: 0.0.0.0",
        ),
        (
            "users:",
            "profiles: {old: {list_time_zone: \"+2:00\"}}\nusers:",
            "profiles.old.list_time_zone: expected a distance from UTC",
        ),
        (
            "users:",
            "profiles: {old: {name_charset: utf-16le}}\nusers:",
            "profiles.old.name_charset: expected a charset",
        ),
        (
            "mode: explicit}]",
            "mode: explicit, profile: od}]\nprofiles: {old: {}}",
            "listeners[0].profile: no profile has the name \"od\"",
        ),
        (
            "mode: explicit",
            "mode: explicit, passive: {address: {service: {name: Causeway_0}}}",
            "listeners[0].passive.address.service.name: expected small letters",
        ),
        (
            "mode: explicit",
            "mode: explicit, passive: {address: {service: {name: a, api: \"http://b\"}}}",
            "listeners[0].passive.address.service.api: expected a URL that begins with https://",
        ),
        (
            "mode: explicit",
            "mode: explicit, passive: {address: {dns: \"a b\"}}",
            "listeners[0].passive.address.dns: expected a host name",
        ),
        (
            "mode: explicit",
            "mode: explicit, passive: {address: {by_client: [{clients: 10.0.0.0/40, address: 1.2.3.4}]}}",
            "listeners[0].passive.address.by_client[0].clients: expected a network",
        ),
        (
            "mode: explicit",
            "mode: explicit, passive: {address: {dns: a, by_client: []}}",
            "listeners[0].passive.address: expected an IPv4 address",
        ),
        (
            "mode: explicit",
            "mode: explicit, passive: {address: from_proxy}",
            "listeners[0].passive: `address: from_proxy` needs",
        ),
        (
            "mode: explicit",
            "mode: explicit, proxy_protocol: {control: required}",
            "listeners[0].proxy_protocol.trusted_networks: missing",
        ),
        (
            "mode: explicit",
            "mode: explicit, proxy_protocol: {data: required, trusted_networks: [10.0.0.1, x]}",
            "listeners[0].proxy_protocol.trusted_networks[1]: expected a network",
        ),
        (
            "tls: {certificate_file: c.pem, key_file: k.pem}",
            "",
            "listeners[0].tls: missing: give",
        ),
        (
            "mode: explicit",
            "mode: explicit, resumption: enforce",
            "listeners[0].resumption: expected `disabled` or `enabled` or `enforced`, found \"enforce\"; did you mean `enforced`?",
        ),
        (
            "tls: {certificate_file: c.pem, key_file: k.pem}",
            "tls: {certificates: []}",
            "tls.certificates: empty",
        ),
        (
            "key_file: k.pem}",
            "key_file: k.pem, certificates: [{certificate_file: d.pem}]}",
            "tls.certificates[0].key_file: missing",
        ),
        (
            "key_file: k.pem}",
            "key_file: k.pem, minimum_version: 1.2}",
            "tls.minimum_version: expected `1.2` or `1.3`, found a number; put it in quotes",
        ),
        (
            "key_file: k.pem}",
            "key_file: k.pem, cipher_suites: [tls_aes_128_gcm_sha257]}",
            "tls.cipher_suites[0]: no cipher suite \"tls_aes_128_gcm_sha257\"; did you mean `TLS_AES_128_GCM_SHA256`?; there are TLS_AES_256_GCM_SHA384, ",
        ),
        (
            "key_file: k.pem}",
            "key_file: k.pem, minimum_version: \"1.3\", cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]}",
            "tls.cipher_suites: holds no suite of TLS 1.3",
        ),
        (
            "key_file: k.pem}",
            "key_file: k.pem, client_certificates: {mode: require}}",
            "tls.client_certificates.ca_file: missing",
        ),
        (
            "key_file: k.pem}",
            "key_file: k.pem, client_certificates: {ca_file: a}}",
            "tls.client_certificates.mode: missing: expected `off` or `request` or `require`",
        ),
        (
            "file: users.yaml",
            "file: {env: NOT_SET}",
            "users.file.env: the environment variable NOT_SET is not set",
        ),
        (
            "file: users.yaml",
            "file: {file: /does/not/exist}",
            "users.file.file: cannot read /does/not/exist",
        ),
        (
            "file: users.yaml",
            "file: {env: CAUSEWAY_A, file: b}",
            "users.file: expected the path of the users file, or one of",
        ),
        ("file: users.yaml", "file: ''", "users.file: empty"),
        (
            "file: users.yaml",
            "file: 7",
            "users.file: expected the path of the users file, found a number; put it in quotes",
        ),
        (
            "backend: disk",
            "backend: dissk",
            "mounts[0].backend: no backend has the name \"dissk\"; did you mean `disk`?",
        ),
        ("path: /,", "path: /a,", "mounts: no mount has the path `/`"),
        (
            "path: /,",
            "path: relative,",
            "mounts[0].path: expected the plain absolute form",
        ),
        (
            "[{path: /, backend: disk}]",
            "[{path: /, backend: disk}, {path: /, backend: disk}]",
            "mounts[1].path: another mount",
        ),
        (
            "backend: disk}]",
            "backend: disk, prefix: \"a/../b\"}]",
            "mounts[0].prefix: a prefix has no empty, `.` or `..`",
        ),
        (
            "backend: disk}]",
            "backend: disk, prefix: \".{home}\"}]",
            "mounts[0].prefix: a segment of dots",
        ),
        (
            "backend: disk}]",
            "backend: disk, read_only: 1}]",
            "mounts[0].read_only: expected true or false, found the number 1",
        ),
        (
            "http://localhost:9000",
            "ftp://x",
            "backends.cloud.endpoint: expected a URL",
        ),
        (
            "http://localhost:9000",
            "https://user:word@x",
            "backends.cloud.endpoint: expected a URL",
        ),
        (
            "bucket: b",
            "bucket: b, session_token: t",
            "backends.cloud.session_token: belongs to",
        ),
        (
            "bucket: b",
            "bucket: b, part_size_bytes: 268435456",
            "limits.upload_memory_bytes: a part of the backend cloud must fit into a quarter of it: expected at least 1073741824, found 268435456",
        ),
        (
            "bucket: b",
            "bucket: b, deferred: {names: [\"*.filepart\", \"*.*\"]}",
            "backends.cloud.deferred.names[1]: expected a name with one `*` for the final name, such as \"*.filepart\", found \"*.*\"",
        ),
        (
            "bucket: b",
            "bucket: b, encryption: {mode: sse-s3, kms_key_id: k}",
            "backends.cloud.encryption.kms_key_id: belongs to `mode: sse-kms`",
        ),
        (
            "bucket: b",
            "bucket: b, encryption: {mode: sse-c, customer_key: c2hvcnQ=}",
            "backends.cloud.encryption.customer_key: expected 32 bytes in base64",
        ),
        (
            "bucket: b",
            "bucket: b, endpoint: \"http://store:9000\", encryption: {mode: sse-c, customer_key: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=}",
            "backends.cloud.endpoint: expected https://, since `mode: sse-c` sends the key with every request",
        ),
        (
            "bucket: b",
            "bucket: b, list_set_times: true",
            "backends.cloud.list_set_times: belongs to `set_time: copy`",
        ),
        (
            "bucket: b",
            "bucket: b, provider: wasabi",
            "backends.cloud.provider: expected `aws` or `minio`",
        ),
        (
            "bucket: b",
            "bucket: b, set_time: copy, set_time_bytes: 5368709121",
            "backends.cloud.set_time_bytes: expected a whole number from 0 to 5368709120",
        ),
        (
            "disk: {",
            "\"a b\": {}, disk: {",
            "backends[\"a b\"]: a backend's name",
        ),
        (
            "disk: {type: fs, root: data}",
            "disk: 3",
            "backends.disk: expected a table of keys, found the number 3",
        ),
        (
            "users:",
            "log: {filter: \"causeway::store=debug\\n\"}\nusers:",
            "log.filter: expected directives such as causeway::store=debug",
        ),
        (
            "users:",
            "events: {spool: x, webhooks: [{name: a, url: \"http://h/\", events: [ban], paths: [\"*.csv\"]}]}\nusers:",
            "events.webhooks[0].paths[0]: fits no path",
        ),
        (
            "users:",
            "auth: {ldap: {urls: [\"ldaps://cn:secret@h\"], user_dn: \"uid={user}\"}}\nusers:",
            "auth.ldap.urls[0]: expected an URL such as ldaps://ldap.example.com or ldap://10.0.0.5:389, and nothing else",
        ),
    ];
    for (from, to, expected) in cases {
        let errors = errors(&changed(from, to));
        assert!(
            errors.iter().any(|error| error.starts_with(expected)),
            "{expected}: {errors:#?}"
        );
    }
}

#[test]
fn same_address_is_refused_except_for_port_zero() {
    let two = |one: &str, other: &str| {
        changed(
            r#"{name: main, address: "127.0.0.1:0", mode: explicit}"#,
            &format!(
                "{{name: a, address: \"{one}\", mode: explicit}}, {{name: b, address: \"{other}\", mode: implicit}}"
            ),
        )
    };
    assert!(parse(&two("127.0.0.1:0", "127.0.0.1:0")).is_ok());
    assert!(parse(&two("127.0.0.1:21", "127.0.0.2:21")).is_ok());
    for (one, other) in [
        ("127.0.0.1:21", "127.0.0.1:21"),
        ("0.0.0.0:21", "127.0.0.1:21"),
    ] {
        let errors = errors(&two(one, other));
        assert_eq!(
            errors,
            [format!(
                "listeners[1].address: \"{other}\" is taken by listeners[0]"
            )]
        );
    }
    let text = changed("127.0.0.1:0", "127.0.0.1:9090");
    let errors = errors(&format!("{text}admin: {{address: \"127.0.0.1:9090\"}}\n"));
    assert_eq!(
        errors,
        ["admin.address: \"127.0.0.1:9090\" is taken by listeners[0]"]
    );
}

#[test]
fn syntax_error_names_line_and_column() {
    let errors = errors("listeners:\n  - name: [unclosed\nusers: {}\n");
    assert_eq!(errors.len(), 1);
    assert!(errors[0].starts_with("not YAML: "), "{errors:?}");
    assert!(errors[0].contains(" line 3 column "), "{errors:?}");
}

#[test]
fn empty_file_lists_what_is_required() {
    for text in ["", "# nothing\n", "{}"] {
        let errors = errors(text);
        let paths = errors
            .iter()
            .map(|error| error.split(':').next().unwrap())
            .collect::<Vec<_>>();
        assert_eq!(
            paths,
            ["listeners", "users", "backends", "mounts"],
            "{text:?}"
        );
    }
}

#[test]
fn strings_come_from_the_environment_and_from_files() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("secret"), "two\nlines\n").unwrap();
    let text = changed(
        "bucket: b",
        "bucket: {env: CAUSEWAY_BUCKET}, access_key_id: id, secret_access_key: {file: secret}",
    );
    let config = Config::parse(&text, &directory.path().join("config.yaml"), &environment).unwrap();
    let Backend::S3(s3) = &config.backends["cloud"] else {
        panic!("cloud must be S3")
    };
    assert_eq!(s3.bucket, "value of CAUSEWAY_BUCKET");
    let credentials = s3.credentials.as_ref().unwrap();
    assert_eq!(credentials.secret_access_key.expose(), "two\nlines");
    let users = UsersFiles::File(directory.path().join("users.yaml"));
    assert_eq!(config.auth.users, Some(users));
}

#[test]
fn relative_paths_start_from_the_directory_of_the_file() {
    let config = parse(MINIMAL).unwrap();
    let users = UsersFiles::File("/etc/causeway/users.yaml".into());
    assert_eq!(config.auth.users, Some(users));
    assert_eq!(
        config.listeners[0].tls.certificates[0].key_file,
        Path::new("/etc/causeway/k.pem")
    );
    let Backend::Fs(disk) = &config.backends["disk"] else {
        panic!("disk must be a directory")
    };
    assert_eq!(disk.root, Path::new("/etc/causeway/data"));
    let relative = Config::parse(MINIMAL, Path::new("config.yaml"), &environment).unwrap();
    let users = relative.auth.users;
    assert!(matches!(users, Some(UsersFiles::File(file)) if file.is_absolute()));
}

#[test]
fn errors_and_debug_output_never_show_secrets() {
    let text = changed(
        "bucket: b",
        "bucket: b, region: {env: CAUSEWAY_X}, access_key_id: id, secret_access_key: 20230517",
    );
    assert!(!errors(&text).concat().contains("20230517"));
    let text = changed("127.0.0.1:0\"", "x\"").replace("\"x\"", "{env: CAUSEWAY_SECRET}");
    let errors = errors(&text).concat();
    assert!(
        errors.contains("the value of the environment variable CAUSEWAY_SECRET"),
        "{errors}"
    );
    assert!(!errors.contains("value of CAUSEWAY_SECRET"), "{errors}");
    let text = changed(
        "bucket: b",
        "bucket: b, access_key_id: id, secret_access_key: hush-hush",
    );
    assert!(!format!("{:?}", parse(&text).unwrap()).contains("hush-hush"));
    for url in ["https://user:hush-hush@h/?key=hush-hush", "ftp://hush-hush"] {
        let hook = format!(
            "auth: {{sources: [users, http], http: {{url: \"{url}\", signing_secret: 0123456789abcdef}}}}\nusers:"
        );
        let shown = match parse(&changed("users:", &hook)) {
            Ok(config) => format!("{config:?}{}", config.effective.to_yaml().unwrap()),
            Err(errors) => errors.to_string(),
        };
        assert!(!shown.contains("hush-hush"), "{shown}");
    }
}

#[test]
fn ports_are_a_range_a_number_or_zero() {
    let ports = |ports: &str| {
        let text = changed(
            "mode: explicit",
            &format!("mode: explicit, passive: {{ports: {ports}}}"),
        );
        parse(&text)
            .map(|config| config.listeners[0].passive.ports.clone())
            .ok()
    };
    assert_eq!(ports("50000-50100"), Some(50000..=50100));
    assert_eq!(ports("\"2000\""), Some(2000..=2000));
    assert_eq!(ports("2000"), Some(2000..=2000));
    assert_eq!(ports("0"), Some(0..=0));
    assert_eq!(ports("\"0\""), Some(0..=0));
    for wrong in [
        "0-10",
        "1-",
        "70000",
        "-5",
        "1.5",
        "a-b",
        "[1, 2]",
        "2000-2001-2002",
    ] {
        assert_eq!(ports(wrong), None, "{wrong}");
    }
}

#[test]
fn missing_file_is_one_error_with_its_name() {
    let errors = Config::load(Path::new("/does/not/exist.yaml")).unwrap_err();
    assert!(
        errors
            .to_string()
            .starts_with("/does/not/exist.yaml: cannot read the file: ")
    );
}

/// Each mistake of a backend, with its path and what to do.
#[test]
fn mistakes_in_buckets_are_told_with_their_paths() {
    let said = |backend: &str| errors(&changed("{type: fs, root: data}", backend)).join("\n");
    for (backend, words) in [
        (
            "{type: gcz, bucket: b}",
            &[
                "backends.disk.type: expected `fs` or `s3` or `gcs` or `azblob` or `memory` or `opendal`",
                "did you mean `gcs`?",
            ][..],
        ),
        ("{type: gcs}", &["backends.disk.bucket: missing"]),
        (
            "{type: gcs, bucket: b, driver: google}",
            &["backends.disk.driver: expected `opendal` or `unftp-sbe-gcs`"],
        ),
        (
            "{type: gcs, bucket: b, driver: unftp-sbe-gcs, ca_file: x.pem}",
            &["backends.disk.ca_file: is not known to the driver unftp-sbe-gcs"],
        ),
        (
            "{type: gcs, bucket: b, anonymous: true, credentials_file: k.json}",
            &["backends.disk.anonymous: contradicts credentials_file"],
        ),
        (
            "{type: azblob, container: c, account: a, account_key: k, sas_token: t}",
            &["backends.disk.sas_token: contradicts account_key"],
        ),
        (
            "{type: azblob, container: c, account: a, client_id: i}",
            &[
                "backends.disk.tenant_id: missing",
                "backends.disk.client_secret: missing",
            ],
        ),
        (
            "{type: azblob, container: c, account: a, identity: robot}",
            &["backends.disk.identity: expected `workload` or `managed`"],
        ),
        (
            "{type: azblob, container: c, account: a, endpoint: \"https://u:geheim@h\"}",
            &["backends.disk.endpoint: expected a URL"],
        ),
        (
            "{type: memory, size_bytes: 10}",
            &["backends.disk.size_bytes: expected a whole number from 1048576"],
        ),
        (
            "{type: opendal, scheme: gcs}",
            &["backends.disk.scheme: has a type of its own: write `type: gcs`"],
        ),
        (
            "{type: gcs, bucket: b, root: a/../b, part_size_bytes: 1}",
            &[
                "backends.disk.root: a prefix has no empty",
                "backends.disk.part_size_bytes: expected",
            ],
        ),
        (
            "{type: fs, root: data, durability: maybe, free_space_bytes: x}",
            &[
                "backends.disk.durability: expected `full` or `fast`",
                "backends.disk.free_space_bytes: expected",
            ],
        ),
    ] {
        let text = said(backend);
        assert!(!text.contains("geheim"), "{text}");
        for word in words {
            assert!(text.contains(word), "{backend}: {text}");
        }
    }
}

/// Whatever this binary was built with.
#[test]
fn a_scheme_that_is_not_there_is_told_with_its_feature() {
    let said = |backend: &str| {
        let text = changed("{type: fs, root: data}", backend);
        parse(&text).map_or_else(|errors| errors.to_string(), |_| String::new())
    };
    let known: Vec<&str> = OPENDAL_SCHEMES.iter().map(|(scheme, _)| *scheme).collect();
    let list = match known.join(", ") {
        none if none.is_empty() => "none".to_owned(),
        list => list,
    };
    for scheme in OPENDAL_FEATURES {
        let text = said(&format!("{{type: opendal, scheme: {scheme}}}"));
        let missing = format!(
            "backends.disk.scheme: \"{scheme}\" is not compiled in: it needs the cargo feature {scheme}; compiled in: {list}"
        );
        assert_eq!(text.contains(&missing), !known.contains(&scheme), "{text}");
    }
    let text = said("{type: opendal, scheme: osss}");
    let unknown = format!("\"osss\" is not compiled in; compiled in: {list}");
    assert!(text.contains(&unknown), "{text}");
    if known.contains(&"oss") {
        assert!(text.contains("did you mean `oss`?"), "{text}");
        let text = said("{type: opendal, scheme: oss, options: {buckett: b}}");
        let word = "backends.disk.options.buckett: unknown key; did you mean `bucket`?";
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn ways_into_azure_are_told_apart() {
    let credentials = |keys: &str| {
        let backend = format!("{{type: azblob, container: c, account: acc, {keys}}}");
        let config = parse(&changed("{type: fs, root: data}", &backend)).unwrap();
        let Backend::Azblob(azblob) = &config.backends["disk"] else {
            panic!("disk must be a container")
        };
        assert_eq!(azblob.endpoint, "https://acc.blob.core.windows.net");
        azblob.credentials.clone()
    };
    assert!(matches!(credentials(""), AzblobCredentials::Default));
    assert!(matches!(
        credentials("account_key: aw=="),
        AzblobCredentials::AccountKey(_)
    ));
    assert!(matches!(
        credentials("sas_token: \"sv=1\""),
        AzblobCredentials::SasToken(_)
    ));
    assert!(matches!(
        credentials("identity: workload"),
        AzblobCredentials::WorkloadIdentity
    ));
    assert!(matches!(
        credentials("identity: managed"),
        AzblobCredentials::ManagedIdentity
    ));
    let principal = credentials("tenant_id: t, client_id: i, client_secret: s");
    assert!(matches!(principal, AzblobCredentials::ClientSecret { .. }));
}
