//! [`View`]: the file system that one logged-in account sees.
//!
//! Joins [`crate::access`] (may I, and where is it) with the [`Store`]s (do it). Every method takes a
//! [`VirtualPath`], authorises it and only then touches a store. Called by the edge for the checks
//! before a `150`, and by [`super::backend`] for what libunftp dispatches.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream, stream::BoxStream};

use super::{
    Author, Base, Entry, ErrorKind, Kept, Kind, NewFile, Result, Stat, Store, StoreError, Stores,
    Upload,
    listing::Permissions,
    quota::{Allowance, Metered, Quotas, Usage},
    transfer::Failure,
};
use crate::access::{Account, Action, Denied, StoreKey, Tree, VirtualPath};
use crate::config::Checksum;

/// One account's tree over the configured stores.
#[derive(Clone, Debug)]
pub struct View {
    tree: Tree,
    stores: Arc<Stores>,
    /// Where interrupted uploads are kept and can be continued.
    kept: Option<Arc<Kept>>,
    /// What lies in the writable mounts, where there is a quota.
    quota: Option<(Arc<Quotas>, Arc<Usage>)>,
    /// Files that this session has uploaded: it may look whether they arrived although it may list
    /// nothing. The last [`OWN_UPLOADS`] of them.
    own: Arc<Mutex<VecDeque<VirtualPath>>>,
}

/// Uploads that a session without the right to list can look at.
const OWN_UPLOADS: usize = 256;

type Outcome<T> = std::result::Result<T, Failure>;

impl View {
    /// The view of `tree` over `stores`; with `kept` interrupted uploads stay.
    pub fn new(tree: Tree, stores: Arc<Stores>, kept: Option<Arc<Kept>>) -> Self {
        Self {
            tree,
            stores,
            kept,
            quota: None,
            own: Arc::default(),
        }
    }

    /// The same, held to the account's quota.
    #[must_use]
    pub fn held_to(self, quotas: &Arc<Quotas>) -> Self {
        let usage = quotas.of(&self.tree, &self.stores);
        let quota = usage.map(|usage| (Arc::clone(quotas), usage));
        Self { quota, ..self }
    }

    /// A file of this session has arrived.
    pub fn uploaded(&self, path: &VirtualPath) {
        let mut own = self.own();
        if own.len() >= OWN_UPLOADS {
            own.pop_front();
        }
        own.push_back(path.clone());
    }

    fn own(&self) -> MutexGuard<'_, VecDeque<VirtualPath>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key of what the account may look at: what it may list, and its own uploads.
    fn visible(&self, path: &VirtualPath) -> std::result::Result<StoreKey, Denied> {
        match self.tree.authorise(Action::List, path) {
            Err(denied) if !self.own().contains(path) => Err(denied),
            Err(_) => self.tree.authorise(Action::Write, path),
            key => key,
        }
    }

    /// Whose view it is.
    pub fn account(&self) -> &Account {
        self.tree.account()
    }

    /// Makes the directories that this account's writable mounts start at, so that a new user can
    /// upload at once. A failure is no reason to refuse the login: the user may still read.
    pub async fn prepare_home(&self) {
        for key in self.tree.writable_roots() {
            let Some(store) = self.stores.get(key.backend()) else {
                continue;
            };
            if let Err(error) = store.make_directories(&key).await {
                tracing::warn!(%error, "home directory could not be made");
            }
        }
    }

    /// Key and rights of a path, for the `unique` and `perm` facts (RFC 3659 §7.5); `None` where
    /// nothing is mounted.
    pub fn describe(&self, path: &VirtualPath) -> Option<(StoreKey, Permissions)> {
        let key = self.visible(path).ok()?;
        Some((
            key,
            Permissions {
                actions: self.tree.rights(path),
                fixed: self.tree.is_fixed(path),
            },
        ))
    }

