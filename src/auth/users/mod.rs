//! Users files.
//!
//! Owns the table of users and groups that one file or a directory of files makes, and the ways to
//! check a login against it ([`Users`]); [`UserStore`] keeps it current and puts the checks in a
//! queue. Knows nothing of connections or of libunftp.

mod files;
mod memory;
mod store;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use self::files::Files;
pub use self::store::{FreshUsers, UserStore};
use super::{
    document::{self, Document, Groups, LoginBy, Names},
    password::Hash,
};
use crate::{
    access::Account,
    config::{
        self, ConfigErrors, UsersFiles,
        typed::{Reader, Table},
        yaml,
    },
};

const ROOT: [&str; 2] = ["groups", "users"];

/// The users and groups of all files.
pub struct Users {
    by_name: BTreeMap<String, User>,
    groups: Groups,
    /// Users with a password.
    with_hash: Vec<String>,
    /// Stands for an unknown user's while no user has a hash.
    decoy: Hash,
}

/// Mistakes in users files, all at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsersError(Vec<ConfigErrors>);

struct User {
    document: Document,
    account: Arc<Account>,
}

/// What one login is checked against, and what it leads to.
pub(super) struct Candidate {
    /// Hash to check; an unknown user's is somebody else's, so that it costs as much.
    pub(super) hash: Hash,
    /// What a right password and what is known of the certificate lead to.
    pub(super) account: Option<Arc<Account>>,
    /// The user is known.
    pub(super) known: bool,
}

impl Users {
    /// Reads and checks users files, which may refer to `names`.
    ///
    /// # Errors
    /// Every mistake of all files.
    pub fn load(files: &UsersFiles, names: &Names) -> Result<Self, UsersError> {
        Self::parse(&Files::read(files), names)
    }

    fn parse(files: &Files, names: &Names) -> Result<Self, UsersError> {
        let mut errors = Vec::new();
        let environment = |name: &str| std::env::var(name).ok();
        let mut parsed = Vec::new();
        for (file, text) in files.texts() {
            match text.and_then(|text| yaml::parse(&text)) {
                Ok(node) => parsed.push((file, node)),
                Err(message) => errors.push(ConfigErrors::of_file(file, message)),
            }
        }
        let readers: Vec<_> = parsed
            .iter()
            .map(|(file, node)| (*file, node, Reader::new(file, &environment)))
            .collect();
        // Groups of all files first: users of any file may be in them.
        let (mut groups, mut group_names) = (Groups::new(), BTreeSet::new());
        let mut roots = Vec::new();
        for (file, node, reader) in &readers {
            let root = reader.root(node, &ROOT);
            if let Some(root) = &root {
                read_groups(root, file, names, &mut group_names, &mut groups);
            }
            roots.push(root);
        }
        let (mut users, mut user_names) = (BTreeMap::new(), BTreeSet::new());
        for ((file, _, _), root) in readers.iter().zip(&roots) {
            let Some(root) = root else { continue };
            if files.is_one() && !root.has("users") {
                root.error("users", "missing: expected a list of users");
            }
            let file = file.display().to_string();
            for item in root
                .optional_list("users", "a list of users")
                .unwrap_or_default()
            {
                let user = document::user(&item, &file, names, &mut user_names, &group_names);
                if let Some(document) = user
                    // Groups with mistakes are missing here, and the mistakes are noted.
                    && let Ok(account) = document.account(&groups)
                {
                    let account = Arc::new(account);
                    users.insert(document.name.clone(), User { document, account });
                }
            }
        }
        drop(roots);
        for (file, _, reader) in readers {
            if let Err(found) = reader.finish(Some(()), file) {
                errors.push(found);
            }
        }
        if !errors.is_empty() {
            return Err(UsersError(errors));
        }
        Ok(Self::new(users, groups))
    }

    fn new(users: BTreeMap<String, User>, groups: Groups) -> Self {
        let has_hash = |(_, user): &(&String, &User)| user.document.hash.is_some();
        let with_hash = users
            .iter()
            .filter(has_hash)
            .map(|(name, _)| name.clone())
            .collect();
        Self {
            by_name: users,
            groups,
            with_hash,
            decoy: Hash::decoy(),
        }
    }

    /// Nobody.
    pub fn nobody() -> Self {
        Self::new(BTreeMap::new(), Groups::new())
    }

    /// Whether there is a user of this name. For logs, never for an answer to a client.
    pub fn knows(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The account of a user, for `explain`.
    pub fn account(&self, name: &str) -> Option<&Arc<Account>> {
        Some(&self.by_name.get(name)?.account)
    }

    /// What is known of a user, and the account that follows.
    pub fn get(&self, name: &str) -> Option<(&Document, &Arc<Account>)> {
        let user = self.by_name.get(name)?;
        Some((&user.document, &user.account))
    }

    /// Everybody, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Document, &Arc<Account>)> {
        let users = self.by_name.values();
        users.map(|user| (&user.document, &user.account))
    }

