//! [`Admission`]: how many connections there may be, in all, per listener, address and network, how
//! fast they may come, and who is banned.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::rate::Rate;
use crate::{
    auth::bans::{Bans, Subject},
    config::Limits,
};

/// Counts connections and says who may come in.
#[derive(Debug)]
pub struct Admission {
    limit: usize,
    limit_per_address: usize,
    limit_per_network: usize,
    address_rate: Option<Rate<Subject>>,
    network_rate: Option<Rate<Subject>>,
    bans: Arc<Bans>,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_listener: HashMap<Arc<str>, usize>,
    /// Addresses and networks. Only those that are connected: two for each connection at most.
    by_origin: HashMap<Subject, usize>,
}

/// A connection's place; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    listener: Arc<str>,
    origins: [Subject; 2],
}

/// Why a connection was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The process is full.
    Full,
    /// The listener is full.
    ListenerFull,
    /// The address has its share.
    AddressFull,
    /// The network has its share.
    NetworkFull,
    /// The address comes too often.
    AddressRate,
    /// The network comes too often.
    NetworkRate,
    /// The address or its network is banned.
    Banned,
}

impl Refusal {
    /// Bounded label for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::ListenerFull => "listener_full",
            Self::AddressFull => "address_full",
            Self::NetworkFull => "network_full",
            Self::AddressRate => "address_rate",
            Self::NetworkRate => "network_rate",
            Self::Banned => "banned",
        }
    }

    /// The whole 421 reply (RFC 959 §5.4).
    pub(super) fn reply(self) -> &'static str {
        match self {
            Self::Full | Self::ListenerFull => "421 Too many connections, try again later\r\n",
            Self::AddressFull => "421 Too many connections from your address\r\n",
            Self::NetworkFull => "421 Too many connections from your network\r\n",
            Self::AddressRate | Self::NetworkRate => {
                "421 Connections come too fast from your side, try again in a minute\r\n"
            }
            Self::Banned => "421 Too many failed logins from your side, try again later\r\n",
        }
    }
}

impl Admission {
    /// Admits whom `limits` and `bans` let in.
    pub fn new(limits: &Limits, bans: Arc<Bans>) -> Arc<Self> {
        Arc::new(Self {
            limit: limits.connections,
            limit_per_address: limits.connections_per_address,
            limit_per_network: limits.connections_per_network,
            address_rate: limits.connections_per_minute_per_address.map(Rate::new),
            network_rate: limits.connections_per_minute_per_network.map(Rate::new),
            bans,
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
        if self.bans.of_peer(address).is_some() {
            return Err(Refusal::Banned);
        }
        let origins = [Subject::address(address), Subject::network_of(address)];
        let too_fast = |rate: &Option<Rate<Subject>>, origin| {
            rate.as_ref().is_some_and(|rate| !rate.allows(origin))
        };
        // Refused connections count too: who does not wait is not let in.
        if too_fast(&self.address_rate, &origins[0]) {
            return Err(Refusal::AddressRate);
        }
        if too_fast(&self.network_rate, &origins[1]) {
            return Err(Refusal::NetworkRate);
        }
        let mut counts = self.counts();
        let on_listener = counts.by_listener.get(listener).copied().unwrap_or(0);
        let from = origins.map(|origin| counts.by_origin.get(&origin).copied().unwrap_or(0));
        if counts.all >= self.limit {
            return Err(Refusal::Full);
        }
        if on_listener >= listener_limit {
            return Err(Refusal::ListenerFull);
        }
        if from[0] >= self.limit_per_address {
            return Err(Refusal::AddressFull);
        }
        if from[1] >= self.limit_per_network {
            return Err(Refusal::NetworkFull);
        }
        counts.all += 1;
        counts
            .by_listener
            .insert(Arc::clone(listener), on_listener + 1);
        for (origin, count) in origins.iter().zip(from) {
            counts.by_origin.insert(*origin, count + 1);
        }
        Ok(Permit {
            admission: Arc::clone(self),
            listener: Arc::clone(listener),
            origins,
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
        for origin in &self.origins {
            if let Some(count) = counts.by_origin.get_mut(origin) {
                *count -= 1;
                if *count == 0 {
                    counts.by_origin.remove(origin);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, time::Duration};

    use super::*;
    use crate::{config, observe::metrics::Metrics};

    fn admission(limits: &Limits) -> Arc<Admission> {
        let bans = Bans::open(config::Bans::default(), Metrics::new());
        Admission::new(limits, Arc::new(bans))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn places_are_bounded_and_come_back() {
        let admission = admission(&Limits {
            connections: 3,
            connections_per_address: 2,
            ..Limits::default()
        });
        let listener: Arc<str> = "ftp".into();
        let (one, two) = (ip("127.0.0.1"), ip("127.0.0.2"));
        let admit = |address| admission.admit(&listener, 3, address);
        let first = admit(one).unwrap();
        let _second = admit(one).unwrap();
        assert_eq!(admit(one).unwrap_err(), Refusal::AddressFull);
        let _third = admit(two).unwrap();
        assert_eq!(admit(two).unwrap_err(), Refusal::Full);
        drop(first);
        let again = admit(ip("::ffff:127.0.0.1")).unwrap();
        assert_eq!(admit(one).unwrap_err(), Refusal::Full);
        drop(again);
        assert_eq!(
            admission.admit(&listener, 2, one).unwrap_err(),
            Refusal::ListenerFull
        );
    }

    #[test]
    fn a_network_has_its_share_whatever_its_addresses() {
        let admission = admission(&Limits {
            connections_per_network: 2,
            ..Limits::default()
        });
        let listener: Arc<str> = "ftp".into();
        let admit = |address| admission.admit(&listener, 500, ip(address));
        for [one, two, three, other] in [
            ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.3.1"],
            [
                "2001:db8::1",
                "2001:db8::2",
                "2001:db8::3",
                "2001:db8:0:1::1",
            ],
        ] {
            let _places = (admit(one).unwrap(), admit(two).unwrap());
            assert_eq!(admit(three).unwrap_err(), Refusal::NetworkFull);
            admit(other).unwrap();
        }
        // All of them are given back.
        admit("192.0.2.1").unwrap();
        assert!(admission.counts().by_origin.is_empty());
    }

    #[test]
    fn too_fast_and_banned_are_refused_before_a_place_is_taken() {
        let three = NonZeroU32::new(3);
        let admission = admission(&Limits {
            connections_per_minute_per_address: three,
            connections_per_minute_per_network: NonZeroU32::new(5),
            ..Limits::default()
        });
        let listener: Arc<str> = "ftp".into();
        let admit = |address| admission.admit(&listener, 500, ip(address));
        for _ in 0..3 {
            admit("192.0.2.1").unwrap();
        }
        assert_eq!(admit("192.0.2.1").unwrap_err(), Refusal::AddressRate);
        admit("192.0.2.2").unwrap();
        admit("192.0.2.3").unwrap();
        assert_eq!(admit("192.0.2.4").unwrap_err(), Refusal::NetworkRate);
        let banned = Subject::address(ip("198.51.100.1"));
        admission.bans.add(banned, None, Duration::from_mins(1));
        assert_eq!(admit("198.51.100.1").unwrap_err(), Refusal::Banned);
        assert!(admission.counts().by_origin.is_empty());
    }
}
