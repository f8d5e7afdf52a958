//! [`Tree`]: the mounts one account sees and what it may do there.
//!
//! Owns the decision and the translation from a path to a [`StoreKey`] (CONFORMANCE S46, S48, S54).
//! Must not know stores, sockets or clocks. Called by [`crate::edge`], which holds one tree per
//! session; keys go to [`crate::store`].

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    Account, Action, Actions, Rule, VirtualPath,
    path::check_segment,
    template::{expand_prefix, segments},
};

/// One row of the table that makes up the tree a user sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where the mount appears.
    pub path: VirtualPath,
    /// Name of the backend in the configuration.
    pub backend: Arc<str>,
    /// Key prefix inside the backend, without leading or trailing slash, with templates: `{home}` stands
    /// for the account's home, `{user}` for its name, `{certificate}` for what its certificate says,
    /// `{attribute.NAME}` for one of its attributes. May be empty.
    pub prefix: String,
    /// Refuses every action that changes the store below this mount.
    pub read_only: bool,
    /// How old a listing may be that is shown again; zero for none.
    pub listing_cache: Duration,
}

/// Proof that an account may do one action at one place of one backend.
///
/// Fields are private and only [`Tree::authorise`] and [`StoreKey::child`] make one, so code that
/// holds a key was allowed to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoreKey {
    backend: Arc<str>,
    key: String,
}

/// Why an action was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The account is read-only.
    #[error("the account is read-only")]
    ReadOnlyAccount,
    /// The mount is read-only.
    #[error("{0} is read-only")]
    ReadOnlyMount(VirtualPath),
    /// No mount covers the path.
    #[error("nothing is mounted there")]
    NotMounted,
    /// The path is a mount point, which only the configuration changes.
    #[error("{0} is a mount point")]
    MountPoint(VirtualPath),
    /// A grant denies it.
    #[error("{action} is denied by {origin}")]
    Rule {
        /// What was asked for.
        action: Action,
        /// Where the grant stands.
        origin: Arc<str>,
    },
    /// There are grants, and none of them allows it.
    #[error("no grant allows {0}")]
    NotGranted(Action),
    /// A rename would give this right to what did not have it.
    #[error("after the rename {0} would be allowed, which is not allowed now")]
    Gains(Action),
    /// Grants differ below a directory that is to be renamed.
    #[error("{0} holds for a part of the directory only")]
    Divided(Arc<str>),
    /// No file may have this name.
    #[error("file names like {0:?} are denied")]
    FileName(String),
    /// Only files of certain names are allowed.
    #[error("no pattern of file names allows it")]
    FileNameNotAllowed,
}

/// Why an action is allowed.
#[derive(Clone, Debug)]
pub enum Grounds {
    /// No grant of the account allows anything, so everything is allowed that none denies.
    NoGrants,
    /// This grant.
    Rule(Arc<Rule>),
}

/// The tree of one account: decides, and translates paths into keys.
#[derive(Clone, Debug)]
pub struct Tree {
    account: Arc<Account>,
    /// Deepest mount first, so the first one that covers a path is the longest.
    mounts: Vec<Expanded>,
}

/// A mount whose prefix was expanded for one account.
#[derive(Clone, Debug)]
struct Expanded {
    path: VirtualPath,
    backend: Arc<str>,
    /// `None` when the account's name or home makes no safe prefix. Such a mount stays in the table
    /// and denies: were it dropped, paths below it would fall through to the mount around it.
    prefix: Option<String>,
    read_only: bool,
    listing_cache: Duration,
}

