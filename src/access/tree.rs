//! [`Tree`]: the mounts one account sees and what it may do there.

use std::sync::Arc;

use super::VirtualPath;

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
    _todo: (),
}

impl Tree {
    /// The tree that `account` sees through `mounts`.
    pub fn new(_account: Arc<Account>, _mounts: &[Mount]) -> Self {
        todo!()
    }

    /// The account this tree belongs to.
    pub fn account(&self) -> &Account {
        todo!()
    }

    /// Decides whether the account may do `action` at `path`; yes comes as the key to do it with.
    pub fn authorise(&self, _action: Action, _path: &VirtualPath) -> Result<StoreKey, Denied> {
        todo!()
    }

    /// Names directly below `directory` that are mount points (or lead to one), sorted, for listings.
    pub fn mount_names(&self, _directory: &VirtualPath) -> Vec<String> {
        todo!()
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

    /// The key of the child `name` (one valid path segment) of this directory key.
    pub fn child(&self, name: &str) -> Self {
        let key = if self.key.is_empty() {
            name.to_owned()
        } else {
            format!("{}/{name}", self.key)
        };
        Self {
            backend: self.backend.clone(),
            key,
        }
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
