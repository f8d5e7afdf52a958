//! What the operator wrote, as checked values.
//!
//! Owns the YAML text, its errors and its defaults; the resolved [`Config`] carries no optional that
//! has a default and no string that still must be parsed. Knows nothing of sockets or stores.
//! [`record`] notes what is asked of a file; [`schema`] and [`effective`] are made of that.
//! Three stages: [`yaml`] turns the text into nodes, [`typed`] reads them and collects every mistake
//! (unknown keys included), [`resolve`] says what they mean.

mod admin;
mod auth;
mod backend;
mod deferred;
mod effective;
mod error;
mod guard;
mod journal;
mod passive;
mod profile;
mod record;
mod resolve;
mod s3;
pub mod schema;
mod sources;
mod telemetry;
#[cfg(test)]
mod tests;
mod tls;
pub(crate) mod typed;
mod uploads;
pub(crate) mod yaml;

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub(crate) use self::resolve::{own_mounts, plain_network, time_zone};
pub use self::{
    admin::{Admin, MetricsAccess},
    auth::{Auth, SourceKind, UsersFiles},
    backend::{
        AzblobBackend, AzblobCredentials, BucketSettings, GcsBackend, GcsCredentials, GcsDriver,
        MemoryBackend, OPENDAL_FEATURES, OPENDAL_SCHEMES, OpenDalBackend,
    },
    deferred::{Deferred, TemporaryName},
    effective::Effective,
    error::{ConfigError, ConfigErrors},
    guard::{Bandwidth, Bans, Rates},
    journal::{Audit, AuditFile, AuditSync, EventKind, Events, Webhook, WhenFull},
    passive::{DataPeer, KubernetesService, Passive, ProxyHeader, ProxyProtocol, PublicAddress},
    profile::{EmptyUpload, ListDate, ListStyle, Profile},
    s3::{
        Checksum, ConcurrentUploads, CustomerKey, S3Backend, S3Credentials, S3Encryption,
        S3Metadata, S3Provider, S3Switches,
    },
    sources::{
        Anonymous, HttpHook, Ldap, LdapGroups, LdapService, RedisServer, SharedCounters,
        WhenUnavailable,
    },
    telemetry::Otlp,
    tls::{
        CIPHER_SUITES, CertificateFiles, ClientCertificateMode, ClientCertificates, MapBy,
        Resumption, Sni, Tls, TlsVersion,
    },
    uploads::{KeptBounds, KeptLimit, Uploads},
};
use crate::access::Mount;

/// Everything the server needs to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// At least one; names are unique.
    pub listeners: Vec<Listener>,
    /// What devices need, by name, as listeners and users refer to it.
    pub profiles: BTreeMap<Arc<str>, Arc<Profile>>,
    /// Where users come from, and how their passwords are checked.
    pub auth: Auth,
    /// By name, as mounts refer to them.
    pub backends: BTreeMap<Arc<str>, Backend>,
    /// The tree that users see; paths are unique and one of them is `/`.
    pub mounts: Vec<Mount>,
    /// What becomes of interrupted uploads.
    pub uploads: Uploads,
    /// Bounds on connections and memory.
    pub limits: Limits,
    /// Who is shut out after failed logins.
    pub bans: Bans,
    /// Where replicas count together.
    pub shared_counters: Option<SharedCounters>,
    /// Bytes a second of sessions and users.
    pub bandwidth: Bandwidth,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// The operator's side; `None` switches it off.
    pub admin: Option<Admin>,
    /// Who did what; `None` writes no trail.
    pub audit: Option<Audit>,
    /// Who is told of what; `None` tells nobody.
    pub events: Option<Events>,
    /// Logging.
    pub log: Log,
    /// What an OpenTelemetry collector is told; `None`: nothing.
    pub otlp: Option<Otlp>,
    /// All of this by the keys of the file, to be shown.
    pub effective: Effective,
}

