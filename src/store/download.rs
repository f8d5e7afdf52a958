//! From a store onto a data connection: files and listings.
//!
//! Owns the pump and its stall deadline. The bytes come as a stream that is already open, so every
//! failure that can be known early was answered before the `150`.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tokio_util::task::TaskTracker;

use super::{
    Result,
    transfer::{Failure, Progress, Wire},
};

/// Listing text is sent in pieces of about this size: one TLS record.
const LISTING_BYTES: usize = 16 << 10;
/// How long a finished connection waits for the client's end.
const LINGER: Duration = Duration::from_secs(5);
/// The kernel takes bytes again when a third of its buffer has gone, which may be a megabyte and more: a
/// slow link needs longer for it than a stall may last. That no byte moves the kernel itself sees
/// (`TCP_USER_TIMEOUT`, set by the edge); this many stalls without room are the bound on what it sees.
const STALLS_WITHOUT_ROOM: u32 = 15;

/// Sends a file and ends the data connection with `close_notify` and FIN.
pub(super) async fn send_file(
    mut bytes: BoxStream<'static, Result<Bytes>>,
    wire: &mut dyn Wire,
    progress: &Arc<Progress>,
    stall: Duration,
) -> std::result::Result<(), Failure> {
    let work = async {
        while let Some(chunk) = bytes.next().await {
            send(wire, &chunk?, progress, stall).await?;
        }
        finish(wire, stall).await
    };
    tokio::select! {
        biased;
        cancelled = progress.cancelled() => Err(cancelled),
        done = work => done,
    }
}

/// Sends a listing, line by line as they arrive.
pub(super) async fn send_listing(
    mut lines: BoxStream<'static, std::result::Result<Vec<u8>, Failure>>,
    wire: &mut dyn Wire,
    progress: &Arc<Progress>,
    stall: Duration,
) -> std::result::Result<(), Failure> {
    let work = async {
        let mut text = Vec::with_capacity(LISTING_BYTES + 1024);
        while let Some(line) = lines.next().await {
            text.extend_from_slice(&line?);
            text.extend_from_slice(b"\r\n");
            if text.len() >= LISTING_BYTES {
                send(wire, &text, progress, stall).await?;
                text.clear();
            }
        }
        send(wire, &text, progress, stall).await?;
        finish(wire, stall).await
    };
    tokio::select! {
        biased;
        cancelled = progress.cancelled() => Err(cancelled),
        done = work => done,
    }
}

/// Keeps a finished data connection open until the client closes its side. Closing it while the
/// client still reads would answer the client's own `close_notify` with a reset, which can take
/// unread bytes along. The reply does not wait for this.
pub(super) fn linger(mut wire: Box<dyn Wire>, tasks: &TaskTracker) {
    // Bounded by the time-out; the client's bytes are thrown away.
    tasks.spawn(async move {
        let mut rest = [0; 1024];
        let drain = async { while wire.read(&mut rest).await.is_ok_and(|read| read > 0) {} };
        let _ = timeout(LINGER, drain).await;
    });
}

/// Writes all of `bytes`; the deadline starts anew whenever the kernel took some.
async fn send(
    wire: &mut dyn Wire,
    mut bytes: &[u8],
    progress: &Progress,
    stall: Duration,
) -> std::result::Result<(), Failure> {
    while !bytes.is_empty() {
        let taken = timeout(stall * STALLS_WITHOUT_ROOM, wire.write(bytes))
            .await
            .map_err(|_| Failure::Stalled(stall))?
            .map_err(|error| failed(error, stall))?;
        if taken == 0 {
            return Err(Failure::Broken(io::ErrorKind::WriteZero.into()));
        }
        let (gone, rest) = bytes.split_at(taken);
        progress.moved(gone);
        bytes = rest;
    }
    Ok(())
}

async fn finish(wire: &mut dyn Wire, stall: Duration) -> std::result::Result<(), Failure> {
    let finish = async {
        wire.flush().await?;
        wire.shutdown().await
    };
    timeout(stall * STALLS_WITHOUT_ROOM, finish)
        .await
        .map_err(|_| Failure::Stalled(stall))?
        .map_err(|error| failed(error, stall))
}

/// `TimedOut` is the kernel's word for a client that took nothing for as long as it may.
fn failed(error: io::Error, stall: Duration) -> Failure {
    if error.kind() == io::ErrorKind::TimedOut {
        Failure::Stalled(stall)
    } else {
        Failure::Broken(error)
    }
}
