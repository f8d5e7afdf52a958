//! Data connections and load balancers, as an operator describes them.

use std::{net::Ipv4Addr, ops::RangeInclusive, path::PathBuf, time::Duration};

use ipnet::IpNet;

/// Where data connections arrive, and from whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passive {
    /// Address in the 227 reply.
    pub address: PublicAddress,
    /// Ports to listen on; `0..=0` lets the system choose.
    pub ports: RangeInclusive<u16>,
    /// Ports that one user (before login: one address) may have open at once; default a quarter of
    /// the range, at least one.
    pub ports_per_user: usize,
    /// Who may connect.
    pub data_peer: DataPeer,
}

/// Where the address in the 227 reply comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicAddress {
    /// The address of our side of the control connection (default).
    Connection,
    /// Always this one.
    Fixed(Ipv4Addr),
    /// What this name resolves to, looked up again and again.
    Dns(String),
    /// The first network that holds the client decides; clients of none get the connection's.
    ByClient(Vec<(IpNet, Ipv4Addr)>),
    /// What the Kubernetes API says of a Service, asked again and again.
    Service(KubernetesService),
    /// The destination in the PROXY header: what the client itself connected to.
    FromProxy,
}

/// A Kubernetes Service that carries the passive ports, and how to ask for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesService {
    /// Its name.
    pub name: String,
    /// Its namespace; default: the one of this pod.
    pub namespace: Option<String>,
    /// The annotation that holds the address or host name; default: the first address or host name
    /// in the load balancer's status.
    pub annotation: Option<String>,
    /// URL of the API server; default `https://kubernetes.default.svc`.
    pub api: String,
    /// Where `token`, `ca.crt` and `namespace` of the service account lie; default: where Kubernetes
    /// puts them.
    pub account_directory: PathBuf,
}

/// Whose data connection is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataPeer {
    /// Only the address of the control connection (default).
    SameAddress,
    /// The same /24 (IPv4) or /64 (IPv6): networks that share several addresses among clients.
    SameSubnet,
    /// Anybody who knows the port.
    Any,
}

/// Headers that a load balancer puts in front of its connections (`HAProxy`'s PROXY protocol, v1, v2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// On control connections.
    pub control: ProxyHeader,
    /// On data connections.
    pub data: ProxyHeader,
    /// Who may send headers; not empty where one is required.
    pub trusted_networks: Vec<IpNet>,
    /// From accept to the whole header; default 5 s.
    pub header: Duration,
}

/// Whether connections begin with a PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// They begin with FTP or TLS (default).
    Off,
    /// Each one does; one without, or from elsewhere, is closed.
    Required,
}

impl Default for ProxyProtocol {
    fn default() -> Self {
        Self {
            control: ProxyHeader::Off,
            data: ProxyHeader::Off,
            trusted_networks: Vec::new(),
            header: Duration::from_secs(5),
        }
    }
}
