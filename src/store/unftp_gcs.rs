//! [`UnftpGcsStore`]: Google Cloud Storage through `unftp-sbe-gcs`, the backend of unFTP.
//!
//! A second driver for those who trust it already. Owns every call of it and the guards around it:
//! every look has a deadline, listings are cut off by none but come whole, an upload whose data broke
//! never ends its request, and what the driver cannot do (rename, append, restart, times) is refused
//! before a byte moves. It pins no version: a download during an overwrite may fail, but since it is one
//! request it is never a mixture.

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream, stream::BoxStream};
use tokio::{
    io::{AsyncRead, AsyncReadExt, ReadBuf},
    sync::mpsc,
};
use unftp_core::{
    auth::DefaultUser,
    storage::{ErrorKind as Theirs, Fileinfo, Metadata as _, StorageBackend},
};
use unftp_sbe_gcs::{CloudStorage, object_metadata::ObjectMetadata, options::AuthMethod};

use super::{
    Abilities, Base, Entry, ErrorKind, Kind, NewFile, PartSizes, Result, Stat, Store, StoreError,
    Upload, object,
};
use crate::{
    access::StoreKey,
    config::{GcsBackend, GcsCredentials, SetTime, Timeouts},
};

/// Longest key, in bytes.
const KEY_BYTES: usize = 1024;
const PART_BYTES: usize = 1 << 20;
const READ_BYTES: usize = 256 << 10;

/// A bucket of Google Cloud Storage, driven by `unftp-sbe-gcs`.
#[derive(Clone, Debug)]
pub(super) struct UnftpGcsStore {
    gcs: CloudStorage,
    root: PathBuf,
    deadline: Duration,
    commit: Duration,
    set_time: SetTime,
}

impl UnftpGcsStore {
    /// Prepares a bucket; sends nothing yet.
    pub(super) fn open(backend: &GcsBackend, timeouts: &Timeouts) -> Result<Self> {
        let auth = match &backend.credentials {
            GcsCredentials::Anonymous => AuthMethod::None,
            GcsCredentials::File(file) => {
                let key = object::check_gcs_credentials(file)?;
                if !String::from_utf8_lossy(&key).contains("\"service_account\"") {
                    let problem =
                        "the driver unftp-sbe-gcs takes the key file of a service account only";
                    return Err(StoreError::with_source(
                        ErrorKind::Unsupported,
                        "open",
                        problem,
                    ));
                }
                AuthMethod::ServiceAccountKey(key)
            }
            GcsCredentials::Default => AuthMethod::WorkloadIdentity(None),
        };
        let endpoint = backend
            .endpoint
            .as_deref()
            .unwrap_or("https://www.googleapis.com");
        let root = PathBuf::from(&backend.settings.root);
        Ok(Self {
            gcs: CloudStorage::with_api_base(
                endpoint.to_owned(),
                backend.bucket.clone(),
                root.clone(),
                auth,
            ),
            root,
            deadline: timeouts.store,
            commit: timeouts.commit,
            set_time: backend.settings.set_time,
        })
    }

