//! What the file means: every table as a checked value, and the checks between tables.

mod admin;
mod auth;
mod backends;
mod buckets;
mod guard;
mod journal;
mod listeners;
mod mounts;
mod passive;
mod profiles;
mod s3;
mod sources;
mod telemetry;
mod tls;
mod uploads;

use std::{
    collections::BTreeMap, net::SocketAddr, num::NonZeroU32, ops::RangeInclusive, path::Path,
    sync::Arc, time::Duration,
};

use self::{
    admin::{ADMIN, admin},
    auth::auth,
    backends::backends,
    guard::{BANDWIDTH, BANS, bandwidth_of, bans},
    journal::{audit, events},
    listeners::listeners,
    mounts::mounts,
    profiles::profiles,
    sources::{SHARED_COUNTERS, shared_counters},
    telemetry::{log, telemetry},
    tls::{TLS, tls},
    uploads::uploads,
};
pub(crate) use self::{mounts::own_mounts, passive::plain_network, profiles::time_zone};
use super::{
    Backend, Config, ConfigErrors, Effective, Limits, Listener, RecursiveListing, Timeouts,
    typed::{self, Reader, Table, Text},
    yaml::Node,
};
use crate::access::Mount;

/// Deadlines end within a week: longer ones are slips of units.
const SECONDS: RangeInclusive<u64> = 1..=7 * 24 * 3600;
/// What a stop takes beside the transfers; 0 is none of it.
const DRAIN_SECONDS: RangeInclusive<u64> = 0..=3600;
/// More connections than a process has descriptors for are a slip.
const CONNECTIONS: RangeInclusive<usize> = 1..=1_000_000;

const ROOT: &[&str] = &[
    "listeners",
    "profiles",
    "tls",
    "users",
    "auth",
    "backends",
    "mounts",
    "uploads",
    "limits",
    "bans",
    "shared_counters",
    "bandwidth",
    "timeouts",
    "admin",
    "audit",
    "events",
    "log",
    "telemetry",
];
const LIMITS: [&str; 17] = [
    "connections",
    "connections_per_address",
    "connections_per_network",
    "connections_per_minute_per_address",
    "connections_per_minute_per_network",
    "sessions_per_user",
    "transfers_per_user",
    "login_failures_per_connection",
    "login_delay_milliseconds",
    "longest_login_delay_seconds",
    "upload_memory_bytes",
    "checksum_bytes",
    "quota_recount_seconds",
    "rename_bytes",
    "recursive_listing_rows",
    "recursive_listing_depth",
    "recursive_listing_seconds",
];
const TIMEOUTS: [&str; 11] = [
    "login_seconds",
    "tls_handshake_seconds",
    "data_connect_seconds",
    "data_stall_seconds",
    "idle_seconds",
    "reply_seconds",
    "store_seconds",
    "commit_seconds",
    "drain_delay_seconds",
    "drain_grace_seconds",
    "drain_seconds",
];

/// Every key of every table, for the test that wants each in `config.example.yaml`.
#[cfg(test)]
pub(super) fn all_keys() -> Vec<&'static str> {
    use self::{
        auth::{AUTH, USERS},
        backends::FS,
        buckets::{AZBLOB, GCS, MEMORY, OPENDAL},
        journal::{AUDIT, EVENTS, WEBHOOK},
        listeners::LISTENER,
        mounts::MOUNT,
        passive::{ADDRESS, BY_CLIENT, PASSIVE, PROXY_PROTOCOL, SERVICE},
        profiles::PROFILE,
        s3::{DEFERRED, ENCRYPTION, METADATA, S3},
        sources::{ANONYMOUS, HTTP, LDAP, LDAP_GROUPS},
        telemetry::{LOG, OTLP, TELEMETRY},
        tls::{CERTIFICATE, CLIENT_CERTIFICATES, MAP},
        uploads::UPLOADS,
    };
    // Without a count, which every branch would change.
    let tables: &[&[&str]] = &[
        ROOT,
        &LISTENER,
        &TLS,
        &CERTIFICATE,
        &CLIENT_CERTIFICATES,
        &MAP,
        &PASSIVE,
        &ADDRESS,
        &BY_CLIENT,
        &SERVICE,
        &PROXY_PROTOCOL,
        &PROFILE,
        &FS,
        &S3,
        &ENCRYPTION,
        &METADATA,
        &DEFERRED,
        GCS,
        AZBLOB,
        MEMORY,
        OPENDAL,
        &MOUNT,
        &UPLOADS,
        &LIMITS,
        &BANS,
        &SHARED_COUNTERS,
        &HTTP,
        &LDAP,
        &LDAP_GROUPS,
        &ANONYMOUS,
        &BANDWIDTH,
        &TIMEOUTS,
        &LOG,
        &TELEMETRY,
        &OTLP,
        &USERS,
        &AUTH,
        &ADMIN,
        &AUDIT,
        &EVENTS,
        &WEBHOOK,
    ];
    tables.concat()
}

