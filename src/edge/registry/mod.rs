//! [`Registry`]: who is connected now, what each session is doing, and what failed lately.
//!
//! Owns what an operator sees of the running server and the way to end a session. Sessions write into
//! it, the admin side reads it; it knows nothing of either. A session touches its own entry only, so
//! the locks are never waited for; the table itself is locked when a session begins, ends, or when
//! somebody looks.

mod deeds;
mod failures;
mod replies;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use tokio_util::sync::CancellationToken;

pub use self::{
    failures::{Failed, Failures, Reference},
    replies::{Quantiles, Replies},
};
use super::trace::{Tap, Traces};
use crate::{
    access::Account,
    config::EventKind,
    observe::{journal::Journal, record::Record},
    store::{
        View,
        transfer::{Direction, Progress},
    },
};

/// Everybody who is connected. Bounded by the limit on connections.
#[derive(Debug, Default)]
pub struct Registry {
    sessions: Mutex<BTreeMap<String, Arc<Presence>>>,
    sums: Arc<Sums>,
    journal: Arc<Journal>,
    traces: Arc<Traces>,
}

/// What outlives the session it came from.
#[derive(Debug, Default)]
struct Sums {
    failures: Failures,
    replies: Replies,
    /// Bytes of ended transfers.
    uploaded: AtomicU64,
    downloaded: AtomicU64,
}

/// Bytes of all transfers since the start, running ones included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// From clients.
    pub uploaded: u64,
    /// To clients, listings included.
    pub downloaded: u64,
}

/// One session, as others see it.
#[derive(Debug)]
pub struct Presence {
    id: String,
    peer: SocketAddr,
    listener: Arc<str>,
    connected: SystemTime,
    doing: Mutex<Doing>,
    kicked: CancellationToken,
    sums: Arc<Sums>,
    journal: Arc<Journal>,
    /// After login; says where paths lie.
    view: OnceLock<Arc<View>>,
    /// Not given to the journal yet.
    unsettled: Mutex<Vec<Record>>,
    /// Tells whoever follows it.
    tap: Arc<Tap>,
}

/// What a session is doing.
#[derive(Clone, Debug)]
pub struct Doing {
    /// The account; `None` before login.
    pub user: Option<Arc<str>>,
    /// Of the control connection: `1.2`, `1.3`; `None` in the clear.
    pub tls: Option<&'static str>,
    /// What the client's certificate says about it.
    pub certificate: Arc<[String]>,
    /// The last command's verb, never its argument: PASS has one.
    pub last_command: Option<&'static str>,
    /// When that came; before the first one, when the session began.
    pub active: SystemTime,
    /// The transfer that runs.
    pub transfer: Option<Arc<Running>>,
}

/// One running transfer.
#[derive(Debug)]
pub struct Running {
    /// `STOR`, `RETR`, `LIST` …, as the client said it.
    pub verb: &'static str,
    /// Absolute, as the user sees it.
    pub path: String,
    /// Which way the bytes go.
    pub direction: Direction,
    /// How many bytes there will be, where that is known.
    pub expected: Option<u64>,
    /// When the command came.
    pub started: SystemTime,
    progress: Arc<Progress>,
    rate: Mutex<Rate>,
}

/// Bytes a second, from one look to the next.
#[derive(Debug)]
struct Rate {
    at: Instant,
    bytes: u64,
    per_second: f64,
}

/// A session's place in the registry, given up when dropped.
#[derive(Debug)]
pub struct Visit {
    presence: Arc<Presence>,
    registry: Arc<Registry>,
}

/// A transfer's place in its session's entry, given up when dropped.
#[derive(Debug)]
pub(super) struct Shown(Arc<Presence>);

impl Registry {
    /// Nobody is connected; what sessions do goes to `journal`.
    pub fn new(journal: Arc<Journal>) -> Self {
        Self {
            journal,
            ..Self::default()
        }
    }

