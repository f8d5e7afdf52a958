//! Uploads through OpenDAL's writer: to every bucket but S3.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt;
use opendal::{
    Buffer, BufferStream, Capability, Metadata, Operator, Writer,
    options::{ComposeOptions, ComposeSourceOptions, CopyOptions, WriteOptions},
};

use super::{
    super::{Base, ErrorKind, Kind, NewFile, PartSizes, Result, Stat, StoreError, Upload},
    Dialect, ObjectStore,
};
use crate::{access::StoreKey, config::BucketSettings};

/// Most parts of one upload (GCS; the others take as many or more).
const MOST_PARTS: usize = 10_000;
/// Parts before their size doubles, so that an upload reaches 5 TiB.
const PARTS_PER_SIZE: usize = 1000;
/// User metadata that tells our own commit from somebody else's object of the same size.
const NONCE: &str = "causeway_upload";
/// Tries to compose, which OpenDAL's retry layer leaves alone.
const COMPOSE_TRIES: usize = 4;

/// What moves bytes into a bucket that is not S3.
#[derive(Debug)]
pub(super) struct Moves {
    /// Never given up in the middle: writers and copies.
    pub(super) operator: Operator,
    part_bytes: usize,
    parts_in_flight: usize,
    /// Most bytes that are read and written again for one command.
    pub(super) rewrite_bytes: u64,
}

impl Moves {
    pub(super) fn new(operator: Operator, settings: &BucketSettings, can: &Capability) -> Self {
        let least = can.write_multi_min_size.unwrap_or(1);
        let most = can.write_multi_max_size.unwrap_or(usize::MAX);
        Self {
            operator,
            part_bytes: settings.part_bytes.clamp(least, most),
            parts_in_flight: settings.parts_in_flight.max(1),
            rewrite_bytes: settings.rewrite_bytes,
        }
    }

    fn part_sizes(&self) -> PartSizes {
        PartSizes {
            bytes: self.part_bytes,
            first_less: 0,
            doubling: Some(PARTS_PER_SIZE),
        }
    }
}

/// An upload under way.
pub(super) struct OpenDalUpload {
    store: ObjectStore,
    moves: Arc<Moves>,
    /// What the client named.
    target: String,
    /// What the writer writes: the target, or a hidden tail that is composed with it at the end.
    path: String,
    writer: Writer,
    nonce: String,
    /// What the target had, to be given to what replaces it.
    attributes: Attributes,
    /// The version that must still stand there at commit.
    version: Option<String>,
    /// Nothing may stand there at commit.
    exclusive: bool,
    base: Kept,
    parts: usize,
    size: u64,
    state: State,
}

/// How the first bytes of a present object get into the new one.
enum Kept {
    /// There are none.
    Nothing,
    /// By reading them, before the first part.
    Read(Box<BufferStream>),
    /// By composing the whole present object, of so many bytes, with the tail (GCS).
    Composed(u64),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// A part failed: the upload can only be aborted.
    Broken,
    /// Committed or aborted.
    Ended,
}

/// What a writer is opened for.
#[derive(Default)]
pub(super) struct Plan<'metadata> {
    /// What stands there, whose attributes the new object gets.
    pub(super) old: Option<&'metadata Metadata>,
    /// Only over this version.
    pub(super) version: Option<String>,
    /// Only over nothing.
    pub(super) exclusive: bool,
    /// A hidden object that is composed with the target at the end.
    pub(super) tail: Option<String>,
}

/// What an object has besides its bytes.
#[derive(Clone, Default)]
struct Attributes {
    user: HashMap<String, String>,
    content_type: Option<String>,
    cache_control: Option<String>,
    content_disposition: Option<String>,
    content_encoding: Option<String>,
}

impl Attributes {
    fn of(metadata: Option<&Metadata>, nonce: &str) -> Self {
        let mut user: HashMap<String, String> = metadata
            .and_then(Metadata::user_metadata)
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        user.insert(NONCE.to_owned(), nonce.to_owned());
        let kept = |value: Option<&str>| value.map(str::to_owned);
        Self {
            user,
            content_type: kept(
                metadata
                    .and_then(Metadata::content_type)
                    .or(Some("application/octet-stream")),
            ),
            cache_control: kept(metadata.and_then(Metadata::cache_control)),
            content_disposition: kept(metadata.and_then(Metadata::content_disposition)),
            content_encoding: kept(metadata.and_then(Metadata::content_encoding)),
        }
    }

