//! `causeway check` about hooks, directories and shared counters: their files, and, if it is wished,
//! whether they answer as a login needs it.

use std::{fs, process::Command, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    GROUPS, Hook, Redis, Server, Slapd, Store, run_to_end, users_file, write_certificates,
};

/// What runs a check: a directory with a configuration that these sections are added to.
struct Prepared(TempDir);

impl Prepared {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        write_certificates(directory.path());
        let users = users_file() + GROUPS;
        fs::write(directory.path().join("users.yaml"), users).unwrap();
        fs::create_dir(directory.path().join("data")).unwrap();
        Self(directory)
    }

    /// Exit code and everything printed.
    fn check(&self, sections: &Value, online: bool) -> (Option<i32>, String) {
        let mut config = json!({
            "listeners": [{
                "name": "explicit", "address": "127.0.0.1:0", "mode": "explicit", "passive": {"ports": "0"},
            }],
            "tls": {"certificate_file": "cert.pem", "key_file": "key.pem"},
            "users": {"file": "users.yaml"},
            "backends": {"disk": {"type": "fs", "root": "data"}},
            "mounts": [{"path": "/", "backend": "disk"}],
        });
        for (key, section) in sections.as_object().unwrap() {
            config[key] = section.clone();
        }
        let file = self.0.path().join("causeway.yaml");
        fs::write(&file, config.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
        command.args(["check", "-c"]).arg(&file);
        if !online {
            command.arg("--offline");
        }
        let (status, stdout, stderr) = run_to_end(command, Duration::from_mins(1));
        (status.code(), stdout + &stderr)
    }
}

fn hook(config: &Value) -> Value {
    json!({"auth": {"sources": ["users", "http"], "http": config}})
}

fn ldap(config: &Value) -> Value {
    json!({"auth": {"sources": ["users", "ldap"], "ldap": config}})
}

fn counters(config: &Value) -> Value {
    json!({"shared_counters": config})
}

fn with(config: &Value, key: &str, value: &str) -> Value {
    let mut config = config.clone();
    config[key] = value.into();
    config
}

/// Without the network.
#[test]
fn files_of_sources_are_looked_at() {
    let prepared = Prepared::new();
    let http = json!({
        "url": "https://127.0.0.1:9/login", "signing_secret": "a secret of some length",
        "ca_file": "ca.pem", "client_certificate_file": "cert.pem", "client_key_file": "key.pem",
    });
    let directory = json!({
        "urls": ["ldaps://127.0.0.1:9"], "user_dn": "uid={user},dc=example", "ca_file": "ca.pem",
    });
    let redis = json!({
        "url": "rediss://127.0.0.1:9", "ca_file": "ca.pem",
        "client_certificate_file": "cert.pem", "client_key_file": "key.pem",
    });
    for good in [hook(&http), ldap(&directory), counters(&redis)] {
        let (code, said) = prepared.check(&good, false);
        assert_eq!(code, Some(0), "{said}");
    }
    fs::write(prepared.0.path().join("empty"), "").unwrap();
    fs::write(prepared.0.path().join("text"), "no PEM\n").unwrap();
    let other = TempDir::new().unwrap();
    write_certificates(other.path());
    let foreign = other.path().join("key.pem").display().to_string();
    for (sections, words) in [
        (
            hook(&with(&http, "ca_file", "gone.pem")),
            ["auth.http.ca_file", "gone.pem: cannot read"],
        ),
        (
            hook(&with(&http, "ca_file", "text")),
            ["auth.http.ca_file", "no certificate found"],
        ),
        (
            hook(&with(&http, "client_certificate_file", "empty")),
            ["auth.http.client_certificate_file", "no certificate found"],
        ),
        (
            hook(&with(&http, "client_key_file", "cert.pem")),
            ["auth.http.client_key_file", "no private key found"],
        ),
        (
            hook(&with(&http, "client_key_file", &foreign)),
            ["auth.http.client_key_file", "not the key of"],
        ),
        (
            ldap(&with(&directory, "ca_file", "key.pem")),
            ["auth.ldap.ca_file", "no certificate found"],
        ),
        (
            ldap(&json!({
                "urls": ["ldaps://127.0.0.1:9"], "user_base": "dc=example", "ca_file": "ca.pem",
                "bind_dn": "cn=service", "bind_password": {"file": "gone"},
            })),
            ["auth.ldap.bind_password", "gone"],
        ),
        (
            counters(&with(&redis, "client_key_file", &foreign)),
            ["shared_counters.client_key_file", "not the key of"],
        ),
        (
            counters(&with(&redis, "url", "redis://127.0.0.1:9")),
            ["shared_counters.ca_file", "only a rediss:// URL"],
        ),
        (
            counters(&with(
                &redis,
                "url",
                "rediss://:hidden@127.0.0.1:9/#insecure",
            )),
            ["shared_counters.url", "not usable"],
        ),
    ] {
        let (code, said) = prepared.check(&sections, false);
        assert_eq!(code, Some(3), "{words:?}: {said}");
        let line = said
            .lines()
            .find(|line| words.iter().all(|word| line.contains(word)));
        assert!(line.is_some(), "{words:?}: {said}");
        assert!(!said.contains("hidden"), "{said}");
    }
}

