//! Listing one directory of a bucket, page by page.

use std::collections::{BTreeMap, VecDeque};

use futures_util::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use opendal::{Lister, options::ListOptions};

use super::{
    super::{Entry, ErrorKind, Kind, Result, StoreError, Total},
    ObjectStore, directory_stat,
    keys::Keys,
    s3,
};
use crate::access::StoreKey;

/// The most that S3 and GCS give at once.
const PAGE: usize = 1000;

/// Objects held back at most. In a bucket that lists in key order no more than one for each byte of a
/// key can wait, since all that wait begin the present key.
const HELD: usize = 1024;

/// Looks at files of one listing at once, where it shows the times that clients set.
const LOOKS_AT_ONCE: usize = 16;

struct Listing {
    store: ObjectStore,
    directory: String,
    lister: Lister,
    first: Option<opendal::Entry>,
    rows: Rows,
    /// Files that wait for their rename, by name; they stand in for objects that they will replace.
    waiting: BTreeMap<String, Entry>,
    left_out: u64,
}

/// The rows of a listing, with no name twice.
///
/// A bucket may hold both `x` and `x/…`, and then the directory wins. It lists in key order, but
/// OpenDAL gives the prefixes of a page before its objects. So an object `x` may follow its directory
/// (same page), or come before it (a later page); in between lie only keys that begin with `x`. It is
/// held back until a key behind `x/` was seen, and never more than [`HELD`] are.
#[derive(Debug, Default)]
struct Rows {
    /// The last page's worth of directories, in key order, which is that of names with their slash.
    directories: VecDeque<String>,
    /// Objects whose directory may still come.
    held: BTreeMap<String, Entry>,
    ready: VecDeque<Entry>,
}

impl Rows {
    /// Takes an entry and says whether it hides an object, or is one that is hidden.
    fn add(&mut self, entry: Entry, directory: bool) -> bool {
        let mut hidden = false;
        if directory {
            self.release(&format!("{}/", entry.name));
            hidden = self.held.remove(&entry.name).is_some();
            if self.directories.len() == PAGE {
                self.directories.pop_front();
            }
            self.directories.push_back(format!("{}/", entry.name));
            self.ready.push_back(entry);
        } else {
            self.release(&entry.name);
            if self
                .directories
                .binary_search(&format!("{}/", entry.name))
                .is_ok()
            {
                return true;
            }
            self.held.insert(entry.name.clone(), entry);
            if self.held.len() > HELD {
                self.ready
                    .extend(self.held.pop_first().map(|(_, entry)| entry));
            }
        }
        hidden
    }

    /// Lets go what cannot have a directory any more now that `key` was seen.
    fn release(&mut self, key: &str) {
        // What waits is few; whatever does not begin `key` is decided.
        let decided = |name: &String| format!("{name}/").as_str() < key;
        while let Some(name) = self.held.keys().find(|name| decided(name)).cloned() {
            self.ready.extend(self.held.remove(&name));
        }
    }

    fn finish(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.ready.extend(held.into_values());
    }
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
    let mut waiting = BTreeMap::new();
    if let Some(s3) = store.s3() {
        for held in s3::held::within(s3, &path).await? {
            let entry = Entry {
                name: held.file_name().to_owned(),
                stat: held.stat(),
            };
            waiting.insert(entry.name.clone(), entry);
        }
    }
    let listing = Listing {
        store: store.clone(),
        directory: path.clone(),
        lister,
        first,
        rows: Rows::default(),
        waiting,
        left_out: 0,
    };
    let entries = stream::try_unfold(listing, |mut listing| async move {
        Ok(listing.next().await?.map(|entry| (entry, listing)))
    });
    if !store.shared.list_set_times {
        return Ok(entries.boxed());
    }
    let store = store.clone();
    let looked_at = entries.map(move |entry| {
        let (store, path) = (store.clone(), path.clone());
        async move { look_at(&store, &path, entry?).await }
    });
    Ok(looked_at.buffered(LOOKS_AT_ONCE).boxed())
}

/// The entry as STAT sees it: a page of a listing has no metadata of clients in it.
async fn look_at(store: &ObjectStore, directory: &str, mut entry: Entry) -> Result<Entry> {
    if entry.stat.kind == Kind::File && !entry.stat.waits {
        let path = format!("{directory}{}", entry.name);
        // What is gone by now was there when it was listed.
        if let Some(metadata) = store.head("list", &path).await? {
            entry.stat = store.file_stat(&metadata);
        }
    }
    Ok(entry)
}

