//! Where bytes live: one [`Store`] per configured backend.
//!
//! Owns every use of `opendal` and of the local file system for user data. Takes a
//! [`StoreKey`], never a client's path, so nothing reaches a store that
//! [`crate::access`] did not allow. Called by the engine's storage backend and by the edge's checks.
//!
//! Invariant: an object becomes visible only whole, by [`Upload::commit`]; an [`Upload`] that is
//! aborted leaves no object, no open multipart upload and no temporary file behind.

pub mod backend;
mod budget;
mod digest;
mod download;
mod error;
pub mod exchange;
mod kept;
pub mod listing;
mod listing_cache;
mod local;
mod memory;
mod object;
pub mod probe;
mod quota;
mod stores;
#[cfg(test)]
mod tests;
pub mod transfer;
#[cfg(feature = "unftp-sbe-gcs")]
mod unftp_gcs;
pub mod upload;
mod view;
mod watched;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};

pub use self::budget::Budget;
pub use self::digest::Hasher;
pub use self::error::{ErrorKind, StoreError};
pub use self::kept::Kept;
pub use self::local::LocalStore;
pub use self::memory::MemoryStore;
pub use self::object::{ObjectStore, Retries};
pub use self::quota::{Quotas, Total};
pub use self::stores::Stores;
use self::transfer::Progress;
pub use self::view::{About, AppendFrom, View};
pub use self::watched::{LastResults, Watched};
use crate::{
    access::StoreKey,
    config::{Backend, Checksum, GcsBackend, GcsDriver, Timeouts},
    observe::{journal::Journal, metrics::Metrics},
};

/// Opens a configured backend, counted in `metrics` if there are any; `journal` is told of files that appear
/// later than at the end of their upload. Blocks on the local file system; meant for start-up.
///
/// # Errors
/// A directory that is missing or not writable, or settings that make no client. A bucket is not
/// asked yet.
pub fn open(
    name: &Arc<str>,
    backend: &Backend,
    timeouts: &Timeouts,
    metrics: Option<Arc<Metrics>>,
    journal: Option<Arc<Journal>>,
) -> Result<Arc<dyn Store>> {
    let retries = Retries::new(name, metrics.clone());
    let store: Arc<dyn Store> = match backend {
        Backend::Fs(backend) => Arc::new(LocalStore::open(backend)?),
        Backend::S3(backend) => {
            Arc::new(ObjectStore::open_s3(backend, timeouts, &retries, journal)?)
        }
        Backend::Gcs(backend) => match backend.driver {
            GcsDriver::OpenDal => Arc::new(ObjectStore::open_gcs(backend, timeouts, &retries)?),
            GcsDriver::Unftp => unftp(backend, timeouts)?,
        },
        Backend::Azblob(backend) => {
            Arc::new(ObjectStore::open_azblob(backend, timeouts, &retries)?)
        }
        Backend::Memory(backend) => Arc::new(MemoryStore::open(backend)),
        Backend::OpenDal(backend) => {
            Arc::new(ObjectStore::open_other(backend, timeouts, &retries)?)
        }
    };
    Ok(Arc::new(Watched::new(store, Arc::clone(name), metrics)))
}

#[cfg(feature = "unftp-sbe-gcs")]
fn unftp(backend: &GcsBackend, timeouts: &Timeouts) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(unftp_gcs::UnftpGcsStore::open(backend, timeouts)?))
}

#[cfg(not(feature = "unftp-sbe-gcs"))]
fn unftp(_backend: &GcsBackend, _timeouts: &Timeouts) -> Result<Arc<dyn Store>> {
    let problem =
        "this binary was built without the cargo feature unftp-sbe-gcs, which the driver needs";
    Err(StoreError::with_source(
        ErrorKind::Unsupported,
        "open",
        problem,
    ))
}

/// What a store answers.
pub type Result<T> = std::result::Result<T, StoreError>;

/// File or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file or object.
    File,
    /// A directory, a marker object `dir/`, or a prefix that keys lie below.
    Directory,
}

/// What is known about one file or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// File or directory.
    pub kind: Kind,
    /// Bytes; 0 for directories.
    pub size: u64,
    /// Last change; `None` where the store does not say (a prefix without a marker).
    pub modified: Option<SystemTime>,
    /// What identifies exactly these bytes: an `ETag`, or inode, size and time on a local disk.
    pub version: Option<String>,
    /// Received and safe, but complete only once it is renamed, read, or has waited long enough.
    pub waits: bool,
}

