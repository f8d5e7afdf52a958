//! What the file means: every table as a checked value, and the checks between tables.

use std::{
    collections::{BTreeMap, HashSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::Path,
    sync::Arc,
    time::Duration,
};

use super::{
    Backend, ClearText, Config, FsBackend, Limits, Listener, Log, LogFormat, Mode, Passive,
    S3Backend, S3Credentials, Timeouts, Tls, UploadEnd,
    typed::{Item, Reader, Table, Text},
};
use crate::access::{Mount, VirtualPath};

/// Ports for data connections when a listener names none.
pub(super) const PASSIVE_PORTS: RangeInclusive<u16> = 50000..=50100;
/// Where a mount's files lie in its backend when it does not say.
pub(super) const PREFIX: &str = "{home}";
/// Bytes of one part of a multipart upload.
pub(super) const PART_BYTES: usize = 8 << 20;
/// Parts under way at once per upload.
pub(super) const PARTS_IN_FLIGHT: usize = 2;
/// The region that S3-compatible stores with an endpoint of their own expect.
pub(super) const REGION: &str = "us-east-1";

/// S3 refuses smaller parts (but for the last) and larger ones:
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>.
const PART_RANGE: RangeInclusive<usize> = 5 << 20..=5 << 30;
/// Deadlines end within a week: longer ones are slips of units.
const SECONDS: RangeInclusive<u64> = 1..=7 * 24 * 3600;
/// More connections than a process has descriptors for are a slip.
const CONNECTIONS: RangeInclusive<usize> = 1..=1_000_000;

const ROOT: [&str; 9] = [
    "listeners",
    "tls",
    "users",
    "backends",
    "mounts",
    "limits",
    "timeouts",
    "admin",
    "log",
];
const LISTENER: [&str; 8] = [
    "name",
    "address",
    "mode",
    "clear_text",
    "tls",
    "passive",
    "upload_end",
    "connections",
];
const TLS: [&str; 2] = ["certificate_file", "key_file"];
const PASSIVE: [&str; 2] = ["address", "ports"];
const FS: [&str; 2] = ["type", "root"];
const S3: [&str; 11] = [
    "type",
    "bucket",
    "region",
    "endpoint",
    "root",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "virtual_host_style",
    "part_size_bytes",
    "parts_in_flight",
];
const MOUNT: [&str; 4] = ["path", "backend", "prefix", "read_only"];
const LIMITS: [&str; 4] = [
    "connections",
    "connections_per_address",
    "login_failures_per_connection",
    "upload_memory_bytes",
];
const TIMEOUTS: [&str; 9] = [
    "login_seconds",
    "tls_handshake_seconds",
    "data_connect_seconds",
    "data_stall_seconds",
    "idle_seconds",
    "reply_seconds",
    "store_seconds",
    "commit_seconds",
    "drain_seconds",
];

const MODES: [(&str, Mode); 2] = [("explicit", Mode::Explicit), ("implicit", Mode::Implicit)];
const CLEAR_TEXTS: [(&str, ClearText); 2] =
    [("refuse", ClearText::Refuse), ("allow", ClearText::Allow)];
const UPLOAD_ENDS: [(&str, UploadEnd); 2] = [
    ("close_notify", UploadEnd::CloseNotify),
    ("fin", UploadEnd::Fin),
];
const FORMATS: [(&str, LogFormat); 2] = [("pretty", LogFormat::Pretty), ("json", LogFormat::Json)];
const LEVELS: [(&str, tracing::Level); 5] = [
    ("error", tracing::Level::ERROR),
    ("warn", tracing::Level::WARN),
    ("info", tracing::Level::INFO),
    ("debug", tracing::Level::DEBUG),
    ("trace", tracing::Level::TRACE),
];

/// Every key of every table, for the test that wants each in `config.example.yaml`.
#[cfg(test)]
pub(super) fn all_keys() -> Vec<&'static str> {
    let log = ["level", "format"];
    let tables: [&[&str]; 12] = [
        &ROOT,
        &LISTENER,
        &TLS,
        &PASSIVE,
        &FS,
        &S3,
        &MOUNT,
        &LIMITS,
        &TIMEOUTS,
        &log,
        &["file"],
        &["address"],
    ];
    tables.concat()
}

