//! [`Journal`]: where every [`Record`] goes, the audit trail and the webhooks' spool.
//!
//! Opened once; a reload does not change it. Sessions and the admin side keep records here, the
//! application delivers and closes.

use std::{
    io,
    path::Path,
    sync::{Arc, OnceLock},
};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    audit::Trail,
    events::{Hooks, Unkept},
    metrics::Metrics,
    record::Record,
};
use crate::config::{Audit, EventKind, Events};

/// Records of those who cannot wait: bans, a few at a time.
const POSTED: usize = 1000;

/// Keeps records; without audit trail and webhooks it forgets them.
#[derive(Debug, Default)]
pub struct Journal {
    trail: Option<Trail>,
    hooks: Option<Hooks>,
    hashes: bool,
    /// From those who cannot wait, and where [`Journal::deliver`] hears of it.
    posted: OnceLock<mpsc::Sender<Record>>,
}

/// What cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{key} {path}")]
pub struct JournalError {
    key: &'static str,
    path: String,
    source: io::Error,
}

impl Journal {
    /// Opens the audit file and the spool. Blocks for the disk.
    ///
    /// # Errors
    /// One of them cannot be written.
    pub fn open(
        audit: Option<&Audit>,
        events: Option<&Events>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, JournalError> {
        let failed = |key, path: &Path| {
            let path = path.display().to_string();
            move |source| JournalError { key, path, source }
        };
        let trail = match audit {
            None => None,
            Some(audit) => {
                let path = audit.file.as_ref().map(|file| file.path.as_path());
                let path = path.unwrap_or(Path::new("(standard output)"));
                let opened = Trail::open(audit, metrics);
                Some(opened.map_err(failed("audit.file", path))?)
            }
        };
        let hooks = match events {
            None => None,
            Some(events) => {
                let opened = Hooks::open(events, metrics);
                Some(opened.map_err(failed("events.spool", &events.spool))?)
            }
        };
        Ok(Self {
            trail,
            hooks,
            hashes: audit.is_some_and(|audit| audit.sha256)
                || events.is_some_and(|events| events.sha256),
            posted: OnceLock::new(),
        })
    }

    /// Whether anybody reads records.
    pub fn is_read(&self) -> bool {
        self.trail.is_some() || self.hooks.is_some()
    }

    /// Whether content is to be hashed while it moves.
    pub fn hashes(&self) -> bool {
        self.hashes
    }

    /// Whether an event of this kind finds room in every spool. Asked before an upload begins: its
    /// event must not be lost once it is there.
    pub fn has_room(&self, kind: EventKind) -> bool {
        self.hooks.as_ref().is_none_or(|hooks| hooks.has_room(kind))
    }

    /// Keeps a record: its events lie on the disk when this returns, its audit line waits to be written.
    ///
    /// # Errors
    /// An event could not be put on the disk. Its audit line is written all the same.
    pub async fn keep(&self, record: Record) -> Result<(), Unkept> {
        let kept = match &self.hooks {
            Some(hooks) => hooks.keep(&record).await,
            None => Ok(()),
        };
        if let Some(trail) = &self.trail {
            trail.write(&record).await;
        }
        kept
    }

    /// As [`Journal::keep`], soon and without a word of what came of it. Loses the record where a
    /// thousand wait already, and before [`Journal::deliver`] runs.
    pub fn post(&self, record: Record) {
        if !self.is_read() {
            return;
        }
        let sent = self
            .posted
            .get()
            .is_some_and(|posted| posted.try_send(record).is_ok());
        if !sent {
            tracing::error!("a record is lost: too many wait");
        }
    }

    /// Keeps what is posted and delivers events until `stop`; what is left of these then is delivered
    /// after the next start. Called once.
    pub async fn deliver(&self, stop: CancellationToken) {
        let (sender, mut posted) = mpsc::channel(POSTED);
        let _ = self.posted.set(sender);
        let keep = async {
            loop {
                tokio::select! {
                    biased;
                    // What cannot be kept is in the log.
                    Some(record) = posted.recv() => {
                        let _ = self.keep(record).await;
                    }
                    () = stop.cancelled() => return,
                }
            }
        };
        let deliver = async {
            if let Some(hooks) = &self.hooks {
                hooks.deliver(stop.clone()).await;
            }
        };
        tokio::join!(keep, deliver);
    }

    /// Writes what still waits. Nothing is kept after it.
    pub async fn close(&self) {
        if let Some(trail) = &self.trail {
            trail.close().await;
        }
    }
}
