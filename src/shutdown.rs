//! [`Drain`]: how a running server stops.
//!
//! Four moments: at `begin` readiness goes; at `close` nobody new gets in and silent sessions end; at
//! `settle` every session ends with its next command; at `expire`, the drain deadline, running
//! transfers are aborted. Each includes those before it. Every task of a connection runs on
//! [`Drain::sessions`] or [`Drain::tasks`], so that the process ends only when the last one has
//! cleaned up.

use tokio::signal::unix::{Signal, SignalKind, signal as listen_for};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Shared by everything that must end before the process does.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    begun: CancellationToken,
    closed: CancellationToken,
    settled: CancellationToken,
    expired: CancellationToken,
    sessions: TaskTracker,
    tasks: TaskTracker,
}

impl Drain {
    /// Tells balancers that the server goes; everybody is served as before.
    pub fn begin(&self) {
        self.begun.cancel();
    }

    /// Stops admission and ends sessions that say nothing any more.
    pub fn close(&self) {
        self.begin();
        self.closed.cancel();
    }

    /// Ends sessions at their next command.
    pub fn settle(&self) {
        self.close();
        self.settled.cancel();
    }

    /// Aborts what still runs.
    pub fn expire(&self) {
        self.settle();
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

    /// Whether the listeners are closed.
    pub fn has_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Completes when the listeners close.
    pub async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Whether nobody logs in any more.
    pub fn has_settled(&self) -> bool {
        self.settled.is_cancelled()
    }

    /// Completes when nobody logs in any more.
    pub async fn settled(&self) {
        self.settled.cancelled().await;
    }

    /// Completes when the drain deadline has passed.
    pub async fn expired(&self) {
        self.expired.cancelled().await;
    }

    /// Completes when no task is left.
    pub async fn gone(&self) {
        self.sessions.close();
        self.sessions.wait().await;
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Where connections of clients are served.
    pub fn sessions(&self) -> &TaskTracker {
        &self.sessions
    }

    /// Where every other task runs that serves one or all of them.
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
