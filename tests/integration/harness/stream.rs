//! A TCP connection with or without TLS on it, as control and data connections have in common.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

use rustls::ClientConnection;

const PATIENCE: Duration = Duration::from_secs(30);

/// No test waits for ever.
pub(super) fn set_deadlines(tcp: &TcpStream) {
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    tcp.set_write_timeout(Some(PATIENCE)).unwrap();
    tcp.set_nodelay(true).unwrap();
}

/// Runs `action` with another deadline for reads.
pub(super) fn within<T>(
    tcp: &mut TcpStream,
    limit: Duration,
    action: impl FnOnce(&mut TcpStream) -> T,
) -> T {
    tcp.set_read_timeout(Some(limit)).unwrap();
    let done = action(tcp);
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    done
}

pub(super) fn handshake(tcp: &mut TcpStream, session: &mut ClientConnection) -> io::Result<()> {
    while session.is_handshaking() {
        session.complete_io(tcp)?;
    }
    Ok(())
}

pub(super) fn write(
    tcp: &mut TcpStream,
    session: &mut Option<ClientConnection>,
    bytes: &[u8],
) -> io::Result<()> {
    let Some(session) = session else {
        return tcp.write_all(bytes);
    };
    let mut stream = rustls::Stream::new(session, tcp);
    stream.write_all(bytes)?;
    stream.flush()
}

pub(super) fn read(
    tcp: &mut TcpStream,
    session: &mut Option<ClientConnection>,
    chunk: &mut [u8],
) -> io::Result<usize> {
    match session {
        Some(session) => rustls::Stream::new(session, tcp).read(chunk),
        None => tcp.read(chunk),
    }
}

/// Sends what TLS has to say: a `ClientHello`, a `close_notify`.
pub(super) fn send_pending(tcp: &mut TcpStream, session: &mut ClientConnection) {
    while session.wants_write() {
        session.write_tls(tcp).unwrap();
    }
}

/// Waits until the server closes, below TLS, whatever bytes it sends before.
#[track_caller]
pub(super) fn wait_closed(tcp: &mut TcpStream, limit: Duration) {
    within(tcp, limit, |tcp| {
        let mut chunk = [0; 4096];
        loop {
            match tcp.read(&mut chunk) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if is_timeout(&error) => panic!("still open after {limit:?}"),
                Err(_) => return,
            }
        }
    });
}

/// A read time-out, which Linux reports as `WouldBlock`.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
