//! [`Bans`]: who may not come or log in for now.
//!
//! Owns the counts of failed logins by address, network and user name, and the bans that follow from
//! them. Decisions are the pure [`table`]'s; here are the lock, the clock, the metrics and the state
//! file. Knows nothing of FTP. Asked by [`crate::listen`] before a connection is admitted and by
//! [`crate::edge`] around each login; operators list, add and lift through [`Bans::list`],
//! [`Bans::add`] and [`Bans::lift`].

mod state;
mod subject;
mod table;
#[cfg(test)]
mod tests;

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use ipnet::IpNet;
use tokio::sync::mpsc;

use self::table::Table;

pub use self::{
    subject::{NameDigest, Subject, SubjectError},
    table::{Ban, BannedBy},
};
use crate::{
    auth::shared::Note,
    config,
    observe::{
        journal::Journal,
        metrics::{BanLabels, Metrics},
        record::{Kind, Outcome, Record},
    },
    shutdown::Drain,
};

/// Between two looks at what has ended and what must be saved.
const PERIOD: Duration = Duration::from_secs(1);
/// A ban that other replicas no longer have and that would last no longer than this has run its course.
const ENDING: Duration = Duration::from_secs(5);
/// Pruning walks the whole table.
const PRUNE_EVERY: u32 = 60;

/// Shared by all listeners and sessions.
#[derive(Debug)]
pub struct Bans {
    table: Mutex<Table>,
    /// Something changed since the state file was written.
    unsaved: AtomicBool,
    state_file: Option<PathBuf>,
    metrics: Arc<Metrics>,
    /// For other replicas.
    notes: OnceLock<mpsc::Sender<Note>>,
    /// For the audit trail and webhooks.
    journal: OnceLock<Arc<Journal>>,
}

impl Bans {
    /// Nobody banned but whom the state file names. Blocks for the disk. A file that cannot be read
    /// is an error in the log and not a reason to serve nobody: the next ban replaces it.
    pub fn open(policy: config::Bans, metrics: Arc<Metrics>) -> Self {
        let state_file = policy.state_file.clone();
        let mut table = Table::new(policy, table::CAPACITY);
        if let Some(file) = &state_file {
            match state::load(file) {
                Ok(bans) => {
                    let count = bans.len();
                    for ban in bans {
                        table.restore(ban);
                    }
                    tracing::info!(file = %file.display(), count, "bans restored");
                }
                Err(error) => {
                    tracing::error!(file = %file.display(), %error, "bans of the last run are lost: the state file cannot be read");
                }
            }
        }
        Self {
            table: Mutex::new(table),
            unsaved: AtomicBool::new(false),
            state_file,
            metrics,
            notes: OnceLock::new(),
            journal: OnceLock::new(),
        }
    }

    /// Tells other replicas of failures and bans from now on.
    pub fn share(&self, notes: mpsc::Sender<Note>) {
        // A second call changes nothing.
        let _ = self.notes.set(notes);
    }

    /// Records bans from now on.
    pub fn record_to(&self, journal: Arc<Journal>) {
        // A second call changes nothing.
        let _ = self.journal.set(journal);
    }

    /// The ban that keeps connections from this address out.
    pub fn of_peer(&self, peer: IpAddr) -> Option<Ban> {
        if self.is_safe(peer) {
            return None;
        }
        let (table, now) = (self.table(), SystemTime::now());
        let subjects = std::iter::once(Subject::address(peer)).chain(Subject::networks_of(peer));
        let mut bans = subjects.filter_map(|subject| table.ban(&subject, now));
        bans.next()
    }

    /// The ban that keeps a user from logging in from this address.
    pub fn of_user(&self, user: &str, peer: IpAddr) -> Option<Ban> {
        if self.is_safe(peer) {
            return None;
        }
        self.table().ban(&Subject::user(user), SystemTime::now())
    }

    /// Counts a failed login; says how many its address had recently, this one included. `is_known`:
    /// somebody has the name, so it may be shown to operators.
    pub fn count_failure(&self, user: &str, is_known: bool, peer: IpAddr) -> u32 {
        if self.is_safe(peer) {
            return 0;
        }
        let now = SystemTime::now();
        let address = Subject::address(peer);
        let mut subjects = vec![(address, None), (Subject::network_of(peer), None)];
        let mut table = self.table();
        let is_user = |safe: &String| Subject::user(safe) == Subject::user(user);
        if !table.policy().safe_users.iter().any(is_user) {
            subjects.push((Subject::user(user), is_known.then_some(user)));
        }
        let before = table.failures(&address, now);
        let window = table.policy().window;
        for (subject, name) in subjects {
            let Some(allowance) = table.allowance(&subject) else {
                continue;
            };
            match table.fail(subject, name, now) {
                Some(ban) => self.announce(&ban),
                None => self.note(Note::Failure {
                    subject,
                    allowance,
                    window,
                }),
            }
        }
        // A ban empties the count.
        table.failures(&address, now).max(before + 1)
    }

    /// Everybody who is banned now.
    pub fn list(&self) -> Vec<Ban> {
        let mut bans = self.table().list(SystemTime::now());
        bans.sort_by_key(|ban| (ban.until, ban.subject));
        bans
    }

