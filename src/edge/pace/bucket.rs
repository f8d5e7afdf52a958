//! [`Bucket`]: a rate that any number of connections share.
//!
//! Who wants to move bytes reserves them and learns when they may go; the next one's turn is behind.
//! Everybody reserves the same small amount at a time and has one reservation at most, so that those
//! who wait take turns and get the same share, whatever their number of bytes or speed.

use std::{
    num::NonZeroU64,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::config::Rates;

/// What was not used up to so long ago may be made up for: timers are late by a millisecond, and the
/// machine may be busy. It is also how much a connection may send before it is held back.
const CREDIT: Duration = Duration::from_millis(100);
/// A reservation is this part of a second's bytes.
const TURNS_PER_SECOND: u64 = 20;
/// Bytes of a reservation: less is all overhead, more than a few TLS records holds up others.
const LEAST_TURN: u64 = 512;
const LARGEST_TURN: u64 = 64 << 10;

/// A rate in bytes a second.
#[derive(Debug)]
pub(in crate::edge) struct Bucket {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rate: NonZeroU64,
    /// When everything reserved so far will have gone.
    free: Instant,
}

/// The buckets of one scope, each way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buckets {
    pub(in crate::edge) upload: Option<Arc<Bucket>>,
    pub(in crate::edge) download: Option<Arc<Bucket>>,
}

impl Buckets {
    /// Of these rates.
    pub(crate) fn new(rates: Rates) -> Self {
        let bucket = |rate: Option<NonZeroU64>| rate.map(|rate| Arc::new(Bucket::new(rate)));
        Self {
            upload: bucket(rates.upload),
            download: bucket(rates.download),
        }
    }
}

impl Bucket {
    pub(in crate::edge) fn new(rate: NonZeroU64) -> Self {
        Self {
            state: Mutex::new(State {
                rate,
                free: Instant::now(),
            }),
        }
    }

    /// Bytes to reserve at a time.
    pub(super) fn turn(&self) -> u64 {
        let rate = self.state().rate.get();
        (rate / TURNS_PER_SECOND).clamp(LEAST_TURN, LARGEST_TURN)
    }

    /// Reserves `bytes`; gives the moment at which they may go.
    pub(super) fn reserve(&self, bytes: u64, now: Instant) -> Instant {
        let mut state = self.state();
        let earliest = now.checked_sub(CREDIT).unwrap_or(now);
        let start = state.free.max(earliest);
        state.free = start + duration(bytes, state.rate);
        start
    }

    /// Gives back what was reserved and not used.
    pub(super) fn give_back(&self, bytes: u64) {
        let mut state = self.state();
        let back = duration(bytes, state.rate);
        state.free = state.free.checked_sub(back).unwrap_or(state.free);
    }

    /// Held for a few moves at a time.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long `bytes` take.
fn duration(bytes: u64, rate: NonZeroU64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.get());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_take_turns_at_the_rate() {
        let bucket = Bucket::new(NonZeroU64::new(10_000).unwrap());
        assert_eq!(bucket.turn(), LEAST_TURN);
        let now = Instant::now();
        let begin = bucket.reserve(1000, now);
        for turn in 1..=20_u32 {
            let at = bucket.reserve(1000, now);
            assert_eq!(at - begin, Duration::from_millis(100) * turn);
        }
        bucket.give_back(1000);
        assert_eq!(bucket.reserve(1000, now) - begin, Duration::from_secs(2));
    }

    #[test]
    fn what_was_not_used_is_not_saved_up() {
        let bucket = Bucket::new(NonZeroU64::new(1_000_000).unwrap());
        let now = Instant::now() + Duration::from_mins(1);
        bucket.reserve(1_000_000, now);
        assert_eq!(
            bucket.reserve(1, now),
            now + Duration::from_secs(1) - CREDIT
        );
    }
}
