//! [`Admission`]: how many connections there may be, in all, per listener and per address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Counts connections and says who may come in.
#[derive(Debug)]
pub struct Admission {
    limit: usize,
    limit_per_address: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_listener: HashMap<Arc<str>, usize>,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection's place; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    listener: Arc<str>,
    address: IpAddr,
}

/// Why a connection was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The process or the listener is full.
    Full,
    /// The address has its share.
    AddressFull,
}

impl Refusal {
    /// Bounded label for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::AddressFull => "address_full",
        }
    }
}

impl Admission {
    /// Admits up to `limit` connections, `limit_per_address` of them from one address.
    pub fn new(limit: usize, limit_per_address: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            limit_per_address,
            counts: Mutex::default(),
        })
    }

    /// Takes a place for a connection from `address` on `listener`, which may have `listener_limit`.
    pub fn admit(
        self: &Arc<Self>,
        listener: &Arc<str>,
        listener_limit: usize,
        address: IpAddr,
    ) -> Result<Permit, Refusal> {
        let address = address.to_canonical();
        let mut counts = self.counts();
        let on_listener = counts.by_listener.get(listener).copied().unwrap_or(0);
        if counts.all >= self.limit || on_listener >= listener_limit {
            return Err(Refusal::Full);
        }
        let from_address = counts.by_address.get(&address).copied().unwrap_or(0);
        if from_address >= self.limit_per_address {
            return Err(Refusal::AddressFull);
        }
        counts.all += 1;
        counts
            .by_listener
            .insert(Arc::clone(listener), on_listener + 1);
        counts.by_address.insert(address, from_address + 1);
        Ok(Permit {
            admission: Arc::clone(self),
            listener: Arc::clone(listener),
            address,
        })
    }

    /// Held for a few moves at a time; a panic meanwhile leaves counts that are off by one at most.
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.admission.counts();
        counts.all -= 1;
        if let Some(count) = counts.by_listener.get_mut(&self.listener) {
            *count -= 1;
        }
        // The table holds only addresses that are connected: its bound is the connection limit.
        if let Some(count) = counts.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_come_back() {
        let admission = Admission::new(3, 2);
        let listener: Arc<str> = "ftp".into();
        let (one, two) = ("127.0.0.1".parse().unwrap(), "127.0.0.2".parse().unwrap());
        let admit = |address| admission.admit(&listener, 3, address);
        let first = admit(one).unwrap();
        let _second = admit(one).unwrap();
        assert_eq!(admit(one).unwrap_err(), Refusal::AddressFull);
        let _third = admit(two).unwrap();
        assert_eq!(admit(two).unwrap_err(), Refusal::Full);
        drop(first);
        let mapped = "::ffff:127.0.0.1".parse().unwrap();
        let again = admit(mapped).unwrap();
        assert_eq!(admit(one).unwrap_err(), Refusal::Full);
        drop(again);
        assert_eq!(
            admission.admit(&listener, 2, one).unwrap_err(),
            Refusal::Full
        );
    }
}
