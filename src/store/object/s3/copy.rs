//! Bytes that move inside the store: renames, and the kept bytes of appends.

use std::sync::Arc;

use aws_sdk_s3::{
    config::retry::RetryConfig, operation::head_object::HeadObjectOutput, types::CompletedPart,
};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{
    super::transport::{RETRIES, RETRY_DELAY},
    LEAST_PART_BYTES, MOST_PART_BYTES, S3,
    attributes::Attributes,
    error::{failed, may_be_carried_out},
    lost::FIRST_PAUSE,
    upload::{S3Upload, size_of},
    within,
};
use crate::store::{ErrorKind, Result, StoreError, Upload, object::ObjectStore};

/// Bytes that one `UploadPartCopy` takes if the object is not larger than [`MOST_COPIES`] of them.
const COPY_BYTES: u64 = 512 << 20;
/// Parts that copies may take of the ten thousand of an upload: those of 5 TiB are larger.
const MOST_COPIES: u64 = 1_000;
/// Copies of one object at once.
const COPIES_AT_ONCE: usize = 8;
/// Up to here one request copies. S3 would take 5 GiB, but one request gives no sign of life for
/// minutes; above, parts are copied side by side.
const ONE_REQUEST: u64 = 1 << 30;

/// Bytes of an object, the last one excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: u64,
    pub(super) end: u64,
}

/// How the first `bytes` bytes of an object go into an upload: the ranges that are copied as parts, and
/// the rest that must be read because it is too small. With `part`, all parts but the last must have
/// that size.
pub(super) fn ranges(bytes: u64, part: Option<u64>) -> (Vec<Range>, Range) {
    let least = LEAST_PART_BYTES as u64;
    let (count, copied) = match part {
        Some(part) => (bytes / part, bytes / part * part),
        None if bytes < least => (0, 0),
        None => {
            let size = COPY_BYTES
                .max(bytes.div_ceil(MOST_COPIES))
                .min(MOST_PART_BYTES as u64);
            (bytes.div_ceil(size), bytes)
        }
    };
    // Equal but for rounding, so that none is below the least size.
    let edge = |index: u64| copied / count.max(1) * index + (copied % count.max(1)).min(index);
    let ranges = (0..count)
        .map(|index| Range {
            start: edge(index),
            end: edge(index + 1),
        })
        .collect();
    let rest = Range {
        start: copied,
        end: bytes,
    };
    (ranges, rest)
}

/// Copies `ranges` of `source` as the first parts of an upload; the source must stay `version`.
pub(super) async fn parts(
    s3: Arc<S3>,
    path: String,
    id: String,
    source: String,
    version: Option<String>,
    ranges: Vec<Range>,
) -> Result<Vec<CompletedPart>> {
    stream::iter((1..).zip(ranges))
        .map(|(number, range)| s3.copy_part(&path, &id, number, &source, version.clone(), range))
        .buffer_unordered(COPIES_AT_ONCE)
        .try_collect()
        .await
}

/// Renames an object: copy, verify, delete. Not atomic; at every moment at least one name has all bytes.
///
/// Metadata, content type and storage class are kept, the source is deleted only if it is still what
/// was copied. `exclusive`: over nothing. `CopyObject` takes a condition for that on few stores, so such a
/// copy is made in parts, or through us where it is smaller than one, and committed like an upload.
pub(in super::super) async fn rename(
    store: &ObjectStore,
    s3: &Arc<S3>,
    source: &str,
    target: &str,
    exclusive: bool,
) -> Result<()> {
    let changed = || StoreError::new(ErrorKind::Changed, "rename");
    let head = s3.head("rename", source).await?.ok_or_else(changed)?;
    if size_of(&head) > s3.settings.rename_bytes {
        return Err(StoreError::new(ErrorKind::TooLarge, "rename"));
    }
    let mut copied = false;
    if size_of(&head) <= ONE_REQUEST && !exclusive {
        let mut attributes = Attributes::of(&head);
        s3.carry_tags("rename", source, &head, &mut attributes)
            .await?;
        let tried = s3.copy_object(source, target, head.e_tag(), attributes);
        copied = match tried.await {
            Ok(()) => true,
            // Ceph 16 copies an encrypted object in parts alone.
            Err(error) if error.kind() == ErrorKind::Unsupported => false,
            Err(error) => return Err(error),
        };
    }
    if !copied {
        let upload = S3Upload::copy(store, s3, target.to_owned(), source, &head, exclusive).await?;
        Box::new(upload).commit(Vec::new()).await?;
    }
    match s3.head("rename", target).await? {
        Some(copied) if size_of(&copied) == size_of(&head) => {}
        _ => return Err(changed()),
    }
    remove_source(store, s3, source, &head).await
}

