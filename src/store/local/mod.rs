//! [`LocalStore`]: a local directory, confined.
//!
//! Owns the file system calls for user data. Every path goes through a [`cap_std::fs::Dir`], which
//! resolves it below the root (openat2 with `RESOLVE_BENEATH`, or segment by segment on older
//! kernels): a symbolic link that leads outside is refused even when it is swapped in between two
//! calls. Links that stay inside are followed, except at the last segment of a change: renaming over
//! or deleting a link touches the link. Only regular files and directories are served.
//!
//! Every call blocks, so each runs on Tokio's blocking threads; nothing holds such a thread while it
//! waits for a client. Why not OpenDAL's `fs`: `docs/decisions/0002-local-disk-without-opendal.md`.

mod kept;
mod probe;
mod read;
mod upload;

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use cap_std::{
    ambient_authority,
    fs::{Dir, Metadata, MetadataExt, OpenOptions, OpenOptionsExt, ReadDir},
};
use futures_util::{StreamExt, stream, stream::BoxStream};

use self::upload::{LocalUpload, Start};
use super::{
    Abilities, Entry, ErrorKind, Kind, NewFile, Result, Stat, Store, StoreError, Swept, Upload,
};
use crate::{
    access::StoreKey,
    config::{Durability, FsBackend, SetTime},
};

/// Where unfinished uploads live, directly below the root so that a rename publishes them. Hidden
/// from listings and refused as a name there.
const UPLOADS: &str = ".causeway-uploads";

/// Entries read in one hop to a blocking thread.
const LIST_BATCH: usize = 1000;

/// A local directory as a store.
#[derive(Clone, Debug)]
pub struct LocalStore {
    root: Arc<Dir>,
    uploads: Arc<Dir>,
    /// A directory that is polled every few seconds would repeat the same warning for ever.
    unservable_told: Arc<AtomicBool>,
    /// Makes "is it still that version? then rename" one step among the uploads of this process.
    commits: Arc<Mutex<()>>,
    set_time: SetTime,
    durability: Durability,
    /// Bytes that uploads leave free.
    free_space_bytes: u64,
}

impl LocalStore {
    /// Opens an existing directory and removes what earlier processes left unfinished. Blocks; meant
    /// for start-up.
    pub fn open(backend: &FsBackend) -> Result<Self> {
        let open = || {
            let root = Dir::open_ambient_dir(&backend.root, ambient_authority())?;
            match root.create_dir(UPLOADS) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            // A link in this place could point into the served tree.
            if !root.symlink_metadata(UPLOADS)?.is_dir() {
                return Err(io::Error::from(io::ErrorKind::NotADirectory));
            }
            let uploads = root.open_dir(UPLOADS)?;
            // What is kept for users has an age, which a later sweep is told.
            kept::sweep(&uploads, None)?;
            Ok((root, uploads))
        };
        let (root, uploads) = open().map_err(|error| StoreError::from_io("open", error))?;
        Ok(Self {
            root: Arc::new(root),
            uploads: Arc::new(uploads),
            unservable_told: Arc::new(AtomicBool::new(false)),
            commits: Arc::new(Mutex::new(())),
            set_time: backend.set_time,
            durability: backend.durability,
            free_space_bytes: backend.free_space_bytes,
        })
    }

