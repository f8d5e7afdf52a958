//! [`Table`]: failures and bans as pure state. Time is an argument.
//!
//! Failures are counted in a sliding window: those of the present one, and of the one before as many
//! as its overlap is worth. So two numbers a subject are enough, a burst is counted exactly, and a
//! device with a wrong password that tries once an hour is never banned.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use super::Subject;
use crate::config;

/// Addresses, networks and users that are remembered at once: about 10 MiB.
pub(super) const CAPACITY: usize = 1 << 16;
/// Longest name kept to be shown.
const SHOWN_NAME_CHARS: usize = 64;

/// Who failed, how often, and who is banned until when.
#[derive(Debug)]
pub(super) struct Table {
    policy: config::Bans,
    capacity: usize,
    records: HashMap<Subject, Record>,
}

/// What is remembered of one subject.
#[derive(Clone, Debug)]
struct Record {
    failures: Failures,
    /// The last ban, which may be over.
    ban: Option<Term>,
    /// Its bans so far, for the length of the next.
    bans: u32,
    /// The user's name, if somebody has it.
    name: Option<String>,
}

/// A sliding window.
#[derive(Clone, Debug)]
struct Failures {
    /// Where the present window begins.
    start: SystemTime,
    /// In the present window.
    present: u32,
    /// In the one before.
    before: u32,
}

/// From when to when a ban lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Term {
    pub(super) since: SystemTime,
    pub(super) until: SystemTime,
    pub(super) by: BannedBy,
}

/// Who banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BannedBy {
    /// Failed logins.
    Failures,
    /// An operator.
    Operator,
    /// Another replica.
    Replica,
}

/// One ban, as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// Who.
    pub subject: Subject,
    /// The user's name, if the subject is a user that somebody has.
    pub name: Option<String>,
    /// When it began.
    pub since: SystemTime,
    /// When it ends.
    pub until: SystemTime,
    /// The how manieth it is; 0 for those of operators and replicas on someone without a record.
    pub count: u32,
    /// Why.
    pub by: BannedBy,
}

impl Table {
    pub(super) fn new(policy: config::Bans, capacity: usize) -> Self {
        Self {
            policy,
            capacity,
            records: HashMap::new(),
        }
    }

    pub(super) fn policy(&self) -> &config::Bans {
        &self.policy
    }

    /// Failures within the window that ban; `None`: never.
    pub(super) fn allowance(&self, subject: &Subject) -> Option<u32> {
        let failures = match subject {
            Subject::Address(_) => self.policy.failures_per_address,
            Subject::Network(_) => self.policy.failures_per_network,
            Subject::User(_) => self.policy.failures_per_user,
        };
        (failures > 0).then_some(failures)
    }

    /// Counts a failure; the ban that it led to, if it did. Nothing is counted while banned: what
    /// was under way when the ban began must not lengthen it.
    pub(super) fn fail(
        &mut self,
        subject: Subject,
        name: Option<&str>,
        now: SystemTime,
    ) -> Option<Ban> {
        let allowance = self.allowance(&subject)?;
        let window = self.policy.window;
        let record = self.record(subject, now);
        if let Some(name) = name
            && record.name.is_none()
        {
            record.name = Some(name.chars().take(SHOWN_NAME_CHARS).collect());
        }
        if record.is_banned(now) {
            return None;
        }
        record.failures.slide(window, now);
        record.failures.present = record.failures.present.saturating_add(1);
        if record.failures.count(window, now) < allowance {
            return None;
        }
        self.ban_for_failures(subject, now)
    }

    /// Begins the next ban of `subject`.
    pub(super) fn ban_for_failures(&mut self, subject: Subject, now: SystemTime) -> Option<Ban> {
        let (first, longest) = (self.policy.first, self.policy.longest);
        let record = self.record(subject, now);
        if record.is_banned(now) {
            return None;
        }
        let is_forgiven = record.ban.is_none_or(|ban| ban.until + longest <= now);
        record.bans = if is_forgiven {
            1
        } else {
            record.bans.saturating_add(1)
        };
        let doubled = first.saturating_mul(2_u32.saturating_pow(record.bans - 1));
        record.failures = Failures::none(now);
        record.ban = Some(Term {
            since: now,
            until: now + doubled.min(longest),
            by: BannedBy::Failures,
        });
        self.ban(&subject, now)
    }

    /// Bans `subject` as somebody else says; a longer ban stays.
    pub(super) fn add(
        &mut self,
        subject: Subject,
        name: Option<&str>,
        until: SystemTime,
        by: BannedBy,
        now: SystemTime,
    ) {
        let record = self.record(subject, now);
        if let Some(name) = name {
            record.name = Some(name.chars().take(SHOWN_NAME_CHARS).collect());
        }
        let known = record.ban.filter(|_| record.is_banned(now));
        record.ban = Some(match known {
            // Ours, perhaps, as it came back; its end differs by the time that took.
            Some(ban) if by == BannedBy::Replica => Term {
                until: ban.until.max(until),
                ..ban
            },
            _ => Term {
                since: now,
                until,
                by,
            },
        });
    }