    /// What this service can keep of it.
    fn write_options(&self, can: &Capability) -> WriteOptions {
        let able = |value: &Option<String>, can: bool| value.clone().filter(|_| can);
        WriteOptions {
            user_metadata: can.write_with_user_metadata.then(|| self.user.clone()),
            content_type: able(&self.content_type, can.write_with_content_type),
            cache_control: able(&self.cache_control, can.write_with_cache_control),
            content_disposition: able(
                &self.content_disposition,
                can.write_with_content_disposition,
            ),
            content_encoding: able(&self.content_encoding, can.write_with_content_encoding),
            ..WriteOptions::default()
        }
    }
}

impl OpenDalUpload {
    pub(super) async fn begin(
        store: &ObjectStore,
        moves: &Arc<Moves>,
        key: &StoreKey,
        file: NewFile,
    ) -> Result<Self> {
        let path = store.keys().file("write", key)?;
        if !file.surveyed {
            store.survey_at("write", key).await?;
        }
        let Base::Present { bytes, version } = file.base else {
            let plan = Plan {
                exclusive: file.exclusive,
                ..Plan::default()
            };
            return Self::open(store, moves, path, plan).await;
        };
        let Some(metadata) = store.head("write", &path).await? else {
            return Err(StoreError::new(ErrorKind::NotFound, "write"));
        };
        if version.is_some() && store.version(&metadata) != version.as_deref() {
            return Err(StoreError::new(ErrorKind::Changed, "write"));
        }
        let size = metadata.content_length();
        if bytes > size {
            return Err(StoreError::new(ErrorKind::OffsetBeyondEnd, "write"));
        }
        let mut plan = Plan {
            old: Some(&metadata),
            ..Plan::default()
        };
        let base = if bytes == 0 {
            Kept::Nothing
        } else if store.shared.can.compose && bytes == size {
            plan.tail = Some(store.keys().hidden());
            Kept::Composed(size)
        } else if bytes > moves.rewrite_bytes {
            // In words and before the 150, rather than an hour of silence.
            return Err(StoreError::new(ErrorKind::Unsupported, "write"));
        } else {
            plan.version = version.clone();
            let old = store.stream(&path, 0..bytes, version.clone());
            Kept::Read(Box::new(store.look("write", old).await?))
        };
        let mut upload = Self::open(store, moves, path, plan).await?;
        upload.version = version;
        upload.base = base;
        Ok(upload)
    }

    /// Opens a writer for `target`. No check of names: callers have made theirs.
    pub(super) async fn open(
        store: &ObjectStore,
        moves: &Arc<Moves>,
        target: String,
        plan: Plan<'_>,
    ) -> Result<Self> {
        let nonce = format!("{:032x}", rand::random::<u128>());
        let attributes = Attributes::of(plan.old, &nonce);
        let can = &store.shared.can;
        let generation = store.shared.dialect == Dialect::Gcs;
        let options = WriteOptions {
            concurrent: moves.parts_in_flight,
            if_not_exists: plan.exclusive && can.write_with_if_not_exists,
            if_version_match: plan.version.clone().filter(|_| generation),
            if_match: plan
                .version
                .filter(|_| !generation && can.write_with_if_match),
            ..attributes.write_options(can)
        };
        let path = plan.tail.unwrap_or_else(|| target.clone());
        let writer = moves.operator.writer_options(&path, options).await;
        Ok(Self {
            store: store.clone(),
            moves: Arc::clone(moves),
            target,
            path,
            writer: writer.map_err(|error| StoreError::from_opendal("write", error))?,
            nonce,
            attributes,
            version: None,
            exclusive: plan.exclusive,
            base: Kept::Nothing,
            parts: 0,
            size: 0,
            state: State::Open,
        })
    }

