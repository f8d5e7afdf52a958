//! [`Control`]: the control connection, in clear or under TLS.
//!
//! Owns reading lines and writing replies with their deadlines, and the switch to TLS. Before TLS it
//! takes from the socket only what belongs to the present line, so that the bytes behind `AUTH TLS`
//! are still in the socket when the handshake begins: either a ClientHello, or an injected command
//! that ends the connection (CVE-2011-1575, CONFORMANCE C9).

use std::{io, sync::Arc, time::Duration};

use bytes::BytesMut;
use encoding_rs::{Encoding, UTF_8};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::server::TlsStream;

use super::{
    charset,
    data::has_spoken,
    line::{LineBuffer, LineEvent},
    reply::Reply,
    tls::{self, Handshake, HandshakeError, SessionTls, Tls},
    trace::{Said, Tap, What},
};

/// Bytes read at once: thirty commands of ordinary length.
const READ_BYTES: usize = 4 << 10;
/// How long a closing connection waits for the client's FIN, so that unread commands do not turn our
/// last reply into a reset.
const LINGER: Duration = Duration::from_secs(1);

/// How long bytes that the kernel has may take to become a line.
const MOMENT: Duration = Duration::from_millis(100);

/// First bytes of TLS records (RFC 8446 §5.1); a verb begins with a letter.
const RECORD_TYPES: std::ops::RangeInclusive<u8> = 0x14..=0x18;

/// One control connection.
#[derive(Debug)]
pub(super) struct Control {
    stream: Stream,
    /// Read and not yet cut into lines; at most [`READ_BYTES`].
    unread: BytesMut,
    lines: LineBuffer,
    /// Longest wait for the client to take a reply.
    reply_deadline: Duration,
    /// Of names in replies.
    charset: &'static Encoding,
    /// Hears every line both ways.
    tap: Arc<Tap>,
}

#[derive(Debug)]
enum Stream {
    Clear(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
}

/// What came from the client.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A line, too long a line, or a line so long that the connection must end.
    Line(LineEvent),
    /// The client closed the connection, with or without `close_notify` (C20), or it broke.
    Closed,
}

/// Why AUTH did not lead to TLS.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpgradeError {
    /// Something other than a ClientHello was already behind the AUTH command.
    #[error("bytes behind AUTH that are no ClientHello")]
    Injected,
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The connection broke.
    #[error("control connection: {0}")]
    Io(#[from] io::Error),
}

impl Control {
    /// A connection in clear (explicit listeners).
    pub(super) fn clear(stream: TcpStream, reply_deadline: Duration, tap: Arc<Tap>) -> Self {
        Self::new(Stream::Clear(stream), reply_deadline, tap)
    }

    /// A connection under TLS from its first byte (implicit listeners).
    pub(super) fn encrypted(
        stream: TlsStream<TcpStream>,
        reply_deadline: Duration,
        tap: Arc<Tap>,
    ) -> Self {
        Self::new(Stream::Encrypted(Box::new(stream)), reply_deadline, tap)
    }

    fn new(stream: Stream, reply_deadline: Duration, tap: Arc<Tap>) -> Self {
        Self {
            stream,
            unread: BytesMut::new(),
            lines: LineBuffer::new(),
            reply_deadline,
            charset: UTF_8,
            tap,
        }
    }

    /// Names in replies are sent in `charset` from now on.
    pub(super) fn speak(&mut self, charset: &'static Encoding) {
        self.charset = charset;
    }

    /// Waits for the next line.
    ///
    /// # Cancel safety
    /// Cancel safe: what was read stays in the buffer.
    pub(super) async fn next(&mut self) -> Incoming {
        loop {
            if let Some(event) = self.lines.next(&mut self.unread) {
                self.tap.note(|| match &event {
                    LineEvent::Line(line) => What::Said(Said::new(line, self.charset)),
                    LineEvent::TooLong => What::Note("a line that is too long".to_owned()),
                    LineEvent::Close => What::Note("a line without an end".to_owned()),
                });
                return Incoming::Line(event);
            }
            match self.read().await {
                Ok(0) | Err(_) => return Incoming::Closed,
                Ok(_) => {}
            }
        }
    }

    /// The next line, or the end, where it is here already; asks the kernel itself, of which tokio
    /// learns a moment later.
    pub(super) async fn next_if_here(&mut self) -> Option<Incoming> {
        let socket = match &self.stream {
            Stream::Clear(stream) => stream,
            Stream::Encrypted(stream) => stream.get_ref().0,
        };
        if self.unread.is_empty() && !has_spoken(socket) {
            return None;
        }
        // What is here may be less than a line, or a record.
        timeout(MOMENT, self.next()).await.ok()
    }

