//! Passive ports: where a session's next data connection arrives.
//!
//! Owns the port pool of a listener and, per PASV or EPSV, one listening socket that takes exactly
//! one connection from the right peer. A wrong peer is closed and does not use the port up
//! (CVE-1999-0351, CONFORMANCE E15). Always passive: PORT and EPRT do not exist here.

mod address;
mod parking;
mod pool;
mod service;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::stream::{FuturesUnordered, StreamExt};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prometheus_client::metrics::counter::Counter;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

pub use self::pool::PortPool;
use self::pool::{Claim, Lease};
pub(super) use self::{
    address::{PublicAddresses, Reached},
    parking::{EarlyTls, Parked},
    pool::Holder,
};
use super::proxy::HeaderReader;
use crate::config::DataPeer;

/// The one right peer, and a few strangers, may wait to be accepted.
const BACKLOG: i32 = 16;
/// Ports tried before giving up: others on this machine may hold some of our range.
const BIND_ATTEMPTS: usize = 16;
/// Connections to one passive port that may be in the middle of their PROXY header.
const INTRODUCTIONS: usize = 16;

/// Who may connect to a passive port.
#[derive(Debug)]
pub(super) struct Gate {
    /// The client of the control connection.
    pub(super) peer: IpAddr,
    pub(super) rule: DataPeer,
    /// `None` where data connections have no PROXY header.
    pub(super) header: Option<Arc<HeaderReader>>,
    /// Connections that were closed.
    pub(super) strangers: Counter,
}

/// A listening passive port. Dropping it closes the port.
#[derive(Debug)]
pub(super) struct PassivePort {
    address: SocketAddr,
    arrival: watch::Receiver<Arrival>,
    /// Cancelled when the connection's command is there.
    claimed: CancellationToken,
    connection: AbortOnDropHandle<io::Result<Parked>>,
}

/// Where the right peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    /// Not seen, and the command is not there either.
    Awaited,
    /// It had not connected when the command came.
    Late,
    /// Connected.
    Here,
}

/// Why there is no data connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum PassiveError {
    /// Every port of the range is in use.
    #[error("no passive port is free")]
    Exhausted,
    /// The user has as many ports as one user may have.
    #[error("the user has its share of passive ports")]
    ShareUsed,
    /// The socket could not be opened.
    #[error("passive socket: {0}")]
    Io(#[from] io::Error),
    /// Nobody connected in time.
    #[error("no data connection within {} s", .0.as_secs())]
    Timeout(Duration),
}