/// The whole file. Reads every table before it combines them, so that all mistakes are noted.
pub(super) fn config(root: &Table<'_>, reader: &Reader<'_>) -> Option<Config> {
    let tls = root.table("tls", &TLS).map(|table| tls(&table));
    let limits = match root.table("limits", &LIMITS) {
        Some(table) => limits(&table),
        None => Some(Limits::default()),
    };
    let default_connections = limits
        .as_ref()
        .map_or(usize::MAX, |limits| limits.connections);
    let listeners = listeners(root, tls.as_ref(), default_connections);
    let users_file = root
        .required("users", "a table with the key `file`")
        .and_then(|item| item.table(&["file"]))
        .and_then(|table| table.file("file", "the path of the users file"));
    let backends = backends(root);
    let mounts = mounts(root);
    let timeouts = match root.table("timeouts", &TIMEOUTS) {
        Some(table) => timeouts(&table),
        None => Some(Timeouts::default()),
    };
    let admin = match root.table("admin", &["address"]) {
        Some(table) => admin(&table).map(Some),
        None => Some(None),
    };
    let log = match root.table("log", &["level", "format"]) {
        Some(table) => log(&table),
        None => Some(Log::default()),
    };

    if let Some(listeners) = &listeners {
        addresses(listeners, admin.flatten(), reader);
    }
    if let (Some(mounts), Some((names, _))) = (&mounts, &backends) {
        backends_of_mounts(mounts, names, reader);
    }
    if let (Some(limits), Some((_, backends))) = (&limits, &backends) {
        upload_memory(limits, backends, reader);
    }

    Some(Config {
        listeners: listeners?
            .into_iter()
            .map(|(_, listener)| listener)
            .collect(),
        users_file: users_file?,
        backends: backends?.1,
        mounts: mounts?.into_iter().map(|(_, mount)| mount).collect(),
        limits: limits?,
        timeouts: timeouts?,
        admin: admin?,
        log: log?,
    })
}

/// Listeners with their YAML paths, for the checks between tables. Broken ones are left out here and
/// make the file fail through their noted mistakes.
type Located<T> = Vec<(String, T)>;

fn listeners(
    root: &Table<'_>,
    tls: Option<&Option<Tls>>,
    connections: usize,
) -> Option<Located<Listener>> {
    let items = root.list("listeners", "a list of at least one listener")?;
    if items.is_empty() {
        root.error("listeners", "empty: the server needs at least one listener");
    }
    let mut names = HashSet::new();
    let mut listeners = Vec::new();
    for item in items {
        let Some(table) = item.table(&LISTENER) else {
            continue;
        };
        let name = table.text("name", "a unique name");
        if let Some(name) = &name {
            if name.value.chars().any(char::is_control) {
                table.error("name", "holds a control character");
            }
            if !names.insert(name.value.clone()) {
                table.error(
                    "name",
                    format!("another listener has the name {}", name.shown()),
                );
            }
        }
        if let Some(listener) = listener(&table, name, tls, connections) {
            listeners.push((item.path().to_owned(), listener));
        }
    }
    Some(listeners)
}

fn listener(
    table: &Table<'_>,
    name: Option<Text>,
    default_tls: Option<&Option<Tls>>,
    connections: usize,
) -> Option<Listener> {
    let address = socket_address(table, "address", "0.0.0.0:2121 or [::]:2121");
    let mode = table.required_choice("mode", &MODES);
    let clear_text = table.choice("clear_text", &CLEAR_TEXTS);
    if mode == Some(Mode::Implicit) && clear_text == Some(Some(ClearText::Allow)) {
        table.error(
            "clear_text",
            "an implicit listener is encrypted from the first byte; use `mode: explicit` to allow clear text",
        );
    }
    let tls = match (table.table("tls", &TLS), default_tls) {
        (Some(table), _) => tls(&table),
        (None, Some(default)) if !table.has("tls") => default.clone(),
        (None, _) => {
            if !table.has("tls") {
                table.error(
                    "tls",
                    "missing: give certificate_file and key_file here or in the top-level `tls`",
                );
            }
            None
        }
    };
    let passive = match table.table("passive", &PASSIVE) {
        Some(table) => passive(&table),
        None => Some(Passive {
            address: None,
            ports: PASSIVE_PORTS,
        }),
    };
    let upload_end = table.choice("upload_end", &UPLOAD_ENDS);
    let connections = table.integer("connections", connections, CONNECTIONS);
    Some(Listener {
        name: name?.value.into(),
        address: address?,
        mode: mode?,
        clear_text: clear_text?.unwrap_or(ClearText::Refuse),
        tls: tls?,
        passive: passive?,
        upload_end: upload_end?.unwrap_or(UploadEnd::CloseNotify),
        connections: connections?,
    })
}

