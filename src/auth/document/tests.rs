//! Documents, good and bad.

use super::*;
use crate::access::{Action, Denied, Mount, Tree, VirtualPath};

fn names() -> Names {
    Names {
        backends: ["disk".into()].into(),
        profiles: ["old".into()].into(),
        listeners: ["public".into()].into(),
    }
}

fn parse(text: &str) -> Result<Document, ConfigErrors> {
    Document::parse(text, "answer", &names())
}

#[test]
fn json_of_another_system_makes_an_account() {
    let document = parse(
        r#"{"name": "plc7", "home": "devices/{user}", "groups": ["devices"],
            "mounts": [{"path": "/shared", "backend": "disk", "prefix": "shared/{attribute.site}"}],
            "grants": [{"path": "/**", "allow": "all"}, {"path": "/shared/**", "deny": ["write", "delete"]}],
            "file_names": {"deny": ["*.exe"]}, "quota": {"bytes": 1000, "files": 3},
            "limits": {"sessions": 2, "transfers": 1, "file_bytes": 500,
                       "upload_bytes_per_second": 10000, "download_bytes_per_second": 20000},
            "allowed_networks": ["192.0.2.0/24", "2001:db8::1"], "allowed_listeners": ["public"],
            "hours": {"time_zone": "+01:00", "windows": ["mon-fri 06:00-20:00"]},
            "expires": "2027-01-31T18:00:00+01:00", "require_tls": true,
            "attributes": {"site": "bonn"}, "profile": "old"}"#,
    )
    .unwrap();
    assert!(document.hash.is_none());
    assert_eq!(document.account(&Groups::new()).unwrap_err(), "devices");
    let groups = [("devices".to_owned(), Settings::default())].into();
    let account = document.account(&groups).unwrap();
    assert_eq!(account.limits.file_bytes, Some(500));
    assert_eq!(account.conditions.networks[0].len(), 2);
    let root = Mount {
        path: VirtualPath::root(),
        backend: "disk".into(),
        prefix: "{home}".to_owned(),
        read_only: false,
        listing_cache: std::time::Duration::ZERO,
    };
    let tree = Tree::new(Arc::new(account), &[root]);
    let path = |text: &str| VirtualPath::parse(&VirtualPath::root(), text).unwrap();
    let key = tree.authorise(Action::Read, &path("/shared/x")).unwrap();
    assert_eq!(key.as_str(), "shared/bonn/x");
    let key = tree.authorise(Action::Write, &path("/x")).unwrap();
    assert_eq!(key.as_str(), "devices/plc7/x");
    let denied = tree.authorise(Action::Write, &path("/shared/x"));
    let (action, origin) = (Action::Write, "answer.grants[1]".into());
    assert_eq!(denied, Err(Denied::Rule { action, origin }));
}

#[test]
fn mistakes_are_reported_together() {
    let errors = parse(
        r#"{"name": "a/b", "home": "x/{hom}", "colour": "red", "enabled": "yes",
            "mounts": [{"path": "/m", "backend": "disc"}],
            "grants": [{"path": "in", "allow": ["writ"]}, {"path": "/x"}, {"allow": "everything"}],
            "file_names": {"deny": ["a/b"]}, "quota": {"bytes": -1},
            "limits": {"sessions": 0}, "allowed_networks": ["192.0.2.0/33"],
            "allowed_listeners": ["publik"], "hours": {"windows": ["mon"]}, "expires": "soon",
            "attributes": {"a b": "c"}, "profile": "odd"}"#,
    )
    .unwrap_err()
    .to_string();
    for expected in [
        "answer: colour: unknown key",
        "answer: name: a name has no `/`",
        "answer: home: the templates are {user}, {certificate} and {attribute.NAME}, found \"x/{hom}\"",
        "answer: enabled: expected true or false",
        "answer: mounts[0].backend: no backend has the name \"disc\"; did you mean `disk`?",
        "answer: grants[0].path: expected an absolute pattern",
        "answer: grants[0].allow[0]: expected `all` or a list of",
        "did you mean `write`?",
        "answer: grants[1]: says nothing",
        "answer: grants[2].allow: expected `all` or a list of",
        "answer: file_names.deny[0]: expected a pattern for names",
        "answer: quota.bytes: expected a whole number from 0",
        "answer: limits.sessions: expected a whole number from 1",
        "answer: allowed_networks[0]: expected a network",
        "answer: allowed_listeners: no listener has the name \"publik\"; did you mean `public`?",
        "answer: hours.windows[0]: expected a span of time",
        "answer: expires: expected a date",
        "answer: attributes[\"a b\"]: a name of an attribute",
        "answer: profile: no profile has the name \"odd\"",
    ] {
        assert!(errors.contains(expected), "{expected}\n{errors}");
    }
    assert_eq!(errors.lines().count(), 18, "{errors}");
}

/// Whoever answers must not read our files and variables, nor fill our memory.
#[test]
fn foreign_text_names_neither_files_nor_variables() {
    for text in [
        r#"{"name": "a", "home": {"file": "/etc/hostname"}}"#,
        r#"{"name": {"env": "PATH"}}"#,
    ] {
        let errors = parse(text).unwrap_err().to_string();
        assert!(errors.contains("found a table"), "{errors}");
    }
    let long = format!(
        "{{\"name\": \"a\", \"home\": \"{}\"}}",
        "x".repeat(FOREIGN_BYTES)
    );
    assert!(parse(&long).unwrap_err().to_string().contains("more than"));
    for text in ["", "[]", "7", "<html>", "{\"name\": ", "[[[[[[", "null"] {
        assert!(parse(text).is_err(), "{text}");
    }
}

#[test]
fn documentation_names_every_key() {
    let page = include_str!("../../../docs/users.md");
    let nested = settings::NESTED.concat();
    for key in keys().into_iter().chain(nested) {
        assert!(
            page.contains(&format!("`{key}`")),
            "docs/users.md lacks {key}"
        );
    }
    for (word, _) in Action::WORDS {
        assert!(
            page.contains(&format!("`{word}`")),
            "docs/users.md lacks {word}"
        );
    }
}