    /// Runs file system calls on a blocking thread.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = self.clone();
        blocking(operation, move || work(&store)).await
    }

    fn stat_now(&self, operation: &'static str, key: &StoreKey) -> Result<Stat> {
        let path = path(operation, key)?;
        let metadata = self
            .root
            .metadata(path)
            .map_err(|error| StoreError::from_io(operation, error))?;
        stat_of(&metadata).ok_or_else(|| special_file(operation))
    }

    /// What stands at `key`, if anything; errors of the parent (missing, a file) are errors.
    fn occupant(&self, operation: &'static str, key: &StoreKey) -> Result<Option<Stat>> {
        let path = path(operation, key)?;
        let parent = parent(path);
        let metadata = self
            .root
            .metadata(parent)
            .map_err(|error| StoreError::from_io(operation, error))?;
        if !metadata.is_dir() {
            return Err(StoreError::new(ErrorKind::NotADirectory, operation));
        }
        match self.stat_now(operation, key) {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads the next entries of `entries`; the flag says whether that was the end.
    fn batch(&self, directory: &StoreKey, entries: &mut ReadDir) -> (Vec<Result<Entry>>, bool) {
        let mut batch = Vec::new();
        while batch.len() < LIST_BATCH {
            let entry = match entries.next() {
                None => return (batch, true),
                Some(Ok(entry)) => entry,
                Some(Err(error)) => {
                    batch.push(Err(StoreError::from_io("list", error)));
                    return (batch, true);
                }
            };
            let name = entry.file_name();
            if directory.as_str().is_empty() && name == UPLOADS {
                continue;
            }
            let Some(name) = name
                .to_str()
                .filter(|name| !name.chars().any(char::is_control))
            else {
                self.leave_out(&name);
                continue;
            };
            // Links are followed here as `stat` follows them, so that both say the same. What cannot
            // be read, was deleted meanwhile or leads outside is not there for the client.
            let metadata = match entry.metadata() {
                Ok(metadata) if metadata.is_symlink() => {
                    self.root.metadata(Path::new(directory.as_str()).join(name))
                }
                other => other,
            };
            if let Some(stat) = metadata.ok().as_ref().and_then(stat_of) {
                batch.push(Ok(Entry {
                    name: name.to_owned(),
                    stat,
                }));
            }
        }
        (batch, false)
    }

    fn leave_out(&self, name: &std::ffi::OsStr) {
        if !self.unservable_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                ?name,
                "names with control characters or not in UTF-8 are left out of listings"
            );
        }
    }

    async fn begin(
        &self,
        operation: &'static str,
        key: &StoreKey,
        start: Start,
        exclusive: bool,
    ) -> Result<Box<dyn Upload>> {
        let key = key.clone();
        let upload = self
            .blocking(operation, move |store| {
                LocalUpload::begin(store, &key, start, exclusive)
            })
            .await?;
        Ok(Box::new(upload))
    }

    fn rename_now(&self, from: &StoreKey, to: &StoreKey, exclusive: bool) -> Result<()> {
        let failed = |error| StoreError::from_io("rename", error);
        let (source, target) = (path("rename", from)?, new_name("rename", to)?);
        let present = self.stat_now("rename", from)?;
        match self.occupant("rename", to)?.map(|occupant| occupant.kind) {
            // A rename onto itself, directory or file, changes nothing.
            Some(_) if source == target => return Ok(()),
            Some(_) if exclusive => {
                return Err(StoreError::new(ErrorKind::AlreadyExists, "rename"));
            }
            Some(Kind::Directory) => {
                return Err(StoreError::new(ErrorKind::IsADirectory, "rename"));
            }
            Some(Kind::File) if present.kind == Kind::Directory => {
                return Err(StoreError::new(ErrorKind::NotADirectory, "rename"));
            }
            _ => {}
        }
        if exclusive {
            let directory = self.root.open_dir(parent(source)).map_err(failed)?;
            let name = source.file_name().unwrap_or(source.as_os_str());
            upload::onto_nothing(&directory, name, &self.root, target).map_err(failed)?;
        } else {
            self.root
                .rename(source, &self.root, target)
                .map_err(failed)?;
        }
        self.sync_directory(parent(target)).map_err(failed)?;
        self.sync_directory(parent(source)).map_err(failed)
    }

    /// Bytes that this process may still write.
    fn free_bytes(&self) -> io::Result<u64> {
        let space = rustix::fs::fstatvfs(&*self.root)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    /// Makes the names in a directory durable, where that is asked for.
    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        if self.durability == Durability::Fast {
            return Ok(());
        }
        // `open_dir` may give an `O_PATH` descriptor, which cannot be synced.
        self.root.open(directory)?.sync_all()
    }
}

