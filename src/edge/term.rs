//! [`Term`]: until when a session may go on: its account's `expires` and `hours`.
//!
//! Looked at before each command, by the clock on the wall, and waited for while there is none. A
//! transfer that runs at that moment may end, within the time that a drain would give it.

use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep_until};

use super::reply::Reply;
use crate::access::Conditions;

/// Further ahead no timer is set: what comes then is seen at a command.
const HORIZON: Duration = Duration::from_hours(24 * 365);

/// The end of an account's time, as it was seen at the login.
#[derive(Clone, Copy, Debug)]
pub(super) struct Term {
    moment: SystemTime,
    /// The same by the clock of timers; `None` beyond the horizon.
    timer: Option<Instant>,
    /// How long a running transfer may overstay.
    grace: Duration,
}

impl Term {
    /// Of an account that has logged in `now`; `None` if nothing ends it.
    pub(super) fn of(conditions: &Conditions, now: SystemTime, grace: Duration) -> Option<Self> {
        let moment = conditions.end(now)?;
        // A moment that has passed since the conditions were looked at ends it at once.
        let left = moment.duration_since(now).unwrap_or_default();
        Some(Self {
            moment,
            timer: (left < HORIZON).then(|| Instant::now() + left),
            grace,
        })
    }

    /// Whether it has come.
    pub(super) fn is_over(&self, now: SystemTime) -> bool {
        now >= self.moment
    }

    /// When to look.
    pub(super) fn timer(&self) -> Option<Instant> {
        self.timer
    }

    /// Completes when a transfer must end; never without a term.
    pub(super) async fn overstayed(term: Option<Self>) {
        let timer = term.and_then(|term| Some(term.timer? + term.grace));
        match timer {
            Some(timer) => sleep_until(timer).await,
            None => std::future::pending().await,
        }
    }
}

/// What a client is told whose account's time is over.
pub(super) fn over() -> Reply {
    tracing::info!("session ended, its account's time is over");
    Reply::new(421, FAREWELL)
}

/// The text of that 421.
pub(super) const FAREWELL: &str = "This account's time is over for now";
