//! [`Watched`]: a store whose operations are counted, timed and remembered: for the metrics, for
//! readiness and for the status page.
//!
//! Owns no policy: everything goes through to the store inside. One operation may be several requests
//! with their retries; what is timed is what a client waits for. What a client caused (no such file,
//! directory not empty …) is a healthy answer; what only an operator can cure is not.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use tracing::Instrument as _;

use super::{
    Abilities, Entry, ErrorKind, NewFile, PartSizes, Result, Stat, Store, StoreError, Swept, Total,
    Upload, Whose, transfer::Progress,
};
use crate::{
    access::StoreKey,
    config::Checksum,
    observe::{
        metrics::{Metrics, StoreLabels, StoreOperationLabels},
        telemetry::SPANS,
    },
};

/// A store and what is known about it.
#[derive(Debug)]
pub struct Watched {
    store: Arc<dyn Store>,
    notes: Notes,
}

/// Where the operations of one backend are written down.
#[derive(Clone, Debug)]
struct Notes {
    backend: Arc<str>,
    health: Arc<Health>,
    /// `None` where nobody serves metrics.
    metrics: Option<Arc<Metrics>>,
}

/// How the last requests of a store went. Cheap to update: a lock for a few moves.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<LastResults>);

/// What is known about a store.
#[derive(Clone, Debug, Default)]
pub struct LastResults {
    /// When it last answered as it should.
    pub good: Option<SystemTime>,
    /// When it last did not, and why.
    pub bad: Option<(SystemTime, String)>,
}

impl LastResults {
    /// Whether the last word was a good one; a store that nobody asked yet is not bad.
    pub fn is_good(&self) -> bool {
        match (&self.bad, self.good) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some((bad, _)), Some(good)) => good >= *bad,
        }
    }
}

impl Health {
    /// How the last requests went.
    fn last(&self) -> LastResults {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn note<T>(&self, result: &Result<T>) {
        let now = SystemTime::now();
        let bad = result.as_ref().err().filter(|error| is_fault(error));
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match bad {
            None => last.good = Some(now),
            Some(error) => last.bad = Some((now, error.to_string())),
        }
    }
}

/// Whether an operator must look: not what a client asked wrongly.
fn is_fault(error: &StoreError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied
            | ErrorKind::StorageFull
            | ErrorKind::Busy
            | ErrorKind::Unavailable
            | ErrorKind::Internal
    )
}

impl Notes {
    async fn take<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let begin = Instant::now();
        let span = tracing::info_span!(
            target: SPANS,
            "store",
            otel.name = format_args!("store {operation}"),
            otel.kind = "client",
            otel.status_code = tracing::field::Empty,
            backend = &*self.backend,
            operation,
            outcome = tracing::field::Empty,
        );
        let done = work.instrument(span.clone()).await;
        span.record(
            "outcome",
            done.as_ref()
                .err()
                .map_or("ok", |error| error.kind().label()),
        );
        if done.as_ref().is_err_and(is_fault) {
            span.record("otel.status_code", "ERROR");
        }
        drop(span);
        self.health.note(&done);
        if let Some(metrics) = &self.metrics {
            let outcome = match &done {
                Ok(_) => "ok",
                Err(error) => error.kind().label(),
            };
            let backend = self.backend.to_string();
            let seconds = begin.elapsed().as_secs_f64();
            let labels = StoreLabels {
                backend: backend.clone(),
                operation,
            };
            metrics
                .store_seconds
                .get_or_create(&labels)
                .observe(seconds);
            let labels = StoreOperationLabels {
                backend,
                operation,
                outcome,
            };
            metrics.store_operations.get_or_create(&labels).inc();
        }
        done
    }
}

impl Watched {
    /// Watches `store`, the backend of the name `backend`.
    pub fn new(store: Arc<dyn Store>, backend: Arc<str>, metrics: Option<Arc<Metrics>>) -> Self {
        let notes = Notes {
            backend,
            health: Arc::default(),
            metrics,
        };
        Self { store, notes }
    }

    async fn watch(
        &self,
        operation: &'static str,
        begin: impl Future<Output = Result<Box<dyn Upload>>> + Send,
    ) -> Result<Box<dyn Upload>> {
        let upload = self.notes.take(operation, begin).await?;
        let notes = self.notes.clone();
        Ok(Box::new(WatchedUpload { upload, notes }))
    }
}

#[async_trait]
impl Store for Watched {
    fn health(&self) -> LastResults {
        self.notes.health.last()
    }

    async fn stat(&self, key: &StoreKey) -> Result<Stat> {
        self.notes.take("stat", self.store.stat(key)).await
    }