#[async_trait]
impl Store for LocalStore {
    async fn stat(&self, key: &StoreKey) -> Result<Stat> {
        let key = key.clone();
        self.blocking("stat", move |store| store.stat_now("stat", &key))
            .await
    }

    async fn list(&self, directory: &StoreKey) -> Result<BoxStream<'static, Result<Entry>>> {
        let directory = directory.clone();
        let (entries, directory) = self
            .blocking("list", move |store| {
                let path = path("list", &directory)?;
                let entries = store.root.read_dir(path);
                Ok((
                    entries.map_err(|error| StoreError::from_io("list", error))?,
                    directory,
                ))
            })
            .await?;
        // Each batch is one hop, taken when the receiver asks: a slow client holds no thread.
        let start = Some((self.clone(), directory, entries));
        let batches = stream::unfold(start, |state| async move {
            let (store, directory, mut entries) = state?;
            let hop = blocking("list", move || {
                let (batch, last) = store.batch(&directory, &mut entries);
                Ok((batch, (!last).then_some((store, directory, entries))))
            });
            match hop.await {
                Ok(step) => Some(step),
                Err(error) => Some((vec![Err(error)], None)),
            }
        });
        Ok(batches.flat_map(stream::iter).boxed())
    }

    async fn read(
        &self,
        key: &StoreKey,
        offset: u64,
        stat: &Stat,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let (key, version) = (key.clone(), stat.version.clone());
        let reader = self
            .blocking("read", move |store| {
                read::Reader::open(&store.root, path("read", &key)?, offset, version.as_deref())
            })
            .await?;
        Ok(reader.into_stream())
    }

    async fn write(&self, key: &StoreKey, file: NewFile) -> Result<Box<dyn Upload>> {
        self.begin("write", key, Start::Base(file.base), file.exclusive)
            .await
    }

    async fn write_kept(
        &self,
        key: &StoreKey,
        file: NewFile,
        user: &str,
    ) -> Result<Box<dyn Upload>> {
        let start = Start::Keep(kept::name(key, user));
        self.begin("write", key, start, file.exclusive).await
    }

    async fn kept(&self, key: &StoreKey, user: &str) -> Result<Option<Stat>> {
        let name = kept::name(key, user);
        self.blocking("kept", move |store| kept::stat(&store.uploads, &name))
            .await
    }

    async fn resume(
        &self,
        key: &StoreKey,
        user: &str,
        offset: u64,
        exclusive: bool,
    ) -> Result<Box<dyn Upload>> {
        let start = Start::Resume(kept::name(key, user), offset);
        self.begin("resume", key, start, exclusive).await
    }

    async fn forget(&self, key: &StoreKey, user: &str) -> Result<bool> {
        let name = kept::name(key, user);
        self.blocking("forget", move |store| kept::forget(&store.uploads, &name))
            .await
    }

    async fn sweep(&self, age: Duration) -> Result<Swept> {
        self.blocking("sweep", move |store| {
            kept::sweep(&store.uploads, Some(age))
                .map_err(|error| StoreError::from_io("sweep", error))
        })
        .await
    }

    async fn remove_file(&self, key: &StoreKey) -> Result<()> {
        let key = key.clone();
        self.blocking("remove_file", move |store| {
            let path = path("remove_file", &key)?;
            if store.stat_now("remove_file", &key)?.kind == Kind::Directory {
                return Err(StoreError::new(ErrorKind::IsADirectory, "remove_file"));
            }
            store
                .root
                .remove_file(path)
                .map_err(|error| StoreError::from_io("remove_file", error))
        })
        .await
    }

    async fn make_directory(&self, key: &StoreKey) -> Result<()> {
        let key = key.clone();
        self.blocking("make_directory", move |store| {
            if key.as_str().is_empty() {
                return Err(StoreError::new(ErrorKind::AlreadyExists, "make_directory"));
            }
            let path = new_name("make_directory", &key)?;
            store
                .root
                .create_dir(path)
                .and_then(|()| store.sync_directory(parent(path)))
                .map_err(|error| StoreError::from_io("make_directory", error))
        })
        .await
    }

    async fn remove_directory(&self, key: &StoreKey) -> Result<()> {
        let key = key.clone();
        self.blocking("remove_directory", move |store| {
            let path = path("remove_directory", &key)?;
            if key.as_str().is_empty() {
                return Err(StoreError::new(
                    ErrorKind::PermissionDenied,
                    "remove_directory",
                ));
            }
            store
                .root
                .remove_dir(path)
                .map_err(|error| StoreError::from_io("remove_directory", error))
        })
        .await
    }

    async fn rename(&self, from: &StoreKey, to: &StoreKey, exclusive: bool) -> Result<()> {
        let (from, to) = (from.clone(), to.clone());
        self.blocking("rename", move |store| {
            store.rename_now(&from, &to, exclusive)
        })
        .await
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            set_modified: self.set_time != SetTime::Refuse,
            available: true,
        }
    }

    async fn set_modified(&self, key: &StoreKey, time: SystemTime) -> Result<()> {
        let operation = "set_modified";
        match self.set_time {
            SetTime::Store => {}
            SetTime::Ignore => return Ok(()),
            SetTime::Refuse => return Err(StoreError::new(ErrorKind::Unsupported, operation)),
        }
        let key = key.clone();
        self.blocking(operation, move |store| {
            // Files and directories alike, and nothing that would block or is special.
            store.stat_now(operation, &key)?;
            let mut options = OpenOptions::new();
            options
                .read(true)
                .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
            store
                .root
                .open_with(path(operation, &key)?, &options)
                .and_then(|file| file.into_std().set_modified(time))
                .map_err(|error| StoreError::from_io(operation, error))
        })
        .await
    }

    async fn available(&self) -> Result<Option<u64>> {
        self.blocking("available", |store| {
            let free = store
                .free_bytes()
                .map_err(|error| StoreError::from_io("available", error))?;
            Ok(Some(free.saturating_sub(store.free_space_bytes)))
        })
        .await
    }
}

