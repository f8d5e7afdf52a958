//! [`MemoryStore`]: files in memory, gone with the process.
//!
//! For trying things out and for tests. Owns its files and the count of their bytes, which never
//! exceeds the configured bound, uploads under way included. Not OpenDAL's memory service, which has
//! no bound, no times, no versions and no rename (`docs/decisions/0015-backends-beyond-s3.md`).

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream, stream::BoxStream};

use super::{
    Abilities, Base, Entry, ErrorKind, Kind, NewFile, PartSizes, Result, Stat, Store, StoreError,
    Upload,
};
use crate::{
    access::StoreKey,
    config::{MemoryBackend, SetTime},
};

const PART_BYTES: usize = 256 << 10;

/// Entries copied out of the table in one step of a listing.
const LIST_BATCH: usize = 1000;

/// What a file or directory costs besides its bytes, so that names have a bound too.
const NODE_BYTES: usize = 512;

/// Files in memory as a store.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Held for look-ups and changes of the table only, never across an await.
    tree: Mutex<Tree>,
    bound: usize,
    set_time: SetTime,
}

/// Every file and directory by its key; the root, which is always there, is not in it.
#[derive(Debug, Default)]
struct Tree {
    nodes: BTreeMap<String, Node>,
    /// Bytes of the files, of uploads under way, and of the nodes themselves.
    used: usize,
    generation: u64,
}

#[derive(Clone, Debug)]
struct Node {
    content: Option<Arc<Vec<Bytes>>>,
    size: u64,
    modified: SystemTime,
    generation: u64,
}

impl Node {
    fn stat(&self) -> Stat {
        let kind = match self.content {
            Some(_) => Kind::File,
            None => Kind::Directory,
        };
        Stat {
            kind,
            size: self.size,
            modified: Some(self.modified),
            version: (kind == Kind::File).then(|| self.generation.to_string()),
            waits: false,
        }
    }
}

impl Tree {
    fn stat(&self, operation: &'static str, key: &str) -> Result<Stat> {
        if key.is_empty() {
            return Ok(Stat {
                kind: Kind::Directory,
                size: 0,
                modified: None,
                version: None,
                waits: false,
            });
        }
        if let Some(node) = self.nodes.get(key) {
            return Ok(node.stat());
        }
        // A name below a file: as a disk says it.
        if let Some((parent, _)) = key.rsplit_once('/')
            && self.stat(operation, parent)?.kind == Kind::File
        {
            return Err(StoreError::new(ErrorKind::NotADirectory, operation));
        }
        Err(StoreError::new(ErrorKind::NotFound, operation))
    }

    fn require_directory(&self, operation: &'static str, key: &str) -> Result<()> {
        match self.stat(operation, key)?.kind {
            Kind::Directory => Ok(()),
            Kind::File => Err(StoreError::new(ErrorKind::NotADirectory, operation)),
        }
    }

    fn require_parent(&self, operation: &'static str, key: &str) -> Result<()> {
        let parent = key.rsplit_once('/').map_or("", |(parent, _)| parent);
        self.require_directory(operation, parent)
    }

