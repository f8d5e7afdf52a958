//! [`Budget`]: how many retries there may be in all.
//!
//! Three tries for each login would make a service that is slow under its load three times as slow.
//! So retries are a part of the requests, whatever each attempt may want.

use std::sync::{Mutex, PoisonError};

/// What a request earns: one retry for five requests.
const EARNED: u32 = 20;
/// What a retry costs.
const COST: u32 = 100;
/// What can be saved up: ten retries, which an idle server has for its first troubles.
const SAVED: u32 = 1000;

/// A purse for retries.
#[derive(Debug)]
pub(super) struct Budget(Mutex<u32>);

impl Default for Budget {
    fn default() -> Self {
        Self(Mutex::new(SAVED))
    }
}

impl Budget {
    /// For a request.
    pub(super) fn earn(&self) {
        let mut saved = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *saved = (*saved + EARNED).min(SAVED);
    }

    /// For a retry; `false` if there is to be none.
    pub(super) fn spend(&self) -> bool {
        let mut saved = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match saved.checked_sub(COST) {
            Some(rest) => {
                *saved = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_fifth_of_the_requests_in_the_long_run() {
        let budget = Budget::default();
        let retries = (0..1000)
            .map(|_| {
                budget.earn();
                (0..2).filter(|_| budget.spend()).count()
            })
            .sum::<usize>();
        assert!((200..=211).contains(&retries), "{retries}");
    }
}
