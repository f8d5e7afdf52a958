//! Uploads to a temporary file that a rename publishes.

use std::{
    ffi::OsStr,
    io::{self, Seek, SeekFrom, Write},
    path::PathBuf,
    sync::{Arc, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use cap_std::fs::{Dir, File, MetadataExt, OpenOptions};
use rustix::{
    fs::{FlockOperation, RenameFlags, flock, ioctl_ficlone, renameat_with},
    io::Errno,
};

use super::{
    super::{Base, Kind, PartSizes, Result, Stat, Upload},
    ErrorKind, LocalStore, StoreError, blocking, kept, new_name, parent, read, stat_of,
};
use crate::{access::StoreKey, config::Durability};

const PART_BYTES: usize = 1 << 20;

/// How often a sweeping process may take a fresh temporary file away before we give up.
const CREATE_ATTEMPTS: usize = 16;

/// An upload under way: a locked file in the upload area.
pub(super) struct LocalUpload {
    /// `None` only while a blocking call holds it, or after one failed.
    state: Option<State>,
}

struct State {
    store: LocalStore,
    key: StoreKey,
    target: PathBuf,
    /// The version that must still be there at commit.
    version: Option<String>,
    /// Nothing may be there at commit.
    exclusive: bool,
    temporary: Temporary,
}

/// What an upload begins with.
pub(super) enum Start {
    /// The first bytes of the present file, or nothing.
    Base(Base),
    /// Nothing, under the name that an interrupted upload is kept by.
    Keep(String),
    /// The first bytes of what is kept by this name.
    Resume(String, u64),
}

/// A file in the upload area; unlinked when dropped before it was published or kept.
///
/// The unlink in `drop` blocks, but is one call, and the alternative is litter until the next start.
pub(super) struct Temporary {
    uploads: Arc<Dir>,
    name: String,
    pub(super) file: File,
    /// An interruption leaves it for its user.
    lasting: bool,
    /// Published or kept.
    settled: bool,
}

impl LocalUpload {
    pub(super) fn begin(
        store: &LocalStore,
        key: &StoreKey,
        start: Start,
        exclusive: bool,
    ) -> Result<Self> {
        let target = new_name("write", key)?.to_owned();
        refuse_directory(store, key)?;
        require_one_disk(store, &target)?;
        require_space(store)?;
        let create = || {
            Temporary::create(&store.uploads).map_err(|error| StoreError::from_io("write", error))
        };
        let mut version = None;
        let temporary = match start {
            Start::Base(Base::Empty) => create()?,
            Start::Base(Base::Present {
                bytes,
                version: present,
            }) => {
                let mut temporary = create()?;
                temporary.copy_from(store, &target, bytes, present.as_deref())?;
                version = present;
                temporary
            }
            Start::Keep(name) => match kept::create(&store.uploads, name)? {
                Some(temporary) => temporary,
                // Another session of this user writes the file; two uploads never mix.
                None => create()?,
            },
            Start::Resume(name, offset) => kept::open(&store.uploads, name, offset)?,
        };
        let state = State {
            store: store.clone(),
            key: key.clone(),
            target,
            version,
            exclusive,
            temporary,
        };
        Ok(Self { state: Some(state) })
    }

    fn take(&mut self) -> Result<State> {
        // A call before failed and has already removed the temporary file.
        self.state
            .take()
            .ok_or_else(|| StoreError::new(ErrorKind::Internal, "write"))
    }
}

#[async_trait]
impl Upload for LocalUpload {
    fn part_sizes(&self) -> PartSizes {
        PartSizes::equal(PART_BYTES)
    }

    async fn write(&mut self, part: Vec<Bytes>) -> Result<()> {
        let mut state = self.take()?;
        let state = blocking("write", move || {
            // Before the disk itself is full: others write to it as well.
            require_space(&state.store)?;
            for chunk in part {
                state
                    .temporary
                    .file
                    .write_all(&chunk)
                    .map_err(|error| StoreError::from_io("write", error))?;
            }
            Ok(state)
        });
        self.state = Some(state.await?);
        Ok(())
    }

    async fn commit(mut self: Box<Self>, last: Vec<Bytes>) -> Result<Stat> {
        self.write(last).await?;
        let state = self.take()?;
        blocking("commit", move || state.commit()).await
    }

    async fn abort(mut self: Box<Self>) {
        let Some(state) = self.state.take() else {
            return;
        };
        let dropped = blocking("abort", move || {
            drop(state);
            Ok(())
        });
        if let Err(error) = dropped.await {
            tracing::warn!(%error, "an aborted upload may have left its temporary file");
        }
    }

    async fn keep(mut self: Box<Self>, rest: Vec<Bytes>) -> bool {
        let Some(mut state) = self.state.take() else {
            return false;
        };
        let kept = blocking("keep", move || state.temporary.keep(&rest));
        kept.await.unwrap_or_else(|error| {
            tracing::warn!(%error, "an interrupted upload could not be kept");
            false
        })
    }
}

impl State {
    fn commit(mut self) -> Result<Stat> {
        let failed = |error| StoreError::from_io("commit", error);
        if self.store.durability == Durability::Full {
            self.temporary.file.sync_all().map_err(failed)?;
        }
        refuse_directory(&self.store, &self.key)?;
        // Held for a stat and a rename, by a blocking thread; it guards no data to be poisoned.
        let commit = self
            .store
            .commits
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if self.version.is_some() {
            // Another process can still come between this look and the rename; its file is then
            // replaced whole by ours, never mixed with it.
            let present = self.store.stat_now("commit", &self.key);
            if present.ok().and_then(|stat| stat.version) != self.version {
                return Err(StoreError::new(ErrorKind::Changed, "commit"));
            }
        }
        self.publish().map_err(failed)?;
        self.temporary.settled = true;
        drop(commit);
        self.store
            .sync_directory(parent(&self.target))
            .map_err(failed)?;
        let metadata = self.temporary.file.metadata().map_err(failed)?;
        stat_of(&metadata).ok_or_else(|| StoreError::new(ErrorKind::Internal, "commit"))
    }
}

impl State {
    /// Puts the file in its place.
    fn publish(&self) -> io::Result<()> {
        let Temporary { uploads, name, .. } = &self.temporary;
        let root = &self.store.root;
        if !self.exclusive {
            return uploads.rename(name, root, &self.target);
        }
        onto_nothing(uploads, name.as_ref(), root, &self.target)
    }
}

/// Renames the entry `name` of `from` to the path `target` below `root`, over nothing.
pub(super) fn onto_nothing(
    from: &Dir,
    name: &OsStr,
    root: &Dir,
    target: &std::path::Path,
) -> io::Result<()> {
    // Opened below the root, which no link leaves; the name in it is one component.
    let directory = root.open_dir(parent(target))?;
    let target = target.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    match renameat_with(from, name, &directory, target, RenameFlags::NOREPLACE) {
        // A file system that knows no such flag. Between the look and the rename another can come.
        Err(Errno::INVAL | Errno::NOSYS) if !directory.exists(target) => {
            from.rename(name, &directory, target)
        }
        Err(Errno::INVAL | Errno::NOSYS) => Err(io::ErrorKind::AlreadyExists.into()),
        renamed => Ok(renamed?),
    }
}

impl Temporary {
    /// Makes a file and holds its lock, which tells sweeping processes that it is in use.
    fn create(uploads: &Arc<Dir>) -> io::Result<Self> {
        for _ in 0..CREATE_ATTEMPTS {
            let name = format!("{:032x}", rand::random::<u128>());
            let mut options = OpenOptions::new();
            options.write(true).create_new(true);
            let file = uploads.open_with(&name, &options)?;
            let temporary = Self {
                uploads: uploads.clone(),
                name,
                file,
                lasting: false,
                settled: false,
            };
            // A sweep between the two calls above holds the lock, or has already unlinked the file.
            if flock(&temporary.file, FlockOperation::NonBlockingLockExclusive).is_ok()
                && temporary.file.metadata()?.nlink() > 0
            {
                return Ok(temporary);
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    /// A locked file that outlives an interruption.
    pub(super) fn lasting(uploads: &Arc<Dir>, name: String, file: File) -> Self {
        Self {
            uploads: uploads.clone(),
            name,
            file,
            lasting: true,
            settled: false,
        }
    }

    /// Leaves the file to its user, if it is of use. What the disk has must be what SIZE says, also
    /// after a loss of power. Whether it is.
    fn keep(&mut self, rest: &[Bytes]) -> Result<bool> {
        let failed = |error| StoreError::from_io("keep", error);
        if !self.lasting {
            return Ok(false);
        }
        for chunk in rest {
            self.file.write_all(chunk).map_err(failed)?;
        }
        if self.file.metadata().map_err(failed)?.len() > 1 {
            self.file.sync_all().map_err(failed)?;
            self.settled = true;
        }
        Ok(self.settled)
    }

    /// Begins with the first `bytes` of the present file, shared with it where the file system can.
    fn copy_from(
        &mut self,
        store: &LocalStore,
        source: &std::path::Path,
        bytes: u64,
        version: Option<&str>,
    ) -> Result<()> {
        let failed = |error| StoreError::from_io("write", error);
        let (mut present, metadata) = read::open_regular(&store.root, source)?;
        let stat = stat_of(&metadata).ok_or_else(|| super::special_file("write"))?;
        if version.is_some() && version != stat.version.as_deref() {
            return Err(StoreError::new(ErrorKind::Changed, "write"));
        }
        if bytes > stat.size {
            return Err(StoreError::new(ErrorKind::OffsetBeyondEnd, "write"));
        }
        if ioctl_ficlone(&self.file, &present).is_ok() {
            self.file.set_len(bytes).map_err(failed)?;
        } else {
            let copied = io::copy(&mut io::Read::take(&mut present, bytes), &mut self.file)
                .map_err(failed)?;
            if copied != bytes {
                return Err(StoreError::new(ErrorKind::Changed, "write"));
            }
        }
        self.file.seek(SeekFrom::Start(bytes)).map_err(failed)?;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        match self.uploads.remove_file(&self.name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "cannot remove a temporary file; the next start will");
            }
            _ => {}
        }
    }
}

/// Refuses to write where less is free than must stay so.
fn require_space(store: &LocalStore) -> Result<()> {
    let free = store
        .free_bytes()
        .map_err(|error| StoreError::from_io("write", error))?;
    if free < store.free_space_bytes {
        return Err(StoreError::new(ErrorKind::StorageFull, "write"));
    }
    Ok(())
}

/// Refuses a place that no rename from the upload area reaches: another disk is mounted there.
fn require_one_disk(store: &LocalStore, target: &std::path::Path) -> Result<()> {
    let failed = |error| StoreError::from_io("write", error);
    let there = store.root.metadata(parent(target)).map_err(failed)?;
    let area = store.uploads.dir_metadata().map_err(failed)?;
    if there.dev() != area.dev() {
        let text = format!(
            "{}: another disk is mounted there, which needs a backend of its own",
            parent(target).display()
        );
        return Err(StoreError::with_source(
            ErrorKind::Unsupported,
            "write",
            text,
        ));
    }
    Ok(())
}

fn refuse_directory(store: &LocalStore, key: &StoreKey) -> Result<()> {
    match store.occupant("write", key)? {
        Some(stat) if stat.kind == Kind::Directory => {
            Err(StoreError::new(ErrorKind::IsADirectory, "write"))
        }
        _ => Ok(()),
    }
}
