//! [`ObjectStore`]: a bucket, S3 or another.
//!
//! Looks, listings and reads go through OpenDAL, what makes or changes an object of S3 through
//! [`s3`], of other services through OpenDAL's writers ([`opendal_upload`], [`copy`]). A directory is a marker object `dir/`, or any key below that prefix;
//! the root always exists. One rule for all commands where a bucket holds both `x` and `x/…`: the
//! directory wins, the object is hidden and the conflict logged (CONFORMANCE O12). No directory
//! vanishes when its last entry is deleted: the marker is put there first (O10).
//!
//! Nothing here deletes by prefix: the only deletes are of one key, looked at before.

mod copy;
mod keys;
mod listing;
mod opendal_upload;
mod probe;
mod rename;
mod retries;
mod s3;
mod services;
mod transport;

use std::{
    future::Future,
    ops::Range,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use opendal::{
    BufferStream, Capability, Metadata, Operator,
    options::{DeleteOptions, ListOptions, ReaderOptions},
};

pub use self::retries::Retries;
#[cfg(feature = "unftp-sbe-gcs")]
pub(super) use self::services::check_gcs_credentials;
use self::{
    keys::Keys,
    opendal_upload::{Moves, OpenDalUpload},
    s3::{S3, S3Upload, held::Held},
    transport::Transport,
};
use super::{
    Abilities, Entry, ErrorKind, Kind, NewFile, Result, Stat, Store, StoreError, Swept, Total,
    Upload, Whose,
};
use crate::{
    access::StoreKey,
    config::{
        AzblobBackend, BucketSettings, Checksum, GcsBackend, OpenDalBackend, S3Backend, SetTime,
        Timeouts,
    },
    observe::journal::Journal,
};

/// A bucket as a store.
#[derive(Clone, Debug)]
pub struct ObjectStore {
    shared: Arc<Shared>,
}

/// Whose rules apply, where the operator does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    S3,
    Gcs,
    Azblob,
    Other,
}

/// What makes or changes an object.
#[derive(Debug)]
enum Changes {
    S3(Arc<S3>),
    OpenDal(Arc<Moves>),
}

#[derive(Debug)]
struct Shared {
    dialect: Dialect,
    /// What the service can do.
    can: Capability,
    /// For what is quick and may be given up in the middle: looks, listings, deletes, reads.
    looks: Operator,
    changes: Changes,
    keys: Keys,
    /// One look with all its retries.
    deadline: Duration,
    /// Longer than the end of an append takes, with all its retries.
    append: Duration,
    set_time: SetTime,
    /// A listing asks each file for the time that a client set.
    list_set_times: bool,
}

impl ObjectStore {
    /// Prepares a bucket; sends nothing yet.
    ///
    /// `journal` is told when a file appears that waited for its rename.
    pub fn open_s3(
        backend: &S3Backend,
        timeouts: &Timeouts,
        retries: &Retries,
        journal: Option<Arc<Journal>>,
    ) -> Result<Self> {
        let transport = Transport::new(backend, timeouts)?;
        let looks = transport::operator(backend, timeouts, &transport, retries)?;
        let s3 = S3::new(backend, timeouts, &transport, retries, journal);
        Ok(Self {
            shared: Arc::new(Shared {
                dialect: Dialect::S3,
                can: looks.info().capability(),
                looks,
                changes: Changes::S3(Arc::new(s3)),
                keys: Keys::new(&backend.root)?,
                deadline: timeouts.store,
                append: timeouts.commit * 2,
                set_time: backend.set_time,
                list_set_times: backend.list_set_times,
            }),
        })
    }

    /// Prepares a bucket of Google Cloud Storage; sends nothing yet.
    pub fn open_gcs(backend: &GcsBackend, timeouts: &Timeouts, retries: &Retries) -> Result<Self> {
        let service = services::gcs(backend)?;
        Self::open(Dialect::Gcs, service, &backend.settings, timeouts, retries)
    }

