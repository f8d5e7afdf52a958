//! The course of a drain, from SIGTERM to the last session.
//!
//! Readiness is off from the beginning. After `timeouts.drain_delay_seconds` the listeners close; who is
//! silent gets 421 from then on, who has just come may still begin a transfer. After
//! `timeouts.drain_grace_seconds` more everybody gets 421 for the next command. What still runs
//! `timeouts.drain_seconds` after the listeners closed is left to the caller to abort.

use std::time::Duration;

use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::next;
use crate::{admin::DrainOrder, config::Timeouts, shutdown::Drain};

/// How long everything may take.
#[derive(Debug)]
pub(super) struct Course {
    delay: Duration,
    grace: Duration,
    /// Where nothing else is said.
    patience: Duration,
    deadline: Duration,
}

impl Course {
    /// As configured; an order may have a deadline of its own, which bounds the rest too.
    pub(super) fn new(timeouts: &Timeouts, order: &DrainOrder) -> Self {
        let patience = timeouts.drain;
        let deadline = order.deadline.unwrap_or(patience);
        Self {
            delay: timeouts.drain_delay.min(deadline),
            grace: timeouts.drain_grace,
            patience,
            deadline,
        }
    }

    /// Waits for the last task; `false` when the deadline or `hurry` came first. `doors` are the
    /// listeners.
    pub(super) async fn run(
        self,
        drain: &Drain,
        doors: JoinSet<()>,
        orders: &mut mpsc::Receiver<DrainOrder>,
        hurry: impl Future<Output = ()>,
    ) -> bool {
        tokio::pin!(hurry);
        let delay_seconds = self.delay.as_secs();
        tracing::info!(
            delay_seconds,
            deadline_seconds = self.deadline.as_secs(),
            "draining"
        );
        let mut deadline = self.deadline;
        tokio::select! {
            () = sleep_until(Instant::now() + self.delay) => {}
            () = &mut hurry => return false,
            // Whoever gives one does not want to wait for balancers.
            order = next(orders) => deadline = self.anew(&order),
        }
        drain.close();
        // Each has only to take what the kernel has taken before.
        doors.join_all().await;
        let closed = Instant::now();
        let mut end = closed + deadline;
        let gone = drain.gone();
        let sessions = async {
            drain.sessions().close();
            drain.sessions().wait().await;
        };
        tokio::pin!(gone, sessions);
        loop {
            tokio::select! {
                () = &mut gone => {
                    drain.settle();
                    return true;
                }
                // What serves logins ends when there is nobody left to log in.
                () = &mut sessions, if !drain.has_settled() => drain.settle(),
                () = sleep_until(closed + self.grace), if !drain.has_settled() => drain.settle(),
                () = sleep_until(end) => return false,
                () = &mut hurry => return false,
                order = next(orders) => end = Instant::now() + self.anew(&order),
            }
        }
    }

    fn anew(&self, order: &DrainOrder) -> Duration {
        let deadline = order.deadline.unwrap_or(self.patience);
        let deadline_seconds = deadline.as_secs();
        tracing::info!(deadline_seconds, "drain deadline set anew");
        deadline
    }
}
