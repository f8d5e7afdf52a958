//! [`Directory`]: users of an LDAP directory or of Active Directory.
//!
//! Owns what is asked there and what the answers mean: a user proves itself by a simple bind
//! (RFC 4513 §5.1.3) on its own entry, groups of the directory become groups of the users file, and
//! attributes fill templates. Referrals are not followed. Called through [`Source`].

mod ber;
mod entry;
mod gate;
mod pool;
mod probe;

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use ldap3::{LdapError, LdapResult, Scope, SearchEntry, SearchOptions, dn_escape, ldap_escape};
use tokio::time::timeout;

pub(super) use self::probe::probe;
use self::{
    entry::Found,
    pool::{Lease, Pool},
};
use super::{
    Attempt, Proof, Source, UserStore, Verdict, document,
    trust::{Trust, TrustErrors},
};
use crate::{config, shutdown::Drain};

/// Result codes of RFC 4511 §4.1.9.
const SUCCESS: u32 = 0;
const SIZE_LIMIT_EXCEEDED: u32 = 4;
const CONSTRAINT_VIOLATION: u32 = 19;
const NO_SUCH_OBJECT: u32 = 32;
const INVALID_DN_SYNTAX: u32 = 34;
const INAPPROPRIATE_AUTHENTICATION: u32 = 48;
const INVALID_CREDENTIALS: u32 = 49;
const INSUFFICIENT_ACCESS: u32 = 50;
const UNWILLING_TO_PERFORM: u32 = 53;

/// Most groups of one user; with more it cannot log in.
const GROUPS: i32 = 1000;
/// Entries of one user, to see whether there is only one.
const FEW: i32 = 2;

/// The source `ldap`.
#[derive(Debug)]
pub struct Directory {
    settings: config::Ldap,
    pool: Arc<Pool>,
    /// For the groups.
    users: Arc<UserStore>,
}

/// Why an attempt led to nothing: the connection, or what the directory says.
enum Stop {
    Connection(LdapError),
    Verdict(Verdict),
}

impl From<LdapError> for Stop {
    fn from(error: LdapError) -> Self {
        Self::Connection(error)
    }
}

impl Directory {
    /// Reads the file that `settings` names; goes on with the connections of `last` if nothing about
    /// them has changed. Blocks for the disk; asks nobody.
    pub fn open(
        settings: &config::Ldap,
        last: Option<&Self>,
        users: Arc<UserStore>,
        drain: Drain,
    ) -> Result<Self, TrustErrors> {
        let trust = trust(settings)?;
        let kept = last.map(|last| &last.pool);
        let pool = match kept.filter(|pool| pool.is_of(settings, &trust)) {
            Some(pool) => Arc::clone(pool),
            None => Arc::new(Pool::new(settings.clone(), trust, drain)),
        };
        Ok(Self {
            pool,
            settings: settings.clone(),
            users,
        })
    }

    /// On an idle connection, and once more on a new one if the server has closed that.
    async fn check(&self, user: &str, password: &str) -> Verdict {
        loop {
            let mut lease = match self.pool.lease().await {
                Ok(lease) => lease,
                Err(error) => return Verdict::Unavailable(error.to_string()),
            };
            match self.check_on(&mut lease, user, password).await {
                Ok(verdict) | Err(Stop::Verdict(verdict)) => {
                    lease.give_back();
                    return verdict;
                }
                Err(Stop::Connection(error)) if lease.reused => {
                    tracing::debug!(%error, "LDAP connection is gone, another is made");
                }
                Err(Stop::Connection(error)) => return Verdict::Unavailable(error.to_string()),
            }
        }
    }

    async fn check_on(
        &self,
        lease: &mut Lease<'_>,
        user: &str,
        password: &str,
    ) -> Result<Verdict, Stop> {
        let found = if let Some(template) = &self.settings.user_dn {
            let found = self.bind_and_search(lease, template, user, password);
            Some(found.await?)
        } else {
            self.search_and_bind(lease, user, password).await?
        };
        let Some(found) = found else {
            return Ok(Verdict::Unknown);
        };
        let groups = self.groups_of(lease, &found, user).await?;
        Ok(self.verdict(user, &found, &groups))
    }