    /// Prepares a container of Azure Blob Storage; sends nothing yet.
    pub fn open_azblob(
        backend: &AzblobBackend,
        timeouts: &Timeouts,
        retries: &Retries,
    ) -> Result<Self> {
        let service =
            services::azblob(backend).map_err(|error| StoreError::from_opendal("open", error))?;
        Self::open(
            Dialect::Azblob,
            service,
            &backend.settings,
            timeouts,
            retries,
        )
    }

    /// Prepares another service of OpenDAL; sends nothing yet.
    pub fn open_other(
        backend: &OpenDalBackend,
        timeouts: &Timeouts,
        retries: &Retries,
    ) -> Result<Self> {
        let service = services::other(backend)?;
        Self::open(
            Dialect::Other,
            service,
            &backend.settings,
            timeouts,
            retries,
        )
    }

    fn open(
        dialect: Dialect,
        service: Operator,
        settings: &BucketSettings,
        timeouts: &Timeouts,
        retries: &Retries,
    ) -> Result<Self> {
        let can = service.info().capability();
        let ca_file = settings.ca_file.as_deref();
        let (looks, moves) = transport::operators(service, ca_file, timeouts, retries)?;
        Ok(Self {
            shared: Arc::new(Shared {
                dialect,
                can,
                looks,
                changes: Changes::OpenDal(Arc::new(Moves::new(moves, settings, &can))),
                keys: Keys::new(&settings.root)?.of_azure(dialect == Dialect::Azblob),
                deadline: timeouts.store,
                append: timeouts.commit * 2,
                set_time: settings.set_time,
                list_set_times: false,
            }),
        })
    }

