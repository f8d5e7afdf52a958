//! A gateway that fails: an HTTP proxy before the S3 server that answers some requests with an error,
//! cuts or delays them, or drops the answer to one that was carried out.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// 500, not carried out.
    InternalError,
    /// 503, not carried out.
    SlowDown,
    /// The connection ends in the middle of the request's body; not carried out.
    CutRequest,
    /// Carried out, the connection ends in the middle of the answer.
    CutAnswer,
    /// Carried out, after a while.
    Slow,
    /// Carried out, the connection ends before the answer.
    LostAnswer,
}

const FAULTS: [Fault; 6] = [
    Fault::InternalError,
    Fault::SlowDown,
    Fault::CutRequest,
    Fault::CutAnswer,
    Fault::Slow,
    Fault::LostAnswer,
];

/// How long a slow request takes.
const SLOWNESS: Duration = Duration::from_millis(700);

/// The proxy. Its threads end with the test's process.
pub(crate) struct FaultyGateway {
    /// `http://address`, for the configuration.
    pub(crate) endpoint: String,
    shared: Arc<Shared>,
}

/// What its key ends in, to whom it is said that it has come, and from whom it hears that it may go on.
type Hold = (String, Sender<()>, Receiver<()>);

/// A request that is held back.
pub(crate) struct Held {
    arrived: Receiver<()>,
    go: Sender<()>,
}

impl Held {
    /// Waits until it has come.
    pub(crate) fn wait(&self) {
        self.arrived.recv_timeout(Duration::from_mins(1)).unwrap();
    }

    /// Lets it go on.
    pub(crate) fn release(self) {
        self.go.send(()).unwrap();
    }
}

struct Shared {
    upstream: SocketAddr,
    /// Of a thousand requests, so many fail.
    per_mille: AtomicU64,
    random: AtomicU64,
    requests: AtomicU64,
    /// By verb and fault.
    done: Mutex<BTreeMap<(String, Fault), u64>>,
    /// The answer to the next request of this verb is lost.
    lose: Mutex<Option<&'static str>>,
    /// Says that this has been carried out, and waits before the connection ends.
    lost: Mutex<Option<Hold>>,
    /// The next request that makes an object of this key says that it has come, and waits.
    hold: Mutex<Option<Hold>>,
    /// Verb and target of every request.
    seen: Mutex<Vec<(String, String)>>,
}

impl FaultyGateway {
    /// Before the gateway at `endpoint` (`http://address`).
    pub(crate) fn start(endpoint: &str, per_mille: u64, seed: u64) -> Self {
        let upstream = endpoint.trim_start_matches("http://").parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            upstream,
            per_mille: AtomicU64::new(per_mille),
            random: AtomicU64::new(seed),
            requests: AtomicU64::new(0),
            done: Mutex::default(),
            lose: Mutex::default(),
            lost: Mutex::default(),
            hold: Mutex::default(),
            seen: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, shared) = (client.unwrap(), Arc::clone(&accepting));
                // An error is a connection that ended: on purpose, or since a side went away.
                thread::spawn(move || {
                    let _ = serve(&client, &shared);
                });
            }
        });
        Self { endpoint, shared }
    }

    /// How many of a thousand requests fail from now on.
    pub(crate) fn set(&self, per_mille: u64) {
        self.shared.per_mille.store(per_mille, Ordering::SeqCst);
    }

    /// The next request of this verb is carried out, and its answer is lost.
    pub(crate) fn lose_next(&self, verb: &'static str) {
        *self.shared.lose.lock().unwrap() = Some(verb);
    }

    /// The same; the connection ends when it is released.
    pub(crate) fn lose_next_later(&self, verb: &'static str) -> Held {
        let ((tell, arrived), (go, wait)) = (mpsc::channel(), mpsc::channel());
        *self.shared.lost.lock().unwrap() = Some((verb.to_owned(), tell, wait));
        self.lose_next(verb);
        Held { arrived, go }
    }

    /// Holds the next request back that makes an object whose key ends in `key`.
    pub(crate) fn hold_next(&self, key: &str) -> Held {
        let ((tell, arrived), (go, wait)) = (mpsc::channel(), mpsc::channel());
        *self.shared.hold.lock().unwrap() = Some((key.to_owned(), tell, wait));
        Held { arrived, go }
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Verbs of the requests so far whose key ends in `key`.
    pub(crate) fn requests_for(&self, key: &str) -> Vec<String> {
        let seen = self.shared.seen.lock().unwrap();
        seen.iter()
            .filter(|(_, target)| target.ends_with(key))
            .map(|(verb, _)| verb.clone())
            .collect()
    }

    /// Requests so far by which the store copies an object or a part of one.
    pub(crate) fn copies(&self) -> usize {
        let seen = self.shared.seen.lock().unwrap();
        seen.iter()
            .filter(|(verb, _)| verb.ends_with("copy"))
            .count()
    }

    /// What was done to them, by verb and fault.
    pub(crate) fn faults(&self) -> BTreeMap<(String, Fault), u64> {
        self.shared.done.lock().unwrap().clone()
    }
}