    /// Runs one call of the driver under the deadline.
    async fn look<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = std::result::Result<T, unftp_core::storage::Error>> + Send,
    ) -> Result<T> {
        match tokio::time::timeout(self.deadline, work).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(failed(operation, error)),
            Err(elapsed) => Err(StoreError::with_source(
                ErrorKind::Unavailable,
                operation,
                elapsed,
            )),
        }
    }

    /// The path of a key as the driver wants it: absolute.
    fn path(&self, operation: &'static str, key: &StoreKey) -> Result<PathBuf> {
        let length = self.root.as_os_str().len() + key.as_str().len() + 2;
        if length > KEY_BYTES {
            return Err(StoreError::new(ErrorKind::NameNotAllowed, operation));
        }
        Ok(Path::new("/").join(key.as_str()))
    }

    async fn is_directory(&self, operation: &'static str, key: &StoreKey) -> Result<bool> {
        if key.as_str().is_empty() {
            return Ok(true);
        }
        let path = self.path(operation, key)?;
        match self.look(operation, self.gcs.cwd(&DefaultUser, path)).await {
            Ok(()) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn file(&self, operation: &'static str, key: &StoreKey) -> Result<Option<Stat>> {
        let path = self.path(operation, key)?;
        let metadata = self.gcs.metadata(&DefaultUser, path);
        match self.look(operation, metadata).await {
            Ok(metadata) => Ok(Some(stat_of(&metadata))),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn require_parent(&self, operation: &'static str, key: &StoreKey) -> Result<()> {
        match key.parent() {
            Some(parent) if !self.is_directory(operation, &parent).await? => {
                Err(StoreError::new(ErrorKind::NotFound, operation))
            }
            _ => Ok(()),
        }
    }

    /// Puts a marker where `key` lies, so that the directory outlives its last entry.
    async fn keep_parent(&self, operation: &'static str, key: &StoreKey) -> Result<()> {
        let Some(parent) = key.parent().filter(|parent| !parent.as_str().is_empty()) else {
            return Ok(());
        };
        let path = self.path(operation, &parent)?;
        self.look(operation, self.gcs.mkd(&DefaultUser, path)).await
    }
}

#[async_trait]
impl Store for UnftpGcsStore {
    async fn stat(&self, key: &StoreKey) -> Result<Stat> {
        // The directory wins, as in every bucket.
        if self.is_directory("stat", key).await? {
            return Ok(directory());
        }
        match self.file("stat", key).await? {
            Some(stat) => Ok(stat),
            None => Err(StoreError::new(ErrorKind::NotFound, "stat")),
        }
    }

    /// The driver collects all pages before it gives the first entry: memory grows with the directory.
    async fn list(&self, directory: &StoreKey) -> Result<BoxStream<'static, Result<Entry>>> {
        if !self.is_directory("list", directory).await? {
            let kind = match self.file("list", directory).await? {
                Some(_) => ErrorKind::NotADirectory,
                None => ErrorKind::NotFound,
            };
            return Err(StoreError::new(kind, "list"));
        }
        let path = self.path("list", directory)?;
        let found = self.look("list", self.gcs.list(&DefaultUser, path)).await?;
        let mut entries: Vec<Entry> = found.iter().filter_map(entry).collect();
        // A directory comes first and hides the object of its name.
        entries.sort_by(|one, other| {
            let file = |entry: &Entry| entry.stat.kind == Kind::File;
            one.name.cmp(&other.name).then(file(one).cmp(&file(other)))
        });
        entries.dedup_by(|one, other| one.name == other.name);
        Ok(stream::iter(entries.into_iter().map(Ok)).boxed())
    }

    async fn read(
        &self,
        key: &StoreKey,
        offset: u64,
        stat: &Stat,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let path = self.path("read", key)?;
        if stat.kind == Kind::Directory {
            return Err(StoreError::new(ErrorKind::IsADirectory, "read"));
        }
        if offset > stat.size {
            return Err(StoreError::new(ErrorKind::OffsetBeyondEnd, "read"));
        }
        if offset == stat.size {
            return Ok(stream::empty().boxed());
        }
        let reader = self
            .look("read", self.gcs.get(&DefaultUser, path, offset))
            .await?;
        let state = (reader, stat.size - offset, self.deadline);
        Ok(
            stream::try_unfold(state, |(mut reader, left, deadline)| async move {
                let mut chunk = Vec::with_capacity(READ_BYTES);
                let read = tokio::time::timeout(deadline, reader.read_buf(&mut chunk))
                    .await
                    .map_err(|elapsed| {
                        StoreError::with_source(ErrorKind::Unavailable, "read", elapsed)
                    })?
                    .map_err(|error| {
                        StoreError::with_source(ErrorKind::Unavailable, "read", error)
                    })?;
                let read = read as u64;
                // More or less than there was: another generation.
                if read > left || read == 0 && left > 0 {
                    return Err(StoreError::new(ErrorKind::Changed, "read"));
                }
                Ok((read > 0).then(|| (Bytes::from(chunk), (reader, left - read, deadline))))
            })
            .boxed(),
        )
    }

    async fn write(&self, key: &StoreKey, file: NewFile) -> Result<Box<dyn Upload>> {
        let operation = "write";
        if file.base != Base::Empty || file.exclusive {
            // Its APPE replaces the file, it restarts nothing, and sends no condition.
            return Err(StoreError::new(ErrorKind::Unsupported, operation));
        }
        if self.is_directory(operation, key).await? {
            return Err(StoreError::new(ErrorKind::IsADirectory, operation));
        }
        self.require_parent(operation, key).await?;
        let path = self.path(operation, key)?;
        let (feed, parts) = mpsc::channel(1);
        let (gcs, body) = (
            self.gcs.clone(),
            Body {
                parts,
                part: Bytes::new(),
                ended: false,
            },
        );
        let request = async move { gcs.put(&DefaultUser, body, path, 0).await };
        Ok(Box::new(UnftpUpload {
            feed: Some(feed),
            request: request.boxed(),
            deadline: self.deadline,
            commit: self.commit,
            size: 0,
        }))
    }

    async fn remove_file(&self, key: &StoreKey) -> Result<()> {
        let operation = "remove_file";
        if self.is_directory(operation, key).await? {
            return Err(StoreError::new(ErrorKind::IsADirectory, operation));
        }
        if self.file(operation, key).await?.is_none() {
            return Err(StoreError::new(ErrorKind::NotFound, operation));
        }
        self.keep_parent(operation, key).await?;
        let path = self.path(operation, key)?;
        self.look(operation, self.gcs.del(&DefaultUser, path)).await
    }

    async fn make_directory(&self, key: &StoreKey) -> Result<()> {
        let operation = "make_directory";
        if self.is_directory(operation, key).await? || self.file(operation, key).await?.is_some() {
            return Err(StoreError::new(ErrorKind::AlreadyExists, operation));
        }
        self.require_parent(operation, key).await?;
        let path = self.path(operation, key)?;
        self.look(operation, self.gcs.mkd(&DefaultUser, path)).await
    }

    async fn remove_directory(&self, key: &StoreKey) -> Result<()> {
        let operation = "remove_directory";
        if key.as_str().is_empty() {
            return Err(StoreError::new(ErrorKind::PermissionDenied, operation));
        }
        if !self.is_directory(operation, key).await? {
            let kind = match self.file(operation, key).await? {
                Some(_) => ErrorKind::NotADirectory,
                None => ErrorKind::NotFound,
            };
            return Err(StoreError::new(kind, operation));
        }
        self.keep_parent(operation, key).await?;
        let path = self.path(operation, key)?;
        self.look(operation, self.gcs.rmd(&DefaultUser, path)).await
    }

    async fn rename(&self, from: &StoreKey, to: &StoreKey, _exclusive: bool) -> Result<()> {
        // What is missing is said first: 550 tells more than "cannot".
        self.stat(from).await?;
        if from == to {
            return Ok(());
        }
        Err(StoreError::new(ErrorKind::Unsupported, "rename"))
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            set_modified: self.set_time == SetTime::Ignore,
            available: false,
        }
    }

    async fn set_modified(&self, _key: &StoreKey, _time: SystemTime) -> Result<()> {
        match self.set_time {
            SetTime::Ignore => Ok(()),
            SetTime::Store | SetTime::Refuse => {
                Err(StoreError::new(ErrorKind::Unsupported, "set_modified"))
            }
        }
    }
}

/// An upload under way: one request, whose body is fed part by part.
struct UnftpUpload {
    /// `None` once a part failed.
    feed: Option<mpsc::Sender<Part>>,
    request: BoxFuture<'static, std::result::Result<u64, unftp_core::storage::Error>>,
    deadline: Duration,
    commit: Duration,
    size: u64,
}

enum Part {
    Bytes(Bytes),
    /// All was sent: the request may end.
    End,
}

/// The body of the request. Ends only where it was told to: a feed that is dropped is an error, which
/// breaks the request, and GCS keeps no object of a broken one.
struct Body {
    parts: mpsc::Receiver<Part>,
    part: Bytes,
    ended: bool,
}

impl AsyncRead for Body {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        while self.part.is_empty() {
            match std::task::ready!(self.parts.poll_recv(context)) {
                Some(Part::Bytes(part)) => self.part = part,
                Some(Part::End) => {
                    self.ended = true;
                    return Poll::Ready(Ok(()));
                }
                // Asked again, it is still the end.
                None if self.ended => return Poll::Ready(Ok(())),
                None => {
                    let error = std::io::Error::other("the upload was aborted");
                    return Poll::Ready(Err(error));
                }
            }
        }
        let count = self.part.len().min(buffer.remaining());
        buffer.put_slice(&self.part.split_to(count));
        Poll::Ready(Ok(()))
    }
}

