//! [`Traces`]: what chosen clients and the server say to each other, line by line, for an operator.
//!
//! Owns who is followed and for how long, and what was heard: every line both ways, TLS, data
//! connections, transfers. Passwords are taken out before anything is kept ([`redact`]). Bounded in
//! number, time, lines and bytes. While nobody is followed a session pays one look at a counter a line.
//!
//! | file | owns |
//! | --- | --- |
//! | `tap` | a session's end: what it tells and to which traces |
//! | `redact` | lines without their secrets |
//! | `dialogue` | a session as a dialogue that can be replayed |

mod dialogue;
mod redact;
mod tap;

use std::{
    collections::VecDeque,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use ipnet::IpNet;
use tokio::time::Instant;

pub(super) use self::{redact::Said, tap::Tap};
use super::tls::Handshake;

/// Traces that are kept, running ones included.
pub const KEPT: usize = 8;
/// Longest trace.
pub const LONGEST: Duration = Duration::from_hours(24);
/// Most lines of a trace.
pub const LINES: usize = 100_000;
/// Most bytes of a trace, as it lies in memory.
const BYTES: usize = 2 << 20;
/// What an entry costs beside its text.
const ENTRY_BYTES: usize = 96;
/// How long an ended trace is kept: it holds names of files.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(1);

/// Who is followed. Cheap to look at when nobody is.
#[derive(Debug, Default)]
pub struct Traces {
    /// Running traces.
    running: AtomicUsize,
    /// Grows with each change of who is followed.
    generation: AtomicU64,
    kept: Mutex<VecDeque<Arc<Trace>>>,
}

/// Whom a trace follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Who says this name in USER, or logs in as it by certificate.
    User(String),
    /// Who comes from there.
    Network(IpNet),
}

/// What an operator asks for.
#[derive(Clone, Debug)]
pub struct Order {
    /// Whom.
    pub subject: Subject,
    /// How long; at most [`LONGEST`].
    pub lasts: Duration,
    /// How many entries; at most [`LINES`].
    pub lines: usize,
}

/// One trace.
#[derive(Debug)]
pub struct Trace {
    id: String,
    order: Order,
    started: SystemTime,
    end: Instant,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    entries: Vec<Entry>,
    bytes: usize,
    ended: Option<(Ended, SystemTime, Instant)>,
}

/// Why a trace ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its time was over.
    Time,
    /// It was full.
    Full,
    /// An operator ended it.
    Operator,
}

/// A moment of a session.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When.
    pub at: SystemTime,
    /// Whose.
    pub session: Arc<str>,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum What {
    /// The connection was made.
    Connected {
        /// Address and port of the client.
        peer: SocketAddr,
        /// Name of the listener.
        listener: Arc<str>,
        /// TLS comes first.
        implicit: bool,
    },
    /// The trace found the session under way.
    Joined,
    /// A TLS handshake on the control connection was done.
    Tls {
        /// How.
        handshake: Handshake,
        /// SNI of the client.
        server_name: Option<String>,
    },
    /// A line of the client's.
    Said(Said),
    /// A reply.
    Reply {
        /// Three digits.
        code: u16,
        /// Text of all lines.
        lines: Vec<String>,
    },
    /// A data connection is ready for bytes; `None`: in the clear.
    Data(Option<Handshake>),
    /// A transfer is over.
    Transfer {
        /// Of the command.
        verb: &'static str,
        /// `upload`, `download`, `listing`.
        direction: &'static str,
        /// Absolute.
        path: String,
        /// First byte in the file.
        offset: u64,
        /// Moved.
        bytes: u64,
        /// `complete`, or why not.
        outcome: &'static str,
    },
    /// A command about a file or directory succeeded.
    Did {
        /// Of the command.
        verb: &'static str,
        /// Absolute; of a rename, the new one.
        path: String,
        /// Of a rename, the old one.
        from: Option<String>,
        /// What was found there.
        found: Found,
    },
    /// Something else that is worth a line.
    Note(String),
    /// The connection ended.
    Disconnected,
}

/// What lies at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nobody looked.
    Unsaid,
    /// A file of so many bytes.
    File(u64),
    /// A directory.
    Directory,
}