impl Shared {
    fn next(&self) -> u64 {
        // splitmix64: every call another number, whatever the threads' order.
        let step = 0x9E37_79B9_7F4A_7C15;
        let mut z = self
            .random
            .fetch_add(step, Ordering::SeqCst)
            .wrapping_add(step);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn hold(&self, request: &Head) -> io::Result<()> {
        let makes = ["PUT", "PUT copy", "POST", "POST uploadId"].contains(&request.verb().as_str());
        let mut hold = self.hold.lock().unwrap();
        let meant = hold
            .as_ref()
            .is_some_and(|(key, ..)| makes && request.target().ends_with(key.as_str()));
        if let Some((_, tell, wait)) = hold.take_if(|_| meant) {
            drop(hold);
            tell.send(()).unwrap();
            // Who lets it go without a word wants it to be lost.
            wait.recv().map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn fault(&self, request: &Head) -> Option<Fault> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let seen = (request.verb(), request.target().to_owned());
        self.seen.lock().unwrap().push(seen);
        let mut lose = self.lose.lock().unwrap();
        if lose.is_some_and(|verb| verb == request.verb()) {
            *lose = None;
            return Some(Fault::LostAnswer);
        }
        drop(lose);
        if self.next() % 1000 >= self.per_mille.load(Ordering::SeqCst) {
            return None;
        }
        let choice = usize::try_from(self.next() % FAULTS.len() as u64).unwrap();
        let fault = match FAULTS[choice] {
            Fault::CutRequest if request.length == 0 => Fault::LostAnswer,
            fault => fault,
        };
        *self
            .done
            .lock()
            .unwrap()
            .entry((request.verb(), fault))
            .or_default() += 1;
        Some(fault)
    }
}

/// Everything before a body.
struct Head {
    /// The first line and the headers, with the empty line.
    text: String,
    length: u64,
    chunked: bool,
    expects_continue: bool,
}

impl Head {
    fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut head = Self {
            text: String::new(),
            length: 0,
            chunked: false,
            expects_continue: false,
        };
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            let lower = line.to_ascii_lowercase();
            if let Some(length) = lower.strip_prefix("content-length:") {
                head.length = length.trim().parse().map_err(io::Error::other)?;
            }
            head.chunked |= lower.starts_with("transfer-encoding:") && lower.contains("chunked");
            if lower.starts_with("expect:") {
                // Answered here; the upstream server gets the body at once.
                head.expects_continue = true;
                continue;
            }
            head.text.push_str(&line);
            if line.trim().is_empty() {
                return Ok(Some(head));
            }
        }
    }

    /// The path, without the query.
    fn target(&self) -> &str {
        let target = self.text.split(' ').nth(1).unwrap_or_default();
        target.split('?').next().unwrap_or_default()
    }