fn tls(table: &Table<'_>) -> Option<Tls> {
    let certificate_file = table.file("certificate_file", "the path of a PEM file");
    let key_file = table.file("key_file", "the path of a PEM file");
    Some(Tls {
        certificate_file: certificate_file?,
        key_file: key_file?,
    })
}

fn passive(table: &Table<'_>) -> Option<Passive> {
    let address = match table.optional_text("address", "an IPv4 address") {
        Some(None) => Some(None),
        Some(Some(text)) => {
            let address = text.parse::<IpAddr>();
            match address {
                Some(IpAddr::V4(ip)) if ip != Ipv4Addr::UNSPECIFIED => {}
                Some(IpAddr::V4(_)) => table.error(
                    "address",
                    "0.0.0.0 is no address that a client can reach; leave the key out for the address the client reached",
                ),
                Some(IpAddr::V6(_)) => table.error(
                    "address",
                    "the 227 reply holds an IPv4 address only; IPv6 clients use EPSV, which needs none",
                ),
                None => table.error(
                    "address",
                    format!("expected an IPv4 address, found {}", text.shown()),
                ),
            }
            address.map(Some)
        }
        None => None,
    };
    let ports = ports(table);
    Some(Passive {
        address: address?,
        ports: ports?,
    })
}

fn ports(table: &Table<'_>) -> Option<RangeInclusive<u16>> {
    const EXPECTED: &str = "ports such as \"50000-50100\", one port, or 0 for any free one";
    if !table.has("ports") {
        return Some(PASSIVE_PORTS);
    }
    let (text, shown) = if let Some(port) = table.bare_integer("ports") {
        (port.to_string(), format!("the number {port}"))
    } else {
        let text = table.optional_text("ports", EXPECTED)??;
        (text.value.clone(), text.shown().to_owned())
    };
    let (start, end) = text.split_once('-').unwrap_or((&text, &text));
    let port = |text: &str| text.trim().parse::<u16>().ok();
    let (Some(start), Some(end)) = (port(start), port(end)) else {
        table.error("ports", format!("expected {EXPECTED}, found {shown}"));
        return None;
    };
    let problem = match (start, end) {
        (0, 0) => None,
        _ if start > end => Some("the range ends before it starts"),
        _ if start < 1024 => Some("ports below 1024 are not for data connections"),
        _ => None,
    };
    if let Some(problem) = problem {
        table.error(
            "ports",
            format!("{problem}: expected {EXPECTED}, found {shown}"),
        );
        return None;
    }
    Some(start..=end)
}

/// Every name, also of backends with mistakes, and the backends without any.
type Backends<'a> = (Vec<&'a str>, BTreeMap<Arc<str>, Backend>);

fn backends<'a>(root: &Table<'a>) -> Option<Backends<'a>> {
    let items = root
        .required("backends", "a table of at least one backend")?
        .names()?;
    if items.is_empty() {
        root.error("backends", "empty: the server needs at least one backend");
    }
    let mut names = Vec::new();
    let mut backends = BTreeMap::new();
    for (name, item) in items {
        names.push(name);
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric())
            || !name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        {
            item.error("a backend's name starts with a letter or digit and holds letters, digits, `_`, `-`");
        }
        if let Some(backend) = backend(&item) {
            backends.insert(name.into(), backend);
        }
    }
    Some((names, backends))
}

/// Which store a backend is.
#[derive(Clone, Copy)]
enum Kind {
    Fs,
    S3,
}

