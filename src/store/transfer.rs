//! What every transfer has: progress, a way to cancel it, and how it can fail.

use std::{
    io,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use aws_lc_rs::digest;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::{ErrorKind, StoreError};
use crate::access::Denied;

/// A data connection, ready for bytes. Reading 0 bytes is the proven end of the client's file:
/// the edge turns every other end into an error.
pub trait Wire: AsyncRead + AsyncWrite + Send + Sync + Unpin + std::fmt::Debug {
    /// Until when it held bytes back itself, so that the client is not to blame: now, if it still does.
    fn held_until(&self) -> Option<Instant> {
        None
    }
}

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// STOR, STOU, APPE.
    Upload,
    /// RETR.
    Download,
    /// LIST, NLST, MLSD.
    Listing,
}

/// Why a running transfer is stopped from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelReason {
    /// The client sent ABOR.
    Aborted,
    /// The control connection ended.
    ControlLost,
    /// The operator ended the session.
    Kicked,
    /// The account's time was over for longer than a transfer may take to end.
    Overstayed,
    /// The server stops and the drain deadline has passed.
    Shutdown,
}

/// Handle on one running transfer, shared by the edge (which cancels and asks) and the store side.
#[derive(Debug, Default)]
pub struct Progress {
    bytes: AtomicU64,
    /// Touched by the one task that moves the bytes, and by whoever asks at the end.
    hash: Option<Mutex<Hash>>,
    reached: [OnceLock<Instant>; 3],
    reason: OnceLock<CancelReason>,
    cancelled: CancellationToken,
    /// What an upload waits for between its last byte and its commit.
    clearance: Option<Clearance>,
}

/// A question of the store side, and the edge's answer.
#[derive(Debug, Default)]
struct Clearance {
    asked: CancellationToken,
    given: CancellationToken,
}

/// Moments of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The 150 is on its way.
    Opened,
    /// The first byte of content moved.
    FirstByte,
    /// The last byte of an upload is here.
    Received,
}

/// SHA-256 of the bytes so far.
struct Hash(digest::Context);