/// Bytes and number of all objects below a directory but our own hidden ones, without a look at each of its
/// directories: a thousand objects a request.
pub(super) async fn total(store: &ObjectStore, directory: &StoreKey) -> Result<Total> {
    let path = store.keys().directory("count", directory)?;
    let options = ListOptions {
        limit: Some(PAGE),
        recursive: true,
        ..ListOptions::default()
    };
    let start = store.shared.looks.lister_options(&path, options);
    let mut lister = store.look("count", start).await?;
    let mut total = Total::default();
    while let Some(entry) = store.look("count", lister.try_next()).await? {
        let metadata = entry.metadata();
        if metadata.mode().is_file() && !store.keys().is_ours(entry.path()) {
            total.bytes = total.bytes.saturating_add(metadata.content_length());
            total.files += 1;
        }
    }
    Ok(total)
}

impl Listing {
    async fn next(&mut self) -> Result<Option<Entry>> {
        loop {
            if let Some(entry) = self.rows.ready.pop_front() {
                return Ok(Some(entry));
            }
            let entry = match self.first.take() {
                Some(first) => Some(first),
                None => self.store.look("list", self.lister.try_next()).await?,
            };
            let Some(entry) = entry else {
                self.rows.finish();
                let waiting = std::mem::take(&mut self.waiting);
                self.rows.ready.extend(waiting.into_values());
                if self.left_out > 0 {
                    tracing::info!(
                        directory = ?self.directory,
                        count = std::mem::take(&mut self.left_out),
                        "keys that cannot be served are left out of a listing"
                    );
                }
                if self.rows.ready.is_empty() {
                    return Ok(None);
                }
                continue;
            };
            self.add(&entry);
        }
    }

    /// Makes a row of an entry, unless it is the directory's own marker or cannot be served.
    fn add(&mut self, entry: &opendal::Entry) {
        let path = entry.path();
        if path == self.directory || self.store.keys().is_ours(path) {
            return;
        }
        let Some(name) = Keys::name(&self.directory, path) else {
            self.left_out += 1;
            return;
        };
        let directory = path.ends_with('/');
        if directory {
            self.waiting.remove(name);
        } else if self.waiting.contains_key(name) {
            return;
        }
        let stat = if directory {
            directory_stat(None)
        } else {
            self.store.file_stat(entry.metadata())
        };
        let row = Entry {
            name: name.to_owned(),
            stat,
        };
        if self.rows.add(row, directory) {
            tracing::warn!(key = ?path, "an object is hidden by a directory");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Runs keys through pages of `page` entries as OpenDAL gives them: prefixes first.
    fn rows(keys: &[&str], page: usize) -> (Vec<(String, Kind)>, usize) {
        let mut names: Vec<String> = keys
            .iter()
            .map(|key| match key.split_once('/') {
                Some((directory, _)) => format!("{directory}/"),
                None => (*key).to_owned(),
            })
            .collect();
        names.sort();
        names.dedup();
        let (mut rows, mut found, mut most) = (Rows::default(), Vec::new(), 0);
        for page in names.chunks(page) {
            let (directories, objects): (Vec<_>, Vec<_>) =
                page.iter().partition(|name| name.ends_with('/'));
            for name in directories.into_iter().chain(objects) {
                let directory = name.ends_with('/');
                let mut stat = directory_stat(None);
                if !directory {
                    stat.kind = Kind::File;
                }
                let name = name.trim_end_matches('/').to_owned();
                rows.add(Entry { name, stat }, directory);
                most = most.max(rows.held.len());
                found.extend(rows.ready.drain(..));
            }
        }
        rows.finish();
        found.extend(rows.ready.drain(..));
        let mut found: Vec<_> = found
            .into_iter()
            .map(|entry| (entry.name, entry.stat.kind))
            .collect();
        found.sort_by(|one, other| one.0.cmp(&other.0));
        (found, most)
    }

    proptest! {
        #[test]
        fn no_name_comes_twice_wherever_pages_end(
            keys in prop::collection::btree_set("[a!.0-]{1,4}(/[a-c])?", 0..60),
            page in 1_usize..8,
        ) {
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let (found, most) = rows(&keys, page);
            let mut wanted = BTreeMap::new();
            for key in &keys {
                if let Some((directory, _)) = key.split_once('/') {
                    wanted.insert(directory.to_owned(), Kind::Directory);
                } else {
                    wanted.entry((*key).to_owned()).or_insert(Kind::File);
                }
            }
            prop_assert_eq!(found, wanted.into_iter().collect::<Vec<_>>());
            prop_assert!(most <= 5, "held back: {}", most);
        }
    }
}