    /// Takes a ban from the state file.
    pub(super) fn restore(&mut self, ban: Ban) {
        let record = self.record(ban.subject, ban.since);
        record.bans = ban.count;
        record.name = ban.name;
        record.ban = Some(Term {
            since: ban.since,
            until: ban.until,
            by: ban.by,
        });
    }

    /// Ends a ban and forgets everything about the subject; says whether there was one.
    pub(super) fn lift(&mut self, subject: &Subject, now: SystemTime) -> bool {
        self.records
            .remove(subject)
            .is_some_and(|record| record.is_banned(now))
    }

    /// The ban of `subject`, if it is banned now.
    pub(super) fn ban(&self, subject: &Subject, now: SystemTime) -> Option<Ban> {
        let record = self.records.get(subject)?;
        record.is_banned(now).then_some(())?;
        record.as_ban(*subject)
    }

    /// Recent failures of `subject`.
    pub(super) fn failures(&self, subject: &Subject, now: SystemTime) -> u32 {
        let Some(record) = self.records.get(subject) else {
            return 0;
        };
        let mut failures = record.failures.clone();
        failures.slide(self.policy.window, now);
        failures.count(self.policy.window, now)
    }

    /// Every ban of now.
    pub(super) fn list(&self, now: SystemTime) -> Vec<Ban> {
        self.remembered().filter(|ban| now < ban.until).collect()
    }

    /// Every ban, also those that are over and still count for the next.
    pub(super) fn remembered(&self) -> impl Iterator<Item = Ban> {
        let records = self.records.iter();
        records.filter_map(|(subject, record)| record.as_ban(*subject))
    }

    /// Forgets what makes no difference any more.
    pub(super) fn prune(&mut self, now: SystemTime) {
        let (longest, window) = (self.policy.longest, self.policy.window);
        self.records.retain(|_, record| {
            record.failures.start + window * 2 > now
                || record.ban.is_some_and(|ban| ban.until + longest > now)
        });
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// The record of `subject`, new if need be; makes room first.
    fn record(&mut self, subject: Subject, now: SystemTime) -> &mut Record {
        if self.records.len() >= self.capacity && !self.records.contains_key(&subject) {
            self.make_room(now);
        }
        self.records.entry(subject).or_insert(Record {
            failures: Failures::none(now),
            ban: None,
            bans: 0,
            name: None,
        })
    }

    /// Makes room for an eighth of the table at once, so that a flood of addresses does not sort it
    /// for each. What goes first are those without a ban, the fewest failures first; then the bans
    /// that end first.
    fn make_room(&mut self, now: SystemTime) {
        self.prune(now);
        let keep = self.capacity - (self.capacity / 8).max(1);
        let surplus = self.records.len().saturating_sub(keep);
        if surplus == 0 {
            return;
        }
        let rank = |record: &Record| match record.ban {
            Some(ban) if ban.until > now => (u32::MAX, ban.until),
            _ => (record.failures.present, record.failures.start),
        };
        let mut ranked: Vec<_> = self
            .records
            .iter()
            .map(|(subject, record)| (rank(record), *subject))
            .collect();
        ranked.select_nth_unstable(surplus - 1);
        for (_, subject) in &ranked[..surplus] {
            self.records.remove(subject);
        }
    }
}

impl Failures {
    fn none(now: SystemTime) -> Self {
        Self {
            start: now,
            present: 0,
            before: 0,
        }
    }

    /// Moves on to the window that holds `now`.
    fn slide(&mut self, window: Duration, now: SystemTime) {
        // A clock that was set back: the present window goes on.
        let elapsed = now.duration_since(self.start).unwrap_or_default();
        if elapsed >= window * 2 {
            *self = Self::none(now);
        } else if elapsed >= window {
            self.start += window;
            self.before = std::mem::take(&mut self.present);
        }
    }

    /// Failures within a window's time before `now`, which the present window holds.
    fn count(&self, window: Duration, now: SystemTime) -> u32 {
        let elapsed = now.duration_since(self.start).unwrap_or_default();
        let overlap = window.saturating_sub(elapsed).as_nanos();
        let before = u128::from(self.before) * overlap / window.as_nanos().max(1);
        let before = u32::try_from(before).unwrap_or(u32::MAX);
        self.present.saturating_add(before)
    }
}

impl Record {
    fn is_banned(&self, now: SystemTime) -> bool {
        self.ban.is_some_and(|ban| now < ban.until)
    }

    fn as_ban(&self, subject: Subject) -> Option<Ban> {
        let term = self.ban?;
        Some(Ban {
            subject,
            name: self.name.clone(),
            since: term.since,
            until: term.until,
            count: self.bans,
            by: term.by,
        })
    }
}

impl BannedBy {
    /// `failures`, `operator` or `replica`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Failures => "failures",
            Self::Operator => "operator",
            Self::Replica => "replica",
        }
    }
}
