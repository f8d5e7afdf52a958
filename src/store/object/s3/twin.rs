//! [`Twin`]: the second multipart upload of a file that is to be renamed, under the name to be expected.
//!
//! An upload to a temporary name sends every part twice: to its own name and to the final one. Whichever
//! name the file gets, it gets by one `CompleteMultipartUpload`; the other upload is ended. What goes wrong
//! with the twin costs the twin only: the file is then committed under the name that the client gave it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;

use super::{S3, announce::Origin, attributes::Attributes};
use crate::{
    access::StoreKey,
    config::Deferred,
    store::{NewFile, Total, object::ObjectStore},
};

/// The second upload of one file.
pub(super) struct Twin {
    /// The key to be expected.
    pub(super) path: String,
    pub(super) id: Option<String>,
    pub(super) attributes: Attributes,
    pub(super) origin: Option<Origin>,
    pub(super) room: Room,
    /// A part did not arrive, or there was no room for it.
    broken: Arc<AtomicBool>,
}

/// Where the copy of one part goes.
pub(super) struct TwinPart {
    path: String,
    id: String,
    broken: Arc<AtomicBool>,
}

impl Twin {
    /// The twin of a new file at `key`, if its name is a temporary one and there is room for one more.
    pub(super) fn of(store: &ObjectStore, s3: &S3, key: &StoreKey, file: &NewFile) -> Option<Self> {
        let name = key.as_str().rsplit('/').next()?;
        let name = s3.settings.deferred.final_name(name)?;
        let path = store
            .keys()
            .file("write", &key.parent()?.child(name))
            .ok()?;
        let room = s3.waiting.room(&s3.settings.deferred)?;
        Some(Self {
            origin: file.author.as_ref().map(|author| Origin::new(author, key)),
            attributes: Attributes::new(&s3.settings, &path, file.author.as_ref()),
            path,
            id: None,
            room,
            broken: Arc::default(),
        })
    }

    /// Where a part of so many bytes goes, while all went well.
    pub(super) fn part(&mut self, bytes: u64, bounds: &Deferred) -> Option<TwinPart> {
        let id = self.id.clone().filter(|_| self.is_whole())?;
        if !self.room.grow(bytes, bounds) {
            tracing::info!(key = ?self.path, "an upload is too large to wait for its rename");
            self.broken.store(true, Ordering::Relaxed);
            return None;
        }
        Some(TwinPart {
            path: self.path.clone(),
            id,
            broken: Arc::clone(&self.broken),
        })
    }

    /// Whether every part arrived, once none is on its way.
    pub(super) fn is_whole(&self) -> bool {
        !self.broken.load(Ordering::Relaxed)
    }
}

impl TwinPart {
    pub(super) async fn send(self, s3: &S3, number: i32, chunks: Vec<Bytes>) {
        if let Err(error) = s3.send_part(&self.path, &self.id, number, chunks).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(key = ?self.path, error, "an upload will not wait for its rename");
            self.broken.store(true, Ordering::Relaxed);
        }
    }
}

/// What of this process waits or is about to, under two bounds.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    uploads: usize,
    bytes: u64,
    /// Bytes by the name of the record: what waits.
    held: HashMap<String, u64>,
}

/// The place of one upload among those that wait; given back when dropped.
#[derive(Debug)]
pub(super) struct Room {
    waiting: Arc<Waiting>,
    bytes: u64,
    uploads: usize,
}

impl Waiting {
    fn room(self: &Arc<Self>, bounds: &Deferred) -> Option<Room> {
        let mut state = self.state();
        if state.uploads >= bounds.uploads {
            return None;
        }
        state.uploads += 1;
        Some(Room {
            waiting: Arc::clone(self),
            bytes: 0,
            uploads: 1,
        })
    }

    /// What waited under a record does so no more.
    pub(super) fn left(&self, record: &str) {
        let mut state = self.state();
        if let Some(bytes) = state.held.remove(record) {
            state.uploads = state.uploads.saturating_sub(1);
            state.bytes = state.bytes.saturating_sub(bytes);
        }
    }

    /// The records of this process.
    pub(super) fn records(&self) -> Vec<String> {
        self.state().held.keys().cloned().collect()
    }

    /// What waits.
    pub(super) fn total(&self) -> Total {
        let state = self.state();
        Total {
            bytes: state.held.values().sum(),
            files: state.held.len() as u64,
        }
    }

    /// Held for a few moves; numbers stay whole whatever panics elsewhere.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    fn grow(&mut self, bytes: u64, bounds: &Deferred) -> bool {
        let mut state = self.waiting.state();
        let sum = state.bytes.saturating_add(bytes);
        if sum > bounds.bytes {
            return false;
        }
        state.bytes = sum;
        self.bytes += bytes;
        true
    }

    /// The upload waits from now on under this record, until [`Waiting::left`].
    pub(super) fn keep(mut self, record: String) {
        let bytes = std::mem::take(&mut self.bytes);
        self.uploads = 0;
        self.waiting.state().held.insert(record, bytes);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut state = self.waiting.state();
        state.uploads = state.uploads.saturating_sub(self.uploads);
        state.bytes = state.bytes.saturating_sub(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_over_uploads_under_way_and_those_that_wait() {
        let bounds = Deferred {
            uploads: 2,
            bytes: 10,
            ..Deferred::default()
        };
        let waiting = Arc::new(Waiting::default());
        let mut one = waiting.room(&bounds).unwrap();
        let mut two = waiting.room(&bounds).unwrap();
        assert!(waiting.room(&bounds).is_none());
        assert!(one.grow(6, &bounds) && !two.grow(5, &bounds) && two.grow(4, &bounds));
        one.keep("one".to_owned());
        assert!(waiting.room(&bounds).is_none());
        let total = |files, bytes| Total { bytes, files };
        assert_eq!(waiting.total(), total(1, 6));
        drop(two);
        let mut two = waiting.room(&bounds).unwrap();
        assert!(!two.grow(5, &bounds));
        waiting.left("one");
        waiting.left("one");
        assert!(two.grow(10, &bounds));
        assert_eq!(waiting.total(), total(0, 0));
        assert!(waiting.records().is_empty());
    }
}
