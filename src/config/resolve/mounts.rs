//! Mounts: the tree that users see.

use std::{collections::HashSet, time::Duration};

use super::{
    super::{
        typed::{Item, Table, Text},
        yaml::Node,
    },
    Located, key_prefix,
};
use crate::access::{self, Mount, VirtualPath};

/// Where a mount's files lie in its backend when it does not say.
const PREFIX: &str = "{home}";

pub(super) const MOUNT: [&str; 5] = [
    "path",
    "backend",
    "prefix",
    "read_only",
    "listing_cache_milliseconds",
];

pub(super) fn mounts(root: &Table<'_>) -> Option<Located<Mount>> {
    let items = root.list("mounts", "a list of mounts, one of them `/`")?;
    let complete = !items.is_empty();
    let (mounts, broken) = read(&items);
    let has_root = mounts.iter().any(|(_, mount)| mount.path.is_root());
    if !complete || (!broken && !has_root) {
        root.error(
            "mounts",
            "no mount has the path `/`, which every user starts in",
        );
    }
    Some(mounts)
}

/// The mounts of a user or group.
pub(crate) fn own_mounts(table: &Table<'_>) -> Option<Located<Mount>> {
    let items = table.optional_list("mounts", "a list of mounts")?;
    Some(read(&items).0)
}

/// Mounts with different paths; and whether a path is unknown because of a mistake.
fn read(items: &[Item<'_>]) -> (Located<Mount>, bool) {
    let (mut paths, mut mounts) = (HashSet::new(), Vec::new());
    let mut broken = false;
    for item in items {
        let Some(table) = item.table(&MOUNT) else {
            broken = true;
            continue;
        };
        let path = mount_path(&table);
        if let Some(path) = &path
            && !paths.insert(path.clone())
        {
            table.error(
                "path",
                format!("another mount has the path {:?}", path.as_str()),
            );
        }
        broken |= path.is_none();
        let backend = table.text("backend", "the name of a backend");
        table.default("prefix", Node::String(PREFIX.to_owned()));
        let prefix = match table.any_text("prefix", "a key prefix") {
            Some(Some(text)) => mount_prefix(&table, &text),
            Some(None) => Some(PREFIX.to_owned()),
            None => None,
        };
        let read_only = table.boolean("read_only", false);
        let listing_cache = table.integer("listing_cache_milliseconds", 0, 0..=2000_u64);
        if let (Some(path), Some(backend), Some(prefix), Some(read_only), Some(listing_cache)) =
            (path, backend, prefix, read_only, listing_cache)
        {
            let backend = backend.value.into();
            mounts.push((
                item.path().to_owned(),
                Mount {
                    path,
                    backend,
                    prefix,
                    read_only,
                    listing_cache: Duration::from_millis(listing_cache),
                },
            ));
        }
    }
    // A mount that was left out for another mistake still has its path.
    let broken = broken || mounts.len() < paths.len();
    (mounts, broken)
}

fn mount_path(table: &Table<'_>) -> Option<VirtualPath> {
    let text = table.text("path", "an absolute path such as / or /incoming")?;
    let problem = match VirtualPath::parse(&VirtualPath::root(), &text.value) {
        Ok(path) if path.as_str() == text.value => return Some(path),
        Ok(path) => format!("expected the plain absolute form {:?}", path.as_str()),
        Err(error) => error.to_string(),
    };
    table.error("path", format!("{problem}, found {}", text.shown()));
    None
}

fn mount_prefix(table: &Table<'_>, text: &Text) -> Option<String> {
    let prefix = key_prefix(table, "prefix", text)?;
    if let Err(problem) = access::check_template(&prefix, true) {
        table.error("prefix", format!("{problem}, found {}", text.shown()));
        return None;
    }
    Some(prefix)
}
