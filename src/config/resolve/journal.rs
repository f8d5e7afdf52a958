//! The audit trail and the webhooks.

use std::{collections::BTreeSet, ops::RangeInclusive, time::Duration};

use globset::Glob;

use super::super::{
    Audit, AuditFile, AuditSync, EventKind, Events, Secret, Webhook, WhenFull,
    typed::{Item, Table},
    yaml::Node,
};

pub(super) const AUDIT: [&str; 9] = [
    "file",
    "stdout",
    "rotate_bytes",
    "rotate_seconds",
    "keep_files",
    "sync",
    "queue_lines",
    "when_full",
    "sha256",
];
pub(super) const EVENTS: [&str; 5] = ["spool", "spool_events", "source", "sha256", "webhooks"];
pub(super) const WEBHOOK: [&str; 11] = [
    "name",
    "url",
    "events",
    "users",
    "mounts",
    "paths",
    "secret",
    "ca_file",
    "timeout_seconds",
    "give_up_seconds",
    "concurrency",
];

const SYNC: [(&str, AuditSync); 2] = [("batch", AuditSync::Batch), ("system", AuditSync::System)];
const WHEN_FULL: [(&str, WhenFull); 2] = [("wait", WhenFull::Wait), ("drop", WhenFull::Drop)];

/// What events say they come from.
const SOURCE: &str = "causeway";
/// A year: what is older is an archive.
const AGE_SECONDS: RangeInclusive<u64> = 60..=366 * 24 * 3600;
/// A month: a receiver that is away for longer does not come back.
const GIVE_UP_SECONDS: RangeInclusive<u64> = 1..=30 * 24 * 3600;
/// As long as other keys that are worth something.
const SECRET_BYTES: usize = 16;

#[allow(
    clippy::option_option,
    reason = "a mistake and an absence are different things"
)]
pub(super) fn audit(root: &Table<'_>) -> Option<Option<Audit>> {
    let Some(table) = root.table("audit", &AUDIT) else {
        return Some(None);
    };
    let path = table.optional_file("file", "a path such as audit.jsonl");
    let stdout = table.boolean("stdout", false);
    let rotate_bytes = table.integer("rotate_bytes", 100 << 20, 4096..=1 << 40);
    let rotate_age = table.integer("rotate_seconds", 24 * 3600, AGE_SECONDS);
    let keep_files = table.integer("keep_files", 30, 1..=10_000);
    let sync = table.choice_or("sync", &SYNC, AuditSync::Batch);
    let queue_lines = table.integer("queue_lines", 10_000, 1..=1_000_000);
    let when_full = table.choice_or("when_full", &WHEN_FULL, WhenFull::Wait);
    let sha256 = table.boolean("sha256", true);
    if !table.has("file") && stdout == Some(false) {
        table.error("file", "missing: expected a path, or `stdout: true`");
    }
    let (rotate_bytes, rotate_age) = (rotate_bytes?, Duration::from_secs(rotate_age?));
    let (keep_files, sync) = (keep_files?, sync?);
    Some(Some(Audit {
        file: path?.map(|path| AuditFile {
            path,
            rotate_bytes,
            rotate_age,
            keep_files,
            sync,
        }),
        stdout: stdout?,
        queue_lines: queue_lines?,
        when_full: when_full?,
        sha256: sha256?,
    }))
}

#[allow(clippy::option_option, reason = "as above")]
pub(super) fn events(root: &Table<'_>) -> Option<Option<Events>> {
    let Some(table) = root.table("events", &EVENTS) else {
        return Some(None);
    };
    let spool = table.file("spool", "a directory such as /var/lib/causeway/events");
    let spool_events = table.integer("spool_events", 100_000, 1..=10_000_000);
    table.default("source", Node::String(SOURCE.to_owned()));
    let source = table.optional_text("source", "a name for this server, such as /ftp/hamburg");
    let sha256 = table.boolean("sha256", true);
    let webhooks = table.list("webhooks", "a list of webhooks").map(|items| {
        let mut names = BTreeSet::new();
        items
            .iter()
            .map(|item| webhook(item, &mut names))
            .collect::<Vec<_>>()
    });
    if webhooks.as_ref().is_some_and(Vec::is_empty) {
        table.error("webhooks", "empty: expected at least one webhook");
    }
    Some(Some(Events {
        spool: spool?,
        spool_events: spool_events?,
        source: source?.map_or_else(|| SOURCE.to_owned(), |text| text.value),
        sha256: sha256?,
        webhooks: webhooks?.into_iter().collect::<Option<Vec<_>>>()?,
    }))
}