    async fn read(&mut self) -> io::Result<usize> {
        self.unread.reserve(READ_BYTES);
        match &mut self.stream {
            Stream::Encrypted(stream) => stream.read_buf(&mut self.unread).await,
            Stream::Clear(stream) => {
                let mut peeked = [0; READ_BYTES];
                let waiting = stream.peek(&mut peeked).await?;
                // Up to and with the line's end, no further; all of it where the line goes on.
                let line_end = peeked[..waiting].iter().position(|&byte| byte == b'\n');
                let take = line_end.map_or(waiting, |end| end + 1);
                let taken = stream.read(&mut peeked[..take]).await?;
                self.unread.extend_from_slice(&peeked[..taken]);
                Ok(taken)
            }
        }
    }

    /// Sends a reply.
    ///
    /// # Errors
    /// The client did not take it within the deadline, or is gone.
    pub(super) async fn send(&mut self, reply: &Reply) -> io::Result<()> {
        self.tap.note(|| What::Reply {
            code: reply.code(),
            lines: reply.lines().map(str::to_owned).collect(),
        });
        let mut bytes = reply.render();
        if self.charset != UTF_8 {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            bytes = charset::encode(text, self.charset);
        }
        let write = async {
            match &mut self.stream {
                Stream::Clear(stream) => stream.write_all(&bytes).await,
                Stream::Encrypted(stream) => {
                    stream.write_all(&bytes).await?;
                    stream.flush().await
                }
            }
        };
        timeout(self.reply_deadline, write)
            .await
            .map_err(|_| io::ErrorKind::TimedOut)?
    }

    /// Accepts TLS on a connection in clear, after its 234.
    ///
    /// # Errors
    /// The connection is gone in every case: a session never falls back to clear text (C10).
    pub(super) async fn upgrade(
        self,
        tls: &Tls,
        deadline: Duration,
    ) -> Result<(Self, SessionTls, Handshake), UpgradeError> {
        let Stream::Clear(stream) = self.stream else {
            // AUTH inside TLS is answered with 503 and never comes here.
            return Err(UpgradeError::Injected);
        };
        if has_spoken(&stream) {
            let mut first = [0];
            stream.peek(&mut first).await?;
            if first[0] != tls::HANDSHAKE_RECORD {
                return Err(UpgradeError::Injected);
            }
        }
        let (stream, session, handshake) = tls.accept_control(stream, deadline).await?;
        let mut control = Self::encrypted(stream, self.reply_deadline, self.tap);
        control.speak(self.charset);
        Ok((control, session, handshake))
    }

    /// Ends TLS and goes on in the clear, after the 200 to CCC.
    ///
    /// What the client sent inside TLS behind its CCC was meant to be secret and can no longer be
    /// answered so: it ends the connection.
    ///
    /// # Errors
    /// The connection is gone.
    pub(super) async fn leave_tls(self, deadline: Duration) -> io::Result<Self> {
        let Stream::Encrypted(stream) = self.stream else {
            // CCC in clear is answered with 533 and never comes here.
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if !self.unread.is_empty() {
            return Err(io::Error::other("commands behind CCC"));
        }
        let (tcp, session) = stream.into_inner();
        let tcp = timeout(deadline, close_notify_both_ways(tcp, session))
            .await
            .map_err(|_| io::ErrorKind::TimedOut)??;
        Ok(Self::clear(tcp, self.reply_deadline, self.tap))
    }

    /// Ends the connection: `close_notify` where TLS is on, FIN, and a short wait for the client's.
    pub(super) async fn close(mut self) {
        let close = async {
            match &mut self.stream {
                Stream::Clear(stream) => stream.shutdown().await?,
                Stream::Encrypted(stream) => stream.shutdown().await?,
            }
            while self.read().await? > 0 {
                self.unread.clear();
            }
            io::Result::Ok(())
        };
        // The session is over: whatever goes wrong now concerns nobody.
        let _ = timeout(LINGER, close).await;
    }
}

/// Sends `close_notify` and waits for the client's, one TLS record at a time: what follows it is in
/// the clear and stays in the socket. A client that sends none (z/OS with CCCNONOTIFY) is known by
/// its first byte, which begins no record.
async fn close_notify_both_ways(
    mut tcp: TcpStream,
    mut session: rustls::ServerConnection,
) -> io::Result<TcpStream> {
    const RECORD_HEADER: usize = 5;
    session.send_close_notify();
    while session.wants_write() {
        let mut record = Vec::new();
        session.write_tls(&mut record)?;
        tcp.write_all(&record).await?;
    }
    loop {
        let mut first = [0];
        if tcp.peek(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !RECORD_TYPES.contains(&first[0]) {
            return Ok(tcp);
        }
        let mut record = vec![0; RECORD_HEADER];
        tcp.read_exact(&mut record).await?;
        let length = u16::from_be_bytes([record[3], record[4]]);
        record.resize(RECORD_HEADER + usize::from(length), 0);
        tcp.read_exact(&mut record[RECORD_HEADER..]).await?;
        session.read_tls(&mut record.as_slice())?;
        let state = session.process_new_packets().map_err(io::Error::other)?;
        if state.plaintext_bytes_to_read() > 0 {
            return Err(io::Error::other("commands behind CCC"));
        }
        if state.peer_has_closed() {
            return Ok(tcp);
        }
    }
}
