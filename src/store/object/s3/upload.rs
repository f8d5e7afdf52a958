//! [`S3Upload`]: a single PUT below one part, a multipart upload of our own above.
//!
//! Parts are sent while the next ones arrive, and none is held longer than its request. Nothing is
//! sent before the first part is complete or the file has ended, so that a small file costs one
//! request.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_s3::{
    operation::head_object::HeadObjectOutput,
    types::{CompletedMultipartUpload, CompletedPart},
};
use bytes::Bytes;
use opendal::options::ReadOptions;
use tokio::{sync::OwnedSemaphorePermit, task::JoinSet};

use super::{
    LEAST_PART_BYTES, MOST_PART_BYTES, MOST_PARTS, PARTS_PER_SIZE, S3,
    attributes::{Attributes, NONCE},
    body::body,
    claim::Claim,
    copy::{self, Range},
    digests::Digests,
    error::{failed, is_no_such_upload},
    held,
    kept::Place,
    twin::Twin,
};
use crate::{
    access::StoreKey,
    observe::telemetry::Here,
    store::{
        Base, ErrorKind, Kind, NewFile, PartSizes, Result, Stat, StoreError, Upload, length,
        object::ObjectStore, transfer::Progress,
    },
};

/// Parts that the size of an upload is planned for where the client announced it; the rest is for what
/// comes beyond.
const PLANNED_PARTS: u64 = 9_000;

/// An upload under way.
pub(in super::super) struct S3Upload {
    pub(super) store: ObjectStore,
    pub(super) s3: Arc<S3>,
    pub(super) path: String,
    pub(super) nonce: String,
    attributes: Attributes,
    /// The version that must still stand there at commit.
    version: Option<String>,
    /// Nothing may stand there at commit.
    exclusive: bool,
    pub(super) sizes: PartSizes,
    /// `None` where the content does not all pass here.
    pub(super) digests: Option<Digests>,
    /// Held for its `Drop`, where the second upload of a name is refused.
    #[allow(dead_code, reason = "held for its `Drop`")]
    pub(super) claim: Option<Claim>,
    /// Bytes of the old object that are read into the first part, since they are too few for a part
    /// of their own.
    pub(super) head: Option<OldBytes>,
    /// The multipart upload, once it is begun.
    pub(super) id: Option<String>,
    /// The second one, of a file that is to be renamed.
    pub(super) twin: Option<Twin>,
    /// Parts on their way. Ended before the upload is.
    sending: JoinSet<Result<Vec<CompletedPart>>>,
    pub(super) sent: Vec<CompletedPart>,
    pub(super) parts: usize,
    pub(super) size: u64,
    pub(super) state: State,
    /// Where it is kept when it is interrupted, if it is.
    pub(super) place: Option<Place>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Open,
    /// A part failed: the upload can only be aborted.
    Broken,
    /// Committed, aborted or kept.
    Ended,
}

/// The first bytes of the old object, or what is left of them behind the copied parts.
#[derive(Clone)]
pub(super) struct OldBytes {
    pub(super) path: String,
    pub(super) range: Range,
    pub(super) version: Option<String>,
}

impl S3Upload {
    pub(in super::super) async fn begin(
        store: &ObjectStore,
        s3: &Arc<S3>,
        key: &StoreKey,
        file: NewFile,
    ) -> Result<Self> {
        let path = store.keys().file("write", key)?;
        if !file.surveyed {
            store.survey_at("write", key).await?;
        }
        let claim = s3.claim(&path)?;
        let mut upload = Self::new(store, s3, path, &file);
        upload.claim = claim;
        // One that must not replace anything is committed by a condition, which what waits has none of.
        if file.base == Base::Empty && !file.exclusive {
            upload.twin = Twin::of(store, s3, key, &file);
        }
        if let Base::Present { bytes, version } = file.base {
            let head = s3.head("write", &upload.path).await?;
            let head = head.ok_or_else(|| StoreError::new(ErrorKind::NotFound, "write"))?;
            if version.is_some() && head.e_tag() != version.as_deref() {
                return Err(StoreError::new(ErrorKind::Changed, "write"));
            }
            if bytes > size_of(&head) {
                return Err(StoreError::new(ErrorKind::OffsetBeyondEnd, "write"));
            }
            upload.attributes = Attributes::of(&head);
            let path = upload.path.clone();
            s3.carry_tags("write", &path, &head, &mut upload.attributes)
                .await?;
            upload.attributes.forget_content();
            upload.attributes.sign(&s3.settings, file.author.as_ref());
            upload.version = version;
            let source = upload.path.clone();
            upload.begin_with(&source, bytes, head.e_tag()).await?;
        }
        Ok(upload)
    }

