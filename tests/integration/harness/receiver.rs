//! A receiver of webhooks that remembers what it was sent and answers as it is told.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

/// A client that says nothing for so long is gone.
const SOON: Duration = Duration::from_secs(10);

/// Listens on loopback until it is dropped.
pub(crate) struct Receiver {
    scheme: &'static str,
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    requests: Mutex<Vec<Request>>,
    /// `None`: hangs up without a word.
    answer: Mutex<Option<u16>>,
    ends: AtomicBool,
}

/// One request that was answered with success.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
    pub(crate) bytes: Vec<u8>,
}

impl Receiver {
    /// Answers everything with `answer`; `None` hangs up.
    pub(crate) fn start(answer: Option<u16>) -> Self {
        Self::listen(answer, None)
    }

    /// The same over TLS, with `cert.pem` and `key.pem` of a directory.
    pub(crate) fn with_tls(answer: Option<u16>, directory: &Path) -> Self {
        let certificate = CertificateDer::from_pem_file(directory.join("cert.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(directory.join("key.pem")).unwrap();
        let config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        Self::listen(answer, Some(Arc::new(config)))
    }

    fn listen(answer: Option<u16>, tls: Option<Arc<ServerConfig>>) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        *shared.answer.lock().unwrap() = answer;
        let served = Arc::clone(&shared);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let thread = thread::spawn(move || {
            for stream in socket.incoming() {
                if served.ends.load(Ordering::SeqCst) {
                    return;
                }
                let stream = stream.unwrap();
                stream.set_read_timeout(Some(SOON)).unwrap();
                // A client that gives up half way is no matter.
                let _ = match &tls {
                    None => serve(stream, &served),
                    Some(config) => {
                        let session = ServerConnection::new(Arc::clone(config)).unwrap();
                        serve(StreamOwned::new(session, stream), &served)
                    }
                };
            }
        });
        Self {
            scheme,
            address,
            shared,
            thread: Some(thread),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}/hook", self.scheme, self.address)
    }

    /// From now on.
    pub(crate) fn answer(&self, answer: Option<u16>) {
        *self.shared.answer.lock().unwrap() = answer;
    }

    /// Everything that was taken.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }
}

fn serve(stream: impl Read + Write, shared: &Shared) -> std::io::Result<()> {
    let Some(status) = *shared.answer.lock().unwrap() else {
        return Ok(());
    };
    let mut reader = BufReader::new(stream);
    let mut headers = BTreeMap::new();
    let mut line = String::new();
    reader.read_line(&mut line)?;
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length");
    let length = length.map_or(0, |length| length.parse().unwrap());
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes)?;
    let body = String::from_utf8_lossy(&bytes).into_owned();
    if (200..300).contains(&status) {
        let request = Request {
            headers,
            body,
            bytes,
        };
        shared.requests.lock().unwrap().push(request);
    }
    let mut stream = reader.into_inner();
    write!(
        stream,
        "HTTP/1.1 {status} Said\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )?;
    stream.flush()
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        // Wakes the thread up.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