    async fn list(&self, directory: &StoreKey) -> Result<BoxStream<'static, Result<Entry>>> {
        self.notes.take("list", self.store.list(directory)).await
    }

    async fn read(
        &self,
        key: &StoreKey,
        offset: u64,
        stat: &Stat,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        self.notes
            .take("read", self.store.read(key, offset, stat))
            .await
    }

    async fn write(&self, key: &StoreKey, file: NewFile) -> Result<Box<dyn Upload>> {
        self.watch("write", self.store.write(key, file)).await
    }

    async fn survey(&self, key: &StoreKey) -> Result<Option<Stat>> {
        self.notes.take("survey", self.store.survey(key)).await
    }

    async fn write_kept(
        &self,
        key: &StoreKey,
        file: NewFile,
        user: &str,
    ) -> Result<Box<dyn Upload>> {
        self.watch("write", self.store.write_kept(key, file, user))
            .await
    }

    async fn kept(&self, key: &StoreKey, user: &str) -> Result<Option<Stat>> {
        self.notes.take("kept", self.store.kept(key, user)).await
    }

    async fn resume(
        &self,
        key: &StoreKey,
        user: &str,
        offset: u64,
        exclusive: bool,
    ) -> Result<Box<dyn Upload>> {
        self.watch("resume", self.store.resume(key, user, offset, exclusive))
            .await
    }

    async fn forget(&self, key: &StoreKey, user: &str) -> Result<bool> {
        self.notes
            .take("forget", self.store.forget(key, user))
            .await
    }

    async fn sweep(&self, age: Duration) -> Result<Swept> {
        self.notes.take("sweep", self.store.sweep(age)).await
    }

    fn commits_after(&self) -> Option<Duration> {
        self.store.commits_after()
    }

    fn waiting(&self) -> Total {
        self.store.waiting()
    }

    async fn commit_held(&self, whose: Whose) -> Result<u64> {
        let work = self.store.commit_held(whose);
        self.notes.take("commit_held", work).await
    }

    async fn publish(&self, key: &StoreKey) -> Result<()> {
        self.store.publish(key).await
    }

    async fn total(&self, directory: &StoreKey) -> Result<Total> {
        self.notes.take("total", self.store.total(directory)).await
    }

    async fn advice(&self) -> Result<Vec<String>> {
        self.notes.take("advice", self.store.advice()).await
    }

    async fn remove_file(&self, key: &StoreKey) -> Result<()> {
        self.notes
            .take("remove_file", self.store.remove_file(key))
            .await
    }

    async fn make_directory(&self, key: &StoreKey) -> Result<()> {
        self.notes
            .take("make_directory", self.store.make_directory(key))
            .await
    }

    async fn make_directories(&self, key: &StoreKey) -> Result<()> {
        self.notes
            .take("make_directory", self.store.make_directories(key))
            .await
    }

    async fn remove_directory(&self, key: &StoreKey) -> Result<()> {
        self.notes
            .take("remove_directory", self.store.remove_directory(key))
            .await
    }

    async fn rename(&self, from: &StoreKey, to: &StoreKey, exclusive: bool) -> Result<()> {
        let work = self.store.rename(from, to, exclusive);
        self.notes.take("rename", work).await
    }

    async fn complete_as(&self, from: &StoreKey, to: &StoreKey, exclusive: bool) -> Result<bool> {
        let work = self.store.complete_as(from, to, exclusive);
        self.notes.take("complete_as", work).await
    }

    fn abilities(&self) -> Abilities {
        self.store.abilities()
    }

    async fn set_modified(&self, key: &StoreKey, time: SystemTime) -> Result<()> {
        self.notes
            .take("set_modified", self.store.set_modified(key, time))
            .await
    }

    async fn checksum(&self, key: &StoreKey, checksum: Checksum) -> Result<Option<(u64, String)>> {
        let work = self.store.checksum(key, checksum);
        self.notes.take("checksum", work).await
    }

    async fn available(&self) -> Result<Option<u64>> {
        self.notes.take("available", self.store.available()).await
    }
}

struct WatchedUpload {
    upload: Box<dyn Upload>,
    notes: Notes,
}

#[async_trait]
impl Upload for WatchedUpload {
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
        self.notes.take("part", self.upload.write(part)).await
    }

    async fn commit(self: Box<Self>, last: Vec<Bytes>) -> Result<Stat> {
        let Self { upload, notes } = *self;
        notes.take("commit", upload.commit(last)).await
    }

    // What fails in these two is in the log.

    async fn abort(self: Box<Self>) {
        self.upload.abort().await;
    }

    async fn keep(self: Box<Self>, rest: Vec<Bytes>) -> bool {
        self.upload.keep(rest).await
    }
}

impl fmt::Debug for WatchedUpload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("WatchedUpload")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A method with a default that is not handed on would hide the store's own.
    #[test]
    fn every_method_is_handed_on() {
        let (traits, watched) = (include_str!("mod.rs"), include_str!("watched.rs"));
        for (declared, handed_on) in [
            ("pub trait Store", "impl Store for Watched "),
            ("pub trait Upload", "impl Upload for WatchedUpload "),
        ] {
            let body = |text: &'static str, start: &str| {
                let text = &text[text.find(start).expect(start)..];
                &text[..text.find("\n}\n").expect("its end")]
            };
            let (declared, handed_on) = (body(traits, declared), body(watched, handed_on));
            let names = declared.lines().filter_map(|line| {
                let line = line.strip_prefix("    ")?;
                let line = line.strip_prefix("async ").unwrap_or(line);
                line.strip_prefix("fn ")?.split('(').next()
            });
            let names: Vec<_> = names.collect();
            assert!(names.len() >= 6, "{names:?}");
            for name in names {
                assert!(handed_on.contains(&format!("fn {name}(")), "{name}");
            }
        }
    }

    #[test]
    fn only_what_an_operator_can_cure_is_a_fault() {
        let health = Health::default();
        assert!(health.last().is_good(), "nobody asked yet");
        let fails = |kind| Err::<(), _>(StoreError::new(kind, "stat"));
        health.note(&fails(ErrorKind::Unavailable));
        assert!(!health.last().is_good());
        health.note(&fails(ErrorKind::NotFound));
        assert!(health.last().is_good(), "it answered");
        health.note(&fails(ErrorKind::PermissionDenied));
        let last = health.last();
        assert!(!last.is_good());
        assert!(last.bad.unwrap().1.contains("stat"));
    }
}
