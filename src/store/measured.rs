//! [`Measured`]: a store whose operations are counted and timed.
//!
//! Owns no policy: everything goes through to the store inside. One operation may be several requests
//! with their retries; what is timed is what a client waits for.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use super::{Abilities, Entry, NewFile, PartSizes, Result, Stat, Store, Swept, Total, Upload};
use crate::{
    access::StoreKey,
    observe::metrics::{Metrics, StoreLabels, StoreOperationLabels},
};

/// A store and where its operations are counted.
#[derive(Debug)]
pub struct Measured {
    store: Arc<dyn Store>,
    gauge: Gauge,
}

/// Where the operations of one backend are counted.
#[derive(Clone, Debug)]
struct Gauge {
    backend: Arc<str>,
    metrics: Arc<Metrics>,
}

/// An upload into such a store.
struct MeasuredUpload {
    upload: Box<dyn Upload>,
    gauge: Gauge,
}

impl Measured {
    /// Measures what `store`, the backend of this name, does.
    pub fn new(store: Arc<dyn Store>, backend: Arc<str>, metrics: Arc<Metrics>) -> Self {
        let gauge = Gauge { backend, metrics };
        Self { store, gauge }
    }

    fn upload(&self, upload: Box<dyn Upload>) -> Box<dyn Upload> {
        let gauge = self.gauge.clone();
        Box::new(MeasuredUpload { upload, gauge })
    }
}

impl Gauge {
    async fn time<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let begin = Instant::now();
        let done = work.await;
        let outcome = match &done {
            Ok(_) => "ok",
            Err(error) => error.kind().label(),
        };
        let backend = self.backend.to_string();
        self.metrics
            .store_seconds
            .get_or_create(&StoreLabels {
                backend: backend.clone(),
                operation,
            })
            .observe(begin.elapsed().as_secs_f64());
        self.metrics
            .store_operations
            .get_or_create(&StoreOperationLabels {
                backend,
                operation,
                outcome,
            })
            .inc();
        done
    }
}

#[async_trait]
impl Store for Measured {
    async fn stat(&self, key: &StoreKey) -> Result<Stat> {
        self.gauge.time("stat", self.store.stat(key)).await
    }

    async fn list(&self, directory: &StoreKey) -> Result<BoxStream<'static, Result<Entry>>> {
        self.gauge.time("list", self.store.list(directory)).await
    }

    async fn read(
        &self,
        key: &StoreKey,
        offset: u64,
        stat: &Stat,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let work = self.store.read(key, offset, stat);
        self.gauge.time("read", work).await
    }

    async fn write(&self, key: &StoreKey, file: NewFile) -> Result<Box<dyn Upload>> {
        let upload = self.gauge.time("write", self.store.write(key, file)).await;
        upload.map(|upload| self.upload(upload))
    }

    async fn survey(&self, key: &StoreKey) -> Result<Option<Stat>> {
        self.gauge.time("survey", self.store.survey(key)).await
    }

    async fn write_kept(
        &self,
        key: &StoreKey,
        file: NewFile,
        user: &str,
    ) -> Result<Box<dyn Upload>> {
        let work = self.store.write_kept(key, file, user);
        let upload = self.gauge.time("write", work).await;
        upload.map(|upload| self.upload(upload))
    }

    async fn kept(&self, key: &StoreKey, user: &str) -> Result<Option<Stat>> {
        self.gauge.time("kept", self.store.kept(key, user)).await
    }

    async fn resume(&self, key: &StoreKey, user: &str, offset: u64) -> Result<Box<dyn Upload>> {
        let work = self.store.resume(key, user, offset);
        let upload = self.gauge.time("resume", work).await;
        upload.map(|upload| self.upload(upload))
    }

    async fn forget(&self, key: &StoreKey, user: &str) -> Result<bool> {
        self.gauge
            .time("forget", self.store.forget(key, user))
            .await
    }

    async fn sweep(&self, age: Duration) -> Result<Swept> {
        self.gauge.time("sweep", self.store.sweep(age)).await
    }

    async fn total(&self, directory: &StoreKey) -> Result<Total> {
        self.gauge.time("total", self.store.total(directory)).await
    }

    async fn remove_file(&self, key: &StoreKey) -> Result<()> {
        let work = self.store.remove_file(key);
        self.gauge.time("remove_file", work).await
    }

    async fn make_directory(&self, key: &StoreKey) -> Result<()> {
        let work = self.store.make_directory(key);
        self.gauge.time("make_directory", work).await
    }

    async fn make_directories(&self, key: &StoreKey) -> Result<()> {
        let work = self.store.make_directories(key);
        self.gauge.time("make_directory", work).await
    }

    async fn remove_directory(&self, key: &StoreKey) -> Result<()> {
        let work = self.store.remove_directory(key);
        self.gauge.time("remove_directory", work).await
    }

    async fn rename(&self, from: &StoreKey, to: &StoreKey) -> Result<()> {
        self.gauge.time("rename", self.store.rename(from, to)).await
    }

    fn abilities(&self) -> Abilities {
        self.store.abilities()
    }

    async fn set_modified(&self, key: &StoreKey, time: SystemTime) -> Result<()> {
        let work = self.store.set_modified(key, time);
        self.gauge.time("set_modified", work).await
    }

    async fn available(&self) -> Result<Option<u64>> {
        self.gauge.time("available", self.store.available()).await
    }
}

#[async_trait]
impl Upload for MeasuredUpload {
    fn part_sizes(&self) -> PartSizes {
        self.upload.part_sizes()
    }

    fn keeps_part_back(&self) -> bool {
        self.upload.keeps_part_back()
    }

    async fn write(&mut self, part: Vec<Bytes>) -> Result<()> {
        self.gauge.time("part", self.upload.write(part)).await
    }

    async fn commit(self: Box<Self>, last: Vec<Bytes>) -> Result<Stat> {
        let Self { upload, gauge } = *self;
        gauge.time("commit", upload.commit(last)).await
    }

    async fn abort(self: Box<Self>) {
        let Self { upload, gauge } = *self;
        // What fails is in the log.
        let _ = gauge
            .time("abort", async {
                upload.abort().await;
                Ok(())
            })
            .await;
    }

    async fn keep(self: Box<Self>, rest: Vec<Bytes>) {
        let Self { upload, gauge } = *self;
        // Likewise.
        let _ = gauge
            .time("keep", async {
                upload.keep(rest).await;
                Ok(())
            })
            .await;
    }
}
