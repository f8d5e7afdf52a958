//! The one table of store failures: kind → FTP reply, log level and metric label.

use std::{fmt, io};

use tracing::Level;

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
    /// Another session is at it.
    InUse,
    /// Larger than the operator lets the store copy.
    TooLarge,
    /// The restart position lies behind the end.
    OffsetBeyondEnd,
    /// Disk or quota full.
    StorageFull,
    /// The account's own quota is used up.
    QuotaExceeded,
    /// More bytes than the account's files may have.
    FileTooLarge,
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
        Self {
            kind,
            operation,
            source: None,
        }
    }

    /// The same, caused by `source`.
    pub fn with_source(
        kind: ErrorKind,
        operation: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            kind,
            operation,
            source: Some(source.into()),
        }
    }

    /// A failed call to the local file system.
    pub(super) fn from_io(operation: &'static str, error: io::Error) -> Self {
        Self::with_source(ErrorKind::of_io(&error), operation, error)
    }

    /// A failed call to an object store, after all its retries.
    pub(super) fn from_opendal(operation: &'static str, error: opendal::Error) -> Self {
        Self::with_source(ErrorKind::of_opendal(&error), operation, error)
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
    /// One row per kind: FTP code, text, metric label, log level.
    ///
    /// - 550 is only said of what will not change by itself; everything that a later try may cure is
    ///   4xx, because clients retry exactly those (CONFORMANCE G27).
    /// - [`Self::Unsupported`] is 553: it is met by RNTO of a directory, where RFC 959 §5.4 allows
    ///   553 but neither 504 nor 551. An impossible restart position is not "unsupported" but
    ///   [`Self::OffsetBeyondEnd`], 554, so that the client restarts from the beginning (O20).
    /// - The text of [`Self::AlreadyExists`] is compared by FileZilla, to the letter (J3).
    fn row(self) -> (u16, &'static str, &'static str, Level) {
        match self {
            Self::NotFound => (550, "No such file or directory", "not_found", Level::DEBUG),
            Self::AlreadyExists => (
                550,
                "Directory already exists",
                "already_exists",
                Level::DEBUG,
            ),
            Self::IsADirectory => (550, "Is a directory", "is_a_directory", Level::DEBUG),
            Self::NotADirectory => (550, "Not a directory", "not_a_directory", Level::DEBUG),
            Self::NotEmpty => (550, "Directory not empty", "not_empty", Level::DEBUG),
            Self::PermissionDenied => (550, "Permission denied", "permission_denied", Level::ERROR),
            Self::NameNotAllowed => (
                553,
                "File name not allowed",
                "name_not_allowed",
                Level::DEBUG,
            ),
            Self::Unsupported => (
                553,
                "Not possible on this storage",
                "unsupported",
                Level::DEBUG,
            ),
            Self::Changed => (450, "File was changed meanwhile", "changed", Level::WARN),
            Self::InUse => (
                450,
                "Another session is uploading this file",
                "in_use",
                Level::INFO,
            ),
            Self::TooLarge => (
                553,
                "File is too large for this on this storage",
                "too_large",
                Level::INFO,
            ),
            Self::OffsetBeyondEnd => (
                554,
                "Restart position is behind the end of the file",
                "offset_beyond_end",
                Level::DEBUG,
            ),
            Self::StorageFull => (552, "Storage is full", "storage_full", Level::ERROR),
            Self::QuotaExceeded => (552, "Quota exceeded", "quota_exceeded", Level::INFO),
            Self::FileTooLarge => (
                552,
                "File is larger than allowed",
                "file_too_large",
                Level::INFO,
            ),
            Self::Busy => (451, "Storage is busy, try again later", "busy", Level::WARN),
            Self::Unavailable => (
                451,
                "Storage is not available, try again later",
                "unavailable",
                Level::ERROR,
            ),
            Self::Internal => (451, "Storage error", "internal", Level::ERROR),
        }
    }

    /// FTP reply code and text (RFC 959 §4.2; "Directory already exists" is what FileZilla compares).
    pub fn reply(self) -> (u16, &'static str) {
        let (code, text, ..) = self.row();
        (code, text)
    }

    /// Bounded label for metrics.
    pub fn label(self) -> &'static str {
        self.row().2
    }

    /// Whether an operator must look (`error`), or the client asked for something odd (`debug`).
    pub fn log_level(self) -> Level {
        self.row().3
    }

    /// What an error of the local file system means.
    fn of_io(error: &io::Error) -> Self {
        // `io::ErrorKind::FilesystemLoop` is not stable yet.
        const ELOOP: i32 = 40;
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::AlreadyExists => Self::AlreadyExists,
            io::ErrorKind::DirectoryNotEmpty => Self::NotEmpty,
            io::ErrorKind::IsADirectory => Self::IsADirectory,
            io::ErrorKind::NotADirectory => Self::NotADirectory,
            // Also what cap-std says of a path that leads out of the root.
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::PermissionDenied
            }
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::StorageFull,
            io::ErrorKind::InvalidFilename | io::ErrorKind::InvalidInput => Self::NameNotAllowed,
            io::ErrorKind::CrossesDevices => Self::Unsupported,
            io::ErrorKind::ResourceBusy => Self::Busy,
            io::ErrorKind::TimedOut | io::ErrorKind::StaleNetworkFileHandle => Self::Unavailable,
            _ if error.raw_os_error() == Some(ELOOP) => Self::PermissionDenied,
            _ => Self::Internal,
        }
    }

    /// What an error of OpenDAL means.
    ///
    /// `RetryLayer` marks every error it lets through as persistent, so `is_temporary` no longer
    /// tells a 503 from a 400 up here, and OpenDAL keeps the status only as text. The text decides
    /// between kinds with the same reply class (`Unavailable`, `Internal`), and finds the stores'
    /// quota codes (Ceph and `MinIO` answer 403 with `QuotaExceeded` in the body).
    fn of_opendal(error: &opendal::Error) -> Self {
        use opendal::ErrorKind as Theirs;
        const FULL: [&str; 3] = ["QuotaExceeded", "XMinioStorageFull", "InsufficientStorage"];
        const AWAY: [&str; 3] = ["timeout reached", "status: 5", "status: 499"];
        let told = |words: &[&str]| {
            let text = error.to_string();
            words.iter().any(|word| text.contains(word))
        };
        match error.kind() {
            Theirs::NotFound => Self::NotFound,
            Theirs::AlreadyExists => Self::AlreadyExists,
            Theirs::IsADirectory => Self::IsADirectory,
            Theirs::NotADirectory => Self::NotADirectory,
            Theirs::Unsupported => Self::Unsupported,
            Theirs::RateLimited => Self::Busy,
            Theirs::ConditionNotMatch | Theirs::Conflict => Self::Changed,
            Theirs::RangeNotSatisfied => Self::OffsetBeyondEnd,
            Theirs::PermissionDenied | Theirs::Unexpected if told(&FULL) => Self::StorageFull,
            Theirs::PermissionDenied => Self::PermissionDenied,
            Theirs::Unexpected
                if error.is_temporary()
                    || std::error::Error::source(error)
                        .is_some_and(<dyn std::error::Error>::is::<reqwest::Error>)
                    || told(&AWAY) =>
            {
                Self::Unavailable
            }
            _ => Self::Internal,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_reply_and_level() {
        let table = [
            (ErrorKind::NotFound, 550, "not_found", Level::DEBUG),
            (
                ErrorKind::AlreadyExists,
                550,
                "already_exists",
                Level::DEBUG,
            ),
            (ErrorKind::IsADirectory, 550, "is_a_directory", Level::DEBUG),
            (
                ErrorKind::NotADirectory,
                550,
                "not_a_directory",
                Level::DEBUG,
            ),
            (ErrorKind::NotEmpty, 550, "not_empty", Level::DEBUG),
            (
                ErrorKind::PermissionDenied,
                550,
                "permission_denied",
                Level::ERROR,
            ),
            (
                ErrorKind::NameNotAllowed,
                553,
                "name_not_allowed",
                Level::DEBUG,
            ),
            (ErrorKind::Unsupported, 553, "unsupported", Level::DEBUG),
            (ErrorKind::Changed, 450, "changed", Level::WARN),
            (ErrorKind::InUse, 450, "in_use", Level::INFO),
            (ErrorKind::TooLarge, 553, "too_large", Level::INFO),
            (
                ErrorKind::OffsetBeyondEnd,
                554,
                "offset_beyond_end",
                Level::DEBUG,
            ),
            (ErrorKind::StorageFull, 552, "storage_full", Level::ERROR),
            (ErrorKind::QuotaExceeded, 552, "quota_exceeded", Level::INFO),
            (ErrorKind::FileTooLarge, 552, "file_too_large", Level::INFO),
            (ErrorKind::Busy, 451, "busy", Level::WARN),
            (ErrorKind::Unavailable, 451, "unavailable", Level::ERROR),
            (ErrorKind::Internal, 451, "internal", Level::ERROR),
        ];
        for (kind, code, label, level) in table {
            assert_eq!(
                (kind.reply().0, kind.label(), kind.log_level()),
                (code, label, level)
            );
            assert!(
                !kind.reply().1.contains(['/', '\r', '\n']),
                "{kind:?}: one line without a path"
            );
        }
    }

    #[test]
    fn texts_that_clients_compare_stay() {
        assert_eq!(
            ErrorKind::AlreadyExists.reply(),
            (550, "Directory already exists")
        );
        assert_eq!(
            ErrorKind::NotFound.reply(),
            (550, "No such file or directory")
        );
        assert_eq!(ErrorKind::NotEmpty.reply(), (550, "Directory not empty"));
    }

    #[test]
    fn errno_maps_to_kind() {
        let table = [
            (2, ErrorKind::NotFound),
            (17, ErrorKind::AlreadyExists),
            (39, ErrorKind::NotEmpty),
            (21, ErrorKind::IsADirectory),
            (20, ErrorKind::NotADirectory),
            (13, ErrorKind::PermissionDenied),
            (1, ErrorKind::PermissionDenied),
            (30, ErrorKind::PermissionDenied),
            (40, ErrorKind::PermissionDenied),
            (28, ErrorKind::StorageFull),
            (122, ErrorKind::StorageFull),
            (27, ErrorKind::StorageFull),
            (36, ErrorKind::NameNotAllowed),
            (22, ErrorKind::NameNotAllowed),
            (18, ErrorKind::Unsupported),
            (16, ErrorKind::Busy),
            (5, ErrorKind::Internal),
        ];
        for (errno, kind) in table {
            let error = StoreError::from_io("write", io::Error::from_raw_os_error(errno));
            assert_eq!(error.kind(), kind, "errno {errno}");
        }
    }

    #[test]
    fn opendal_error_maps_to_kind() {
        use opendal::{Error, ErrorKind as Theirs};
        let table = [
            (Error::new(Theirs::NotFound, ""), ErrorKind::NotFound),
            (
                Error::new(Theirs::PermissionDenied, "AccessDenied"),
                ErrorKind::PermissionDenied,
            ),
            (
                Error::new(
                    Theirs::PermissionDenied,
                    "S3Error { code: \"QuotaExceeded\" }",
                ),
                ErrorKind::StorageFull,
            ),
            (Error::new(Theirs::RateLimited, ""), ErrorKind::Busy),
            (
                Error::new(Theirs::ConditionNotMatch, ""),
                ErrorKind::Changed,
            ),
            (
                Error::new(Theirs::RangeNotSatisfied, ""),
                ErrorKind::OffsetBeyondEnd,
            ),
            (Error::new(Theirs::Unsupported, ""), ErrorKind::Unsupported),
            (
                Error::new(Theirs::ConfigInvalid, "NoSuchBucket"),
                ErrorKind::Internal,
            ),
            (Error::new(Theirs::Unexpected, ""), ErrorKind::Internal),
            (
                Error::new(Theirs::Unexpected, "").set_temporary(),
                ErrorKind::Unavailable,
            ),
            (
                Error::new(Theirs::Unexpected, "io operation timeout reached").set_persistent(),
                ErrorKind::Unavailable,
            ),
            (
                Error::new(Theirs::Unexpected, "")
                    .with_context("response", "Parts { status: 503 }")
                    .set_persistent(),
                ErrorKind::Unavailable,
            ),
        ];
        for (theirs, kind) in table {
            assert_eq!(ErrorKind::of_opendal(&theirs), kind, "{theirs}");
        }
    }
}
