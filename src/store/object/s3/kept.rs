//! Uploads that an interruption does not end: begun, kept, gone on with, committed, swept.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_sdk_s3::{
    error::ProvideErrorMetadata,
    types::{CompletedPart, ExpirationStatus},
};
use bytes::Bytes;

use super::{
    S3, S3Upload,
    copy::Range,
    error::failed,
    record::{self, Claim, Found, Record},
    upload::{OldBytes, State, join},
};
use crate::{
    access::StoreKey,
    store::{
        ErrorKind, Kind, NewFile, Result, Stat, StoreError, Swept, length, object::ObjectStore,
    },
};

/// A record of a running upload that was written this long ago belongs to a session that died: parts
/// follow each other faster, and stalls end sooner.
const ABANDONED: Duration = Duration::from_mins(10);

/// Where an upload is kept.
pub(super) struct Place {
    /// Name of the record.
    name: String,
    /// What the record says, or is to say once there is one.
    record: Record,
    /// There is a record.
    recorded: bool,
    /// Other replicas may have gone on with it: asked before the commit.
    shared: bool,
    _claim: Claim,
}

/// Begins an upload that is kept when it is interrupted; what was kept before goes.
pub(in super::super) async fn begin(
    store: &ObjectStore,
    s3: &Arc<S3>,
    key: &StoreKey,
    file: NewFile,
    user: &str,
) -> Result<S3Upload> {
    let mut upload = S3Upload::begin(store, s3, key, file).await?;
    let name = record::name(&upload.path, user);
    let Some(claim) = s3.claims.take(&name) else {
        return Ok(upload);
    };
    if let Some(found) = s3.find(&name).await? {
        let quiet = SystemTime::now()
            .duration_since(found.modified)
            .unwrap_or_default();
        if found.record.running && quiet < ABANDONED {
            // Another replica may be writing it: this one is an ordinary upload.
            return Ok(upload);
        }
    }
    // Also a record whose multipart upload is gone.
    s3.discard(&name).await?;
    let record = Record {
        path: upload.path.clone(),
        nonce: upload.nonce.clone(),
        claim: word(),
        running: true,
        ..Record::default()
    };
    upload.place = Some(Place {
        name,
        record,
        recorded: false,
        shared: false,
        _claim: claim,
    });
    Ok(upload)
}

/// What is kept, as a file's size and time.
pub(in super::super) async fn stat(s3: &S3, path: &str, user: &str) -> Result<Option<Stat>> {
    let found = s3.find(&record::name(path, user)).await?;
    Ok(found.filter(|found| found.bytes() > 0).map(|found| Stat {
        kind: Kind::File,
        size: found.bytes(),
        modified: Some(found.modified),
        version: None,
        waits: false,
    }))
}

/// Goes on behind the first `offset` bytes of what is kept.
pub(in super::super) async fn resume(
    store: &ObjectStore,
    s3: &Arc<S3>,
    key: &StoreKey,
    user: &str,
    offset: u64,
    exclusive: bool,
) -> Result<S3Upload> {
    let path = store.keys().file("resume", key)?;
    let name = record::name(&path, user);
    let claim = s3.claims.take(&name);
    let claim = claim.ok_or_else(|| StoreError::new(ErrorKind::InUse, "resume"))?;
    let beyond = || StoreError::new(ErrorKind::OffsetBeyondEnd, "resume");
    let found = s3.find(&name).await?.ok_or_else(beyond)?;
    let (parts, tail) = found.split(offset).ok_or_else(beyond)?;
    let Found {
        mut record,
        parts: landed,
        landed: all,
        ..
    } = found;
    // Those behind the place of the restart are not of the file that comes now.
    record.sure = (all > parts).then_some(parts);
    let only = s3.claim(&path)?;
    let file = NewFile {
        exclusive,
        ..NewFile::default()
    };
    let mut upload = S3Upload::new(store, s3, path, &file);
    upload.claim = only;
    // The first bytes passed in another session.
    upload.digests = None;
    if let Some(first) = landed.first().filter(|_| s3.switches().exact_parts) {
        upload.sizes.bytes = usize::try_from(first.bytes).unwrap_or(upload.sizes.bytes);
    }
    upload.nonce.clone_from(&record.nonce);
    upload.id.clone_from(&record.id);
    upload.parts = parts;
    upload.size = offset;
    upload.sent = landed
        .into_iter()
        .take(parts)
        .map(|landed| landed.part)
        .collect();
    if tail > 0
        && let Some((name, _)) = &record.tail
    {
        // The part that comes next has the size of all others: the store may demand it.
        upload.sizes.first_less = usize::try_from(tail).unwrap_or_default();
        upload.head = Some(OldBytes {
            path: s3.hidden(name),
            range: Range {
                start: 0,
                end: tail,
            },
            version: None,
        });
    }
    // From here on another replica's session that thinks it has the place fails at its commit.
    record.claim = word();
    record.running = true;
    let written = s3.put_record(&name, &record).await;
    upload.place = Some(Place {
        name,
        record,
        recorded: true,
        shared: true,
        _claim: claim,
    });
    if let Err(error) = written {
        // What is kept stays as it is.
        upload.state = State::Ended;
        return Err(error);
    }
    Ok(upload)
}

