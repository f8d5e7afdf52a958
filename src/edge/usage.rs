//! [`Usage`]: what every user has in use: sessions, transfers, bandwidth.
//!
//! Owns the counts; bounds come as arguments, since they may be the user's own. The table holds
//! users with a session only: its bound is the number of connections.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::pace::Buckets;
use crate::config::Rates;

/// Shared by all sessions.
#[derive(Debug, Default)]
pub struct Usage {
    users: Mutex<HashMap<String, InUse>>,
}

#[derive(Debug)]
struct InUse {
    sessions: usize,
    transfers: usize,
    buckets: Buckets,
    rates: Rates,
}

/// A session of a user; given back when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    usage: Arc<Usage>,
    user: String,
}

/// A transfer of a user; given back when dropped.
#[derive(Debug)]
pub(super) struct TransferSeat {
    usage: Arc<Usage>,
    user: String,
}

impl Usage {
    /// Takes a session for `user`; `None` if it has `most` already. All sessions of a user share
    /// `rates`; the last login's count where they differ.
    pub(super) fn sit(
        self: &Arc<Self>,
        user: &str,
        most: Option<usize>,
        rates: Rates,
    ) -> Option<(Seat, Buckets)> {
        let mut users = self.users();
        let sessions = users.get(user).map_or(0, |in_use| in_use.sessions);
        if most.is_some_and(|most| sessions >= most) {
            return None;
        }
        let in_use = users.entry(user.to_owned()).or_insert_with(|| InUse {
            sessions: 0,
            transfers: 0,
            buckets: Buckets::new(rates),
            rates,
        });
        in_use.sessions += 1;
        if in_use.rates != rates {
            in_use.buckets = Buckets::new(rates);
            in_use.rates = rates;
        }
        let seat = Seat {
            usage: Arc::clone(self),
            user: user.to_owned(),
        };
        Some((seat, in_use.buckets.clone()))
    }

    /// Held for a few moves at a time.
    fn users(&self) -> MutexGuard<'_, HashMap<String, InUse>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Takes a transfer; `None` if the user has `most` already.
    pub(super) fn transfer(&self, most: Option<usize>) -> Option<TransferSeat> {
        let mut users = self.usage.users();
        let in_use = users.get_mut(&self.user)?;
        if most.is_some_and(|most| in_use.transfers >= most) {
            return None;
        }
        in_use.transfers += 1;
        Some(TransferSeat {
            usage: Arc::clone(&self.usage),
            user: self.user.clone(),
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut users = self.usage.users();
        if let Some(in_use) = users.get_mut(&self.user) {
            in_use.sessions -= 1;
            // A transfer ends before its session.
            if in_use.sessions == 0 {
                users.remove(&self.user);
            }
        }
    }
}

impl Drop for TransferSeat {
    fn drop(&mut self) {
        if let Some(in_use) = self.usage.users().get_mut(&self.user) {
            in_use.transfers = in_use.transfers.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_and_transfers_are_bounded_by_user_and_come_back() {
        let usage = Arc::new(Usage::default());
        let (one, two) = (Some(1), Some(2));
        let sit = |user| usage.sit(user, two, Rates::default());
        let (first, _) = sit("alice").unwrap();
        let (second, _) = sit("alice").unwrap();
        assert!(sit("alice").is_none());
        assert!(sit("bob").is_some());
        let transfer = first.transfer(one).unwrap();
        assert!(second.transfer(one).is_none());
        drop(transfer);
        assert!(second.transfer(one).is_some());
        drop((first, second));
        assert!(usage.users().is_empty());
    }
}
