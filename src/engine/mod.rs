//! Drives libunftp: one server value per logged-in connection, over a private loopback pair.
//!
//! Owns every use of libunftp. The engine runs without TLS and never sees a password, a client's raw
//! line or a byte of content: the edge sends it clean commands with absolute paths ([`Order`]), it
//! runs the authentication pipeline and dispatches file commands onto [`crate::store::backend`].
//! Called by [`crate::edge`], one command at a time.

mod login;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use libunftp::ServerBuilder;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};
use tokio_util::task::TaskTracker;

pub use self::login::{Evidence, Login, Surroundings};
use crate::{
    access::VirtualPath,
    loopback,
    store::{backend::Backend, exchange::Exchange},
};

/// libunftp's own idle timer must never fire before ours: 30 days, beyond any session.
const ENGINE_IDLE_SECONDS: u64 = 30 * 24 * 3600;
/// Longest reply line of libunftp; its longest is a path in a 257.
const REPLY_LINE_BYTES: u64 = 64 << 10;
/// The user libunftp is told; the real name stays in [`Login`], where no parser of libunftp's sees it.
const ENGINE_USER: &str = "session";

/// One running libunftp session. Dropping it ends the session.
#[derive(Debug)]
pub struct Engine {
    replies: BufReader<OwnedReadHalf>,
    commands: OwnedWriteHalf,
    /// Longest wait for a reply that needs no data connection.
    patience: Duration,
}

/// A command for libunftp, made of checked parts only.
#[derive(Clone, Copy, Debug)]
pub enum Order<'a> {
    /// A file command with its path: `CWD`, `SIZE`, `MDTM`, `MLST`, `RNFR`, `RNTO`, `DELE`, `MKD`, `RMD`.
    File(&'static str, &'a VirtualPath),
    /// A command that moves bytes: `STOR`, `RETR`, `LIST`, `NLST`, `MLSD`. APPE and STOU are STOR
    /// here: libunftp's APPE takes any failed stat for an empty file.
    Transfer(&'static str, &'a VirtualPath),
}

/// libunftp did not do its part; the session must end.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It could not be started.
    #[error("engine could not start: {0}")]
    Start(String),
    /// Its connection broke.
    #[error("engine connection: {0}")]
    Io(#[from] io::Error),
    /// It closed the connection.
    #[error("engine closed its connection")]
    Closed,
    /// It sent something that is no reply.
    #[error("engine sent something that is no reply")]
    Garbage,
    /// It did not answer.
    #[error("engine did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
}

impl Engine {
    /// Starts libunftp for one session on `tasks`.
    pub async fn start(
        exchange: Arc<Exchange>,
        login: Arc<Login>,
        patience: Duration,
        tasks: &TaskTracker,
    ) -> Result<Self, EngineError> {
        let (ours, theirs) = loopback::pair().await?;
        // A reset instead of FIN and TIME_WAIT: hundreds of sessions a second must not use up the
        // loopback ports, and nothing of value is under way when a session ends.
        socket2::SockRef::from(&ours).set_linger(Some(Duration::ZERO))?;
        let storage = move || Backend::new(Arc::clone(&exchange));
        let server = ServerBuilder::with_user_detail_provider(Box::new(storage), login.clone())
            .authenticator(login)
            .binder(LoopbackBinder)
            .greeting("engine")
            .idle_session_timeout(ENGINE_IDLE_SECONDS)
            .logger(slog::Logger::root(slog::Discard, slog::o!()))
            .build()
            .map_err(|error| EngineError::Start(error.to_string()))?;
        // Ends when `ours` is dropped.
        tasks.spawn(async move {
            if let Err(error) = server.service(theirs).await {
                tracing::warn!(%error, "engine ended with an error");
            }
        });
        let (read, commands) = ours.into_split();
        let mut engine = Self {
            replies: BufReader::new(read),
            commands,
            patience,
        };
        engine.reply().await?;
        Ok(engine)
    }