/// Drops what is kept unless a session of this process writes it; whether there was anything.
pub(in super::super) async fn forget(s3: &Arc<S3>, path: &str, user: &str) -> Result<bool> {
    let name = record::name(path, user);
    match s3.claims.take(&name) {
        Some(_claim) => s3.discard(&name).await,
        None => Ok(false),
    }
}

/// Ends uploads of ours that nobody has gone on with for `age`: those that have a record.
pub(in super::super) async fn sweep(s3: &Arc<S3>, age: Duration) -> Result<Swept> {
    let limit = SystemTime::now().checked_sub(age);
    let limit = limit.unwrap_or(SystemTime::UNIX_EPOCH);
    let (old, young) = s3.hidden_since(limit).await?;
    let mut swept = Swept {
        removed: s3.end_lost().await?,
        open: young,
    };
    for name in old {
        if name.contains('.') {
            if !s3.is_referenced(&name).await? {
                s3.delete_hidden(&name).await?;
            }
            continue;
        }
        let Some(_claim) = s3.claims.take(&name) else {
            swept.open += 1;
            continue;
        };
        // Parts may have come since the record was written.
        let moved = s3.find(&name).await?;
        if moved.is_some_and(|found| found.modified > limit) {
            swept.open += 1;
            continue;
        }
        // Found or not: a record without an upload is litter.
        s3.discard(&name).await?;
        swept.removed += 1;
    }
    Ok(swept)
}

/// What is missing in the bucket's settings.
pub(in super::super) async fn advice(s3: &S3) -> Result<Vec<String>> {
    let request = s3
        .client
        .get_bucket_lifecycle_configuration()
        .bucket(&s3.bucket);
    let rules = match request.send().await {
        Ok(answer) => answer.rules.unwrap_or_default(),
        Err(error) if error.code() == Some("NoSuchLifecycleConfiguration") => Vec::new(),
        Err(error) => match failed("advice", error) {
            // Rights to read settings are a thing of their own: no reason to refuse the store.
            error if error.kind() == ErrorKind::PermissionDenied => {
                return Ok(vec![format!(
                    "bucket {}: the key pair may not read the life-cycle rules; make sure that one aborts incomplete multipart uploads",
                    s3.bucket
                )]);
            }
            error => return Err(error),
        },
    };
    let ends_uploads = rules.iter().any(|rule| {
        *rule.status() == ExpirationStatus::Enabled
            && rule.abort_incomplete_multipart_upload().is_some()
    });
    if ends_uploads {
        return Ok(Vec::new());
    }
    Ok(vec![format!(
        "bucket {} has no life-cycle rule with AbortIncompleteMultipartUpload: what a crash leaves open stays, and is paid for",
        s3.bucket
    )])
}

impl S3Upload {
    /// Notes a multipart upload that was just begun, so that a crash loses nothing.
    pub(super) async fn note_id(&mut self) {
        let Some(place) = &mut self.place else {
            return;
        };
        place.record.id.clone_from(&self.id);
        place.record.sure = None;
        match self.s3.put_record(&place.name, &place.record).await {
            Ok(()) => place.recorded = true,
            Err(error) => {
                tracing::warn!(key = ?self.path, %error, "an upload is not noted; only a crash would lose it");
            }
        }
    }

    /// Refuses to commit what another replica's session has gone on with.
    pub(super) async fn require_claim(&self) -> Result<()> {
        match &self.place {
            Some(place) if place.shared => {
                let claim = &place.record.claim;
                self.s3.require_claim(&place.name, claim).await
            }
            _ => Ok(()),
        }
    }

    /// Removes record and tail once the upload is committed or given up.
    pub(super) async fn clear_place(&mut self) {
        let Some(place) = self.place.take() else {
            return;
        };
        if !place.recorded {
            return;
        }
        let clear = async {
            if let Some((tail, _)) = &place.record.tail {
                self.s3.delete_hidden(tail).await?;
            }
            self.s3.delete_hidden(&place.name).await
        };
        if let Err(error) = clear.await {
            tracing::warn!(key = ?self.path, %error, "the record of an ended upload stays until the sweep");
        }
    }