/// Deletes the source if it is still what was copied.
///
/// The look before covers stores that ignore the condition of a delete (Ceph 16 does). Each try has its own:
/// when the answer to the first was lost, what stands there now may be a new file of somebody else.
async fn remove_source(
    store: &ObjectStore,
    s3: &S3,
    source: &str,
    copied: &HeadObjectOutput,
) -> Result<()> {
    store.keep_parent("rename", source).await?;
    let (mut doubtful, mut pause, mut tries) = (false, FIRST_PAUSE, RETRIES);
    loop {
        let Some(present) = s3.head("rename", source).await? else {
            return Ok(());
        };
        // Equal bytes have equal tags.
        if present.e_tag() != copied.e_tag() || present.last_modified() != copied.last_modified() {
            if doubtful {
                return Ok(());
            }
            return Err(StoreError::new(ErrorKind::Changed, "rename"));
        }
        let version = copied.e_tag().filter(|_| s3.switches().delete_if_match);
        let request = s3
            .client
            .delete_object()
            .bucket(&s3.bucket)
            .key(source)
            .set_if_match(version.map(str::to_owned));
        let once = within(s3.step).retry_config(RetryConfig::disabled());
        let Err(error) = request.customize().config_override(once).send().await else {
            return Ok(());
        };
        doubtful |= may_be_carried_out(&error);
        let error = failed("rename", error);
        match error.kind() {
            // Looked at once more.
            ErrorKind::NotFound | ErrorKind::Changed if doubtful && tries > 0 => {}
            ErrorKind::NotFound => return Ok(()),
            ErrorKind::Unavailable | ErrorKind::Busy if tries > 0 => {}
            _ => return Err(error),
        }
        tries -= 1;
        tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
        pause = (pause * 2).min(RETRY_DELAY);
        s3.retries.count("DeleteObject");
    }
}

impl S3 {
    /// Copies a whole object of at most 5 GiB; what it carries is `attributes`.
    pub(super) async fn copy_object(
        &self,
        source: &str,
        target: &str,
        version: Option<&str>,
        attributes: Attributes,
    ) -> Result<()> {
        let request = self
            .client
            .copy_object()
            .bucket(&self.bucket)
            .key(target)
            .copy_source(self.copy_source(source))
            .set_copy_source_if_match(version.map(str::to_owned));
        let tags = attributes.tags.clone();
        let request = attributes.replace(request, &self.encryption);
        let patience = self.long_patience();
        let copied = request.customize().config_override(patience).send().await;
        copied.map_err(|error| failed("rename", error))?;
        self.require_tags(target, tags).await;
        Ok(())
    }

    async fn copy_part(
        &self,
        path: &str,
        id: &str,
        number: i32,
        source: &str,
        version: Option<String>,
        range: Range,
    ) -> Result<CompletedPart> {
        let customer = self.encryption.customer();
        let request = self
            .client
            .upload_part_copy()
            .bucket(&self.bucket)
            .key(path)
            .upload_id(id)
            .part_number(number)
            .copy_source(source)
            .set_copy_source_if_match(version)
            .copy_source_range(format!("bytes={}-{}", range.start, range.end - 1))
            .set_sse_customer_algorithm(customer.algorithm())
            .set_sse_customer_key(customer.key())
            .set_sse_customer_key_md5(customer.key_md5())
            .set_copy_source_sse_customer_algorithm(customer.algorithm())
            .set_copy_source_sse_customer_key(customer.key())
            .set_copy_source_sse_customer_key_md5(customer.key_md5());
        let patience = self.long_patience();
        let copied = request.customize().config_override(patience).send().await;
        let copied = copied.map_err(|error| failed("write", error))?;
        let result = copied.copy_part_result;
        let (e_tag, checksum) =
            result.map_or((None, None), |result| (result.e_tag, result.checksum_crc32));
        Ok(CompletedPart::builder()
            .part_number(number)
            .set_e_tag(e_tag)
            .set_checksum_crc32(checksum)
            .build())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_all_bytes_in_parts_that_s3_takes() {
        let least = LEAST_PART_BYTES as u64;
        for bytes in [0, 1, least - 1, least, (512 << 20) + 1, 6 << 30, 5 << 40] {
            let (copies, rest) = ranges(bytes, None);
            let mut at = 0;
            for range in &copies {
                assert_eq!(range.start, at);
                assert!((least..=5 << 30).contains(&(range.end - range.start)));
                at = range.end;
            }
            assert_eq!((rest.start, rest.end), (at, bytes));
            assert!(rest.end - rest.start < least && copies.len() <= 1_025);
        }
    }

    #[test]
    fn equal_parts_leave_a_rest() {
        let part = 8 << 20;
        let (copies, rest) = ranges(3 * part + 5, Some(part));
        assert_eq!(copies.len(), 3);
        assert!(copies.iter().all(|range| range.end - range.start == part));
        assert_eq!(
            rest,
            Range {
                start: 3 * part,
                end: 3 * part + 5
            }
        );
        assert!(ranges(part - 1, Some(part)).0.is_empty());
    }
}
