//! [`Stores`]: the configured backends by name, and what they share.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::TryStreamExt;
use tokio::sync::Semaphore;

use super::{
    ErrorKind, Kind, NewFile, Result, Stat, Store, StoreError, Upload, listing_cache::ListingCache,
};
use crate::access::StoreKey;

/// Renames between backends at once: each holds a part of a file outside the budget of uploads.
const MOVES: usize = 4;

/// Longer than the step of a store's clock.
const TICK: Duration = Duration::from_millis(1_100);

/// The configured backends by name.
#[derive(Debug)]
pub struct Stores {
    by_name: BTreeMap<Arc<str>, Arc<dyn Store>>,
    pub(super) listings: ListingCache,
    /// Largest file that a rename carries from one backend to another; 0 refuses all.
    move_bytes: u64,
    moves: Semaphore,
}

impl Stores {
    /// These backends; files of up to `move_bytes` may be renamed from one to another.
    pub fn new(by_name: BTreeMap<Arc<str>, Arc<dyn Store>>, move_bytes: u64) -> Self {
        Self {
            by_name,
            listings: ListingCache::default(),
            move_bytes,
            moves: Semaphore::new(MOVES),
        }
    }

    /// The backend called `name`.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Store>> {
        self.by_name.get(name)
    }

    /// Carries a file from one backend to another and deletes it there, if it is still what was
    /// carried. At every moment at least one name has all bytes. `exclusive`: over nothing.
    ///
    /// Two backends may lead to the same place, where nothing is to be deleted. No name tells that (hosts
    /// have aliases), and on S3 not even the `ETag` of what was just written, since equal bytes have equal
    /// ones. So where source and target look alike, the time tells: the source has a new one if it is the
    /// target.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for directories and for files beyond the configured size.
    pub(super) async fn carry(
        &self,
        (source, from): (&Arc<dyn Store>, &StoreKey),
        (target, to): (&Arc<dyn Store>, &StoreKey),
        exclusive: bool,
    ) -> Result<()> {
        let operation = "rename";
        source.publish(from).await?;
        let stat = source.stat(from).await?;
        if stat.kind == Kind::Directory || stat.size > self.move_bytes {
            return Err(StoreError::new(ErrorKind::Unsupported, operation));
        }
        let _turn = self
            .moves
            .try_acquire()
            .map_err(|_| StoreError::new(ErrorKind::Busy, operation))?;
        let there = target.survey(to).await?;
        let alike = there.is_some_and(|there| {
            (there.size, there.modified, there.version)
                == (stat.size, stat.modified, stat.version.clone())
        });
        if alike {
            tokio::time::sleep(TICK).await;
        }
        let file = NewFile {
            exclusive,
            surveyed: true,
            ..NewFile::default()
        };
        let upload = target.write(to, file).await?;
        let carried = Self::copy(source, from, &stat, upload).await?;
        if carried.size != stat.size {
            return Err(StoreError::new(ErrorKind::Changed, operation));
        }
        let present = source.stat(from).await?;
        if alike && present.modified != stat.modified {
            return Ok(());
        }
        if present.version != stat.version || present.size != stat.size {
            // Both stay: what is there now was never carried.
            return Err(StoreError::new(ErrorKind::Changed, operation));
        }
        source.remove_file(from).await
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<dyn Store>)> {
        self.by_name.iter()
    }

    async fn copy(
        source: &Arc<dyn Store>,
        from: &StoreKey,
        stat: &Stat,
        mut upload: Box<dyn Upload>,
    ) -> Result<Stat> {
        match Self::pour(source, from, stat, upload.as_mut()).await {
            Ok(last) => upload.commit(last).await,
            Err(error) => {
                upload.abort().await;
                Err(error)
            }
        }
    }

    /// Writes every part but the last, which is given back.
    async fn pour(
        source: &Arc<dyn Store>,
        from: &StoreKey,
        stat: &Stat,
        upload: &mut dyn Upload,
    ) -> Result<Vec<Bytes>> {
        let mut part = Vec::new();
        if stat.size == 0 {
            return Ok(part);
        }
        let mut chunks = source.read(from, 0, stat).await?;
        let sizes = upload.part_sizes();
        let (mut parts, mut room, mut total) = (0, sizes.of(0), 0);
        while let Some(mut chunk) = chunks.try_next().await? {
            total += chunk.len() as u64;
            while !chunk.is_empty() {
                // More bytes follow, so this part is not the last.
                if room == 0 {
                    upload.write(std::mem::take(&mut part)).await?;
                    parts += 1;
                    room = sizes.of(parts);
                }
                let piece = chunk.split_to(room.min(chunk.len()));
                room -= piece.len();
                part.push(piece);
            }
        }
        if total != stat.size {
            return Err(StoreError::new(ErrorKind::Changed, "rename"));
        }
        Ok(part)
    }
}

/// No backends at all.
impl Default for Stores {
    fn default() -> Self {
        Self::new(BTreeMap::new(), 0)
    }
}
