//! [`HeaderReader`]: the PROXY protocol header in front of a connection (`HAProxy`'s specification,
//! versions 1 and 2).
//!
//! Owns who may send one, how long it may take, and taking exactly its bytes: what follows is TLS or
//! FTP and stays in the socket. Called by [`crate::listen`] for control connections, and by
//! [`super::passive`] for data connections.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

use super::network::canonical;
use crate::{
    config,
    observe::metrics::{Metrics, ProxyHeaderLabels},
};

/// Begins a header of version 2. Shorter than the shortest header of version 1, so that as many
/// bytes can be read before it is known which one it is.
const SIGNATURE_V2: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Longest header of version 1 with its CRLF.
const V1_BYTES: usize = 107;
/// Signature, command, family and length of version 2.
const V2_PREFIX_BYTES: usize = 16;
/// Longest rest of a header of version 2: room for certificates' names and vendors' fields.
const V2_REST_BYTES: usize = 4096;

/// Reads the headers of one listener's control or data connections.
#[derive(Debug)]
pub(crate) struct HeaderReader {
    trusted: Vec<IpNet>,
    deadline: Duration,
    listener: String,
    channel: &'static str,
    metrics: std::sync::Arc<Metrics>,
}

/// Where a connection really comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The client.
    pub peer: SocketAddr,
    /// What the client connected to, where a header says so.
    pub destination: Option<SocketAddr>,
}

/// Why a connection is closed.
#[derive(Debug, thiserror::Error)]
enum HeaderError {
    #[error("from outside the trusted networks")]
    Untrusted,
    #[error("no whole header within {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("does not begin with a PROXY header")]
    Malformed,
    #[error("ended before its header: {0}")]
    Closed(#[from] io::Error),
}

impl HeaderReader {
    /// A reader for the connections of `channel`, `None` if they have no header.
    pub(super) fn new(
        listener: &config::Listener,
        channel: &'static str,
        metrics: &std::sync::Arc<Metrics>,
    ) -> Option<Self> {
        let proxy = &listener.proxy_protocol;
        let header = match channel {
            "control" => proxy.control,
            _ => proxy.data,
        };
        (header == config::ProxyHeader::Required).then(|| Self {
            trusted: proxy.trusted_networks.clone(),
            deadline: proxy.header,
            listener: listener.name.to_string(),
            channel,
            metrics: metrics.clone(),
        })
    }

    /// Reads the header; `None` if the connection is to be closed, which is logged and counted.
    /// Without an address in it (LOCAL, UNKNOWN: the balancer's own health checks) the arrival is the
    /// socket's.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub(crate) async fn introduce(
        &self,
        mut stream: TcpStream,
        from: SocketAddr,
    ) -> Option<(TcpStream, Arrival)> {
        match self.read(&mut stream, from.ip()).await {
            Ok(addresses) => {
                let local = Arrival {
                    peer: from,
                    destination: None,
                };
                self.count(if addresses.is_some() {
                    "proxied"
                } else {
                    "local"
                });
                Some((stream, addresses.unwrap_or(local)))
            }
            Err(error) => {
                let (channel, outcome) = (self.channel, error.label());
                self.count(outcome);
                // A balancer's health check that only connects ends up here every few seconds.
                if matches!(error, HeaderError::Closed(_)) {
                    tracing::debug!(%from, channel, %error, "no PROXY header that counts, connection closed");
                } else {
                    let listener = &*self.listener;
                    tracing::warn!(%from, listener, channel, %error, "no PROXY header that counts, connection closed");
                }
                None
            }
        }
    }

    /// Counts a connection that was closed because too many wait for their header.
    pub(crate) fn refuse(&self, from: SocketAddr) {
        self.count("busy");
        let listener = &*self.listener;
        tracing::warn!(%from, listener, "too many connections wait for their PROXY header, closed");
    }

    async fn read(
        &self,
        stream: &mut TcpStream,
        from: IpAddr,
    ) -> Result<Option<Arrival>, HeaderError> {
        let from = from.to_canonical();
        if !self.trusted.iter().any(|network| network.contains(&from)) {
            return Err(HeaderError::Untrusted);
        }
        let header = timeout(self.deadline, take_header(stream))
            .await
            .map_err(|_| HeaderError::Timeout(self.deadline))
            .flatten()?;
        parse(&header)
    }

    fn count(&self, outcome: &'static str) {
        self.metrics
            .proxy_headers
            .get_or_create(&ProxyHeaderLabels {
                listener: self.listener.clone(),
                channel: self.channel,
                outcome,
            })
            .inc();
    }
}

impl HeaderError {
    fn label(&self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted",
            Self::Timeout(_) => "timeout",
            Self::Malformed => "malformed",
            Self::Closed(_) => "closed",
        }
    }
}

/// Takes the bytes of one header out of the socket, and none behind it.
async fn take_header(stream: &mut TcpStream) -> Result<Vec<u8>, HeaderError> {
    let mut header = vec![0; SIGNATURE_V2.len()];
    stream.read_exact(&mut header).await?;
    if header == SIGNATURE_V2 {
        header.resize(V2_PREFIX_BYTES, 0);
        stream.read_exact(&mut header[SIGNATURE_V2.len()..]).await?;
        let rest = usize::from(u16::from_be_bytes([header[14], header[15]]));
        if rest > V2_REST_BYTES {
            return Err(HeaderError::Malformed);
        }
        header.resize(V2_PREFIX_BYTES + rest, 0);
        stream.read_exact(&mut header[V2_PREFIX_BYTES..]).await?;
        return Ok(header);
    }
    if !header.starts_with(b"PROXY ") {
        return Err(HeaderError::Malformed);
    }
    while !header.ends_with(b"\n") {
        let room = V1_BYTES - header.len();
        if room == 0 {
            return Err(HeaderError::Malformed);
        }
        // Looked at first: the bytes behind the line's end are not ours.
        let mut peeked = [0; V1_BYTES];
        let waiting = stream.peek(&mut peeked[..room]).await?;
        let line_end = peeked[..waiting].iter().position(|&byte| byte == b'\n');
        let take = line_end.map_or(waiting, |end| end + 1);
        if take == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let start = header.len();
        header.resize(start + take, 0);
        stream.read_exact(&mut header[start..]).await?;
    }
    Ok(header)
}

/// The addresses in a whole header, `None` for LOCAL and UNKNOWN.
fn parse(header: &[u8]) -> Result<Option<Arrival>, HeaderError> {
    let config = ParseConfig {
        include_tlvs: false,
        allow_v1: true,
        allow_v2: true,
    };
    let (parsed, length) =
        ProxyHeader::parse(header, config).map_err(|_| HeaderError::Malformed)?;
    if length != header.len() {
        return Err(HeaderError::Malformed);
    }
    let Some(addresses) = parsed.proxied_address() else {
        return Ok(None);
    };
    if addresses.protocol != Protocol::Stream {
        return Err(HeaderError::Malformed);
    }
    Ok(Some(Arrival {
        peer: canonical(addresses.source),
        destination: Some(canonical(addresses.destination)),
    }))
}
