//! [`UserStore`]: the users files as an authentication source, kept current while the server runs.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use tokio::time::Instant;

use super::{Candidate, Users, UsersError, files::Files, memory::Memory};
use crate::{
    access::Account,
    auth::{Attempt, Document, Hashing, Names, Proof, Source, Verdict},
    config::{Auth, UsersFiles},
    observe::metrics::{Metrics, UsersLabels},
    watch::Seen,
};

/// The source `users`.
#[derive(Debug)]
pub struct UserStore {
    /// `None`: there are no files, and no users.
    files: Option<UsersFiles>,
    names: ArcSwap<Names>,
    current: ArcSwap<Users>,
    seen: Mutex<Seen>,
    generation: AtomicU64,
    adopting: Mutex<()>,
    memory: Memory,
    hashing: Arc<Hashing>,
    metrics: Arc<Metrics>,
}

/// Users that were read and checked, and decide nothing yet.
#[derive(Debug)]
pub struct FreshUsers {
    users: Users,
    names: Names,
    /// Of the files they were read from.
    digest: [u8; 32],
}

impl UserStore {
    /// Reads the files for the first time. Blocks for the disk.
    ///
    /// # Errors
    /// Every mistake of all files.
    pub fn open(
        auth: &Auth,
        names: Names,
        hashing: Arc<Hashing>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, UsersError> {
        let (users, digest) = match &auth.users {
            None => (Users::nobody(), [0; 32]),
            Some(files) => {
                let files = Files::read(files);
                (Users::parse(&files, &names)?, files.digest())
            }
        };
        let store = Self {
            files: auth.users.clone(),
            names: ArcSwap::from_pointee(names),
            current: ArcSwap::from_pointee(users),
            seen: Mutex::new(Seen::first(digest)),
            generation: AtomicU64::new(0),
            adopting: Mutex::default(),
            memory: Memory::new(auth.password_cache),
            hashing,
            metrics,
        };
        store.announce();
        Ok(store)
    }

    /// Users and groups as they are now.
    pub fn users(&self) -> Arc<Users> {
        self.current.load_full()
    }

    /// Where passwords are checked.
    pub fn hashing(&self) -> Arc<Hashing> {
        Arc::clone(&self.hashing)
    }

    /// What documents may refer to.
    pub fn names(&self) -> Arc<Names> {
        self.names.load_full()
    }

    /// Whether it is made of these settings.
    pub fn is_of(&self, auth: &Auth) -> bool {
        self.files == auth.users && self.memory.keep() == auth.password_cache
    }

    /// Reads and checks the files now, against the names of a new configuration, and changes nothing
    /// yet. Blocks for the disk and the parser.
    ///
    /// # Errors
    /// Every mistake of all files.
    pub fn prepare(&self, names: Names) -> Result<FreshUsers, UsersError> {
        let (users, digest) = match &self.files {
            None => (Ok(Users::nobody()), [0; 32]),
            Some(files) => {
                let files = Files::read(files);
                (Users::parse(&files, &names), files.digest())
            }
        };
        if let Err(error) = &users {
            // Told once. What is good counts as seen when it is adopted: should something else be wrong,
            // the next look takes it up.
            self.seen().took(digest);
            self.report_failure(error);
        }
        Ok(FreshUsers {
            users: users?,
            names,
            digest,
        })
    }

    /// Logins are decided by what was prepared from now on.
    pub fn adopt(&self, fresh: FreshUsers) {
        let _one = self.adopting();
        self.take_up(fresh);
    }

    fn take_up(&self, fresh: FreshUsers) {
        self.names.store(Arc::new(fresh.names));
        self.current.store(Arc::new(fresh.users));
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.seen().took(fresh.digest);
        self.announce();
        self.count_reload("reloaded");
        tracing::info!(users = self.current.load().len(), "users reloaded");
    }

    /// The account that a document of another source makes with the groups of the files.
    ///
    /// # Errors
    /// What is wrong with the document, for the log.
    pub fn account(&self, document: &Document) -> Result<Account, String> {
        document
            .account(self.current.load().groups())
            .map_err(|group| format!("no group has the name {group:?}"))
    }

    /// Looks at the files and loads them if they have changed, or in any case `at_once`; whether it
    /// did. Blocks for the disk and the parser. All or nothing.
    ///
    /// # Errors
    /// What is wrong with the files; who could log in before still can.
    pub fn reload(&self, at_once: bool) -> Result<bool, UsersError> {
        let Some(files) = &self.files else {
            return Ok(false);
        };
        let generation = self.generation();
        let names = self.names.load_full();
        let files = Files::read(files);
        let digest = files.digest();
        if !self.seen().look(digest, at_once) {
            return Ok(false);
        }
        match Users::parse(&files, &names) {
            Ok(users) => {
                let names = Names::clone(&names);
                let _one = self.adopting();
                if self.generation() != generation {
                    // Others were adopted while these were read: what is newer, the next looks will say.
                    self.seen().took([0; 32]);
                    return Ok(false);
                }
                self.take_up(FreshUsers {
                    users,
                    names,
                    digest,
                });
                Ok(true)
            }
            Err(error) => {
                self.report_failure(&error);
                Err(error)
            }
        }
    }

    /// Another number each time that users were adopted, for what was made of them before.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held for a few moves, that nothing comes between names, users and what was seen.
    fn adopting(&self) -> MutexGuard<'_, ()> {
        self.adopting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report_failure(&self, error: &UsersError) {
        tracing::error!(%error, "changed users files are not usable, the old users stay");
        self.count_reload("failed");
    }

    fn count_reload(&self, outcome: &'static str) {
        let labels = UsersLabels { outcome };
        self.metrics.users_reloads.get_or_create(&labels).inc();
    }

    fn announce(&self) {
        let count = i64::try_from(self.current.load().len()).unwrap_or(i64::MAX);
        self.metrics.users.set(count);
    }

    fn count(&self, outcome: &'static str) {
        let labels = UsersLabels { outcome };
        self.metrics.password_checks.get_or_create(&labels).inc();
    }

    async fn check(&self, attempt: &Attempt, password: &str, candidate: Candidate) -> Verdict {
        let Candidate { hash, account, .. } = candidate;
        let user = attempt.user.as_str();
        // Who may not log in is not remembered: a quick refusal would tell that the password is right.
        let circumstances = attempt.circumstances(SystemTime::now());
        let admits = |account: &Arc<Account>| account.conditions.admit(&circumstances).is_ok();
        let admitted = account.as_ref().is_some_and(admits);
        if admitted && self.memory.recalls(user, &hash, password, Instant::now()) {
            self.count("remembered");
            return account.map_or(Verdict::Unknown, Verdict::Accepted);
        }
        let checked = {
            let (hash, password) = (hash.clone(), password.to_owned());
            self.hashing.run(move || hash.matches(&password)).await
        };
        let matches = match checked {
            Ok(matches) => matches.unwrap_or(false),
            Err(busy) => {
                self.count("busy");
                return Verdict::Unavailable(busy.to_string());
            }
        };
        self.count("hashed");
        match account {
            Some(account) if matches => {
                if admitted {
                    self.memory.note(user, &hash, password, Instant::now());
                }
                Verdict::Accepted(account)
            }
            Some(_) => Verdict::Refused("wrong password".to_owned()),
            None => Verdict::Refused(
                "no password opens this account, or its certificate is missing".to_owned(),
            ),
        }
    }
}

#[async_trait]
impl Source for UserStore {
    fn name(&self) -> &'static str {
        "users"
    }

    async fn log_in(&self, attempt: &Attempt) -> Verdict {
        let users = self.current.load_full();
        let (user, identities) = (&attempt.user, &attempt.identities);
        match &attempt.proof {
            Proof::Certificate => match users.verify_certificate(user, identities) {
                Some(account) => Verdict::Accepted(account),
                None if users.knows(user) => {
                    Verdict::Refused("not by certificate alone".to_owned())
                }
                None => Verdict::Unknown,
            },
            Proof::Password(password) => {
                let candidate = users.candidate(user, identities, self.memory.draw(user));
                if !candidate.known {
                    return Verdict::Unknown;
                }
                self.check(attempt, password, candidate).await
            }
        }
    }

    async fn pretend(&self, attempt: &Attempt) {
        let Proof::Password(password) = &attempt.proof else {
            return;
        };
        let users = self.current.load_full();
        let (user, identities) = (&attempt.user, &attempt.identities);
        let candidate = users.candidate(user, identities, self.memory.draw(user));
        // Whatever comes of it: the user is unknown.
        let stranger = Candidate {
            account: None,
            ..candidate
        };
        let _ = self.check(attempt, password, stranger).await;
    }
}
