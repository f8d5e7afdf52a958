//! Records: what a bucket remembers of uploads that may be continued.
//!
//! A record is a small object below [`AREA`] that names the open multipart upload and, once the upload
//! was interrupted, how many bytes its parts hold and which object beside it holds the tail that is too
//! small for a part. Its name is made of user and key, so that every replica finds
//! it, and so that a sweep ends what we began and nothing else: no store tells reliably who began a
//! multipart upload (Ceph 16 names whoever asks).

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use aws_sdk_s3::types::CompletedPart;
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use super::{
    S3,
    attributes::Attributes,
    body::body,
    error::{failed, is_no_such_upload},
    held::HELD,
};
use crate::store::{ErrorKind, Result, StoreError, length};

/// Where records lie, directly below the backend's root; no client can name it.
pub(in super::super) const AREA: &str = ".causeway-uploads";

/// More than a record has: a key of 1024 bytes, escaped, and some names.
const MOST_RECORD_BYTES: i64 = 64 << 10;

/// What a record says, in JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The key that the upload is for.
    pub(super) path: String,
    /// The multipart upload; `None` while everything fits into the tail.
    pub(super) id: Option<String>,
    /// What the finished object carries to be told from others.
    pub(super) nonce: String,
    /// Who holds the place: a random word for each session that writes.
    pub(super) claim: String,
    /// A session is at it, or died with it.
    pub(super) running: bool,
    /// Bytes in parts when the tail was written; if parts hold another number, they went on without it.
    pub(super) bytes: Option<u64>,
    /// Object and length of the tail.
    pub(super) tail: Option<(String, u64)>,
    /// Where the store has parts behind those that a session went on from: how many parts are certainly
    /// those of the present file. What a running session adds to them is younger than its record.
    #[serde(default)]
    pub(super) sure: Option<usize>,
}

/// A record, what it stands for, and what there is of it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) record: Record,
    /// Parts that can be gone on from, in order and without a gap.
    pub(super) parts: Vec<Landed>,
    /// Bytes behind these parts.
    pub(super) tail: u64,
    /// How many parts the store has, those that do not count included.
    pub(super) landed: usize,
    /// When something was last written.
    pub(super) modified: SystemTime,
}

/// A part that the store has.
#[derive(Clone, Debug)]
pub(super) struct Landed {
    pub(super) part: CompletedPart,
    pub(super) bytes: u64,
    modified: Option<SystemTime>,
}

/// The places that sessions of this process hold.
#[derive(Debug, Default)]
pub(super) struct Claims(Mutex<HashSet<String>>);

/// One place, given back when dropped.
#[derive(Debug)]
pub(super) struct Claim {
    claims: Arc<Claims>,
    record: String,
}

impl Claims {
    /// Takes a place; `None` while another session has it.
    pub(super) fn take(self: &Arc<Self>, record: &str) -> Option<Claim> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(record.to_owned()).then(|| Claim {
            claims: Arc::clone(self),
            record: record.to_owned(),
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut held = self.claims.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.remove(&self.record);
    }
}

/// The name of the record of an upload of `user` to `path`.
pub(super) fn name(path: &str, user: &str) -> String {
    let mut hash = Sha256::new();
    // No user name holds a NUL: the users file refuses control characters.
    hash.update(user);
    hash.update([0]);
    hash.update(path);
    hex::encode(hash.finalize())
}

impl Record {
    /// Whether a part is of the present file. The store's clock may tell whole seconds only.
    fn counts(&self, number: usize, part: &Landed, written: Option<SystemTime>) -> bool {
        let seconds = |time: SystemTime| {
            let since = time.duration_since(SystemTime::UNIX_EPOCH);
            since.unwrap_or_default().as_secs()
        };
        match self.sure {
            Some(sure) if number > sure => {
                self.running && part.modified.map(seconds) > written.map(seconds)
            }
            _ => true,
        }
    }
}

impl Found {
    /// Bytes that an upload can go on behind.
    pub(super) fn bytes(&self) -> u64 {
        self.tail + self.parts.iter().map(|part| part.bytes).sum::<u64>()
    }

