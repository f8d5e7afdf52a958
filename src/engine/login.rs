//! [`Login`]: libunftp's authentication pipeline over [`crate::auth`].
//!
//! libunftp asks for a user and a password; what it is told are place holders. The attempt itself
//! (name, password, peer, TLS state) waits here, put down by the edge a moment before, so no
//! password and no odd user name crosses the loopback connection or libunftp's parser.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use tokio::time::timeout;
use unftp_core::auth::{
    AuthenticationError, Authenticator, Credentials, Principal, UserDetailError, UserDetailProvider,
};

use crate::{
    access::{Mount, Tree},
    auth::{Attempt, Authentication, Decision, Outcome},
    observe::telemetry::Here,
    store::{Abilities, Kept, Quotas, Stores, View, backend::EngineUser, exchange::Exchange},
};

/// What a login is checked against and what a session gets; one for the whole process.
#[derive(Debug)]
pub struct Surroundings {
    /// Who may log in.
    pub authentication: Authentication,
    /// The tree of every account.
    pub mounts: Vec<Mount>,
    /// The backends behind the mounts.
    pub stores: Arc<Stores>,
    /// What lies in them, of accounts with a quota.
    pub quotas: Arc<Quotas>,
    /// What interrupted uploads leave, where they are kept.
    pub kept: Option<Arc<Kept>>,
    /// How long a login waits for its home directory to be made: below the deadline of its reply.
    pub home: Duration,
}

impl Surroundings {
    /// What at least one of the mounted stores can do: what FEAT may announce, before login as after.
    pub fn abilities(&self) -> Abilities {
        self.mounts
            .iter()
            .filter_map(|mount| self.stores.get(&mount.backend))
            .map(|store| store.abilities())
            .fold(Abilities::default(), |all, one| Abilities {
                set_modified: all.set_modified || one.set_modified,
                available: all.available || one.available,
            })
    }
}

/// One session's side of the pipeline.
pub struct Login {
    surroundings: Arc<Surroundings>,
    exchange: Arc<Exchange>,
    state: Mutex<State>,
}

/// What the edge puts down for the pipeline, and what came of it.
#[derive(Default)]
struct State {
    /// With the spans of the command that put it down: libunftp's own task has none.
    proof: Option<(Evidence, Here)>,
    decision: Option<Decision>,
}

/// What the next login is decided by.
pub enum Evidence {
    /// An attempt that the sources decide about.
    Attempt(Attempt),
    /// What a source has decided about a certificate.
    Decided(Decision),
}

impl Login {
    /// The pipeline of the session that owns `exchange`.
    pub fn new(surroundings: Arc<Surroundings>, exchange: Arc<Exchange>) -> Self {
        Self {
            surroundings,
            exchange,
            state: Mutex::default(),
        }
    }

    /// Puts down what the next [`super::Engine::log_in`] is about.
    pub fn prepare(&self, evidence: Evidence) {
        *self.state() = State {
            proof: Some((evidence, Here::now())),
            decision: None,
        };
    }

    /// What became of the last [`super::Engine::log_in`]; libunftp knows only yes and no.
    pub fn decision(&self) -> Option<Decision> {
        self.state().decision.clone()
    }

    /// Asks the sources, and gives who may come in their view of the stores.
    async fn enter(&self, evidence: Option<Evidence>) -> Result<Principal, AuthenticationError> {
        let decision = self.decide(evidence).await;
        self.state().decision = Some(decision.clone());
        let Outcome::Welcome(account) = decision.outcome else {
            return Err(AuthenticationError::BadPassword);
        };
        let principal = Principal {
            username: account.name.clone(),
        };
        let tree = Tree::new(account, &self.surroundings.mounts);
        let surroundings = &self.surroundings;
        let (stores, kept) = (Arc::clone(&surroundings.stores), surroundings.kept.clone());
        let view = View::new(tree, stores, kept).held_to(&surroundings.quotas);
        // A store that does not answer keeps nobody from logging in; its error comes with the first command.
        if timeout(surroundings.home, view.prepare_home())
            .await
            .is_err()
        {
            tracing::warn!("home directory could not be made: the store does not answer in time");
        }
        self.exchange.log_in(Arc::new(view));
        Ok(principal)
    }

    async fn decide(&self, evidence: Option<Evidence>) -> Decision {
        match evidence {
            None => Decision {
                outcome: Outcome::Refused { known: false },
                source: "none",
            },
            Some(Evidence::Decided(decision)) => decision,
            Some(Evidence::Attempt(attempt)) => {
                let authentication = &self.surroundings.authentication;
                authentication.log_in(&attempt, SystemTime::now()).await
            }
        }
    }

    /// Held for a few moves at a time and never over an await.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Authenticator for Login {
    async fn authenticate(
        &self,
        _name: &str,
        _credentials: &Credentials,
    ) -> Result<Principal, AuthenticationError> {
        let (evidence, here) = self.state().proof.take().unzip();
        let here = here.unwrap_or_else(Here::none);
        here.carry(self.enter(evidence)).await
    }
}

#[async_trait]
impl UserDetailProvider for Login {
    type User = EngineUser;

    async fn provide_user_detail(&self, _: &Principal) -> Result<EngineUser, UserDetailError> {
        Ok(EngineUser)
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Login")
    }
}