impl Tree {
    /// The tree that `account` sees through `mounts` and its own mounts; one of its own takes the
    /// place of another at the same path.
    ///
    /// A mount whose expanded prefix would hold `.`, `..`, an empty or otherwise invalid segment is
    /// not mounted for this account: everything below it is [`Denied::NotMounted`].
    pub fn new(account: Arc<Account>, mounts: &[Mount]) -> Self {
        let replaced = |mount: &&Mount| account.mounts.iter().all(|own| own.path != mount.path);
        let mut mounts: Vec<Expanded> = mounts
            .iter()
            .filter(replaced)
            .chain(&account.mounts)
            .map(|mount| Expanded {
                path: mount.path.clone(),
                backend: Arc::clone(&mount.backend),
                prefix: expand_prefix(&mount.prefix, &account),
                read_only: mount.read_only,
                listing_cache: mount.listing_cache,
            })
            .collect();
        // All mounts that cover one path lie within each other, so more segments means longer. The
        // sort is stable: of two mounts at one path (the configuration refuses it) the first wins.
        mounts.sort_by_key(|mount| std::cmp::Reverse(mount.path.segments().count()));
        Self { account, mounts }
    }

    /// The account this tree belongs to.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Decides whether the account may do `action` at `path`; yes comes as the key to do it with.
    ///
    /// A mount point, a directory that leads to one, and `/` can be listed but not changed: only the
    /// configuration makes them. Reading a mount point is allowed here and refused by the store,
    /// which knows that it is a directory.
    ///
    /// # Errors
    /// Why not; a denial wins over whatever allows.
    pub fn authorise(&self, action: Action, path: &VirtualPath) -> Result<StoreKey, Denied> {
        let (mount, prefix) = self.place(action, path)?;
        if action.changes() && self.is_fixed(path) {
            return Err(Denied::MountPoint(path.clone()));
        }
        self.grounds(action, path)?;
        if matches!(action, Action::Write | Action::Overwrite | Action::Append) {
            self.check_name(path)?;
        }
        Ok(key(mount, prefix, path))
    }

    /// Decides whether the account may go into the directory `path` (CWD): where it may do anything
    /// there, or must pass through to come to where it may. A drop box can be entered and not listed.
    ///
    /// # Errors
    /// Why it may not.
    pub fn enter(&self, path: &VirtualPath) -> Result<StoreKey, Denied> {
        let (mount, prefix) = self.place(Action::List, path)?;
        if let Err(denied) = self.grounds(Action::List, path) {
            let mut others = Action::WORDS.iter().map(|(_, action)| *action);
            let useful = others.any(|action| self.grounds(action, path).is_ok());
            if !useful && !self.leads_to_grant(path) {
                return Err(denied);
            }
        }
        Ok(key(mount, prefix, path))
    }

    /// Decides whether `from` may become `to`: both keys, and whether a file that is there may be
    /// replaced. A rename needs the right at both ends, and gives no right to what did not have it:
    /// what may not be read, overwritten, continued or deleted here must not be so there. Directories
    /// move only where one decision holds for all that lies in them.
    ///
    /// # Errors
    /// Why it may not.
    pub fn rename(
        &self,
        from: &VirtualPath,
        to: &VirtualPath,
        is_directory: bool,
    ) -> Result<(StoreKey, StoreKey, bool), Denied> {
        const KEPT: [Action; 4] = [
            Action::Read,
            Action::Overwrite,
            Action::Append,
            Action::Delete,
        ];
        let source = self.authorise(Action::Rename, from)?;
        let target = self.authorise(Action::Rename, to)?;
        for action in KEPT {
            if self.grounds(action, from).is_err() && self.grounds(action, to).is_ok() {
                return Err(Denied::Gains(action));
            }
        }
        if is_directory {
            let dividing = self
                .account
                .rules
                .iter()
                .find(|rule| rule.pattern.divides(from) || rule.pattern.divides(to));
            if let Some(rule) = dividing {
                return Err(Denied::Divided(Arc::clone(&rule.origin)));
            }
        } else {
            self.check_name(to)?;
        }
        let may_overwrite = self.authorise(Action::Overwrite, to).is_ok();
        Ok((source, target, may_overwrite))
    }

