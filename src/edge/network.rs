//! [`Network`]: what stands between one listener's clients and its sockets.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

use super::{
    passive::{Gate, PortPool, PublicAddresses},
    proxy::HeaderReader,
};
use crate::{
    config::{DataPeer, Listener},
    observe::metrics::{ListenerLabels, Metrics, PassiveRefusalLabels},
};

/// The network side of one listener: its passive ports, its public address, and the headers of the
/// balancer in front.
#[derive(Debug)]
pub struct Network {
    pub(super) ports: PortPool,
    pub(super) public: PublicAddresses,
    /// `None` where control connections have no PROXY header.
    pub(crate) control_header: Option<HeaderReader>,
    data_header: Option<Arc<HeaderReader>>,
    data_peer: DataPeer,
    strangers: Counter,
    listener: String,
    metrics: Arc<Metrics>,
}

/// `::ffff:a.b.c.d`, as a socket of both families has it, is the IPv4 address it carries.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => (ip, address.port()).into(),
        IpAddr::V6(_) => address,
    }
}

impl Network {
    /// The network side of `listener`, as configured.
    pub fn new(listener: &Listener, metrics: &Arc<Metrics>) -> Self {
        let labels = ListenerLabels {
            listener: listener.name.to_string(),
        };
        // Without a range there is nothing to run out of.
        let gauge = if *listener.passive.ports.end() == 0 {
            Gauge::default()
        } else {
            metrics.passive_ports_free.get_or_create(&labels).clone()
        };
        Self {
            ports: PortPool::new(&listener.passive, gauge),
            public: PublicAddresses::new(listener.passive.address.clone()),
            control_header: HeaderReader::new(listener, "control", metrics),
            data_header: HeaderReader::new(listener, "data", metrics).map(Arc::new),
            data_peer: listener.passive.data_peer,
            strangers: metrics.data_strangers.get_or_create(&labels).clone(),
            listener: labels.listener,
            metrics: Arc::clone(metrics),
        }
    }

    /// Looks up the public address, where it is a name. Failure is logged: the name may come later.
    pub async fn resolve(&self) {
        self.public.resolve().await;
    }

    /// Keeps the public address up to date; never returns.
    pub(crate) async fn keep_resolved(&self) {
        self.public.keep_resolved().await;
    }

    /// Whether data connections come from the balancer like control connections, and not directly.
    pub(super) fn data_is_proxied(&self) -> bool {
        self.data_header.is_some()
    }

    /// Who may connect to the passive port of a session with `peer`.
    pub(super) fn gate(&self, peer: IpAddr) -> Gate {
        Gate {
            peer,
            rule: self.data_peer,
            header: self.data_header.clone(),
            strangers: self.strangers.clone(),
        }
    }

    /// Counts a PASV or EPSV that was answered with 425.
    pub(super) fn count_refusal(&self, reason: &'static str) {
        let labels = PassiveRefusalLabels {
            listener: self.listener.clone(),
            reason,
        };
        self.metrics.passive_refusals.get_or_create(&labels).inc();
    }
}