    /// Puts away what was received. `false` if that failed and the upload must be given up.
    pub(super) async fn put_away(&mut self, rest: Vec<Bytes>) -> bool {
        let Some(mut place) = self.place.take() else {
            return false;
        };
        let kept = self.try_to_keep(&mut place, rest).await;
        // What an interruption cut off is gone on with under its own name only. All parts have ended.
        self.end_twin(1).await;
        match kept {
            Ok(true) => {
                self.state = State::Ended;
                true
            }
            // Nothing to go on from.
            Ok(false) => {
                self.place = Some(place);
                false
            }
            // The session that has the place now keeps it.
            Err(error) if error.kind() == ErrorKind::InUse => {
                self.state = State::Ended;
                true
            }
            Err(error) => {
                tracing::warn!(key = ?self.path, %error, "an interrupted upload could not be kept");
                self.place = Some(place);
                false
            }
        }
    }

    async fn try_to_keep(&mut self, place: &mut Place, mut rest: Vec<Bytes>) -> Result<bool> {
        let (s3, name) = (Arc::clone(&self.s3), place.name.clone());
        if place.shared {
            s3.require_claim(&name, &place.record.claim).await?;
        }
        let old_tail = place.record.tail.take();
        // What is a part by itself goes as one; at least a byte is left for the tail.
        let room = if self.head.is_some() {
            self.sizes.of(0)
        } else {
            self.sizes.of(self.parts.max(1))
        };
        if self.state == State::Open && length(&rest) > room as u64 {
            let part = split_off(&mut rest, room);
            if self.send_part(part).await.is_err() {
                self.state = State::Broken;
            }
        }
        while self.join_one().await.unwrap_or(true) {}
        let head = self.head.take();
        self.sent.sort_by_key(CompletedPart::part_number);
        let in_order = (1..).zip(&self.sent);
        let sure = in_order.take_while(|(number, part)| part.part_number() == Some(*number));
        let mut record = Record {
            id: self.id.clone(),
            running: false,
            bytes: None,
            tail: None,
            sure: Some(sure.count()),
            ..place.record.clone()
        };
        if self.state == State::Open && self.sent.len() == self.parts {
            let (mut tail, _permit) = join(&self.store, &s3, head, rest).await?;
            // Never the last byte: a client that compares sizes must have something left to send.
            drop_last_byte(&mut tail);
            let bytes = length(&tail);
            if self.parts == 0 && bytes == 0 {
                place.record.tail = old_tail;
                return Ok(false);
            }
            record.bytes = Some(self.landed_bytes(&name).await?);
            if bytes > 0 {
                record.tail = Some(s3.put_tail(&name, tail).await?);
            }
        } else if self.id.is_none() {
            place.record.tail = old_tail;
            return Ok(false);
        }
        s3.put_record(&name, &record).await?;
        if let Some((tail, _)) = old_tail
            && let Err(error) = s3.delete_hidden(&tail).await
        {
            tracing::warn!(key = ?self.path, %error, "an old tail stays until the sweep");
        }
        Ok(true)
    }

    /// Bytes in parts, as the store counts them.
    async fn landed_bytes(&self, name: &str) -> Result<u64> {
        let Some(id) = &self.id else { return Ok(0) };
        let parts = self.s3.landed_parts(&self.path, id).await?;
        let parts = parts.ok_or_else(|| {
            StoreError::with_source(ErrorKind::NotFound, "keep", format!("{name}: no upload"))
        })?;
        // Those that an earlier session left behind these do not count.
        Ok(parts.iter().take(self.parts).map(|part| part.bytes).sum())
    }
}

/// A word that nobody else has.
fn word() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Takes the first `bytes` bytes off the front.
fn split_off(chunks: &mut Vec<Bytes>, bytes: usize) -> Vec<Bytes> {
    let (mut front, mut left) = (Vec::new(), bytes);
    let mut back = Vec::new();
    for mut chunk in chunks.drain(..) {
        let piece = chunk.split_to(left.min(chunk.len()));
        left -= piece.len();
        if !piece.is_empty() {
            front.push(piece);
        }
        if !chunk.is_empty() {
            back.push(chunk);
        }
    }
    *chunks = back;
    front
}

fn drop_last_byte(chunks: &mut Vec<Bytes>) {
    chunks.retain(|chunk| !chunk.is_empty());
    if let Some(last) = chunks.last_mut() {
        last.truncate(last.len() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_are_cut_where_parts_end() {
        let chunk = |text: &'static str| Bytes::from_static(text.as_bytes());
        let mut rest = vec![chunk("abc"), chunk(""), chunk("defg"), chunk("h")];
        assert_eq!(split_off(&mut rest, 5).concat(), b"abcde");
        assert_eq!(rest.concat(), b"fgh");
        drop_last_byte(&mut rest);
        assert_eq!(rest.concat(), b"fg");
        drop_last_byte(&mut rest);
        drop_last_byte(&mut rest);
        drop_last_byte(&mut rest);
        assert!(rest.concat().is_empty());
    }
}