    /// Where a path lies, for records: mount, backend and key.
    pub fn place(&self, path: &VirtualPath) -> Option<(&VirtualPath, &Arc<str>, String)> {
        self.tree.locate(path)
    }

    /// Stats a directory that the account may go into (CWD); what is no directory is refused.
    pub async fn enter(&self, path: &VirtualPath) -> Outcome<Stat> {
        let stat = match self.tree.enter(path) {
            Ok(key) => self.stat_or_mount(path, &key).await?,
            Err(Denied::NotMounted) if self.leads_to_mount(path) => directory(),
            Err(denied) => return Err(denied.into()),
        };
        if stat.kind == Kind::File {
            return Err(StoreError::new(ErrorKind::NotADirectory, "stat").into());
        }
        Ok(stat)
    }

    /// Stats a file or directory.
    pub async fn stat(&self, path: &VirtualPath) -> Outcome<Stat> {
        match self.visible(path) {
            Ok(key) => self.stat_or_mount(path, &key).await,
            Err(Denied::NotMounted) if self.leads_to_mount(path) => Ok(directory()),
            Err(denied) => Err(denied.into()),
        }
    }

    async fn stat_or_mount(&self, path: &VirtualPath, key: &StoreKey) -> Outcome<Stat> {
        match self.store(key)?.stat(key).await {
            // A mount point is there by configuration, whether its backend has the directory or not.
            Err(error) if error.kind() == ErrorKind::NotFound && self.tree.is_fixed(path) => {
                Ok(directory())
            }
            stat => Ok(stat?),
        }
    }

    /// Stats as SIZE, MDTM and MLST show it: what is kept of the account's own interrupted upload
    /// stands in for the file, so that the client goes on from there.
    pub async fn stat_or_kept(&self, path: &VirtualPath) -> Outcome<Stat> {
        let stat = self.stat(path).await;
        if self.kept.is_none() {
            return stat;
        }
        // Who may list nothing may still go on with what it began.
        let may_be_kept = match &stat {
            Ok(_) | Err(Failure::Denied(Denied::NotGranted(_) | Denied::Rule { .. })) => true,
            Err(Failure::Store(error)) => error.kind() == ErrorKind::NotFound,
            Err(_) => false,
        };
        if may_be_kept
            && let Ok((store, key)) = self.located(Action::Write, path)
            && let Some(kept) = self.kept(store, &key, stat.as_ref().ok()).await?
        {
            return Ok(kept);
        }
        stat
    }

    /// What is kept of the account's own interrupted upload. A file that was completed since then has
    /// made it worthless: a client that appends to that file must not be led to the old bytes.
    async fn kept(
        &self,
        store: &Arc<dyn Store>,
        key: &StoreKey,
        present: Option<&Stat>,
    ) -> Outcome<Option<Stat>> {
        if present.is_some_and(|present| present.kind == Kind::Directory) {
            return Ok(None);
        }
        let user = &self.account().name;
        let Some(kept) = store.kept(key, user).await? else {
            return Ok(None);
        };
        if present.is_some_and(|present| present.modified > kept.modified) {
            store.forget(key, user).await?;
            return Ok(None);
        }
        Ok(Some(kept))
    }