/// One row of a directory listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name inside the directory: one valid path segment.
    pub name: String,
    /// What is known about it.
    pub stat: Stat,
}

/// What the bytes of an upload are put behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Base {
    /// Nothing: the upload is the whole object (STOR).
    #[default]
    Empty,
    /// The first `bytes` bytes of the present object, which must still be `version` at commit
    /// (APPE: all of it; REST n + STOR: the first n).
    Present {
        /// How many of the present object's bytes are kept.
        bytes: u64,
        /// [`Stat::version`] of the object they are taken from.
        version: Option<String>,
    },
}

/// What a sweep found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Unfinished uploads of ours that were ended because they are older than the age.
    pub removed: u64,
    /// Unfinished uploads of ours that are left, running ones included.
    pub open: u64,
}

/// Which files that wait for their rename are committed under their temporary names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// All that this process received: it is about to end.
    Ours,
    /// Those of every process that have waited long enough.
    Due,
}

/// What an upload is to make.
#[derive(Clone, Debug, Default)]
pub struct NewFile {
    /// What its bytes are put behind.
    pub base: Base,
    /// Never in the place of something else (STOU, users who may not overwrite):
    /// [`ErrorKind::AlreadyExists`] at the commit. Stores that have no condition for it are looked at
    /// just before.
    pub exclusive: bool,
    /// Bytes that the client announced (ALLO): a hint, nothing more.
    pub expected_bytes: Option<u64>,
    /// [`Store::survey`] was asked just now: directory and parent need no second look.
    pub surveyed: bool,
    /// Who uploads, to be kept with the object where the configuration wants it.
    pub author: Option<Author>,
}

/// Who uploads a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// Login name.
    pub user: String,
    /// What the log calls the session.
    pub session: String,
    /// The file as the user sees it.
    pub path: String,
    /// Path of the mount that it lies in.
    pub mount: String,
}

/// How large the parts of an upload are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartSizes {
    /// Bytes of the first parts, at least 1.
    pub bytes: usize,
    /// Of these the first part leaves out so many: bytes of the old object come there.
    pub first_less: usize,
    /// After so many parts their size doubles; `None`: all are equal.
    pub doubling: Option<usize>,
}

impl PartSizes {
    /// Parts that are all equal.
    pub fn equal(bytes: usize) -> Self {
        Self {
            bytes,
            first_less: 0,
            doubling: None,
        }
    }

    /// Bytes of the part after `index` others.
    pub fn of(&self, index: usize) -> usize {
        let less = if index == 0 { self.first_less } else { 0 };
        let doublings = self.doubling.map_or(0, |parts| index / parts.max(1));
        let factor = 2_usize.saturating_pow(u32::try_from(doublings).unwrap_or(u32::MAX));
        self.bytes
            .saturating_mul(factor)
            .saturating_sub(less)
            .max(1)
    }
}

impl From<Base> for NewFile {
    fn from(base: Base) -> Self {
        Self {
            base,
            ..Self::default()
        }
    }
}

/// What not every store can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// [`Store::set_modified`] succeeds, be it that it keeps the time or, by configuration, forgets it.
    pub set_modified: bool,
    /// [`Store::available`] knows a number.
    pub available: bool,
}

