//! [`ListingCache`]: listings that are answered again for a second or two, for clients that poll.
//!
//! Owned by [`super::Stores`] and used by [`super::View`] for mounts that ask for it. A listing is kept
//! as of the moment it began, never longer than its mount says, and dropped by every change that goes
//! through this process: a client sees its own writes at once (CONFORMANCE O4, O23). Changes by others
//! show when the time is over. Bounded in entries; what is larger is listed anew each time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream, stream::BoxStream};
use tokio::time::Instant;

use super::{Entry, PartSizes, Result, Stat, Store, Upload, transfer::Progress};
use crate::access::StoreKey;

/// Most entries of a listing that is kept.
const ENTRIES: usize = 10_000;
/// Most entries of all listings together: some 20 MiB.
const ALL_ENTRIES: usize = 100_000;

/// Listings of all mounts that have a cache.
#[derive(Clone, Debug, Default)]
pub(super) struct ListingCache {
    /// Held for look-ups and changes of the table only, never across an await.
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    listings: HashMap<StoreKey, Listing>,
    entries: usize,
    /// Changes so far: a listing that ran while there was one may lack it and is not kept.
    changes: u64,
}

#[derive(Debug)]
struct Listing {
    until: Instant,
    entries: Arc<Vec<Entry>>,
}

impl ListingCache {
    /// The entries of a directory, as they are or as they were at most `age` ago.
    pub(super) async fn list(
        &self,
        store: &Arc<dyn Store>,
        directory: &StoreKey,
        age: Duration,
    ) -> Result<BoxStream<'static, Result<Entry>>> {
        self.list_at(store, directory, age, Instant::now()).await
    }

    async fn list_at(
        &self,
        store: &Arc<dyn Store>,
        directory: &StoreKey,
        age: Duration,
        now: Instant,
    ) -> Result<BoxStream<'static, Result<Entry>>> {
        if let Some(entries) = self.fresh(directory, now) {
            let all = (0..entries.len()).filter_map(move |at| entries.get(at).cloned());
            return Ok(stream::iter(all.map(Ok)).boxed());
        }
        let (until, changes) = (now + age, self.kept().changes);
        let inner = store.list(directory).await?;
        let collected = Collected {
            cache: self.clone(),
            directory: directory.clone(),
            until,
            changes,
            entries: Some(Vec::new()),
        };
        let listing = stream::unfold(
            (inner, collected),
            |(mut inner, mut collected)| async move {
                let Some(entry) = inner.next().await else {
                    collected.keep();
                    return None;
                };
                collected.add(&entry);
                Some((entry, (inner, collected)))
            },
        );
        Ok(listing.boxed())
    }

    /// Drops what a change of `key` makes untrue: its own listing and that of its directory.
    pub(super) fn forget(&self, key: &StoreKey) {
        let mut kept = self.kept();
        kept.changes += 1;
        kept.remove(key);
        if let Some(parent) = key.parent() {
            kept.remove(&parent);
        }
    }

    /// The same, and what lies below: a directory may have moved with all its content.
    pub(super) fn forget_below(&self, key: &StoreKey) {
        self.forget(key);
        let mut kept = self.kept();
        let moved: Vec<StoreKey> = kept
            .listings
            .keys()
            .filter(|listed| listed.is_within(key))
            .cloned()
            .collect();
        for directory in moved {
            kept.remove(&directory);
        }
    }

    /// An upload that makes its directory's listing be forgotten when it becomes visible.
    pub(super) fn watch(&self, upload: Box<dyn Upload>, key: StoreKey) -> Box<dyn Upload> {
        Box::new(Forgetting {
            upload,
            cache: self.clone(),
            key,
        })
    }

    fn fresh(&self, directory: &StoreKey, now: Instant) -> Option<Arc<Vec<Entry>>> {
        let mut kept = self.kept();
        match kept.listings.get(directory) {
            Some(listing) if listing.until > now => Some(Arc::clone(&listing.entries)),
            Some(_) => {
                kept.remove(directory);
                None
            }
            None => None,
        }
    }

    /// No code panics while it holds the lock, so there is nothing to be poisoned by.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn remove(&mut self, directory: &StoreKey) {
        if let Some(listing) = self.listings.remove(directory) {
            self.entries -= listing.entries.len() + 1;
        }
    }

    fn insert(&mut self, directory: StoreKey, listing: Listing) {
        self.remove(&directory);
        // An empty listing takes room as well.
        self.entries += listing.entries.len() + 1;
        self.listings.insert(directory, listing);
        if self.entries <= ALL_ENTRIES {
            return;
        }
        let mut by_age: Vec<(Instant, StoreKey)> = self
            .listings
            .iter()
            .map(|(key, listing)| (listing.until, key.clone()))
            .collect();
        by_age.sort_by_key(|(until, _)| *until);
        for (_, key) in by_age {
            if self.entries <= ALL_ENTRIES {
                break;
            }
            self.remove(&key);
        }
    }
}

/// A listing on its way to a client and, if all goes well, into the cache.
struct Collected {
    cache: ListingCache,
    directory: StoreKey,
    until: Instant,
    changes: u64,
    /// `None` once it failed or is too long.
    entries: Option<Vec<Entry>>,
}

impl Collected {
    fn add(&mut self, entry: &Result<Entry>) {
        match (&mut self.entries, entry) {
            (Some(entries), Ok(entry)) if entries.len() < ENTRIES => entries.push(entry.clone()),
            _ => self.entries = None,
        }
    }

