//! What stays of interrupted uploads, and the sweep of the upload area.
//!
//! A kept upload is the temporary file itself, under a name made of user and key, so that every process
//! on this directory finds it. Who writes it holds its lock. A lock on an open file says nothing about
//! the name: a file that was published or swept meanwhile is told by its inode.

use std::{
    io::{self, Seek, SeekFrom},
    sync::Arc,
    time::{Duration, SystemTime},
};

use cap_std::fs::{Dir, DirEntry, File, MetadataExt, OpenOptions, OpenOptionsExt};
use rustix::fs::{FlockOperation, OFlags, flock};
use sha2::{Digest, Sha256};

use super::{
    super::{ErrorKind, Kind, Result, Stat, StoreError, Swept},
    stat_of,
    upload::Temporary,
};
use crate::access::StoreKey;

/// Begins the names of files that an interruption leaves for their user.
const PREFIX: &str = "kept-";

/// How often another process may take the file away while it is opened.
const OPEN_ATTEMPTS: usize = 16;

/// The name by which an upload of `user` to `key` is kept. A hash: keys are longer than file names may
/// be.
pub(super) fn name(key: &StoreKey, user: &str) -> String {
    let mut hash = Sha256::new();
    // No user name holds a NUL: the users file refuses control characters.
    hash.update(user);
    hash.update([0]);
    hash.update(key.as_str());
    format!("{PREFIX}{}", hex::encode(hash.finalize()))
}

/// Begins a file that an interruption leaves in place; what was kept before is gone. `None` while
/// another session holds it.
pub(super) fn create(uploads: &Arc<Dir>, name: String) -> Result<Option<Temporary>> {
    let mut options = OpenOptions::new();
    options.write(true).create(true);
    for _ in 0..OPEN_ATTEMPTS {
        match lock(uploads, &name, &options) {
            Ok(Some(file)) => {
                file.set_len(0).map_err(failed)?;
                return Ok(Some(Temporary::lasting(uploads, name, file)));
            }
            // Published or swept between the two calls.
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(None)
}

/// Opens what is kept to go on behind its first `offset` bytes.
pub(super) fn open(uploads: &Arc<Dir>, name: String, offset: u64) -> Result<Temporary> {
    let beyond = || StoreError::new(ErrorKind::OffsetBeyondEnd, "resume");
    let mut options = OpenOptions::new();
    options.write(true);
    let mut file = match lock(uploads, &name, &options) {
        Ok(Some(file)) => file,
        Ok(None) => return Err(beyond()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(beyond()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(StoreError::new(ErrorKind::InUse, "resume"));
        }
        Err(error) => return Err(failed(error)),
    };
    if offset >= file.metadata().map_err(failed)?.len() {
        return Err(beyond());
    }
    file.set_len(offset).map_err(failed)?;
    file.seek(SeekFrom::Start(offset)).map_err(failed)?;
    Ok(Temporary::lasting(uploads, name, file))
}

/// What is kept under a name: one byte less than there is ([`super::super::Store::kept`]).
pub(super) fn stat(uploads: &Dir, name: &str) -> Result<Option<Stat>> {
    let metadata = match uploads.symlink_metadata(name) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let stat = stat_of(&metadata).filter(|stat| stat.kind == Kind::File && stat.size > 1);
    Ok(stat.map(|stat| Stat {
        size: stat.size - 1,
        version: None,
        ..stat
    }))
}

/// Removes what is kept unless a session is writing it.
pub(super) fn forget(uploads: &Dir, name: &str) -> Result<bool> {
    let mut options = OpenOptions::new();
    options.write(true);
    match lock(uploads, name, &options) {
        Ok(Some(_locked)) => {
            uploads.remove_file(name).map_err(failed)?;
            Ok(true)
        }
        Ok(None) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

/// Removes temporary files that no living process holds; those kept for users once they are older
/// than `age`, and not at all without one.
pub(super) fn sweep(uploads: &Dir, age: Option<Duration>) -> io::Result<Swept> {
    let now = SystemTime::now();
    let mut swept = Swept::default();
    for entry in uploads.entries()? {
        let entry = entry?;
        let kept = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(PREFIX));
        let limit = if kept { age } else { Some(Duration::ZERO) };
        match limit.map_or(Ok(false), |limit| remove(&entry, limit, now)) {
            Ok(true) => swept.removed += 1,
            Ok(false) => swept.open += 1,
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "cannot sweep an entry of the upload area"),
        }
    }
    if swept.removed > 0 {
        let removed = swept.removed;
        tracing::info!(removed, "removed temporary files of unfinished uploads");
    }
    Ok(swept)
}

/// Removes an entry that nobody holds and that has not changed for `limit`; whether it is gone.
fn remove(entry: &DirEntry, limit: Duration, now: SystemTime) -> io::Result<bool> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let file = entry.open_with(&options)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
        locked => locked?,
    }
    let modified = file.metadata()?.modified()?.into_std();
    // A clock that was put back makes files of the future, which are young.
    if !limit.is_zero() && now.duration_since(modified).unwrap_or_default() < limit {
        return Ok(false);
    }
    entry.remove_file()?;
    Ok(true)
}

/// Opens and locks the file of a name; `None` if the name stands for another file by now.
fn lock(uploads: &Dir, name: &str, options: &OpenOptions) -> io::Result<Option<File>> {
    let file = uploads.open_with(name, options)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    let (ours, theirs) = (file.metadata()?, uploads.symlink_metadata(name));
    let same = theirs.is_ok_and(|theirs| theirs.ino() == ours.ino() && theirs.is_file());
    Ok(same.then_some(file))
}

fn failed(error: io::Error) -> StoreError {
    StoreError::from_io("keep", error)
}