    /// Where records go.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// Enters a new session.
    pub fn enter(self: &Arc<Self>, id: &str, peer: SocketAddr, listener: &Arc<str>) -> Visit {
        let connected = SystemTime::now();
        let presence = Arc::new(Presence {
            id: id.to_owned(),
            peer,
            listener: Arc::clone(listener),
            connected,
            doing: Mutex::new(Doing {
                user: None,
                tls: None,
                certificate: Arc::default(),
                last_command: None,
                active: connected,
                transfer: None,
            }),
            kicked: CancellationToken::new(),
            sums: Arc::clone(&self.sums),
            journal: Arc::clone(&self.journal),
            view: OnceLock::new(),
            unsettled: Mutex::default(),
            tap: Arc::new(Tap::new(Arc::clone(&self.traces), id, peer)),
        });
        self.table().insert(id.to_owned(), Arc::clone(&presence));
        Visit {
            presence,
            registry: Arc::clone(self),
        }
    }

    /// Who is followed.
    pub fn traces(&self) -> &Traces {
        &self.traces
    }

    /// Every session, by id.
    pub fn sessions(&self) -> Vec<Arc<Presence>> {
        self.table().values().cloned().collect()
    }

    /// The session with this id.
    pub fn session(&self, id: &str) -> Option<Arc<Presence>> {
        self.table().get(id).cloned()
    }

    /// What failed lately.
    pub fn failures(&self) -> &Failures {
        &self.sums.failures
    }

    /// How long clients wait for replies.
    pub fn replies(&self) -> &Replies {
        &self.sums.replies
    }

    /// Bytes moved so far. A transfer that ends meanwhile may be left out once.
    pub fn moved(&self) -> Moved {
        let mut moved = Moved {
            uploaded: self.sums.uploaded.load(Ordering::Relaxed),
            downloaded: self.sums.downloaded.load(Ordering::Relaxed),
        };
        for session in self.sessions() {
            if let Some(transfer) = session.doing().transfer {
                match transfer.direction {
                    Direction::Upload => moved.uploaded += transfer.bytes(),
                    Direction::Download | Direction::Listing => {
                        moved.downloaded += transfer.bytes();
                    }
                }
            }
        }
        moved
    }

    /// Works out the present rate of every transfer. Called once a second or so by whoever shows it.
    pub fn measure(&self, now: Instant) {
        for session in self.sessions() {
            if let Some(transfer) = session.doing().transfer {
                transfer.measure(now);
            }
        }
    }