    /// The groups, for sources whose users are in them.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// How many users there are, disabled ones included.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether nobody can log in for want of users.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Users who need a certificate to log in, for `check`.
    pub fn with_certificates(&self) -> impl Iterator<Item = &str> {
        self.users_with(|document| document.login != LoginBy::Password)
    }

    /// Users whose hash is too weak for new passwords, for `check`.
    pub fn with_weak_hashes(&self) -> impl Iterator<Item = &str> {
        self.users_with(|document| document.hash.as_ref().is_some_and(Hash::is_weak))
    }

    fn users_with(&self, wanted: impl Fn(&Document) -> bool) -> impl Iterator<Item = &str> {
        self.by_name
            .iter()
            .filter(move |(_, user)| wanted(&user.document))
            .map(|(name, _)| name.as_str())
    }

    /// What the password of `name` is checked against. `draw` (of the name, and secret) chooses the
    /// hash for who has none: among all users' hashes, so that the times of strangers are spread as
    /// the times of users are, whatever kinds of hashes a file holds.
    pub(super) fn candidate(&self, name: &str, identities: &[String], draw: u64) -> Candidate {
        let user = self.by_name.get(name);
        let hash = user.and_then(|user| user.document.hash.as_ref());
        let account = user.and_then(|user| match user.document.login {
            LoginBy::Password => Some(Arc::clone(&user.account)),
            LoginBy::Certificate => None,
            LoginBy::Both => user.certified(identities),
        });
        Candidate {
            account: account.filter(|_| hash.is_some()),
            known: user.is_some(),
            hash: hash.unwrap_or_else(|| self.stranger(draw)).clone(),
        }
    }

    fn stranger(&self, draw: u64) -> &Hash {
        let count = self.with_hash.len() as u64;
        let index = draw
            .checked_rem(count)
            .and_then(|index| usize::try_from(index).ok());
        index
            .and_then(|index| self.by_name.get(self.with_hash.get(index)?))
            .and_then(|user| user.document.hash.as_ref())
            .unwrap_or(&self.decoy)
    }

    /// Checks a password, and the certificate of who needs both: the account, or `None` for an unknown
    /// user and for a wrong password alike. Blocks for the time of one hash.
    pub fn verify(
        &self,
        name: &str,
        password: &str,
        identities: &[String],
    ) -> Option<Arc<Account>> {
        let candidate = self.candidate(name, identities, 0);
        // The hash first, so that a missing certificate costs what a wrong password does.
        let matches = candidate.hash.matches(password);
        candidate.account.filter(|_| matches)
    }

    /// The account of a user who needs a certificate and nothing else, if `identities` name it.
    pub fn verify_certificate(&self, name: &str, identities: &[String]) -> Option<Arc<Account>> {
        let user = self.by_name.get(name)?;
        (user.document.login == LoginBy::Certificate)
            .then(|| user.certified(identities))
            .flatten()
    }
}

impl User {
    /// The account with the name that the certificate gives it.
    fn certified(&self, identities: &[String]) -> Option<Arc<Account>> {
        let identity = self.document.named_by(identities)?;
        let mut account = Account::clone(&self.account);
        account.certificate = Some(identity.clone());
        Some(Arc::new(account))
    }
}

/// JSON Schema (2020-12) of a users file.
pub fn users_schema() -> serde_json::Value {
    let look = |reader: &Reader<'_>| {
        let Some(root) = reader.root(&yaml::Node::Null, &ROOT) else {
            return;
        };
        let (file, known) = (std::path::Path::new(""), Names::default());
        let (mut names, mut groups) = (BTreeSet::new(), Groups::new());
        read_groups(&root, file, &known, &mut names, &mut groups);
        let users = root.optional_list("users", "a list of users");
        for item in users.unwrap_or_default() {
            // The questions are what is wanted.
            let _ = document::user(&item, "", &known, &mut BTreeSet::new(), &names);
        }
    };
    config::schema::schema("causeway users file", look, &BTreeMap::new())
}

fn read_groups(
    root: &Table<'_>,
    file: &std::path::Path,
    known: &Names,
    names: &mut BTreeSet<String>,
    groups: &mut Groups,
) {
    let Some(item) = root.item("groups") else {
        return;
    };
    let file = file.display().to_string();
    for (name, item) in item.names().unwrap_or_default() {
        if !names.insert(name.to_owned()) {
            item.error(format!("another group has the name {name:?}"));
        }
        if let Some(group) = document::group(&item, &file, known) {
            groups.insert(name.to_owned(), group);
        }
    }
}

/// Names only: hashes stay out of logs.
impl fmt::Debug for Users {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.by_name.keys()).finish()
    }
}

impl UsersError {
    /// One line for each mistake.
    pub fn lines(&self) -> Vec<String> {
        let lines = |errors: &ConfigErrors| {
            let text = errors.to_string();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(lines).collect()
    }
}

impl fmt::Display for UsersError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.lines().join("\n"))
    }
}

impl std::error::Error for UsersError {}
