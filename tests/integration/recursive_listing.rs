//! `LIST -R`: a tree as `ls -R` shows it, within bounds (CONFORMANCE H3, O15).

use std::time::Duration;

use serde_json::json;

use crate::harness::{
    Curl, Lftp, Link, Mode, Raw, Server, Store, Version, on_each_store, password_hash, run_to_end,
};

on_each_store!(
    a_tree_is_shown_directory_by_directory,
    a_tree_beyond_a_bound_is_an_error,
    what_may_not_be_listed_has_no_section,
);

fn tree(store: &Store) {
    for name in ["a/b/deep", "a/file", "c/x", "top"] {
        store.put(&format!("alice/{name}"), b"12345");
    }
}

/// `header name name …` of each section, sorted, since each store has its own order. The directory that was
/// asked for must come first.
fn sections(listing: &str, end: &str) -> Vec<String> {
    let between = format!("{end}{end}");
    let mut sections: Vec<String> = listing
        .split(&between)
        .map(|section| {
            let mut lines = section.trim_end().split(end);
            let header = lines.next().unwrap_or_default().to_owned();
            let mut names: Vec<_> = lines
                .map(|line| line.rsplit(' ').next().unwrap_or_default())
                .collect();
            names.sort_unstable();
            format!("{header} {}", names.join(" "))
        })
        .collect();
    let asked_for = sections[0].split(':').next().unwrap_or_default();
    assert!(
        sections
            .iter()
            .all(|section| section.starts_with(asked_for))
    );
    sections.sort();
    sections
}

fn listed(raw: &mut Raw, line: &str) -> Vec<String> {
    sections(&String::from_utf8(raw.retrieve(line)).unwrap(), "\r\n")
}

fn a_tree_is_shown_directory_by_directory(store: &Store) {
    tree(store);
    let server = Server::with(store)
        .set("/limits/recursive_listing_rows", 100)
        .set(
            "/mounts",
            json!([
                {"path": "/", "backend": "main", "prefix": "{home}"},
                {"path": "/a/mounted", "backend": "main", "prefix": "alice/c", "read_only": true},
            ]),
        )
        .start();
    let mut raw = Raw::explicit(&server);
    let tree = |base: &str| {
        ["a: b file mounted", "a/b: deep", "a/mounted: x", "c: x"]
            .map(|section| format!("{base}{section}"))
            .to_vec()
    };
    let sorted = |mut sections: Vec<String>| {
        sections.sort();
        sections
    };
    let whole = sorted([vec![".: a c top".to_owned()], tree("./")].concat());
    for line in ["LIST -R", "LIST -alR", "LIST -l -R"] {
        assert_eq!(listed(&mut raw, line), whole, "{line}");
    }
    let root = sorted([vec!["/: a c top".to_owned()], tree("/")].concat());
    assert_eq!(listed(&mut raw, "LIST -R /"), root);
    raw.expect("CWD c", 250);
    let below = ["../a/b: deep", "../a/mounted: x", "../a: b file mounted"];
    assert_eq!(listed(&mut raw, "LIST -R ../a/"), below);
    // One directory, one file, a pattern, and no option of that name: as LIST.
    for (line, shown) in [
        ("LIST /a", vec!["b", "file", "mounted"]),
        ("LIST -R x", vec!["x"]),
        ("LIST -R /*p", vec!["top"]),
        ("LIST -- x", vec!["x"]),
    ] {
        let listing = String::from_utf8(raw.retrieve(line)).unwrap();
        let mut names: Vec<_> = listing
            .lines()
            .map(|line| line.rsplit(' ').next().unwrap())
            .collect();
        names.sort_unstable();
        assert_eq!(names, shown, "{line}");
    }
    assert_eq!(raw.failing_transfer_with_data("LIST -R none").code, 550);

    let link = Link::new(&server, Mode::Explicit, Version::Tls13);
    let mut curl = Curl::command(&link);
    curl.args(["--request", "LIST -R"])
        .arg(Curl::url(&link, ""));
    let (status, listing, dialogue) = run_to_end(curl, Duration::from_mins(1));
    assert!(status.success(), "{dialogue}");
    // Text to curl: its lines end as lines do here.
    assert_eq!(sections(&listing, "\n"), whole);
    let lftp = Lftp::command(&link, "ls -R");
    let (status, listing, dialogue) = run_to_end(lftp, Duration::from_mins(1));
    assert!(status.success(), "{dialogue}");
    assert_eq!(sections(&listing, "\n"), whole);
}

/// A client must not take a part for the whole.
fn a_tree_beyond_a_bound_is_an_error(store: &Store) {
    tree(store);
    // Three entries at the top, two in `a`, one in each of the two others.
    for (bounds, fits) in [
        (json!({"recursive_listing_rows": 7}), true),
        (json!({"recursive_listing_rows": 6}), false),
        (
            json!({"recursive_listing_rows": 7, "recursive_listing_depth": 2}),
            true,
        ),
        (
            json!({"recursive_listing_rows": 7, "recursive_listing_depth": 1}),
            false,
        ),
    ] {
        let server = Server::with(store).set("/limits", bounds.clone()).start();
        let mut raw = Raw::explicit(&server);
        if fits {
            assert_eq!(listed(&mut raw, "LIST -R").len(), 4, "{bounds}");
            continue;
        }
        let mut data = raw.begin_transfer("LIST -R");
        let (_, end) = data.read_all();
        let reply = raw.reply().expect(550).text();
        assert!(reply.contains("one by one"), "{bounds}: {reply}");
        assert_ne!(end, crate::harness::End::CloseNotify, "{bounds}");
        // Each directory by itself is listed, and the session goes on.
        assert_eq!(raw.names("NLST"), ["a", "c", "top"]);
        let link = Link::new(&server, Mode::Explicit, Version::Tls13);
        let mut curl = Curl::command(&link);
        curl.args(["--request", "LIST -R"])
            .arg(Curl::url(&link, ""));
        let (status, _, dialogue) = run_to_end(curl, Duration::from_mins(1));
        assert!(!status.success(), "{dialogue}");
    }
}

fn what_may_not_be_listed_has_no_section(store: &Store) {
    tree(store);
    let hash = password_hash();
    let server = Server::with(store)
        .set("/limits/recursive_listing_rows", 100)
        .user(&format!(
            "{{name: carol, password_hash: \"{hash}\", home: alice, grants: [\
             {{path: '/**', allow: [list, read]}}, {{path: '/a/b/**', deny: [list]}}]}}"
        ))
        .start();
    let mut raw = Raw::explicit_as(&server, "carol");
    let seen = listed(&mut raw, "LIST -R");
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert!(!seen.iter().any(|section| section.starts_with("./a/b:")));
}
