//! [`Inherited`]: sockets that systemd has bound (socket activation), by their address.

use std::{io, net::SocketAddr};

use listenfd::ListenFd;
use tokio::net::TcpListener;

/// Sockets handed over in `LISTEN_FDS`, until a listener takes them.
#[derive(Debug, Default)]
pub struct Inherited(Vec<(SocketAddr, std::net::TcpListener)>);

impl Inherited {
    /// Takes over what this process was started with; nothing if it was started without.
    ///
    /// # Errors
    /// A descriptor that is no listening TCP socket.
    pub fn from_environment() -> io::Result<Self> {
        let mut handed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..handed.len() {
            if let Some(socket) = handed.take_tcp_listener(index)? {
                socket.set_nonblocking(true)?;
                sockets.push((socket.local_addr()?, socket));
            }
        }
        Ok(Self(sockets))
    }

    /// The socket bound to this address, if there is one.
    pub fn take(&mut self, address: SocketAddr) -> Option<io::Result<TcpListener>> {
        let index = self.0.iter().position(|(bound, _)| *bound == address)?;
        let (_, socket) = self.0.swap_remove(index);
        Some(TcpListener::from_std(socket))
    }

    /// Addresses that nobody took.
    pub fn left(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.iter().map(|(address, _)| *address)
    }
}