impl Traces {
    /// Follows somebody from now on.
    ///
    /// # Errors
    /// [`KEPT`] traces are running.
    pub fn start(&self, order: Order) -> Result<Arc<Trace>, Full> {
        let trace = Arc::new(Trace {
            id: format!("{:08x}", rand::random::<u32>()),
            end: Instant::now() + order.lasts.min(LONGEST),
            started: SystemTime::now(),
            order,
            book: Mutex::default(),
        });
        let mut kept = self.kept();
        while kept.len() >= KEPT {
            // The oldest that has ended makes room.
            let Some(ended) = kept.iter().position(|old| old.ended().is_some()) else {
                return Err(Full);
            };
            kept.remove(ended);
        }
        kept.push_back(Arc::clone(&trace));
        self.count(&kept);
        Ok(trace)
    }

    /// Every trace that is kept, the oldest first.
    pub fn list(&self) -> Vec<Arc<Trace>> {
        self.kept().iter().cloned().collect()
    }

    /// The trace of this id.
    pub fn find(&self, id: &str) -> Option<Arc<Trace>> {
        self.kept().iter().find(|trace| trace.id == id).cloned()
    }

    /// Ends a trace and keeps what it has; `None` if there is none of this id.
    pub fn stop(&self, id: &str) -> Option<Arc<Trace>> {
        let kept = self.kept();
        let trace = kept.iter().find(|trace| trace.id == id).cloned()?;
        trace.end(Ended::Operator);
        self.count(&kept);
        Some(trace)
    }

    /// Ends and forgets a trace; `None` if there is none of this id.
    pub fn remove(&self, id: &str) -> Option<Arc<Trace>> {
        let trace = self.stop(id)?;
        self.kept().retain(|kept| kept.id != id);
        Some(trace)
    }

    /// Whether anybody is followed.
    fn is_on(&self) -> bool {
        self.running.load(Ordering::Relaxed) > 0
    }

    /// Those that run, without those whose time is over.
    fn running(&self) -> Vec<Arc<Trace>> {
        let kept = self.kept();
        kept.iter()
            .filter(|trace| trace.ended().is_none())
            .cloned()
            .collect()
    }

    fn count(&self, kept: &VecDeque<Arc<Trace>>) {
        let running = kept.iter().filter(|trace| trace.ended().is_none());
        self.running.store(running.count(), Ordering::Relaxed);
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// What is kept, after those whose time is over have ended or are forgotten.
    fn kept(&self) -> MutexGuard<'_, VecDeque<Arc<Trace>>> {
        self.kept_at(Instant::now())
    }

    fn kept_at(&self, now: Instant) -> MutexGuard<'_, VecDeque<Arc<Trace>>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let before = kept.len();
        let mut ended = false;
        kept.retain(|trace| {
            if now >= trace.end {
                ended |= trace.end(Ended::Time);
            }
            let book = trace.book();
            let over = book.ended.map(|(_, _, at)| at);
            over.is_none_or(|at| now < at + FORGOTTEN_AFTER)
        });
        if ended || kept.len() != before {
            self.count(&kept);
        }
        kept
    }
}

/// As many traces as there may be are running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{KEPT} traces are running: stop one")]
pub struct Full;

impl Trace {
    /// Eight hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What was asked for.
    pub fn order(&self) -> &Order {
        &self.order
    }

    /// When it began.
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// Why and when it ended; `None` while it runs.
    pub fn ended(&self) -> Option<(Ended, SystemTime)> {
        self.book().ended.map(|(why, at, _)| (why, at))
    }

    /// Everything heard so far.
    pub fn entries(&self) -> Vec<Entry> {
        self.book().entries.clone()
    }

    /// How much was heard so far.
    pub fn count(&self) -> usize {
        self.book().entries.len()
    }

    /// A session as a dialogue that `tests/dialogues` knows; `None` if the trace has not heard of it.
    pub fn dialogue(&self, session: &str) -> Option<String> {
        let book = self.book();
        let mut entries = book.entries.iter();
        entries.any(|entry| &*entry.session == session).then(|| {
            let entries = book.entries.iter();
            dialogue::of(entries.filter(|entry| &*entry.session == session))
        })
    }

