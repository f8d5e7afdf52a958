//! Who a user is: sources of users, tried in the configured order, and the checks of passwords; and who
//! may not try for now ([`bans`]).
//!
//! Owns passwords and their cost. Knows nothing of FTP or of what an account may do ([`crate::access`]).
//! Called by the engine's authentication pipeline.

mod anonymous;
pub mod bans;
mod check;
mod document;
mod hashing;
pub mod hook;
pub mod ldap;
pub mod password;
pub mod shared;
mod trust;
mod users;

use std::{fmt, net::SocketAddr, sync::Arc, time::SystemTime};

use async_trait::async_trait;

pub use self::{
    anonymous::Anonymous,
    check::{
        Finding, ShownCertificate, announce_certificates, check_files, check_online,
        shown_certificates,
    },
    document::{Document, FOREIGN_BYTES, Groups, LoginBy, Names, Settings, name_problem},
    hashing::{Busy, Hashing},
    hook::HttpHook,
    ldap::Directory,
    shared::SharedCounters,
    trust::TrustErrors,
    users::{FreshUsers, UserStore, Users, UsersError, users_schema},
};
use crate::{
    access::{Account, Circumstances},
    config::{self, SourceKind},
    shutdown::Drain,
};

/// One try to log in.
pub struct Attempt {
    /// The name as sent.
    pub user: String,
    /// What the client proves itself with.
    pub proof: Proof,
    /// What its verified certificate says about it; empty without one.
    pub identities: Vec<String>,
    /// The client's address.
    pub peer: SocketAddr,
    /// Name of the listener.
    pub listener: Arc<str>,
    /// The control connection is under TLS.
    pub encrypted: bool,
}

/// What a client proves itself with.
#[derive(Clone)]
pub enum Proof {
    /// The password as sent, besides a certificate where the user needs both.
    Password(String),
    /// Its certificate alone, before a password is asked for (RFC 4217 §5.2: 232).
    Certificate,
}

/// Where users come from.
#[async_trait]
pub trait Source: fmt::Debug + Send + Sync {
    /// One word for logs and metrics: `users`, `http`, `ldap`, …
    fn name(&self) -> &'static str;

    /// Decides about one attempt. A remote source must end within its own deadline and hold no more
    /// than a bounded number of attempts. The conditions of the account (`enabled`, networks, hours …)
    /// are looked at by the caller.
    async fn log_in(&self, attempt: &Attempt) -> Verdict;

    /// Spends what checking a wrong password would have cost, after no source knew the user: the time
    /// of an answer must not tell who exists.
    async fn pretend(&self, attempt: &Attempt) {
        let _ = attempt;
    }
}

/// What a source says. The texts are for the log and hold no secret.
#[derive(Debug)]
pub enum Verdict {
    /// It is who it says.
    Accepted(Arc<Account>),
    /// The user is known here and has not proved itself; no other source is asked.
    Refused(String),
    /// Nothing that could prove anything: no other source is asked, and nobody knows whether there is
    /// such a user.
    Dismissed(String),
    /// Not known here: the next source is asked.
    Unknown,
    /// Cannot tell now. Nobody gets in, and no other source is asked: it might know another user of
    /// the name.
    Unavailable(String),
}

/// The end of an attempt.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// 230.
    Welcome(Arc<Account>),
    /// 530, always with the same words.
    Refused {
        /// Some source has a user of this name. For logs, never for an answer to a client.
        known: bool,
    },
    /// Try again later.
    Unavailable,
}

/// The end of an attempt, and who decided.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What is decided.
    pub outcome: Outcome,
    /// [`Source::name`] of who decided; `none` if no source knows the user.
    pub source: &'static str,
}

/// Checks attempts against the configured sources.
#[derive(Debug)]
pub struct Authentication {
    sources: Vec<Arc<dyn Source>>,
    hook: Option<Arc<HttpHook>>,
    directory: Option<Arc<Directory>>,
}

impl Authentication {
    /// Authentication by `sources`, in this order.
    pub fn new(sources: Vec<Arc<dyn Source>>) -> Self {
        Self {
            sources,
            hook: None,
            directory: None,
        }
    }

