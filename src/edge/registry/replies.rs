//! [`Replies`]: how long clients wait for the replies to commands that move no bytes.
//!
//! Counters in steps of a factor 1.5, from a tenth of a millisecond to twelve minutes: cheap to update
//! from every session at once, and two looks at them give the quantiles of the time between.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

const STEPS: usize = 40;
const FIRST_SECONDS: f64 = 0.0001;
const FACTOR: f64 = 1.5;

/// Counters by duration.
#[derive(Debug)]
pub struct Replies([AtomicU64; STEPS]);

/// Of the replies between two looks, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantiles {
    /// Half of them were faster.
    pub median: f64,
    /// Nineteen of twenty were faster.
    pub p95: f64,
}

impl Default for Replies {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Replies {
    pub(in crate::edge) fn note(&self, duration: Duration) {
        let mut bound = FIRST_SECONDS;
        let mut step = 0;
        while duration.as_secs_f64() > bound && step < STEPS - 1 {
            bound *= FACTOR;
            step += 1;
        }
        self.0[step].fetch_add(1, Ordering::Relaxed);
    }

    /// What the counters stand at, for [`Self::since`].
    pub fn counts(&self) -> Vec<u64> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        counts.collect()
    }

    /// The quantiles since the counters stood at `before`; `None` if nothing was answered.
    pub fn since(&self, before: &[u64]) -> Option<Quantiles> {
        let counts: Vec<u64> = self
            .counts()
            .iter()
            .zip(before)
            .map(|(now, before)| now.saturating_sub(*before))
            .collect();
        let total: u64 = counts.iter().sum();
        (total > 0).then(|| Quantiles {
            median: quantile(&counts, total.div_ceil(2)),
            p95: quantile(&counts, (total * 19).div_ceil(20)),
        })
    }
}

/// The upper bound of the step that holds the `rank`-th.
fn quantile(counts: &[u64], rank: u64) -> f64 {
    let (mut seen, mut bound) = (0, FIRST_SECONDS);
    for count in counts {
        seen += count;
        if seen >= rank {
            break;
        }
        bound *= FACTOR;
    }
    bound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_came_between_two_looks() {
        let replies = Replies::default();
        replies.note(Duration::from_secs(100));
        let before = replies.counts();
        assert_eq!(replies.since(&before), None);
        for _ in 0..90 {
            replies.note(Duration::from_millis(1));
        }
        for _ in 0..10 {
            replies.note(Duration::from_millis(500));
        }
        let Quantiles { median, p95 } = replies.since(&before).unwrap();
        assert!((0.001..0.0016).contains(&median), "{median}");
        assert!((0.5..0.8).contains(&p95), "{p95}");
        replies.note(Duration::from_hours(10));
        assert_eq!(
            replies.counts()[STEPS - 1],
            1,
            "the last step takes the rest"
        );
    }
}