fn backend(item: &Item<'_>) -> Option<Backend> {
    // The type decides which keys the table may hold, so it is looked up before the table is read.
    match item.tag("type", &[("fs", Kind::Fs), ("s3", Kind::S3)])? {
        Kind::Fs => {
            let table = item.table(&FS)?;
            Some(Backend::Fs(FsBackend {
                root: table.file("root", "the path of a directory")?,
            }))
        }
        Kind::S3 => Some(Backend::S3(Box::new(s3(&item.table(&S3)?)?))),
    }
}

fn s3(table: &Table<'_>) -> Option<S3Backend> {
    let bucket = table.text("bucket", "the name of a bucket");
    let endpoint = endpoint(table);
    let region = match table.optional_text("region", "a region such as eu-central-1") {
        Some(Some(region)) => Some(region.value),
        Some(None) if table.has("endpoint") => Some(REGION.to_owned()),
        Some(None) => {
            table.error("region", "missing: expected a region such as eu-central-1");
            None
        }
        None => None,
    };
    let root = match table.any_text("root", "a key prefix") {
        Some(Some(text)) => key_prefix(table, "root", &text),
        Some(None) => Some(String::new()),
        None => None,
    };
    let credentials = credentials(table);
    let virtual_host_style = table.boolean("virtual_host_style", false);
    let part_bytes = table.integer("part_size_bytes", PART_BYTES, PART_RANGE);
    let parts_in_flight = table.integer("parts_in_flight", PARTS_IN_FLIGHT, 1..=64);
    Some(S3Backend {
        bucket: bucket?.value,
        region: region?,
        endpoint: endpoint?,
        root: root?,
        credentials: credentials?,
        virtual_host_style: virtual_host_style?,
        part_bytes: part_bytes?,
        parts_in_flight: parts_in_flight?,
    })
}

#[allow(
    clippy::option_option,
    reason = "a mistake and an absence are different things"
)]
fn endpoint(table: &Table<'_>) -> Option<Option<String>> {
    const EXPECTED: &str = "a URL such as https://s3.example.com:9000";
    let Some(text) = table.optional_text("endpoint", EXPECTED)? else {
        return Some(None);
    };
    let url = text.value.trim_end_matches('/');
    let host = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    match host {
        Some(host) if !host.is_empty() && !host.contains(['/', '@', '?', '#', ' ']) => {
            Some(Some(url.to_owned()))
        }
        _ => {
            // Not repeated: a URL with a user part holds a password.
            table.error(
                "endpoint",
                format!("expected {EXPECTED}, without user, path or query"),
            );
            None
        }
    }
}

#[allow(
    clippy::option_option,
    reason = "a mistake and an absence are different things"
)]
fn credentials(table: &Table<'_>) -> Option<Option<S3Credentials>> {
    let access_key_id = table.optional_text("access_key_id", "an access key id");
    let secret_access_key = table.secret("secret_access_key");
    let session_token = table.secret("session_token");
    let (has_id, has_secret) = (table.has("access_key_id"), table.has("secret_access_key"));
    if has_id && !has_secret {
        table.error(
            "secret_access_key",
            "missing: access_key_id is given, both belong together",
        );
    }
    if has_secret && !has_id {
        table.error(
            "access_key_id",
            "missing: secret_access_key is given, both belong together",
        );
    }
    if table.has("session_token") && !has_id && !has_secret {
        table.error(
            "session_token",
            "belongs to access_key_id and secret_access_key, which are missing",
        );
    }
    let session_token = session_token?;
    Some(match (access_key_id?, secret_access_key?) {
        (Some(id), Some(secret_access_key)) => Some(S3Credentials {
            access_key_id: id.value,
            secret_access_key,
            session_token,
        }),
        _ => None,
    })
}

