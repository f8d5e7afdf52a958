//! Where users come from.

use std::{path::PathBuf, time::Duration};

use super::{Anonymous, HttpHook, Ldap, WhenUnavailable};

/// Authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Asked in this order; each at most once.
    pub sources: Vec<SourceKind>,
    /// Users and groups; `None` only where `sources` does not name them.
    pub users: Option<UsersFiles>,
    /// How long a right password spares the hash; zero switches it off. Default 120 s.
    pub password_cache: Duration,
    /// What an attempt is answered when a source cannot decide.
    pub unavailable: WhenUnavailable,
    /// Of the source `http`.
    pub http: Option<HttpHook>,
    /// Of the source `ldap`.
    pub ldap: Option<Ldap>,
    /// Of the source `anonymous`.
    pub anonymous: Anonymous,
}

/// One authentication source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// The users file or directory.
    Users,
    /// A service over HTTP.
    Http,
    /// An LDAP directory.
    Ldap,
    /// Logins without an account.
    Anonymous,
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
            unavailable: WhenUnavailable::TryLater,
            http: None,
            ldap: None,
            anonymous: Anonymous::default(),
        }
    }
}