    /// Lists a directory, mount points included.
    pub async fn list(&self, path: &VirtualPath) -> Outcome<BoxStream<'static, Result<Entry>>> {
        let mounts = self.tree.mount_names(path);
        let listed = match self.located(Action::List, path) {
            Ok((store, key)) => match self.listed(path, store, &key).await {
                Err(error) if error.kind() == ErrorKind::NotFound && self.tree.is_fixed(path) => {
                    stream::empty().boxed()
                }
                listed => listed?,
            },
            Err(Failure::Denied(Denied::NotMounted)) if self.leads_to_mount(path) => {
                stream::empty().boxed()
            }
            Err(failure) => return Err(failure),
        };
        let listed = self.shown(path, listed);
        if mounts.is_empty() {
            return Ok(listed);
        }
        let mounts: Vec<String> = mounts
            .into_iter()
            .filter(|name| path.join(name).is_ok_and(|path| self.tree.shows(&path)))
            .collect();
        // A mount hides what the store below it has under the same name.
        let points: Vec<_> = mounts
            .iter()
            .map(|name| {
                Ok(Entry {
                    name: name.clone(),
                    stat: directory(),
                })
            })
            .collect();
        let rest = listed.filter(move |entry| {
            let hidden = entry
                .as_ref()
                .is_ok_and(|entry| mounts.contains(&entry.name));
            std::future::ready(!hidden)
        });
        Ok(stream::iter(points).chain(rest).boxed())
    }

    /// What a store lists, or what it listed just now where the mount allows that.
    async fn listed(
        &self,
        path: &VirtualPath,
        store: &Arc<dyn Store>,
        key: &StoreKey,
    ) -> Result<BoxStream<'static, Result<Entry>>> {
        let age = self.tree.listing_cache(path);
        if age.is_zero() {
            return store.list(key).await;
        }
        self.stores.listings.list(store, key, age).await
    }

    /// Without the entries that grants hide.
    fn shown(
        &self,
        directory: &VirtualPath,
        entries: BoxStream<'static, Result<Entry>>,
    ) -> BoxStream<'static, Result<Entry>> {
        if !self.tree.is_restricted() {
            return entries;
        }
        let (tree, directory) = (self.tree.clone(), directory.clone());
        let shown = move |entry: &Result<Entry>| {
            let shows = |entry: &Entry| {
                let path = directory.join(&entry.name);
                path.is_ok_and(|path| tree.shows(&path))
            };
            std::future::ready(entry.as_ref().map_or(true, shows))
        };
        entries.filter(shown).boxed()
    }

    /// Opens a file for reading from `offset` on and says how large it is.
    pub async fn read(
        &self,
        path: &VirtualPath,
        offset: u64,
    ) -> Outcome<(Stat, BoxStream<'static, Result<Bytes>>)> {
        let (store, key) = self.located(Action::Read, path)?;
        store.publish(&key).await?;
        let stat = store.stat(&key).await?;
        if stat.kind == Kind::Directory {
            return Err(StoreError::new(ErrorKind::IsADirectory, "read").into());
        }
        if offset > stat.size {
            return Err(StoreError::new(ErrorKind::OffsetBeyondEnd, "read").into());
        }
        if offset == stat.size {
            // An empty range has no HTTP form (RFC 9110 §14.1.2: 416), and nothing to read.
            return Ok((stat, stream::empty().boxed()));
        }
        let bytes = store.read(&key, offset, &stat).await?;
        Ok((stat, bytes))
    }

    /// Size and digest of a file, if the store kept them.
    pub async fn checksum(
        &self,
        path: &VirtualPath,
        checksum: Checksum,
    ) -> Outcome<Option<(u64, String)>> {
        let (store, key) = self.located(Action::Read, path)?;
        Ok(store.checksum(&key, checksum).await?)
    }

    /// Begins to replace or create a file (`append: None`), or to continue the present one from
    /// `append` bytes on ([`AppendFrom::End`]: all it has). Where interrupted uploads are kept, the
    /// account's own comes before the present file. `about` is what else is known of it.
    pub async fn write(
        &self,
        path: &VirtualPath,
        append: Option<AppendFrom>,
        about: About,
    ) -> Outcome<Box<dyn Upload>> {
        // Asked for with the weakest right first: a read-only account gets no hint about what exists.
        let (store, key) = self.located(Action::Write, path)?;
        if append.is_some() {
            // Bytes can only be put behind what is complete.
            store.publish(&key).await?;
        }
        let present = store.survey(&key).await?;
        if let Some(keeper) = &self.kept
            && let Some(from) = append
            && let Some(kept) = self.kept(store, &key, present.as_ref()).await?
        {
            let offset = match from {
                AppendFrom::End => kept.size,
                AppendFrom::Offset(offset) => offset,
            };
            // A position behind both is the store's to refuse: another session may be at it.
            let fits_file = present
                .as_ref()
                .is_some_and(|present| offset <= present.size);
            if offset > 0 && (offset <= kept.size || !fits_file) {
                let permitted = self.located(Action::Overwrite, path);
                let exclusive = present.is_none() && permitted.is_err();
                if present.is_some() {
                    permitted?;
                }
                let replaced = present.as_ref().map(|present| present.size);
                let allowance = self.allowance(replaced, offset).await?;
                let user = &self.account().name;
                let upload = store.resume(&key, user, offset, exclusive).await?;
                let upload = keeper.watch(upload, store, &key, user, offset);
                let upload = self.stores.listings.watch(upload, key);
                return Ok(metered(upload, allowance));
            }
        }
        let replaced = present.as_ref().map(|present| present.size);
        let base = match (append, present) {
            (None | Some(AppendFrom::End | AppendFrom::Offset(0)), None) => Base::Empty,
            (Some(AppendFrom::Offset(_)), None) => {
                return Err(StoreError::new(ErrorKind::OffsetBeyondEnd, "write").into());
            }
            (None | Some(AppendFrom::Offset(0)), Some(_)) => {
                self.located(Action::Overwrite, path)?;
                Base::Empty
            }
            (Some(from), Some(stat)) => {
                self.located(Action::Append, path)?;
                let bytes = match from {
                    AppendFrom::End => stat.size,
                    AppendFrom::Offset(offset) => offset,
                };
                if bytes > stat.size {
                    return Err(StoreError::new(ErrorKind::OffsetBeyondEnd, "write").into());
                }
                // What lies behind the restart position is replaced.
                if bytes < stat.size {
                    self.located(Action::Overwrite, path)?;
                }
                Base::Present {
                    bytes,
                    version: stat.version,
                }
            }
        };
        let kept = match &base {
            Base::Empty => 0,
            Base::Present { bytes, .. } => *bytes,
        };
        let allowance = self.allowance(replaced, kept).await?;
        let keeper = self.kept.as_ref().filter(|_| base == Base::Empty);
        let file = NewFile {
            // Who may not overwrite must not do so by being slower than another upload.
            exclusive: about.exclusive
                || replaced.is_none() && self.located(Action::Overwrite, path).is_err(),
            base,
            expected_bytes: about.announced,
            surveyed: true,
            author: Some(Author {
                user: self.account().name.clone(),
                session: about.session,
                path: path.as_str().to_owned(),
                mount: self
                    .place(path)
                    .map_or_else(String::new, |(mount, ..)| mount.as_str().to_owned()),
            }),
        };
        let upload = match keeper {
            Some(keeper) => {
                let user = &self.account().name;
                let upload = store.write_kept(&key, file, user).await?;
                keeper.watch(upload, store, &key, user, 0)
            }
            None => store.write(&key, file).await?,
        };
        let upload = self.stores.listings.watch(upload, key);
        Ok(metered(upload, allowance))
    }

    /// What an upload may grow to that begins with `kept` bytes in the place of a file of `replaced`
    /// bytes; `None` for whatever size.
    async fn allowance(&self, replaced: Option<u64>, kept: u64) -> Outcome<Option<Allowance>> {
        let account = self.account();
        let usage = match &self.quota {
            None if account.limits.file_bytes.is_none() => return Ok(None),
            None => None,
            Some((quotas, usage)) => {
                quotas.ready(usage).await?;
                Some(Arc::clone(usage))
            }
        };
        let most = account.limits.file_bytes;
        Ok(Some(Allowance::new(
            usage,
            account.quota,
            most,
            replaced,
            kept,
        )?))
    }

    /// Whether a file of `bytes` bytes, which a client has announced (ALLO), could be stored at `path`.
    pub async fn fits(&self, path: &VirtualPath, bytes: u64) -> Outcome<()> {
        let (store, key) = self.located(Action::Write, path)?;
        if self
            .account()
            .limits
            .file_bytes
            .is_some_and(|most| bytes > most)
        {
            return Err(StoreError::new(ErrorKind::FileTooLarge, "write").into());
        }
        let Some((quotas, usage)) = &self.quota else {
            return Ok(());
        };
        quotas.ready(usage).await?;
        let replaced = match store.stat(&key).await {
            Ok(stat) => stat.size,
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => return Err(error.into()),
        };
        match usage.free(self.account().quota) {
            Some(free) if bytes.saturating_sub(replaced) > free => {
                Err(StoreError::new(ErrorKind::QuotaExceeded, "write").into())
            }
            _ => Ok(()),
        }
    }

    /// Deletes a file, and what is kept of an interrupted upload of it.
    pub async fn remove_file(&self, path: &VirtualPath) -> Outcome<()> {
        let (store, key) = self.located(Action::Delete, path)?;
        let size = self.counted_size(store, &key).await;
        let removed = store.remove_file(&key).await;
        self.stores.listings.forget(&key);
        if removed.is_ok() {
            self.count_removed(size);
        }
        if let Some(keeper) = &self.kept {
            let user = &self.account().name;
            keeper.forget(&key, user);
            if store.forget(&key, user).await? {
                return match removed {
                    // SIZE showed it, so it can be deleted.
                    Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                    removed => Ok(removed?),
                };
            }
        }
        Ok(removed?)
    }

    /// The size of a file that is about to go, where somebody counts it.
    async fn counted_size(&self, store: &Arc<dyn Store>, key: &StoreKey) -> Option<u64> {
        self.quota.as_ref()?;
        // What cannot be asked now is found by the next count.
        let stat = store.stat(key).await.ok()?;
        (stat.kind == Kind::File).then_some(stat.size)
    }

    fn count_removed(&self, size: Option<u64>) {
        if let (Some((_, usage)), Some(size)) = (&self.quota, size) {
            usage.removed(size);
        }
    }

    /// Makes a directory.
    pub async fn make_directory(&self, path: &VirtualPath) -> Outcome<()> {
        let (store, key) = match self.located(Action::MakeDirectory, path) {
            Err(Failure::Denied(Denied::MountPoint(_))) => {
                return Err(StoreError::new(ErrorKind::AlreadyExists, "make_directory").into());
            }
            located => located?,
        };
        let made = store.make_directory(&key).await;
        self.stores.listings.forget(&key);
        Ok(made?)
    }

    /// Removes an empty directory.
    pub async fn remove_directory(&self, path: &VirtualPath) -> Outcome<()> {
        let (store, key) = self.located(Action::RemoveDirectory, path)?;
        if self.leads_to_mount(path) {
            return Err(StoreError::new(ErrorKind::NotEmpty, "remove_directory").into());
        }
        let removed = store.remove_directory(&key).await;
        self.stores.listings.forget(&key);
        Ok(removed?)
    }

    /// Whether `from` may be renamed and exists (RNFR).
    pub async fn rename_source(&self, from: &VirtualPath) -> Outcome<Stat> {
        let (store, key) = self.located(Action::Rename, from)?;
        Ok(store.stat(&key).await?)
    }

    /// Renames within one backend, or carries a file of bounded size to another one. Whether the file
    /// waited for it and appears only now, under its new name alone.
    pub async fn rename(&self, from: &VirtualPath, to: &VirtualPath) -> Outcome<bool> {
        // Grants and names may treat files and directories differently; asking costs a request.
        let is_directory =
            self.tree.is_restricted() && self.rename_source(from).await?.kind == Kind::Directory;
        let (source, target, may_overwrite) = self.tree.rename(from, to, is_directory)?;
        // A directory above a mount point cannot move: the mount would stay behind.
        if self.leads_to_mount(from) || to.is_within(from) && to != from {
            return Err(StoreError::new(ErrorKind::NameNotAllowed, "rename").into());
        }
        let (store, other) = (self.store(&source)?, self.store(&target)?);
        let exclusive = !may_overwrite;
        if exclusive {
            match other.stat(&target).await {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
                Ok(_) => return Err(Denied::NotGranted(Action::Overwrite).into()),
            }
        }
        let replaced = if source == target {
            None
        } else {
            self.counted_size(other, &target).await
        };
        let renamed = if source.backend() == target.backend() {
            match store.complete_as(&source, &target, exclusive).await {
                Ok(false) => {
                    let renamed = store.rename(&source, &target, exclusive).await;
                    renamed.map(|()| false)
                }
                completed => completed,
            }
        } else {
            let (from, to) = ((store, &source), (other, &target));
            let carried = self.stores.carry(from, to, exclusive).await;
            carried.map(|()| false)
        };
        self.stores.listings.forget_below(&source);
        self.stores.listings.forget_below(&target);
        let appeared = match renamed {
            // It came after the look.
            Err(error) if exclusive && error.kind() == ErrorKind::AlreadyExists => {
                return Err(Denied::NotGranted(Action::Overwrite).into());
            }
            renamed => renamed?,
        };
        self.count_removed(replaced);
        Ok(appeared)
    }

    /// Sets the time of the last change of what is there (MFMT).
    pub async fn set_modified(&self, path: &VirtualPath, time: SystemTime) -> Outcome<()> {
        let (store, key) = self.located(Action::SetTime, path)?;
        store.stat(&key).await?;
        let set = store.set_modified(&key, time).await;
        self.stores.listings.forget(&key);
        Ok(set?)
    }

    /// Whether something is there whose times, modes and such this account could change.
    pub async fn changeable(&self, path: &VirtualPath) -> Outcome<Stat> {
        let (store, key) = self.located(Action::SetTime, path)?;
        Ok(store.stat(&key).await?)
    }

    /// Bytes that a directory can still take; `None` where the store does not know.
    pub async fn available(&self, path: &VirtualPath) -> Outcome<Option<u64>> {
        let (store, _) = self.located(Action::List, path)?;
        if self.stat(path).await?.kind == Kind::File {
            return Err(StoreError::new(ErrorKind::NotADirectory, "available").into());
        }
        let free = self.quota.as_ref();
        let free = free.and_then(|(_, usage)| usage.free(self.account().quota));
        let available = store.available().await?;
        Ok([available, free].into_iter().flatten().min())
    }

    fn located(&self, action: Action, path: &VirtualPath) -> Outcome<(&Arc<dyn Store>, StoreKey)> {
        let key = self.tree.authorise(action, path)?;
        Ok((self.store(&key)?, key))
    }

    fn store(&self, key: &StoreKey) -> Outcome<&Arc<dyn Store>> {
        // Mounts are checked against the backends when the configuration and the users are read.
        Ok(self.stores.get(key.backend()).ok_or(Denied::NotMounted)?)
    }

    fn leads_to_mount(&self, path: &VirtualPath) -> bool {
        path.is_root() || !self.tree.mount_names(path).is_empty()
    }
}

/// Where new bytes go in a present file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendFrom {
    /// Behind its last byte (APPE).
    End,
    /// At this offset (REST + STOR); what was behind it goes.
    Offset(u64),
}

fn metered(upload: Box<dyn Upload>, allowance: Option<Allowance>) -> Box<dyn Upload> {
    match allowance {
        None => upload,
        Some(allowance) => Box::new(Metered::new(upload, allowance)),
    }
}

/// What is known of a new file beside its path.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// What the log calls the session.
    pub session: String,
    /// Bytes that the client announced (ALLO).
    pub announced: Option<u64>,
    /// Never in the place of something else (STOU).
    pub exclusive: bool,
}

/// A directory of which nothing more is known.
fn directory() -> Stat {
    Stat {
        kind: Kind::Directory,
        size: 0,
        modified: None,
        version: None,
        waits: false,
    }
}
