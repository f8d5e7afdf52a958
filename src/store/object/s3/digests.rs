//! Digests that are computed while bytes pass and kept with the object.
//!
//! A single PUT carries them as user metadata. The metadata of a multipart upload is fixed before its
//! first byte, so there they become tags, where the store has tags; each with the `ETag` of the object
//! that it is of, so that it is never taken for that of another.

use std::sync::Arc;

use aws_sdk_s3::{
    operation::head_object::HeadObjectOutput,
    types::{Tag, Tagging},
};
use bytes::Bytes;

use super::{
    S3,
    attributes::{Attributes, NONCE},
    error::failed,
    upload::size_of,
};
use crate::{
    config::Checksum,
    store::{ErrorKind, Hasher, Result, StoreError, transfer::Progress},
};

/// Bytes hashed between two looks at other tasks: well below a millisecond of work.
const SLICE_BYTES: usize = 64 << 10;
/// Before the name of a checksum in the key of its tag.
const TAG: &str = "causeway-";

/// Digests of content that passes in order.
pub(super) struct Digests {
    computed: Vec<(Checksum, Hasher)>,
    /// Who computes SHA-256 of the same bytes anyway.
    sha256: Option<Arc<Progress>>,
}

impl Digests {
    pub(super) fn new(checksums: &[Checksum]) -> Self {
        let hashers = checksums.iter();
        Self {
            computed: hashers
                .map(|checksum| (*checksum, Hasher::new(*checksum)))
                .collect(),
            sha256: None,
        }
    }

    /// Takes SHA-256, if it is wanted, from `progress` in the end instead of computing it.
    pub(super) fn leave_sha256_to(&mut self, progress: Arc<Progress>) {
        let wanted = self.computed.len();
        self.computed
            .retain(|(checksum, _)| *checksum != Checksum::Sha256);
        if self.computed.len() < wanted {
            self.sha256 = Some(progress);
        }
    }

    pub(super) async fn update(&mut self, chunks: &[Bytes]) {
        if self.computed.is_empty() {
            return;
        }
        for slice in chunks.iter().flat_map(|chunk| chunk.chunks(SLICE_BYTES)) {
            for (_, hasher) in &mut self.computed {
                hasher.update(slice);
            }
            tokio::task::yield_now().await;
        }
    }

    pub(super) fn into_metadata(self) -> impl Iterator<Item = (String, String)> {
        let sha256 = self.sha256.and_then(|progress| progress.sha256());
        self.computed
            .into_iter()
            .map(|(checksum, hasher)| (checksum, hasher.finish()))
            .chain(sha256.map(|digest| (Checksum::Sha256, digest)))
            .map(|(checksum, digest)| (checksum.name().to_owned(), digest))
    }
}

