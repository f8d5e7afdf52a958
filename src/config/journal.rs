//! The audit trail and the webhooks, as values.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::Secret;

/// One JSON line for every login, transfer, change, refusal and act of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Where the lines go; `None`: to standard output only.
    pub file: Option<AuditFile>,
    /// Whether they go to standard output, too.
    pub stdout: bool,
    /// Lines that may wait for the disk; default 10,000.
    pub queue_lines: usize,
    /// What a session does whose line finds the queue full.
    pub when_full: WhenFull,
    /// Whether file content is hashed while it moves; default yes.
    pub sha256: bool,
}

/// The file of the audit trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditFile {
    /// The file that is written now; rotated ones lie beside it.
    pub path: PathBuf,
    /// It is rotated before it becomes larger; default 100 MiB.
    pub rotate_bytes: u64,
    /// It is rotated at this age; default a day.
    pub rotate_age: Duration,
    /// Rotated files that are kept; default 30.
    pub keep_files: usize,
    /// When what was written is known to be on the disk.
    pub sync: AuditSync,
}

/// When lines are known to be on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditSync {
    /// After each batch of lines: what waits is written at once and synced once (default).
    Batch,
    /// When the system does it: a crash of the machine may lose the last half minute.
    System,
}

/// What a session does whose line finds the queue full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Waits, ten seconds at most; then the line is lost, counted and said in the log (default).
    Wait,
    /// Goes on at once: the line is lost, counted and said in the log.
    Drop,
}

/// Webhooks, and the spool that holds what they have not taken yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// A directory of this server's own; it needs a disk that outlives the process.
    pub spool: PathBuf,
    /// Events that may wait for one webhook; default 100,000.
    pub spool_events: usize,
    /// `source` of every event (`CloudEvents` 1.0 §3.1.1); default `causeway`.
    pub source: String,
    /// Whether file content is hashed while it moves; default yes.
    pub sha256: bool,
    /// At least one; names are unique.
    pub webhooks: Vec<Webhook>,
}

/// Who is told of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Unique; also the name of its directory in the spool.
    pub name: Arc<str>,
    /// Where events are posted; shown to nobody, since it may hold a password.
    pub url: Secret,
    /// Which events.
    pub events: Vec<EventKind>,
    /// Of these users only; empty: of all.
    pub users: Vec<String>,
    /// Below these mounts only; empty: below all.
    pub mounts: Vec<String>,
    /// Of files whose path one of these patterns matches; empty: of all.
    pub paths: Vec<String>,
    /// Key of the signature.
    pub secret: Option<Secret>,
    /// Authorities that the receiver's certificate is checked against, beside the system's.
    pub ca_file: Option<PathBuf>,
    /// For one delivery; default 30 s.
    pub timeout: Duration,
    /// An event this old that nobody took goes to the dead letters; default a day.
    pub give_up: Duration,
    /// Deliveries at once; default 4.
    pub concurrency: usize,
}

/// What a webhook can be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventKind {
    /// A file is whole in its store.
    FileUploaded,
    /// A client has all of a file that it asked for.
    FileDownloaded,
    /// A file is gone.
    FileDeleted,
    /// A file or directory has another name.
    FileRenamed,
    /// Somebody was not let in.
    LoginFailed,
    /// An address, network or user may not come for a while.
    Ban,
}

impl EventKind {
    /// Every kind with its name, as in the configuration and in `type` of an event.
    pub const ALL: [(&'static str, Self); 6] = [
        ("file.uploaded", Self::FileUploaded),
        ("file.downloaded", Self::FileDownloaded),
        ("file.deleted", Self::FileDeleted),
        ("file.renamed", Self::FileRenamed),
        ("login.failed", Self::LoginFailed),
        ("ban", Self::Ban),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::FileUploaded => "file.uploaded",
            Self::FileDownloaded => "file.downloaded",
            Self::FileDeleted => "file.deleted",
            Self::FileRenamed => "file.renamed",
            Self::LoginFailed => "login.failed",
            Self::Ban => "ban",
        }
    }
}
