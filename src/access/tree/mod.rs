//! [`Tree`]: the mounts one account sees and what it may do there.
//!
//! Owns the decision and the translation from a path to a [`StoreKey`] (CONFORMANCE S46, S48, S54).
//! Must not know stores, sockets or clocks. Called by [`crate::edge`], which holds one tree per
//! session; keys go to [`crate::store`].

use std::{collections::BTreeSet, sync::Arc};

use super::{VirtualPath, path::check_segment};

/// Who logged in and with which rights. Made by [`crate::auth`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// Directory below a mount's prefix that replaces `{home}`: relative, no `.`/`..`, may be empty.
    pub home: String,
    /// Refuses every action that changes the store.
    pub read_only: bool,
}

/// One row of the table that makes up the tree a user sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where the mount appears.
    pub path: VirtualPath,
    /// Name of the backend in the configuration.
    pub backend: Arc<str>,
    /// Key prefix inside the backend, without leading or trailing slash; `{home}` stands for the
    /// account's home, `{user}` for its name. May be empty.
    pub prefix: String,
    /// Refuses every action that changes the store below this mount.
    pub read_only: bool,
}

/// What a command wants to do with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// See that it is there: CWD, LIST, NLST, MLSD, MLST, SIZE, MDTM.
    List,
    /// RETR.
    Read,
    /// STOR of a new name.
    Write,
    /// STOR or RNTO over an existing name.
    Overwrite,
    /// APPE, REST+STOR.
    Append,
    /// RNFR, RNTO.
    Rename,
    /// DELE.
    Delete,
    /// MKD.
    MakeDirectory,
    /// RMD.
    RemoveDirectory,
    /// MFMT.
    SetTime,
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
}

impl Action {
    /// Whether the action can change the store.
    pub fn changes(self) -> bool {
        !matches!(self, Self::List | Self::Read)
    }
}

impl Tree {
    /// The tree that `account` sees through `mounts`.
    ///
    /// A mount whose expanded prefix would hold `.`, `..`, an empty or otherwise invalid segment is
    /// not mounted for this account: everything below it is [`Denied::NotMounted`].
    pub fn new(account: Arc<Account>, mounts: &[Mount]) -> Self {
        let mut mounts: Vec<Expanded> = mounts
            .iter()
            .map(|mount| Expanded {
                path: mount.path.clone(),
                backend: Arc::clone(&mount.backend),
                prefix: expand(&mount.prefix, &account),
                read_only: mount.read_only,
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
    pub fn authorise(&self, action: Action, path: &VirtualPath) -> Result<StoreKey, Denied> {
        if action.changes() && self.account.read_only {
            return Err(Denied::ReadOnlyAccount);
        }
        let covering = self.mounts.iter().find(|mount| path.is_within(&mount.path));
        let (mount, prefix) = match covering {
            Some(mount) => (mount, mount.prefix.as_deref().ok_or(Denied::NotMounted)?),
            None => return Err(Denied::NotMounted),
        };
        if action.changes() && mount.read_only {
            return Err(Denied::ReadOnlyMount(mount.path.clone()));
        }
        if action.changes() && self.is_fixed(path) {
            return Err(Denied::MountPoint(path.clone()));
        }
        let inside = path.segments().skip(mount.path.segments().count());
        let key = segments(prefix).chain(inside).collect::<Vec<_>>().join("/");
        Ok(StoreKey {
            backend: Arc::clone(&mount.backend),
            key,
        })
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

/// The segments of a prefix or key.
fn segments(prefix: &str) -> impl Iterator<Item = &str> {
    prefix.split('/').filter(|segment| !segment.is_empty())
}

/// Replaces `{home}` and `{user}` in one pass, so that a name like `{home}` is not expanded again.
/// `None` when the outcome could leave the place the template meant.
fn expand(template: &str, account: &Account) -> Option<String> {
    let mut expanded = String::new();
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        expanded.push_str(&rest[..start]);
        rest = &rest[start..];
        if let Some(after) = rest.strip_prefix("{home}") {
            let home_is_safe = account.home.is_empty()
                || account.home.split('/').all(|s| check_segment(s).is_ok());
            if !home_is_safe {
                return None;
            }
            expanded.push_str(&account.home);
            rest = after;
        } else if let Some(after) = rest.strip_prefix("{user}") {
            check_segment(&account.name).ok()?;
            expanded.push_str(&account.name);
            rest = after;
        } else {
            expanded.push('{');
            rest = &rest[1..];
        }
    }
    expanded.push_str(rest);
    let safe = segments(&expanded).all(|segment| check_segment(segment).is_ok());
    safe.then(|| segments(&expanded).collect::<Vec<_>>().join("/"))
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
