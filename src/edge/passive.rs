//! Passive ports: where a session's next data connection arrives.
//!
//! Owns the port pool of a listener and, per PASV or EPSV, one listening socket that takes exactly
//! one connection from the right peer. A wrong peer is closed and does not use the port up
//! (CVE-1999-0351, CONFORMANCE E15). Always passive: PORT and EPRT do not exist here.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::RngExt;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// The one right peer, and a few strangers, may wait to be accepted.
const BACKLOG: i32 = 16;
/// Ports tried before giving up: others on this machine may hold some of our range.
const BIND_ATTEMPTS: usize = 16;

/// The passive ports of one listener.
#[derive(Clone, Debug)]
pub struct PortPool {
    /// `None` when the system chooses.
    free: Option<Arc<Mutex<Vec<u16>>>>,
    size: usize,
}

/// One port out of the pool; goes back when dropped.
#[derive(Debug)]
struct Lease {
    port: u16,
    pool: PortPool,
}

/// A listening passive port. Dropping it closes the port.
#[derive(Debug)]
pub(super) struct PassivePort {
    address: SocketAddr,
    arrival: AbortOnDropHandle<io::Result<TcpStream>>,
}

/// Why there is no data connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum PassiveError {
    /// Every port of the range is in use.
    #[error("no passive port is free")]
    Exhausted,
    /// The socket could not be opened.
    #[error("passive socket: {0}")]
    Io(#[from] io::Error),
    /// Nobody connected in time.
    #[error("no data connection within {} s", .0.as_secs())]
    Timeout(Duration),
}

impl PortPool {
    /// A pool of `ports`; `0..=0` lets the system choose each.
    pub fn new(ports: &RangeInclusive<u16>) -> Self {
        if *ports.end() == 0 {
            return Self {
                free: None,
                size: 0,
            };
        }
        let free: Vec<u16> = ports.clone().collect();
        let size = free.len();
        Self {
            free: Some(Arc::new(Mutex::new(free))),
            size,
        }
    }

    /// Ports that are free now; 0 when the system chooses.
    pub fn free(&self) -> usize {
        self.free.as_ref().map_or(0, |free| locked(free).len())
    }

    /// Ports in the range; 0 when the system chooses.
    pub fn size(&self) -> usize {
        self.size
    }

    /// An unpredictable free port (RFC 2577 §8).
    fn take(&self) -> Option<Lease> {
        let port = match &self.free {
            None => 0,
            Some(free) => {
                let mut free = locked(free);
                if free.is_empty() {
                    return None;
                }
                let index = rand::rng().random_range(..free.len());
                free.swap_remove(index)
            }
        };
        Some(Lease {
            port,
            pool: self.clone(),
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(free) = &self.pool.free {
            locked(free).push(self.port);
        }
    }
}

impl PassivePort {
    /// Listens on `local` for one connection from `peer`.
    pub(super) fn open(
        pool: &PortPool,
        local: IpAddr,
        peer: IpAddr,
        tasks: &TaskTracker,
    ) -> Result<Self, PassiveError> {
        // Held until one is bound, so that a port others hold is not tried twice.
        let mut refused = Vec::new();
        while refused.len() < BIND_ATTEMPTS {
            let lease = pool.take().ok_or(PassiveError::Exhausted)?;
            match listen(SocketAddr::new(local, lease.port)) {
                Ok(listener) => {
                    let address = listener.local_addr()?;
                    // Ends with the first good connection, or when the port is dropped.
                    let arrival = tasks.spawn(accept_from(listener, peer, lease));
                    return Ok(Self {
                        address,
                        arrival: AbortOnDropHandle::new(arrival),
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => refused.push(lease),
                Err(error) => return Err(error.into()),
            }
        }
        Err(PassiveError::Exhausted)
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the port; it is closed when this returns.
    pub(super) async fn close(self) {
        self.arrival.abort();
        // Cancelled, or a connection that nobody wants any more.
        let _ = self.arrival.await;
    }

    /// Whether the client is there already.
    pub(super) fn has_arrived(&self) -> bool {
        self.arrival.is_finished()
    }

    /// Waits for the client.
    pub(super) async fn connection(self, deadline: Duration) -> Result<TcpStream, PassiveError> {
        let arrival = timeout(deadline, self.arrival)
            .await
            .map_err(|_| PassiveError::Timeout(deadline))?;
        let stream = arrival.map_err(io::Error::other)??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Accepts until the right peer comes. Owns the lease: the port goes back when the socket is closed.
async fn accept_from(listener: TcpListener, peer: IpAddr, _lease: Lease) -> io::Result<TcpStream> {
    loop {
        let (stream, from) = listener.accept().await?;
        if from.ip().to_canonical() == peer.to_canonical() {
            return Ok(stream);
        }
        tracing::warn!(stranger = %from.ip(), "data connection from another address closed");
    }
}

/// Binds and listens; the address may still have connections in `TIME_WAIT`.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    listen_with_backlog(address, BACKLOG)
}

/// As [`listen`]; `[::]` means IPv6 only, so that `0.0.0.0` can be configured beside it.
pub(crate) fn listen_with_backlog(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    TcpListener::from_std(socket.into())
}

/// Held for a few moves at a time; a panic meanwhile cannot leave the list half changed.
fn locked(free: &Mutex<Vec<u16>>) -> MutexGuard<'_, Vec<u16>> {
    free.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::AsyncReadExt;

    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[tokio::test]
    async fn port_goes_back_to_the_pool_when_the_connection_came_or_was_given_up() {
        let pool = PortPool::new(&(39_100..=39_101));
        let tasks = TaskTracker::new();
        let first = PassivePort::open(&pool, LOCAL, LOCAL, &tasks).unwrap();
        let second = PassivePort::open(&pool, LOCAL, LOCAL, &tasks).unwrap();
        assert!(matches!(
            PassivePort::open(&pool, LOCAL, LOCAL, &tasks),
            Err(PassiveError::Exhausted)
        ));
        let _client = TcpStream::connect(first.address()).await.unwrap();
        first.connection(Duration::from_secs(5)).await.unwrap();
        assert_eq!(pool.free(), 1);
        drop(second);
        tasks.close();
        tasks.wait().await;
        assert_eq!(pool.free(), 2);
    }

    #[tokio::test]
    async fn stranger_is_closed_and_the_right_peer_still_gets_in() {
        let pool = PortPool::new(&(0..=0));
        let port = PassivePort::open(&pool, LOCAL, LOCAL, &TaskTracker::new()).unwrap();
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let mut stranger = socket.connect(port.address()).await.unwrap();
        assert_eq!(stranger.read(&mut [0]).await.unwrap_or(0), 0);
        let client = TcpStream::connect(port.address()).await.unwrap();
        let accepted = port.connection(Duration::from_secs(5)).await.unwrap();
        assert_eq!(accepted.peer_addr().unwrap(), client.local_addr().unwrap());
    }
}