/// One FTP(S) address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Unique name, for logs and metrics.
    pub name: Arc<str>,
    /// Where to accept; port 0 takes a free one.
    pub address: SocketAddr,
    /// How TLS begins.
    pub mode: Mode,
    /// Whether sessions and data may cross in the clear (explicit listeners only).
    pub clear_text: ClearText,
    /// Certificates, versions and suites.
    pub tls: Tls,
    /// Whether data connections resume the TLS session of their control connection.
    pub resumption: Resumption,
    /// Passive data connections.
    pub passive: Passive,
    /// Headers of a load balancer in front.
    pub proxy_protocol: ProxyProtocol,
    /// What ends an upload.
    pub upload_end: UploadEnd,
    /// What its devices need; a user's own profile wins after login.
    pub profile: Arc<Profile>,
    /// Whether to log which switch a device would have needed.
    pub learn: bool,
    /// Whether the control connection may leave TLS after login.
    pub ccc: ClearCommandChannel,
    /// Connections at once on this listener; default `limits.connections`.
    pub connections: usize,
    /// Bytes a second of all its sessions together.
    pub rates: Rates,
}

/// How TLS begins on a control connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// After AUTH TLS (RFC 4217).
    Explicit,
    /// With the first byte (port 990).
    Implicit,
}

/// Whether a session may go on without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClearText {
    /// USER without TLS gets 530, data without TLS 521 (default).
    Refuse,
    /// Passwords and files may cross in the clear.
    Allow,
}

/// What counts as the end of an uploaded file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadEnd {
    /// Only a TLS `close_notify` (default): everything else is a truncated upload.
    CloseNotify,
    /// Also a TCP FIN, for devices that never send one; counted and logged for each upload.
    Fin,
}

/// What CCC is answered (RFC 4217 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClearCommandChannel {
    /// 534 (default).
    Refuse,
    /// 200 after login, and the control connection goes on in the clear; data stays as it is.
    Allow,
}

/// What becomes of a time that a client sets (MFMT and its kin).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// It becomes the file's time; default for a local directory. A bucket keeps it as metadata.
    Store,
    /// 213, and nothing is changed.
    Ignore,
    /// 502 or 550; default for a bucket.
    Refuse,
}

/// A place for bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// A local directory.
    Fs(FsBackend),
    /// An S3 bucket.
    S3(Box<S3Backend>),
    /// A bucket of Google Cloud Storage.
    Gcs(Box<GcsBackend>),
    /// A container of Azure Blob Storage.
    Azblob(Box<AzblobBackend>),
    /// Files in memory, gone with the process.
    Memory(MemoryBackend),
    /// Another service of OpenDAL.
    OpenDal(Box<OpenDalBackend>),
}

/// A local directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FsBackend {
    /// Existing directory; nothing outside it is ever touched.
    pub root: PathBuf,
    /// Times set by clients.
    pub set_time: SetTime,
    /// How much of an upload is on the disk before its 226.
    pub durability: Durability,
    /// Uploads are refused, or ended, with 552 when less than this is free; default 64 MiB.
    pub free_space_bytes: u64,
}

/// How much of an upload is on the disk before its 226.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The file and its name are synced (default): both survive a power failure.
    Full,
    /// Nothing is synced: a crash of the machine may lose what was acknowledged in the last seconds,
    /// but never shows a part of a file.
    Fast,
}

/// A string that never appears in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Control connections at once; default 500.
    pub connections: usize,
    /// Control connections at once from one address; default 50.
    pub connections_per_address: usize,
    /// Control connections at once from one network (/24 of IPv4, /64 of IPv6); default
    /// `connections`.
    pub connections_per_network: usize,
    /// New connections a minute from one address; `None` (default) is unlimited.
    pub connections_per_minute_per_address: Option<NonZeroU32>,
    /// New connections a minute from one network; `None` (default) is unlimited.
    pub connections_per_minute_per_network: Option<NonZeroU32>,
    /// Sessions at once of a user without a bound of its own; `None` (default) is unlimited.
    pub sessions_per_user: Option<usize>,
    /// Transfers at once of a user without a bound of its own; `None` (default) is unlimited.
    pub transfers_per_user: Option<usize>,
    /// Failed logins on one connection before 421; default 3.
    pub login_failures: u32,
    /// A failed login is answered after this much for each recent failure; default 500 ms.
    pub login_delay: Duration,
    /// And after this much at most; default 10 s.
    pub longest_login_delay: Duration,
    /// Bytes that all running uploads together may hold in memory; default 256 MiB.
    pub upload_memory_bytes: usize,
    /// Largest part of a file that HASH, XCRC and their kin read; default 1 GiB.
    pub checksum_bytes: u64,
    /// After this, what lies in the mounts of an account with a quota is counted again; default 1 h.
    pub quota_recount: Duration,
    /// Largest file that a rename carries from one backend to another; default 1 GiB.
    pub rename_bytes: u64,
    /// `LIST -R`; `None` (default): it lists one directory, as LIST does.
    pub recursive_listing: Option<RecursiveListing>,
}

