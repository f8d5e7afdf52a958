//! [`Rate`]: new connections a minute by key, in a bounded table.

use std::{
    hash::Hash,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

/// Keys that are remembered at once. Only those that came within the last minute are needed.
const KEYS: usize = 1 << 16;

/// Lets each key through so often a minute, as many of them at once.
pub(super) struct Rate<K: Hash + Eq + Clone> {
    quota: Quota,
    keys: usize,
    limiter: Mutex<Arc<DefaultKeyedRateLimiter<K>>>,
}

impl<K: Hash + Eq + Clone> Rate<K> {
    /// `per_minute` for each key.
    pub(super) fn new(per_minute: NonZeroU32) -> Self {
        Self::with_capacity(per_minute, KEYS)
    }

    fn with_capacity(per_minute: NonZeroU32, keys: usize) -> Self {
        let quota = Quota::per_minute(per_minute);
        Self {
            quota,
            keys,
            limiter: Mutex::new(Arc::new(RateLimiter::keyed(quota))),
        }
    }

    /// Whether `key` may come once more.
    ///
    /// When the table is full of keys that all came within the last minute it is begun anew: to
    /// refuse everybody whom it does not know would let a flood of addresses shut the door.
    pub(super) fn allows(&self, key: &K) -> bool {
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        if limiter.len() >= self.keys {
            limiter.retain_recent();
            if limiter.len() >= self.keys {
                tracing::warn!(
                    keys = self.keys,
                    "too many addresses within a minute: connection rates are counted anew"
                );
                *limiter = Arc::new(RateLimiter::keyed(self.quota));
            }
        }
        limiter.check_key(key).is_ok()
    }
}

impl<K: Hash + Eq + Clone> std::fmt::Debug for Rate<K> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Rate").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_share_and_the_table_its_bound() {
        let rate = Rate::with_capacity(NonZeroU32::new(3).unwrap(), 100);
        for key in [0, 1] {
            let allowed = (0..10).filter(|_| rate.allows(&key)).count();
            assert_eq!(allowed, 3, "{key}");
        }
        for key in 2..1000 {
            assert!(rate.allows(&key));
            assert!(rate.limiter.lock().unwrap().len() <= 100);
        }
    }
}
