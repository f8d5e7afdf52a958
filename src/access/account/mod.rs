//! [`Account`]: who logged in, with which rights and bounds.

mod conditions;

use std::{collections::BTreeMap, sync::Arc};

use globset::GlobMatcher;

pub use self::conditions::{Circumstances, Conditions, Hours, Known, NotAdmitted, Window};
use super::{Mount, Rule, rule::name_glob};

/// Who logged in and with which rights. Made by [`crate::auth`], from a users file or from what
/// another system says.
#[derive(Clone, Debug)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// Directory below a mount's prefix that replaces `{home}`: relative, may be empty. Itself a
    /// template: `{user}`, `{certificate}`, `{attribute.NAME}`.
    pub home: String,
    /// Refuses every action that changes the store.
    pub read_only: bool,
    /// Mounts of its own; one at the path of a mount of the configuration takes its place.
    pub mounts: Vec<Mount>,
    /// Grants, those of its groups too. While none allows anything, everything that none denies is
    /// allowed.
    pub rules: Vec<Arc<Rule>>,
    /// Names that files may get.
    pub file_names: FileNames,
    /// What may lie in its writable mounts together.
    pub quota: Quota,
    /// How much at once.
    pub limits: AccountLimits,
    /// When and from where it may log in.
    pub conditions: Conditions,
    /// Values for `{attribute.NAME}`.
    pub attributes: BTreeMap<String, String>,
    /// What its certificate says, where the login was by certificate: `{certificate}`.
    pub certificate: Option<String>,
    /// The name of its profile.
    pub profile: Option<Arc<str>>,
}

/// What may lie in an account's writable mounts together, whoever put it there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Bytes of all files.
    pub bytes: Option<u64>,
    /// How many files.
    pub files: Option<u64>,
}

/// How much an account may do at once; `None` leaves it to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountLimits {
    /// Sessions at once.
    pub sessions: Option<usize>,
    /// Transfers at once, over all its sessions.
    pub transfers: Option<usize>,
    /// Bytes of one uploaded file.
    pub file_bytes: Option<u64>,
    /// Rate of all its uploads together.
    pub upload_bytes_per_second: Option<u64>,
    /// Rate of all its downloads together.
    pub download_bytes_per_second: Option<u64>,
}

/// Names that files may get by STOR, STOU, APPE and RNTO. Deny wins; upper and lower case of ASCII
/// letters are the same.
#[derive(Clone, Debug, Default)]
pub struct FileNames {
    allow: Vec<GlobMatcher>,
    deny: Vec<GlobMatcher>,
}

impl Account {
    /// An account that may do everything in the home of its name, at any time.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            home: name.clone(),
            name,
            read_only: false,
            mounts: Vec::new(),
            rules: Vec::new(),
            file_names: FileNames::default(),
            quota: Quota::default(),
            limits: AccountLimits::default(),
            conditions: Conditions::default(),
            attributes: BTreeMap::new(),
            certificate: None,
            profile: None,
        }
    }
}

impl Quota {
    /// Whether there is nothing to count.
    pub fn is_unlimited(self) -> bool {
        self == Self::default()
    }
}

impl FileNames {
    /// Adds a glob that names must match, as one of those added so.
    ///
    /// # Errors
    /// What is wrong with the glob.
    pub fn allow(&mut self, glob: &str) -> Result<(), String> {
        self.allow.push(name_pattern(glob)?);
        Ok(())
    }

    /// Adds a glob that no name may match.
    ///
    /// # Errors
    /// What is wrong with the glob.
    pub fn deny(&mut self, glob: &str) -> Result<(), String> {
        self.deny.push(name_pattern(glob)?);
        Ok(())
    }

    /// Adds what `other` allows and denies.
    pub fn extend(&mut self, other: &Self) {
        self.allow.extend(other.allow.iter().cloned());
        self.deny.extend(other.deny.iter().cloned());
    }

    /// Whether every name is allowed.
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    /// `allow *.csv`, `deny *.exe`, in their order.
    pub fn words(&self) -> Vec<String> {
        let allowed = self.allow.iter().map(|glob| ("allow", glob));
        let denied = self.deny.iter().map(|glob| ("deny", glob));
        let words = allowed.chain(denied);
        words
            .map(|(word, glob)| format!("{word} {}", glob.glob().glob()))
            .collect()
    }

    /// The glob that forbids `name`; the empty string where none allows it.
    pub fn forbids(&self, name: &str) -> Option<&str> {
        let hit = |globs: &[GlobMatcher]| globs.iter().position(|glob| glob.is_match(name));
        if let Some(index) = hit(&self.deny) {
            return Some(self.deny[index].glob().glob());
        }
        (!self.allow.is_empty() && hit(&self.allow).is_none()).then_some("")
    }
}

fn name_pattern(glob: &str) -> Result<GlobMatcher, String> {
    if glob.is_empty() || glob.contains('/') {
        return Err("expected a pattern for names, without `/`, such as *.csv".to_owned());
    }
    name_glob(glob)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_forbidden_by_a_denial_or_for_want_of_permission() {
        let mut names = FileNames::default();
        assert_eq!(names.forbids("anything"), None);
        names.deny("*.exe").unwrap();
        assert_eq!(names.forbids("a.csv"), None);
        assert_eq!(names.forbids("A.EXE"), Some("*.exe"));
        names.allow("*.csv").unwrap();
        names.allow("report-*").unwrap();
        assert_eq!(names.forbids("a.CSV"), None);
        assert_eq!(names.forbids("report-1"), None);
        assert_eq!(names.forbids("report-1.exe"), Some("*.exe"));
        assert_eq!(names.forbids("other"), Some(""));
        assert!(names.deny("a/b").is_err() && names.allow("").is_err());
    }
}
