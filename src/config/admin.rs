//! The operator's HTTP side, as values.

use std::net::SocketAddr;

use super::{Secret, Tls};

/// Where the operator's side listens, and who may use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where to accept; port 0 takes a free one.
    pub address: SocketAddr,
    /// What a request must carry; `None` only on a loopback address.
    pub token: Option<Secret>,
    /// `None`: plain HTTP.
    pub tls: Option<Tls>,
    /// Whether `/metrics` asks for the token.
    pub metrics: MetricsAccess,
}

/// Whether `/metrics` asks for the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsAccess {
    /// As everything else does (default).
    Token,
    /// Whoever reaches the address may read them: they name no user and no file.
    Open,
}
