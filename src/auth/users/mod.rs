//! The users file.
//!
//! Owns the table of login names with their argon2id hashes and certificates, and the ways to check
//! them. Knows nothing of connections or of libunftp; bans and limits of tries are the caller's.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
    sync::Arc,
};

use argon2::{
    Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version,
    password_hash::{self, PasswordHashString, SaltString},
};

use crate::{
    access::Account,
    config::{
        self, ConfigErrors,
        typed::{Item, Reader, Table},
        yaml,
    },
};

/// Most memory one check may take, in KiB: a hash with a slip in `m=` would stop the server.
const MAX_MEMORY_KIB: u32 = 1 << 20;
/// Most passes over that memory.
const MAX_PASSES: u32 = 64;
/// Longest login name in bytes; the name may become a key segment.
const NAME_BYTES: usize = 255;

const KEYS: [&str; 8] = [
    "name",
    "password_hash",
    "login",
    "certificates",
    "home",
    "read_only",
    "enabled",
    "profile",
];

/// The table of users, with argon2id hashes (PHC strings).
pub struct Users {
    users: BTreeMap<String, User>,
    /// Costs what the costliest user's hash costs, and matches no password.
    decoy: PasswordHashString,
}

/// Mistakes in a users file, all at once.
pub type UsersError = ConfigErrors;

struct User {
    account: Arc<Account>,
    /// `None` only where the login needs no password.
    hash: Option<PasswordHashString>,
    login: LoginBy,
    /// What a certificate may say to be this user's.
    certificates: Vec<String>,
    enabled: bool,
    profile: Option<String>,
}

/// What a user needs to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LoginBy {
    /// The password alone (default).
    Password,
    /// A certificate alone.
    Certificate,
    /// A certificate and the password.
    Both,
}

const LOGINS: [(&str, LoginBy); 3] = [
    ("password", LoginBy::Password),
    ("certificate", LoginBy::Certificate),
    ("both", LoginBy::Both),
];

impl Users {
    /// Reads and checks a users file.
    pub fn load(file: &Path) -> Result<Self, UsersError> {
        Self::parse(&config::read(file)?, file)
    }

    /// Checks a text; `file` names it in errors, and `{file: PATH}` values start from its directory.
    pub fn parse(text: &str, file: &Path) -> Result<Self, UsersError> {
        let node = yaml::parse(text).map_err(|message| ConfigErrors::of_file(file, message))?;
        let environment = |name: &str| std::env::var(name).ok();
        let reader = Reader::new(file, &environment);
        let users = reader.root(&node, &["users"]).and_then(|root| users(&root));
        let users = reader.finish(users, file)?;
        let decoy =
            decoy(&users).map_err(|error| ConfigErrors::of_file(file, error.to_string()))?;
        Ok(Self { users, decoy })
    }

    /// Whether there is a user of this name. For logs, never for an answer to a client.
    pub fn knows(&self, name: &str) -> bool {
        self.users.contains_key(name)
    }

    /// The name of the profile of a user.
    pub fn profile(&self, name: &str) -> Option<&str> {
        self.users.get(name)?.profile.as_deref()
    }

    /// One sentence for each user with a profile that `is_known` does not know.
    pub fn unknown_profiles(&self, is_known: impl Fn(&str) -> bool) -> Vec<String> {
        let mistake = |(name, user): (&String, &User)| {
            let profile = user.profile.as_deref()?;
            let message = format!("user {name:?}: no profile has the name {profile:?}");
            (!is_known(profile)).then_some(message)
        };
        self.users.iter().filter_map(mistake).collect()
    }

    /// How many users there are, disabled ones included.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether nobody can log in for want of users.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Users who need a certificate to log in, for `check`.
    pub fn with_certificates(&self) -> impl Iterator<Item = &str> {
        let needs = |(_, user): &(&String, &User)| user.login != LoginBy::Password;
        self.users
            .iter()
            .filter(needs)
            .map(|(name, _)| name.as_str())
    }