    /// Held for a few moves at a time; a panic meanwhile cannot leave the table half changed.
    fn table(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Presence>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Presence {
    /// Unique while the session lasts; the log carries it as `session`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The client's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Name of the listener.
    pub fn listener(&self) -> &str {
        &self.listener
    }

    /// When it began.
    pub fn connected(&self) -> SystemTime {
        self.connected
    }

    /// What it is doing now.
    pub fn doing(&self) -> Doing {
        self.locked().clone()
    }

    /// The account, after login.
    pub fn account(&self) -> Option<&Account> {
        self.view.get().map(|view| view.account())
    }

    /// Ends the session: a running transfer is aborted, the client gets 421.
    pub fn kick(&self) {
        self.kicked.cancel();
    }

    /// Whether somebody ended it.
    pub fn is_kicked(&self) -> bool {
        self.kicked.is_cancelled()
    }

    /// Completes when somebody ends the session.
    pub(super) async fn kicked(&self) {
        self.kicked.cancelled().await;
    }

    /// Notes a command.
    pub(super) fn note_command(&self, verb: &'static str) {
        let mut doing = self.locked();
        doing.last_command = Some(verb);
        doing.active = SystemTime::now();
    }

    /// Notes how long the client waited for a reply.
    pub(super) fn note_reply(&self, duration: Duration) {
        self.sums.replies.note(duration);
    }

    /// Notes who it is.
    pub(super) fn note_login(&self, view: &Arc<View>) {
        let name = view.account().name.as_str();
        self.locked().user = Some(name.into());
        self.tap.name(name, true);
        // There is one login in a session.
        let _ = self.view.set(Arc::clone(view));
    }

    /// Notes the TLS of the control connection, and who the client's certificate says it is.
    pub(super) fn note_tls(&self, version: Option<&'static str>, certificate: Vec<String>) {
        let mut doing = self.locked();
        (doing.tls, doing.certificate) = (version, certificate.into());
    }

    /// Where a trace hears of it.
    pub(super) fn tap(&self) -> &Arc<Tap> {
        &self.tap
    }

    /// Whether content is to be hashed while it moves.
    pub(super) fn hashes(&self) -> bool {
        self.journal.hashes()
    }

    /// Whether the event of an upload finds room once the file is there.
    pub(super) fn has_room_for_upload(&self) -> bool {
        self.journal.has_room(EventKind::FileUploaded)
    }

    /// Shows a transfer until what is returned is dropped.
    pub(super) fn show(self: &Arc<Self>, running: Running) -> Shown {
        self.locked().transfer = Some(Arc::new(running));
        Shown(Arc::clone(self))
    }

    /// Keeps a failure of this session where the operator looks; the reference also stands in the log
    /// and in the reply.
    pub(super) fn fail(&self, what: &What<'_>) -> Reference {
        let user = self.locked().user.clone();
        self.sums.failures.keep(self, user, what)
    }

    fn locked(&self) -> MutexGuard<'_, Doing> {
        self.doing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) use self::failures::What;

impl Running {
    /// A transfer that begins now.
    pub(super) fn new(
        verb: &'static str,
        path: &str,
        direction: Direction,
        expected: Option<u64>,
        progress: &Arc<Progress>,
    ) -> Self {
        Self {
            verb,
            path: path.to_owned(),
            direction,
            expected,
            started: SystemTime::now(),
            progress: Arc::clone(progress),
            rate: Mutex::new(Rate {
                at: Instant::now(),
                bytes: 0,
                per_second: 0.0,
            }),
        }
    }

    /// Bytes moved so far.
    pub fn bytes(&self) -> u64 {
        self.progress.bytes()
    }

    /// Bytes a second when it was last measured.
    pub fn bytes_per_second(&self) -> f64 {
        self.rate
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .per_second
    }

    fn measure(&self, now: Instant) {
        let bytes = self.bytes();
        self.rate
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .measure(now, bytes);
    }
}

impl Rate {
    /// Looks that follow too closely change nothing: a rate over a millisecond says little.
    fn measure(&mut self, now: Instant, bytes: u64) {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        if seconds < 0.25 {
            return;
        }
        #[allow(clippy::cast_precision_loss, reason = "a rate that is shown to people")]
        let moved = bytes.saturating_sub(self.bytes) as f64;
        *self = Self {
            at: now,
            bytes,
            per_second: moved / seconds,
        };
    }
}

impl Deref for Visit {
    type Target = Arc<Presence>;

    fn deref(&self) -> &Arc<Presence> {
        &self.presence
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.registry.table().remove(&self.presence.id);
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        let Some(ended) = self.0.locked().transfer.take() else {
            return;
        };
        let sums = &self.0.sums;
        let sum = match ended.direction {
            Direction::Upload => &sums.uploaded,
            Direction::Download | Direction::Listing => &sums.downloaded,
        };
        sum.fetch_add(ended.bytes(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(registry: &Arc<Registry>, id: &str) -> Visit {
        registry.enter(id, SocketAddr::from(([127, 0, 0, 1], 4711)), &"ftp".into())
    }

    #[test]
    fn session_is_there_until_its_visit_ends() {
        let registry = Arc::new(Registry::default());
        let visit = enter(&registry, "1");
        visit.note_command("NOOP");
        let seen = registry.session("1").unwrap();
        assert_eq!(seen.doing().last_command, Some("NOOP"));
        let progress = Arc::new(Progress::default());
        let shown = visit.show(Running::new(
            "STOR",
            "/a",
            Direction::Upload,
            None,
            &progress,
        ));
        assert_eq!(seen.doing().transfer.unwrap().path, "/a");
        drop(shown);
        assert!(seen.doing().transfer.is_none());
        assert!(!visit.is_kicked());
        seen.kick();
        assert!(visit.is_kicked());
        drop(visit);
        assert!(registry.sessions().is_empty());
    }

    #[test]
    fn rate_is_of_the_time_since_the_last_look() {
        let start = Instant::now();
        let mut rate = Rate {
            at: start,
            bytes: 0,
            per_second: 0.0,
        };
        for (millis, bytes, expected) in [
            (1000, 500, 500.0),
            (1100, 900, 500.0),
            (1500, 900, 800.0),
            (2500, 900, 0.0),
        ] {
            rate.measure(start + Duration::from_millis(millis), bytes);
            assert!((rate.per_second - expected).abs() < 1e-9, "{millis}");
        }
    }
}