    fn keep(self) {
        let Some(entries) = self.entries else { return };
        let mut kept = self.cache.kept();
        if kept.changes == self.changes {
            let listing = Listing {
                until: self.until,
                entries: Arc::new(entries),
            };
            kept.insert(self.directory, listing);
        }
    }
}

/// An upload whose end drops what is remembered of its directory.
struct Forgetting {
    upload: Box<dyn Upload>,
    cache: ListingCache,
    key: StoreKey,
}

#[async_trait]
impl Upload for Forgetting {
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
        self.upload.write(part).await
    }

    async fn commit(self: Box<Self>, last: Vec<Bytes>) -> Result<Stat> {
        let committed = self.upload.commit(last).await;
        // After a failure too: the object may be there all the same.
        self.cache.forget(&self.key);
        committed
    }

    async fn abort(self: Box<Self>) {
        self.upload.abort().await;
    }

    async fn keep(self: Box<Self>, rest: Vec<Bytes>) -> bool {
        self.upload.keep(rest).await
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;
    use crate::{
        config::{MemoryBackend, SetTime},
        store::{MemoryStore, NewFile},
    };

    const AGE: Duration = Duration::from_secs(2);

    fn key(name: &str) -> StoreKey {
        StoreKey::for_test("lab", name)
    }

    fn store() -> Arc<dyn Store> {
        Arc::new(MemoryStore::open(&MemoryBackend {
            size_bytes: 100 << 20,
            set_time: SetTime::Refuse,
        }))
    }

    async fn names(cache: &ListingCache, store: &Arc<dyn Store>, now: Instant) -> Vec<String> {
        let listing = cache.list_at(store, &key("d"), AGE, now).await.unwrap();
        let entries: Vec<Entry> = listing.try_collect().await.unwrap();
        entries.into_iter().map(|entry| entry.name).collect()
    }

    #[tokio::test]
    async fn a_listing_is_kept_for_its_time_and_dropped_by_own_changes() {
        let (cache, store, now) = (ListingCache::default(), store(), Instant::now());
        store.make_directory(&key("d")).await.unwrap();
        assert_eq!(names(&cache, &store, now).await, [""; 0]);
        // Somebody else's change shows when the time is over.
        store.make_directory(&key("d/other")).await.unwrap();
        assert_eq!(names(&cache, &store, now).await, [""; 0]);
        let now = now + AGE;
        assert_eq!(names(&cache, &store, now).await, ["other"]);
        // Our own at once.
        let upload = store
            .write(&key("d/own"), NewFile::default())
            .await
            .unwrap();
        let upload = cache.watch(upload, key("d/own"));
        assert_eq!(names(&cache, &store, now).await, ["other"]);
        upload.commit(Vec::new()).await.unwrap();
        assert_eq!(names(&cache, &store, now).await, ["other", "own"]);
        store.remove_file(&key("d/own")).await.unwrap();
        cache.forget(&key("d/own"));
        assert_eq!(names(&cache, &store, now).await, ["other"]);
    }

    #[tokio::test]
    async fn a_listing_that_ran_during_a_change_is_not_kept() {
        let (cache, store, now) = (ListingCache::default(), store(), Instant::now());
        store.make_directory(&key("d")).await.unwrap();
        store.make_directory(&key("d/a")).await.unwrap();
        let running = cache.list(&store, &key("d"), AGE).await.unwrap();
        store.make_directory(&key("d/b")).await.unwrap();
        cache.forget(&key("d/b"));
        drop(running.try_collect::<Vec<_>>().await.unwrap());
        assert_eq!(names(&cache, &store, now).await, ["a", "b"]);
    }

    #[tokio::test]
    async fn a_directory_moves_with_what_is_below() {
        let (cache, store, now) = (ListingCache::default(), store(), Instant::now());
        for name in ["top", "top/d", "top/d/a", "top2"] {
            store.make_directory(&key(name)).await.unwrap();
        }
        let list = async |name: &str| {
            let listing = cache.list_at(&store, &key(name), AGE, now).await?;
            listing.try_collect::<Vec<_>>().await
        };
        assert_eq!(list("top/d").await.unwrap().len(), 1);
        assert_eq!(list("top2").await.unwrap().len(), 0);
        let (from, to) = (key("top"), key("moved"));
        store.rename(&from, &to, false).await.unwrap();
        cache.forget_below(&from);
        cache.forget_below(&to);
        assert!(list("top/d").await.is_err(), "its directory is gone");
        assert!(cache.kept().listings.contains_key(&key("top2")));
    }

    #[tokio::test]
    async fn the_cache_has_a_bound() {
        let (cache, store) = (ListingCache::default(), store());
        for directory in 0..30 {
            store
                .make_directory(&key(&format!("{directory}")))
                .await
                .unwrap();
            for entry in 0..if directory == 0 {
                ENTRIES + 1
            } else {
                ENTRIES / 2
            } {
                let name = key(&format!("{directory}/{entry}"));
                store.make_directory(&name).await.unwrap();
            }
            let name = key(&directory.to_string());
            let listing = cache.list(&store, &name, AGE).await.unwrap();
            drop(listing.try_collect::<Vec<_>>().await.unwrap());
        }
        let kept = cache.kept();
        assert!(kept.entries <= ALL_ENTRIES, "{}", kept.entries);
        let counted: usize = kept
            .listings
            .values()
            .map(|listing| listing.entries.len() + 1)
            .sum();
        assert_eq!(kept.entries, counted);
        assert!(
            !kept.listings.contains_key(&key("0")),
            "too long to be kept"
        );
        assert!(kept.listings.contains_key(&key("29")));
    }
}
