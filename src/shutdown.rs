//! [`Drain`]: how a running server stops.
//!
//! Two moments: at `begin` nobody new gets in and idle sessions end; at `expire`, the drain
//! deadline, running transfers are aborted. Every task of a connection runs on [`Drain::tasks`], so
//! that the process ends only when the last one has cleaned up.

use tokio::signal::unix::{Signal, SignalKind, signal as listen_for};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Shared by everything that must end before the process does.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    begun: CancellationToken,
    expired: CancellationToken,
    tasks: TaskTracker,
}

impl Drain {
    /// Stops admission and ends idle sessions.
    pub fn begin(&self) {
        self.begun.cancel();
    }

    /// Aborts what still runs.
    pub fn expire(&self) {
        self.begun.cancel();
        self.expired.cancel();
    }

    /// Whether the server is stopping.
    pub fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Completes when the server begins to stop.
    pub async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// Completes when the drain deadline has passed.
    pub async fn expired(&self) {
        self.expired.cancelled().await;
    }

    /// Where every task of a connection runs.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }
}

/// SIGHUP of this process, which no longer ends it.
pub fn hangups() -> std::io::Result<Signal> {
    listen_for(SignalKind::hangup())
}

/// SIGTERM and SIGINT of this process.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over from their default, which is to end at once.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: listen_for(SignalKind::terminate())?,
            interrupt: listen_for(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
