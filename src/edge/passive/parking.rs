//! A data connection between its arrival and the command it is for.
//!
//! It waits unread, since only the command says which way the bytes go and so whether tickets may be
//! sent. aioftp, however, sends no command before the handshake is done. A connection whose
//! `ClientHello` has waited for [`PATIENCE`] is therefore served at once, without tickets, as uploads
//! are: right for every direction, only that a client of a download gets no new ticket there.

use std::{sync::Arc, time::Duration};

use tokio::{net::TcpStream, time::sleep};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::edge::tls::{self, Flow, Handshake, HandshakeError, SessionTls};

/// How long a `ClientHello` waits for its command. Clients that do not wait for the handshake send
/// the command in the same breath; a slow link gets this long between the two.
const PATIENCE: Duration = Duration::from_secs(1);

/// How a client that waits for the handshake is served.
#[derive(Debug)]
pub(in crate::edge) struct EarlyTls {
    pub(in crate::edge) tls: Arc<SessionTls>,
    /// Longest handshake.
    pub(in crate::edge) handshake: Duration,
}

/// A data connection whose command has come.
#[derive(Debug)]
pub(in crate::edge) enum Parked {
    /// As it arrived: not a byte was read.
    Untouched(TcpStream),
    /// The client waited for the handshake; this is how it went.
    Secured(Result<Box<(TlsStream<TcpStream>, Handshake)>, HandshakeError>),
}

/// Keeps `stream` until its command comes, which cancels `claimed`. A handshake that has begun is
/// taken to its end, which its deadline bounds.
pub(super) async fn park(
    stream: TcpStream,
    early: Option<EarlyTls>,
    claimed: &CancellationToken,
) -> Parked {
    let Some(early) = early else {
        return Parked::Untouched(stream);
    };
    let insists = tokio::select! {
        biased;
        () = claimed.cancelled() => false,
        insists = insists_on_tls(&stream) => insists,
    };
    if !insists {
        return Parked::Untouched(stream);
    }
    tracing::debug!("the client waits for the data handshake before its command");
    let secured = early
        .tls
        .accept_data(stream, Flow::ToServer, early.handshake)
        .await;
    Parked::Secured(secured.map(Box::new))
}

/// Whether a `ClientHello` came and nothing after it for [`PATIENCE`]. Other bytes, or an end, are for
/// the command to judge.
async fn insists_on_tls(stream: &TcpStream) -> bool {
    let mut first = [0];
    let hello = matches!(stream.peek(&mut first).await, Ok(1)) && first == [tls::HANDSHAKE_RECORD];
    if hello {
        sleep(PATIENCE).await;
    }
    hello
}
