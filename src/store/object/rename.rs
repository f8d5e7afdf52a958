//! Renaming within a bucket: the checks. The copy is the service's own.

use super::{
    super::{ErrorKind, Kind, Result, StoreError},
    Changes, ObjectStore, copy, s3,
};
use crate::access::StoreKey;

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
    match &store.shared.changes {
        Changes::S3(s3) => s3::rename(store, s3, &source, &target).await,
        Changes::OpenDal(moves) => {
            copy::copy(store, moves, &source, &target, &stat).await?;
            remove_source(store, &source, stat.version.as_deref()).await
        }
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
