//! The one table of store failures: kind → FTP reply, log level and metric label.

use std::fmt;

/// What went wrong, seen from the client's command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No such file or directory.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// A directory where a file is wanted.
    IsADirectory,
    /// A file where a directory is wanted.
    NotADirectory,
    /// A directory that still has entries.
    NotEmpty,
    /// The store does not let us (403, EACCES, a read-only file system).
    PermissionDenied,
    /// The store cannot keep this name apart from another or not at all.
    NameNotAllowed,
    /// The store cannot do this; said before a byte moved.
    Unsupported,
    /// Somebody else changed the object meanwhile.
    Changed,
    /// The restart position lies behind the end.
    OffsetBeyondEnd,
    /// Disk or quota full.
    StorageFull,
    /// Too many requests; later may help.
    Busy,
    /// The store did not answer in time or cannot be reached.
    Unavailable,
    /// Anything else.
    Internal,
}

/// A failed store operation. `Display` is for the log; the client gets [`StoreError::reply`].
#[derive(Debug)]
pub struct StoreError {
    kind: ErrorKind,
    operation: &'static str,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl StoreError {
    /// An error of `kind` in `operation` (one word: `stat`, `list`, `write` …).
    pub fn new(kind: ErrorKind, operation: &'static str) -> Self {
        Self { kind, operation, source: None }
    }

    /// The same, caused by `source`.
    pub fn with_source(
        kind: ErrorKind,
        operation: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { kind, operation, source: Some(source.into()) }
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The operation that failed.
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// FTP reply code and text for the client: no path, no vendor text.
    pub fn reply(&self) -> (u16, &'static str) {
        self.kind.reply()
    }
}

impl ErrorKind {
    /// FTP reply code and text (RFC 959 §4.2; "Directory already exists" is what FileZilla compares).
    pub fn reply(self) -> (u16, &'static str) {
        todo!()
    }

    /// Bounded label for metrics.
    pub fn label(self) -> &'static str {
        todo!()
    }

    /// Whether an operator must look (`error`), or the client asked for something odd (`debug`).
    pub fn log_level(self) -> tracing::Level {
        todo!()
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.operation, self.kind.label())
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