    fn follows(&self, peer: IpAddr, user: Option<&str>) -> bool {
        match &self.order.subject {
            Subject::User(name) => user == Some(name),
            Subject::Network(network) => network.contains(&peer.to_canonical()),
        }
    }

    /// `false` if it had ended before.
    fn end(&self, why: Ended) -> bool {
        let mut book = self.book();
        let ends = book.ended.is_none();
        if ends {
            book.ended = Some((why, SystemTime::now(), Instant::now()));
        }
        ends
    }

    /// `false` if there is no more room, or no more time.
    fn write(&self, entry: Entry) -> bool {
        let size = entry.what.size();
        let mut book = self.book();
        if book.ended.is_some() {
            return false;
        }
        let is_full = book.entries.len() >= self.order.lines || book.bytes + size > BYTES;
        let is_late = Instant::now() >= self.end;
        if is_full || is_late {
            let why = if is_full { Ended::Full } else { Ended::Time };
            book.ended = Some((why, SystemTime::now(), Instant::now()));
            return false;
        }
        book.bytes += size;
        book.entries.push(entry);
        true
    }

    /// Held for a few moves at a time.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ended {
    /// For the API.
    pub fn label(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Full => "full",
            Self::Operator => "stopped",
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(formatter, "user:{name}"),
            Self::Network(network) => write!(formatter, "address:{network}"),
        }
    }
}

impl What {
    /// `client`, `server`, or `event`.
    pub fn side(&self) -> &'static str {
        match self {
            Self::Said(_) => "client",
            Self::Reply { .. } => "server",
            _ => "event",
        }
    }

    fn size(&self) -> usize {
        ENTRY_BYTES
            + match self {
                Self::Said(said) => said.text.len(),
                Self::Reply { lines, .. } => lines.iter().map(|line| line.len() + 24).sum(),
                Self::Transfer { path, .. } => path.len(),
                Self::Did { path, from, .. } => path.len() + from.as_ref().map_or(0, String::len),
                Self::Note(text) => text.len(),
                Self::Tls { server_name, .. } => server_name.as_ref().map_or(0, String::len),
                _ => 0,
            }
    }
}

/// For people; a reply has its lines.
impl fmt::Display for What {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected {
                peer,
                listener,
                implicit,
            } => {
                let tls = if *implicit { ", implicit TLS" } else { "" };
                write!(formatter, "connected from {peer} to {listener}{tls}")
            }
            Self::Joined => formatter.write_str("found under way"),
            Self::Tls {
                handshake,
                server_name,
            } => {
                write!(formatter, "control connection under {}", shown(handshake))?;
                match server_name {
                    Some(name) => write!(formatter, ", SNI {name}"),
                    None => formatter.write_str(", no SNI"),
                }
            }
            Self::Said(said) => formatter.write_str(&said.text),
            Self::Reply { code, lines } => {
                let last = lines.len().saturating_sub(1);
                for (index, line) in lines.iter().enumerate() {
                    match index {
                        index if index == last => write!(formatter, "{code} {line}")?,
                        0 => writeln!(formatter, "{code}-{line}")?,
                        _ => writeln!(formatter, " {line}")?,
                    }
                }
                Ok(())
            }
            Self::Data(None) => formatter.write_str("data connection in the clear"),
            Self::Data(Some(handshake)) => {
                write!(formatter, "data connection under {}", shown(handshake))
            }
            Self::Transfer {
                direction,
                path,
                offset,
                bytes,
                outcome,
                ..
            } => write!(
                formatter,
                "{direction} of {path} from byte {offset}: {bytes} bytes, {outcome}"
            ),
            Self::Did {
                verb, path, from, ..
            } => match from {
                Some(from) => write!(formatter, "{verb} done: {from} is {path}"),
                None => write!(formatter, "{verb} done: {path}"),
            },
            Self::Note(text) => formatter.write_str(text),
            Self::Disconnected => formatter.write_str("disconnected"),
        }
    }
}

fn shown(handshake: &Handshake) -> String {
    let Handshake {
        version,
        suite,
        resumed,
    } = handshake;
    let how = if *resumed { "resumed" } else { "full" };
    format!("TLS {version}, {suite}, {how} handshake")
}

#[cfg(test)]
mod tests;