fn webhook(item: &Item<'_>, names: &mut BTreeSet<String>) -> Option<Webhook> {
    let table = item.table(&WEBHOOK)?;
    let name = name(&table, names);
    let url = url(&table);
    let events = events_of(&table);
    let users = texts(&table, "users", "a list of users", |_| Ok(()));
    let mounts = texts(&table, "mounts", "a list of mount paths", |path| {
        if path.starts_with('/') {
            Ok(())
        } else {
            Err("expected a path that begins with /".to_owned())
        }
    });
    let paths = texts(&table, "paths", "a list of patterns", |pattern| {
        Glob::new(pattern).map_err(|error| error.to_string())?;
        // `*` and `?` end at a slash, and every path begins with one.
        if pattern.starts_with(['/', '{', '[']) || pattern.starts_with("**") {
            Ok(())
        } else {
            Err("fits no path, since those begin with /: expected a pattern such as /in/*.csv or **/*.csv".to_owned())
        }
    });
    let secret = table.secret("secret");
    if let Some(Some(secret)) = &secret
        && secret.expose().len() < SECRET_BYTES
    {
        let message = format!(
            "expected at least {SECRET_BYTES} characters, such as those of `openssl rand -hex 32`"
        );
        table.error("secret", message);
    }
    let ca_file = table.optional_file("ca_file", "a PEM file");
    let timeout = table.integer("timeout_seconds", 30, 1..=600);
    let give_up = table.integer("give_up_seconds", 24 * 3600, GIVE_UP_SECONDS);
    let concurrency = table.integer("concurrency", 4, 1..=64);
    Some(Webhook {
        name: name?.into(),
        url: url?,
        events: events?,
        users: users?,
        mounts: mounts?,
        paths: paths?,
        secret: secret?,
        ca_file: ca_file?,
        timeout: Duration::from_secs(timeout?),
        give_up: Duration::from_secs(give_up?),
        concurrency: concurrency?,
    })
}

/// The name is also that of a directory and a label.
fn name(table: &Table<'_>, names: &mut BTreeSet<String>) -> Option<String> {
    let text = table.text("name", "a name such as orders")?;
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if text.value.len() > 64 || !text.value.chars().all(fits) {
        let found = text.shown();
        table.error(
            "name",
            format!("expected at most 64 of the characters a-z, A-Z, 0-9, _ and -, found {found}"),
        );
        return None;
    }
    if !names.insert(text.value.clone()) {
        table.error("name", "another webhook has this name");
        return None;
    }
    Some(text.value)
}

/// The text is not repeated: it may hold a password.
fn url(table: &Table<'_>) -> Option<Secret> {
    let expected = "a URL such as https://example.com/hook";
    let url = table.secret_text("url", expected)?;
    let parsed = reqwest::Url::parse(&url.value);
    let is_web = |url: &reqwest::Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    if !parsed.as_ref().is_ok_and(is_web) {
        table.error("url", format!("expected {expected}"));
        return None;
    }
    Some(Secret::new(url.value))
}

fn events_of(table: &Table<'_>) -> Option<Vec<EventKind>> {
    let items = table.list("events", "a list such as [file.uploaded]")?;
    let names = EventKind::ALL.map(|(name, _)| format!("`{name}`"));
    let list = names.join(" or ");
    let read = |item: &Item<'_>| {
        item.words(EventKind::ALL.map(|(name, _)| name));
        let text = item.text(&list)?;
        let found = EventKind::ALL.iter().find(|(name, _)| *name == text.value);
        if found.is_none() {
            item.error(format!("expected {list}, found {}", text.shown()));
        }
        found.map(|(_, kind)| *kind)
    };
    let kinds: Vec<_> = items.iter().map(read).collect();
    if kinds.is_empty() {
        table.error("events", format!("empty: expected {list}"));
        return None;
    }
    kinds.into_iter().collect()
}

fn texts(
    table: &Table<'_>,
    key: &str,
    expected: &str,
    check: impl Fn(&str) -> Result<(), String>,
) -> Option<Vec<String>> {
    table.default(key, Node::Sequence(Vec::new()));
    let items = table.optional_list(key, expected)?;
    let read = |item: &Item<'_>| {
        let text = item.text(expected)?;
        match check(&text.value) {
            Ok(()) => Some(text.value),
            Err(message) => {
                item.error(format!("{message}, found {}", text.shown()));
                None
            }
        }
    };
    let texts: Vec<_> = items.iter().map(read).collect();
    texts.into_iter().collect()
}