fn mounts(root: &Table<'_>) -> Option<Located<Mount>> {
    let items = root.list("mounts", "a list of mounts, one of them `/`")?;
    let complete = !items.is_empty();
    let (mut paths, mut mounts) = (HashSet::new(), Vec::new());
    let mut broken = false;
    for item in items {
        let Some(table) = item.table(&MOUNT) else {
            broken = true;
            continue;
        };
        let path = mount_path(&table);
        if let Some(path) = &path
            && !paths.insert(path.clone())
        {
            table.error(
                "path",
                format!("another mount has the path {:?}", path.as_str()),
            );
        }
        broken |= path.is_none();
        let backend = table.text("backend", "the name of a backend");
        let prefix = match table.any_text("prefix", "a key prefix") {
            Some(Some(text)) => mount_prefix(&table, &text),
            Some(None) => Some(PREFIX.to_owned()),
            None => None,
        };
        let read_only = table.boolean("read_only", false);
        if let (Some(path), Some(backend), Some(prefix), Some(read_only)) =
            (path, backend, prefix, read_only)
        {
            let backend = backend.value.into();
            mounts.push((
                item.path().to_owned(),
                Mount {
                    path,
                    backend,
                    prefix,
                    read_only,
                },
            ));
        }
    }
    if !complete || (!broken && !paths.contains(&VirtualPath::root())) {
        root.error(
            "mounts",
            "no mount has the path `/`, which every user starts in",
        );
    }
    Some(mounts)
}

fn mount_path(table: &Table<'_>) -> Option<VirtualPath> {
    let text = table.text("path", "an absolute path such as / or /incoming")?;
    let problem = match VirtualPath::parse(&VirtualPath::root(), &text.value) {
        Ok(path) if path.as_str() == text.value => return Some(path),
        Ok(path) => format!("expected the plain absolute form {:?}", path.as_str()),
        Err(error) => error.to_string(),
    };
    table.error("path", format!("{problem}, found {}", text.shown()));
    None
}

fn mount_prefix(table: &Table<'_>, text: &Text) -> Option<String> {
    let prefix = key_prefix(table, "prefix", text)?;
    let without_templates = prefix.replace("{home}", "").replace("{user}", "");
    if without_templates.contains(['{', '}']) {
        let message = "the only templates are {home} and {user}, found";
        table.error("prefix", format!("{message} {}", text.shown()));
        return None;
    }
    // A home may be empty: `.{home}` would then be the segment `.`.
    if without_templates
        .split('/')
        .any(|segment| matches!(segment, "." | ".."))
    {
        let message = "a segment of dots and a template may become `.` or `..`, found";
        table.error("prefix", format!("{message} {}", text.shown()));
        return None;
    }
    Some(prefix)
}

/// A prefix of keys without the slashes around it.
fn key_prefix(table: &Table<'_>, key: &str, text: &Text) -> Option<String> {
    let prefix = text.value.trim_matches('/');
    let problem = if prefix.is_empty() {
        None
    } else if prefix
        .split('/')
        .any(|segment| matches!(segment, "" | "." | ".."))
    {
        Some("a prefix has no empty, `.` or `..` segment")
    } else if prefix.chars().any(char::is_control) {
        Some("a prefix has no control character")
    } else {
        None
    };
    if let Some(problem) = problem {
        table.error(key, format!("{problem}, found {}", text.shown()));
        return None;
    }
    Some(prefix.to_owned())
}

fn limits(table: &Table<'_>) -> Option<Limits> {
    let default = Limits::default();
    let connections = table.integer("connections", default.connections, CONNECTIONS);
    let connections_per_address = table.integer(
        "connections_per_address",
        default.connections_per_address,
        CONNECTIONS,
    );
    let login_failures = table.integer(
        "login_failures_per_connection",
        default.login_failures,
        1..=1000,
    );
    let upload_memory_bytes = table.integer(
        "upload_memory_bytes",
        default.upload_memory_bytes,
        1 << 20..=1 << 50,
    );
    Some(Limits {
        connections: connections?,
        connections_per_address: connections_per_address?,
        login_failures: login_failures?,
        upload_memory_bytes: upload_memory_bytes?,
    })
}

