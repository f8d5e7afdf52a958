//! [`History`]: the last quarter of an hour in samples, for the plots of the status page.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::edge::{Quantiles, Registry};

/// Between two samples.
pub(super) const PERIOD: Duration = Duration::from_secs(2);
/// Samples kept: fifteen minutes.
pub(super) const KEPT: usize = 450;

/// Samples, the oldest first.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    samples: VecDeque<Sample>,
    last: Option<Last>,
}

/// What the counters stood at.
#[derive(Debug)]
struct Last {
    at: Instant,
    uploaded: u64,
    downloaded: u64,
    replies: Vec<u64>,
}

/// A few seconds of the server's life.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    /// Bytes a second from clients.
    pub(super) upload_rate: f64,
    /// Bytes a second to clients, listings included.
    pub(super) download_rate: f64,
    /// Seconds to the reply of commands that move no bytes; `None` if there was none.
    pub(super) reply: Option<Quantiles>,
}

impl History {
    /// Every sample.
    pub(super) fn samples(&self) -> Vec<Sample> {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.samples.iter().copied().collect()
    }

    /// Takes a sample.
    pub(super) fn take(&self, registry: &Registry, now: Instant) {
        let moved = registry.moved();
        let next = Last {
            at: now,
            uploaded: moved.uploaded,
            downloaded: moved.downloaded,
            replies: registry.replies().counts(),
        };
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = ring.last.replace(next) {
            let seconds = now.saturating_duration_since(last.at).as_secs_f64();
            // Counted while transfers end, the sum can step back by one of them: then nothing moved.
            #[allow(clippy::cast_precision_loss, reason = "a number for a plot")]
            let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds.max(0.1);
            let sample = Sample {
                upload_rate: rate(moved.uploaded, last.uploaded),
                download_rate: rate(moved.downloaded, last.downloaded),
                reply: registry.replies().since(&last.replies),
            };
            ring.samples.push_back(sample);
            if ring.samples.len() > KEPT {
                ring.samples.pop_front();
            }
        }
    }
}
