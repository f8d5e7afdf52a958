//! [`Claim`]: one upload of a name at a time, where the configuration wants it.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use super::S3;
use crate::{
    config::ConcurrentUploads,
    store::{ErrorKind, Result, StoreError},
};

/// Keys that this process writes. Bounded by the number of uploads.
pub(super) type Names = Arc<Mutex<HashSet<String>>>;

/// The right to write one key.
#[derive(Debug)]
pub(super) struct Claim {
    names: Names,
    path: String,
}

impl S3 {
    /// Names `path`; [`ErrorKind::InUse`] if somebody has it and the configuration does not let two
    /// uploads run side by side.
    pub(super) fn claim(&self, path: &str) -> Result<Option<Claim>> {
        if self.settings.concurrent_uploads == ConcurrentUploads::LastWins {
            return Ok(None);
        }
        let names = Arc::clone(&self.names);
        // Held for one insertion; the set is whole whatever panics elsewhere.
        let new = names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(path.to_owned());
        if !new {
            return Err(StoreError::new(ErrorKind::InUse, "write"));
        }
        Ok(Some(Claim {
            names,
            path: path.to_owned(),
        }))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.path);
    }
}
