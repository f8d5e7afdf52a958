//! Renaming within a bucket: the checks. The copy is the service's own.

use std::sync::Arc;

use super::{
    super::{ErrorKind, Kind, Result, StoreError},
    Changes, ObjectStore, copy, s3,
};
use crate::access::StoreKey;

pub(super) async fn rename(
    store: &ObjectStore,
    from: &StoreKey,
    to: &StoreKey,
    exclusive: bool,
) -> Result<()> {
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
    match &store.shared.changes {
        Changes::S3(s3) => {
            if let Some(held) = s3::held::at(s3, &source).await? {
                s3::held::commit(store, s3, &held).await?;
            }
            s3::rename(store, s3, &source, &target, exclusive).await?;
            discard_held(s3, &target).await
        }
        Changes::OpenDal(moves) => {
            copy::copy(store, moves, &source, &target, &stat, exclusive).await?;
            remove_source(store, &source, stat.version.as_deref()).await
        }
    }
}

/// Completes a file that waits for its rename under its final name; `false` if it is not such a file, or
/// another name was expected: then it is renamed like any other.
pub(super) async fn complete(
    store: &ObjectStore,
    from: &StoreKey,
    to: &StoreKey,
    exclusive: bool,
) -> Result<bool> {
    let Changes::S3(s3) = &store.shared.changes else {
        return Ok(false);
    };
    let source = store.keys().file("rename", from)?;
    let Some(held) = s3::held::at(s3, &source).await? else {
        return Ok(false);
    };
    let target = store.keys().file("rename", to)?;
    let marker = store.keys().directory("rename", to)?;
    let own = store.keys().directory("rename", from)?;
    // Where a directory has the temporary name too, it is the directory that is renamed.
    if !store.below("rename", &own, 1).await?.is_empty() {
        return Ok(false);
    }
    tokio::try_join!(
        store.refuse_directory("rename", &marker),
        store.require_parent("rename", &target),
    )?;
    let completed = s3::held::rename(store, s3, &held, &target, exclusive).await?;
    if completed {
        discard_held(s3, &target).await?;
    }
    Ok(completed)
}

/// What waited under a name that another file has taken is replaced.
async fn discard_held(s3: &Arc<s3::S3>, target: &str) -> Result<()> {
    match s3::held::at(s3, target).await? {
        Some(replaced) => s3::held::discard(s3, &replaced).await,
        None => Ok(()),
    }
}

/// Deletes the source if it is still what was copied: the look before covers services whose deletes
/// take no condition.
async fn remove_source(store: &ObjectStore, source: &str, version: Option<&str>) -> Result<()> {
    store.keep_parent("rename", source).await?;
    let Some(present) = store.head("rename", source).await? else {
        return Ok(());
    };
    if version.is_some() && store.version(&present) != version {
        return Err(StoreError::new(ErrorKind::Changed, "rename"));
    }
    store.delete("rename", source, version).await
}
