//! [`Cache`]: a yes is remembered for a moment. A no never is.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::hmac;
use tokio::time::Instant;

use crate::{
    access::Account,
    auth::{Attempt, Proof},
};

/// Logins remembered at once.
const ENTRIES: usize = 10_000;

/// Accepted logins by an HMAC of everything the hook decides by, under a key of this process.
pub(super) struct Cache {
    key: hmac::Key,
    keep: Duration,
    entries: Mutex<HashMap<Key, (Instant, Arc<Account>)>>,
}

/// Of one login.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

impl Cache {
    pub(super) fn new(keep: Duration) -> Self {
        let secret: [u8; 32] = rand::random();
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            keep,
            entries: Mutex::default(),
        }
    }

    /// Everything that the hook is told but the port of the peer, which changes with every connection; and
    /// the `generation` of the groups that an account is made with.
    pub(super) fn key(&self, attempt: &Attempt, generation: u64) -> Key {
        let mut context = hmac::Context::with_key(&self.key);
        let peer = attempt.peer.ip().to_string();
        let (method, password) = match &attempt.proof {
            Proof::Password(password) => ("password", password.as_str()),
            Proof::Certificate => ("certificate", ""),
        };
        let encrypted = if attempt.encrypted { "tls" } else { "clear" };
        let generation = generation.to_string();
        let fixed = [
            &generation,
            method,
            &attempt.user,
            password,
            &peer,
            &attempt.listener,
            encrypted,
        ];
        let parts = fixed
            .into_iter()
            .chain(attempt.identities.iter().map(String::as_str));
        for part in parts {
            // With its length, so that no two lists of parts look alike.
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part.as_bytes());
        }
        let mut key = [0; 32];
        key.copy_from_slice(&context.sign().as_ref()[..32]);
        Key(key)
    }

    pub(super) fn recall(&self, key: &Key) -> Option<Arc<Account>> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, account) = entries.get(key)?;
        (Instant::now() < *until).then(|| Arc::clone(account))
    }

    pub(super) fn note(&self, key: Key, account: Arc<Account>) {
        if self.keep.is_zero() {
            return;
        }
        let now = Instant::now();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= ENTRIES {
            entries.retain(|_, (until, _)| now < *until);
        }
        // When it is full of fresh ones, new ones are asked for again.
        if entries.len() < ENTRIES {
            entries.insert(key, (now + self.keep, account));
        }
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Cache")
    }
}
