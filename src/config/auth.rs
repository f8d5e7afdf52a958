//! Where users come from.

use std::{path::PathBuf, time::Duration};

/// Authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Asked in this order; each at most once.
    pub sources: Vec<SourceKind>,
    /// Users and groups; `None` only where `sources` does not name them.
    pub users: Option<UsersFiles>,
    /// How long a right password spares the hash; zero switches it off. Default 120 s.
    pub password_cache: Duration,
}

/// One authentication source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// The users file or directory.
    Users,
}

/// The users file, or a directory of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsersFiles {
    /// One file.
    File(PathBuf),
    /// Every `*.yaml` and `*.yml` directly in it whose name does not begin with a dot.
    Directory(PathBuf),
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            sources: vec![SourceKind::Users],
            users: None,
            password_cache: Duration::from_mins(2),
        }
    }
}
