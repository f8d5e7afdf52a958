//! Uploads to a bucket: a single PUT below one part, a multipart upload above.

use std::collections::HashMap;

use async_trait::async_trait;
use bytes::Bytes;
use opendal::{
    Buffer, Metadata, Writer,
    options::{ReadOptions, WriteOptions},
};

use super::{
    super::{Base, ErrorKind, Kind, Result, Stat, StoreError, Upload},
    ObjectStore, user_metadata,
};
use crate::access::StoreKey;

/// Least size of a part that is not the last (S3).
pub(super) const LEAST_PART_BYTES: usize = 5 << 20;

/// Most bytes of one part (S3).
const MOST_PART_BYTES: usize = 5 << 30;

/// Most parts of one upload (S3).
const MOST_PARTS: usize = 10_000;

/// Parts before their size doubles: 10,000 parts of a first size of 8 MiB hold 8 TiB, more than an
/// object may have, and no upload below 8 GB holds more memory than its configuration says.
const PARTS_PER_SIZE: usize = 1000;

/// Bytes that one `UploadPartCopy` takes: it must end within one try.
const COPY_BYTES: u64 = 512 << 20;

/// User metadata that tells our own commit from somebody else's object of the same size.
const NONCE: &str = "causeway-upload";

/// An object whose first bytes an upload begins with.
pub(super) struct Source {
    pub(super) path: String,
    pub(super) metadata: Metadata,
    pub(super) bytes: u64,
}

/// An upload under way.
pub(super) struct ObjectUpload {
    store: ObjectStore,
    path: String,
    writer: Writer,
    nonce: String,
    /// The version that must still stand there at commit.
    version: Option<String>,
    parts: usize,
    size: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// A part failed: the upload can only be aborted.
    Broken,
    /// Committed or aborted.
    Ended,
}

impl ObjectUpload {
    pub(super) async fn begin(store: &ObjectStore, key: &StoreKey, base: Base) -> Result<Self> {
        let path = store.keys().file("write", key)?;
        let marker = store.keys().directory("write", key)?;
        let present = async {
            match base {
                Base::Empty => Ok(None),
                Base::Present { .. } => store.head("write", &path).await,
            }
        };
        let ((), (), present) = tokio::try_join!(
            store.refuse_directory("write", &marker),
            store.require_parent("write", &path),
            present,
        )?;
        let Base::Present { bytes, version } = base else {
            return Self::open(store, path, None, None).await;
        };
        let Some(metadata) = present else {
            return Err(StoreError::new(ErrorKind::NotFound, "write"));
        };
        if version.is_some() && metadata.etag() != version.as_deref() {
            return Err(StoreError::new(ErrorKind::Changed, "write"));
        }
        if bytes > metadata.content_length() {
            return Err(StoreError::new(ErrorKind::OffsetBeyondEnd, "write"));
        }
        let source = Source {
            path: path.clone(),
            metadata,
            bytes,
        };
        Self::open(store, path, Some(source), version).await
    }

    /// Opens a writer on `path`, puts the source's bytes into it and commits only over `version`.
    ///
    /// The version is looked at right before the commit. Besides, the store itself is given it as a
    /// condition where the upload is certain to be a multipart one. Not for a single PUT: Ceph 16
    /// compares the quoted `ETag` of `If-Match` with the bare one and refuses every such PUT; of
    /// `CompleteMultipartUpload` it ignores the condition. What remains on such stores is the time
    /// between that look and the end of the commit; the bytes themselves are never mixed, since the
    /// copied ones are pinned to the version.
    ///
    /// No check of names: callers have made theirs.
    pub(super) async fn open(
        store: &ObjectStore,
        path: String,
        source: Option<Source>,
        version: Option<String>,
    ) -> Result<Self> {
        let nonce = format!("{:032x}", rand::random::<u128>());
        let multipart = source
            .as_ref()
            .is_some_and(|source| source.bytes >= LEAST_PART_BYTES as u64);
        let options = WriteOptions {
            concurrent: store.shared.parts_in_flight,
            if_match: version.clone().filter(|_| multipart),
            ..options(source.as_ref().map(|source| &source.metadata), &nonce)
        };
        let writer = store.shared.moves.writer_options(&path, options).await;
        let writer = writer.map_err(|error| StoreError::from_opendal("write", error))?;
        let mut upload = Self {
            store: store.clone(),
            path,
            writer,
            nonce,
            version,
            parts: 0,
            size: 0,
            state: State::Open,
        };
        if let Some(source) = source
            && let Err(error) = upload.copy_from(&source).await
        {
            upload.give_up().await;
            return Err(error);
        }
        Ok(upload)
    }

    /// Begins with bytes of an object, copied inside the store; OpenDAL itself reads and rewrites
    /// what is too small for a part.
    async fn copy_from(&mut self, source: &Source) -> Result<()> {
        while self.size < source.bytes {
            let end = source.bytes.min(self.size + COPY_BYTES);
            let options = ReadOptions {
                range: (self.size..end).into(),
                if_match: source.metadata.etag().map(str::to_owned),
                ..ReadOptions::default()
            };
            self.writer
                .copy_from_options(&source.path, options)
                .await
                .map_err(|error| StoreError::from_opendal("write", error))?;
            self.size = end;
            self.parts += 1;
        }
        Ok(())
    }

