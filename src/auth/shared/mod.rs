//! [`SharedCounters`]: failures, bans and sessions of several replicas, counted together in Redis or
//! Valkey.
//!
//! Every replica decides by its own tables, as it does alone; what the others know is brought in from
//! here. So a store that is away makes nobody wait and lets nobody in: the local limits go on, and the
//! gauge `causeway_shared_counters_up` is 0. Failures are counted there as they happen, bans are
//! fetched every second, sessions are leases that a replica renews and that end with it.

mod probe;
mod store;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use redis::{RedisError, RedisResult, aio::MultiplexedConnection};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use self::store::Store;
pub(super) use self::{probe::probe, store::trust};
use super::{
    bans::{Ban, BannedBy, Bans, NameDigest, Subject},
    trust::TrustErrors,
};
use crate::{config, observe::metrics::Metrics, shutdown::Drain};

/// Between two fetches of the bans, and between two tries to connect.
const PERIOD: Duration = Duration::from_secs(1);
/// A replica that is gone holds its sessions this long.
const LEASE: Duration = Duration::from_secs(30);
/// Leases are renewed every so many periods.
const RENEW_EVERY: u32 = 10;
/// Bans that operators lift while the store is away; of more it may bring some back.
const LIFTED: usize = 10_000;
/// Notes that may wait for the store; more are dropped, and the local tables have them.
const NOTES: usize = 4096;

/// Something that other replicas should know.
#[derive(Clone, Debug)]
pub enum Note {
    /// A failed login.
    Failure {
        /// Whose.
        subject: Subject,
        /// How many of them ban.
        allowance: u32,
        /// Time over which they are counted.
        window: Duration,
    },
    /// A ban began here.
    Banned(Ban),
    /// A ban was lifted here.
    Lifted(Subject),
    /// A session ended.
    SessionEnded(NameDigest, String),
}

/// Shared by all sessions.
pub struct SharedCounters {
    store: Store,
    /// Of this process, in the names of its sessions.
    replica: String,
    next_session: AtomicU64,
    /// Sessions that hold a place, by their name.
    leases: Mutex<HashMap<String, NameDigest>>,
    /// `None` while the store is away.
    connection: Mutex<Option<MultiplexedConnection>>,
    notes: mpsc::Sender<Note>,
    inbox: Mutex<Option<mpsc::Receiver<Note>>>,
    metrics: Arc<Metrics>,
}

/// What is remembered between two looks at the store.
#[derive(Debug, Default)]
struct Memory {
    /// What it had at the last look: what is missing at the next was lifted elsewhere.
    known: HashSet<Subject>,
    /// Lifted here, and not yet there. At most [`LIFTED`].
    lifted: HashSet<Subject>,
}

impl Memory {
    fn note(&mut self, note: &Note) {
        match note {
            Note::Banned(ban) => {
                self.known.insert(ban.subject);
                self.lifted.remove(&ban.subject);
            }
            Note::Lifted(subject) => {
                self.known.remove(subject);
                if self.lifted.len() < LIFTED {
                    self.lifted.insert(*subject);
                }
            }
            Note::Failure { .. } | Note::SessionEnded(..) => {}
        }
    }
}

/// A session's place among those of all replicas; given back when dropped.
#[derive(Debug)]
pub struct SharedSeat {
    counters: Arc<SharedCounters>,
    session: String,
}