    /// What stands at `key`, if anything; errors of the parent are errors.
    fn occupant(&self, operation: &'static str, key: &str) -> Result<Option<Stat>> {
        self.require_parent(operation, key)?;
        match self.stat(operation, key) {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    /// Puts a node and gives back the bytes of the one it replaces. The new one is already paid for.
    fn put(&mut self, key: String, node: Node) {
        if let Some(old) = self.nodes.insert(key, node) {
            self.give_back(old.size);
        }
    }

    fn remove(&mut self, key: &str) {
        if let Some(old) = self.nodes.remove(key) {
            self.give_back(old.size);
        }
    }

    fn give_back(&mut self, size: u64) {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        self.used = self.used.saturating_sub(size.saturating_add(NODE_BYTES));
    }

    fn is_empty(&self, directory: &str) -> bool {
        self.below(directory, Bound::Unbounded).next().is_none()
    }

    /// The nodes below a directory, at any depth, from `start` on.
    fn below<'tree>(
        &'tree self,
        directory: &str,
        start: Bound<String>,
    ) -> impl Iterator<Item = (&'tree String, &'tree Node)> + use<'tree> {
        let prefix = prefix(directory);
        let start = match start {
            Bound::Unbounded => Bound::Included(prefix.clone()),
            bound => bound,
        };
        self.nodes
            .range((start, Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(&prefix))
    }
}

/// What the keys in a directory begin with.
fn prefix(directory: &str) -> String {
    match directory {
        "" => String::new(),
        directory => format!("{directory}/"),
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn open(backend: &MemoryBackend) -> Self {
        Self {
            shared: Arc::new(Shared {
                tree: Mutex::default(),
                bound: backend.size_bytes,
                set_time: backend.set_time,
            }),
        }
    }

    /// No code panics while it holds the lock, so there is nothing to be poisoned by.
    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.shared
            .tree
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn pay(&self, operation: &'static str, tree: &mut Tree, bytes: usize) -> Result<()> {
        match tree.used.checked_add(bytes) {
            Some(used) if used <= self.shared.bound => {
                tree.used = used;
                Ok(())
            }
            _ => Err(StoreError::new(ErrorKind::StorageFull, operation)),
        }
    }

    /// The next entries of a directory, and where to go on; `None` at the end.
    fn batch(
        &self,
        directory: &str,
        mut start: Bound<String>,
    ) -> (Vec<Entry>, Option<Bound<String>>) {
        let prefix = prefix(directory);
        let tree = self.tree();
        let mut entries = Vec::new();
        while entries.len() < LIST_BATCH {
            let Some((key, node)) = tree.below(directory, start).next() else {
                return (entries, None);
            };
            let name = &key[prefix.len()..];
            start = if let Some((child, _)) = name.split_once('/') {
                // Inside a directory: on behind all of it. `0` follows `/`.
                Bound::Included(format!("{prefix}{child}0"))
            } else {
                entries.push(Entry {
                    name: name.to_owned(),
                    stat: node.stat(),
                });
                Bound::Excluded(key.clone())
            };
        }
        (entries, Some(start))
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn stat(&self, key: &StoreKey) -> Result<Stat> {
        self.tree().stat("stat", key.as_str())
    }

    async fn list(&self, directory: &StoreKey) -> Result<BoxStream<'static, Result<Entry>>> {
        self.tree().require_directory("list", directory.as_str())?;
        let start = Some((
            self.clone(),
            directory.as_str().to_owned(),
            Bound::Unbounded,
        ));
        let batches = stream::unfold(start, |state| async move {
            let (store, directory, start) = state?;
            let (batch, next) = store.batch(&directory, start);
            Some((batch, next.map(|next| (store, directory, next))))
        });
        Ok(batches.flat_map(stream::iter).map(Ok).boxed())
    }

    async fn read(
        &self,
        key: &StoreKey,
        offset: u64,
        stat: &Stat,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let operation = "read";
        let tree = self.tree();
        let present = tree.stat(operation, key.as_str())?;
        if present.kind == Kind::Directory {
            return Err(StoreError::new(ErrorKind::IsADirectory, operation));
        }
        if stat.version.is_some() && stat.version != present.version {
            return Err(StoreError::new(ErrorKind::Changed, operation));
        }
        if offset > present.size {
            return Err(StoreError::new(ErrorKind::OffsetBeyondEnd, operation));
        }
        let content = tree
            .nodes
            .get(key.as_str())
            .and_then(|node| node.content.clone());
        let chunks = kept(
            content.as_deref().map_or(&[], Vec::as_slice),
            offset,
            present.size,
        );
        Ok(stream::iter(chunks.into_iter().map(Ok)).boxed())
    }

    async fn write(&self, key: &StoreKey, file: NewFile) -> Result<Box<dyn Upload>> {
        let operation = "write";
        let name = key.as_str();
        if name.is_empty() {
            return Err(StoreError::new(ErrorKind::IsADirectory, operation));
        }
        let mut tree = self.tree();
        let present = tree.occupant(operation, name)?;
        if present
            .as_ref()
            .is_some_and(|stat| stat.kind == Kind::Directory)
        {
            return Err(StoreError::new(ErrorKind::IsADirectory, operation));
        }
        let mut content = Vec::new();
        let mut expected = None;
        if let Base::Present { bytes, version } = file.base {
            let Some(present) = present else {
                return Err(StoreError::new(ErrorKind::NotFound, operation));
            };
            if version.is_some() && version != present.version {
                return Err(StoreError::new(ErrorKind::Changed, operation));
            }
            if bytes > present.size {
                return Err(StoreError::new(ErrorKind::OffsetBeyondEnd, operation));
            }
            let old = tree.nodes.get(name).and_then(|node| node.content.clone());
            content = kept(old.as_deref().map_or(&[], Vec::as_slice), 0, bytes);
            expected = version;
        }
        let size: usize = content.iter().map(Bytes::len).sum();
        self.pay(operation, &mut tree, size.saturating_add(NODE_BYTES))?;
        Ok(Box::new(MemoryUpload {
            store: self.clone(),
            key: name.to_owned(),
            version: expected,
            exclusive: file.exclusive,
            content,
            size,
            paid: true,
        }))
    }

    async fn remove_file(&self, key: &StoreKey) -> Result<()> {
        let operation = "remove_file";
        let mut tree = self.tree();
        if tree.stat(operation, key.as_str())?.kind == Kind::Directory {
            return Err(StoreError::new(ErrorKind::IsADirectory, operation));
        }
        tree.remove(key.as_str());
        Ok(())
    }

    async fn make_directory(&self, key: &StoreKey) -> Result<()> {
        let operation = "make_directory";
        if key.as_str().is_empty() {
            return Err(StoreError::new(ErrorKind::AlreadyExists, operation));
        }
        let mut tree = self.tree();
        if tree.occupant(operation, key.as_str())?.is_some() {
            return Err(StoreError::new(ErrorKind::AlreadyExists, operation));
        }
        self.pay(operation, &mut tree, NODE_BYTES)?;
        let generation = tree.next_generation();
        let node = Node {
            content: None,
            size: 0,
            modified: SystemTime::now(),
            generation,
        };
        tree.put(key.as_str().to_owned(), node);
        Ok(())
    }

    async fn remove_directory(&self, key: &StoreKey) -> Result<()> {
        let operation = "remove_directory";
        if key.as_str().is_empty() {
            return Err(StoreError::new(ErrorKind::PermissionDenied, operation));
        }
        let mut tree = self.tree();
        tree.require_directory(operation, key.as_str())?;
        if !tree.is_empty(key.as_str()) {
            return Err(StoreError::new(ErrorKind::NotEmpty, operation));
        }
        tree.remove(key.as_str());
        Ok(())
    }

    async fn rename(&self, from: &StoreKey, to: &StoreKey, exclusive: bool) -> Result<()> {
        let operation = "rename";
        let (from, to) = (from.as_str(), to.as_str());
        if from.is_empty() || to.is_empty() {
            return Err(StoreError::new(ErrorKind::IsADirectory, operation));
        }
        let mut tree = self.tree();
        let source = tree.stat(operation, from)?;
        match tree.occupant(operation, to)?.map(|stat| stat.kind) {
            Some(_) if from == to => return Ok(()),
            Some(_) if exclusive => {
                return Err(StoreError::new(ErrorKind::AlreadyExists, operation));
            }
            Some(Kind::Directory) => {
                return Err(StoreError::new(ErrorKind::IsADirectory, operation));
            }
            Some(Kind::File) if source.kind == Kind::Directory => {
                return Err(StoreError::new(ErrorKind::NotADirectory, operation));
            }
            _ => {}
        }
        if to
            .strip_prefix(from)
            .is_some_and(|rest| rest.starts_with('/'))
        {
            return Err(StoreError::new(ErrorKind::NameNotAllowed, operation));
        }
        let below: Vec<String> = tree
            .below(from, Bound::Unbounded)
            .map(|(key, _)| key.clone())
            .collect();
        tree.remove(to);
        for key in std::iter::once(from.to_owned()).chain(below) {
            if let Some(node) = tree.nodes.remove(&key) {
                tree.nodes
                    .insert(format!("{to}{}", &key[from.len()..]), node);
            }
        }
        Ok(())
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            set_modified: self.shared.set_time != SetTime::Refuse,
            available: true,
        }
    }

    async fn set_modified(&self, key: &StoreKey, time: SystemTime) -> Result<()> {
        match self.shared.set_time {
            SetTime::Store => {}
            SetTime::Ignore => return Ok(()),
            SetTime::Refuse => {
                return Err(StoreError::new(ErrorKind::Unsupported, "set_modified"));
            }
        }
        let mut tree = self.tree();
        let Some(node) = tree.nodes.get_mut(key.as_str()) else {
            return Err(StoreError::new(ErrorKind::NotFound, "set_modified"));
        };
        node.modified = time;
        Ok(())
    }

    async fn available(&self) -> Result<Option<u64>> {
        let left = self.shared.bound.saturating_sub(self.tree().used);
        Ok(Some(left as u64))
    }
}

/// An upload under way. What it has is counted from the first byte on.
struct MemoryUpload {
    store: MemoryStore,
    key: String,
    version: Option<String>,
    /// Never in the place of something else.
    exclusive: bool,
    content: Vec<Bytes>,
    size: usize,
    /// Whether its bytes are still counted as those of an upload.
    paid: bool,
}

#[async_trait]
impl Upload for MemoryUpload {
    fn part_sizes(&self) -> PartSizes {
        PartSizes::equal(PART_BYTES)
    }