/// Reads and checks a parsed text.
pub(super) fn file(
    node: &Node,
    file: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, ConfigErrors> {
    let reader = Reader::new(file, environment).recording();
    let read = reader
        .root(node, ROOT)
        .and_then(|root| config(&root, &reader));
    let (mut config, records) = reader.finish_recorded(read, file)?;
    config.effective = Effective::of(&records);
    Ok(config)
}

/// Asks everything that a file could lead to.
pub(super) fn explore(reader: &Reader<'_>) {
    let root = reader.root(&Node::Null, ROOT);
    // The questions are what is wanted.
    let _ = root.and_then(|root| config(&root, reader));
}

/// The whole file. Reads every table before it combines them, so that all mistakes are noted.
fn config(root: &Table<'_>, reader: &Reader<'_>) -> Option<Config> {
    let tls = root.table("tls", &TLS).map(|table| tls(&table));
    let limits = root.section("limits", &LIMITS);
    let limits = limits.and_then(|table| limits_of(&table));
    let default_connections = limits
        .as_ref()
        .map_or(usize::MAX, |limits| limits.connections);
    let profiles = profiles(root);
    let listeners = listeners(root, tls.as_ref(), default_connections, profiles.as_ref());
    let auth = auth(root);
    let backends = backends(root);
    let mounts = mounts(root);
    let uploads = uploads(root);
    let bans = root.section("bans", &BANS).and_then(|table| bans(&table));
    let shared_counters = match root.table("shared_counters", &SHARED_COUNTERS) {
        Some(table) => shared_counters(&table).map(Some),
        None => Some(None),
    };
    let bandwidth = root.section("bandwidth", &BANDWIDTH);
    let bandwidth = bandwidth.and_then(|table| bandwidth_of(&table));
    let timeouts = root.section("timeouts", &TIMEOUTS);
    let timeouts = timeouts.and_then(|table| timeouts_of(&table));
    let admin = match root.table("admin", &ADMIN) {
        Some(table) => admin(&table).map(Some),
        None => Some(None),
    };
    let audit = audit(root);
    let events = events(root);
    let log = log(root);
    let otlp = telemetry(root);

    if let Some(listeners) = &listeners {
        let admin = admin.iter().flatten().next();
        addresses(listeners, admin.map(|admin| admin.address), reader);
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
        profiles: profiles?,
        auth: auth?,
        backends: backends?.1,
        mounts: mounts?.into_iter().map(|(_, mount)| mount).collect(),
        uploads: uploads?,
        limits: limits?,
        bans: bans?,
        shared_counters: shared_counters?,
        bandwidth: bandwidth?,
        timeouts: timeouts?,
        admin: admin?,
        audit: audit?,
        events: events?,
        log: log?,
        otlp: otlp?,
        effective: Effective::default(),
    })
}

/// Listeners with their YAML paths, for the checks between tables. Broken ones are left out here and
/// make the file fail through their noted mistakes.
pub(crate) type Located<T> = Vec<(String, T)>;

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

