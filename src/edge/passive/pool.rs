//! [`PortPool`]: which passive port is next, and how many one user may hold.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus_client::metrics::gauge::Gauge;
use rand::RngExt;
use tokio::time::Instant;

use crate::config::Passive;

/// A port that was used is not used again for this long while others are free: a client or a
/// firewall may still believe in the last connection, and so may a thief (S23).
const REST: Duration = Duration::from_secs(30);

/// The passive ports of one listener.
#[derive(Clone, Debug)]
pub struct PortPool {
    state: Arc<Mutex<State>>,
    /// Ports in the range; 0 when the system chooses.
    size: usize,
    per_holder: usize,
    /// Free ports, for the metrics; kept right by whoever takes or returns one.
    gauge: Gauge,
}

/// Who holds ports: the user, or the address while nobody has logged in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::edge) enum Holder {
    User(String),
    Address(IpAddr),
}

#[derive(Debug)]
struct State {
    /// Free, and long enough so.
    rested: Vec<u16>,
    /// Free since these moments, oldest first.
    resting: VecDeque<(Instant, u16)>,
    /// Ports that each holder has; no entry is 0, so the bound is that of the sessions.
    held: HashMap<Holder, usize>,
}

/// One port out of the pool; goes back when dropped.
#[derive(Debug)]
pub(super) struct Lease {
    /// 0 lets the system choose.
    pub(super) port: u16,
    pool: PortPool,
}

/// One of the ports that a holder may have; given back when dropped.
#[derive(Debug)]
pub(super) struct Claim {
    holder: Holder,
    pool: PortPool,
}

impl PortPool {
    /// The pool as configured; `gauge` shows its free ports from now on.
    pub fn new(passive: &Passive, gauge: Gauge) -> Self {
        let chosen_by_system = *passive.ports.end() == 0;
        let rested: Vec<u16> = if chosen_by_system {
            Vec::new()
        } else {
            passive.ports.clone().collect()
        };
        let pool = Self {
            size: rested.len(),
            per_holder: passive.ports_per_user,
            gauge,
            state: Arc::new(Mutex::new(State {
                rested,
                resting: VecDeque::new(),
                held: HashMap::new(),
            })),
        };
        pool.show(&pool.locked());
        pool
    }

    /// Ports that are free now; 0 when the system chooses.
    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.locked().free()
    }

    /// Counts one more port of `holder`; `None` if it has its share.
    pub(super) fn claim(&self, holder: Holder) -> Option<Claim> {
        let mut state = self.locked();
        let held = state.held.get(&holder).copied().unwrap_or(0);
        if held >= self.per_holder {
            return None;
        }
        state.held.insert(holder.clone(), held + 1);
        Some(Claim {
            holder,
            pool: self.clone(),
        })
    }

    /// An unpredictable free port (RFC 2577 §8).
    pub(super) fn take(&self) -> Option<Lease> {
        let port = if self.size == 0 {
            0
        } else {
            let mut state = self.locked();
            let port = state.take(Instant::now())?;
            self.show(&state);
            port
        };
        Some(Lease {
            port,
            pool: self.clone(),
        })
    }

    fn show(&self, state: &State) {
        let free = i64::try_from(state.free()).unwrap_or(i64::MAX);
        self.gauge.set(free);
    }

    /// Held for a few moves at a time; a panic meanwhile cannot leave the list half changed.
    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn free(&self) -> usize {
        self.rested.len() + self.resting.len()
    }

    fn put_back(&mut self, port: u16, now: Instant) {
        self.resting.push_back((now, port));
    }

    fn take(&mut self, now: Instant) -> Option<u16> {
        while let Some((since, port)) = self.resting.front().copied()
            && now.duration_since(since) >= REST
        {
            self.resting.pop_front();
            self.rested.push(port);
        }
        if !self.rested.is_empty() {
            let index = rand::rng().random_range(..self.rested.len());
            return Some(self.rested.swap_remove(index));
        }
        if self.resting.is_empty() {
            return None;
        }
        // Any of the older half: the oldest alone would be known to whoever saw it last.
        let index = rand::rng().random_range(..self.resting.len().div_ceil(2));
        self.resting.remove(index).map(|(_, port)| port)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.pool.size > 0 {
            let mut state = self.pool.locked();
            state.put_back(self.port, Instant::now());
            self.pool.show(&state);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut state = self.pool.locked();
        if let Some(held) = state.held.get_mut(&self.holder) {
            *held -= 1;
            if *held == 0 {
                state.held.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{collections::HashSet, ops::RangeInclusive};

    use super::*;
    use crate::config::{DataPeer, PublicAddress};

    pub(in super::super) fn pool(ports: RangeInclusive<u16>, ports_per_user: usize) -> PortPool {
        let passive = Passive {
            address: PublicAddress::Connection,
            ports,
            ports_per_user,
            data_peer: DataPeer::SameAddress,
        };
        PortPool::new(&passive, Gauge::default())
    }

    fn user(name: &str) -> Holder {
        Holder::User(name.to_owned())
    }

    #[test]
    fn one_user_gets_no_more_than_the_share_and_others_still_get_theirs() {
        let pool = pool(40_000..=40_009, 2);
        let first = pool.claim(user("a")).unwrap();
        let _second = pool.claim(user("a")).unwrap();
        assert!(pool.claim(user("a")).is_none());
        let _other = pool.claim(user("b")).unwrap();
        drop(first);
        assert!(pool.claim(user("a")).is_some());
    }

    fn state(ports: RangeInclusive<u16>) -> State {
        State {
            rested: ports.collect(),
            resting: VecDeque::new(),
            held: HashMap::new(),
        }
    }

    #[test]
    fn used_port_rests_while_others_are_free() {
        let now = Instant::now();
        let mut state = state(40_000..=40_009);
        let mut used = HashSet::new();
        for _ in 0..10 {
            let port = state.take(now).unwrap();
            assert!(used.insert(port), "{port} came back too early");
            state.put_back(port, now);
        }
        // Nothing has rested: one of those is better than none.
        let port = state.take(now).unwrap();
        state.put_back(port, now);
        for _ in 0..10 {
            state.take(now + REST).unwrap();
        }
        assert_eq!(state.take(now + REST), None);
    }

    #[test]
    fn ports_are_spread_over_the_range_and_not_in_order() {
        let mut now = Instant::now();
        let mut state = state(40_000..=40_099);
        let mut ports = Vec::new();
        for _ in 0..2_000 {
            let port = state.take(now).unwrap();
            state.put_back(port, now);
            ports.push(port);
            now += REST;
        }
        let mut counts = [0_u32; 100];
        for port in &ports {
            counts[usize::from(port - 40_000)] += 1;
        }
        // 20 expected each; 0 or 60 has a chance below 1e-6.
        assert!(
            counts.iter().all(|count| (1..60).contains(count)),
            "{counts:?}"
        );
        let successors = ports.windows(2).filter(|pair| pair[1] == pair[0] + 1);
        assert!(successors.count() < 100, "{ports:?}");
    }

    #[test]
    fn gauge_follows_ports_out_and_back() {
        let pool = pool(40_000..=40_003, 4);
        assert_eq!(pool.gauge.get(), 4);
        let lease = pool.take().unwrap();
        assert_eq!(pool.gauge.get(), 3);
        drop(lease);
        assert_eq!(pool.gauge.get(), 4);
    }
}
