//! [`Anonymous`]: logins without an account (RFC 1635). Off unless configured, read-only unless said.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Attempt, Document, Proof, Source, UserStore, Verdict};
use crate::config;

/// The source `anonymous`: any password will do.
#[derive(Debug)]
pub struct Anonymous {
    settings: config::Anonymous,
    /// For the groups.
    users: Arc<UserStore>,
}

impl Anonymous {
    /// The source with these settings.
    pub fn new(settings: config::Anonymous, users: Arc<UserStore>) -> Self {
        Self { settings, users }
    }

    /// The name as configured, for a name in whatever case.
    fn name_of(&self, user: &str) -> Option<&String> {
        let mut names = self.settings.names.iter();
        names.find(|name| name.eq_ignore_ascii_case(user))
    }
}

#[async_trait]
impl Source for Anonymous {
    fn name(&self) -> &'static str {
        "anonymous"
    }

    async fn log_in(&self, attempt: &Attempt) -> Verdict {
        let Some(name) = self.name_of(&attempt.user) else {
            return Verdict::Unknown;
        };
        if matches!(attempt.proof, Proof::Certificate) {
            return Verdict::Unknown;
        }
        let mut document = Document::new(name.clone());
        document.groups.clone_from(&self.settings.groups);
        document.settings.home = Some(self.settings.home.clone());
        document.settings.read_only = self.settings.read_only;
        match self.users.account(&document) {
            Ok(account) => Verdict::Accepted(Arc::new(account)),
            Err(problem) => Verdict::Unavailable(format!("auth.anonymous.groups: {problem}")),
        }
    }
}
