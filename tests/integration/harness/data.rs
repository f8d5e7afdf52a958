//! One data connection, every step of it in the test's hands.

use std::{
    io::{self, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use rustls::{ClientConnection, HandshakeKind, pki_types::CertificateDer};
use socket2::{Domain, SockRef, Socket, Type};

use super::{Tls, stream};

/// How the server ended its side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// TLS `close_notify`.
    CloseNotify,
    /// TCP FIN without `close_notify`.
    Fin,
    /// TCP RST.
    Reset,
}

/// A connection to a passive port. Silent until told otherwise; dropped, it ends with a FIN.
pub(crate) struct Data {
    tcp: TcpStream,
    session: Option<ClientConnection>,
}

impl Data {
    /// Connects without sending anything; with `tls` the handshake can follow.
    pub(crate) fn connect(address: SocketAddr, tls: Option<&Tls>) -> Self {
        Self::over(TcpStream::connect(address).unwrap(), tls)
    }

    /// Connects from another local address than the control connection's.
    pub(crate) fn connect_from(
        source: IpAddr,
        address: SocketAddr,
        tls: Option<&Tls>,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
        socket.connect(&address.into())?;
        Ok(Self::over(socket.into(), tls))
    }

    fn over(tcp: TcpStream, tls: Option<&Tls>) -> Self {
        stream::set_deadlines(&tcp);
        Self {
            tcp,
            session: tls.map(Tls::connection),
        }
    }

    /// Waits longer than other tests do, where a thousand clients share two cores.
    pub(crate) fn wait_up_to(&self, limit: Duration) {
        self.tcp.set_read_timeout(Some(limit)).unwrap();
        self.tcp.set_write_timeout(Some(limit)).unwrap();
    }

    /// Sends the `ClientHello` and waits for nothing.
    pub(crate) fn say_hello(&mut self) {
        let session = self.session.as_mut().expect("a data connection with TLS");
        stream::send_pending(&mut self.tcp, session);
    }

    /// Sends bytes as they are, below TLS.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tcp.write_all(bytes)
    }

    /// Takes the handshake to its end; nothing to do in the clear.
    pub(crate) fn handshake(&mut self) -> io::Result<()> {
        match &mut self.session {
            Some(session) => stream::handshake(&mut self.tcp, session),
            None => Ok(()),
        }
    }

    /// The certificate that the server showed.
    pub(crate) fn server_certificate(&self) -> CertificateDer<'static> {
        let session = self.session.as_ref().expect("a data connection with TLS");
        session.peer_certificates().unwrap()[0].clone()
    }

    /// Full or resumed, once the handshake is done.
    pub(crate) fn handshake_kind(&self) -> Option<HandshakeKind> {
        self.session.as_ref()?.handshake_kind()
    }

    /// The application protocol that the server selected.
    pub(crate) fn protocol(&self) -> Option<&[u8]> {
        self.session.as_ref()?.alpn_protocol()
    }

    /// File content as the records that would carry it.
    pub(crate) fn sealed(&mut self, content: &[u8]) -> Vec<u8> {
        let session = self.session.as_mut().expect("a data connection with TLS");
        session.writer().write_all(content).unwrap();
        records(session)
    }

    /// The records of a `close_notify`.
    pub(crate) fn sealed_close_notify(&mut self) -> Vec<u8> {
        let session = self.session.as_mut().expect("a data connection with TLS");
        session.send_close_notify();
        records(session)
    }

    /// Sends file content.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        stream::write(&mut self.tcp, &mut self.session, bytes)
    }

    /// Ends an upload as RFC 4217 asks, `close_notify` then FIN, and waits for the server's end.
    pub(crate) fn finish(mut self) -> End {
        self.send_close_notify();
        self.tcp.shutdown(Shutdown::Write).unwrap();
        let (rest, end) = self.read_all();
        assert!(
            rest.is_empty(),
            "the server sent {} bytes on an upload",
            rest.len()
        );
        end
    }

    /// Sends content and ends in order, as far as the server takes it: for uploads that it stops.
    pub(crate) fn send_what_is_taken(mut self, bytes: &[u8]) {
        if self.write(bytes).is_err() {
            return;
        }
        if let Some(session) = &mut self.session {
            session.send_close_notify();
            while session.wants_write() && session.write_tls(&mut self.tcp).is_ok() {}
        }
        if self.tcp.shutdown(Shutdown::Write).is_ok() {
            self.wait_closed(Duration::from_mins(1));
        }
    }

    /// As [`Data::finish`], where the server may have ended the upload before.
    pub(crate) fn finish_anyhow(mut self) {
        if let Some(session) = &mut self.session {
            session.send_close_notify();
            while session.wants_write() {
                if session.write_tls(&mut self.tcp).is_err() {
                    return;
                }
            }
        }
        // Gone already is as good.
        let _ = self.tcp.shutdown(Shutdown::Write);
    }

    /// Sends `close_notify` and leaves the connection open.
    pub(crate) fn send_close_notify(&mut self) {
        let Some(session) = &mut self.session else {
            return;
        };
        session.send_close_notify();
        stream::send_pending(&mut self.tcp, session);
    }

    /// Ends the client's side with a bare FIN.
    pub(crate) fn send_fin(&self) {
        self.tcp.shutdown(Shutdown::Write).unwrap();
    }

    /// Ends with RST, as a crashed or powered-off device's socket does in the end.
    pub(crate) fn reset(self) {
        SockRef::from(&self.tcp)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }

    /// Reads a first piece of content.
    pub(crate) fn read_some(&mut self) {
        assert_ne!(
            self.read(&mut [0; 4096]).unwrap(),
            0,
            "the server ended before any content"
        );
    }

    /// Reads until the server ends its side.
    pub(crate) fn read_all(&mut self) -> (Vec<u8>, End) {
        let mut content = Vec::new();
        let end = self.read_each(|chunk| content.extend_from_slice(chunk));
        (content, end)
    }

    /// Reads until the server ends its side, and holds nothing of it.
    pub(crate) fn read_each(&mut self, mut take: impl FnMut(&[u8])) -> End {
        let (mut chunk, mut total) = (vec![0; 64 << 10], 0);
        loop {
            match self.read(&mut chunk) {
                Ok(0) if self.session.is_some() => return End::CloseNotify,
                Ok(0) => return End::Fin,
                Ok(count) => {
                    total += count;
                    take(&chunk[..count]);
                }
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return End::Fin,
                Err(error) if stream::is_timeout(&error) => {
                    panic!("the server keeps the data connection open after {total} bytes")
                }
                Err(_) => return End::Reset,
            }
        }
    }

    /// Waits until the server ends the connection below TLS, whatever it says before.
    pub(crate) fn wait_closed(&mut self, limit: Duration) {
        stream::wait_closed(&mut self.tcp, limit);
    }

    fn read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        stream::read(&mut self.tcp, &mut self.session, chunk)
    }
}

fn records(session: &mut ClientConnection) -> Vec<u8> {
    let mut records = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut records).unwrap();
    }
    records
}