/// One configured backend.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// Stats a file or directory; a name that is both is the directory.
    async fn stat(&self, key: &StoreKey) -> Result<Stat>;

    /// Streams the entries of a directory, page by page and in bounded memory.
    /// [`ErrorKind::NotFound`] for a missing one, [`ErrorKind::NotADirectory`] for a file, both before
    /// the stream is returned. Names that cannot be served (control characters, `.`/`..`, not UTF-8)
    /// are left out and logged.
    async fn list(&self, directory: &StoreKey) -> Result<BoxStream<'static, Result<Entry>>>;

    /// Streams a file from `offset` on; an overwrite in between ends the stream with
    /// [`ErrorKind::Changed`], never with a mixture.
    async fn read(
        &self,
        key: &StoreKey,
        offset: u64,
        stat: &Stat,
    ) -> Result<BoxStream<'static, Result<Bytes>>>;

    /// Begins an upload. What the store cannot do (`file.base`, the name, a missing parent directory) is
    /// refused here, before a byte has moved. Must be followed by `commit` or `abort`.
    async fn write(&self, key: &StoreKey, file: NewFile) -> Result<Box<dyn Upload>>;

    /// What an upload to `key` meets: the present file, or nothing. Refuses the name of a directory
    /// and a name whose directory is missing, with as few requests as the store needs.
    async fn survey(&self, key: &StoreKey) -> Result<Option<Stat>> {
        match self.stat(key).await {
            Ok(stat) if stat.kind == Kind::Directory => {
                Err(StoreError::new(ErrorKind::IsADirectory, "write"))
            }
            Ok(stat) => Ok(Some(stat)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Begins an upload of a whole new object whose bytes, once interrupted ([`Upload::keep`]), stay
    /// for `user` alone. Drops what was kept before. Where another session holds the place, or the
    /// store can keep nothing, the upload is an ordinary one.
    async fn write_kept(
        &self,
        key: &StoreKey,
        file: NewFile,
        user: &str,
    ) -> Result<Box<dyn Upload>> {
        let _ = user;
        self.write(key, file).await
    }

    /// What is kept of an interrupted upload of `user`: as many bytes as [`Store::resume`] can go on
    /// from. Always less than was received: had the last byte arrived, a client that compares sizes
    /// would take the file for stored.
    async fn kept(&self, key: &StoreKey, user: &str) -> Result<Option<Stat>> {
        let _ = (key, user);
        Ok(None)
    }

    /// Continues an interrupted upload of `user` behind its first `offset` bytes; `exclusive` as in
    /// [`NewFile::exclusive`].
    /// [`ErrorKind::OffsetBeyondEnd`] if that is not possible, [`ErrorKind::InUse`] while another session
    /// continues it.
    async fn resume(
        &self,
        key: &StoreKey,
        user: &str,
        offset: u64,
        exclusive: bool,
    ) -> Result<Box<dyn Upload>> {
        let _ = (key, user, offset, exclusive);
        Err(StoreError::new(ErrorKind::OffsetBeyondEnd, "resume"))
    }

    /// Drops what is kept for `user`; whether there was anything.
    async fn forget(&self, key: &StoreKey, user: &str) -> Result<bool> {
        let _ = (key, user);
        Ok(false)
    }

    /// Ends unfinished uploads of ours that have not moved for `age`, nobody else's.
    async fn sweep(&self, age: Duration) -> Result<Swept> {
        let _ = age;
        Ok(Swept::default())
    }

    /// How long a file that was received waits for its rename before it is committed under the name that
    /// it has; `None` where none waits.
    fn commits_after(&self) -> Option<Duration> {
        None
    }

    /// Files that this process received and that wait for their rename.
    fn waiting(&self) -> Total {
        Total::default()
    }

    /// Commits files that wait for their rename under the names that they have; how many.
    async fn commit_held(&self, whose: Whose) -> Result<u64> {
        let _ = whose;
        Ok(0)
    }

    /// Makes a file that waits for its rename one that can be read, under the name that it has.
    async fn publish(&self, key: &StoreKey) -> Result<()> {
        let _ = key;
        Ok(())
    }

    /// Bytes and number of all files below a directory, for quotas; nothing where it is missing. One
    /// listing at a time, so that no tree fills the memory but by the names of its directories.
    async fn total(&self, directory: &StoreKey) -> Result<Total> {
        let mut total = Total::default();
        let mut directories = vec![directory.clone()];
        while let Some(directory) = directories.pop() {
            let mut entries = match self.list(&directory).await {
                // Removed meanwhile, or never made.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                entries => entries?,
            };
            while let Some(entry) = entries.next().await {
                let entry = entry?;
                match entry.stat.kind {
                    Kind::File => {
                        total.bytes = total.bytes.saturating_add(entry.stat.size);
                        total.files += 1;
                    }
                    Kind::Directory => directories.push(directory.child(&entry.name)),
                }
            }
        }
        Ok(total)
    }

    /// What an operator should change in the store's own settings, one sentence each.
    async fn advice(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Deletes a file; [`ErrorKind::NotFound`] if there is none, [`ErrorKind::IsADirectory`] for a directory.
    async fn remove_file(&self, key: &StoreKey) -> Result<()>;

    /// Makes a directory; [`ErrorKind::AlreadyExists`] if the name is taken,
    /// [`ErrorKind::NotFound`] if the parent is missing.
    async fn make_directory(&self, key: &StoreKey) -> Result<()>;

    /// Makes a directory and its parents where they are missing, for the homes of new users.
    async fn make_directories(&self, key: &StoreKey) -> Result<()> {
        let mut names = Vec::new();
        let mut parent = Some(key.clone());
        // From the deepest up to the first that is there, then back down.
        while let Some(key) = parent.filter(|key| !key.as_str().is_empty()) {
            match self.stat(&key).await {
                Ok(stat) if stat.kind == Kind::Directory => break,
                Ok(_) => {
                    return Err(StoreError::new(
                        ErrorKind::NotADirectory,
                        "make_directories",
                    ));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            parent = key.parent();
            names.push(key);
        }
        for key in names.iter().rev() {
            match self.make_directory(key).await {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                // Somebody else may have made it meanwhile.
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes an empty directory; [`ErrorKind::NotEmpty`] otherwise.
    async fn remove_directory(&self, key: &StoreKey) -> Result<()>;

    /// Renames a file over whatever file `to` names, or with `exclusive` over nothing:
    /// [`ErrorKind::AlreadyExists`], by a condition where the store keeps one, else by a look just before.
    /// Directories where the store can.
    async fn rename(&self, from: &StoreKey, to: &StoreKey, exclusive: bool) -> Result<()>;

    /// How its last requests went, where somebody watches.
    fn health(&self) -> LastResults {
        LastResults::default()
    }

    /// Completes a file that waits for its rename under its final name: `true`. `false` if it is not such
    /// a file, or another name was expected: then [`Store::rename`] does it. `exclusive` as there.
    async fn complete_as(&self, from: &StoreKey, to: &StoreKey, exclusive: bool) -> Result<bool> {
        let _ = (from, to, exclusive);
        Ok(false)
    }

    /// What this store can do beyond what all can.
    fn abilities(&self) -> Abilities;

    /// Sets the time of the last change of a file or directory that exists;
    /// [`ErrorKind::Unsupported`] unless [`Abilities::set_modified`].
    async fn set_modified(&self, key: &StoreKey, time: SystemTime) -> Result<()>;

    /// Size and digest (lower-case hexadecimal digits) of a file, if they were kept when it was
    /// written; `None` where only reading it would tell, and for what is no file.
    async fn checksum(&self, key: &StoreKey, checksum: Checksum) -> Result<Option<(u64, String)>> {
        let _ = (key, checksum);
        Ok(None)
    }

    /// Bytes that can still be stored; `None` unless [`Abilities::available`].
    async fn available(&self) -> Result<Option<u64>> {
        Ok(None)
    }
}

/// An upload under way. Owned by one task; its futures are awaited to the end, never dropped
/// half way (OpenDAL cannot abort a writer whose `write` was cancelled).
#[async_trait]
pub trait Upload: Send {
    /// How large the parts are that [`Upload::write`] takes.
    fn part_sizes(&self) -> PartSizes;

    /// Whether the store holds each part in memory until the next one comes.
    fn keeps_part_back(&self) -> bool {
        false
    }

    /// The SHA-256 of all that comes from now on is computed by `progress` and stands there at the commit,
    /// so that it need not be computed again. Called before the first part, if at all.
    fn hashed_by(&mut self, progress: Arc<Progress>) {
        drop(progress);
    }

    /// Adds one part that more bytes follow: chunks that together hold exactly the bytes that
    /// [`PartSizes::of`] says, or fewer where the caller cannot hold so many, but always equally many
    /// while the sizes are equal. The chunks' owners are dropped when the store no longer needs them.
    async fn write(&mut self, part: Vec<Bytes>) -> Result<()>;

    /// Adds what is left, which may be nothing, makes the object visible, whole and durable, and says
    /// what it is.
    async fn commit(self: Box<Self>, last: Vec<Bytes>) -> Result<Stat>;

    /// Leaves nothing behind; failures are logged, since nobody is left to tell.
    async fn abort(self: Box<Self>);

    /// The upload was interrupted: keeps what was received, with `rest` behind the last part, if it was
    /// begun for that ([`Store::write_kept`]), else aborts. Whether there is something to go on from.
    async fn keep(self: Box<Self>, rest: Vec<Bytes>) -> bool {
        drop(rest);
        self.abort().await;
        false
    }
}

/// How many bytes chunks hold together.
fn length(chunks: &[Bytes]) -> u64 {
    chunks.iter().map(|chunk| chunk.len() as u64).sum()
}
