//! [`UserStore`]: the users files as an authentication source, kept current while the server runs.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use tokio::{signal::unix::Signal, time::Instant};

use super::{Candidate, Users, UsersError, files::Files, memory::Memory};
use crate::{
    access::Account,
    auth::{Attempt, Document, Hashing, Names, Proof, Source, Verdict},
    config::{Auth, UsersFiles},
    observe::metrics::{LoginLabels, Metrics},
    shutdown::Drain,
    watch::{self, Seen},
};

/// The source `users`.
#[derive(Debug)]
pub struct UserStore {
    /// `None`: there are no files, and no users.
    files: Option<UsersFiles>,
    names: ArcSwap<Names>,
    current: ArcSwap<Users>,
    seen: Mutex<Seen>,
    memory: Memory,
    hashing: Arc<Hashing>,
    metrics: Arc<Metrics>,
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

    /// What documents may refer to.
    pub fn names(&self) -> Arc<Names> {
        self.names.load_full()
    }

    /// After a change of the configuration: documents are checked against these names from the next
    /// reload on.
    pub fn rename(&self, names: Names) {
        self.names.store(Arc::new(names));
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
        let files = Files::read(files);
        let load = self
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .look(files.digest(), at_once);
        if !load {
            return Ok(false);
        }
        let outcome = Users::parse(&files, &self.names.load());
        let label = if outcome.is_ok() {
            "reloaded"
        } else {
            "failed"
        };
        let labels = LoginLabels { outcome: label };
        self.metrics.users_reloads.get_or_create(&labels).inc();
        match outcome {
            Ok(users) => {
                self.current.store(Arc::new(users));
                self.memory.clear();
                self.announce();
                tracing::info!(users = self.current.load().len(), "users reloaded");
                Ok(true)
            }
            Err(error) => {
                tracing::error!(%error, "changed users files are not usable, the old users stay");
                Err(error)
            }
        }
    }

    fn announce(&self) {
        let count = i64::try_from(self.current.load().len()).unwrap_or(i64::MAX);
        self.metrics.users.set(count);
    }

    fn count(&self, outcome: &'static str) {
        let labels = LoginLabels { outcome };
        self.metrics.password_checks.get_or_create(&labels).inc();
    }

    async fn check(&self, user: &str, password: &str, candidate: Candidate) -> Verdict {
        let Candidate { hash, account, .. } = candidate;
        if account.is_some() && self.memory.recalls(user, &hash, password, Instant::now()) {
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
                self.memory.note(user, &hash, password, Instant::now());
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

    fn knows(&self, user: &str) -> bool {
        self.current.load().knows(user)
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
                self.check(user, password, candidate).await
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
        let _ = self
            .check(
                user,
                password,
                Candidate {
                    account: None,
                    ..candidate
                },
            )
            .await;
    }
}

/// Keeps the users as their files are until the drain begins. `hangup` is SIGHUP.
pub async fn keep_current(users: Arc<UserStore>, drain: Drain, mut hangup: Option<Signal>) {
    loop {
        let at_once = tokio::select! {
            () = drain.begun() => return,
            () = tokio::time::sleep(watch::PERIOD) => false,
            () = watch::next(&mut hangup) => true,
        };
        let looking = Arc::clone(&users);
        // Off the async workers: a network disk may hang, and thousands of users take a moment.
        let look = tokio::task::spawn_blocking(move || looking.reload(at_once));
        tokio::select! {
            () = drain.begun() => return,
            // What came of it is logged and counted.
            _ = look => {}
        }
    }
}