    /// The method, and what kind of request it is where the query or a header says.
    fn verb(&self) -> String {
        let line = self.text.lines().next().unwrap_or_default();
        let mut words = line.split(' ');
        let method = words.next().unwrap_or_default();
        let query = words.next().and_then(|target| target.split_once('?'));
        let kinds = ["uploads", "partNumber", "uploadId", "list-type"];
        let kind = query.and_then(|(_, query)| kinds.into_iter().find(|kind| query.contains(kind)));
        let headers = self.text.to_ascii_lowercase();
        let copy = headers.contains("\r\nx-amz-copy-source:").then_some("copy");
        let words = [Some(method), kind, copy];
        words.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    fn status(&self) -> u16 {
        let status = self.text.split(' ').nth(1);
        status.and_then(|status| status.parse().ok()).unwrap_or(0)
    }
}

fn serve(client: &TcpStream, shared: &Shared) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut reader = BufReader::new(client);
    let mut writer = client;
    let upstream = TcpStream::connect(shared.upstream)?;
    upstream.set_nodelay(true)?;
    let mut answers = BufReader::new(&upstream);
    while let Some(request) = Head::read(&mut reader)? {
        assert!(
            !request.chunked,
            "a request of unknown length: {}",
            request.text
        );
        if request.expects_continue {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let fault = shared.fault(&request);
        shared.hold(&request)?;
        let mut body = (&mut reader).take(request.length);
        match fault {
            Some(Fault::InternalError) => {
                io::copy(&mut body, &mut io::sink())?;
                refuse(&mut writer, "500 Internal Server Error", "InternalError")?;
                continue;
            }
            Some(Fault::SlowDown) => {
                io::copy(&mut body, &mut io::sink())?;
                refuse(&mut writer, "503 Service Unavailable", "SlowDown")?;
                continue;
            }
            Some(Fault::CutRequest) => {
                io::copy(&mut body.take(request.length / 2), &mut io::sink())?;
                return Ok(());
            }
            // The pause is the fault, not a wait for anything.
            Some(Fault::Slow) => thread::sleep(SLOWNESS),
            Some(Fault::CutAnswer | Fault::LostAnswer) | None => {}
        }
        (&upstream).write_all(request.text.as_bytes())?;
        io::copy(&mut body, &mut &upstream)?;
        let answer = answer_to(&request, &mut answers)?;
        match fault {
            Some(Fault::LostAnswer) => {
                let lost = shared.lost.lock().unwrap().take();
                if let Some((_, tell, wait)) = lost {
                    tell.send(()).unwrap();
                    let _ = wait.recv();
                }
                return Ok(());
            }
            Some(Fault::CutAnswer) => return writer.write_all(&answer[..answer.len() / 2]),
            _ => writer.write_all(&answer)?,
        }
    }
    Ok(())
}

fn refuse(writer: &mut impl Write, status: &str, code: &str) -> io::Result<()> {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    writer.write_all((head + &body).as_bytes())
}

/// The whole answer, as it came.
fn answer_to(request: &Head, reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let head = Head::read(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    if head.status() == 100 {
        return answer_to(request, reader);
    }
    let mut answer = head.text.clone().into_bytes();
    if request.verb().starts_with("HEAD") || matches!(head.status(), 204 | 304) {
        return Ok(answer);
    }
    if !head.chunked {
        reader.take(head.length).read_to_end(&mut answer)?;
        return Ok(answer);
    }
    loop {
        let start = answer.len();
        reader.read_until(b'\n', &mut answer)?;
        let line = String::from_utf8_lossy(&answer[start..]).trim().to_owned();
        let size = u64::from_str_radix(line.split(';').next().unwrap_or_default(), 16)
            .map_err(io::Error::other)?;
        // A chunk and its line end; the last one is empty, with no trailers.
        reader.take(size + 2).read_to_end(&mut answer)?;
        if size == 0 {
            return Ok(answer);
        }
    }
}