fn timeouts(table: &Table<'_>) -> Option<Timeouts> {
    let default = Timeouts::default();
    let read = |key, default: Duration| {
        table
            .integer(key, default.as_secs(), SECONDS)
            .map(Duration::from_secs)
    };
    let login = read("login_seconds", default.login);
    let tls_handshake = read("tls_handshake_seconds", default.tls_handshake);
    let data_connect = read("data_connect_seconds", default.data_connect);
    let data_stall = read("data_stall_seconds", default.data_stall);
    let idle = read("idle_seconds", default.idle);
    let reply = read("reply_seconds", default.reply);
    let store = read("store_seconds", default.store);
    let commit = read("commit_seconds", default.commit);
    let drain = read("drain_seconds", default.drain);
    Some(Timeouts {
        login: login?,
        tls_handshake: tls_handshake?,
        data_connect: data_connect?,
        data_stall: data_stall?,
        idle: idle?,
        reply: reply?,
        store: store?,
        commit: commit?,
        drain: drain?,
    })
}

fn admin(table: &Table<'_>) -> Option<SocketAddr> {
    let address = socket_address(table, "address", "127.0.0.1:9090")?;
    if !address.ip().is_loopback() {
        let message = "the admin address has no authentication yet, so it must be a loopback address such as 127.0.0.1:9090";
        table.error("address", format!("{message}, found \"{address}\""));
        return None;
    }
    Some(address)
}

fn log(table: &Table<'_>) -> Option<Log> {
    let default = Log::default();
    let level = table.choice("level", &LEVELS);
    let format = table.choice("format", &FORMATS);
    Some(Log {
        level: level?.unwrap_or(default.level),
        format: format?.unwrap_or(default.format),
    })
}

fn socket_address(table: &Table<'_>, key: &str, example: &str) -> Option<SocketAddr> {
    let expected = format!("an IP address and a port such as {example}");
    let text = table.text(key, &expected)?;
    let address = text.parse();
    if address.is_none() {
        table.error(key, format!("expected {expected}, found {}", text.shown()));
    }
    address
}

/// No two sockets may want the same address; port 0 is never the same.
fn addresses(listeners: &Located<Listener>, admin: Option<SocketAddr>, reader: &Reader<'_>) {
    let mut taken = Vec::<(String, SocketAddr)>::new();
    let listeners = listeners
        .iter()
        .map(|(path, listener)| (path.clone(), listener.address));
    for (path, address) in listeners.chain(admin.map(|address| ("admin".to_owned(), address))) {
        let clash = taken.iter().find(|(_, other)| clash(address, *other));
        if let Some((other, _)) = clash {
            reader.error(
                format!("{path}.address"),
                format!("\"{address}\" is taken by {other}"),
            );
        }
        taken.push((path, address));
    }
}

/// Whether binding both fails. `0.0.0.0` and `[::]` are not compared: that depends on the system.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = one.ip().is_unspecified() || other.ip().is_unspecified() || one.ip() == other.ip();
    one.port() != 0 && one.port() == other.port() && one.is_ipv4() == other.is_ipv4() && covers
}

fn backends_of_mounts(mounts: &Located<Mount>, names: &[&str], reader: &Reader<'_>) {
    for (path, mount) in mounts {
        if !names.contains(&&*mount.backend) {
            let hint = super::typed::nearest(&mount.backend, names);
            let hint = hint
                .map(|name| format!("; did you mean `{name}`?"))
                .unwrap_or_default();
            reader.error(
                format!("{path}.backend"),
                format!("no backend has the name {:?}{hint}", &*mount.backend),
            );
        }
    }
}

/// One upload needs two parts in memory: the one being sent and the one being filled.
fn upload_memory(limits: &Limits, backends: &BTreeMap<Arc<str>, Backend>, reader: &Reader<'_>) {
    for (name, backend) in backends {
        let Backend::S3(s3) = backend else { continue };
        let least = s3.part_bytes.saturating_mul(2);
        if limits.upload_memory_bytes < least {
            let found = limits.upload_memory_bytes;
            reader.error(
                "limits.upload_memory_bytes",
                format!(
                    "one upload to the backend {name} needs two parts, {least} bytes; found {found}"
                ),
            );
        }
    }
}

/// Reads and checks a parsed text.
pub(super) fn file(
    node: &super::yaml::Node,
    file: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, super::ConfigErrors> {
    let reader = Reader::new(file, environment);
    let config = reader
        .root(node, &ROOT)
        .and_then(|root| config(&root, &reader));
    reader.finish(config, file)
}