    /// The parts before `offset` and how many bytes of the tail come behind them; `None` if the
    /// position lies inside a part, which cannot be cut, or behind the end.
    pub(super) fn split(&self, offset: u64) -> Option<(usize, u64)> {
        let mut covered = 0;
        for (count, part) in self.parts.iter().enumerate() {
            if covered == offset {
                return Some((count, 0));
            }
            covered += part.bytes;
        }
        let tail = offset.checked_sub(covered)?;
        (tail <= self.tail).then_some((self.parts.len(), tail))
    }
}

impl S3 {
    /// The key of a record or tail.
    pub(super) fn hidden(&self, name: &str) -> String {
        format!("{}{name}", self.area)
    }

    /// What is there of the upload that `name` stands for.
    pub(super) async fn find(&self, name: &str) -> Result<Option<Found>> {
        let Some((record, written)) = self.read_record("kept", name).await? else {
            return Ok(None);
        };
        let landed = match &record.id {
            None => Vec::new(),
            Some(id) => match self.landed_parts(&record.path, id).await? {
                Some(parts) => parts,
                // Completed, and the record outlived it; or ended by a life-cycle rule.
                None => return Ok(None),
            },
        };
        let moved = landed.iter().filter_map(|part| part.modified).max();
        let modified = written.max(moved).unwrap_or(SystemTime::UNIX_EPOCH);
        let all = landed.len();
        let mut parts: Vec<Landed> = (1..)
            .zip(1..)
            .zip(landed)
            .take_while(|((number, count), landed)| {
                landed.part.part_number() == Some(*number) && record.counts(*count, landed, written)
            })
            .map(|(_, landed)| landed)
            .collect();
        let bytes: u64 = parts.iter().map(|part| part.bytes).sum();
        let whole = record.bytes == Some(bytes);
        if !whole {
            // The end of the file may be in it: had SIZE said all of it, no client would send more.
            parts.pop();
        }
        let tail = record.tail.as_ref().filter(|_| whole);
        Ok(Some(Found {
            tail: tail.map_or(0, |(_, bytes)| *bytes),
            landed: all,
            record,
            parts,
            modified,
        }))
    }

    /// Every part of a multipart upload, by number; `None` if there is no such upload.
    pub(super) async fn landed_parts(&self, path: &str, id: &str) -> Result<Option<Vec<Landed>>> {
        let customer = self.encryption.customer();
        let mut parts = Vec::new();
        let mut marker = None;
        loop {
            let request = self
                .client
                .list_parts()
                .bucket(&self.bucket)
                .key(path)
                .upload_id(id)
                .set_part_number_marker(marker)
                .set_sse_customer_algorithm(customer.algorithm())
                .set_sse_customer_key(customer.key())
                .set_sse_customer_key_md5(customer.key_md5());
            let page = match request.send().await {
                Ok(page) => page,
                Err(error) if is_no_such_upload(&error) => return Ok(None),
                Err(error) => return Err(failed("kept", error)),
            };
            for part in page.parts() {
                let modified = part.last_modified();
                parts.push(Landed {
                    part: CompletedPart::builder()
                        .set_part_number(part.part_number())
                        .set_e_tag(part.e_tag().map(str::to_owned))
                        .set_checksum_crc32(part.checksum_crc32().map(str::to_owned))
                        .build(),
                    bytes: part
                        .size()
                        .and_then(|size| u64::try_from(size).ok())
                        .unwrap_or_default(),
                    modified: modified.and_then(|time| SystemTime::try_from(*time).ok()),
                });
            }
            marker = page.next_part_number_marker().map(str::to_owned);
            if page.is_truncated() != Some(true) || marker.is_none() {
                return Ok(Some(parts));
            }
        }
    }

