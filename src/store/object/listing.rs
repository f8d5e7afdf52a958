//! Listing one directory of a bucket, page by page.

use std::collections::HashSet;

use futures_util::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use opendal::{Lister, options::ListOptions};

use super::{
    super::{Entry, ErrorKind, Result, StoreError},
    ObjectStore, directory_stat, file_stat,
    keys::Keys,
};
use crate::access::StoreKey;

/// The most S3 gives at once.
const PAGE: usize = 1000;

struct Listing {
    store: ObjectStore,
    directory: String,
    lister: Lister,
    first: Option<opendal::Entry>,
    /// Directories of the present page. S3 gives the prefixes of a page before its objects, so
    /// within a page an object `x` beside `x/…` is always recognised. Where a page ends between the
    /// two, the listing shows both: knowing better would take a look per object or unbounded memory.
    directories: HashSet<String>,
    /// Whether the last entry was an object, so that a directory begins a new page.
    after_object: bool,
    left_out: u64,
}

pub(super) async fn open(
    store: &ObjectStore,
    directory: &StoreKey,
) -> Result<BoxStream<'static, Result<Entry>>> {
    let path = store.keys().directory("list", directory)?;
    let options = ListOptions {
        limit: Some(PAGE),
        ..ListOptions::default()
    };
    let start = async {
        // Only with its slash is a path listed as a directory; without, siblings come along.
        let mut lister = store.shared.looks.lister_options(&path, options).await?;
        let first = lister.try_next().await?;
        Ok((lister, first))
    };
    let (lister, first) = store.look("list", start).await?;
    if first.is_none() && !directory.as_str().is_empty() {
        let object = store
            .head("list", &store.keys().file("list", directory)?)
            .await?;
        let kind = object.map_or(ErrorKind::NotFound, |_| ErrorKind::NotADirectory);
        return Err(StoreError::new(kind, "list"));
    }
    let listing = Listing {
        store: store.clone(),
        directory: path,
        lister,
        first,
        directories: HashSet::new(),
        after_object: false,
        left_out: 0,
    };
    Ok(stream::try_unfold(listing, |mut listing| async move {
        Ok(listing.next().await?.map(|entry| (entry, listing)))
    })
    .boxed())
}

impl Listing {
    async fn next(&mut self) -> Result<Option<Entry>> {
        loop {
            let entry = match self.first.take() {
                Some(first) => Some(first),
                None => self.store.look("list", self.lister.try_next()).await?,
            };
            let Some(entry) = entry else {
                if self.left_out > 0 {
                    tracing::info!(
                        directory = ?self.directory,
                        count = self.left_out,
                        "keys that cannot be served are left out of a listing"
                    );
                }
                return Ok(None);
            };
            if let Some(entry) = self.row(&entry) {
                return Ok(Some(entry));
            }
        }
    }

    /// The row of an entry; `None` for the directory's own marker and for what cannot be served.
    fn row(&mut self, entry: &opendal::Entry) -> Option<Entry> {
        let path = entry.path();
        if path == self.directory || self.store.keys().is_ours(path) {
            return None;
        }
        let Some(name) = Keys::name(&self.directory, path) else {
            self.left_out += 1;
            return None;
        };
        if path.ends_with('/') {
            if std::mem::take(&mut self.after_object) {
                self.directories.clear();
            }
            self.directories.insert(name.to_owned());
            return Some(Entry {
                name: name.to_owned(),
                stat: directory_stat(None),
            });
        }
        self.after_object = true;
        if self.directories.contains(name) {
            tracing::warn!(key = ?path, "an object is hidden by a directory");
            return None;
        }
        Some(Entry {
            name: name.to_owned(),
            stat: file_stat(entry.metadata()),
        })
    }
}