impl S3 {
    /// Keeps the digests of a multipart object, if they can be kept. The file is whole without them, so
    /// a failure is only logged.
    pub(super) async fn keep_digests(
        &self,
        path: &str,
        version: &str,
        digests: impl IntoIterator<Item = (String, String)>,
    ) {
        let mut digests = digests.into_iter().peekable();
        if !self.switches().object_tags || digests.peek().is_none() {
            return;
        }
        let tags = digests.map(|(name, digest)| {
            Tag::builder()
                .key(format!("{TAG}{name}"))
                .value(format!("{} {digest}", version.trim_matches('"')))
                .build()
        });
        let Ok(tags) = tags.collect::<std::result::Result<Vec<_>, _>>() else {
            return;
        };
        if let Err(error) = self.put_tags(path, tags).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(key = ?path, error, "the digest of an upload could not be kept");
        }
    }

    /// Gives an object the tags that it was to be made with where the store did not: Ceph 16 takes them
    /// with a PUT, but not with a copy or a multipart upload. The file is whole without them, so a failure
    /// is only logged.
    pub(super) async fn require_tags(&self, path: &str, tags: Vec<Tag>) {
        if tags.is_empty() {
            return;
        }
        // An answer that cannot be read is Ceph's, too: its copy leaves a set of tags without a document.
        if let Ok(there) = self.tags("tag", path).await
            && tags.iter().all(|tag| there.contains(tag))
        {
            return;
        }
        if let Err(error) = self.put_tags(path, tags).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(key = ?path, error, "the tags of an object may not have been carried over");
        }
    }

    async fn put_tags(&self, path: &str, tags: Vec<Tag>) -> Result<()> {
        let tagging = Tagging::builder().set_tag_set(Some(tags)).build();
        let tagging =
            tagging.map_err(|error| StoreError::with_source(ErrorKind::Internal, "tag", error))?;
        let request = self
            .client
            .put_object_tagging()
            .bucket(&self.bucket)
            .key(path)
            .tagging(tagging)
            .customize()
            .config_override(self.short_patience());
        let done = request.send().await;
        done.map(drop).map_err(|error| failed("tag", error))
    }

    /// Size and digest of an object that carries one, in its metadata or in a tag.
    pub(in super::super) async fn kept(
        &self,
        path: &str,
        checksum: Checksum,
    ) -> Result<Option<(u64, String)>> {
        let Some(head) = self.head("checksum", path).await? else {
            return Ok(None);
        };
        // Only what we wrote: others may mean something else by the name.
        let metadata = head.metadata().filter(|kept| kept.contains_key(NONCE));
        let Some(metadata) = metadata else {
            return Ok(None);
        };
        let digest = match metadata.get(checksum.name()) {
            Some(digest) => Some(digest.clone()),
            None => self
                .tagged_digests(path, &head)
                .await?
                .into_iter()
                .find_map(|(name, digest)| (name == checksum.name()).then_some(digest)),
        };
        let digest = digest.filter(|digest| is_digest(checksum, digest));
        Ok(digest.map(|digest| (size_of(&head), digest)))
    }

    /// Puts the tags of an object into the attributes of what is made of it: those that others set as
    /// they are, digests of ours as metadata, since the `ETag` will be another one.
    ///
    /// # Errors
    /// The store does not say now. Where it never will, what is made has no tags.
    pub(super) async fn carry_tags(
        &self,
        operation: &'static str,
        path: &str,
        head: &HeadObjectOutput,
        attributes: &mut Attributes,
    ) -> Result<()> {
        if !self.switches().object_tags {
            return Ok(());
        }
        let tags = match self.tags(operation, path).await {
            Ok(tags) => tags,
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::PermissionDenied | ErrorKind::Unsupported
                ) =>
            {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(key = ?path, error, "the tags of an object cannot be read and are not carried over");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if attributes.metadata.contains_key(NONCE) {
            attributes.metadata.extend(digests_of(&tags, head));
        }
        let others = tags.into_iter();
        attributes.tag(others.filter(|tag| !tag.key().starts_with(TAG)).collect());
        Ok(())
    }

    async fn tagged_digests(
        &self,
        path: &str,
        head: &HeadObjectOutput,
    ) -> Result<Vec<(String, String)>> {
        // Only multipart objects have tags of ours, and their ETags a dash.
        if !self.switches().object_tags || !head.e_tag().is_some_and(|tag| tag.contains('-')) {
            return Ok(Vec::new());
        }
        Ok(digests_of(&self.tags("tag", path).await?, head))
    }

    async fn tags(&self, operation: &'static str, path: &str) -> Result<Vec<Tag>> {
        let request = self
            .client
            .get_object_tagging()
            .bucket(&self.bucket)
            .key(path)
            .customize()
            .config_override(self.short_patience());
        let found = request.send().await;
        let found = found.map_err(|error| failed(operation, error))?;
        Ok(found.tag_set)
    }
}

/// Digests in tags of ours that are of this very object.
fn digests_of(tags: &[Tag], head: &HeadObjectOutput) -> Vec<(String, String)> {
    let version = head.e_tag().unwrap_or_default().trim_matches('"');
    tags.iter()
        .filter_map(|tag| {
            let name = tag.key().strip_prefix(TAG)?;
            let (of, digest) = tag.value().split_once(' ')?;
            (of == version).then(|| (name.to_owned(), digest.to_owned()))
        })
        .collect()
}

/// Whether a text that anybody may have written has the form of a digest.
fn is_digest(checksum: Checksum, text: &str) -> bool {
    let digits = match checksum {
        Checksum::Crc32 => 8,
        Checksum::Md5 => 32,
        Checksum::Sha1 => 40,
        Checksum::Sha256 => 64,
        Checksum::Sha512 => 128,
    };
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "a" is known; what `progress` has seen is "b", so that one tells who computed.
    #[tokio::test]
    async fn sha256_is_left_to_who_computes_it_anyway() {
        let digest = |checksum, text: &[u8]| {
            let mut hasher = Hasher::new(checksum);
            hasher.update(text);
            (checksum.name().to_owned(), hasher.finish())
        };
        let both = [Checksum::Sha256, Checksum::Crc32];
        for (wanted, hashes, expected) in [
            (
                &both[..],
                true,
                vec![digest(both[1], b"a"), digest(both[0], b"b")],
            ),
            (
                &both[..],
                false,
                vec![digest(both[0], b"a"), digest(both[1], b"a")],
            ),
            (&both[1..], true, vec![digest(both[1], b"a")]),
            (&[], true, vec![]),
        ] {
            let mut digests = Digests::new(wanted);
            if hashes {
                let progress = Progress::new(true);
                progress.moved(b"b");
                digests.leave_sha256_to(Arc::new(progress));
            }
            digests.update(&[Bytes::from_static(b"a")]).await;
            assert_eq!(digests.into_metadata().collect::<Vec<_>>(), expected);
        }
    }
}
