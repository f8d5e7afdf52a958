//! [`Settings`]: what users and groups have in common.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::SystemTime,
};

use ipnet::IpNet;
use time::{
    Date, OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description,
};

use super::{Names, optional_texts};
use crate::{
    access::{
        AccountLimits, Action, Actions, Conditions, FileNames, Hours, Mount, Pattern, Quota, Rule,
        Window, check_home,
    },
    config::{
        own_mounts, plain_network, time_zone,
        typed::{Item, Table, nearest},
    },
};

pub(super) const KEYS: [&str; 14] = [
    "home",
    "read_only",
    "mounts",
    "grants",
    "file_names",
    "quota",
    "limits",
    "allowed_networks",
    "allowed_listeners",
    "hours",
    "expires",
    "require_tls",
    "attributes",
    "profile",
];
const GRANT: [&str; 3] = ["path", "allow", "deny"];
const FILE_NAMES: [&str; 2] = ["allow", "deny"];
const QUOTA: [&str; 2] = ["bytes", "files"];
const LIMITS: [&str; 5] = [
    "sessions",
    "transfers",
    "file_bytes",
    "upload_bytes_per_second",
    "download_bytes_per_second",
];
const HOURS: [&str; 2] = ["time_zone", "windows"];

/// Every key below one of [`KEYS`], for the test that wants each in the documentation.
#[cfg(test)]
pub(super) const NESTED: [&[&str]; 5] = [&GRANT, &FILE_NAMES, &QUOTA, &LIMITS, &HOURS];

/// More than any store holds is a slip.
const BYTES: std::ops::RangeInclusive<u64> = 0..=1 << 60;
/// Rates below a byte a second are none.
const RATE: std::ops::RangeInclusive<u64> = 1..=1 << 50;
/// Sessions and transfers.
const COUNT: std::ops::RangeInclusive<usize> = 1..=1_000_000;

/// Settings of a user or of a group.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// As [`crate::access::Account::home`].
    pub home: Option<String>,
    /// Refuses every change.
    pub read_only: bool,
    /// Own mounts.
    pub mounts: Vec<Mount>,
    /// Grants.
    pub rules: Vec<Arc<Rule>>,
    /// Names that files may get.
    pub file_names: FileNames,
    /// Bytes and files in all.
    pub quota: Quota,
    /// How much at once.
    pub limits: AccountLimits,
    /// When and from where.
    pub conditions: Conditions,
    /// For `{attribute.NAME}`.
    pub attributes: BTreeMap<String, String>,
    /// A profile.
    pub profile: Option<Arc<str>>,
}

impl Settings {
    /// Fills in from a group what these settings leave open, and adds what the group grants, denies and
    /// asks for.
    pub fn inherit(&mut self, group: &Self) {
        self.home = self.home.take().or_else(|| group.home.clone());
        self.read_only |= group.read_only;
        for mount in &group.mounts {
            if self.mounts.iter().all(|own| own.path != mount.path) {
                self.mounts.push(mount.clone());
            }
        }
        self.rules.extend(group.rules.iter().cloned());
        self.file_names.extend(&group.file_names);
        self.quota = Quota {
            bytes: self.quota.bytes.or(group.quota.bytes),
            files: self.quota.files.or(group.quota.files),
        };
        let (own, theirs) = (self.limits, group.limits);
        self.limits = AccountLimits {
            sessions: own.sessions.or(theirs.sessions),
            transfers: own.transfers.or(theirs.transfers),
            file_bytes: own.file_bytes.or(theirs.file_bytes),
            upload_bytes_per_second: own
                .upload_bytes_per_second
                .or(theirs.upload_bytes_per_second),
            download_bytes_per_second: own
                .download_bytes_per_second
                .or(theirs.download_bytes_per_second),
        };
        self.conditions.extend(&group.conditions);
        for (name, value) in &group.attributes {
            self.attributes
                .entry(name.clone())
                .or_insert_with(|| value.clone());
        }
        self.profile = self.profile.take().or_else(|| group.profile.clone());
    }
}

/// Reads every key of [`KEYS`]; `origin` is where the table stands.
pub(super) fn read(table: &Table<'_>, origin: &str, known: &Names) -> Option<Settings> {
    let home = home(table);
    let read_only = table.boolean("read_only", false);
    let mounts = mounts(table, known);
    let rules = grants(table, origin);
    let file_names = file_names(table);
    let quota = quota(table);
    let limits = limits(table);
    let conditions = conditions(table, known);
    let attributes = attributes(table);
    let profile = profile(table, known);
    Some(Settings {
        home: home?,
        read_only: read_only?,
        mounts: mounts?,
        rules: rules?,
        file_names: file_names?,
        quota: quota?,
        limits: limits?,
        conditions: conditions?,
        attributes: attributes?,
        profile: profile?,
    })
}

