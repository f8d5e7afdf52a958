//! Sources of users outside the users file, and counters shared between replicas.

use std::{path::PathBuf, time::Duration};

use super::{CertificateFiles, Secret};

/// A service that decides about logins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpHook {
    /// `https://…`, or `http://…` to a loopback address.
    pub url: Secret,
    /// Key of the HMAC-SHA256 over timestamp and body.
    pub signing_secret: Secret,
    /// For `Authorization: Bearer`.
    pub bearer_token: Option<Secret>,
    /// What the client shows (mTLS).
    pub client_certificate: Option<CertificateFiles>,
    /// PEM of the authorities that may have issued the service's certificate; default: the system's.
    pub ca_file: Option<PathBuf>,
    /// TCP and TLS; default 3 s.
    pub connect: Duration,
    /// All tries of one attempt together; default 10 s.
    pub total: Duration,
    /// Tries after the first of one attempt; default 2.
    pub retries: u32,
    /// How long a yes is remembered; zero: not at all. Default 30 s.
    pub cache: Duration,
    /// Requests at once; default 32.
    pub requests: usize,
}

/// An LDAP directory or Active Directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ldap {
    /// `ldap://…` or `ldaps://…`, tried in this order.
    pub urls: Vec<String>,
    /// Whether `ldap://` begins TLS by `StartTLS` (default). Without, passwords cross in the clear.
    pub start_tls: bool,
    /// PEM of the authorities that may have issued the servers' certificates; default: the system's.
    pub ca_file: Option<PathBuf>,
    /// Who searches; `None`: users themselves, once bound, and `user_dn` says as whom they bind.
    pub service: Option<LdapService>,
    /// DN (in Active Directory also the principal name) with `{user}` that a password is tried on;
    /// `None`: that of the entry that the service finds.
    pub user_dn: Option<String>,
    /// Where users' entries are searched; `None`: `user_dn` is the entry.
    pub user_base: Option<String>,
    /// Filter with `{user}`; default `(uid={user})`.
    pub user_filter: String,
    /// Attribute of the entry that is the login name here, in its own spelling; default `uid`.
    pub user_attribute: String,
    /// Groups.
    pub groups: LdapGroups,
    /// Attributes of the entry by the name they get here, for `{attribute.NAME}`.
    pub attributes: Vec<(String, String)>,
    /// Attribute of the entry that holds the home; default: none, and the home is the login name.
    pub home_attribute: Option<String>,
    /// Connections at once; default 4.
    pub connections: usize,
    /// TCP and TLS; default 3 s.
    pub connect: Duration,
    /// One attempt, with its wait for a connection; default 10 s.
    pub total: Duration,
}

/// An account that looks up others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LdapService {
    /// Its DN.
    pub dn: String,
    /// Its password.
    pub password: Secret,
}

/// How groups of the directory become groups of the users file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LdapGroups {
    /// Attribute of the user's entry that names its groups, such as `memberOf`.
    pub attribute: Option<String>,
    /// Where to search for groups that name the user.
    pub base: Option<String>,
    /// Filter with `{dn}` or `{user}`.
    pub filter: String,
    /// Attribute of a group that is its name; default `cn`.
    pub name_attribute: String,
    /// Name or DN of a group there, and name of the group here. Compared without regard to case.
    pub map: Vec<(String, String)>,
    /// Refuses users who are in none of the mapped groups.
    pub required: bool,
}

/// Logins without an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anonymous {
    /// Login names; default `anonymous` and `ftp`.
    pub names: Vec<String>,
    /// Home of all of them; default `anonymous`.
    pub home: String,
    /// Default true.
    pub read_only: bool,
    /// Groups of the users file, for grants, limits and mounts.
    pub groups: Vec<String>,
}

impl Default for Anonymous {
    fn default() -> Self {
        Self {
            names: vec!["anonymous".to_owned(), "ftp".to_owned()],
            home: "anonymous".to_owned(),
            read_only: true,
            groups: Vec::new(),
        }
    }
}

/// What an attempt is answered when a source cannot decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenUnavailable {
    /// 421: the client comes back (default).
    #[default]
    TryLater,
    /// 530, as for a wrong password, for clients that take a 421 for the end of the service.
    Refuse,
}

/// A Redis or Valkey that several replicas share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedCounters {
    /// `rediss://user:password@host:port/db`, `redis://…` or `unix:///path`.
    pub url: Secret,
    /// PEM of the authorities that may have issued its certificate; default: the system's.
    pub ca_file: Option<PathBuf>,
    /// What causeway shows it (mTLS).
    pub client_certificate: Option<CertificateFiles>,
    /// In front of every key; default `causeway:`.
    pub prefix: String,
    /// One request, and one try to connect; default 500 ms.
    pub deadline: Duration,
}

/// Where a Redis is.
#[derive(Clone, Debug)]
pub struct RedisServer {
    /// Address, database, user and password.
    pub info: redis::ConnectionInfo,
    /// Under TLS, which is ours to make: it is on the same stack as everything else.
    pub tls: bool,
}

impl RedisServer {
    /// Reads an URL. `#insecure`, with which Redis' own tools check no certificate, is not for us.
    pub fn parse(url: &str) -> Option<Self> {
        let (plain, tls) = match url.split_once("://")? {
            ("rediss" | "valkeys", rest) => (format!("redis://{rest}"), true),
            _ => (url.to_owned(), false),
        };
        if url.contains('#') {
            return None;
        }
        let info = redis::Client::open(plain)
            .ok()?
            .get_connection_info()
            .clone();
        Some(Self { info, tls })
    }
}