    /// A copy of `source`, what is not too small for a part inside the store; `exclusive`: over nothing.
    pub(super) async fn copy(
        store: &ObjectStore,
        s3: &Arc<S3>,
        target: String,
        source: &str,
        head: &HeadObjectOutput,
        exclusive: bool,
    ) -> Result<Self> {
        let file = NewFile {
            exclusive,
            ..NewFile::default()
        };
        let mut upload = Self::new(store, s3, target, &file);
        upload.attributes = Attributes::of(head);
        s3.carry_tags("rename", source, head, &mut upload.attributes)
            .await?;
        upload
            .begin_with(source, size_of(head), head.e_tag())
            .await?;
        Ok(upload)
    }

    pub(super) fn new(store: &ObjectStore, s3: &Arc<S3>, path: String, file: &NewFile) -> Self {
        let first = s3.settings.part_bytes.max(LEAST_PART_BYTES);
        let planned = file.expected_bytes.unwrap_or_default() / PLANNED_PARTS;
        // In whole MiB, so that chunks fill a part evenly.
        let planned = usize::try_from((planned + 1).next_multiple_of(1 << 20));
        let bytes = planned
            .unwrap_or(usize::MAX)
            .max(first)
            .min(MOST_PART_BYTES);
        Self {
            attributes: Attributes::new(&s3.settings, &path, file.author.as_ref()),
            store: store.clone(),
            s3: Arc::clone(s3),
            path,
            nonce: format!("{:032x}", rand::random::<u128>()),
            version: None,
            exclusive: file.exclusive,
            sizes: PartSizes {
                bytes,
                first_less: 0,
                doubling: (!s3.switches().exact_parts).then_some(PARTS_PER_SIZE),
            },
            digests: Some(Digests::new(&s3.settings.keep.checksums)),
            claim: None,
            head: None,
            id: None,
            twin: None,
            sending: JoinSet::new(),
            sent: Vec::new(),
            parts: 0,
            size: 0,
            state: State::Open,
            place: None,
        }
    }

    /// Puts the first `bytes` bytes of `source` before everything: what makes whole parts is copied
    /// inside the store, the rest is read into the first part that comes from the client.
    async fn begin_with(&mut self, source: &str, bytes: u64, version: Option<&str>) -> Result<()> {
        let exact = self.s3.switches().exact_parts;
        let part = exact.then_some(self.sizes.bytes as u64);
        let (copies, rest) = copy::ranges(bytes, part);
        let version = version.map(str::to_owned);
        if rest.end > rest.start {
            if exact {
                self.sizes.first_less = usize::try_from(rest.end - rest.start).unwrap_or_default();
            }
            self.head = Some(OldBytes {
                path: source.to_owned(),
                range: rest,
                version: version.clone(),
            });
        }
        self.size = bytes;
        if bytes > 0 {
            self.digests = None;
        }
        if copies.is_empty() {
            return Ok(());
        }
        let id = self.create().await?;
        self.parts = copies.len();
        let (s3, path) = (Arc::clone(&self.s3), self.path.clone());
        let source = s3.copy_source(source);
        let work = copy::parts(s3, path, id, source, version, copies);
        self.sending.spawn(Here::now().carry(work));
        Ok(())
    }