fn limits_of(table: &Table<'_>) -> Option<Limits> {
    let default = Limits::default();
    let connections = table.integer("connections", default.connections, CONNECTIONS);
    let connections_per_address = table.integer(
        "connections_per_address",
        default.connections_per_address,
        CONNECTIONS,
    );
    let connections_per_network = table.integer(
        "connections_per_network",
        connections.unwrap_or(default.connections),
        CONNECTIONS,
    );
    // 0 is unlimited.
    let bound = |key| {
        let bound = table.integer(key, 0, 0..=1_000_000);
        bound.map(NonZeroU32::new)
    };
    let per_address = bound("connections_per_minute_per_address");
    let per_network = bound("connections_per_minute_per_network");
    let count = |key| {
        let count = table.integer(key, 0, 0..=1_000_000);
        count.map(|count| (count > 0).then_some(count))
    };
    let sessions_per_user = count("sessions_per_user");
    let transfers_per_user = count("transfers_per_user");
    let login_delay = table.integer("login_delay_milliseconds", 500, 0..=60_000);
    let longest_login_delay = table.integer("longest_login_delay_seconds", 10, 0..=600);
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
    let checksum_bytes = table.integer("checksum_bytes", default.checksum_bytes, 0..=1 << 50);
    let recount = default.quota_recount.as_secs();
    let quota_recount = table.integer("quota_recount_seconds", recount, SECONDS);
    let rename_bytes = table.integer("rename_bytes", default.rename_bytes, 0..=1 << 50);
    let recursive_listing = recursive_listing(table);
    Some(Limits {
        connections: connections?,
        connections_per_address: connections_per_address?,
        connections_per_network: connections_per_network?,
        connections_per_minute_per_address: per_address?,
        connections_per_minute_per_network: per_network?,
        sessions_per_user: sessions_per_user?,
        transfers_per_user: transfers_per_user?,
        login_failures: login_failures?,
        login_delay: Duration::from_millis(login_delay?),
        longest_login_delay: Duration::from_secs(longest_login_delay?),
        upload_memory_bytes: upload_memory_bytes?,
        checksum_bytes: checksum_bytes?,
        quota_recount: Duration::from_secs(quota_recount?),
        rename_bytes: rename_bytes?,
        recursive_listing: recursive_listing?,
    })
}

/// The names of a whole listing may have to wait in memory: not more than some tens of megabytes.
#[allow(
    clippy::option_option,
    reason = "a mistake and an absence are different things"
)]
fn recursive_listing(table: &Table<'_>) -> Option<Option<RecursiveListing>> {
    let rows = table.integer("recursive_listing_rows", 0, 0..=100_000_usize);
    let depth = table.integer("recursive_listing_depth", 32, 1..=1000_usize);
    let seconds = table.integer("recursive_listing_seconds", 60, 1..=3600);
    let (rows, depth, seconds) = (rows?, depth?, seconds?);
    Some((rows > 0).then_some(RecursiveListing {
        rows,
        depth,
        time: Duration::from_secs(seconds),
    }))
}

fn timeouts_of(table: &Table<'_>) -> Option<Timeouts> {
    let default = Timeouts::default();
    let within = |key, default: Duration, range| {
        table
            .integer(key, default.as_secs(), range)
            .map(Duration::from_secs)
    };
    let read = |key, default| within(key, default, SECONDS);
    let login = read("login_seconds", default.login);
    let tls_handshake = read("tls_handshake_seconds", default.tls_handshake);
    let data_connect = read("data_connect_seconds", default.data_connect);
    let data_stall = read("data_stall_seconds", default.data_stall);
    let idle = read("idle_seconds", default.idle);
    let reply = read("reply_seconds", default.reply);
    let store = read("store_seconds", default.store);
    let commit = read("commit_seconds", default.commit);
    let drain_delay = within("drain_delay_seconds", default.drain_delay, DRAIN_SECONDS);
    let drain_grace = within("drain_grace_seconds", default.drain_grace, DRAIN_SECONDS);
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
        drain_delay: drain_delay?,
        drain_grace: drain_grace?,
        drain: drain?,
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
            let hint = typed::nearest(&mount.backend, names);
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

/// A part must fit into a quarter of the budget, see `store::Budget`.
fn upload_memory(limits: &Limits, backends: &BTreeMap<Arc<str>, Backend>, reader: &Reader<'_>) {
    for (name, backend) in backends {
        let part_bytes = match backend {
            Backend::S3(s3) => s3.part_bytes,
            Backend::Gcs(gcs) => gcs.settings.part_bytes,
            Backend::Azblob(azblob) => azblob.settings.part_bytes,
            Backend::OpenDal(opendal) => opendal.settings.part_bytes,
            Backend::Fs(_) | Backend::Memory(_) => continue,
        };
        let least = part_bytes.saturating_mul(4);
        if limits.upload_memory_bytes < least {
            let found = limits.upload_memory_bytes;
            reader.error(
                "limits.upload_memory_bytes",
                format!(
                    "a part of the backend {name} must fit into a quarter of it: expected at least {least}, found {found}"
                ),
            );
        }
    }
}