impl PassivePort {
    /// Listens on the address of `local`, whatever its port, for one connection that `gate` lets in;
    /// `holder` pays for the port. With `early` a client that wants its handshake before its command gets it.
    pub(super) fn open(
        pool: &PortPool,
        holder: Holder,
        mut local: SocketAddr,
        gate: Gate,
        early: Option<EarlyTls>,
        tasks: &TaskTracker,
    ) -> Result<Self, PassiveError> {
        let claim = pool.claim(holder).ok_or(PassiveError::ShareUsed)?;
        // Held until one is bound, so that a port others hold is not tried twice.
        let mut refused = Vec::new();
        while refused.len() < BIND_ATTEMPTS {
            let lease = pool.take().ok_or(PassiveError::Exhausted)?;
            local.set_port(lease.port);
            match listen(local) {
                Ok(listener) => {
                    let address = listener.local_addr()?;
                    let (report, arrival) = watch::channel(Arrival::Awaited);
                    let claimed = CancellationToken::new();
                    let command = claimed.clone();
                    // Ends with the command, or when the port is dropped.
                    let connection = tasks.spawn(async move {
                        let late = || {
                            report.send_replace(Arrival::Late);
                        };
                        let queue = Queue::new(listener, &command, late);
                        let stream = accept_from(queue, gate, lease, claim).await?;
                        stream.set_nodelay(true)?;
                        report.send_replace(Arrival::Here);
                        Ok(parking::park(stream, early, &command).await)
                    });
                    return Ok(Self {
                        address,
                        arrival,
                        claimed,
                        connection: AbortOnDropHandle::new(connection),
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
        self.connection.abort();
        // Cancelled, or a connection that nobody wants any more.
        let _ = self.connection.await;
    }

    /// The command is there: no handshake begins before the command's own time for it.
    pub(super) fn claim(&self) {
        self.claimed.cancel();
    }

    /// Whether the client is there already: everything that it did before its command counts.
    pub(super) async fn has_arrived(&mut self) -> bool {
        self.claim();
        let seen = self
            .arrival
            .wait_for(|arrival| *arrival != Arrival::Awaited);
        seen.await.is_ok_and(|arrival| *arrival == Arrival::Here)
    }

    /// Waits until the client is there, at most for `deadline`, and for the end of a handshake that
    /// the client wanted early.
    pub(super) async fn connection(mut self, deadline: Duration) -> Result<Parked, PassiveError> {
        self.claim();
        // Gone without an arrival: the task failed, and says why below.
        let _ = timeout(
            deadline,
            self.arrival.wait_for(|arrival| *arrival == Arrival::Here),
        )
        .await
        .map_err(|_| PassiveError::Timeout(deadline))?
        .is_ok();
        Ok(self.connection.await.map_err(io::Error::other)??)
    }
}

impl Gate {
    fn admits(&self, from: IpAddr) -> bool {
        let (peer, from) = (self.peer.to_canonical(), from.to_canonical());
        let admitted = match self.rule {
            DataPeer::SameAddress => peer == from,
            DataPeer::SameSubnet => subnet(peer).is_some_and(|subnet| subnet.contains(&from)),
            DataPeer::Any => true,
        };
        if !admitted {
            self.strangers.inc();
            tracing::warn!(stranger = %from, "data connection from another address closed");
        }
        admitted
    }
}

/// The /24 or /64 that `address` is in: what one network gives to one customer.
fn subnet(address: IpAddr) -> Option<IpNet> {
    match address {
        IpAddr::V4(address) => Ipv4Net::new(address, 24).ok().map(IpNet::from),
        IpAddr::V6(address) => Ipv6Net::new(address, 64).ok().map(IpNet::from),
    }
}

/// Connections to one passive port, in the order of the kernel's queue.
struct Queue<'a, F> {
    listener: TcpListener,
    /// Cancelled when the command is there.
    claimed: &'a CancellationToken,
    /// Called once, when the command is there and nobody is in the queue.
    late: Option<F>,
}

impl<'a, F: FnOnce()> Queue<'a, F> {
    fn new(listener: TcpListener, claimed: &'a CancellationToken, late: F) -> Self {
        Self {
            listener,
            claimed,
            late: Some(late),
        }
    }

    /// # Cancel safety
    /// No connection is lost.
    async fn next(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        if self.late.is_some() {
            tokio::select! {
                biased;
                accepted = self.listener.accept() => return accepted,
                () = self.claimed.cancelled() => {}
            }
            // tokio learns of a connection a moment later than of the command behind it.
            if let Some(accepted) = accept_waiting(&self.listener)? {
                return Ok(accepted);
            }
            if let Some(late) = self.late.take() {
                late();
            }
        }
        self.listener.accept().await
    }
}

/// The next connection in the kernel's queue, if there is one: asks the kernel itself, of which tokio
/// learns a moment later.
pub(crate) fn accept_waiting(
    listener: &TcpListener,
) -> io::Result<Option<(TcpStream, SocketAddr)>> {
    match SockRef::from(listener).accept() {
        Ok((socket, from)) => {
            socket.set_nonblocking(true)?;
            let from = from.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
            Ok(Some((TcpStream::from_std(socket.into())?, from)))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Accepts until the right peer comes. Owns lease and claim: the port goes back when the socket is
/// closed.
async fn accept_from(
    mut queue: Queue<'_, impl FnOnce()>,
    gate: Gate,
    _lease: Lease,
    _claim: Claim,
) -> io::Result<TcpStream> {
    let Some(header) = &gate.header else {
        loop {
            let (stream, from) = queue.next().await?;
            if gate.admits(from.ip()) {
                return Ok(stream);
            }
        }
    };
    // Side by side: a connection that never sends its header must not keep the right one waiting.
    let mut introductions = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = queue.next(), if introductions.len() < INTRODUCTIONS => {
                let (stream, from) = accepted?;
                introductions.push(header.introduce(stream, from));
            }
            Some(introduced) = introductions.next() => {
                // The balancer's own connections are health checks and no client's data.
                if let Some((stream, arrival)) = introduced
                    && arrival.destination.is_some()
                    && gate.admits(arrival.peer.ip())
                {
                    return Ok(stream);
                }
            }
        }
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::AsyncReadExt;

    use super::{pool::tests::pool, *};

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const ADDRESS: SocketAddr = SocketAddr::new(LOCAL, 0);

    fn open(
        pool: &PortPool,
        rule: DataPeer,
        tasks: &TaskTracker,
    ) -> Result<PassivePort, PassiveError> {
        let gate = Gate {
            peer: LOCAL,
            rule,
            header: None,
            strangers: Counter::default(),
        };
        PassivePort::open(pool, Holder::Address(LOCAL), ADDRESS, gate, None, tasks)
    }

    #[tokio::test]
    async fn port_goes_back_to_the_pool_when_the_connection_came_or_was_given_up() {
        let pool = pool(39_100..=39_101, 3);
        let tasks = TaskTracker::new();
        let open = || open(&pool, DataPeer::SameAddress, &tasks);
        let first = open().unwrap();
        let second = open().unwrap();
        assert!(matches!(open(), Err(PassiveError::Exhausted)));
        let _client = TcpStream::connect(first.address()).await.unwrap();
        accepted(first).await;
        assert_eq!(pool.free(), 1);
        drop(second);
        tasks.close();
        tasks.wait().await;
        assert_eq!(pool.free(), 2);
    }

    #[tokio::test]
    async fn share_of_a_holder_comes_back_with_the_port() {
        let pool = pool(0..=0, 1);
        let tasks = TaskTracker::new();
        let port = open(&pool, DataPeer::SameAddress, &tasks).unwrap();
        let refused = open(&pool, DataPeer::SameAddress, &tasks);
        assert!(matches!(refused, Err(PassiveError::ShareUsed)));
        port.close().await;
        open(&pool, DataPeer::SameAddress, &tasks).unwrap();
    }

    #[tokio::test]
    async fn stranger_is_closed_and_the_right_peer_still_gets_in() {
        let pool = pool(0..=0, 1);
        let port = open(&pool, DataPeer::SameAddress, &TaskTracker::new()).unwrap();
        let mut stranger = connect_from("127.0.0.2:0", port.address()).await;
        assert_eq!(stranger.read(&mut [0]).await.unwrap_or(0), 0);
        let client = TcpStream::connect(port.address()).await.unwrap();
        let accepted = accepted(port).await;
        assert_eq!(accepted.peer_addr().unwrap(), client.local_addr().unwrap());
    }

    #[tokio::test]
    async fn neighbour_gets_in_only_where_the_subnet_counts() {
        let pool = pool(0..=0, 1);
        for (rule, from, admitted) in [
            (DataPeer::SameSubnet, "127.0.0.2:0", true),
            (DataPeer::SameSubnet, "127.0.1.1:0", false),
            (DataPeer::Any, "127.9.9.9:0", true),
        ] {
            let port = open(&pool, rule, &TaskTracker::new()).unwrap();
            let mut client = connect_from(from, port.address()).await;
            if !admitted {
                assert_eq!(
                    client.read(&mut [0]).await.unwrap_or(0),
                    0,
                    "{rule:?} {from}"
                );
                client = TcpStream::connect(port.address()).await.unwrap();
            }
            let accepted = accepted(port).await;
            assert_eq!(accepted.peer_addr().unwrap(), client.local_addr().unwrap());
        }
    }

    #[test]
    fn subnets_are_24_and_64_bits_long() {
        let same = |one: &str, other: &str| {
            subnet(one.parse().unwrap())
                .unwrap()
                .contains(&other.parse::<IpAddr>().unwrap())
        };
        assert!(same("10.0.0.1", "10.0.0.255"));
        assert!(!same("10.0.0.1", "10.0.1.1"));
        assert!(same("2001:db8::1", "2001:db8::ffff:1"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(!same("10.0.0.1", "::1"));
    }

    async fn accepted(port: PassivePort) -> TcpStream {
        match port.connection(Duration::from_secs(5)).await.unwrap() {
            Parked::Untouched(stream) => stream,
            Parked::Secured(_) => panic!("TLS that nobody asked for"),
        }
    }

    async fn connect_from(from: &str, to: SocketAddr) -> TcpStream {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(from.parse().unwrap()).unwrap();
        socket.connect(to).await.unwrap()
    }
}
