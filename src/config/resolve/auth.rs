//! Where users come from.

use std::time::Duration;

use super::super::{Auth, SourceKind, UsersFiles, typed::Table};

pub(super) const USERS: [&str; 2] = ["file", "directory"];
pub(super) const AUTH: [&str; 2] = ["sources", "password_cache_seconds"];

const SOURCES: [(&str, SourceKind); 1] = [("users", SourceKind::Users)];

/// A password that was right an hour ago may have been withdrawn in another system since.
const MAX_CACHE_SECONDS: u64 = 3600;

pub(super) fn auth(root: &Table<'_>) -> Option<Auth> {
    let default = Auth::default();
    let (sources, cache) = match root.table("auth", &AUTH) {
        Some(table) => {
            let cache = default.password_cache.as_secs();
            let cache = table.integer("password_cache_seconds", cache, 0..=MAX_CACHE_SECONDS);
            (sources(&table), cache.map(Duration::from_secs))
        }
        None => (Some(default.sources), Some(default.password_cache)),
    };
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
    })
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
