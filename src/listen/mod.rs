//! Accept loops: from a listening socket to an admitted connection.
//!
//! Owns the sockets and the bounds on connections (in all, per listener, per address). Knows nothing
//! of FTP but the 421 of RFC 959 §5.4. Hands every admitted connection to [`crate::edge::serve`].

mod admission;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    time::timeout,
};

pub use self::admission::{Admission, Refusal};
use crate::{
    config::Mode,
    edge::{self, Door, Shared, listen_with_backlog},
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

/// A bound control address.
#[derive(Debug)]
pub struct Listening {
    socket: TcpListener,
    door: Arc<Door>,
    admission: Arc<Admission>,
}

impl Listening {
    /// Binds the door's configured address.
    pub fn bind(door: Arc<Door>, admission: Arc<Admission>) -> io::Result<Self> {
        let socket = listen_with_backlog(door.config.address, BACKLOG)?;
        Ok(Self {
            socket,
            door,
            admission,
        })
    }

    /// Where it listens; the port is the real one where 0 was configured.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts until the drain begins; the socket is closed then.
    pub async fn run(self, shared: Arc<Shared>) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = shared.drain.begun() => return,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.welcome(stream, peer, &shared),
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn welcome(&self, stream: TcpStream, peer: SocketAddr, shared: &Arc<Shared>) {
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
        let tasks = shared.drain.tasks();
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
                    edge::serve(stream, peer, door, shared).await;
                    sessions.dec();
                    drop(permit);
                });
            }
            Err(refusal) => {
                tracing::warn!(%peer, reason = refusal.label(), "connection refused");
                // Without TLS an implicit client could not read it.
                if self.door.config.mode == Mode::Explicit {
                    tasks.spawn(refuse(stream));
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

async fn refuse(mut stream: TcpStream) {
    let say = async {
        stream
            .write_all(b"421 Too many connections, try again later\r\n")
            .await?;
        stream.shutdown().await
    };
    // Best effort: the client is refused whether it reads this or not.
    let _ = timeout(REFUSAL_DEADLINE, say).await;
}
