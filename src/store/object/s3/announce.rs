//! What the journal hears of files that waited for their rename: one record, when and where the file appears.
//!
//! The record of the bucket goes only after the event is on the disk, so that a crash in between makes the
//! event once more, with the same id, and never none.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{S3, held::At};
use crate::{
    access::StoreKey,
    observe::record::{Kind, Outcome, Place, Record},
    store::{Author, ErrorKind, Result, StoreError},
};

/// What a record needs that the store does not know by itself, in the JSON of the bucket's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Origin {
    user: String,
    session: String,
    /// As the user sees it, with the temporary name.
    path: String,
    mount: String,
    backend: String,
    /// Key inside the backend, with the temporary name.
    key: String,
}

/// A file that appears.
pub(super) struct Appears<'file> {
    pub(super) origin: &'file Origin,
    pub(super) at: At,
    /// Last segment of the key where it appears.
    pub(super) name: &'file str,
    pub(super) nonce: &'file str,
    pub(super) bytes: u64,
    pub(super) digests: &'file [(String, String)],
}

impl Origin {
    pub(super) fn new(author: &Author, key: &StoreKey) -> Self {
        Self {
            user: author.user.clone(),
            session: author.session.clone(),
            path: author.path.clone(),
            mount: author.mount.clone(),
            backend: key.backend().to_string(),
            key: key.as_str().to_owned(),
        }
    }
}

impl S3 {
    /// Keeps the record of a file that is complete now.
    ///
    /// # Errors
    /// Its event could not be put on the disk.
    pub(super) async fn announce(&self, file: Appears<'_>) -> Result<()> {
        let Some(journal) = self.journal.as_ref().filter(|journal| journal.is_read()) else {
            return Ok(());
        };
        let origin = file.origin;
        let mut record = Record::new(Kind::Upload, Outcome::Success);
        record.id = id(file.nonce, file.at);
        record.session = Some(origin.session.clone());
        record.user = Some(origin.user.clone());
        record.verb = Some(match file.at {
            At::Temporary => "STOR",
            At::Final => "RNTO",
        });
        record.path = Some(beside(&origin.path, file.name));
        record.place = Some(Place {
            mount: origin.mount.clone(),
            backend: origin.backend.clone(),
            key: beside(&origin.key, file.name),
        });
        record.bytes = Some(file.bytes);
        let sha256 = file.digests.iter().find(|(name, _)| name == "sha256");
        record.sha256 = sha256.map(|(_, digest)| digest.clone());
        journal
            .keep(record)
            .await
            .map_err(|error| StoreError::with_source(ErrorKind::Unavailable, "commit", error))
    }
}

/// The same for the same appearance, whoever tells of it.
fn id(nonce: &str, at: At) -> String {
    let mut digits = hex::encode(Sha256::digest(format!("{nonce} {at:?}")));
    digits.truncate(32);
    digits
}

/// `path` with another last segment.
fn beside(path: &str, name: &str) -> String {
    match path.rsplit_once('/') {
        Some((directory, _)) => format!("{directory}/{name}"),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appearances_have_ids_of_their_own_that_stay() {
        assert_eq!(id("a", At::Final), id("a", At::Final));
        assert_ne!(id("a", At::Final), id("a", At::Temporary));
        assert_ne!(id("a", At::Final), id("b", At::Final));
        assert_eq!(id("a", At::Final).len(), 32);
        assert_eq!(beside("/in/a.tmp", "a"), "/in/a");
        assert_eq!(beside("/a.tmp", "a"), "/a");
        assert_eq!(beside("a.tmp", "a"), "a");
    }
}