    /// What grants say of an action, mounts aside.
    ///
    /// # Errors
    /// The denial, or that nothing allows it.
    pub fn grounds(&self, action: Action, path: &VirtualPath) -> Result<Grounds, Denied> {
        let rules = &self.account.rules;
        let covering = || rules.iter().filter(|rule| rule.pattern.matches(path));
        if let Some(rule) = covering().find(|rule| rule.deny.contains(action)) {
            let origin = Arc::clone(&rule.origin);
            return Err(Denied::Rule { action, origin });
        }
        if rules.iter().all(|rule| rule.allow.is_empty()) {
            return Ok(Grounds::NoGrants);
        }
        covering()
            .find(|rule| rule.allow.contains(action))
            .map(|rule| Grounds::Rule(Arc::clone(rule)))
            .ok_or(Denied::NotGranted(action))
    }

    /// Everything the account may do at `path`, a mount point taken for any other directory.
    pub fn rights(&self, path: &VirtualPath) -> Actions {
        let allowed = |action: &Action| {
            self.place(*action, path).is_ok() && self.grounds(*action, path).is_ok()
        };
        let actions = Action::WORDS.iter().map(|(_, action)| *action);
        actions.filter(allowed).collect()
    }

    /// Whether a listing of the directory above shows `path`: where the account may list it, or do
    /// something there, or go through.
    pub fn shows(&self, path: &VirtualPath) -> bool {
        let may_list = self.grounds(Action::List, path).is_ok();
        self.account.rules.is_empty() || may_list || self.leads_to_grant(path)
    }

    /// Whether grants or names say more than yes.
    pub fn is_restricted(&self) -> bool {
        !self.account.rules.is_empty() || !self.account.file_names.is_empty()
    }

    /// Whether `path` is on the way to what some grant allows, and nothing is denied at `path` itself.
    fn leads_to_grant(&self, path: &VirtualPath) -> bool {
        let rules = &self.account.rules;
        let leads = |rule: &Arc<Rule>| !rule.allow.is_empty() && rule.pattern.leads_through(path);
        let denies = |rule: &Arc<Rule>| !rule.deny.is_empty() && rule.pattern.matches(path);
        rules.iter().any(leads) && !rules.iter().any(denies)
    }

    /// The mount and its prefix that an action at `path` falls to.
    fn place(&self, action: Action, path: &VirtualPath) -> Result<(&Expanded, &str), Denied> {
        if action.changes() && self.account.read_only {
            return Err(Denied::ReadOnlyAccount);
        }
        let covering = self.mounts.iter().find(|mount| path.is_within(&mount.path));
        let mount = covering.ok_or(Denied::NotMounted)?;
        let prefix = mount.prefix.as_deref().ok_or(Denied::NotMounted)?;
        if action.changes() && mount.read_only {
            return Err(Denied::ReadOnlyMount(mount.path.clone()));
        }
        Ok((mount, prefix))
    }

    /// Path, backend, prefix with its templates filled in, and whether it is read-only, of every mount;
    /// without a prefix where a template has no value. For operators.
    pub fn mounts(&self) -> impl Iterator<Item = (&VirtualPath, &str, Option<&str>, bool)> {
        let mounts = self.mounts.iter();
        mounts.map(|mount| {
            let prefix = mount.prefix.as_deref();
            (&mount.path, &*mount.backend, prefix, mount.read_only)
        })
    }

    /// Where a path lies, whatever the account may do there: its mount, the backend and the key as text.
    /// For records only; a store takes a [`StoreKey`].
    pub fn locate(&self, path: &VirtualPath) -> Option<(&VirtualPath, &Arc<str>, String)> {
        let mount = self
            .mounts
            .iter()
            .find(|mount| path.is_within(&mount.path))?;
        let key = key(mount, mount.prefix.as_deref()?, path);
        Some((&mount.path, &mount.backend, key.key))
    }

