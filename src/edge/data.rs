//! Data connections: from a TCP connection on a passive port to a [`Wire`] the store can trust.
//!
//! Owns the order of TCP, TLS and the `150` reply (CONFORMANCE 2.5) and the meaning of the end of an
//! upload. Reading 0 bytes from a wire made here means that the client said "end of file" in a way
//! nobody else can: by `close_notify`, unless the listener is configured to trust a FIN.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use super::{
    pace::Pacing,
    passive::{Parked, PassiveError, PassivePort},
    tls::{self, Flow, Handshake, HandshakeError, SessionTls},
};
use crate::{
    config::{EmptyUpload, UploadEnd},
    store::transfer::Wire,
};

/// How a data connection is made.
#[derive(Clone, Debug)]
pub(super) struct DataPlan {
    /// `None` for level C (clear).
    pub tls: Option<Arc<SessionTls>>,
    /// Which side writes.
    pub flow: Flow,
    /// What ends an upload.
    pub upload_end: UploadEnd,
    /// What an upload is that ends before TLS begins.
    pub empty_upload: EmptyUpload,
    /// Wait for the TCP connection.
    pub connect: Duration,
    /// Wait for the TLS handshake.
    pub handshake: Duration,
    /// Longest time in which the client takes nothing of what was sent.
    pub stall: Duration,
    /// How fast.
    pub pacing: Pacing,
}

/// Why a data connection did not come about.
#[derive(Debug, thiserror::Error)]
pub(super) enum DataError {
    /// No TCP connection.
    #[error(transparent)]
    Passive(#[from] PassiveError),
    /// No TLS.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The peer sent something other than TLS where TLS is required.
    #[error("data connection began without TLS")]
    ClearText,
    /// PROT C came after the client had its handshake.
    #[error("data connection is under TLS, and PROT C was said since")]
    LevelChanged,
    /// The peer ended an upload before TLS began.
    #[error("data connection ended before TLS began")]
    ClosedBeforeTls,
    /// The connection broke before a byte of content.
    #[error("data connection: {0}")]
    Io(#[from] io::Error),
}

impl DataError {
    /// FTP reply code and text (RFC 959 §4.2, RFC 4217 §10.2).
    pub(super) fn reply(&self) -> (u16, &'static str) {
        match self {
            Self::Passive(PassiveError::Timeout(_)) => (425, "No data connection arrived in time"),
            Self::Passive(_) => (425, "Cannot open data connection"),
            Self::Handshake(HandshakeError::Timeout(_)) => {
                (522, "TLS handshake on the data connection timed out")
            }
            Self::Handshake(HandshakeError::Failed(error)) if is_broken(error) => {
                (426, "Data connection broke")
            }
            // The reason is named, so that who configures a client knows what it lacks (2.1).
            Self::Handshake(HandshakeError::NotResumed) => (
                522,
                "Data connections must resume the TLS session of the control connection",
            ),
            Self::Handshake(HandshakeError::ForeignSession) => (
                522,
                "TLS session of the data connection belongs to another control connection",
            ),
            Self::Handshake(HandshakeError::OtherCertificate) => (
                522,
                "Data connection came with another certificate than the control connection",
            ),
            Self::Handshake(_) => (522, "TLS handshake on the data connection failed"),
            Self::ClearText => (522, "Data connection must use TLS"),
            Self::LevelChanged => (425, "PROT changed: use PASV or EPSV again"),
            Self::ClosedBeforeTls | Self::Io(_) => (426, "Data connection broke"),
        }
    }
}

/// Whether the peer went away, which is no fault of TLS: a client may try again.
fn is_broken(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
    )
}

/// Makes the data connection. `announce` sends the `150` and is called exactly once, unless the
/// handshake of a client that was already there fails: then the failure is the only reply.
///
/// # Cancel safety
/// Dropping the future closes the port and the connection.
pub(super) async fn establish(
    mut port: PassivePort,
    plan: &DataPlan,
    announce: impl AsyncFnOnce(),
) -> Result<(Box<dyn Wire>, Option<Handshake>), DataError> {
    if !port.has_arrived().await {
        announce().await;
        let parked = port.connection(plan.connect).await?;
        return begin(parked, plan).await;
    }
    let parked = port.connection(plan.connect).await?;
    // basic-ftp closes an empty upload right after the 150, whether its handshake is done or not
    // (decision 0011): the 150 waits for the handshake of a client that has begun one.
    if plan.tls.is_some() && parked.has_spoken() {
        let ready = begin(parked, plan).await?;
        announce().await;
        return Ok(ready);
    }
    announce().await;
    begin(parked, plan).await
}

impl Parked {
    /// The socket beneath; `None` where there is none any more.
    fn socket(&self) -> Option<SockRef<'_>> {
        match self {
            Self::Untouched(stream) => Some(SockRef::from(stream)),
            Self::Secured(Ok(secured)) => Some(SockRef::from(secured.0.get_ref().0)),
            Self::Secured(Err(_)) => None,
        }
    }

