//! Copying an object inside a bucket that is not S3, as the service can.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use opendal::{Buffer, options::CopyOptions};

use super::{
    super::{ErrorKind, Result, Stat, StoreError, Upload},
    Dialect, ObjectStore,
    opendal_upload::{Moves, OpenDalUpload, Plan},
};

/// Bytes that one block of a copy takes on Azure.
const BLOCK_BYTES: u64 = 256 << 20;

/// Copies `source` as it is described by `stat` and looks that the copy is whole. `exclusive`: over nothing.
pub(super) async fn copy(
    store: &ObjectStore,
    moves: &Arc<Moves>,
    source: &str,
    target: &str,
    stat: &Stat,
    exclusive: bool,
) -> Result<()> {
    let can = &store.shared.can;
    let mut options = CopyOptions {
        if_not_exists: exclusive && can.copy_with_if_not_exists,
        ..CopyOptions::default()
    };
    match store.shared.dialect {
        Dialect::Azblob => in_blocks(&mut options, stat.size),
        // The generation of what is not there, as the service has it.
        Dialect::Gcs if exclusive => options.if_version_match = Some("0".to_owned()),
        Dialect::S3 | Dialect::Gcs | Dialect::Other => {}
    }
    let copied = match store.shared.dialect {
        _ if !can.copy => None,
        Dialect::Azblob if stat.size == 0 => None,
        _ => match by_service(moves, source, target, options).await {
            Err(error) if exclusive && error.kind() == ErrorKind::Changed => {
                let kind = ErrorKind::AlreadyExists;
                return Err(StoreError::with_source(kind, "rename", error));
            }
            copied => copied?,
        },
    };
    if copied.is_none() {
        through_us(store, moves, source, target, stat, exclusive).await?;
    }
    match store.head("rename", target).await? {
        Some(copied) if copied.content_length() == stat.size => Ok(()),
        _ => Err(StoreError::new(ErrorKind::Changed, "rename")),
    }
}

/// In blocks, so that the target becomes visible whole: an unchunked copy is answered with 202 while
/// the store still copies, and shows an empty blob meanwhile (Copy Blob, remarks).
fn in_blocks(options: &mut CopyOptions, size: u64) {
    options.chunk = usize::try_from(size.min(BLOCK_BYTES)).ok();
    options.source_content_length_hint = Some(size);
    options.concurrent = 4;
}

/// `None` where this store, which claims to speak the service's language, knows no such request.
async fn by_service(
    moves: &Moves,
    source: &str,
    target: &str,
    options: CopyOptions,
) -> Result<Option<()>> {
    // Not under a deadline of our own: the layers bound every try.
    match moves.operator.copy_options(source, target, options).await {
        Ok(_) => Ok(Some(())),
        Err(error) if not_implemented(&error) => Ok(None),
        Err(error) => Err(StoreError::from_opendal("rename", error)),
    }
}

/// Azurite 3 answers Put Block From URL with 501. The source of a block is named by a URL with a signature,
/// which cannot be made from a token of Entra ID (reqsign 3: all identities but a key or a SAS). OpenDAL
/// keeps both only as text.
fn not_implemented(error: &opendal::Error) -> bool {
    const SAID: [&str; 2] = ["status: 501", "BearerToken can't be used in query string"];
    let text = error.to_string();
    error.kind() == opendal::ErrorKind::Unsupported || SAID.iter().any(|said| text.contains(said))
}

/// Reads the object and writes it again, pinned to one version where the store can.
async fn through_us(
    store: &ObjectStore,
    moves: &Arc<Moves>,
    source: &str,
    target: &str,
    stat: &Stat,
    exclusive: bool,
) -> Result<()> {
    if stat.size > moves.rewrite_bytes {
        return Err(StoreError::new(ErrorKind::Unsupported, "rename"));
    }
    let Some(metadata) = store.head("rename", source).await? else {
        return Err(StoreError::new(ErrorKind::Changed, "rename"));
    };
    let plan = Plan {
        old: Some(&metadata),
        exclusive,
        ..Plan::default()
    };
    let upload = OpenDalUpload::open(store, moves, target.to_owned(), plan).await?;
    let mut upload = Box::new(upload);
    match fill(store, source, stat, &mut upload).await {
        Ok(last) => upload.commit(last).await.map(drop),
        Err(error) => {
            upload.abort().await;
            Err(error)
        }
    }
}

/// Writes all parts but the last, which is given back.
async fn fill(
    store: &ObjectStore,
    source: &str,
    stat: &Stat,
    upload: &mut OpenDalUpload,
) -> Result<Vec<Bytes>> {
    let mut part = Vec::new();
    if stat.size == 0 {
        return Ok(part);
    }
    let stream = store.stream(source, 0..stat.size, stat.version.clone());
    let mut chunks = store.look("rename", stream).await?;
    let mut bytes = 0;
    while let Some(chunk) = store.look("rename", chunks.try_next()).await? {
        bytes += chunk.len();
        part.extend(Buffer::into_iter(chunk));
        if bytes >= upload.next_part_bytes() {
            upload.write(std::mem::take(&mut part)).await?;
            bytes = 0;
        }
    }
    Ok(part)
}