    async fn write(&mut self, part: Vec<Bytes>) -> Result<()> {
        let bytes: usize = part.iter().map(Bytes::len).sum();
        self.store.pay("write", &mut self.store.tree(), bytes)?;
        self.size += bytes;
        if bytes == 0 {
            return Ok(());
        }
        // Copied: the chunks' owners pay with the budget of running uploads, which must come back.
        let mut whole = Vec::with_capacity(bytes);
        for chunk in part {
            whole.extend_from_slice(&chunk);
        }
        self.content.push(whole.into());
        Ok(())
    }

    async fn commit(mut self: Box<Self>, last: Vec<Bytes>) -> Result<Stat> {
        let operation = "commit";
        self.write(last).await?;
        let store = self.store.clone();
        let mut tree = store.tree();
        // The lock is let go before `self` is dropped, which takes it.
        let present = tree.occupant(operation, &self.key);
        let present = present.and_then(|stat| match stat {
            Some(stat) if stat.kind == Kind::Directory => {
                Err(StoreError::new(ErrorKind::IsADirectory, operation))
            }
            stat => Ok(stat.and_then(|stat| stat.version)),
        });
        let present = match present {
            Ok(present) => present,
            Err(error) => {
                drop(tree);
                return Err(error);
            }
        };
        if self.version.is_some() && self.version != present {
            drop(tree);
            return Err(StoreError::new(ErrorKind::Changed, operation));
        }
        if self.exclusive && present.is_some() {
            drop(tree);
            return Err(StoreError::new(ErrorKind::AlreadyExists, operation));
        }
        let generation = tree.next_generation();
        let node = Node {
            content: Some(Arc::new(std::mem::take(&mut self.content))),
            size: self.size as u64,
            modified: SystemTime::now(),
            generation,
        };
        let stat = node.stat();
        tree.put(std::mem::take(&mut self.key), node);
        self.paid = false;
        drop(tree);
        Ok(stat)
    }

    async fn abort(self: Box<Self>) {}
}

impl Drop for MemoryUpload {
    fn drop(&mut self) {
        if self.paid {
            self.store.tree().give_back(self.size as u64);
        }
    }
}

/// The bytes from `offset` up to `end`, shared and not copied.
fn kept(chunks: &[Bytes], offset: u64, end: u64) -> Vec<Bytes> {
    let clamp = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
    let (mut skip, mut left) = (clamp(offset), clamp(end.saturating_sub(offset)));
    let mut kept = Vec::new();
    for chunk in chunks {
        let start = skip.min(chunk.len());
        skip -= start;
        let take = (chunk.len() - start).min(left);
        left -= take;
        if take > 0 {
            kept.push(chunk.slice(start..start + take));
        }
    }
    kept
}