    /// Checks a password, and the certificate of who needs both: the account, or `None` for an unknown
    /// user and for a wrong password alike, after the same work. Blocks for the time of one hash: call it off the async workers.
    ///
    /// A user whose hash is cheaper than the costliest one answers faster than an unknown name; hash
    /// all passwords with the same parameters to hide that too.
    pub fn verify(
        &self,
        name: &str,
        password: &str,
        identities: &[String],
    ) -> Option<Arc<Account>> {
        let user = self.users.get(name);
        let hash = user
            .and_then(|user| user.hash.as_ref())
            .unwrap_or(&self.decoy);
        // The parameters are those of the hash; the `default()` ones are for new hashes only.
        let matches = Argon2::default()
            .verify_password(password.as_bytes(), &hash.password_hash())
            .is_ok();
        // Looked at only now, so that a disabled user costs what any other does.
        user.filter(|user| matches && user.enabled)
            .filter(|user| match user.login {
                LoginBy::Password => true,
                LoginBy::Certificate => false,
                LoginBy::Both => user.is_named_by(identities),
            })
            .map(|user| Arc::clone(&user.account))
    }

    /// The account of a user who needs a certificate and nothing else, if `identities` name it.
    pub fn verify_certificate(&self, name: &str, identities: &[String]) -> Option<Arc<Account>> {
        let user = self.users.get(name)?;
        let enough = user.login == LoginBy::Certificate && user.is_named_by(identities);
        (enough && user.enabled).then(|| Arc::clone(&user.account))
    }

    /// The argon2id PHC string of `password`, with a new salt and the parameters that OWASP and
    /// RFC 9106's authors recommend where memory is shared (m=19456, t=2, p=1).
    pub fn hash(password: &str) -> Result<String, password_hash::Error> {
        let salt = SaltString::encode_b64(&rand::random::<[u8; 16]>())?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT);
        Ok(argon2
            .hash_password(password.as_bytes(), &salt)?
            .to_string())
    }
}

impl User {
    fn is_named_by(&self, identities: &[String]) -> bool {
        self.certificates
            .iter()
            .any(|certificate| identities.contains(certificate))
    }
}

/// Names only: hashes stay out of logs.
impl fmt::Debug for Users {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.users.keys()).finish()
    }
}

/// The users; those with mistakes are left out, which are noted.
fn users(root: &Table<'_>) -> Option<BTreeMap<String, User>> {
    let (mut users, mut names) = (BTreeMap::new(), BTreeSet::new());
    for item in root.list("users", "a list of users")? {
        if let Some((name, user)) = user(&item, &mut names) {
            users.insert(name, user);
        }
    }
    Some(users)
}

fn user(item: &Item<'_>, names: &mut BTreeSet<String>) -> Option<(String, User)> {
    let table = item.table(&KEYS)?;
    let name = name(&table);
    if let Some(name) = &name
        && !names.insert(name.clone())
    {
        table.error("name", format!("another user has the name {name:?}"));
    }
    let login = table.choice("login", &LOGINS);
    let login = login.map(|login| login.unwrap_or(LoginBy::Password));
    let hash = match login {
        Some(LoginBy::Certificate) if !table.has("password_hash") => Some(None),
        _ => hash(&table).map(Some),
    };
    if login == Some(LoginBy::Certificate) && table.has("password_hash") {
        table.error(
            "password_hash",
            "not used: with `login: certificate` there is no password; for one besides the certificate write `login: both`",
        );
    }
    let certificates = certificates(&table, login);
    let home = match table.any_text("home", "a relative path") {
        Some(None) => name.clone(),
        Some(Some(text)) => match home_problem(&text.value) {
            None => Some(text.value),
            Some(problem) => {
                table.error("home", format!("{problem}, found {}", text.shown()));
                None
            }
        },
        None => None,
    };
    let read_only = table.boolean("read_only", false);
    let enabled = table.boolean("enabled", true);
    let profile = table.optional_text("profile", "the name of a profile");
    let account = Account {
        name: name?,
        home: home?,
        read_only: read_only?,
    };
    let name = account.name.clone();
    Some((
        name,
        User {
            account: Arc::new(account),
            hash: hash?,
            login: login?,
            certificates: certificates?,
            enabled: enabled?,
            profile: profile?.map(|text| text.value),
        },
    ))
}

/// What certificates may say. The listener's `client_certificates.map` decides which part is compared.
fn certificates(table: &Table<'_>, login: Option<LoginBy>) -> Option<Vec<String>> {
    const EXPECTED: &str = "a list of names in certificates, or of SHA-256 fingerprints";
    let needed = matches!(login, Some(LoginBy::Certificate | LoginBy::Both));
    if !table.has("certificates") {
        if needed {
            table.error("certificates", format!("missing: expected {EXPECTED}"));
        }
        return (!needed).then(Vec::new);
    }
    if login == Some(LoginBy::Password) {
        let message = "not used: write `login: certificate` or `login: both` as well";
        table.error("certificates", message);
    }
    let items = table.list("certificates", EXPECTED)?;
    if items.is_empty() && needed {
        table.error("certificates", format!("empty: expected {EXPECTED}"));
    }
    let texts = items
        .iter()
        .map(|item| item.text("a name or a fingerprint"));
    texts
        .map(|text| text.map(|text| plain_fingerprint(text.value)))
        .collect()
}