#[allow(
    clippy::option_option,
    reason = "a mistake and an absence are different"
)]
fn home(table: &Table<'_>) -> Option<Option<String>> {
    let Some(text) = table.any_text("home", "a relative path")? else {
        return Some(None);
    };
    match check_home(&text.value) {
        Ok(()) => Some(Some(text.value)),
        Err(problem) => {
            table.error("home", format!("{problem}, found {}", text.shown()));
            None
        }
    }
}

fn mounts(table: &Table<'_>, known: &Names) -> Option<Vec<Mount>> {
    let mounts = own_mounts(table)?;
    for (path, mount) in &mounts {
        if !known.backends.contains(&mount.backend) {
            let message = unknown("backend", &mount.backend, &known.backends);
            table.error_at(format!("{path}.backend"), message);
        }
    }
    Some(mounts.into_iter().map(|(_, mount)| mount).collect())
}

fn grants(table: &Table<'_>, origin: &str) -> Option<Vec<Arc<Rule>>> {
    let items = table.optional_list("grants", "a list of grants")?;
    let rules: Vec<_> = items
        .iter()
        .enumerate()
        .map(|(index, item)| grant(item, &format!("{origin}.grants[{index}]")))
        .collect();
    rules.into_iter().collect()
}

fn grant(item: &Item<'_>, origin: &str) -> Option<Arc<Rule>> {
    let table = item.table(&GRANT)?;
    let pattern = match table.optional_text("path", "a pattern such as /incoming/**") {
        Some(None) => Pattern::parse("/**").ok(),
        Some(Some(text)) => match Pattern::parse(&text.value) {
            Ok(pattern) => Some(pattern),
            Err(problem) => {
                table.error("path", format!("{problem}, found {}", text.shown()));
                None
            }
        },
        None => None,
    };
    let allow = actions(&table, "allow");
    let deny = actions(&table, "deny");
    if !table.has("allow") && !table.has("deny") {
        item.error("says nothing: expected `allow`, `deny` or both");
    }
    Some(Arc::new(Rule {
        pattern: pattern?,
        allow: allow?,
        deny: deny?,
        origin: origin.into(),
    }))
}

/// A list of actions, or the word `all`.
fn actions(table: &Table<'_>, key: &str) -> Option<Actions> {
    let words = Action::WORDS.map(|(word, _)| word);
    let expected = format!("`all` or a list of {}", words.join(", "));
    if table.is_word(key, "all") {
        return Some(Actions::all());
    }
    let items = table.optional_list(key, &expected)?;
    let action = |item: &Item<'_>| {
        item.words(words);
        let text = item.text("an action")?;
        let found = Action::WORDS.iter().find(|(word, _)| *word == text.value);
        if found.is_none() {
            let hint = nearest(&text.value, &words);
            let hint = hint.map(|word| format!("; did you mean `{word}`?"));
            let hint = hint.unwrap_or_default();
            item.error(format!("expected {expected}, found {}{hint}", text.shown()));
        }
        found.map(|(_, action)| *action)
    };
    let actions: Vec<_> = items.iter().map(action).collect();
    actions.into_iter().collect()
}

fn file_names(table: &Table<'_>) -> Option<FileNames> {
    let mut names = FileNames::default();
    let Some(item) = table.item("file_names") else {
        return Some(names);
    };
    let table = item.table(&FILE_NAMES)?;
    let mut good = true;
    for key in FILE_NAMES {
        for item in table.optional_list(key, "a list of patterns such as *.csv")? {
            let Some(text) = item.text("a pattern such as *.csv") else {
                good = false;
                continue;
            };
            let added = if key == "allow" {
                names.allow(&text.value)
            } else {
                names.deny(&text.value)
            };
            if let Err(problem) = added {
                item.error(format!("{problem}, found {}", text.shown()));
                good = false;
            }
        }
    }
    good.then_some(names)
}

fn quota(table: &Table<'_>) -> Option<Quota> {
    let Some(item) = table.item("quota") else {
        return Some(Quota::default());
    };
    let table = item.table(&QUOTA)?;
    let bytes = table.optional_integer("bytes", BYTES);
    let files = table.optional_integer("files", BYTES);
    Some(Quota {
        bytes: bytes?,
        files: files?,
    })
}

fn limits(table: &Table<'_>) -> Option<AccountLimits> {
    let Some(item) = table.item("limits") else {
        return Some(AccountLimits::default());
    };
    let table = item.table(&LIMITS)?;
    let sessions = table.optional_integer("sessions", COUNT);
    let transfers = table.optional_integer("transfers", COUNT);
    let file_bytes = table.optional_integer("file_bytes", BYTES);
    let upload = table.optional_integer("upload_bytes_per_second", RATE);
    let download = table.optional_integer("download_bytes_per_second", RATE);
    Some(AccountLimits {
        sessions: sessions?,
        transfers: transfers?,
        file_bytes: file_bytes?,
        upload_bytes_per_second: upload?,
        download_bytes_per_second: download?,
    })
}

fn conditions(table: &Table<'_>, known: &Names) -> Option<Conditions> {
    let networks = networks(table);
    let listeners = listeners(table, known);
    let hours = hours(table);
    let expires = expires(table);
    let tls = table.boolean("require_tls", false);
    Some(Conditions {
        disabled: false,
        expires: expires?,
        networks: networks?.into_iter().collect(),
        listeners: listeners?.into_iter().collect(),
        hours: hours?.into_iter().collect(),
        tls: tls?,
    })
}