#[async_trait]
impl Upload for UnftpUpload {
    fn part_sizes(&self) -> PartSizes {
        PartSizes::equal(PART_BYTES)
    }

    async fn write(&mut self, part: Vec<Bytes>) -> Result<()> {
        let Some(feed) = self.feed.take() else {
            return Err(StoreError::new(ErrorKind::Internal, "write"));
        };
        for chunk in part {
            if chunk.is_empty() {
                continue;
            }
            self.size += chunk.len() as u64;
            tokio::select! {
                sent = tokio::time::timeout(self.deadline, feed.send(Part::Bytes(chunk))) => {
                    if !matches!(sent, Ok(Ok(()))) {
                        return Err(StoreError::new(ErrorKind::Unavailable, "write"));
                    }
                }
                // The request ended before its body.
                ended = &mut self.request => return Err(match ended {
                    Err(error) => failed("write", error),
                    Ok(_) => StoreError::new(ErrorKind::Internal, "write"),
                }),
            }
        }
        self.feed = Some(feed);
        Ok(())
    }

    async fn commit(mut self: Box<Self>, last: Vec<Bytes>) -> Result<Stat> {
        let operation = "commit";
        self.write(last).await?;
        let Self {
            feed,
            request,
            commit,
            size,
            ..
        } = *self;
        let Some(feed) = feed else {
            return Err(StoreError::new(ErrorKind::Internal, operation));
        };
        let work = async {
            // A request that has ended takes nothing more, and says why below.
            let (_, stored) = tokio::join!(feed.send(Part::End), request);
            stored
        };
        match tokio::time::timeout(commit, work).await {
            Ok(Ok(stored)) if stored == size => Ok(Stat {
                kind: Kind::File,
                size,
                modified: None,
                version: None,
                waits: false,
            }),
            Ok(Ok(_)) => Err(StoreError::new(ErrorKind::Changed, operation)),
            Ok(Err(error)) => Err(failed(operation, error)),
            Err(elapsed) => Err(StoreError::with_source(
                ErrorKind::Unavailable,
                operation,
                elapsed,
            )),
        }
    }