/// How a command on the store failed, with everything the log needs; the client gets
/// [`Failure::reply`].
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// `access` said no.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The data connection ended without `close_notify`.
    #[error("data connection ended without close_notify")]
    Truncated,
    /// The data connection broke.
    #[error("data connection broke: {0}")]
    Broken(#[source] io::Error),
    /// No byte moved for this long.
    #[error("no byte moved for {} s", .0.as_secs())]
    Stalled(Duration),
    /// Stopped from outside.
    #[error("cancelled: {0:?}")]
    Cancelled(CancelReason),
    /// The commit took longer than its deadline; it may still happen.
    #[error("commit did not finish in {} s", .0.as_secs())]
    CommitTimeout(Duration),
    /// A recursive listing met a bound of the configuration.
    #[error("recursive listing: {0}")]
    ListingTooLarge(&'static str),
    /// The engine asked for something the edge did not intend.
    #[error("engine asked for something else: {0}")]
    Intent(&'static str),
}

impl Progress {
    /// Progress that also hashes what moves, if `hashes`.
    pub fn new(hashes: bool) -> Self {
        let hash = || Mutex::new(Hash(digest::Context::new(&digest::SHA256)));
        Self {
            hash: hashes.then(hash),
            ..Self::default()
        }
    }

    /// With an edge that looks once more whether the client takes its upload back, before it is
    /// committed.
    #[must_use]
    pub fn with_clearance(self) -> Self {
        Self {
            clearance: Some(Clearance::default()),
            ..self
        }
    }

    /// Completes when an upload is to be committed; never where nobody asks.
    pub async fn clearance_asked(&self) {
        match &self.clearance {
            Some(clearance) => clearance.asked.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// The upload may be committed.
    pub fn clear(&self) {
        if let Some(clearance) = &self.clearance {
            clearance.given.cancel();
        }
    }

    /// Waits for [`Self::clear`].
    ///
    /// # Errors
    /// The transfer is to stop.
    pub(super) async fn cleared(&self) -> Result<(), Failure> {
        let Some(clearance) = &self.clearance else {
            return Ok(());
        };
        clearance.asked.cancel();
        tokio::select! {
            biased;
            cancelled = self.cancelled() => Err(cancelled),
            () = clearance.given.cancelled() => Ok(()),
        }
    }

    /// Whether it hashes what moves.
    pub(super) fn hashes(&self) -> bool {
        self.hash.is_some()
    }

    /// SHA-256 of the bytes moved so far, in hexadecimal digits.
    pub fn sha256(&self) -> Option<String> {
        let hash = self.hash.as_ref()?.lock();
        let context = hash.unwrap_or_else(PoisonError::into_inner).0.clone();
        Some(hex::encode(context.finish()))
    }

    /// Bytes moved so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Notes a moment; only its first time counts.
    pub fn reach(&self, phase: Phase) {
        let _ = self.reached[phase as usize].set(Instant::now());
    }

    /// When a moment came.
    pub fn reached(&self, phase: Phase) -> Option<Instant> {
        self.reached[phase as usize].get().copied()
    }

    /// Counts `bytes` that moved.
    pub(super) fn moved(&self, bytes: &[u8]) {
        let before = self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if before == 0 && !bytes.is_empty() {
            self.reach(Phase::FirstByte);
        }
        if let Some(hash) = &self.hash {
            let mut hash = hash.lock().unwrap_or_else(PoisonError::into_inner);
            hash.0.update(bytes);
        }
    }

    /// Stops the transfer; the first reason stays.
    pub fn cancel(&self, reason: CancelReason) {
        // `set` fails if somebody was first, and then their reason is the true one.
        let _ = self.reason.set(reason);
        self.cancelled.cancel();
    }

    /// Completes when the transfer is to stop.
    pub async fn cancelled(&self) -> Failure {
        self.cancelled.cancelled().await;
        Failure::Cancelled(self.reason.get().copied().unwrap_or(CancelReason::Shutdown))
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Hash")
    }
}

impl Failure {
    /// From an I/O error of the data connection. rustls reports a missing `close_notify` as
    /// `UnexpectedEof` (tokio-rustls 0.26).
    pub fn from_wire(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Self::Truncated
        } else {
            Self::Broken(error)
        }
    }

    /// FTP reply code and text (RFC 959 §4.2): no path, no vendor text.
    pub fn reply(&self) -> (u16, &'static str) {
        match self {
            Self::Denied(Denied::NotMounted) => ErrorKind::NotFound.reply(),
            Self::Denied(Denied::FileName(_) | Denied::FileNameNotAllowed) => {
                ErrorKind::NameNotAllowed.reply()
            }
            Self::Denied(_) => ErrorKind::PermissionDenied.reply(),
            Self::Store(error) => error.reply(),
            Self::Truncated => (426, "Data connection ended without TLS close_notify"),
            Self::Broken(_) => (426, "Data connection broken"),
            Self::Stalled(_) => (426, "Data connection stalled"),
            Self::Cancelled(CancelReason::Shutdown) => (426, "Server is shutting down"),
            Self::Cancelled(CancelReason::Kicked) => (426, "Transfer stopped by the operator"),
            Self::Cancelled(CancelReason::Overstayed) => (426, "This account's time is over"),
            Self::Cancelled(_) => (426, "Transfer aborted"),
            Self::CommitTimeout(_) => (451, "Storage did not confirm the file in time"),
            // Permanent, since another try ends there too (CONFORMANCE G27).
            Self::ListingTooLarge(_) => (
                550,
                "Too much for one recursive listing, list the directories one by one",
            ),
            Self::Intent(_) => (451, "Internal error"),
        }
    }

    /// Whether an operator must look.
    pub fn log_level(&self) -> tracing::Level {
        match self {
            Self::Store(error) => error.kind().log_level(),
            Self::Denied(_) | Self::ListingTooLarge(_) => tracing::Level::INFO,
            Self::CommitTimeout(_) | Self::Intent(_) => tracing::Level::ERROR,
            Self::Truncated | Self::Broken(_) | Self::Stalled(_) => tracing::Level::WARN,
            Self::Cancelled(_) => tracing::Level::DEBUG,
        }
    }

    /// Bounded label for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Denied(_) => "denied",
            Self::Store(error) => error.kind().label(),
            Self::Truncated => "truncated",
            Self::Broken(_) => "broken",
            Self::Stalled(_) => "stalled",
            Self::Cancelled(CancelReason::Aborted) => "aborted",
            Self::Cancelled(CancelReason::ControlLost) => "control_lost",
            Self::Cancelled(CancelReason::Kicked) => "kicked",
            Self::Cancelled(CancelReason::Overstayed) => "overstayed",
            Self::Cancelled(CancelReason::Shutdown) => "shutdown",
            Self::CommitTimeout(_) => "commit_timeout",
            Self::ListingTooLarge(_) => "listing_too_large",
            Self::Intent(_) => "internal",
        }
    }
}