    /// Finds the entry and tries the password on it; `None` for who has no entry.
    async fn search_and_bind(
        &self,
        lease: &mut Lease<'_>,
        user: &str,
        password: &str,
    ) -> Result<Option<Found>, Stop> {
        let base = self.settings.user_base.as_deref().unwrap_or_default();
        self.bind_service(lease).await?;
        let filter = self.user_filter(user);
        let Some(found) = self.find(lease, base, Scope::Subtree, &filter).await? else {
            // As many requests as for a wrong password: the time must not tell who exists.
            let nobody = format!("cn={:032x},{base}", rand::random::<u128>());
            self.bind(lease, &nobody, password).await?;
            return Ok(None);
        };
        let result = self.bind(lease, &found.dn, password).await?;
        proved(&result, Verdict::Refused)?;
        self.bind_service(lease).await?;
        Ok(Some(found))
    }

    /// Tries the password on the DN that follows from the name, then looks at the entry.
    async fn bind_and_search(
        &self,
        lease: &mut Lease<'_>,
        template: &str,
        user: &str,
        password: &str,
    ) -> Result<Found, Stop> {
        // A principal name has no syntax that could be escaped.
        let name = if template.contains('=') {
            template.replace("{user}", &dn_escape(user))
        } else {
            template.replace("{user}", user)
        };
        let result = self.bind(lease, &name, password).await?;
        if let Err(stop) = proved(&result, Verdict::Refused) {
            let is_refused = matches!(stop, Stop::Verdict(Verdict::Refused(_)));
            // The bind does not say whether there is such a user; the service may see it. Without one
            // nobody can tell, and the next source may know.
            let is_unknown = is_refused
                && (self.settings.service.is_none()
                    || self.entry(lease, &name, user).await?.is_none());
            return Err(if is_unknown {
                Stop::Verdict(Verdict::Unknown)
            } else {
                stop
            });
        }
        let found = self.entry(lease, &name, user).await?;
        let reason = "its entry cannot be found after its bind";
        found.ok_or_else(|| Stop::Verdict(Verdict::Refused(reason.to_owned())))
    }

    /// The entry of the user whose own name is `name`, as the service sees it where there is one.
    async fn entry(
        &self,
        lease: &mut Lease<'_>,
        name: &str,
        user: &str,
    ) -> Result<Option<Found>, Stop> {
        self.bind_service(lease).await?;
        if let Some(base) = &self.settings.user_base {
            let filter = self.user_filter(user);
            self.find(lease, base, Scope::Subtree, &filter).await
        } else {
            self.find(lease, name, Scope::Base, "(objectClass=*)").await
        }
    }

    fn user_filter(&self, user: &str) -> String {
        let filter = &self.settings.user_filter;
        filter.replace("{user}", &ldap_escape(user))
    }

    /// The account that the entry and its groups make.
    fn verdict(&self, user: &str, found: &Found, groups: &[String]) -> Verdict {
        let document = match entry::document(&self.settings, user, found, groups) {
            Ok(document) => document,
            Err(reason) => return Verdict::Refused(reason),
        };
        match self.users.account(&document) {
            Ok(account) => Verdict::Accepted(Arc::new(account)),
            Err(problem) => Verdict::Unavailable(format!("auth.ldap.groups.map: {problem}")),
        }
    }

    /// Searches as the service from now on, if there is one.
    async fn bind_service(&self, lease: &mut Lease<'_>) -> Result<(), Stop> {
        let Some(service) = &self.settings.service else {
            return Ok(());
        };
        let password = service.password.expose();
        let result = self.bind(lease, &service.dn, password).await?;
        if result.rc == SUCCESS {
            return Ok(());
        }
        let reason = format!("the service account cannot bind: {result}");
        Err(Stop::Verdict(Verdict::Unavailable(reason)))
    }

    async fn bind(
        &self,
        lease: &mut Lease<'_>,
        name: &str,
        password: &str,
    ) -> Result<LdapResult, LdapError> {
        let ldap = lease.ldap.with_timeout(self.settings.total);
        ldap.simple_bind(name, password).await
    }

    /// The one entry; an error if there are several.
    async fn find(
        &self,
        lease: &mut Lease<'_>,
        base: &str,
        scope: Scope,
        filter: &str,
    ) -> Result<Option<Found>, Stop> {
        let attributes = entry::attributes(&self.settings);
        let mut entries = self
            .search(lease, base, scope, filter, &attributes, FEW)
            .await?;
        match entries.len() {
            0 => Ok(None),
            1 => Ok(entries.pop().map(Found::new)),
            _ => Err(Stop::Verdict(Verdict::Refused(
                "the filter finds several entries".to_owned(),
            ))),
        }
    }

