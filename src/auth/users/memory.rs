//! [`Memory`]: passwords that were right a moment ago, so that a device which logs in every minute does
//! not cost a hash every minute.
//!
//! What is kept is an HMAC of name, hash and password under a key that only this process has: a dump
//! of the memory gives no password that the users file does not give.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::hmac;
use tokio::time::Instant;

use crate::auth::password::Hash;

/// Users remembered at once; beyond it, new ones are not.
const USERS: usize = 50_000;

/// The last right password of each user, for its hash: where a new users file has another one, or none,
/// what is remembered opens nothing.
pub(super) struct Memory {
    key: hmac::Key,
    /// How long a password is remembered after its last use.
    keep: Duration,
    last: Mutex<HashMap<String, Remembered>>,
}

struct Remembered {
    tag: hmac::Tag,
    until: Instant,
}

impl Memory {
    pub(super) fn new(keep: Duration) -> Self {
        let secret: [u8; 32] = rand::random();
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            keep,
            last: Mutex::default(),
        }
    }

    /// How long a password is remembered after its last use.
    pub(super) fn keep(&self) -> Duration {
        self.keep
    }

    /// A number that the name decides and nobody outside can compute.
    pub(super) fn draw(&self, name: &str) -> u64 {
        let tag = hmac::sign(&self.key, name.as_bytes());
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&tag.as_ref()[..8]);
        u64::from_le_bytes(bytes)
    }

    /// Whether this password was right for this hash, and not long ago. Being used renews it: the hash
    /// stands for the password, and a new hash is another entry.
    pub(super) fn recalls(&self, name: &str, hash: &Hash, password: &str, now: Instant) -> bool {
        if self.keep.is_zero() {
            return false;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(remembered) = last.get_mut(name).filter(|last| now < last.until) else {
            return false;
        };
        let text = text(name, hash, password);
        // In constant time.
        let same = hmac::verify(&self.key, &text, remembered.tag.as_ref()).is_ok();
        if same {
            remembered.until = now + self.keep;
        }
        same
    }

    /// Remembers a right password.
    pub(super) fn note(&self, name: &str, hash: &Hash, password: &str, now: Instant) {
        if self.keep.is_zero() {
            return;
        }
        let tag = hmac::sign(&self.key, &text(name, hash, password));
        let until = now + self.keep;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= USERS && !last.contains_key(name) {
            last.retain(|_, remembered| now < remembered.until);
        }
        if last.len() < USERS || last.contains_key(name) {
            last.insert(name.to_owned(), Remembered { tag, until });
        }
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Memory")
    }
}

/// The parts with their lengths, so that no two triples make the same text.
fn text(name: &str, hash: &Hash, password: &str) -> Vec<u8> {
    let mut text = Vec::new();
    for part in [name.as_bytes(), hash.identity(), password.as_bytes()] {
        text.extend_from_slice(&part.len().to_le_bytes());
        text.extend_from_slice(part);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_is_recalled_while_it_is_used() {
        let minute = Duration::from_mins(1);
        let memory = Memory::new(2 * minute);
        let hash = Hash::decoy();
        let new_hash = Hash::parse(&Hash::make("x").unwrap()).unwrap();
        let mut now = Instant::now();
        assert!(!memory.recalls("anna", &hash, "word", now));
        memory.note("anna", &hash, "word", now);
        for _ in 0..5 {
            now += minute;
            assert!(memory.recalls("anna", &hash, "word", now));
            assert!(!memory.recalls("anna", &hash, "Word", now));
            assert!(!memory.recalls("bert", &hash, "word", now));
            assert!(!memory.recalls("anna", &new_hash, "word", now));
        }
        now += 2 * minute;
        assert!(!memory.recalls("anna", &hash, "word", now));
        let off = Memory::new(Duration::ZERO);
        off.note("anna", &hash, "word", now);
        assert!(!off.recalls("anna", &hash, "word", now));
    }
}
