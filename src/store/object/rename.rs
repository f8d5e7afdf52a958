//! Renaming an object: copy, verify, delete. Not atomic; at every moment at least one name has all bytes.

use opendal::options::CopyOptions;

use super::{
    super::{ErrorKind, Kind, Result, StoreError, Upload},
    ObjectStore, file_stat,
    upload::{ObjectUpload, Source},
};
use crate::access::StoreKey;

/// Up to here one request copies, metadata and all. S3 would take 5 GiB, but one request gives no
/// sign of life for minutes; above, parts are copied in parallel, by a writer: OpenDAL's own multipart
/// copy drops all metadata and takes the empty `ETag` with which Ceph 16 completes for a failure.
const ONE_REQUEST: u64 = 1 << 30;

pub(super) async fn rename(store: &ObjectStore, from: &StoreKey, to: &StoreKey) -> Result<()> {
    let failed = |kind| Err(StoreError::new(kind, "rename"));
    let (source, target) = (
        store.keys().file("rename", from)?,
        store.keys().file("rename", to)?,
    );
    let marker = store.keys().directory("rename", to)?;
    let stat = store.stat_at("rename", from).await?;
    if source == target {
        return Ok(());
    }
    if stat.kind == Kind::Directory {
        // Many copies: neither atomic nor bounded in time.
        return failed(ErrorKind::Unsupported);
    }
    tokio::try_join!(
        store.refuse_directory("rename", &marker),
        store.require_parent("rename", &target),
    )?;
    copy(store, &source, &target, stat.size, stat.version.as_deref()).await?;
    match store.head("rename", &target).await? {
        Some(copied) if copied.content_length() == stat.size => {}
        _ => return failed(ErrorKind::Changed),
    }
    remove_source(store, &source, stat.version.as_deref()).await
}

async fn copy(
    store: &ObjectStore,
    source: &str,
    target: &str,
    size: u64,
    version: Option<&str>,
) -> Result<()> {
    if size <= ONE_REQUEST {
        // Not under a deadline of our own: OpenDAL pins the source's ETag by a HEAD of its own, and
        // the layers bound every try.
        let copied = store
            .shared
            .moves
            .copy_options(source, target, CopyOptions::default())
            .await;
        return copied
            .map(drop)
            .map_err(|error| StoreError::from_opendal("rename", error));
    }
    let Some(metadata) = store.head("rename", source).await? else {
        return Err(StoreError::new(ErrorKind::Changed, "rename"));
    };
    let stat = file_stat(&metadata);
    if stat.size != size || version.is_some() && stat.version.as_deref() != version {
        return Err(StoreError::new(ErrorKind::Changed, "rename"));
    }
    let source = Source {
        path: source.to_owned(),
        metadata,
        bytes: size,
    };
    let upload = ObjectUpload::open(store, target.to_owned(), Some(source), None).await?;
    Box::new(upload).commit().await.map(drop)
}

/// Deletes the source if it is still what was copied.
///
/// The look before covers stores that ignore the condition of a delete (Ceph 16 does); stores
/// that refuse it are asked once more without.
async fn remove_source(store: &ObjectStore, source: &str, version: Option<&str>) -> Result<()> {
    store.keep_parent("rename", source).await?;
    let Some(present) = store.head("rename", source).await? else {
        return Ok(());
    };
    if version.is_some() && present.etag() != version {
        return Err(StoreError::new(ErrorKind::Changed, "rename"));
    }
    match store.delete("rename", source, version).await {
        Err(error) if matches!(error.kind(), ErrorKind::Internal | ErrorKind::Unsupported) => {
            store.delete("rename", source, None).await
        }
        other => other,
    }
}
