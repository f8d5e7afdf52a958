//! [`Exchange`]: what the edge of a session and its storage backend hand each other.
//!
//! libunftp passes a path in and an error class out. The rest of the truth goes through here: what
//! the edge intends (so that a misread path can never touch a file), the data connection, and what
//! really happened. One per session; the edge is lockstep, so one intent at a time.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use tokio_util::task::TaskTracker;

use super::{
    Result, Stat,
    transfer::{Failure, Progress, Wire},
    upload::{Deadlines, Incoming},
    view::View,
};
use crate::{access::VirtualPath, observe::telemetry::Here};

/// Shared by one session's edge and its storage backend.
#[derive(Debug, Default)]
pub struct Exchange {
    view: OnceLock<Arc<View>>,
    slot: Mutex<Slot>,
}

#[derive(Debug)]
struct Slot {
    intent: Option<Intent>,
    /// Of the command that announced it: the engine's own task knows none.
    here: Here,
    outcome: Option<Outcome>,
}

impl Default for Slot {
    fn default() -> Self {
        Self {
            intent: None,
            here: Here::none(),
            outcome: None,
        }
    }
}

/// What the edge is about to ask the engine for.
#[derive(Debug)]
pub struct Intent {
    /// The path the engine must name.
    pub path: VirtualPath,
    /// What is to happen there.
    pub work: Work,
}

/// The operation behind one engine command.
#[derive(Debug)]
pub enum Work {
    /// CWD.
    ChangeDirectory,
    /// SIZE, MDTM, MLST.
    Stat,
    /// RNFR.
    RenameSource,
    /// RNTO, to this path.
    Rename(VirtualPath),
    /// DELE.
    RemoveFile,
    /// MKD.
    MakeDirectory,
    /// RMD.
    RemoveDirectory,
    /// STOR, STOU, APPE: everything is open, only bytes are missing.
    Upload(Incoming, Transport),
    /// RETR.
    Download(Outgoing, Transport),
    /// LIST, NLST, MLSD.
    Listing(Rows, Transport),
}

/// A file that is open for reading.
pub struct Outgoing(pub BoxStream<'static, Result<Bytes>>);

/// The lines of a listing in the client's charset, without their ends; the directory is open.
pub struct Rows(pub BoxStream<'static, std::result::Result<Vec<u8>, Failure>>);

/// The data connection of one transfer.
#[derive(Debug)]
pub struct Transport {
    /// Ready for bytes: connected, checked, encrypted.
    pub wire: Box<dyn Wire>,
    /// Shared with the edge.
    pub progress: Arc<Progress>,
    /// Stall and commit.
    pub deadlines: Deadlines,
    /// Where the data connection lingers after a download.
    pub tasks: TaskTracker,
}

/// What really happened.
#[derive(Debug)]
pub enum Outcome {
    /// Done.
    Done,
    /// Renamed, and the file appears only now: it waited for this.
    Appeared,
    /// Done, and this is what is there (after a stat, a rename source, an upload).
    Found(Stat),
    /// Not done.
    Failed(Failure),
}

impl Exchange {
    /// The view of the account that logged in; set once.
    pub fn view(&self) -> Option<&Arc<View>> {
        self.view.get()
    }

    /// Gives the session its view. A second login in one session is refused by the edge and by the
    /// engine, so a second call changes nothing.
    pub fn log_in(&self, view: Arc<View>) {
        let _ = self.view.set(view);
    }

    /// Announces what the next engine command is for, and forgets any older outcome.
    pub fn announce(&self, intent: Intent) {
        let mut slot = self.slot();
        slot.intent = Some(intent);
        slot.here = Here::now();
        slot.outcome = None;
    }

    /// Takes the outcome of the announced operation; `None` if the engine never called the backend.
    /// An intent that was not carried out is dropped, and with it its data connection and upload.
    pub fn conclude(&self) -> Option<Outcome> {
        let mut slot = self.slot();
        slot.intent = None;
        slot.here = Here::none();
        slot.outcome.take()
    }

    /// The work at `path`, and the spans it belongs to.
    pub(super) fn take(
        &self,
        path: &std::path::Path,
    ) -> std::result::Result<(Work, Here), Failure> {
        let mut slot = self.slot();
        let here = std::mem::replace(&mut slot.here, Here::none());
        let Some(intent) = slot.intent.take() else {
            return Err(Failure::Intent("nothing was announced"));
        };
        if path.to_str() == Some(intent.path.as_str()) {
            Ok((intent.work, here))
        } else {
            Err(Failure::Intent("another path"))
        }
    }

    pub(super) fn report(&self, outcome: Outcome) {
        self.slot().outcome = Some(outcome);
    }

    /// The lock is held for a few moves at a time and never over an await; a panic while it is held
    /// cannot leave the slot half written.
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Outgoing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Outgoing")
    }
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Rows")
    }
}
