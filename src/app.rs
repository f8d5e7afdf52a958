//! STUB of the composition root, so that `cli` compiles and runs here; discarded at the merge.

use std::{net::SocketAddr, sync::Arc};

use crate::config::Config;

/// Stub.
#[derive(Debug)]
pub struct App {
    addresses: Vec<(Arc<str>, SocketAddr)>,
    _sockets: Vec<tokio::net::TcpListener>,
}

impl App {
    /// Stub: only binds.
    pub async fn bind(config: Config) -> anyhow::Result<Self> {
        crate::auth::Users::load(&config.users_file)?;
        let (mut addresses, mut sockets) = (Vec::new(), Vec::new());
        let listeners = config
            .listeners
            .iter()
            .map(|l| (Arc::clone(&l.name), l.address));
        for (name, address) in listeners.chain(config.admin.map(|a| ("admin".into(), a))) {
            let socket = tokio::net::TcpListener::bind(address).await?;
            addresses.push((name, socket.local_addr()?));
            sockets.push(socket);
        }
        Ok(Self {
            addresses,
            _sockets: sockets,
        })
    }

    /// Stub.
    pub fn addresses(&self) -> &[(Arc<str>, SocketAddr)] {
        &self.addresses
    }

    /// Stub.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) -> anyhow::Result<()> {
        stop.await;
        Ok(())
    }
}
