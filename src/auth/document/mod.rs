//! [`Document`]: what is known of one user, in one schema for every source.
//!
//! The users file holds a list of them, an HTTP hook answers with one (JSON is YAML), LDAP fills one in.
//! Owns the schema and its mistakes; [`Document::account`] joins a document with its groups to what
//! [`crate::access`] decides by. Knows nothing of connections.

mod settings;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

pub use self::settings::Settings;
use super::password::{self, Hash};
use crate::{
    access::Account,
    config::{
        Config, ConfigErrors,
        typed::{Item, Reader, Table},
        yaml,
    },
};

/// Longest login name in bytes; the name may become a key segment.
const NAME_BYTES: usize = 255;
/// Largest text that another system may send.
pub const FOREIGN_BYTES: usize = 256 << 10;

const GROUPS: &str = "a list of names of groups";

/// Keys of a user; those of [`Settings`] come on top.
const KEYS: [&str; 6] = [
    "name",
    "password_hash",
    "login",
    "certificates",
    "enabled",
    "groups",
];

/// One user.
#[derive(Clone, Debug)]
pub struct Document {
    /// Login name.
    pub name: String,
    /// `None` where the login needs no password, or another system checks it.
    pub hash: Option<Hash>,
    /// What a login needs.
    pub login: LoginBy,
    /// What a certificate may say to be this user's.
    pub certificates: Vec<String>,
    /// Names of groups, whose settings fill in what the user's own leave open.
    pub groups: Vec<String>,
    /// The rest.
    pub settings: Settings,
}

/// Settings by group name.
pub type Groups = BTreeMap<String, Settings>;

/// What a user needs to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginBy {
    /// The password alone (default).
    Password,
    /// A certificate alone.
    Certificate,
    /// A certificate and the password.
    Both,
}

/// What documents may refer to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Of mounts.
    pub backends: BTreeSet<Arc<str>>,
    /// Of profiles.
    pub profiles: BTreeSet<Arc<str>>,
    /// Of listeners.
    pub listeners: BTreeSet<Arc<str>>,
}

impl LoginBy {
    /// As in documents.
    pub fn word(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Certificate => "certificate",
            Self::Both => "both",
        }
    }
}

const LOGINS: [(&str, LoginBy); 3] = [
    ("password", LoginBy::Password),
    ("certificate", LoginBy::Certificate),
    ("both", LoginBy::Both),
];

impl Names {
    /// Everything that `config` defines.
    pub fn of(config: &Config) -> Self {
        Self {
            backends: config.backends.keys().cloned().collect(),
            profiles: config.profiles.keys().cloned().collect(),
            listeners: config
                .listeners
                .iter()
                .map(|l| Arc::clone(&l.name))
                .collect(),
        }
    }
}

impl Document {
    /// A user of this name of whom nothing else is known.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            hash: None,
            login: LoginBy::Password,
            certificates: Vec::new(),
            groups: Vec::new(),
            settings: Settings::default(),
        }
    }

    /// Reads what another system answered, YAML or JSON, at most [`FOREIGN_BYTES`]. `password_hash` may
    /// be absent. `{env: NAME}` and `{file: PATH}` are mistakes here. `origin` names the text in errors
    /// and in `explain`.
    ///
    /// # Errors
    /// Every mistake at once.
    pub fn parse(text: &str, origin: &str, names: &Names) -> Result<Self, ConfigErrors> {
        let file = Path::new(origin);
        if text.len() > FOREIGN_BYTES {
            let message = format!("{} bytes, more than {FOREIGN_BYTES}", text.len());
            return Err(ConfigErrors::of_file(file, message));
        }
        let node = yaml::parse(text).map_err(|message| ConfigErrors::of_file(file, message))?;
        let reader = Reader::foreign();
        let document = reader
            .root(&node, &keys())
            .and_then(|table| document(&table, origin, names, Needs::Nothing));
        reader.finish(document, file)
    }

    /// The account: the user's settings, then those of its groups in their order. Where both say
    /// something, the user's and then the first group's counts; grants, conditions and denials of all
    /// of them hold.
    ///
    /// # Errors
    /// The name of a group that is not in `groups`.
    pub fn account(&self, groups: &Groups) -> Result<Account, String> {
        let mut settings = self.settings.clone();
        for name in &self.groups {
            settings.inherit(groups.get(name).ok_or_else(|| name.clone())?);
        }
        Ok(Account {
            home: settings.home.unwrap_or_else(|| self.name.clone()),
            name: self.name.clone(),
            read_only: settings.read_only,
            mounts: settings.mounts,
            rules: settings.rules,
            file_names: settings.file_names,
            quota: settings.quota,
            limits: settings.limits,
            conditions: settings.conditions,
            attributes: settings.attributes,
            certificate: None,
            profile: settings.profile,
        })
    }

    /// What a verified certificate says that makes it this user's.
    pub fn named_by<'a>(&self, identities: &'a [String]) -> Option<&'a String> {
        identities
            .iter()
            .find(|identity| self.certificates.contains(identity))
    }
}

/// Whether a document must say how the user logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// A hash or certificates.
    Proof,
    /// Another system has checked the user.
    Nothing,
}

/// Every key of a user.
pub(super) fn keys() -> Vec<&'static str> {
    KEYS.into_iter().chain(settings::KEYS).collect()
}