    /// What identifies exactly these bytes: the generation on GCS, whose `ETag`s also change with the
    /// metadata, the `ETag` elsewhere.
    fn version<'metadata>(&self, metadata: &'metadata Metadata) -> Option<&'metadata str> {
        match self.shared.dialect {
            Dialect::Gcs => metadata.version(),
            Dialect::S3 | Dialect::Azblob | Dialect::Other => metadata.etag(),
        }
    }

    /// The time that a client set is the file's, where clients can set one.
    fn file_stat(&self, metadata: &Metadata) -> Stat {
        let mut stat = Stat {
            kind: Kind::File,
            size: metadata.content_length(),
            modified: modified(metadata),
            version: self.version(metadata).map(str::to_owned),
            waits: false,
        };
        if self.shared.set_time == SetTime::Store
            && let Some(time) = metadata
                .user_metadata()
                .and_then(|kept| kept.get(s3::MTIME))
        {
            stat.modified = s3::time_of(time).or(stat.modified);
        }
        stat
    }

    /// Opens a range of one version, where the store can be told which.
    async fn stream(
        &self,
        path: &str,
        range: Range<u64>,
        version: Option<String>,
    ) -> opendal::Result<BufferStream> {
        let generation = self.shared.dialect == Dialect::Gcs;
        let options = ReaderOptions {
            if_version_match: version.clone().filter(|_| generation),
            if_match: version.filter(|_| !generation && self.shared.can.read_with_if_match),
            ..ReaderOptions::default()
        };
        let reader = self.shared.looks.reader_options(path, options).await?;
        // Without `chunk` this is one ranged GET, with about 1 MiB of heap for any size.
        reader.into_stream(range).await
    }

    /// What keeps interrupted uploads: S3 alone, whose open multipart uploads can be listed.
    fn s3(&self) -> Option<&Arc<S3>> {
        match &self.shared.changes {
            Changes::S3(s3) => Some(s3),
            Changes::OpenDal(_) => None,
        }
    }

    fn keys(&self) -> &Keys {
        &self.shared.keys
    }

    /// Runs a look under the deadline. Its future may be dropped: it leaves nothing open.
    async fn look<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = opendal::Result<T>> + Send,
    ) -> Result<T> {
        match tokio::time::timeout(self.shared.deadline, work).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(StoreError::from_opendal(operation, error)),
            Err(elapsed) => Err(StoreError::with_source(
                ErrorKind::Unavailable,
                operation,
                elapsed,
            )),
        }
    }

    /// Deletes what a process that was killed in an append left hidden ([`opendal_upload`]): what is older than
    /// `age`, and than any append takes.
    async fn sweep_hidden(&self, age: Duration) -> Result<Swept> {
        let operation = "sweep";
        let mut swept = Swept::default();
        if !self.shared.can.compose {
            return Ok(swept);
        }
        let limit = SystemTime::now().checked_sub(age.max(self.shared.append));
        let limit = limit.unwrap_or(SystemTime::UNIX_EPOCH);
        let area = self.keys().area();
        let list = self.shared.looks.lister(&area);
        let mut found = self.look(operation, list).await?;
        while let Some(entry) = self.look(operation, found.try_next()).await? {
            let metadata = entry.metadata();
            if !metadata.mode().is_file() {
                continue;
            }
            if modified(metadata).is_some_and(|time| time <= limit) {
                let version = self.version(metadata).map(str::to_owned);
                self.delete(operation, entry.path(), version.as_deref())
                    .await?;
                swept.removed += 1;
            } else {
                swept.open += 1;
            }
        }
        Ok(swept)
    }

    /// The object at `path`, if there is one.
    async fn head(&self, operation: &'static str, path: &str) -> Result<Option<Metadata>> {
        match self.look(operation, self.shared.looks.stat(path)).await {
            Ok(metadata) => Ok(Some(metadata)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The first `count` keys under `directory` in key order, so its own marker comes first.
    async fn below(
        &self,
        operation: &'static str,
        directory: &str,
        count: usize,
    ) -> Result<Vec<opendal::Entry>> {
        let options = ListOptions {
            limit: Some(count),
            recursive: self.shared.can.list_with_recursive,
            ..ListOptions::default()
        };
        let work = async {
            // `limit` is the size of a page; what is not taken is not asked for.
            let lister = self.shared.looks.lister_options(directory, options).await?;
            lister.take(count).try_collect().await
        };
        self.look(operation, work).await
    }

    /// Stats without the key's root case.
    async fn stat_at(&self, operation: &'static str, key: &StoreKey) -> Result<Stat> {
        let (path, marker) = (
            self.keys().file(operation, key)?,
            self.keys().directory(operation, key)?,
        );
        let (object, below, held) = tokio::try_join!(
            self.head(operation, &path),
            self.below(operation, &marker, 1),
            self.held(&path),
        )?;
        if let (Some(held), true) = (&held, below.is_empty()) {
            return Ok(held.stat());
        }
        match (object, below.first()) {
            (object, Some(first)) => {
                if object.is_some() {
                    tracing::warn!(key = ?key.as_str(), "an object is hidden by a directory");
                }
                let modified = (first.path() == marker).then(|| modified(first.metadata()));
                Ok(directory_stat(modified.flatten()))
            }
            (Some(object), None) => Ok(self.file_stat(&object)),
            (None, None) => Err(StoreError::new(ErrorKind::NotFound, operation)),
        }
    }

    /// The file at `path` that waits for its rename, if there is one.
    async fn held(&self, path: &str) -> Result<Option<Held>> {
        match self.s3() {
            Some(s3) => s3::held::at(s3, path).await,
            None => Ok(None),
        }
    }

    /// What a new object at `key` meets, in one round trip: three requests at once.
    async fn survey_at(&self, operation: &'static str, key: &StoreKey) -> Result<Option<Stat>> {
        let (path, marker) = (
            self.keys().file(operation, key)?,
            self.keys().directory(operation, key)?,
        );
        let (object, below, parent, held) = tokio::join!(
            self.head(operation, &path),
            self.below(operation, &marker, 1),
            self.require_parent(operation, &path),
            self.held(&path),
        );
        if !below?.is_empty() {
            return Err(StoreError::new(ErrorKind::IsADirectory, operation));
        }
        let object = object?.map(|object| self.file_stat(&object));
        let object = held?.map(|held| held.stat()).or(object);
        if object.is_none() {
            parent?;
        }
        Ok(object)
    }

    /// Refuses a name whose directory does not exist: one rule for all stores (CONFORMANCE G4, O9).
    async fn require_parent(&self, operation: &'static str, path: &str) -> Result<()> {
        let Some(parent) = self.keys().parent(path) else {
            return Ok(());
        };
        if self.below(operation, parent, 1).await?.is_empty() {
            return Err(StoreError::new(ErrorKind::NotFound, operation));
        }
        Ok(())
    }

    /// Refuses the name of a directory.
    async fn refuse_directory(&self, operation: &'static str, marker: &str) -> Result<()> {
        if self.below(operation, marker, 1).await?.is_empty() {
            return Ok(());
        }
        Err(StoreError::new(ErrorKind::IsADirectory, operation))
    }

    /// Puts a marker where `path` lies, so that the directory outlives its last entry.
    async fn keep_parent(&self, operation: &'static str, path: &str) -> Result<()> {
        let Some(parent) = self.keys().parent(path) else {
            return Ok(());
        };
        let first = self.below(operation, parent, 1).await?;
        if first.first().is_some_and(|first| first.path() == parent) {
            return Ok(());
        }
        self.look(operation, self.shared.looks.create_dir(parent))
            .await
    }

    /// Deletes exactly the object `path`, if it is still `version` where the store can tell.
    async fn delete(
        &self,
        operation: &'static str,
        path: &str,
        version: Option<&str>,
    ) -> Result<()> {
        let generation = self.shared.dialect == Dialect::Gcs;
        let version = version.map(str::to_owned);
        let options = DeleteOptions {
            if_version_match: version.clone().filter(|_| generation),
            if_match: version.filter(|_| !generation && self.shared.can.delete_with_if_match),
            recursive: false,
            ..DeleteOptions::default()
        };
        self.look(operation, self.shared.looks.delete_options(path, options))
            .await
    }
}

#[async_trait]
impl Store for ObjectStore {
    async fn stat(&self, key: &StoreKey) -> Result<Stat> {
        if key.as_str().is_empty() {
            return Ok(directory_stat(None));
        }
        self.stat_at("stat", key).await
    }

    async fn list(&self, directory: &StoreKey) -> Result<BoxStream<'static, Result<Entry>>> {
        listing::open(self, directory).await
    }

    async fn total(&self, directory: &StoreKey) -> Result<Total> {
        let mut total = listing::total(self, directory).await?;
        if let Some(s3) = self.s3() {
            let path = self.keys().directory("count", directory)?;
            let waiting = s3::held::total(s3, &path).await?;
            total.bytes = total.bytes.saturating_add(waiting.bytes);
            total.files += waiting.files;
        }
        Ok(total)
    }

    async fn read(
        &self,
        key: &StoreKey,
        offset: u64,
        stat: &Stat,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let path = self.keys().file("read", key)?;
        match stat.kind {
            Kind::Directory => return Err(StoreError::new(ErrorKind::IsADirectory, "read")),
            Kind::File if offset > stat.size => {
                return Err(StoreError::new(ErrorKind::OffsetBeyondEnd, "read"));
            }
            // A range that begins at the end is an error to S3.
            Kind::File if offset == stat.size => return Ok(stream::empty().boxed()),
            Kind::File => {}
        }
        let size = stat.size;
        let open = async {
            let mut chunks = self
                .stream(&path, offset..size, stat.version.clone())
                .await?;
            // The request only goes out with the first poll, and its errors belong before the 150.
            let first = chunks.try_next().await?;
            Ok((first, chunks))
        };
        let (first, chunks) = self.look("read", open).await?;
        let state = (self.clone(), first, chunks);
        let chunks = stream::try_unfold(state, |(store, first, mut chunks)| async move {
            let chunk = match first {
                Some(first) => Some(first),
                None => store.look("read", chunks.try_next()).await?,
            };
            Ok::<_, StoreError>(chunk.map(|chunk| (chunk, (store, None, chunks))))
        });
        Ok(chunks
            .map_ok(|chunk| stream::iter(Iterator::map(chunk, Ok)))
            .try_flatten()
            .boxed())
    }

    async fn write(&self, key: &StoreKey, file: NewFile) -> Result<Box<dyn Upload>> {
        Ok(match &self.shared.changes {
            Changes::S3(s3) => Box::new(S3Upload::begin(self, s3, key, file).await?),
            Changes::OpenDal(moves) => {
                Box::new(OpenDalUpload::begin(self, moves, key, file).await?)
            }
        })
    }

    async fn write_kept(
        &self,
        key: &StoreKey,
        file: NewFile,
        user: &str,
    ) -> Result<Box<dyn Upload>> {
        let Some(s3) = self.s3() else {
            return self.write(key, file).await;
        };
        let upload = s3::kept::begin(self, s3, key, file, user).await?;
        Ok(Box::new(upload))
    }

    async fn kept(&self, key: &StoreKey, user: &str) -> Result<Option<Stat>> {
        let Some(s3) = self.s3() else { return Ok(None) };
        let path = self.keys().file("kept", key)?;
        s3::kept::stat(s3, &path, user).await
    }

    async fn resume(
        &self,
        key: &StoreKey,
        user: &str,
        offset: u64,
        exclusive: bool,
    ) -> Result<Box<dyn Upload>> {
        let Some(s3) = self.s3() else {
            return Err(StoreError::new(ErrorKind::OffsetBeyondEnd, "resume"));
        };
        let upload = s3::kept::resume(self, s3, key, user, offset, exclusive).await?;
        Ok(Box::new(upload))
    }

    async fn forget(&self, key: &StoreKey, user: &str) -> Result<bool> {
        let Some(s3) = self.s3() else {
            return Ok(false);
        };
        let path = self.keys().file("forget", key)?;
        s3::kept::forget(s3, &path, user).await
    }

    async fn sweep(&self, age: Duration) -> Result<Swept> {
        match self.s3() {
            Some(s3) => {
                // Also what waits although this configuration knows of no temporary names; by a process
                // that can tell of it.
                if s3.tells() {
                    s3::held::commit_due(self, s3).await?;
                }
                s3::kept::sweep(s3, age).await
            }
            None => self.sweep_hidden(age).await,
        }
    }

    fn commits_after(&self) -> Option<Duration> {
        self.s3()?.commits_after()
    }

    fn waiting(&self) -> Total {
        self.s3().map_or_else(Total::default, |s3| s3.waiting())
    }

    async fn commit_held(&self, whose: Whose) -> Result<u64> {
        match (self.s3(), whose) {
            (None, _) => Ok(0),
            (Some(s3), Whose::Ours) => s3::held::commit_own(self, s3).await,
            (Some(s3), Whose::Due) => s3::held::commit_due(self, s3).await,
        }
    }

    async fn publish(&self, key: &StoreKey) -> Result<()> {
        let Some(s3) = self.s3().filter(|_| !key.as_str().is_empty()) else {
            return Ok(());
        };
        let path = self.keys().file("read", key)?;
        match self.held(&path).await? {
            Some(held) => s3::held::commit(self, s3, &held).await,
            None => Ok(()),
        }
    }

    async fn advice(&self) -> Result<Vec<String>> {
        match self.s3() {
            Some(s3) => s3::kept::advice(s3).await,
            None => Ok(Vec::new()),
        }
    }

    async fn survey(&self, key: &StoreKey) -> Result<Option<Stat>> {
        self.survey_at("write", key).await
    }

    async fn remove_file(&self, key: &StoreKey) -> Result<()> {
        let operation = "remove_file";
        let path = self.keys().file(operation, key)?;
        if self.stat_at(operation, key).await?.kind == Kind::Directory {
            return Err(StoreError::new(ErrorKind::IsADirectory, operation));
        }
        if let (Some(s3), Some(held)) = (self.s3(), self.held(&path).await?) {
            s3::held::discard(s3, &held).await?;
            if self.head(operation, &path).await?.is_none() {
                return Ok(());
            }
        }
        self.keep_parent(operation, &path).await?;
        self.delete(operation, &path, None).await
    }

    async fn make_directory(&self, key: &StoreKey) -> Result<()> {
        let operation = "make_directory";
        if key.as_str().is_empty() {
            return Err(StoreError::new(ErrorKind::AlreadyExists, operation));
        }
        let (path, marker) = (
            self.keys().file(operation, key)?,
            self.keys().directory(operation, key)?,
        );
        let (object, below, (), held) = tokio::try_join!(
            self.head(operation, &path),
            self.below(operation, &marker, 1),
            self.require_parent(operation, &path),
            self.held(&path),
        )?;
        if object.is_some() || held.is_some() || !below.is_empty() {
            return Err(StoreError::new(ErrorKind::AlreadyExists, operation));
        }
        self.look(operation, self.shared.looks.create_dir(&marker))
            .await
    }

    async fn remove_directory(&self, key: &StoreKey) -> Result<()> {
        let operation = "remove_directory";
        if key.as_str().is_empty() {
            return Err(StoreError::new(ErrorKind::PermissionDenied, operation));
        }
        let (path, marker) = (
            self.keys().file(operation, key)?,
            self.keys().directory(operation, key)?,
        );
        let (object, below) = tokio::try_join!(
            self.head(operation, &path),
            self.below(operation, &marker, 2)
        )?;
        if below.is_empty() {
            let kind = object.map_or(ErrorKind::NotFound, |_| ErrorKind::NotADirectory);
            return Err(StoreError::new(kind, operation));
        }
        let waiting = match self.s3() {
            Some(s3) => s3::held::within(s3, &marker).await?,
            None => Vec::new(),
        };
        if !waiting.is_empty() || below.iter().any(|entry| entry.path() != marker) {
            return Err(StoreError::new(ErrorKind::NotEmpty, operation));
        }
        self.keep_parent(operation, &marker).await?;
        self.delete(operation, &marker, None).await
    }

    async fn rename(&self, from: &StoreKey, to: &StoreKey, exclusive: bool) -> Result<()> {
        rename::rename(self, from, to, exclusive).await
    }

    async fn complete_as(&self, from: &StoreKey, to: &StoreKey, exclusive: bool) -> Result<bool> {
        rename::complete(self, from, to, exclusive).await
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            set_modified: self.shared.set_time != SetTime::Refuse,
            available: false,
        }
    }

    async fn checksum(&self, key: &StoreKey, checksum: Checksum) -> Result<Option<(u64, String)>> {
        let operation = "checksum";
        let Some(s3) = self.s3().filter(|_| !key.as_str().is_empty()) else {
            return Ok(None);
        };
        let (path, marker) = (
            self.keys().file(operation, key)?,
            self.keys().directory(operation, key)?,
        );
        let (object, below) =
            tokio::try_join!(s3.kept(&path, checksum), self.below(operation, &marker, 1))?;
        Ok(object.filter(|_| below.is_empty()))
    }

    async fn set_modified(&self, key: &StoreKey, time: SystemTime) -> Result<()> {
        let operation = "set_modified";
        let refused = || StoreError::new(ErrorKind::Unsupported, operation);
        match (self.shared.set_time, self.s3()) {
            (SetTime::Ignore, _) => Ok(()),
            (SetTime::Refuse, _) | (SetTime::Store, None) => Err(refused()),
            (SetTime::Store, _) if key.as_str().is_empty() => Err(refused()),
            (SetTime::Store, Some(s3)) => {
                // A time is kept by a copy, and only what is complete can be copied.
                self.publish(key).await?;
                if self.stat_at(operation, key).await?.kind == Kind::Directory {
                    return Err(refused());
                }
                let path = self.keys().file(operation, key)?;
                s3.touch(&path, time).await
            }
        }
    }
}

fn directory_stat(modified: Option<SystemTime>) -> Stat {
    Stat {
        kind: Kind::Directory,
        size: 0,
        modified,
        version: None,
        waits: false,
    }
}

/// In whole seconds: that is all HEAD has, and MDTM and MLSD must say the same of one file, whatever
/// fraction a listing adds (CONFORMANCE O29).
fn modified(metadata: &Metadata) -> Option<SystemTime> {
    let seconds = u64::try_from(metadata.last_modified()?.into_inner().as_second()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}