    /// The sources that `auth` names, in their order. Connections of `last` go on where nothing about
    /// them has changed. Blocks for the disk.
    ///
    /// # Errors
    /// Files that a source needs are not usable.
    pub fn open(
        auth: &config::Auth,
        last: Option<&Self>,
        users: &Arc<UserStore>,
        drain: &Drain,
    ) -> anyhow::Result<Self> {
        let mut opened = Self::new(Vec::new());
        for source in &auth.sources {
            let users = Arc::clone(users);
            let source: Arc<dyn Source> = match (source, &auth.http, &auth.ldap) {
                (SourceKind::Users, ..) => users,
                (SourceKind::Anonymous, ..) => {
                    Arc::new(Anonymous::new(auth.anonymous.clone(), users))
                }
                (SourceKind::Http, Some(settings), _) => {
                    let (last, hashing) = (last.and_then(|l| l.hook.as_deref()), users.hashing());
                    let hook = HttpHook::open(settings, last, users, hashing)?;
                    Arc::clone(opened.hook.insert(Arc::new(hook))) as _
                }
                (SourceKind::Ldap, _, Some(settings)) => {
                    let last = last.and_then(|last| last.directory.as_deref());
                    let directory = Directory::open(settings, last, users, drain.clone())?;
                    Arc::clone(opened.directory.insert(Arc::new(directory))) as _
                }
                // The configuration asks for the settings of every source it names.
                (SourceKind::Http, None, _) => anyhow::bail!("auth.http is missing"),
                (SourceKind::Ldap, _, None) => anyhow::bail!("auth.ldap is missing"),
            };
            opened.sources.push(source);
        }
        Ok(opened)
    }

    /// Decides about an attempt at the time `now`. Why it is refused goes to the log.
    ///
    /// An attempt with a certificate alone that no source accepts costs nothing: it is asked at USER,
    /// and the password decides.
    pub async fn log_in(&self, attempt: &Attempt, now: SystemTime) -> Decision {
        let has_password = matches!(attempt.proof, Proof::Password(_));
        for (index, source) in self.sources.iter().enumerate() {
            let verdict = source.log_in(attempt).await;
            // Who is ALICE to a directory and alice here may be somebody else's alice, too.
            let decided = match &verdict {
                Verdict::Accepted(account) if account.name != attempt.user => {
                    let named = attempt.named(&account.name);
                    Self::first_of(&self.sources[..index], &named, now).await
                }
                _ => None,
            };
            if let Some(decision) = decided {
                return decision;
            }
            let is_refused = matches!(verdict, Verdict::Refused(_));
            let Some(decision) = conclude(source.name(), verdict, attempt, now) else {
                continue;
            };
            if is_refused && has_password {
                // An unknown user costs what they pretend: so must one who is known here.
                for other in self.sources.iter().filter(|one| !Arc::ptr_eq(one, source)) {
                    other.pretend(attempt).await;
                }
            }
            return decision;
        }
        if has_password {
            for source in &self.sources {
                source.pretend(attempt).await;
            }
        }
        Decision {
            outcome: Outcome::Refused { known: false },
            source: "none",
        }
    }

    /// What the first of `sources` that knows the user decides.
    async fn first_of(
        sources: &[Arc<dyn Source>],
        attempt: &Attempt,
        now: SystemTime,
    ) -> Option<Decision> {
        for source in sources {
            let verdict = source.log_in(attempt).await;
            let decision = conclude(source.name(), verdict, attempt, now);
            if decision.is_some() {
                return decision;
            }
        }
        None
    }
}

/// What follows from what a source says; `None`: the next one is asked.
fn conclude(
    source: &'static str,
    verdict: Verdict,
    attempt: &Attempt,
    now: SystemTime,
) -> Option<Decision> {
    let outcome = match verdict {
        Verdict::Accepted(account) => admit(account, attempt, now, source),
        Verdict::Refused(reason) => {
            if matches!(attempt.proof, Proof::Password(_)) {
                tracing::info!(source, reason, "login refused by its source");
            }
            Outcome::Refused { known: true }
        }
        Verdict::Dismissed(reason) => {
            tracing::info!(source, reason, "login refused by its source");
            Outcome::Refused { known: false }
        }
        Verdict::Unknown => return None,
        Verdict::Unavailable(reason) => {
            tracing::error!(source, reason, "authentication source cannot answer");
            Outcome::Unavailable
        }
    };
    Some(Decision { outcome, source })
}

/// The account's own conditions, after the proof, so that they tell a stranger nothing.
fn admit(
    account: Arc<Account>,
    attempt: &Attempt,
    now: SystemTime,
    source: &'static str,
) -> Outcome {
    match account.conditions.admit(&attempt.circumstances(now)) {
        Ok(()) => Outcome::Welcome(account),
        Err(reason) => {
            let user = account.name.as_str();
            tracing::warn!(source, user, %reason, "proved itself and may not log in");
            Outcome::Refused { known: true }
        }
    }
}

impl Attempt {
    /// The same by another name.
    fn named(&self, user: &str) -> Self {
        Self {
            user: user.to_owned(),
            proof: self.proof.clone(),
            identities: self.identities.clone(),
            peer: self.peer,
            listener: Arc::clone(&self.listener),
            encrypted: self.encrypted,
        }
    }

    /// What the conditions of an account look at.
    fn circumstances(&self, now: SystemTime) -> Circumstances<'_> {
        Circumstances {
            now,
            address: self.peer.ip(),
            listener: &self.listener,
            encrypted: self.encrypted,
        }
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Attempt")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}
