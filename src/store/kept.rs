//! [`Kept`]: how much interrupted uploads may leave behind, of one user and of all.
//!
//! What is kept lies in the stores, where every process finds it; the numbers here are of this process
//! since it began. When a bound is crossed the oldest is given up: who was cut off last is who comes back.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;

use super::{PartSizes, Result, Stat, Store, Upload, length, transfer::Progress};
use crate::{
    access::StoreKey,
    config::{KeptBounds, KeptLimit},
    observe::metrics::Metrics,
};

/// What interrupted uploads have left, oldest first.
pub struct Kept {
    bounds: KeptBounds,
    metrics: Arc<Metrics>,
    left: Mutex<VecDeque<Left>>,
}

/// What one upload left.
#[derive(Clone)]
struct Left {
    store: Arc<dyn Store>,
    key: StoreKey,
    user: String,
    bytes: u64,
}

impl Kept {
    /// Nothing yet, under these bounds.
    pub fn new(bounds: KeptBounds, metrics: Arc<Metrics>) -> Self {
        Self {
            bounds,
            metrics,
            left: Mutex::default(),
        }
    }

    /// The bounds it was made for.
    pub fn bounds(&self) -> &KeptBounds {
        &self.bounds
    }

    /// Counts what `upload` leaves if it is interrupted; it begins with `offset` bytes of what was left.
    pub(super) fn watch(
        self: &Arc<Self>,
        upload: Box<dyn Upload>,
        store: &Arc<dyn Store>,
        key: &StoreKey,
        user: &str,
        offset: u64,
    ) -> Box<dyn Upload> {
        self.forget(key, user);
        let left = Left {
            store: Arc::clone(store),
            key: key.clone(),
            user: user.to_owned(),
            bytes: offset,
        };
        let kept = Arc::clone(self);
        Box::new(Counted { upload, left, kept })
    }

    /// Nothing is left of this one any more.
    pub(super) fn forget(&self, key: &StoreKey, user: &str) {
        let mut left = self.left();
        left.retain(|left| left.user != user || left.key != *key);
        self.show(&left);
    }

    /// Takes up what was left just now, and says what has to go for it.
    fn add(&self, new: Left) -> Vec<Left> {
        let mut left = self.left();
        left.retain(|old| old.user != new.user || old.key != new.key);
        let user = new.user.clone();
        left.push_back(new);
        let mut given_up = Vec::new();
        while let Some(index) = self.beyond(&left, &user) {
            given_up.extend(left.remove(index));
        }
        self.show(&left);
        given_up
    }

    /// The first that has to go, if a bound is crossed.
    fn beyond(&self, left: &VecDeque<Left>, user: &str) -> Option<usize> {
        let crossed = |limit: &KeptLimit, own: &dyn Fn(&Left) -> bool| {
            let all = left.iter().filter(|left| own(left));
            let (uploads, bytes) = all.fold((0, 0_u64), |(uploads, bytes), left| {
                (uploads + 1, bytes.saturating_add(left.bytes))
            });
            let crossed = uploads > limit.uploads || bytes > limit.bytes;
            crossed.then(|| left.iter().position(own)).flatten()
        };
        crossed(&self.bounds.user, &|left| left.user == user)
            .or_else(|| crossed(&self.bounds.all, &|_| true))
    }

    fn show(&self, left: &VecDeque<Left>) {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let bytes = left.iter().map(|left| left.bytes).sum();
        self.metrics.uploads_kept.set(number(left.len() as u64));
        self.metrics.uploads_kept_size.set(number(bytes));
    }

    /// Held for a look at the list, never over an await.
    fn left(&self) -> MutexGuard<'_, VecDeque<Left>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Kept").field(&self.bounds).finish()
    }
}

/// An upload whose bytes are counted in case it is interrupted.
struct Counted {
    upload: Box<dyn Upload>,
    left: Left,
    kept: Arc<Kept>,
}

#[async_trait]
impl Upload for Counted {
    fn part_sizes(&self) -> PartSizes {
        self.upload.part_sizes()
    }

    fn keeps_part_back(&self) -> bool {
        self.upload.keeps_part_back()
    }

    fn hashed_by(&mut self, progress: Arc<Progress>) {
        self.upload.hashed_by(progress);
    }

    async fn write(&mut self, part: Vec<Bytes>) -> Result<()> {
        self.left.bytes += length(&part);
        self.upload.write(part).await
    }

    async fn commit(self: Box<Self>, last: Vec<Bytes>) -> Result<Stat> {
        self.upload.commit(last).await
    }

    async fn abort(self: Box<Self>) {
        self.upload.abort().await;
    }

    async fn keep(self: Box<Self>, rest: Vec<Bytes>) -> bool {
        let Self {
            upload,
            mut left,
            kept,
        } = *self;
        left.bytes += length(&rest);
        if !upload.keep(rest).await {
            return false;
        }
        for old in kept.add(left) {
            tracing::info!(user = old.user, key = ?old.key.as_str(), "an interrupted upload is given up for newer ones");
            if let Err(error) = old.store.forget(&old.key, &old.user).await {
                tracing::warn!(%error, "an interrupted upload stays until the sweep");
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{MemoryBackend, SetTime},
        store::MemoryStore,
    };

    #[test]
    fn oldest_of_a_user_and_then_of_all_goes() {
        let limit = |uploads, bytes| KeptLimit { uploads, bytes };
        let bounds = KeptBounds {
            user: limit(2, 100),
            all: limit(3, 150),
        };
        let metrics = Metrics::new();
        let kept = Kept::new(bounds, Arc::clone(&metrics));
        let store: Arc<dyn Store> = Arc::new(MemoryStore::open(&MemoryBackend {
            set_time: SetTime::Ignore,
            size_bytes: 1,
        }));
        let add = |user: &str, name: &str, bytes| {
            let given_up = kept.add(Left {
                store: Arc::clone(&store),
                key: StoreKey::for_test("s", name),
                user: user.to_owned(),
                bytes,
            });
            let names = given_up.iter().map(|left| left.key.as_str().to_owned());
            names.collect::<Vec<_>>()
        };
        let none: [&str; 0] = [];
        assert_eq!(add("a", "1", 10), none);
        assert_eq!(add("a", "2", 10), none);
        assert_eq!(add("a", "2", 20), none);
        assert_eq!(add("a", "3", 10), ["1"]);
        assert_eq!(add("b", "4", 10), none);
        assert_eq!(add("b", "5", 10), ["2"]);
        assert_eq!(add("b", "6", 95), ["4", "5"]);
        assert_eq!(add("c", "7", 90), ["3", "6"]);
        assert_eq!(add("c", "8", 101), ["7", "8"]);
        assert_eq!(metrics.uploads_kept.get(), 0);
        add("a", "9", 7);
        assert_eq!(metrics.uploads_kept_size.get(), 7);
        kept.forget(&StoreKey::for_test("s", "9"), "a");
        assert_eq!(metrics.uploads_kept.get(), 0);
    }
}
