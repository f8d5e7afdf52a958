//! Where users come from.

use std::time::Duration;

use super::{
    super::{Auth, SourceKind, UsersFiles, typed::Table, yaml::Node},
    sources::{ANONYMOUS, HTTP, LDAP, WHEN_UNAVAILABLE, anonymous, http, ldap},
};

pub(super) const USERS: [&str; 2] = ["file", "directory"];
pub(super) const AUTH: [&str; 6] = [
    "sources",
    "password_cache_seconds",
    "unavailable",
    "http",
    "ldap",
    "anonymous",
];

const SOURCES: [(&str, SourceKind); 4] = [
    ("users", SourceKind::Users),
    ("http", SourceKind::Http),
    ("ldap", SourceKind::Ldap),
    ("anonymous", SourceKind::Anonymous),
];

/// A password that was right an hour ago may have been withdrawn in another system since.
const MAX_CACHE_SECONDS: u64 = 3600;

pub(super) fn auth(root: &Table<'_>) -> Option<Auth> {
    let default = Auth::default();
    let table = root.section("auth", &AUTH);
    let table = table.as_ref();
    let sources = table.and_then(sources);
    let cache = table.and_then(|table| {
        let cache = default.password_cache.as_secs();
        let cache = table.integer("password_cache_seconds", cache, 0..=MAX_CACHE_SECONDS);
        cache.map(Duration::from_secs)
    });
    let unavailable = table
        .and_then(|table| table.choice_or("unavailable", &WHEN_UNAVAILABLE, default.unavailable));
    let wanted = |kind| {
        sources
            .as_ref()
            .is_some_and(|sources| sources.contains(&kind))
    };
    let http = section(table, "http", wanted(SourceKind::Http), &HTTP, http);
    let ldap = section(table, "ldap", wanted(SourceKind::Ldap), &LDAP, ldap);
    let anonymous = table
        .and_then(|table| table.section("anonymous", &ANONYMOUS))
        .and_then(|table| anonymous(&table));
    let wants_users = sources
        .as_ref()
        .is_none_or(|sources| sources.contains(&SourceKind::Users));
    let users = match root.item("users") {
        Some(item) => users(&item.table(&USERS)?).map(Some),
        None if wants_users => {
            root.error(
                "users",
                "missing: expected a table with `file` or `directory`",
            );
            None
        }
        None => Some(None),
    };
    Some(Auth {
        sources: sources?,
        users: users?,
        password_cache: cache?,
        unavailable: unavailable?,
        http: http?,
        ldap: ldap?,
        anonymous: anonymous?,
    })
}

/// The settings of a source, which must be there if the source is to be asked.
#[allow(
    clippy::option_option,
    reason = "a mistake and an absence are different things"
)]
fn section<T>(
    auth: Option<&Table<'_>>,
    key: &'static str,
    wanted: bool,
    known: &[&str],
    read: fn(&Table<'_>) -> Option<T>,
) -> Option<Option<T>> {
    let auth = auth?;
    match auth.item(key) {
        Some(item) => read(&item.table(known)?).map(Some),
        None if wanted => {
            auth.error(key, "missing: expected a table: `sources` names it");
            None
        }
        None => Some(None),
    }
}

fn sources(table: &Table<'_>) -> Option<Vec<SourceKind>> {
    let words = SOURCES.map(|(word, _)| format!("`{word}`")).join(", ");
    let default = Auth::default().sources;
    let named = SOURCES
        .iter()
        .filter(|(_, source)| default.contains(source));
    let named = named.map(|(word, _)| Node::String((*word).to_owned()));
    table.default("sources", Node::Sequence(named.collect()));
    let Some(items) = table.items("sources", &format!("a list of {words}"))? else {
        return Some(default);
    };
    if items.is_empty() {
        table.error("sources", "empty: nobody could log in");
    }
    let mut sources = Vec::new();
    for item in items {
        item.words(SOURCES.map(|(word, _)| word));
        let text = item.text("an authentication source")?;
        let found = SOURCES.iter().find(|(word, _)| *word == text.value);
        match found {
            None => item.error(format!("expected {words}, found {}", text.shown())),
            Some((_, source)) if sources.contains(source) => {
                item.error("given twice: keep one of them");
            }
            Some((_, source)) => sources.push(*source),
        }
    }
    Some(sources)
}

fn users(table: &Table<'_>) -> Option<UsersFiles> {
    const FILE: &str = "the path of the users file";
    let file = table.optional_file("file", FILE)?;
    let directory = table.optional_file("directory", "the path of a directory of users files")?;
    match (file, directory) {
        (Some(_), Some(_)) => {
            table.error("directory", "beside `file`: keep one of them");
            None
        }
        (None, None) => {
            table.error("file", format!("missing: expected {FILE}"));
            None
        }
        (Some(file), None) => Some(UsersFiles::File(file)),
        (None, Some(directory)) => Some(UsersFiles::Directory(directory)),
    }
}