/// As a login would ask.
#[test]
fn sources_are_asked_if_it_is_wished() {
    let prepared = Prepared::new();
    let service = Hook::with_certificates();
    let slapd = Slapd::start();
    let redis = Redis::with_tls();
    let directory = slapd.config();
    let store = redis.config();
    let good = [
        (
            hook(&service.config),
            "auth.http: answers; a user that nobody has gets status 403",
        ),
        (
            ldap(&directory),
            "the service account binds and searches user_base and groups.base",
        ),
        (
            ldap(&with(
                &with(&directory, "tls", "off"),
                "user_filter",
                "(uid={user})",
            )),
            "the service account binds",
        ),
        (
            counters(&store),
            "shared_counters: counts failures, bans and sessions",
        ),
    ];
    for (sections, expected) in good {
        let (code, said) = prepared.check(&sections, true);
        assert_eq!(code, Some(0), "{expected}: {said}");
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let elsewhere = with(&directory, "user_base", "ou=elsewhere,dc=example,dc=com");
    let bad = [
        (
            hook(&with(&service.config, "bearer_token", "wrong")),
            "auth.http: status 400",
        ),
        (
            hook(&with(&service.config, "url", "https://127.0.0.1:9/login")),
            "auth.http: cannot connect",
        ),
        (
            ldap(&with(&directory, "bind_password", "wrong")),
            "the service account cannot bind",
        ),
        (
            ldap(&elsewhere),
            "user_base \"ou=elsewhere,dc=example,dc=com\" is not there",
        ),
        (
            ldap(&with(&directory, "ca_file", "ca.pem")),
            "cannot connect",
        ),
        (
            counters(&with(
                &store,
                "url",
                &redis.url().replace("counters", "nobody"),
            )),
            "shared_counters: ",
        ),
        // The account may touch keys of its own prefix only.
        (
            counters(&with(&store, "prefix", "others:")),
            "shared_counters: ",
        ),
    ];
    for (sections, expected) in bad {
        let (code, said) = prepared.check(&sections, true);
        assert_eq!(code, Some(1), "{expected}: {said}");
        assert!(said.contains(expected), "{expected}: {said}");
        assert!(
            !said.contains(Redis::PASSWORD) && !said.contains(Slapd::PASSWORD),
            "{said}"
        );
    }
}

/// What causeway shows itself ends like any certificate: the check, the log and the metric say when.
#[test]
fn end_of_the_certificates_that_are_shown_to_sources_is_told() {
    let prepared = Prepared::new();
    let store = Store::local();
    let at = |name: &str| prepared.0.path().join(name);
    let files = json!({
        "ca_file": at("ca.pem"),
        "client_certificate_file": at("client.pem"), "client_key_file": at("client.key"),
    });
    let with = |mut section: Value| {
        for (key, value) in files.as_object().unwrap() {
            section[key] = value.clone();
        }
        section
    };
    let hook_of = with(json!({
        "url": "https://127.0.0.1:9/login", "signing_secret": "the secret that signs requests",
    }));
    let counters_of = with(json!({"url": "rediss://127.0.0.1:9/0"}));
    for (days, words) in [(-1, "has expired"), (5, "expires in 4 days"), (90, "")] {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.not_after = time::OffsetDateTime::now_utc() + time::Duration::days(days);
        let certificate = parameters.self_signed(&key).unwrap();
        fs::write(at("client.pem"), certificate.pem()).unwrap();
        fs::write(at("client.key"), key.serialize_pem()).unwrap();
        let mut sections = hook(&hook_of);
        sections["shared_counters"] = counters_of.clone();
        let (code, said) = prepared.check(&sections, false);
        assert_eq!(code, Some(0), "{said}");
        for section in ["auth.http", "shared_counters"] {
            let warned = said.lines().any(|line| {
                let named = line.contains(&format!("{section}.client_certificate_file"));
                named && line.contains("client.pem") && line.contains(words)
            });
            assert_eq!(warned, !words.is_empty(), "{section} {words}: {said}");
        }
        let server = Server::with(&store)
            .set("/auth", sections["auth"].clone())
            .set("/shared_counters", counters_of.clone())
            .start();
        let log = server.log().join("\n");
        for (line, expected) in [
            ("client certificate has expired", days < 0),
            ("client certificate expires soon", (0..14).contains(&days)),
        ] {
            assert_eq!(log.contains(line), expected, "{line}: {log}");
        }
        let end = parameters_end(days);
        for section in ["auth.http", "shared_counters"] {
            let metric = server.metric(
                "causeway_certificate_expiry_timestamp_seconds",
                &[section, "client.pem"],
            );
            assert!((metric - end).abs() < 600.0, "{section}: {metric}");
        }
    }
}

/// Unix seconds.
#[allow(clippy::cast_precision_loss, reason = "a time of these years")]
fn parameters_end(days: i64) -> f64 {
    let end = time::OffsetDateTime::now_utc() + time::Duration::days(days);
    end.unix_timestamp() as f64
}

/// Who is in such a group could never log in, and only the log of that moment would say why.
#[test]
fn groups_that_no_users_file_has_are_found() {
    let prepared = Prepared::new();
    let directory = |group: &str| {
        json!({
            "urls": ["ldaps://127.0.0.1:9"], "ca_file": "ca.pem",
            "user_dn": "uid={user},dc=example,dc=com", "groups": {"map": {"up": group}},
        })
    };
    let auth = |sources: Value, ldap: &str, anonymous: &str| {
        json!({"auth": {
            "sources": sources, "ldap": directory(ldap), "anonymous": {"groups": [anonymous]},
        }})
    };
    let all = json!(["users", "ldap", "anonymous"]);
    let (code, said) = prepared.check(&auth(all.clone(), "uploaders", "readers"), false);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = prepared.check(&auth(all, "uploader", "reader"), false);
    assert_eq!(code, Some(1), "{said}");
    for words in [
        "auth.ldap.groups.map: no group of the users files has the name \"uploader\"",
        "auth.anonymous.groups: no group of the users files has the name \"reader\"",
    ] {
        assert!(said.contains(words), "{said}");
    }
    // Of a source that is not asked nothing is wanted.
    let (code, said) = prepared.check(&auth(json!(["users"]), "uploader", "reader"), false);
    assert_eq!(code, Some(0), "{said}");
}

/// What the server would not start with, or could not keep, for want of a place to write.
#[test]
fn places_that_the_server_writes_to_are_tried() {
    let prepared = Prepared::new();
    let webhook = |ca_file: &str| json!([{"name": "a", "url": "https://127.0.0.1:9/", "events": ["ban"], "ca_file": ca_file}]);
    let sections = |directory: &str, ca_file: &str| {
        json!({
            "audit": {"file": format!("{directory}audit.jsonl")},
            "bans": {"state_file": format!("{directory}bans.json")},
            "events": {"spool": format!("{directory}new/spool"), "webhooks": webhook(ca_file)},
            "telemetry": {"otlp": {"endpoint": "https://127.0.0.1:9", "ca_file": ca_file}},
        })
    };
    let (code, said) = prepared.check(&sections("", "ca.pem"), true);
    assert_eq!(code, Some(0), "{said}");
    for left in ["audit.jsonl", "bans.json", "new"] {
        assert!(!prepared.0.path().join(left).exists(), "{left} is left");
    }
    let (code, said) = prepared.check(&sections("nowhere/", "users.yaml"), true);
    assert_eq!(code, Some(3), "{said}");
    for words in [
        "audit.file ",
        "bans.state_file ",
        "events.webhooks.a.ca_file ",
        "telemetry.otlp.ca_file ",
        "no certificate found",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    // A spool is made, a file's directory is not; nobody makes one in /proc.
    let (code, said) = prepared.check(&sections("/proc/causeway/", "ca.pem"), true);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("events.spool /proc/causeway/new/spool cannot be written"),
        "{said}"
    );
    let (code, said) = prepared.check(&sections("nowhere/", "ca.pem"), false);
    assert_eq!(code, Some(0), "offline: {said}");
}