    /// A record and when it was written; `None` if there is none, or something else.
    async fn read_record(
        &self,
        operation: &'static str,
        name: &str,
    ) -> Result<Option<(Record, Option<SystemTime>)>> {
        self.read_hidden(operation, name).await
    }

    /// What a hidden object says in JSON, and when it was written; `None` if there is none, or something
    /// else.
    pub(super) async fn read_hidden<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        name: &str,
    ) -> Result<Option<(T, Option<SystemTime>)>> {
        let customer = self.encryption.customer();
        let request = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(self.hidden(name))
            .set_sse_customer_algorithm(customer.algorithm())
            .set_sse_customer_key(customer.key())
            .set_sse_customer_key_md5(customer.key_md5());
        let object = match request.send().await {
            Ok(object) => object,
            Err(error) => match failed(operation, error) {
                error if error.kind() == ErrorKind::NotFound => return Ok(None),
                error => return Err(error),
            },
        };
        if object.content_length().unwrap_or_default() > MOST_RECORD_BYTES {
            return Ok(None);
        }
        let written = object.last_modified();
        let written = written.and_then(|time| SystemTime::try_from(*time).ok());
        let text = object.body.collect().await;
        let text = text
            .map_err(|error| StoreError::with_source(ErrorKind::Unavailable, operation, error))?;
        let record = serde_json::from_slice(&text.into_bytes());
        Ok(record.ok().map(|record| (record, written)))
    }

    /// Writes a record.
    pub(super) async fn put_record(&self, name: &str, record: &Record) -> Result<()> {
        self.put_json(name, record).await
    }

    /// Writes a hidden object in JSON.
    pub(super) async fn put_json(&self, name: &str, record: &impl Serialize) -> Result<()> {
        let text = serde_json::to_vec(record)
            .map_err(|error| StoreError::with_source(ErrorKind::Internal, "keep", error))?;
        self.put_hidden(name, vec![text.into()]).await
    }

    /// Writes a tail beside its record; its name.
    pub(super) async fn put_tail(&self, name: &str, chunks: Vec<Bytes>) -> Result<(String, u64)> {
        let bytes = length(&chunks);
        let tail = format!("{name}.{:032x}", rand::random::<u128>());
        self.put_hidden(&tail, chunks).await?;
        Ok((tail, bytes))
    }

    async fn put_hidden(&self, name: &str, chunks: Vec<Bytes>) -> Result<()> {
        let bytes = length(&chunks);
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(self.hidden(name))
            .body(body(chunks));
        let request = Attributes::default().put(request, &self.encryption);
        let patience = self.patience(bytes);
        let put = request.customize().config_override(patience).send().await;
        put.map(drop).map_err(|error| failed("keep", error))
    }