    /// Bytes of the next part.
    pub(super) fn next_part_bytes(&self) -> usize {
        self.moves.part_sizes().of(self.parts)
    }

    /// Puts the bytes that are read from the present object in front of the new ones. Not before the
    /// 150: a client waits for bytes to move, not for a reply.
    async fn put_base(&mut self) -> Result<()> {
        let mut old = match std::mem::replace(&mut self.base, Kept::Nothing) {
            Kept::Read(old) => old,
            // Its turn comes when the tail is stored.
            composed => {
                self.base = composed;
                return Ok(());
            }
        };
        let mut part = Vec::new();
        let mut bytes = 0;
        while let Some(chunk) = self.store.look("write", old.try_next()).await? {
            bytes += chunk.len();
            part.extend(Buffer::into_iter(chunk));
            if bytes >= self.next_part_bytes() {
                self.put(std::mem::take(&mut part)).await?;
                bytes = 0;
            }
        }
        if bytes > 0 {
            self.put(part).await?;
        }
        Ok(())
    }

    async fn put(&mut self, part: Vec<Bytes>) -> Result<()> {
        if self.parts >= MOST_PARTS {
            return Err(StoreError::new(ErrorKind::StorageFull, "write"));
        }
        // Not contiguous and not copied: the chunks go to the socket as they came.
        let part = Buffer::from(part);
        let bytes = part.len() as u64;
        self.writer
            .write(part)
            .await
            .map_err(|error| StoreError::from_opendal("write", error))?;
        self.parts += 1;
        self.size += bytes;
        Ok(())
    }

    async fn put_last(&mut self, last: Vec<Bytes>) -> Result<()> {
        self.put_base().await?;
        if last.iter().any(|chunk| !chunk.is_empty()) {
            self.put(last).await?;
        }
        self.require_unchanged().await
    }

    /// Refuses to replace what somebody else put there meanwhile.
    async fn require_unchanged(&mut self) -> Result<()> {
        let by_store = self.store.shared.can.write_with_if_not_exists;
        if self.version.is_none() && (!self.exclusive || by_store) {
            return Ok(());
        }
        let present = self.store.head("commit", &self.target).await?;
        if self.version.is_none() && present.is_some() {
            return Err(StoreError::new(ErrorKind::AlreadyExists, "commit"));
        }
        let present = present
            .as_ref()
            .and_then(|present| self.store.version(present));
        if present == self.version.as_deref() {
            return Ok(());
        }
        Err(StoreError::new(ErrorKind::Changed, "commit"))
    }

    /// Whether the object that stands there now is this upload's.
    async fn landed(&mut self, size: u64) -> Option<Stat> {
        let present = self.store.head("commit", &self.target).await.ok()??;
        let ours = present.user_metadata()?.get(NONCE) == Some(self.nonce.as_str());
        (ours && present.content_length() == size).then(|| self.store.file_stat(&present))
    }

    /// Closes the writer.
    async fn close(&mut self) -> Result<Stat> {
        let error = match self.writer.close().await {
            Ok(metadata) => {
                self.state = State::Ended;
                let known = Stat {
                    kind: Kind::File,
                    size: self.size,
                    // Not in every answer; asking for it would cost every upload a request.
                    modified: None,
                    version: self.store.version(&metadata).map(str::to_owned),
                    waits: false,
                };
                return Ok(known);
            }
            Err(error) => error,
        };
        // The store may have committed and only its answer been lost.
        let landed = if self.path == self.target {
            self.landed(self.size).await
        } else {
            None
        };
        if landed.is_none() {
            self.give_up().await;
        }
        self.state = State::Ended;
        match landed {
            Some(stat) => {
                tracing::warn!(key = ?self.target, error = ?error.to_string(), "an upload was committed although the store reported an error");
                Ok(stat)
            }
            None => Err(self.refused(error)),
        }
    }

    /// Why a commit failed that did not land.
    fn refused(&self, error: opendal::Error) -> StoreError {
        let error = StoreError::from_opendal("commit", error);
        if self.exclusive && error.kind() == ErrorKind::Changed {
            return StoreError::with_source(ErrorKind::AlreadyExists, "commit", error);
        }
        error
    }

