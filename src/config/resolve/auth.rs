//! Where users come from.

use std::time::Duration;

use super::{
    super::{Anonymous, Auth, SourceKind, UsersFiles, typed::Table},
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
    let table = root.table("auth", &AUTH);
    let table = table.as_ref();
    let sources = table.map_or(Some(default.sources), sources);
    let cache = table.map_or(Some(default.password_cache), |table| {
        let cache = default.password_cache.as_secs();
        let cache = table.integer("password_cache_seconds", cache, 0..=MAX_CACHE_SECONDS);
        cache.map(Duration::from_secs)
    });
    let unavailable = table.map_or(Some(default.unavailable), |table| {
        let choice = table.choice("unavailable", &WHEN_UNAVAILABLE)?;
        Some(choice.unwrap_or_default())
    });
    let wanted = |kind| {
        sources
            .as_ref()
            .is_some_and(|sources| sources.contains(&kind))
    };
    let http = section(table, "http", wanted(SourceKind::Http), &HTTP, http);
    let ldap = section(table, "ldap", wanted(SourceKind::Ldap), &LDAP, ldap);
    let anonymous = table
        .and_then(|table| table.table("anonymous", &ANONYMOUS))
        .map_or(Some(Anonymous::default()), |table| anonymous(&table));
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
    let Some(auth) = auth.filter(|auth| wanted || auth.has(key)) else {
        return Some(None);
    };
    let table = auth.required(key, "a table: `sources` names it")?;
    read(&table.table(known)?).map(Some)
}

fn sources(table: &Table<'_>) -> Option<Vec<SourceKind>> {
    let words = SOURCES.map(|(word, _)| format!("`{word}`")).join(", ");
    if !table.has("sources") {
        return Some(Auth::default().sources);
    }
    let items = table.list("sources", &format!("a list of {words}"))?;
    if items.is_empty() {
        table.error("sources", "empty: nobody could log in");
    }
    let mut sources = Vec::new();
    for item in items {
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
    match (table.has("file"), table.has("directory")) {
        (true, true) => {
            table.error("directory", "beside `file`: keep one of them");
            None
        }
        (false, true) => table
            .file("directory", "the path of a directory of users files")
            .map(UsersFiles::Directory),
        _ => table
            .file("file", "the path of the users file")
            .map(UsersFiles::File),
    }
}
