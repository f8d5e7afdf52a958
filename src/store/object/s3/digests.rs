//! Digests that are computed while bytes pass and kept with the object.
//!
//! A single PUT carries them as user metadata. The metadata of a multipart upload is fixed before its
//! first byte, so there they become tags, where the store has tags; each with the `ETag` of the object
//! that it is of, so that it is never taken for that of another.

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
    store::{Hasher, Result},
};

/// Bytes hashed between two looks at other tasks: well below a millisecond of work.
const SLICE_BYTES: usize = 64 << 10;
/// Before the name of a checksum in the key of its tag.
const TAG: &str = "causeway-";

/// Digests of content that passes in order.
pub(super) struct Digests(Vec<(Checksum, Hasher)>);

impl Digests {
    pub(super) fn new(checksums: &[Checksum]) -> Self {
        let hashers = checksums.iter();
        Self(
            hashers
                .map(|checksum| (*checksum, Hasher::new(*checksum)))
                .collect(),
        )
    }

    pub(super) async fn update(&mut self, chunks: &[Bytes]) {
        if self.0.is_empty() {
            return;
        }
        for slice in chunks.iter().flat_map(|chunk| chunk.chunks(SLICE_BYTES)) {
            for (_, hasher) in &mut self.0 {
                hasher.update(slice);
            }
            tokio::task::yield_now().await;
        }
    }

    pub(super) fn into_metadata(self) -> impl Iterator<Item = (String, String)> {
        self.0
            .into_iter()
            .map(|(checksum, hasher)| (checksum.name().to_owned(), hasher.finish()))
    }
}

impl S3 {
    /// Keeps the digests of a multipart object, if they can be kept. The file is whole without them, so
    /// a failure is only logged.
    pub(super) async fn keep_digests(&self, path: &str, version: &str, digests: Digests) {
        if !self.switches().object_tags || digests.0.is_empty() {
            return;
        }
        let tags = digests.into_metadata().map(|(name, digest)| {
            Tag::builder()
                .key(format!("{TAG}{name}"))
                .value(format!("{} {digest}", version.trim_matches('"')))
                .build()
        });
        let tagging = tags
            .collect::<std::result::Result<Vec<_>, _>>()
            .and_then(|tags| Tagging::builder().set_tag_set(Some(tags)).build());
        let Ok(tagging) = tagging else { return };
        let request = self
            .client
            .put_object_tagging()
            .bucket(&self.bucket)
            .key(path)
            .tagging(tagging)
            .customize()
            .config_override(self.short_patience());
        if let Err(error) = request.send().await {
            let error = failed("tag", error);
            let error = &error as &dyn std::error::Error;
            tracing::warn!(key = ?path, error, "the digest of an upload could not be kept");
        }
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

    /// Puts digests from tags into the attributes of a copy, whose `ETag` is another one.
    pub(super) async fn carry_digests(
        &self,
        path: &str,
        head: &HeadObjectOutput,
        attributes: &mut Attributes,
    ) {
        if !attributes.metadata.contains_key(NONCE) {
            return;
        }
        // Without them the copy is as good: HASH reads it.
        let tags = self.tagged_digests(path, head).await.unwrap_or_default();
        attributes.metadata.extend(tags);
    }

    async fn tagged_digests(
        &self,
        path: &str,
        head: &HeadObjectOutput,
    ) -> Result<Vec<(String, String)>> {
        let version = head.e_tag().unwrap_or_default().trim_matches('"');
        // Only multipart objects have tags of ours, and their ETags a dash.
        if !self.switches().object_tags || !version.contains('-') {
            return Ok(Vec::new());
        }
        let request = self
            .client
            .get_object_tagging()
            .bucket(&self.bucket)
            .key(path)
            .customize()
            .config_override(self.short_patience());
        let found = request.send().await.map_err(|error| failed("tag", error))?;
        Ok(found
            .tag_set()
            .iter()
            .filter_map(|tag| {
                let name = tag.key().strip_prefix(TAG)?;
                let (of, digest) = tag.value().split_once(' ')?;
                (of == version).then(|| (name.to_owned(), digest.to_owned()))
            })
            .collect())
    }
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
