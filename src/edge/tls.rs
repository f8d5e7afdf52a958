//! TLS for control and data connections: the only place that configures rustls.
//!
//! Owns certificates, resumption and the ticket policy. One ticketer and one session cache serve
//! control and data alike, so a client that resumed once always can (CONFORMANCE 2.1).
//!
//! **Tickets by direction.** A client that uploads never reads from the data connection. TLS 1.3
//! tickets sent there stay unread, its `close` becomes a reset, and the tail of the file is lost
//! (measured with curl, lftp, Ruby, Perl and Go). So: two tickets on control, two on downloads and
//! listings, none on uploads, which is why the data handshake waits for the transfer command.

use std::{fs, io, path::Path, sync::Arc, time::Duration};

use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::{Acceptor, ParsedCertificate, ServerSessionMemoryCache},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use crate::config;

/// ALPN protocol of a control connection (IANA registry; the only answer to ALPACA).
const ALPN_CONTROL: &[u8] = b"ftp";
/// What FileZilla offers on data connections.
const ALPN_DATA: &[u8] = b"ftp-data";
/// Protocols whose content must never be served from a data connection (ALPACA, S18).
const ALPN_FOREIGN: [&[u8]; 3] = [b"http/1.1", b"http/1.0", b"h2"];
/// Sessions in the TLS 1.2 cache, about 200 bytes each: curl before 8.x sends no ticket extension.
const CACHED_SESSIONS: usize = 16_384;
/// Tickets where the client reads.
const TICKETS: usize = 2;

/// What a data connection is for, as far as TLS cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The client only writes: no tickets.
    ToServer,
    /// The client reads.
    ToClient,
}

/// The TLS side of one listener.
#[derive(Clone, Debug)]
pub struct Tls {
    control: Arc<ServerConfig>,
    to_server: DataConfigs,
    to_client: DataConfigs,
    /// The served certificate, for its names.
    leaf: CertificateDer<'static>,
}

#[derive(Clone, Debug)]
struct DataConfigs {
    /// For clients that offer ALPN with one of our protocols.
    negotiated: Arc<ServerConfig>,
    /// For clients that offer none, or only names we do not know.
    silent: Arc<ServerConfig>,
}

/// What the log and the metrics want to know of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// `1.2`, `1.3`.
    pub version: &'static str,
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
}

/// Why a certificate cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read or holds no PEM of the wanted kind.
    #[error("{file}: {message}")]
    File {
        /// The file.
        file: String,
        /// What is wrong with it.
        message: String,
    },
    /// Certificate and key do not belong together, or the key is of an unknown kind.
    #[error("certificate and key cannot be used together: {0}")]
    Pair(#[from] rustls::Error),
}

/// Resumption state shared by every listener with the same certificates.
#[derive(Debug)]
struct Resumption {
    provider: Arc<CryptoProvider>,
    ticketer: Arc<dyn rustls::server::ProducesTickets>,
    sessions: Arc<ServerSessionMemoryCache>,
}

impl Tls {
    /// Reads and checks a certificate and its key.
    pub fn open(files: &config::Tls) -> Result<Self, CertificateError> {
        let chain = read_certificates(&files.certificate_file)?;
        let leaf = chain
            .first()
            .cloned()
            .ok_or_else(|| file_error(&files.certificate_file, "no certificate found"))?;
        let key = read_key(&files.key_file)?;
        let resumption = Resumption {
            provider: Arc::new(aws_lc_rs::default_provider()),
            ticketer: aws_lc_rs::Ticketer::new()?,
            sessions: ServerSessionMemoryCache::new(CACHED_SESSIONS),
        };
        let base = server_config(&resumption, chain, key)?;
        let with = |tickets: usize, protocols: &[&[u8]]| {
            let mut config = base.clone();
            config.send_tls13_tickets = tickets;
            config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            Arc::new(config)
        };
        let data = |tickets| DataConfigs {
            negotiated: with(tickets, &[ALPN_DATA, ALPN_CONTROL]),
            silent: with(tickets, &[]),
        };
        Ok(Self {
            control: with(TICKETS, &[ALPN_CONTROL]),
            to_server: data(0),
            to_client: data(TICKETS),
            leaf,
        })
    }

    /// Whether the certificate is one for this host: a name, or an IPv6 address in brackets (HOST).
    pub(super) fn serves(&self, host: &str) -> bool {
        let name = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(host);
        let certificate = ParsedCertificate::try_from(&self.leaf);
        match (certificate, ServerName::try_from(name)) {
            (Ok(certificate), Ok(name)) => {
                rustls::client::verify_server_name(&certificate, &name).is_ok()
            }
            _ => false,
        }
    }

    /// Accepts TLS on a control connection. A client that offers ALPN without `ftp` gets alert 120.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub async fn accept_control(
        &self,
        stream: TcpStream,
        deadline: Duration,
    ) -> Result<(TlsStream<TcpStream>, Handshake), HandshakeError> {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(&self.control));
        let stream = timeout(deadline, acceptor.accept(stream))
            .await
            .map_err(|_| HandshakeError::Timeout(deadline))??;
        let handshake = Handshake::of(&stream);
        Ok((stream, handshake))
    }

    /// Accepts TLS on a data connection.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub async fn accept_data(
        &self,
        stream: TcpStream,
        flow: Flow,
        deadline: Duration,
    ) -> Result<(TlsStream<TcpStream>, Handshake), HandshakeError> {
        let configs = match flow {
            Flow::ToServer => &self.to_server,
            Flow::ToClient => &self.to_client,
        };
        let accept = async {
            let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
            let config = configs.for_offer(start.client_hello().alpn())?;
            Ok(start.into_stream(config).await?)
        };
        let stream = timeout(deadline, accept)
            .await
            .map_err(|_| HandshakeError::Timeout(deadline))
            .flatten()?;
        let handshake = Handshake::of(&stream);
        Ok((stream, handshake))
    }
}

impl DataConfigs {
    fn for_offer<'a>(
        &self,
        offer: Option<impl Iterator<Item = &'a [u8]>>,
    ) -> Result<Arc<ServerConfig>, HandshakeError> {
        let mut foreign = false;
        for name in offer.into_iter().flatten() {
            if name == ALPN_DATA || name == ALPN_CONTROL {
                return Ok(Arc::clone(&self.negotiated));
            }
            foreign |= ALPN_FOREIGN.contains(&name);
        }
        if foreign {
            Err(HandshakeError::ForeignProtocol)
        } else {
            Ok(Arc::clone(&self.silent))
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
            resumed: connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        }
    }
}

fn server_config(
    resumption: &Resumption,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&resumption.provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.ticketer = Arc::clone(&resumption.ticketer);
    config.session_storage = Arc::clone(&resumption.sessions) as _;
    Ok(config)
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let pem = read(file)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(file_error(file, "no certificate found")),
        Err(error) => Err(file_error(file, &error)),
    }
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    PrivateKeyDer::from_pem_slice(&read(file)?).map_err(|error| file_error(file, &error))
}

fn read(file: &Path) -> Result<Vec<u8>, CertificateError> {
    fs::read(file).map_err(|error| file_error(file, &error))
}

fn file_error(file: &Path, message: &(impl ToString + ?Sized)) -> CertificateError {
    CertificateError::File {
        file: file.display().to_string(),
        message: message.to_string(),
    }
}