    async fn abort(self: Box<Self>) {
        // With the feed goes the body, and with the request its connection.
    }
}

/// The row of what the driver lists; paths come with the root.
fn entry(found: &Fileinfo<PathBuf, ObjectMetadata>) -> Option<Entry> {
    let name = found.path.file_name()?.to_str()?;
    let servable = !name.chars().any(char::is_control) && !matches!(name, "." | "..");
    servable.then(|| Entry {
        name: name.to_owned(),
        stat: if found.metadata.is_dir() {
            directory()
        } else {
            stat_of(&found.metadata)
        },
    })
}

fn stat_of(metadata: &ObjectMetadata) -> Stat {
    let whole_seconds = |time: SystemTime| {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(since.as_secs()))
    };
    Stat {
        kind: Kind::File,
        size: metadata.len(),
        modified: metadata.modified().ok().and_then(whole_seconds),
        version: None,
        waits: false,
    }
}

fn directory() -> Stat {
    Stat {
        kind: Kind::Directory,
        size: 0,
        modified: None,
        version: None,
        waits: false,
    }
}

fn is_missing(error: &StoreError) -> bool {
    error.kind() == ErrorKind::NotFound
}

fn failed(operation: &'static str, error: unftp_core::storage::Error) -> StoreError {
    let kind = match error.kind() {
        Theirs::PermanentFileNotAvailable | Theirs::PermanentDirectoryNotAvailable => {
            ErrorKind::NotFound
        }
        Theirs::PermanentDirectoryNotEmpty => ErrorKind::NotEmpty,
        Theirs::PermissionDenied => ErrorKind::PermissionDenied,
        Theirs::TransientFileNotAvailable | Theirs::ConnectionClosed => ErrorKind::Unavailable,
        Theirs::CommandNotImplemented => ErrorKind::Unsupported,
        Theirs::FileNameNotAllowedError => ErrorKind::NameNotAllowed,
        Theirs::InsufficientStorageSpaceError | Theirs::ExceededStorageAllocationError => {
            ErrorKind::StorageFull
        }
        _ => ErrorKind::Internal,
    };
    StoreError::with_source(kind, operation, error)
}