/// The user has its share of sessions, on all replicas together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl SharedCounters {
    /// Counters in the store of `settings`, which is asked for the first time by [`Self::run`].
    pub fn new(
        settings: &config::SharedCounters,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, TrustErrors> {
        let (notes, inbox) = mpsc::channel(NOTES);
        Ok(Arc::new(Self {
            store: Store::new(settings)?,
            replica: format!("{:016x}", rand::random::<u64>()),
            next_session: AtomicU64::new(0),
            leases: Mutex::default(),
            connection: Mutex::default(),
            notes,
            inbox: Mutex::new(Some(inbox)),
            metrics,
        }))
    }

    /// Where [`Bans`] leaves what others should know.
    pub fn notes(&self) -> mpsc::Sender<Note> {
        self.notes.clone()
    }

    /// Takes a place for a session of a user who may have `most`. `Ok(None)` while the store is away:
    /// the local bound is all there is then.
    pub async fn begin_session(
        self: &Arc<Self>,
        user: &str,
        most: usize,
    ) -> Result<Option<SharedSeat>, Full> {
        let Some(mut connection) = self.connection() else {
            return Ok(None);
        };
        let user = NameDigest::of(user);
        let number = self.next_session.fetch_add(1, Ordering::Relaxed);
        let session = format!("{}:{number}", self.replica);
        let taken = self
            .store
            .begin_session(&mut connection, user, &session, most, LEASE)
            .await;
        match taken {
            Ok(true) => {
                self.leases().insert(session.clone(), user);
                Ok(Some(SharedSeat {
                    counters: Arc::clone(self),
                    session,
                }))
            }
            Ok(false) => Err(Full),
            Err(error) => {
                self.lost(&error);
                Ok(None)
            }
        }
    }

    /// Talks to the store until nobody logs in any more. A second call does nothing.
    pub async fn run(self: Arc<Self>, bans: Arc<Bans>, drain: Drain) {
        let inbox = self
            .inbox
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(mut inbox) = inbox else { return };
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut memory = Memory::default();
        let mut round = 0_u32;
        loop {
            let done = tokio::select! {
                biased;
                () = drain.settled() => {
                    // Its driver ends with it.
                    *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = None;
                    return;
                }
                note = inbox.recv() => match note {
                    Some(note) => self.publish(note, &bans, &mut memory).await,
                    None => return,
                },
                _ = ticks.tick() => {
                    round = round.wrapping_add(1);
                    self.refresh(&bans, &drain, &mut memory, round).await
                }
            };
            if let Err(error) = done {
                self.lost(&error);
            }
        }
    }

    async fn publish(&self, note: Note, bans: &Bans, memory: &mut Memory) -> RedisResult<()> {
        memory.note(&note);
        let Some(mut connection) = self.connection() else {
            return Ok(());
        };
        let (store, connection) = (&self.store, &mut connection);
        match note {
            Note::Failure {
                subject,
                allowance,
                window,
            } => {
                let count = store.count_failure(connection, &subject, window).await?;
                if count >= allowance {
                    bans.begin(subject);
                }
                Ok(())
            }
            Note::Banned(ban) => {
                let left = ban.until.duration_since(SystemTime::now());
                store
                    .ban(connection, &ban.subject, left.unwrap_or_default())
                    .await
            }
            Note::Lifted(subject) => {
                store.lift(connection, &subject).await?;
                memory.lifted.remove(&subject);
                Ok(())
            }
            Note::SessionEnded(user, session) => {
                store.end_session(connection, user, &session).await
            }
        }
    }

    /// Connects if need be, fetches the bans and, now and then, renews the leases.
    async fn refresh(
        &self,
        bans: &Bans,
        drain: &Drain,
        memory: &mut Memory,
        round: u32,
    ) -> RedisResult<()> {
        let is_new = self.connection().is_none();
        let mut connection = match self.connection() {
            Some(connection) => connection,
            None => self.store.connect(drain.tasks()).await?,
        };
        if is_new {
            // What was lifted while it was away must not come back with it.
            while let Some(subject) = memory.lifted.iter().next().copied() {
                self.store.lift(&mut connection, &subject).await?;
                memory.lifted.remove(&subject);
            }
            // The store may have lost them, or never had them. Not those of others, which they say
            // themselves, or which have been lifted meanwhile.
            for ban in bans.list() {
                if ban.by != BannedBy::Replica {
                    let left = ban.until.duration_since(SystemTime::now());
                    let left = left.unwrap_or_default();
                    self.store.ban(&mut connection, &ban.subject, left).await?;
                }
            }
            memory.known.clear();
        }
        let (fetched, is_whole) = self.store.bans(&mut connection).await?;
        let subjects: HashSet<Subject> = fetched.iter().map(|(subject, _)| *subject).collect();
        // Where there are more than were fetched, what is missing may be one of those.
        for lifted in memory.known.difference(&subjects).filter(|_| is_whole) {
            bans.forget(lifted);
        }
        for (subject, left) in fetched {
            bans.adopt(subject, left);
        }
        memory.known = subjects;
        if is_new || round.is_multiple_of(RENEW_EVERY) {
            let leases: Vec<_> = self.leases().clone().into_iter().collect();
            for (session, user) in leases {
                let store = &self.store;
                store
                    .keep_session(&mut connection, user, &session, LEASE)
                    .await?;
            }
        }
        if is_new {
            *self
                .connection
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(connection);
            self.metrics.shared_counters_up.set(1);
            tracing::info!("shared counters are there");
        }
        Ok(())
    }

    /// Notes that the store is away; the next period tries again.
    fn lost(&self, error: &RedisError) {
        self.metrics.shared_store_failures.inc();
        self.metrics.shared_counters_up.set(0);
        let mut connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if connection.take().is_some() {
            tracing::error!(%error, "shared counters are away, local limits go on");
        } else {
            tracing::debug!(%error, "shared counters are still away");
        }
    }

    fn connection(&self) -> Option<MultiplexedConnection> {
        let connection = self.connection.lock();
        connection.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<String, NameDigest>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SharedSeat {
    fn drop(&mut self) {
        let user = self.counters.leases().remove(&self.session);
        if let Some(user) = user {
            let note = Note::SessionEnded(user, std::mem::take(&mut self.session));
            // If there is no room the lease ends by itself.
            let _ = self.counters.notes.try_send(note);
        }
    }
}

impl std::fmt::Debug for SharedCounters {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("SharedCounters")
            .field("replica", &self.replica)
            .finish_non_exhaustive()
    }
}