/// Runs file system calls on a blocking thread.
async fn blocking<T: Send + 'static>(
    operation: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(StoreError::with_source(
            ErrorKind::Internal,
            operation,
            error,
        )),
    }
}

/// The path of a key below the root. The upload area is not part of what keys name.
fn path<'key>(operation: &'static str, key: &'key StoreKey) -> Result<&'key Path> {
    if in_uploads(key) {
        return Err(StoreError::new(ErrorKind::NotFound, operation));
    }
    Ok(Path::new(if key.as_str().is_empty() {
        "."
    } else {
        key.as_str()
    }))
}

/// The path of a key that is about to be made.
fn new_name<'key>(operation: &'static str, key: &'key StoreKey) -> Result<&'key Path> {
    if key.as_str().is_empty() {
        return Err(StoreError::new(ErrorKind::IsADirectory, operation));
    }
    if in_uploads(key) {
        return Err(StoreError::new(ErrorKind::NameNotAllowed, operation));
    }
    path(operation, key)
}

fn in_uploads(key: &StoreKey) -> bool {
    key.as_str().split('/').next() == Some(UPLOADS)
}

fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn special_file(operation: &'static str) -> StoreError {
    StoreError::new(ErrorKind::PermissionDenied, operation)
}

/// `None` for what is neither a regular file nor a directory.
fn stat_of(metadata: &Metadata) -> Option<Stat> {
    let kind = if metadata.is_dir() {
        Kind::Directory
    } else if metadata.is_file() {
        Kind::File
    } else {
        return None;
    };
    Some(Stat {
        kind,
        size: if kind == Kind::File {
            metadata.len()
        } else {
            0
        },
        modified: metadata
            .modified()
            .ok()
            .map(cap_std::time::SystemTime::into_std),
        version: (kind == Kind::File).then(|| {
            format!(
                "{:x}-{:x}-{:x}.{:x}-{:x}.{:x}",
                metadata.ino(),
                metadata.len(),
                metadata.mtime(),
                metadata.mtime_nsec(),
                metadata.ctime(),
                metadata.ctime_nsec(),
            )
        }),
        waits: false,
    })
}
