//! TLS for control and data connections: the only place that configures rustls.
//!
//! | file | owns |
//! | --- | --- |
//! | `files` | the PEM files, as they were at one moment |
//! | `certificates` | the server's certificates, and which one a client gets |
//! | `chain` | what clients may dislike about a certificate, for `causeway check` |
//! | `client` | certificates of clients: how they are verified, and whom they name |
//! | `policy` | everything together as `rustls::ServerConfig`s: versions, suites, ALPN, tickets |
//! | `resumption` | which control session a TLS session belongs to |
//! | `session` | the TLS of one control session, which its data connections are made with |
//! | `reload` | changed files |
//!
//! **Tickets by direction.** A client that uploads never reads from the data connection. TLS 1.3
//! tickets sent there stay unread, its `close` becomes a reset, and the tail of the file is lost
//! (measured with curl, lftp, Ruby, Perl and Go). So: eight tickets on control, two on downloads
//! and listings, none on uploads, which is why the data handshake waits for the transfer command.
//!
//! **One certificate a session.** FileZilla compares the certificate of a data connection with that of
//! the control connection (CONFORMANCE 2.8). A session keeps the [`policy::Configs`] it began with,
//! whatever is reloaded meanwhile; the keys of the tickets outlive every reload.

mod certificates;
mod chain;
mod client;
mod files;
mod policy;
mod reload;
mod resumption;
mod session;

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

pub(super) use self::session::SessionTls;
pub use self::{
    certificates::Certificate,
    chain::doubts,
    files::{FileError, FileErrors},
    reload::{Fresh, Reload, keep_current, report},
};
use self::{files::Files, policy::Configs, resumption::Resumption};
use crate::config;
use crate::watch::Seen;

/// First byte of a TLS record that carries a handshake message (RFC 8446 §5.1).
pub(super) const HANDSHAKE_RECORD: u8 = 0x16;

/// What a data connection is for, as far as TLS cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The client only writes: no tickets.
    ToServer,
    /// The client reads.
    ToClient,
}

/// The TLS side of one listener.
#[derive(Debug)]
pub struct Tls {
    settings: config::Tls,
    resumption: Arc<Resumption>,
    /// Of the files as they were last good.
    current: ArcSwap<Configs>,
    /// What the last look at the files saw. Held over no I/O.
    seen: Mutex<Seen>,
}

/// What the log and the metrics want to know of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// `1.2`, `1.3`.
    pub version: &'static str,
    /// Name of the cipher suite.
    pub suite: &'static str,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The handshake took longer than its deadline.
    #[error("TLS handshake did not finish in {} s", .0.as_secs())]
    Timeout(Duration),
    /// The peer spoke something else, or could not agree.
    #[error("TLS handshake failed: {0}")]
    Failed(#[from] io::Error),
    /// The peer offered only protocols of other services.
    #[error("TLS handshake refused: the client offered the ALPN of another protocol")]
    ForeignProtocol,
    /// The data connection offered the TLS session of somebody else's control connection (S24).
    #[error("data connection offered the TLS session of another control session")]
    ForeignSession,
    /// Resumption is enforced, and the data connection made a full handshake.
    #[error("data connection did not resume the TLS session of its control connection")]
    NotResumed,
    /// The data connection came with another client certificate than the control connection (C15).
    #[error("data connection came with another client certificate than its control connection")]
    OtherCertificate,
}

impl Tls {
    /// Reads and checks every file and setting.
    ///
    /// # Errors
    /// Everything that is wrong with the files.
    pub fn open(settings: &config::Tls, mode: config::Resumption) -> Result<Self, FileErrors> {
        let files = Files::read(settings);
        let configs = Configs::build(settings, mode, &files)?;
        let resumption = Resumption::new(mode).map_err(FileErrors::of_settings)?;
        Ok(Self {
            settings: settings.clone(),
            resumption: Arc::new(resumption),
            current: ArcSwap::from_pointee(configs),
            seen: Mutex::new(Seen::first(files.digest())),
        })
    }

    /// The certificates being served, the default one first.
    pub fn certificates(&self) -> Vec<Certificate> {
        self.current.load().certificates.described()
    }

    /// Whether the names of the certificates differ, so that HOST chooses something (RFC 7151).
    pub(super) fn has_virtual_hosts(&self) -> bool {
        self.current.load().certificates.has_virtual_hosts()
    }

    /// Whether a certificate is for `name`.
    pub(super) fn has_name(&self, name: &str) -> bool {
        self.current.load().certificates.has_name(name)
    }

    /// Accepts TLS on a control connection. A client that offers ALPN without `ftp` gets alert 120.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub async fn accept_control(
        &self,
        stream: TcpStream,
        deadline: Duration,
    ) -> Result<(TlsStream<TcpStream>, SessionTls, Handshake), HandshakeError> {
        let configs = self.current.load_full();
        let tags = self
            .resumption
            .for_control(!configs.asks_for_certificates());
        let config = tags.apply(&configs.control);
        let accept = TlsAcceptor::from(config).accept(stream);
        let stream = timeout(deadline, accept)
            .await
            .map_err(|_| HandshakeError::Timeout(deadline))??;
        let handshake = Handshake::of(&stream);
        let session = SessionTls::new(configs, &self.resumption, &tags, stream.get_ref().1);
        Ok((stream, session, handshake))
    }
}

impl Tls {
    /// Accepts TLS for the operator's HTTP/1.1 side, with the same certificates, versions, suites and
    /// rules for client certificates. Without tickets: nobody resumes here.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub async fn accept_http(
        &self,
        stream: TcpStream,
        deadline: Duration,
    ) -> Result<TlsStream<TcpStream>, HandshakeError> {
        let configs = self.current.load_full();
        let mut config = configs.control.clone();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.send_tls13_tickets = 0;
        let accept = TlsAcceptor::from(Arc::new(config)).accept(stream);
        timeout(deadline, accept)
            .await
            .map_err(|_| HandshakeError::Timeout(deadline))?
            .map_err(HandshakeError::Failed)
    }
}

impl HandshakeError {
    /// Bounded label for metrics.
    pub fn label(&self) -> &'static str {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        match self {
            Self::Timeout(_) => "timeout",
            Self::Failed(error) => match error.kind() {
                BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof => "gone",
                _ => "protocol",
            },
            Self::ForeignProtocol => "foreign_protocol",
            Self::ForeignSession => "foreign_session",
            Self::NotResumed => "not_resumed",
            Self::OtherCertificate => "other_certificate",
        }
    }
}

impl Handshake {
    fn of(stream: &TlsStream<TcpStream>) -> Self {
        let connection = stream.get_ref().1;
        Self {
            version: match connection.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
                Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
                _ => "other",
            },
            suite: connection
                .negotiated_cipher_suite()
                .and_then(|suite| suite.suite().as_str())
                .unwrap_or("other"),
            resumed: connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        }
    }
}