/// `AA:BB:…` as `openssl x509 -fingerprint -sha256` prints it becomes `aabb…`; everything else stays.
fn plain_fingerprint(text: String) -> String {
    let digits = text.replace(':', "").to_ascii_lowercase();
    let is_fingerprint = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_fingerprint { digits } else { text }
}

fn name(table: &Table<'_>) -> Option<String> {
    let text = table.text("name", "a login name")?;
    let name = &text.value;
    // The name is the default home and may be a key segment through `{user}`.
    let problem = match name.as_str() {
        "." | ".." => Some("`.` and `..` are no names"),
        _ if name.contains('/') => Some("a name has no `/`"),
        _ if name.chars().any(char::is_control) => Some("a name has no control character"),
        _ if name.trim() != name => Some("a name has no blank at its ends"),
        _ if name.len() > NAME_BYTES => Some("a name has at most 255 bytes"),
        _ => None,
    };
    if let Some(problem) = problem {
        table.error("name", format!("{problem}, found {}", text.shown()));
        return None;
    }
    Some(text.value)
}

/// What is wrong with a home; the empty one is the mount's own directory.
fn home_problem(home: &str) -> Option<&'static str> {
    if home.is_empty() {
        return None;
    }
    if home.starts_with('/') {
        return Some("expected a relative path: the mount's prefix decides where it starts");
    }
    if home.chars().any(char::is_control) {
        return Some("a home has no control character");
    }
    home.split('/')
        .any(|segment| matches!(segment, "" | "." | ".."))
        .then_some("a home has no empty, `.` or `..` segment")
}

/// The hash of a user. Errors never repeat it.
fn hash(table: &Table<'_>) -> Option<PasswordHashString> {
    const EXPECTED: &str =
        "an argon2id hash ($argon2id$v=19$m=…), as `causeway hash-password` prints it";
    let text = table.text("password_hash", EXPECTED)?;
    match check_hash(&text.value) {
        Ok(hash) => Some(hash),
        Err(problem) => {
            table.error("password_hash", format!("{problem}: expected {EXPECTED}"));
            None
        }
    }
}

fn check_hash(text: &str) -> Result<PasswordHashString, String> {
    if !text.starts_with('$') {
        return Err("this is no hash; a password is never stored in the clear".to_owned());
    }
    let hash = PasswordHash::new(text).map_err(|error| format!("not a PHC string ({error})"))?;
    if Algorithm::try_from(hash.algorithm).ok() != Some(Algorithm::Argon2id) {
        return Err(format!("a hash of the kind {}", hash.algorithm));
    }
    let params =
        Params::try_from(&hash).map_err(|error| format!("unusable parameters ({error})"))?;
    if params.m_cost() > MAX_MEMORY_KIB || params.t_cost() > MAX_PASSES {
        return Err(format!(
            "costs too much (at most m={MAX_MEMORY_KIB}, t={MAX_PASSES})"
        ));
    }
    if hash.salt.is_none() || hash.hash.is_none() {
        return Err("without salt or hash".to_owned());
    }
    Ok(hash.serialize())
}

/// A hash that costs what the costliest of `users` costs. Its output is all zeros, which argon2id
/// yields for no password that anybody will find, and a match would still let nobody in.
fn decoy(users: &BTreeMap<String, User>) -> Result<PasswordHashString, password_hash::Error> {
    let cost = |params: &Params| u64::from(params.m_cost()) * u64::from(params.t_cost());
    let params = users
        .values()
        .filter_map(|user| user.hash.as_ref())
        .filter_map(|hash| Params::try_from(&hash.password_hash()).ok())
        .max_by_key(cost)
        .unwrap_or(Params::DEFAULT);
    let (m, t, p) = (params.m_cost(), params.t_cost(), params.p_cost());
    let (salt, output) = ("A".repeat(22), "A".repeat(43));
    PasswordHashString::new(&format!("$argon2id$v=19$m={m},t={t},p={p}${salt}${output}"))
}
