//! Renaming within a bucket: the checks. The copy is the service's own.

use super::{
    super::{ErrorKind, Kind, Result, StoreError},
    ObjectStore, s3,
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
    s3::rename(store, &store.shared.s3, &source, &target).await
}