    /// Begins the multipart upload if there is none yet.
    async fn create(&mut self) -> Result<String> {
        if let Some(id) = &self.id {
            return Ok(id.clone());
        }
        let id = self.s3.create_upload(&self.path, self.signed()).await?;
        self.id = Some(id.clone());
        self.note_id().await;
        if let Some(twin) = &mut self.twin {
            let mut attributes = twin.attributes.clone();
            attributes.sign_with(&self.nonce);
            match self.s3.create_upload(&twin.path, attributes).await {
                Ok(second) => twin.id = Some(second),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(key = ?self.path, error, "an upload will not wait for its rename");
                }
            }
        }
        Ok(id)
    }

    fn signed(&self) -> Attributes {
        let mut attributes = self.attributes.clone();
        attributes.sign_with(&self.nonce);
        attributes
    }

    /// Sends one part in the background, once there are few enough of them on their way.
    pub(super) async fn send_part(&mut self, chunks: Vec<Bytes>) -> Result<()> {
        if self.parts >= MOST_PARTS {
            return Err(StoreError::new(ErrorKind::StorageFull, "write"));
        }
        let id = self.create().await?;
        while self.sending.len() >= self.s3.settings.parts_in_flight.max(1) {
            self.join_one().await?;
        }
        let bytes = length(&chunks);
        self.size += bytes;
        self.digest(&chunks).await;
        self.parts += 1;
        let bounds = &self.s3.settings.deferred;
        let twin = self.twin.as_mut().and_then(|twin| twin.part(bytes, bounds));
        let number = i32::try_from(self.parts).unwrap_or(i32::MAX);
        let (s3, path, store) = (Arc::clone(&self.s3), self.path.clone(), self.store.clone());
        let head = self.head.take();
        let work = async move {
            let (chunks, _permit) = join(&store, &s3, head, chunks).await?;
            let second = async {
                if let Some(twin) = twin {
                    twin.send(&s3, number, chunks.clone()).await;
                }
            };
            let first = s3.send_part(&path, &id, number, chunks.clone());
            let (part, ()) = tokio::join!(first, second);
            Ok(vec![part?])
        };
        self.sending.spawn(Here::now().carry(work));
        Ok(())
    }

    /// Waits for one of the parts on their way; `false` if there is none.
    pub(super) async fn join_one(&mut self) -> Result<bool> {
        match self.sending.join_next().await {
            None => Ok(false),
            Some(Ok(parts)) => {
                self.sent.extend(parts?);
                Ok(true)
            }
            Some(Err(error)) => Err(StoreError::with_source(ErrorKind::Internal, "write", error)),
        }
    }

    /// Refuses to replace what somebody else put there meanwhile.
    async fn require_unchanged(&self) -> Result<()> {
        let by_store = self.s3.switches().conditional_writes;
        if self.version.is_none() && (!self.exclusive || by_store) {
            return Ok(());
        }
        let present = self.s3.head("commit", &self.path).await?;
        let unchanged = match &self.version {
            Some(version) => present.as_ref().and_then(HeadObjectOutput::e_tag) == Some(version),
            None => present.is_none(),
        };
        if unchanged {
            return Ok(());
        }
        Err(StoreError::new(ErrorKind::Changed, "commit"))
    }

    /// Whether the object that stands there now is this upload's.
    pub(super) async fn landed(&self) -> Option<Stat> {
        let present = self.s3.head("commit", &self.path).await.ok()??;
        let ours = present.metadata()?.get(NONCE) == Some(&self.nonce);
        (ours && size_of(&present) == self.size).then(|| self.stat(present.e_tag()))
    }

    pub(super) fn stat(&self, version: Option<&str>) -> Stat {
        Stat {
            kind: Kind::File,
            size: self.size,
            // Not in the answer; asking for it would cost every upload a request.
            modified: None,
            version: version
                .filter(|version| !version.is_empty())
                .map(str::to_owned),
            waits: false,
        }
    }

    /// One request: the whole file is smaller than a part.
    async fn put(&mut self, chunks: Vec<Bytes>) -> Result<Stat> {
        self.size += length(&chunks);
        self.digest(&chunks).await;
        if let Some(digests) = self.digests.take() {
            self.attributes.metadata.extend(digests.into_metadata());
        }
        let head = self.head.take();
        let (chunks, _permit) = join(&self.store, &self.s3, head, chunks).await?;
        self.require_claim().await?;
        self.require_unchanged().await?;
        let conditions = self.s3.switches().conditional_writes;
        let checksum = self.s3.checksum(&chunks);
        let bytes = length(&chunks);
        let request = self
            .s3
            .client
            .put_object()
            .bucket(&self.s3.bucket)
            .key(&self.path)
            .set_checksum_crc32(checksum)
            .set_if_match(self.version.clone().filter(|_| conditions))
            .set_if_none_match((self.exclusive && conditions).then(|| "*".to_owned()))
            .body(body(chunks));
        let request = self.signed().put(request, &self.s3.encryption);
        let patience = self.s3.patience(bytes);
        let stored = request.customize().config_override(patience).send().await;
        let stored = stored.map_err(|error| failed("commit", error))?;
        Ok(self.stat(stored.e_tag()))
    }

    /// Ends the multipart upload. Stores that ignore the condition (Ceph 16) have been looked at just
    /// before; what remains there is the time between that look and this.
    pub(super) async fn complete(&mut self, id: String) -> Result<Stat> {
        while self.join_one().await? {}
        self.require_claim().await?;
        self.require_unchanged().await?;
        self.sent.sort_by_key(CompletedPart::part_number);
        let conditions = self.s3.switches().conditional_writes;
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(self.sent.clone()))
            .build();
        let customer = self.s3.encryption.customer();
        let request = self
            .s3
            .client
            .complete_multipart_upload()
            .bucket(&self.s3.bucket)
            .key(&self.path)
            .upload_id(id)
            .multipart_upload(parts)
            .set_sse_customer_algorithm(customer.algorithm())
            .set_sse_customer_key(customer.key())
            .set_sse_customer_key_md5(customer.key_md5())
            .set_if_match(self.version.clone().filter(|_| conditions))
            .set_if_none_match((self.exclusive && conditions).then(|| "*".to_owned()));
        let patience = self.s3.long_patience();
        let stored = request.customize().config_override(patience).send().await;
        let stored = stored.map_err(|error| failed("commit", error))?;
        let mut stat = self.stat(stored.e_tag());
        if stat.version.is_none() {
            // Ceph 16 completes a multipart upload with an empty ETag.
            stat = self.landed().await.unwrap_or(stat);
        }
        if let (Some(digests), Some(version)) = (self.digests.take(), &stat.version) {
            let digests = digests.into_metadata();
            self.s3.keep_digests(&self.path, version, digests).await;
        }
        let tags = std::mem::take(&mut self.attributes.tags);
        self.s3.require_tags(&self.path, tags).await;
        Ok(stat)
    }

    async fn digest(&mut self, chunks: &[Bytes]) {
        if let Some(digests) = &mut self.digests {
            digests.update(chunks).await;
        }
    }

    async fn finish(&mut self, last: Vec<Bytes>) -> Result<Stat> {
        if self.state != State::Open {
            return Err(StoreError::new(ErrorKind::Internal, "commit"));
        }
        // A part of any size may wait, since no part comes behind it; an empty file has none.
        let waits = self.twin.is_some() && length(&last) > 0;
        if self.id.is_none() && !waits {
            return self.put(last).await;
        }
        if length(&last) > 0 || self.head.is_some() {
            self.send_part(last).await?;
        }
        let id = self.create().await?;
        if self.twin.is_some() {
            if let Some(stat) = self.hold(&id).await? {
                return Ok(stat);
            }
            self.end_twin(1).await;
        }
        self.complete(id).await
    }

    /// A file that waited under this name is replaced by `stat`.
    async fn replace_held(&self, stat: &Stat) {
        let older = held::discard_older(&self.s3, &self.path, &self.nonce, stat.waits);
        if let Err(error) = older.await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(key = ?self.path, error, "an older file of this name still waits for its rename");
        }
    }

    /// Ends the multipart upload; `true` if the store knew of none any more.
    pub(super) async fn give_up(&mut self) -> bool {
        self.state = State::Ended;
        // A part whose bytes the store has already read may still land behind an abort.
        let mut tries = if self.sending.is_empty() { 1 } else { 2 };
        self.sending.shutdown().await;
        self.end_twin(tries).await;
        let Some(id) = self.id.take() else {
            return false;
        };
        loop {
            let request = self
                .s3
                .client
                .abort_multipart_upload()
                .bucket(&self.s3.bucket)
                .key(&self.path)
                .upload_id(&id);
            tries -= 1;
            match request.send().await {
                Ok(_) if tries == 0 => return false,
                Ok(_) => {}
                Err(error) if is_no_such_upload(&error) => return true,
                Err(error) => {
                    let error = failed("abort", error);
                    tracing::error!(
                        key = ?self.path,
                        error = &error as &dyn std::error::Error,
                        "cannot abort an upload; its parts stay until the bucket's life-cycle rule ends them"
                    );
                    return false;
                }
            }
        }
    }
}