/// One user of a users file; `names` collects all of them over all files.
pub(super) fn user(
    item: &Item<'_>,
    file: &str,
    known: &Names,
    names: &mut BTreeSet<String>,
    groups: &BTreeSet<String>,
) -> Option<Document> {
    let table = item.table(&keys())?;
    if let Some(name) = table.peek("name")
        && !names.insert(name.to_owned())
    {
        table.error("name", format!("another user has the name {name:?}"));
    }
    let origin = format!("{file}: {}", item.path());
    for item in table.optional_list("groups", GROUPS).iter().flatten() {
        if let Some(group) = item.peek()
            && !groups.contains(group)
        {
            item.error(format!("no group has the name {group:?}"));
        }
    }
    document(&table, &origin, known, Needs::Proof)
}

/// The groups of a users file.
pub(super) fn group(item: &Item<'_>, file: &str, known: &Names) -> Option<Settings> {
    let table = item.table(&settings::KEYS)?;
    settings::read(&table, &format!("{file}: {}", item.path()), known)
}

fn document(table: &Table<'_>, origin: &str, known: &Names, needs: Needs) -> Option<Document> {
    let name = name(table);
    let login = table.choice_or("login", &LOGINS, LoginBy::Password);
    let needs_hash = needs == Needs::Proof && login != Some(LoginBy::Certificate);
    let hash = hash(table, needs_hash);
    if login == Some(LoginBy::Certificate) && table.has("password_hash") {
        table.error(
            "password_hash",
            "not used: with `login: certificate` there is no password; for one besides the certificate write `login: both`",
        );
    }
    let certificates = certificates(table, login);
    let enabled = table.boolean("enabled", true);
    let groups = texts(table, "groups", GROUPS, "the name of a group");
    let settings = settings::read(table, origin, known);
    let mut settings = settings?;
    settings.conditions.disabled = !enabled?;
    Some(Document {
        name: name?,
        hash: hash?,
        login: login?,
        certificates: certificates?,
        groups: groups?,
        settings,
    })
}

/// A list of strings; empty if it is not given.
fn texts(table: &Table<'_>, key: &str, list: &str, one: &str) -> Option<Vec<String>> {
    optional_texts(table, key, list, one).map(Option::unwrap_or_default)
}

#[allow(
    clippy::option_option,
    reason = "a mistake and an absence are different"
)]
fn optional_texts(
    table: &Table<'_>,
    key: &str,
    list: &str,
    one: &str,
) -> Option<Option<Vec<String>>> {
    let Some(items) = table.items(key, list)? else {
        return Some(None);
    };
    let texts: Vec<_> = items.iter().map(|item| item.text(one)).collect();
    let texts = texts.into_iter().map(|text| Some(text?.value));
    texts.collect::<Option<Vec<_>>>().map(Some)
}

/// What certificates may say. The listener's `client_certificates.map` decides which part is compared.
fn certificates(table: &Table<'_>, login: Option<LoginBy>) -> Option<Vec<String>> {
    const EXPECTED: &str = "a list of names in certificates, or of SHA-256 fingerprints";
    let needed = matches!(login, Some(LoginBy::Certificate | LoginBy::Both));
    let texts = optional_texts(table, "certificates", EXPECTED, "a name or a fingerprint")?;
    let Some(texts) = texts else {
        if needed {
            table.error("certificates", format!("missing: expected {EXPECTED}"));
        }
        return (!needed).then(Vec::new);
    };
    if login == Some(LoginBy::Password) {
        let message = "not used: write `login: certificate` or `login: both` as well";
        table.error("certificates", message);
    }
    if texts.is_empty() && needed {
        table.error("certificates", format!("empty: expected {EXPECTED}"));
    }
    Some(texts.into_iter().map(plain_fingerprint).collect())
}

/// `AA:BB:…` as `openssl x509 -fingerprint -sha256` prints it becomes `aabb…`; everything else stays.
fn plain_fingerprint(text: String) -> String {
    let digits = text.replace(':', "").to_ascii_lowercase();
    let is_fingerprint = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_fingerprint { digits } else { text }
}

fn name(table: &Table<'_>) -> Option<String> {
    let text = table.text("name", "a login name")?;
    if let Some(problem) = name_problem(&text.value) {
        table.error("name", format!("{problem}, found {}", text.shown()));
        return None;
    }
    Some(text.value)
}

/// What is wrong with a login name, which is the default home and may be a key segment through
/// `{user}`.
pub fn name_problem(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("a name is not empty"),
        "." | ".." => Some("`.` and `..` are no names"),
        _ if name.contains('/') => Some("a name has no `/`"),
        _ if name.chars().any(char::is_control) => Some("a name has no control character"),
        _ if name.trim() != name => Some("a name has no blank at its ends"),
        _ if name.len() > NAME_BYTES => Some("a name has at most 255 bytes"),
        _ => None,
    }
}

/// The hash of a user. Errors never repeat it.
#[allow(
    clippy::option_option,
    reason = "a mistake and an absence are different"
)]
fn hash(table: &Table<'_>, needed: bool) -> Option<Option<Hash>> {
    let expected = password::EXPECTED;
    let Some(text) = table.optional_text("password_hash", expected)? else {
        if needed {
            table.error("password_hash", format!("missing: expected {expected}"));
        }
        return (!needed).then_some(None);
    };
    match Hash::parse(&text.value) {
        Ok(hash) => Some(Some(hash)),
        Err(problem) => {
            table.error("password_hash", format!("{problem}: expected {expected}"));
            None
        }
    }
}