/// Bounds on `LIST -R`, which fails where it meets one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecursiveListing {
    /// Entries in all.
    pub rows: usize,
    /// Directories below each other; default 32.
    pub depth: usize,
    /// From its beginning to its end; default 60 s.
    pub time: Duration,
}

/// Deadlines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From accept to a successful login; default 60 s.
    pub login: Duration,
    /// A TLS handshake, control or data; default 15 s.
    pub tls_handshake: Duration,
    /// From the transfer command to the data connection; default 30 s.
    pub data_connect: Duration,
    /// A data connection on which no byte moves; default 120 s.
    pub data_stall: Duration,
    /// A control connection without a command; default 900 s.
    pub idle: Duration,
    /// The client takes a reply; default 30 s.
    pub reply: Duration,
    /// One request to a store, with its retries; default 120 s.
    pub store: Duration,
    /// The commit of an upload; default 900 s.
    pub commit: Duration,
    /// From SIGTERM to the closing of the listeners, with readiness off; default 0.
    pub drain_delay: Duration,
    /// From there: who has just come may log in and begin a transfer; default 10 s.
    pub drain_grace: Duration,
    /// From the closing of the listeners to the end of running transfers; default 300 s.
    pub drain: Duration,
}

/// Logging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Least level: `error`, `warn`, `info` (default), `debug`, `trace`.
    pub level: tracing::Level,
    /// More or less of some parts, such as `causeway::store=debug`; default nothing.
    pub filter: String,
    /// Shape of a line.
    pub format: LogFormat,
}

/// Shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people, one line each (default).
    Compact,
    /// For people, several lines each.
    Pretty,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// Every form.
    pub const ALL: [Self; 3] = [Self::Compact, Self::Pretty, Self::Json];
    /// Every form by its name.
    pub const NAMES: [(&str, Self); 3] = [
        ("compact", Self::Compact),
        ("pretty", Self::Pretty),
        ("json", Self::Json),
    ];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Compact => "compact",
            Self::Pretty => "pretty",
            Self::Json => "json",
        }
    }
}

impl Config {
    /// Reads and checks a file. Secrets may come from the environment or from files, see
    /// `config.example.yaml`.
    ///
    /// # Errors
    /// Every mistake at once, each with its YAML path.
    pub fn load(file: &Path) -> Result<Self, ConfigErrors> {
        let text = read(file)?;
        Self::parse(&text, file, &|name| std::env::var(name).ok())
    }

    /// Checks a text; `environment` looks up variables, `file` names the text in errors, relative
    /// paths are relative to its directory.
    pub fn parse(
        text: &str,
        file: &Path,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigErrors> {
        let node = yaml::parse(text).map_err(|message| ConfigErrors::of_file(file, message))?;
        resolve::file(&node, file, environment)
    }
}

/// Reads a whole YAML file, for [`Config::load`] and the users file.
pub(crate) fn read(file: &Path) -> Result<String, ConfigErrors> {
    std::fs::read_to_string(file)
        .map_err(|error| ConfigErrors::of_file(file, format!("cannot read the file: {error}")))
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 500,
            connections_per_address: 50,
            connections_per_network: 500,
            connections_per_minute_per_address: None,
            connections_per_minute_per_network: None,
            sessions_per_user: None,
            transfers_per_user: None,
            login_failures: 3,
            login_delay: Duration::from_millis(500),
            longest_login_delay: Duration::from_secs(10),
            upload_memory_bytes: 256 << 20,
            checksum_bytes: 1 << 30,
            quota_recount: Duration::from_hours(1),
            rename_bytes: 1 << 30,
            recursive_listing: None,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            login: Duration::from_mins(1),
            tls_handshake: Duration::from_secs(15),
            data_connect: Duration::from_secs(30),
            data_stall: Duration::from_mins(2),
            idle: Duration::from_mins(15),
            reply: Duration::from_secs(30),
            store: Duration::from_mins(2),
            commit: Duration::from_mins(15),
            drain_delay: Duration::ZERO,
            drain_grace: Duration::from_secs(10),
            drain: Duration::from_mins(5),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: tracing::Level::INFO,
            filter: String::new(),
            format: LogFormat::Compact,
        }
    }
}

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself, for the library that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}