    /// Bans somebody for `length`, from now on; replaces a ban that is there. Sessions that are
    /// logged in go on. Safe networks stay safe: `None` for who is in one.
    pub fn add(&self, subject: Subject, name: Option<&str>, length: Duration) -> Option<Ban> {
        let now = SystemTime::now();
        let until = now.checked_add(length)?;
        let mut table = self.table();
        let is_safe = |safe: &IpNet| match &subject {
            Subject::Address(address) => safe.contains(address),
            Subject::Network(network) => safe.contains(network),
            Subject::User(_) => false,
        };
        if table.policy().safe_networks.iter().any(is_safe) {
            return None;
        }
        table.add(subject, name, until, BannedBy::Operator, now);
        let ban = table.ban(&subject, now)?;
        self.announce(&ban);
        Some(ban)
    }

    /// Ends a ban and forgets the failures behind it; says whether there was one.
    pub fn lift(&self, subject: &Subject) -> bool {
        let lifted = self.table().lift(subject, SystemTime::now());
        if lifted {
            self.unsaved.store(true, Ordering::Relaxed);
            self.note(Note::Lifted(*subject));
            tracing::info!(%subject, "ban lifted");
        }
        lifted
    }

    /// Begins a ban for failures that other replicas have counted.
    pub fn begin(&self, subject: Subject) {
        let ban = self.table().ban_for_failures(subject, SystemTime::now());
        if let Some(ban) = ban {
            self.announce(&ban);
        }
    }

    /// Takes over a ban of another replica.
    pub fn adopt(&self, subject: Subject, left: Duration) {
        let now = SystemTime::now();
        let Some(until) = now.checked_add(left) else {
            return;
        };
        let mut table = self.table();
        let is_known = table.ban(&subject, now).is_some();
        table.add(subject, None, until, BannedBy::Replica, now);
        if !is_known {
            self.unsaved.store(true, Ordering::Relaxed);
            tracing::warn!(%subject, seconds = left.as_secs(), "banned by another replica");
        }
    }

    /// Ends a ban that another replica has lifted. One that is about to end by itself does so: it
    /// counts for the length of the next.
    pub fn forget(&self, subject: &Subject) {
        let (mut table, now) = (self.table(), SystemTime::now());
        let ends_later = |ban: Ban| now + ENDING < ban.until;
        if table.ban(subject, now).is_some_and(ends_later) {
            table.lift(subject, now);
            self.unsaved.store(true, Ordering::Relaxed);
            tracing::info!(%subject, "ban lifted by another replica");
        }
    }

    /// Keeps metrics and state file up to date until nobody logs in any more.
    pub async fn keep(self: Arc<Self>, drain: Drain) {
        let mut round = 0_u32;
        loop {
            let last = tokio::select! {
                biased;
                () = drain.settled() => true,
                () = tokio::time::sleep(PERIOD) => false,
            };
            round = round.wrapping_add(1);
            self.measure(round.is_multiple_of(PRUNE_EVERY));
            self.save().await;
            if last {
                return;
            }
        }
    }

    /// Sets the gauges and, if told to, forgets what is over.
    fn measure(&self, prune: bool) {
        let now = SystemTime::now();
        let mut table = self.table();
        if prune {
            table.prune(now);
        }
        let mut counts = [("address", 0), ("network", 0), ("user", 0)];
        for ban in table.list(now) {
            if let Some((_, count)) = counts
                .iter_mut()
                .find(|(kind, _)| *kind == ban.subject.kind())
            {
                *count += 1;
            }
        }
        drop(table);
        for (subject, count) in counts {
            let label = BanLabels { subject };
            self.metrics.bans.get_or_create(&label).set(count);
        }
    }

    async fn save(&self) {
        let Some(file) = &self.state_file else {
            return;
        };
        if !self.unsaved.swap(false, Ordering::Relaxed) {
            return;
        }
        let (shown, file) = (file.display().to_string(), file.clone());
        let bans = self.table().remembered().collect();
        let saved = tokio::task::spawn_blocking(move || state::save(&file, bans)).await;
        let problem = match saved {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        // Tried again in a second.
        self.unsaved.store(true, Ordering::Relaxed);
        tracing::error!(file = shown, problem, "bans cannot be saved");
    }

    fn announce(&self, ban: &Ban) {
        self.unsaved.store(true, Ordering::Relaxed);
        self.note(Note::Banned(ban.clone()));
        let subject = ban.subject.kind();
        let label = BanLabels { subject };
        self.metrics.bans_started.get_or_create(&label).inc();
        let length = ban.until.duration_since(ban.since).unwrap_or_default();
        tracing::warn!(
            subject = %ban.subject,
            name = ban.name.as_deref(),
            count = ban.count,
            seconds = length.as_secs(),
            by = ban.by.label(),
            "banned"
        );
        if let Some(journal) = self.journal.get() {
            let mut record = Record::new(Kind::Ban, Outcome::Success);
            record.reason = Some(ban.by.label());
            record.target = Some(ban.subject.to_string());
            record.user.clone_from(&ban.name);
            record.seconds = Some(length.as_secs_f64());
            journal.post(record);
        }
    }

    /// Best effort: what the store does not hear of counts here all the same.
    fn note(&self, note: Note) {
        if let Some(notes) = self.notes.get() {
            let _ = notes.try_send(note);
        }
    }

    fn is_safe(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        let table = self.table();
        let mut networks = table.policy().safe_networks.iter();
        networks.any(|network| network.contains(&peer))
    }

    /// Held for a few moves at a time and never over I/O.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