    /// Refuses to replace what somebody else put there meanwhile.
    async fn require_version(&self) -> Result<()> {
        if self.version.is_none() {
            return Ok(());
        }
        let present = self.store.head("commit", &self.path).await?;
        if present.as_ref().and_then(Metadata::etag) == self.version.as_deref() {
            return Ok(());
        }
        Err(StoreError::new(ErrorKind::Changed, "commit"))
    }

    /// Whether the object that stands there now is this upload's.
    async fn landed(&self) -> Option<Stat> {
        let present = self.store.head("commit", &self.path).await.ok()??;
        let ours = present.user_metadata()?.get(NONCE) == Some(self.nonce.as_str());
        (ours && present.content_length() == self.size).then(|| super::file_stat(&present))
    }

    /// Ends the multipart upload; `true` if the store knew of none any more.
    async fn give_up(&mut self) -> bool {
        self.state = State::Ended;
        match self.writer.abort().await {
            Ok(()) => false,
            Err(error) if error.kind() == opendal::ErrorKind::NotFound => true,
            Err(error) => {
                tracing::error!(
                    key = ?self.path,
                    error = ?error.to_string(),
                    "cannot abort an upload; its parts stay until the bucket's life-cycle rule ends them"
                );
                false
            }
        }
    }
}

#[async_trait]
impl Upload for ObjectUpload {
    fn part_bytes(&self) -> usize {
        part_bytes(self.store.shared.part_bytes, self.parts)
    }

    async fn write(&mut self, part: Vec<Bytes>) -> Result<()> {
        if self.state != State::Open {
            return Err(StoreError::new(ErrorKind::Internal, "write"));
        }
        if self.parts >= MOST_PARTS {
            self.state = State::Broken;
            return Err(StoreError::new(ErrorKind::StorageFull, "write"));
        }
        // Not contiguous and not copied: the chunks go to the socket as they came.
        let part = Buffer::from(part);
        let bytes = part.len() as u64;
        if let Err(error) = self.writer.write(part).await {
            self.state = State::Broken;
            return Err(StoreError::from_opendal("write", error));
        }
        self.parts += 1;
        self.size += bytes;
        Ok(())
    }

    async fn commit(mut self: Box<Self>) -> Result<Stat> {
        if self.state != State::Open {
            self.give_up().await;
            return Err(StoreError::new(ErrorKind::Internal, "commit"));
        }
        if let Err(error) = self.require_version().await {
            self.give_up().await;
            return Err(error);
        }
        let error = match self.writer.close().await {
            Ok(metadata) => {
                self.state = State::Ended;
                let version = metadata.etag().filter(|version| !version.is_empty());
                let known = Stat {
                    kind: Kind::File,
                    size: self.size,
                    // Not in the answer; asking for it would cost every upload a request.
                    modified: None,
                    version: version.map(str::to_owned),
                };
                if known.version.is_some() {
                    return Ok(known);
                }
                // Ceph 16 completes a multipart upload with an empty ETag.
                return Ok(self.landed().await.unwrap_or(known));
            }
            Err(error) => error,
        };
        // The store may have committed and only its answer been lost: the retry then hears that there
        // is no such upload, or that the version changed (because we changed it).
        let mut landed = self.landed().await;
        if landed.is_none() && self.give_up().await {
            landed = self.landed().await;
        }
        self.state = State::Ended;
        match landed {
            Some(stat) => {
                tracing::warn!(key = ?self.path, error = ?error.to_string(), "an upload was committed although the store reported an error");
                Ok(stat)
            }
            None => Err(StoreError::from_opendal("commit", error)),
        }
    }

    async fn abort(mut self: Box<Self>) {
        self.give_up().await;
    }
}

impl Drop for ObjectUpload {
    fn drop(&mut self) {
        if self.state != State::Ended {
            tracing::error!(key = ?self.path, "an upload was dropped; its parts stay until the bucket's life-cycle rule ends them");
        }
    }
}

/// What a new object is given: its nonce, and what the object it replaces in part had. A multipart
/// upload carries nothing over by itself.
fn options(old: Option<&Metadata>, nonce: &str) -> WriteOptions {
    let mut user = old.map_or_else(HashMap::new, user_metadata);
    user.insert(NONCE.to_owned(), nonce.to_owned());
    let kept = |value: Option<&str>| value.map(str::to_owned);
    WriteOptions {
        user_metadata: Some(user),
        content_type: kept(
            old.and_then(Metadata::content_type)
                .or(Some("application/octet-stream")),
        ),
        cache_control: kept(old.and_then(Metadata::cache_control)),
        content_disposition: kept(old.and_then(Metadata::content_disposition)),
        content_encoding: kept(old.and_then(Metadata::content_encoding)),
        ..WriteOptions::default()
    }
}

/// Bytes of the part after `parts` others.
fn part_bytes(first: usize, parts: usize) -> usize {
    let doublings = u32::try_from(parts / PARTS_PER_SIZE).unwrap_or(u32::MAX);
    first
        .saturating_mul(2_usize.saturating_pow(doublings))
        .min(MOST_PART_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_parts_hold_the_largest_object() {
        let total: u64 = (0..MOST_PARTS)
            .map(|parts| part_bytes(8 << 20, parts) as u64)
            .sum();
        assert!(total >= 5 << 40);
        assert_eq!(part_bytes(8 << 20, 999), 8 << 20);
        assert_eq!(part_bytes(8 << 20, 1000), 16 << 20);
    }
}