    fn has_spoken(&self) -> bool {
        match self {
            Self::Untouched(stream) => has_spoken(stream),
            Self::Secured(_) => true,
        }
    }
}

/// Whether bytes wait to be read. Asks the kernel itself: tokio learns of bytes a moment later.
pub(super) fn has_spoken(stream: &TcpStream) -> bool {
    let mut byte = [std::mem::MaybeUninit::uninit()];
    matches!(SockRef::from(stream).peek(&mut byte), Ok(1))
}

/// From a connection to a wire.
async fn begin(
    parked: Parked,
    plan: &DataPlan,
) -> Result<(Box<dyn Wire>, Option<Handshake>), DataError> {
    if plan.flow == Flow::ToClient {
        // Only the kernel knows what the client has taken. A connection that is gone by now says so
        // at its first byte.
        let _ = parked
            .socket()
            .map(|socket| socket.set_tcp_user_timeout(Some(plan.stall)));
    }
    let (stream, handshake) = match (parked, &plan.tls) {
        (Parked::Untouched(stream), None) => {
            return Ok((plan.pacing.hold(Box::new(stream)), None));
        }
        (Parked::Secured(_), None) => return Err(DataError::LevelChanged),
        (Parked::Secured(secured), Some(_)) => *secured?,
        (Parked::Untouched(stream), Some(tls)) => {
            if !begins_with_tls(&stream, plan).await? {
                return Ok((Box::new(stream), None));
            }
            tls.accept_data(stream, plan.flow, plan.handshake).await?
        }
    };
    let wire: Box<dyn Wire> = match plan.upload_end {
        UploadEnd::CloseNotify => Box::new(stream),
        UploadEnd::Fin => Box::new(FinIsEnd(stream)),
    };
    Ok((plan.pacing.hold(wire), Some(handshake)))
}

/// Waits for the first byte; `false` for an upload that is empty without one, where that is allowed.
async fn begins_with_tls(stream: &TcpStream, plan: &DataPlan) -> Result<bool, DataError> {
    let mut first = [0];
    let peeked = tokio::time::timeout(plan.handshake, stream.peek(&mut first))
        .await
        .map_err(|_| HandshakeError::Timeout(plan.handshake))??;
    if peeked == 1 && first[0] != tls::HANDSHAKE_RECORD {
        return Err(DataError::ClearText);
    }
    if peeked == 1 || plan.flow != Flow::ToServer {
        return Ok(true);
    }
    match plan.empty_upload {
        EmptyUpload::Refuse => Err(DataError::ClosedBeforeTls),
        EmptyUpload::Accept => {
            tracing::warn!(
                "upload without TLS handshake accepted as empty (empty_upload_without_handshake: accept)"
            );
            Ok(false)
        }
    }
}

/// A TLS stream whose FIN without `close_notify` counts as the end, for devices that never send one.
/// A reset stays an error.
#[derive(Debug)]
struct FinIsEnd<S>(S);

impl Wire for TcpStream {}

impl Wire for TlsStream<TcpStream> {}

impl<S: Wire> Wire for FinIsEnd<S> {
    fn held_until(&self) -> Option<Instant> {
        self.0.held_until()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FinIsEnd<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.0).poll_read(context, buffer) {
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                tracing::warn!(
                    "upload ended without close_notify and was accepted (upload_end: fin)"
                );
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FinIsEnd<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