    fn check_name(&self, path: &VirtualPath) -> Result<(), Denied> {
        let name = path.name().unwrap_or_default();
        match self.account.file_names.forbids(name) {
            None => Ok(()),
            Some("") => Err(Denied::FileNameNotAllowed),
            Some(glob) => Err(Denied::FileName(glob.to_owned())),
        }
    }

    /// How old a listing of `path` may be that is shown again; zero for none.
    pub fn listing_cache(&self, path: &VirtualPath) -> Duration {
        let covering = self.mounts.iter().find(|mount| path.is_within(&mount.path));
        covering.map_or(Duration::ZERO, |mount| mount.listing_cache)
    }

    /// Keys of the mounts' own roots where the account may write: the homes to make at login.
    pub fn writable_roots(&self) -> Vec<StoreKey> {
        let writable = self
            .mounts
            .iter()
            .filter(|mount| !self.account.read_only && !mount.read_only);
        writable
            .filter_map(|mount| {
                let key = mount.prefix.clone()?;
                Some(StoreKey {
                    backend: Arc::clone(&mount.backend),
                    key,
                })
            })
            .collect()
    }

    /// Names directly below `directory` that are mount points (or lead to one), sorted, for listings.
    pub fn mount_names(&self, directory: &VirtualPath) -> Vec<String> {
        let depth = directory.segments().count();
        self.mounts
            .iter()
            .filter(|mount| mount.prefix.is_some() && mount.path.is_within(directory))
            .filter_map(|mount| mount.path.segments().nth(depth).map(str::to_owned))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    /// Whether `path` exists by configuration: `/`, a mount point, or a directory above one.
    pub fn is_fixed(&self, path: &VirtualPath) -> bool {
        path.is_root() || self.mounts.iter().any(|mount| mount.path.is_within(path))
    }
}

/// The key of `path` in the mount that covers it.
fn key(mount: &Expanded, prefix: &str, path: &VirtualPath) -> StoreKey {
    let inside = path.segments().skip(mount.path.segments().count());
    let key = segments(prefix).chain(inside).collect::<Vec<_>>().join("/");
    StoreKey {
        backend: Arc::clone(&mount.backend),
        key,
    }
}

impl StoreKey {
    /// Name of the backend the key belongs to.
    pub fn backend(&self) -> &Arc<str> {
        &self.backend
    }

    /// The key inside the backend: no leading or trailing slash, no empty, `.` or `..` segment;
    /// empty for the backend's own root.
    pub fn as_str(&self) -> &str {
        &self.key
    }

    /// The key of the child `name` of this directory key.
    ///
    /// `name` must be one valid path segment. Should it not be, the result fails closed: a key below
    /// this one whose last segment is NUL, which no client can name and no store holds.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        let name = if check_segment(name).is_ok() {
            name
        } else {
            "\0"
        };
        let key = if self.key.is_empty() {
            name.to_owned()
        } else {
            format!("{}/{name}", self.key)
        };
        Self {
            backend: Arc::clone(&self.backend),
            key,
        }
    }

    /// Whether this is `outer` or lies below it, in the same backend.
    pub fn is_within(&self, outer: &Self) -> bool {
        let rest = self.key.strip_prefix(outer.key.as_str());
        let within = |rest: &str| outer.key.is_empty() || rest.is_empty() || rest.starts_with('/');
        self.backend == outer.backend && rest.is_some_and(within)
    }

    /// The key of the directory that holds this one; `None` for the backend's own root.
    pub fn parent(&self) -> Option<Self> {
        if self.key.is_empty() {
            return None;
        }
        let parent = self.key.rsplit_once('/').map_or("", |(parent, _)| parent);
        Some(Self {
            backend: Arc::clone(&self.backend),
            key: parent.to_owned(),
        })
    }

    /// A key for tests of stores, which have no account.
    #[cfg(test)]
    pub fn for_test(backend: &str, key: &str) -> Self {
        Self {
            backend: backend.into(),
            key: key.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