    /// Logs in; [`Login`] holds the attempt. `true` for 230.
    pub async fn log_in(&mut self) -> Result<bool, EngineError> {
        self.ask("USER", ENGINE_USER).await?;
        // The password is in `Login`; this line only makes libunftp run its pipeline.
        Ok(self.ask("PASS", ENGINE_USER).await? == 230)
    }

    /// Sends one order and waits for its final reply code.
    ///
    /// # Cancel safety
    /// Not cancel safe: the reply would be taken for the next order's. Drop the engine instead.
    pub async fn order(&mut self, order: Order<'_>) -> Result<u16, EngineError> {
        match order {
            Order::File(verb, path) => self.ask(verb, path.as_str()).await,
            Order::Transfer(verb, path) => self.transfer(verb, path).await,
        }
    }

    /// Lets libunftp call the storage backend as if a data connection had come. The connection made
    /// here carries no byte.
    async fn transfer(&mut self, verb: &str, path: &VirtualPath) -> Result<u16, EngineError> {
        self.send("EPSV", "").await?;
        let (code, text) = self.reply_within_patience().await?;
        let port = (code == 229)
            .then(|| epsv_port(&text))
            .flatten()
            .ok_or(EngineError::Garbage)?;
        // If a stranger on this machine was faster, libunftp has its data connection all the same.
        let connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok();
        if let Some(connection) = &connection {
            socket2::SockRef::from(connection).set_linger(Some(Duration::ZERO))?;
        }
        self.send(verb, path.as_str()).await?;
        let (code, _) = self.reply_within_patience().await?;
        if code >= 200 {
            return Ok(code);
        }
        // A transfer takes as long as bytes move; its own deadlines end it.
        let (code, _) = self.reply().await?;
        // libunftp closed its end before it replied; ours must live until then.
        drop(connection);
        Ok(code)
    }

    async fn ask(&mut self, verb: &str, argument: &str) -> Result<u16, EngineError> {
        self.send(verb, argument).await?;
        Ok(self.reply_within_patience().await?.0)
    }

    async fn send(&mut self, verb: &str, argument: &str) -> Result<(), EngineError> {
        let line = if argument.is_empty() {
            format!("{verb}\r\n")
        } else {
            format!("{verb} {argument}\r\n")
        };
        Ok(self.commands.write_all(line.as_bytes()).await?)
    }

    async fn reply_within_patience(&mut self) -> Result<(u16, String), EngineError> {
        let patience = self.patience;
        timeout(patience, self.reply())
            .await
            .map_err(|_| EngineError::Timeout(patience))?
    }

    /// Reads one whole reply (RFC 959 §4.2): its code and its last line's text.
    async fn reply(&mut self) -> Result<(u16, String), EngineError> {
        let mut first = None;
        loop {
            let mut line = Vec::new();
            let mut bounded = (&mut self.replies).take(REPLY_LINE_BYTES);
            if bounded.read_until(b'\n', &mut line).await? == 0 {
                return Err(EngineError::Closed);
            }
            let line = String::from_utf8(line).map_err(|_| EngineError::Garbage)?;
            let line = line.trim_end();
            let code = line.get(..3).and_then(|code| code.parse::<u16>().ok());
            let more = line.as_bytes().get(3) == Some(&b'-');
            match (first, code) {
                (None, None) => return Err(EngineError::Garbage),
                (None, Some(code)) if more => first = Some(code),
                (Some(expected), Some(code)) if code == expected && !more => {
                    return Ok((code, line[3..].to_owned()));
                }
                (Some(_), _) => {}
                (None, Some(code)) => return Ok((code, line[3..].to_owned())),
            }
        }
    }
}

/// The port in `(|||port|)`, RFC 2428 §3.
fn epsv_port(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("(|||")?;
    rest.split_once('|')?.0.parse().ok()
}

/// Binds libunftp's passive sockets to a free loopback port, whatever it asks for.
#[derive(Debug)]
struct LoopbackBinder;

#[async_trait]
impl libunftp::options::Binder for LoopbackBinder {
    async fn bind(
        &mut self,
        _local: std::net::IpAddr,
        _ports: RangeInclusive<u16>,
    ) -> io::Result<TcpSocket> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        Ok(socket)
    }
}
