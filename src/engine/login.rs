//! [`Login`]: libunftp's authentication pipeline over [`crate::auth`].
//!
//! libunftp asks for a user and a password; what it is told are place holders. The attempt itself
//! (name, password, peer, TLS state) waits here, put down by the edge a moment before, so no
//! password and no odd user name crosses the loopback connection or libunftp's parser.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use unftp_core::auth::{
    AuthenticationError, Authenticator, Credentials, Principal, UserDetailError, UserDetailProvider,
};

use crate::{
    access::{Mount, Tree},
    auth::{Attempt, Authentication},
    store::{Abilities, Stores, View, backend::EngineUser, exchange::Exchange},
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
    /// Interrupted uploads are kept.
    pub resume: bool,
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
    attempt: Mutex<Option<Attempt>>,
}

impl Login {
    /// The pipeline of the session that owns `exchange`.
    pub fn new(surroundings: Arc<Surroundings>, exchange: Arc<Exchange>) -> Self {
        Self {
            surroundings,
            exchange,
            attempt: Mutex::default(),
        }
    }

    /// Puts down the attempt that the next [`super::Engine::log_in`] is about.
    pub fn prepare(&self, attempt: Attempt) {
        *self.attempt.lock().unwrap_or_else(PoisonError::into_inner) = Some(attempt);
    }
}

#[async_trait]
impl Authenticator for Login {
    async fn authenticate(
        &self,
        _name: &str,
        _credentials: &Credentials,
    ) -> Result<Principal, AuthenticationError> {
        let attempt = self
            .attempt
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let attempt = attempt.ok_or(AuthenticationError::BadPassword)?;
        let account = self
            .surroundings
            .authentication
            .log_in(attempt)
            .await
            .ok_or(AuthenticationError::BadPassword)?;
        let principal = Principal {
            username: account.name.clone(),
        };
        let tree = Tree::new(account, &self.surroundings.mounts);
        let surroundings = &self.surroundings;
        let view = View::new(tree, Arc::clone(&surroundings.stores), surroundings.resume);
        view.prepare_home().await;
        self.exchange.log_in(Arc::new(view));
        Ok(principal)
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
