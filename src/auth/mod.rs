//! Who a user is: the users file and its password hashes.
//!
//! Owns passwords and their cost. Knows nothing of FTP or of what an account may do ([`crate::access`]).
//! Called by the engine's authentication pipeline.

mod users;

use std::{fmt, net::SocketAddr, sync::Arc};

use tokio::sync::Semaphore;

pub use users::{Users, UsersError};

use crate::access::Account;

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
}

/// What a client proves itself with.
pub enum Proof {
    /// The password as sent, besides a certificate where the user needs both.
    Password(String),
    /// Its certificate alone, before a password is asked for (RFC 4217 §5.2: 232).
    Certificate,
}

/// Checks attempts against the configured sources.
#[derive(Debug)]
pub struct Authentication {
    users: Arc<Users>,
    /// A hash takes tens of milliseconds and megabytes: as many at once as there are cores.
    hashing: Semaphore,
}

impl Authentication {
    /// Authentication by the users file.
    pub fn new(users: Arc<Users>) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self {
            users,
            hashing: Semaphore::new(cores),
        }
    }

    /// Whether some source has a user of this name. For logs, never for an answer to a client.
    pub fn knows(&self, name: &str) -> bool {
        self.users.knows(name)
    }

    /// Whether a certificate with these identities is all that the user needs. Cheap: no hash.
    pub fn needs_no_password(&self, user: &str, identities: &[String]) -> bool {
        self.users.verify_certificate(user, identities).is_some()
    }

    /// The name of the profile of an account.
    pub fn profile(&self, account: &str) -> Option<&str> {
        self.users.profile(account)
    }

    /// The account, or `None` for an unknown user and a wrong password alike, after the same work.
    pub async fn log_in(&self, attempt: Attempt) -> Option<Arc<Account>> {
        let Attempt {
            user,
            proof,
            identities,
            ..
        } = attempt;
        let password = match proof {
            Proof::Certificate => return self.users.verify_certificate(&user, &identities),
            Proof::Password(password) => password,
        };
        // Held over the hash. The semaphore is never closed.
        let _permit = self.hashing.acquire().await.ok()?;
        let users = Arc::clone(&self.users);
        let verify = move || users.verify(&user, &password, &identities);
        // Off the async workers; a panic in a hash is a failed login.
        tokio::task::spawn_blocking(verify).await.ok().flatten()
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