#[async_trait]
impl Upload for S3Upload {
    fn part_sizes(&self) -> PartSizes {
        self.sizes
    }

    fn hashed_by(&mut self, progress: Arc<Progress>) {
        if let Some(digests) = &mut self.digests {
            digests.leave_sha256_to(progress);
        }
    }

    async fn write(&mut self, part: Vec<Bytes>) -> Result<()> {
        if self.state != State::Open {
            return Err(StoreError::new(ErrorKind::Internal, "write"));
        }
        let sent = self.send_part(part).await;
        if sent.is_err() {
            self.state = State::Broken;
        }
        sent
    }

    async fn commit(mut self: Box<Self>, last: Vec<Bytes>) -> Result<Stat> {
        let error = match self.finish(last).await {
            Ok(stat) => {
                self.state = State::Ended;
                self.clear_place().await;
                self.replace_held(&stat).await;
                return Ok(stat);
            }
            Err(error) => error,
        };
        if error.kind() == ErrorKind::InUse {
            // The parts belong to the session that went on with them.
            self.state = State::Ended;
            return Err(error);
        }
        // The store may have committed and only its answer been lost: the retry then hears that there
        // is no such upload, or that the version changed (because we changed it).
        let mut landed = self.landed().await;
        if landed.is_none() && error.kind() != ErrorKind::Changed && self.place.is_some() {
            // Without the part that may hold the end of the file.
            self.state = State::Broken;
            if self.put_away(Vec::new()).await {
                return Err(error);
            }
        }
        if landed.is_none() && self.give_up().await {
            landed = self.landed().await;
        }
        self.state = State::Ended;
        self.clear_place().await;
        match landed {
            Some(stat) => {
                self.replace_held(&stat).await;
                let error = &error as &dyn std::error::Error;
                tracing::warn!(key = ?self.path, error, "an upload was committed although the store reported an error");
                Ok(stat)
            }
            None if self.exclusive && error.kind() == ErrorKind::Changed => Err(
                StoreError::with_source(ErrorKind::AlreadyExists, "commit", error),
            ),
            None => Err(error),
        }
    }