#[allow(
    clippy::option_option,
    reason = "a mistake and an absence are different"
)]
fn networks(table: &Table<'_>) -> Option<Option<Vec<IpNet>>> {
    const EXPECTED: &str = "a network such as 192.0.2.0/24, or an address";
    let Some(items) = table.items("allowed_networks", "a list of networks")? else {
        return Some(None);
    };
    let network = |item: &Item<'_>| {
        let text = item.text(EXPECTED)?;
        let network = text
            .parse::<IpNet>()
            .or_else(|| text.parse::<core::net::IpAddr>().map(IpNet::from));
        if network.is_none() {
            item.error(format!("expected {EXPECTED}, found {}", text.shown()));
        }
        network.map(plain_network)
    };
    let networks: Vec<_> = items.iter().map(network).collect();
    networks.into_iter().collect::<Option<Vec<_>>>().map(Some)
}

#[allow(
    clippy::option_option,
    reason = "a mistake and an absence are different"
)]
fn listeners(table: &Table<'_>, known: &Names) -> Option<Option<BTreeSet<Arc<str>>>> {
    const KEY: &str = "allowed_listeners";
    let expected = "a list of names of listeners";
    let Some(names) = optional_texts(table, KEY, expected, "the name of a listener")? else {
        return Some(None);
    };
    let names: BTreeSet<Arc<str>> = names.into_iter().map(Arc::from).collect();
    for name in names.difference(&known.listeners) {
        table.error(KEY, unknown("listener", name, &known.listeners));
    }
    Some(Some(names))
}

#[allow(
    clippy::option_option,
    reason = "a mistake and an absence are different"
)]
fn hours(table: &Table<'_>) -> Option<Option<Hours>> {
    const EXPECTED: &str = "a span of time such as `mon-fri 06:00-20:00` or `22:00-06:00`";
    let Some(item) = table.item("hours") else {
        return Some(None);
    };
    let table = item.table(&HOURS)?;
    let offset = time_zone(&table, "time_zone");
    let items = table.list("windows", "a list of spans of time")?;
    let window = |item: &Item<'_>| {
        let text = item.text(EXPECTED)?;
        let window = Window::parse(&text.value);
        if window.is_none() {
            item.error(format!("expected {EXPECTED}, found {}", text.shown()));
        }
        window
    };
    let windows: Vec<_> = items.iter().map(window).collect();
    let windows = windows.into_iter().collect::<Option<Vec<_>>>();
    Some(Some(Hours {
        offset: offset?,
        windows: windows?,
    }))
}

#[allow(
    clippy::option_option,
    reason = "a mistake and an absence are different"
)]
fn expires(table: &Table<'_>) -> Option<Option<SystemTime>> {
    const EXPECTED: &str = "a date such as 2027-01-31 (valid until its end, UTC), or a moment such as 2027-01-31T18:00:00+01:00";
    let Some(text) = table.optional_text("expires", EXPECTED)? else {
        return Some(None);
    };
    let day = format_description!("[year]-[month]-[day]");
    let moment = match Date::parse(&text.value, &day) {
        Ok(date) => date.next_day().map(|next| next.midnight().assume_utc()),
        Err(_) => OffsetDateTime::parse(&text.value, &Rfc3339).ok(),
    };
    if moment.is_none() {
        table.error(
            "expires",
            format!("expected {EXPECTED}, found {}", text.shown()),
        );
    }
    moment.map(|moment| Some(moment.into()))
}

fn attributes(table: &Table<'_>) -> Option<BTreeMap<String, String>> {
    let Some(item) = table.item("attributes") else {
        return Some(BTreeMap::new());
    };
    let mut attributes = BTreeMap::new();
    for (name, item) in item.names()? {
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if name.is_empty() || !name.chars().all(word) {
            item.error("a name of an attribute is made of letters, digits, `_` and `-`");
        }
        attributes.insert(name.to_owned(), item.text("a value")?.value);
    }
    Some(attributes)
}

#[allow(
    clippy::option_option,
    reason = "a mistake and an absence are different"
)]
fn profile(table: &Table<'_>, known: &Names) -> Option<Option<Arc<str>>> {
    let Some(text) = table.optional_text("profile", "the name of a profile")? else {
        return Some(None);
    };
    let name: Arc<str> = text.value.into();
    if !known.profiles.contains(&name) {
        table.error("profile", unknown("profile", &name, &known.profiles));
    }
    Some(Some(name))
}

fn unknown(what: &str, name: &str, known: &BTreeSet<Arc<str>>) -> String {
    let known: Vec<&str> = known.iter().map(|name| &**name).collect();
    let hint = nearest(name, &known).map(|name| format!("; did you mean `{name}`?"));
    let hint = hint.unwrap_or_default();
    format!("no {what} has the name {name:?}{hint}")
}
