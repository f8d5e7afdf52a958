//! A raw control connection: lines in, replies out, nothing done on its own.

use std::{
    fmt,
    io::{self, Read},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use rustls::{ClientConnection, HandshakeKind, pki_types::CertificateDer};
use socket2::{Domain, SockRef, Socket, Type};

use super::{
    Data, End, PASSWORD, Server, Tls, Version,
    stream::{self, is_timeout},
};

/// One reply, all its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) lines: Vec<String>,
}

impl Reply {
    /// The lines with the code, as they came.
    pub(crate) fn text(&self) -> String {
        self.lines.join("\n")
    }

    #[track_caller]
    pub(crate) fn expect(self, code: u16) -> Self {
        assert_eq!(self.code, code, "{self}");
        self
    }

    #[track_caller]
    pub(crate) fn expect_any(self, codes: &[u16]) -> Self {
        assert!(
            codes.contains(&self.code),
            "one of {codes:?} expected, got {self}"
        );
        self
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text())
    }
}

/// A control connection.
pub(crate) struct Raw {
    tcp: TcpStream,
    session: Option<ClientConnection>,
    /// What data connections are made with; `None` sends them in the clear.
    data_tls: Option<Tls>,
    received: Vec<u8>,
    /// Replies are read as Latin-1.
    latin1: bool,
}

impl Raw {
    /// Connects, reads the greeting, says nothing.
    pub(crate) fn clear(address: SocketAddr) -> Self {
        let mut raw = Self::silent(address);
        raw.reply().expect(220);
        raw
    }

