//! [`Gate`]: what stands between the directory and the library that speaks to it.
//!
//! Makes the connection and its TLS, so that the library sees only what a server said that has proved
//! who it is, and lets through whole messages ([`super::ber`]) and no more bytes than a login can
//! need. Without it one answer could end the process, even before TLS.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::BytesMut;
use reqwest::Url;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy, split},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::ber;
use crate::auth::trust::Trust;

/// Bytes of all answers to one login: a thousand groups with long names are a third of it.
const ANSWERS: usize = 1 << 20;
/// `StartTLS`: message 1, an extended request (RFC 4511 §4.14.1).
const START_TLS: &[u8] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";

/// A stream to the directory.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One connection to a directory.
pub(super) struct Gate {
    remote: Box<dyn Stream>,
    allowance: Allowance,
}

/// What may still come.
#[derive(Clone, Debug)]
pub(super) struct Allowance(Arc<AtomicUsize>);

impl Allowance {
    /// For the next login.
    pub(super) fn renew(&self) {
        self.0.store(ANSWERS, Ordering::Relaxed);
    }

    fn take(&self, bytes: usize) -> io::Result<()> {
        let take = |left: usize| left.checked_sub(bytes);
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        let too_long = |_| io::Error::other(format!("its answers have more than {ANSWERS} bytes"));
        taken.map(drop).map_err(too_long)
    }
}

impl Gate {
    /// A connection to the server of `url`, under TLS with `ldaps` or if `start_tls`. The caller sets
    /// the deadline.
    ///
    /// # Errors
    /// Nobody is there, or nobody who is believed.
    pub(super) async fn open(url: &str, start_tls: bool, trust: &Trust) -> io::Result<Self> {
        let url = Url::parse(url).map_err(io::Error::other)?;
        let is_ldaps = url.scheme() == "ldaps";
        let host = url.host_str().unwrap_or_default();
        let host = host.trim_matches(['[', ']']).to_owned();
        let port = url.port().unwrap_or(if is_ldaps { 636 } else { 389 });
        let mut stream = TcpStream::connect((host.as_str(), port)).await?;
        stream.set_nodelay(true)?;
        let allowance = Allowance(Arc::default());
        allowance.renew();
        if !is_ldaps && !start_tls {
            let remote = Box::new(stream);
            return Ok(Self { remote, allowance });
        }
        if !is_ldaps {
            stream.write_all(START_TLS).await?;
            let mut buffer = BytesMut::new();
            let answer = message(&mut stream, &mut buffer, &allowance).await?;
            // What came before TLS could be anybody's.
            let is_clean = buffer.is_empty();
            if !answer.is_some_and(|answer| ber::is_success(&answer)) || !is_clean {
                return Err(io::Error::other("StartTLS is refused"));
            }
        }
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        let connector = TlsConnector::from(trust.config());
        let remote = Box::new(connector.connect(name, stream).await?);
        Ok(Self { remote, allowance })
    }

    /// Of this connection.
    pub(super) fn allowance(&self) -> Allowance {
        self.allowance.clone()
    }

    /// Passes messages between the server and the library's end of a loopback pair, until one of them
    /// ends or the server sends what is not let through.
    pub(super) async fn relay(self, inner: TcpStream) -> io::Result<()> {
        let (mut from_server, mut to_server) = split(self.remote);
        let (mut from_library, mut to_library) = inner.into_split();
        let answers = async {
            let mut buffer = BytesMut::new();
            while let Some(answer) = message(&mut from_server, &mut buffer, &self.allowance).await?
            {
                to_library.write_all(&answer).await?;
            }
            Ok(())
        };
        tokio::select! {
            done = copy(&mut from_library, &mut to_server) => done.map(drop),
            done = answers => done,
        }
    }
}

/// The next message; `None` at the end of the connection.
async fn message(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    allowance: &Allowance,
) -> io::Result<Option<BytesMut>> {
    loop {
        if let Some(length) = ber::frame(buffer).map_err(io::Error::other)? {
            return Ok(Some(buffer.split_to(length)));
        }
        let read = stream.read_buf(buffer).await?;
        if read == 0 {
            return Ok(None);
        }
        allowance.take(read)?;
    }
}