    /// Deletes a record or tail; one that is not there is as good.
    pub(super) async fn delete_hidden(&self, name: &str) -> Result<()> {
        let request = self
            .client
            .delete_object()
            .bucket(&self.bucket)
            .key(self.hidden(name));
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => match failed("keep", error) {
                error if error.kind() == ErrorKind::NotFound => Ok(()),
                error => Err(error),
            },
        }
    }

    /// Ends what a record stands for, the record last, so that a failure leaves it to the next try.
    /// Whether there was a record.
    pub(super) async fn discard(&self, name: &str) -> Result<bool> {
        let Some((record, _)) = self.read_record("keep", name).await? else {
            return Ok(false);
        };
        if let Some(id) = &record.id {
            self.abort(&record.path, id).await?;
        }
        if let Some((tail, _)) = &record.tail {
            self.delete_hidden(tail).await?;
        }
        self.delete_hidden(name).await?;
        Ok(true)
    }

    /// Ends a multipart upload; one that is not there is as good. Whether there was one.
    pub(super) async fn abort(&self, path: &str, id: &str) -> Result<bool> {
        let request = self
            .client
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(path)
            .upload_id(id);
        match request.send().await {
            Ok(_) => Ok(true),
            Err(error) if is_no_such_upload(&error) => Ok(false),
            Err(error) => Err(failed("keep", error)),
        }
    }

    /// Refuses to go on with what another session has claimed since.
    pub(super) async fn require_claim(&self, name: &str, claim: &str) -> Result<()> {
        match self.read_record("commit", name).await? {
            Some((record, _)) if record.claim == claim => Ok(()),
            _ => Err(StoreError::new(ErrorKind::InUse, "commit")),
        }
    }

    /// Records and tails that were not written since `limit`, and how many records are younger. Names
    /// without the area's prefix.
    pub(super) async fn hidden_since(&self, limit: SystemTime) -> Result<(Vec<String>, u64)> {
        let (mut old, mut young) = (Vec::new(), 0);
        self.each_hidden("", |name, time| {
            if name.starts_with(HELD) {
                // A file that waits for its rename is no leftover.
            } else if time.is_some_and(|time| time <= limit) && old.len() < SWEPT_AT_ONCE {
                old.push(name.to_owned());
            } else if !name.contains('.') {
                young += 1;
            }
        })
        .await?;
        Ok((old, young))
    }

    /// Shows the names of all hidden objects that begin with `prefix`, in key order, and when they were
    /// written.
    pub(super) async fn each_hidden(
        &self,
        prefix: &str,
        mut show: impl FnMut(&str, Option<SystemTime>) + Send,
    ) -> Result<()> {
        let mut token = None;
        loop {
            let request = self
                .client
                .list_objects_v2()
                .bucket(&self.bucket)
                .prefix(self.hidden(prefix))
                .set_continuation_token(token);
            let page = request.send().await;
            let page = page.map_err(|error| failed("sweep", error))?;
            for object in page.contents() {
                let name = object.key().and_then(|key| key.strip_prefix(&self.area));
                let time = object.last_modified();
                let time = time.and_then(|time| SystemTime::try_from(*time).ok());
                if let Some(name) = name {
                    show(name, time);
                }
            }
            token = page.next_continuation_token().map(str::to_owned);
            if page.is_truncated() != Some(true) || token.is_none() {
                return Ok(());
            }
        }
    }

    /// Whether a tail belongs to a record that is still there.
    pub(super) async fn is_referenced(&self, tail: &str) -> Result<bool> {
        let name = tail.split('.').next().unwrap_or_default();
        let record = self.read_record("sweep", name).await?;
        let referenced = record.and_then(|(record, _)| record.tail);
        Ok(referenced.is_some_and(|(name, _)| name == tail))
    }
}

/// What one sweep looks at: the next one goes on.
const SWEPT_AT_ONCE: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn found(parts: &[u64], tail: u64) -> Found {
        let landed = |bytes: &u64| Landed {
            part: CompletedPart::builder().build(),
            bytes: *bytes,
            modified: None,
        };
        Found {
            record: Record::default(),
            landed: parts.len(),
            parts: parts.iter().map(landed).collect(),
            tail,
            modified: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn an_upload_goes_on_at_edges_of_parts_and_in_the_tail() {
        let found = found(&[8, 8, 4], 3);
        assert_eq!(found.bytes(), 23);
        for (offset, split) in [
            (0, Some((0, 0))),
            (8, Some((1, 0))),
            (9, None),
            (16, Some((2, 0))),
            (20, Some((3, 0))),
            (22, Some((3, 2))),
            (23, Some((3, 3))),
            (24, None),
        ] {
            assert_eq!(found.split(offset), split, "{offset}");
        }
    }

    #[test]
    fn a_place_is_held_once_and_given_back() {
        let claims = Arc::new(Claims::default());
        let held = claims.take("a").unwrap();
        assert!(claims.take("a").is_none());
        assert!(claims.take("b").is_some());
        drop(held);
        assert!(claims.take("a").is_some());
    }
}
