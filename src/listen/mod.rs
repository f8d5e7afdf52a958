//! Accept loops: from a listening socket to an admitted connection.
//!
//! Owns the sockets and the bounds on connections: how many, how fast, and from whom. Knows nothing of
//! FTP but the 421 of RFC 959 §5.4. Hands every admitted connection to [`crate::edge::serve`].

mod admission;
mod inherited;
mod rate;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};

pub use self::{
    admission::{Admission, Refusal},
    inherited::Inherited,
};
use crate::{
    config::{Listener, Mode},
    edge::{self, Arrival, Current, Door, Shared, accept_waiting, canonical, listen_with_backlog},
    observe::metrics,
};

/// Connections the kernel may hold for us.
const BACKLOG: i32 = 1024;
/// Wait after a failed accept (too many open files): trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Probes on silent control connections: below the 240 s of the shortest balancer time-out, so that
/// a long transfer does not lose its control connection (CONFORMANCE 2.9).
const KEEPALIVE: Duration = Duration::from_mins(1);
/// A refused client may take this long to read its 421.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(5);

/// Connections of one listener that may be told at the same time why they are refused; more are
/// closed without a word, so that a flood does not hold descriptors.
const FAREWELLS: usize = 64;
/// Connections of one listener that may be in the middle of their PROXY header. They count nowhere
/// else yet, and headers of an honest balancer come with the connection.
const INTRODUCTIONS: usize = 256;

/// A bound control address.
#[derive(Debug)]
pub struct Listening {
    /// Name of the listener.
    name: Arc<str>,
    socket: TcpListener,
    admission: Arc<Admission>,
    /// Places for connections that are being refused.
    farewells: Arc<Semaphore>,
    /// Places for connections whose PROXY header is still to come.
    introductions: Arc<Semaphore>,
}

/// From an accepted connection to a session.
#[derive(Debug)]
struct Reception {
    door: Arc<Door>,
    admission: Arc<Admission>,
    /// Places for connections that are being refused.
    farewells: Arc<Semaphore>,
}

impl Listening {
    /// Binds the listener's configured address, or takes the socket that systemd has bound there.
    pub fn bind(
        listener: &Listener,
        admission: Arc<Admission>,
        inherited: &mut Inherited,
    ) -> io::Result<Self> {
        let socket = match inherited.take(listener.address) {
            Some(socket) => socket?,
            None => listen_with_backlog(listener.address, BACKLOG)?,
        };
        Ok(Self {
            name: Arc::clone(&listener.name),
            socket,
            admission,
            farewells: Arc::new(Semaphore::new(FAREWELLS)),
            introductions: Arc::new(Semaphore::new(INTRODUCTIONS)),
        })
    }

    /// Where it listens; the port is the real one where 0 was configured.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts until the server closes its listeners; the socket is closed then. Each session begins
    /// with what `current` is at that moment.
    pub async fn run(self, current: Current) {
        let drain = current.load().shared.drain.clone();
        tokio::select! {
            biased;
            () = drain.closed() => {}
            () = self.accept(&current) => {}
        }
        // Whom the kernel has let in believes to be connected: a close now would be a reset. No more
        // than the queue was long, so that a flood does not keep the socket open.
        for _ in 0..BACKLOG {
            match accept_waiting(&self.socket) {
                Ok(Some((stream, peer))) => self.enter(stream, peer, &current),
                Ok(None) => return,
                Err(error) => return tracing::debug!(%error, "last accept failed"),
            }
        }
    }

    async fn accept(&self, current: &Current) {
        loop {
            match self.socket.accept().await {
                Ok((stream, peer)) => self.enter(stream, peer, current),
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn enter(&self, stream: TcpStream, peer: SocketAddr, current: &Current) {
        // A socket from systemd may be one of both families.
        let peer = canonical(peer);
        let serving = current.load();
        // A reload never takes a listener away.
        if let Some(door) = serving.door(&self.name) {
            self.welcome(stream, peer, door, &serving.shared);
        }
    }

    /// Reads the PROXY header, if there is to be one: only then is it known who came.
    fn welcome(&self, stream: TcpStream, peer: SocketAddr, door: &Arc<Door>, shared: &Arc<Shared>) {
        let reception = Reception {
            door: Arc::clone(door),
            admission: Arc::clone(&self.admission),
            farewells: Arc::clone(&self.farewells),
        };
        let Some(header) = &reception.door.network.control_header else {
            let arrival = Arrival {
                peer,
                destination: None,
            };
            return reception.admit(stream, arrival, shared);
        };
        let Ok(place) = Arc::clone(&self.introductions).try_acquire_owned() else {
            return header.refuse(peer);
        };
        let shared = Arc::clone(shared);
        // Ends with the header, its deadline or the drain; the place goes with it.
        shared.drain.sessions().clone().spawn(async move {
            let Some(header) = &reception.door.network.control_header else {
                return;
            };
            let introduced = tokio::select! {
                biased;
                () = shared.drain.settled() => return,
                introduced = header.introduce(stream, peer) => introduced,
            };
            drop(place);
            if let Some((stream, arrival)) = introduced {
                reception.admit(stream, arrival, &shared);
            }
        });
    }
}

impl Reception {
    fn admit(&self, stream: TcpStream, arrival: Arrival, shared: &Arc<Shared>) {
        let peer = arrival.peer;
        let admitted = self.admission.admit(
            &self.door.config.name,
            self.door.config.connections,
            peer.ip(),
        );
        let outcome = match &admitted {
            Ok(_) => "admitted",
            Err(refusal) => refusal.label(),
        };
        let labels = metrics::Admission {
            listener: self.door.config.name.to_string(),
            outcome,
        };
        shared.metrics.connections.get_or_create(&labels).inc();
        let tasks = shared.drain.sessions();
        match admitted {
            Ok(permit) => {
                if let Err(error) = prepare(&stream) {
                    tracing::debug!(%error, "connection is gone already");
                    return;
                }
                let (door, shared) = (Arc::clone(&self.door), Arc::clone(shared));
                shared.metrics.sessions.inc();
                // Ends with the client, a deadline or the drain; the permit goes with it.
                tasks.spawn(async move {
                    let sessions = shared.metrics.sessions.clone();
                    edge::serve(stream, arrival, door, shared).await;
                    sessions.dec();
                    drop(permit);
                });
            }
            Err(refusal) => {
                let reason = refusal.label();
                // The ban itself was logged, and who is banned may come a thousand times.
                if refusal == Refusal::Banned {
                    tracing::debug!(%peer, reason, "connection refused");
                } else {
                    tracing::warn!(%peer, reason, "connection refused");
                }
                // Without TLS an implicit client could not read it.
                if self.door.config.mode == Mode::Explicit
                    && let Ok(place) = Arc::clone(&self.farewells).try_acquire_owned()
                {
                    tasks.spawn(async move {
                        refuse(stream, refusal).await;
                        drop(place);
                    });
                }
            }
        }
    }
}

/// Small replies go out at once, and a dead peer is noticed.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

async fn refuse(mut stream: TcpStream, refusal: Refusal) {
    let say = async {
        stream.write_all(refusal.reply().as_bytes()).await?;
        stream.shutdown().await
    };
    // Best effort: the client is refused whether it reads this or not.
    let _ = timeout(REFUSAL_DEADLINE, say).await;
}