    async fn abort(mut self: Box<Self>) {
        self.give_up().await;
        self.clear_place().await;
    }

    async fn keep(mut self: Box<Self>, rest: Vec<Bytes>) -> bool {
        let kept = self.put_away(rest).await;
        if !kept {
            self.abort().await;
        }
        kept
    }
}

impl Drop for S3Upload {
    fn drop(&mut self) {
        if self.state != State::Ended && self.id.is_some() {
            tracing::error!(key = ?self.path, "an upload was dropped; its parts stay until the bucket's life-cycle rule ends them");
        }
    }
}

impl S3 {
    pub(super) async fn send_part(
        &self,
        path: &str,
        id: &str,
        number: i32,
        chunks: Vec<Bytes>,
    ) -> Result<CompletedPart> {
        let customer = self.encryption.customer();
        let (bytes, checksum) = (length(&chunks), self.checksum(&chunks));
        let request = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(path)
            .upload_id(id)
            .part_number(number)
            .set_checksum_crc32(checksum)
            .set_sse_customer_algorithm(customer.algorithm())
            .set_sse_customer_key(customer.key())
            .set_sse_customer_key_md5(customer.key_md5())
            .body(body(chunks));
        let patience = self.patience(bytes);
        let sent = request.customize().config_override(patience).send().await;
        let sent = sent.map_err(|error| failed("write", error))?;
        Ok(CompletedPart::builder()
            .part_number(number)
            .set_e_tag(sent.e_tag)
            .set_checksum_crc32(sent.checksum_crc32)
            .build())
    }

    /// `x-amz-checksum-crc32`, where the store is known to check it: TCP and TLS guard the way to the
    /// store's door, this one the way behind it.
    pub(super) fn checksum(&self, chunks: &[Bytes]) -> Option<String> {
        if !self.switches().integrity {
            return None;
        }
        let mut hasher = crc32fast::Hasher::new();
        for chunk in chunks {
            hasher.update(chunk);
        }
        let digest = hasher.finalize().to_be_bytes();
        Some(aws_smithy_types::base64::encode(digest))
    }
}

/// Reads the old bytes that belong before `chunks`. The permit bounds how many uploads hold such bytes
/// and lasts as long as they are held.
pub(super) async fn join(
    store: &ObjectStore,
    s3: &S3,
    head: Option<OldBytes>,
    chunks: Vec<Bytes>,
) -> Result<(Vec<Bytes>, Option<OwnedSemaphorePermit>)> {
    let Some(head) = head else {
        return Ok((chunks, None));
    };
    // Never closed; without a permit the bytes would only not be counted.
    let permit = Arc::clone(&s3.old_bytes).acquire_owned().await.ok();
    let options = ReadOptions {
        range: (head.range.start..head.range.end).into(),
        if_match: head.version,
        ..ReadOptions::default()
    };
    let old = store
        .look(
            "write",
            store.shared.looks.read_options(&head.path, options),
        )
        .await?;
    let joined = old.into_iter().chain(chunks).collect();
    Ok((joined, permit))
}

pub(super) fn size_of(head: &HeadObjectOutput) -> u64 {
    head.content_length()
        .and_then(|length| u64::try_from(length).ok())
        .unwrap_or_default()
}