    /// Connects and reads nothing.
    pub(crate) fn silent(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).unwrap())
    }

    /// As [`Raw::silent`], from this local address.
    pub(crate) fn silent_from(source: &str, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        let source: IpAddr = source.parse().unwrap();
        socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::over(socket.into())
    }

    fn over(tcp: TcpStream) -> Self {
        stream::set_deadlines(&tcp);
        Self {
            tcp,
            session: None,
            data_tls: None,
            received: Vec::new(),
            latin1: false,
        }
    }

    /// Over AUTH TLS, protected data, logged in as `alice`, with TLS 1.3.
    pub(crate) fn explicit(server: &Server) -> Self {
        Self::explicit_with(server, &server.tls(Version::Tls13))
    }

    /// As [`Raw::explicit`], with this TLS.
    pub(crate) fn explicit_with(server: &Server, tls: &Tls) -> Self {
        let mut raw = Self::secured(server, tls);
        raw.protect();
        raw.login("alice");
        raw
    }

    /// As [`Raw::explicit`], as another user.
    pub(crate) fn explicit_as(server: &Server, user: &str) -> Self {
        let mut raw = Self::secured(server, &server.tls(Version::Tls13));
        raw.protect();
        raw.login(user);
        raw
    }

    /// Over AUTH TLS, not logged in, PROT not said.
    pub(crate) fn secured(server: &Server, tls: &Tls) -> Self {
        let mut raw = Self::clear(server.explicit);
        raw.expect("AUTH TLS", 234);
        raw.start_tls(tls).unwrap();
        raw
    }

    /// TLS with the first byte; greeting read, not logged in, data protected without a word.
    pub(crate) fn implicit_with(server: &Server, tls: &Tls) -> Self {
        let mut raw = Self::silent(server.implicit);
        raw.start_tls(tls).unwrap();
        raw.data_tls = Some(tls.clone());
        raw.reply().expect(220);
        raw
    }

    /// Turns the connection into TLS. Data connections stay in the clear until [`Raw::protect`].
    pub(crate) fn start_tls(&mut self, tls: &Tls) -> io::Result<()> {
        self.continue_tls(tls, tls.connection())
    }

    /// As [`Raw::start_tls`], with a connection that may have said something already.
    pub(crate) fn continue_tls(
        &mut self,
        tls: &Tls,
        mut session: ClientConnection,
    ) -> io::Result<()> {
        stream::handshake(&mut self.tcp, &mut session)?;
        self.session = Some(session);
        self.data_tls = Some(tls.clone());
        Ok(())
    }

    /// PBSZ and PROT P.
    #[track_caller]
    pub(crate) fn protect(&mut self) {
        self.expect("PBSZ 0", 200);
        self.expect("PROT P", 200);
    }

    /// Replies are Latin-1 from now on.
    pub(crate) fn expect_latin1(&mut self) {
        self.latin1 = true;
    }

    /// Data connections go in the clear from now on, whatever the server thinks.
    pub(crate) fn send_data_in_clear(&mut self) {
        self.data_tls = None;
    }

    /// USER, PASS, and TYPE I as every client says it.
    #[track_caller]
    pub(crate) fn login(&mut self, user: &str) {
        self.expect(&format!("USER {user}"), 331);
        self.expect(&format!("PASS {PASSWORD}"), 230);
        self.expect("TYPE I", 200);
    }

    /// The application protocol that the server selected.
    pub(crate) fn protocol(&self) -> Option<Vec<u8>> {
        self.session.as_ref()?.alpn_protocol().map(<[u8]>::to_vec)
    }

    /// The certificate that the server showed.
    pub(crate) fn server_certificate(&self) -> CertificateDer<'static> {
        let session = self.session.as_ref().expect("a connection under TLS");
        session.peer_certificates().unwrap()[0].clone()
    }

    /// Data connections are made with this TLS from now on.
    pub(crate) fn use_for_data(&mut self, tls: &Tls) {
        self.data_tls = Some(tls.clone());
    }

    pub(crate) fn handshake_kind(&self) -> Option<HandshakeKind> {
        self.session.as_ref()?.handshake_kind()
    }

    /// Replies may take minutes: the store fails.
    pub(crate) fn be_patient(&mut self) {
        let limit = Some(Duration::from_mins(5));
        self.tcp.set_read_timeout(limit).unwrap();
    }

    /// Sends bytes as they are, in the clear or inside TLS as the connection stands.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        stream::write(&mut self.tcp, &mut self.session, bytes)
    }

    /// Sends one line and reads one reply.
    #[track_caller]
    pub(crate) fn command(&mut self, line: &str) -> Reply {
        self.send(format!("{line}\r\n").as_bytes()).unwrap();
        match self.try_reply() {
            Ok(reply) => reply,
            Err(error) => panic!("{line}: no reply: {error}"),
        }
    }

    /// Sends one line and demands this code.
    #[track_caller]
    pub(crate) fn expect(&mut self, line: &str, code: u16) -> Reply {
        let reply = self.command(line);
        assert_eq!(reply.code, code, "{line}: {reply}");
        reply
    }

    /// Reads one reply.
    #[track_caller]
    pub(crate) fn reply(&mut self) -> Reply {
        match self.try_reply() {
            Ok(reply) => reply,
            Err(error) => panic!("no reply: {error}"),
        }
    }

    /// Reads one reply that must come within `limit`.
    #[track_caller]
    pub(crate) fn reply_within(&mut self, limit: Duration) -> Reply {
        self.tcp.set_read_timeout(Some(limit)).unwrap();
        let reply = self.try_reply();
        self.tcp
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        match reply {
            Ok(reply) => reply,
            Err(error) => panic!("no reply within {limit:?}: {error}"),
        }
    }

    pub(crate) fn try_reply(&mut self) -> io::Result<Reply> {
        let first = self.line()?;
        let code = first
            .get(..3)
            .and_then(|digits| digits.parse().ok())
            .unwrap_or_else(|| panic!("not a reply: {first:?}"));
        let last = format!("{code} ");
        let mut lines = vec![first];
        if lines[0].as_bytes().get(3) == Some(&b'-') {
            while !lines[lines.len() - 1].starts_with(&last) {
                lines.push(self.line()?);
            }
        }
        Ok(Reply { code, lines })
    }

    /// Reads until the server closes; gives what it said before.
    #[track_caller]
    pub(crate) fn until_closed(&mut self, limit: Duration) -> Vec<Reply> {
        self.tcp.set_read_timeout(Some(limit)).unwrap();
        let mut replies = Vec::new();
        loop {
            match self.try_reply() {
                Ok(reply) => replies.push(reply),
                Err(error) if is_timeout(&error) => {
                    panic!("still open after {limit:?}; it said {replies:?}")
                }
                Err(_) => return replies,
            }
        }
    }

    /// How the server ends the connection once it has said everything.
    #[track_caller]
    pub(crate) fn end(&mut self) -> End {
        loop {
            match self.try_reply() {
                Ok(_) => {}
                Err(error) if is_timeout(&error) => panic!("still open"),
                // Ours for a read of 0 bytes carries no text; that of rustls says what is missing.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    let clean = self.session.is_some() && error.get_ref().is_none();
                    return if clean { End::CloseNotify } else { End::Fin };
                }
                Err(_) => return End::Reset,
            }
        }
    }

    /// Ends TLS in both directions and goes on in the clear, as after CCC.
    #[track_caller]
    pub(crate) fn leave_tls(&mut self) {
        self.try_leave_tls().expect("close_notify from the server");
    }

    /// As [`Raw::leave_tls`], where the server may have ended the connection.
    #[track_caller]
    pub(crate) fn try_leave_tls(&mut self) -> io::Result<()> {
        let mut session = self.session.take().expect("a connection under TLS");
        session.send_close_notify();
        while session.wants_write() {
            session.write_tls(&mut self.tcp)?;
        }
        let mut rest = [0; 1];
        let count = rustls::Stream::new(&mut session, &mut self.tcp).read(&mut rest)?;
        assert_eq!(count, 0, "bytes inside TLS behind the reply to CCC");
        Ok(())
    }

    /// Waits until the server closes, below TLS, whatever bytes it sends before.
    #[track_caller]
    pub(crate) fn wait_closed(&mut self, limit: Duration) {
        stream::wait_closed(&mut self.tcp, limit);
    }

    /// Closes with a FIN and without QUIT.
    pub(crate) fn hang_up(self) {
        self.tcp.shutdown(Shutdown::Both).unwrap();
    }

    /// Closes with RST.
    pub(crate) fn reset(self) {
        SockRef::from(&self.tcp)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }

    /// EPSV; the port on the address of the control connection.
    #[track_caller]
    pub(crate) fn epsv(&mut self) -> SocketAddr {
        let reply = self.expect("EPSV", 229);
        let text = reply.text();
        let port = text
            .split("|||")
            .nth(1)
            .and_then(|rest| rest.split('|').next());
        let port = port.and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("no port in {text:?}"));
        SocketAddr::new(self.tcp.peer_addr().unwrap().ip(), port)
    }

    /// PASV; the address in the reply.
    #[track_caller]
    pub(crate) fn pasv(&mut self) -> SocketAddr {
        let text = self.expect("PASV", 227).text();
        let inside = text
            .split(['(', ')'])
            .nth(1)
            .unwrap_or_else(|| panic!("{text:?}"));
        let fields: Vec<u8> = inside
            .split(',')
            .map(|field| field.parse().unwrap())
            .collect();
        let [a, b, c, d, high, low] = fields[..] else {
            panic!("{text:?}")
        };
        SocketAddr::from(([a, b, c, d], u16::from_be_bytes([high, low])))
    }

    /// EPSV and a connection to the port; no handshake yet.
    #[track_caller]
    pub(crate) fn open_data(&mut self) -> Data {
        let address = self.epsv();
        Data::connect(address, self.data_tls.as_ref())
    }

    /// A connection to a port that the test asked for itself.
    pub(crate) fn connect_data(&self, address: SocketAddr) -> Data {
        Data::connect(address, self.data_tls.as_ref())
    }

    /// Begins a transfer: 150 seen, handshake done.
    #[track_caller]
    pub(crate) fn begin_transfer(&mut self, line: &str) -> Data {
        let mut data = self.open_data();
        self.expect(line, 150);
        data.handshake().unwrap();
        data
    }

    /// Uploads; 226 demanded.
    #[track_caller]
    pub(crate) fn store(&mut self, line: &str, content: &[u8]) {
        let mut data = self.begin_transfer(line);
        data.write(content).unwrap();
        assert_eq!(
            data.finish(),
            self.clean_end(),
            "{line}: how the server ended the upload"
        );
        self.reply().expect(226);
    }

    /// Downloads or lists; 226 demanded.
    #[track_caller]
    pub(crate) fn retrieve(&mut self, line: &str) -> Vec<u8> {
        let mut data = self.open_data();
        self.expect(line, 150);
        data.handshake().unwrap();
        let (content, end) = data.read_all();
        assert_eq!(
            end,
            self.clean_end(),
            "{line}: how the server ended the download"
        );
        self.reply().expect(226);
        content
    }

    /// Sends a transfer command that must fail: its final reply, with or without a 150 before.
    #[track_caller]
    pub(crate) fn failing_transfer(&mut self, line: &str) -> Reply {
        let reply = self.command(line);
        if reply.code == 150 {
            self.reply()
        } else {
            reply
        }
    }

    /// As [`Raw::failing_transfer`], with a passive port asked for before.
    #[track_caller]
    pub(crate) fn failing_transfer_with_data(&mut self, line: &str) -> Reply {
        let _data = self.open_data();
        self.failing_transfer(line)
    }

    /// Names in the current directory, by NLST.
    #[track_caller]
    pub(crate) fn names(&mut self, line: &str) -> Vec<String> {
        let listing = String::from_utf8(self.retrieve(line)).unwrap();
        let mut names: Vec<String> = listing.lines().map(str::to_owned).collect();
        names.sort();
        names
    }

    fn clean_end(&self) -> End {
        if self.data_tls.is_some() {
            End::CloseNotify
        } else {
            End::Fin
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.received.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                let line = if self.latin1 {
                    line.into_iter().map(char::from).collect()
                } else {
                    String::from_utf8(line).expect("a reply in UTF-8")
                };
                return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
            }
            // In the clear one byte at a time: the byte after a 234 belongs to TLS.
            let mut chunk = [0; 4096];
            let most = if self.session.is_some() {
                chunk.len()
            } else {
                1
            };
            let count = stream::read(&mut self.tcp, &mut self.session, &mut chunk[..most])?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.received.extend_from_slice(&chunk[..count]);
        }
    }
}

/// As many uploads under way, `up0`, `up1` …, each in a session of its own with `begin` sent.
pub(crate) fn begin_uploads(server: &Server, count: usize, begin: &[u8]) -> Vec<(Raw, Data)> {
    let upload = |index| {
        let mut raw = Raw::explicit(server);
        let mut data = raw.begin_transfer(&format!("STOR up{index}"));
        data.write(begin).unwrap();
        (raw, data)
    };
    (0..count).map(upload).collect()
}

/// As many downloads of `down` under way, each in a session of its own, none read.
pub(crate) fn begin_downloads(server: &Server, count: usize) -> Vec<(Raw, Data)> {
    let download = |_| {
        let mut raw = Raw::explicit(server);
        let data = raw.begin_transfer("RETR down");
        (raw, data)
    };
    (0..count).map(download).collect()
}