    async fn search(
        &self,
        lease: &mut Lease<'_>,
        base: &str,
        scope: Scope,
        filter: &str,
        attributes: &[&str],
        most: i32,
    ) -> Result<Vec<SearchEntry>, Stop> {
        let seconds = i32::try_from(self.settings.total.as_secs()).unwrap_or(i32::MAX);
        let options = SearchOptions::new().sizelimit(most).timelimit(seconds);
        let ldap = lease.ldap.with_timeout(self.settings.total);
        let ldap = ldap.with_search_options(options);
        let ldap3::SearchResult(entries, result) =
            ldap.search(base, scope, filter, attributes).await?;
        match result.rc {
            SUCCESS => {}
            // More than one is too many already.
            SIZE_LIMIT_EXCEEDED if most == FEW => {}
            // The user's own entry; a base that is not there, or not to be seen, says nothing about users.
            NO_SUCH_OBJECT if scope == Scope::Base => {}
            // A part of the groups might lack the one that denies something.
            _ => {
                let reason = format!("search below {base:?}: {result}");
                return Err(Stop::Verdict(Verdict::Unavailable(reason)));
            }
        }
        let entries = entries.into_iter();
        // Not followed: they could lead a password to any server.
        let own = entries.filter(|entry| !entry.is_ref() && !entry.is_intermediate());
        Ok(own.map(SearchEntry::construct).collect())
    }

    /// Names and DNs of the groups.
    async fn groups_of(
        &self,
        lease: &mut Lease<'_>,
        found: &Found,
        user: &str,
    ) -> Result<Vec<String>, Stop> {
        let settings = &self.settings.groups;
        let mut groups = match &settings.attribute {
            Some(attribute) => found.all(attribute).to_vec(),
            None => Vec::new(),
        };
        if let Some(base) = &settings.base {
            let filter = settings
                .filter
                .replace("{dn}", &ldap_escape(found.dn.as_str()))
                .replace("{user}", &ldap_escape(user));
            let attributes = [settings.name_attribute.as_str()];
            let entries = self
                .search(lease, base, Scope::Subtree, &filter, &attributes, GROUPS)
                .await?;
            for group in entries.into_iter().map(Found::new) {
                groups.extend_from_slice(group.all(&settings.name_attribute));
                groups.push(group.dn);
            }
        }
        Ok(groups)
    }
}

/// Whom it believes.
pub(super) fn trust(settings: &config::Ldap) -> Result<Trust, TrustErrors> {
    Trust::open("auth.ldap", settings.ca_file.as_ref(), None)
}

/// What the bind of a user means. `refused` for a wrong password.
fn proved(result: &LdapResult, refused: impl FnOnce(String) -> Verdict) -> Result<(), Stop> {
    let verdict = match result.rc {
        SUCCESS => return Ok(()),
        // Locked and expired accounts among them, by most servers' policies.
        INVALID_CREDENTIALS
        | NO_SUCH_OBJECT
        | INVALID_DN_SYNTAX
        | INSUFFICIENT_ACCESS
        | INAPPROPRIATE_AUTHENTICATION
        | CONSTRAINT_VIOLATION
        | UNWILLING_TO_PERFORM => refused(format!("bind of the user: {result}")),
        _ => Verdict::Unavailable(format!("bind of the user: {result}")),
    };
    Err(Stop::Verdict(verdict))
}

#[async_trait]
impl Source for Directory {
    fn name(&self) -> &'static str {
        "ldap"
    }

    async fn log_in(&self, attempt: &Attempt) -> Verdict {
        let Proof::Password(password) = &attempt.proof else {
            return Verdict::Unknown;
        };
        if document::name_problem(&attempt.user).is_some() {
            return Verdict::Unknown;
        }
        // A bind without a password is no proof: servers answer it with success (RFC 4513 §5.1.2).
        if password.is_empty() {
            return Verdict::Dismissed("empty password".to_owned());
        }
        let total: Duration = self.settings.total;
        // The library takes answers apart with `expect`: a server that sends nonsense in whole messages
        // costs its users their login and no session its task. What the unwinding drops is the connection.
        let check = AssertUnwindSafe(self.check(&attempt.user, password)).catch_unwind();
        match timeout(total, check).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(_)) => Verdict::Unavailable("its answer makes no sense".to_owned()),
            Err(_) => Verdict::Unavailable(format!("no answer within {} s", total.as_secs())),
        }
    }
}