    /// Puts the tail behind the present object, inside the store. OpenDAL takes no target as a source,
    /// so the present object is copied first, which costs no bytes within one bucket. The condition on
    /// the target makes sure that what was copied is what is replaced.
    async fn compose(&mut self, old: u64) -> Result<Stat> {
        let head = self.store.keys().hidden();
        let composed = self.compose_with(&head, old).await;
        for hidden in [&head, &self.path] {
            if let Err(error) = self.store.delete("commit", hidden, None).await {
                tracing::warn!(key = ?hidden, %error, "a hidden part of an append stays behind");
            }
        }
        composed
    }

    async fn compose_with(&mut self, head: &str, old: u64) -> Result<Stat> {
        let moves = self.moves.operator.clone();
        let failed = |error| StoreError::from_opendal("commit", error);
        moves
            .copy_options(&self.target, head, CopyOptions::default())
            .await
            .map_err(failed)?;
        let size = old + self.size;
        for attempt in 1.. {
            let options = ComposeOptions {
                if_version_match: self.version.clone(),
                user_metadata: Some(self.attributes.user.clone()),
                content_type: self.attributes.content_type.clone(),
                cache_control: self.attributes.cache_control.clone(),
                content_disposition: self.attributes.content_disposition.clone(),
                content_encoding: self.attributes.content_encoding.clone(),
                ..ComposeOptions::default()
            };
            let sources = [head, self.path.as_str()]
                .map(|path| (path.to_owned(), ComposeSourceOptions::default()));
            let error = match moves.compose_options(sources, &self.target, options).await {
                Ok(metadata) => {
                    return Ok(Stat {
                        kind: Kind::File,
                        size,
                        modified: super::modified(&metadata),
                        version: self.store.version(&metadata).map(str::to_owned),
                        waits: false,
                    });
                }
                Err(error) => error,
            };
            if let Some(stat) = self.landed(size).await {
                return Ok(stat);
            }
            if attempt >= COMPOSE_TRIES || !error.is_temporary() {
                return Err(failed(error));
            }
        }
        Err(StoreError::new(ErrorKind::Internal, "commit"))
    }

    async fn give_up(&mut self) {
        self.state = State::Ended;
        match self.writer.abort().await {
            Ok(()) => {}
            Err(error) if error.kind() == opendal::ErrorKind::NotFound => {}
            Err(error) => tracing::error!(
                key = ?self.path,
                error = ?error.to_string(),
                "cannot abort an upload; its parts stay until the store ends them by itself"
            ),
        }
    }
}

#[async_trait]
impl Upload for OpenDalUpload {
    fn part_sizes(&self) -> PartSizes {
        self.moves.part_sizes()
    }

    fn keeps_part_back(&self) -> bool {
        true
    }

    async fn write(&mut self, part: Vec<Bytes>) -> Result<()> {
        if self.state != State::Open {
            return Err(StoreError::new(ErrorKind::Internal, "write"));
        }
        let written = match self.put_base().await {
            Ok(()) => self.put(part).await,
            Err(error) => Err(error),
        };
        if written.is_err() {
            self.state = State::Broken;
        }
        written
    }

    async fn commit(mut self: Box<Self>, last: Vec<Bytes>) -> Result<Stat> {
        if self.state != State::Open {
            self.give_up().await;
            return Err(StoreError::new(ErrorKind::Internal, "commit"));
        }
        if let Err(error) = self.put_last(last).await {
            self.give_up().await;
            return Err(error);
        }
        let stat = self.close().await?;
        match self.base {
            Kept::Composed(old) => self.compose(old).await,
            Kept::Nothing | Kept::Read(_) => Ok(stat),
        }
    }

    async fn abort(mut self: Box<Self>) {
        self.give_up().await;
    }
}

impl Drop for OpenDalUpload {
    fn drop(&mut self) {
        if self.state != State::Ended {
            tracing::error!(key = ?self.path, "an upload was dropped; its parts stay until the store ends them by itself");
        }
    }
}
