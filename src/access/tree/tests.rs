//! Tables and properties of [`Tree`].

use proptest::prelude::*;

use super::*;

const ACTIONS: [(&str, Action); 10] = Action::WORDS;

fn path(text: &str) -> VirtualPath {
    VirtualPath::parse(&VirtualPath::root(), text).unwrap()
}

fn account(name: &str, home: &str) -> Arc<Account> {
    let home = home.to_owned();
    Arc::new(Account {
        home,
        ..Account::new(name)
    })
}

fn mount(at: &str, backend: &str, prefix: &str) -> Mount {
    Mount {
        path: path(at),
        backend: backend.into(),
        prefix: prefix.to_owned(),
        read_only: false,
        listing_cache: Duration::ZERO,
    }
}

fn tree(account: Arc<Account>, mounts: &[Mount]) -> Tree {
    Tree::new(account, mounts)
}

#[test]
fn paths_become_keys_of_the_longest_mount() {
    let tree = tree(
        account("bob", "teams/bob"),
        &[
            mount("/", "disk", "home/{home}"),
            mount("/shared", "s3", ""),
            mount("/shared/mine", "s3", "users/{user}/in"),
            mount("/odd", "s3", "a{b}-{user}{"),
        ],
    );
    for (at, backend, key) in [
        ("/", "disk", "home/teams/bob"),
        ("/a/b", "disk", "home/teams/bob/a/b"),
        ("/shared2", "disk", "home/teams/bob/shared2"),
        ("/shared", "s3", ""),
        ("/shared/x", "s3", "x"),
        ("/shared/mine", "s3", "users/bob/in"),
        ("/shared/mine/x y", "s3", "users/bob/in/x y"),
        ("/shared/mine2", "s3", "mine2"),
        ("/odd/x", "s3", "a{b}-bob{/x"),
    ] {
        let found = tree.authorise(Action::List, &path(at)).unwrap();
        assert_eq!((&**found.backend(), found.as_str()), (backend, key), "{at}");
    }
}

#[test]
fn an_unsafe_name_or_home_mounts_nothing() {
    for (name, home, prefix, expected) in [
        ("bob", "", "{home}", Some("x")),
        ("bob", "", "home/{home}/in", Some("home/in/x")),
        ("bob", "..", "home/{home}", None),
        ("bob", "a/../..", "home/{home}", None),
        ("bob", "/a", "home/{home}", None),
        ("bob", "a/", "home/{home}", None),
        ("bob", "a//b", "home/{home}", None),
        ("bob", "a\nb", "home/{home}", None),
        ("..", "", "{user}", None),
        (".", "", "{user}", None),
        (".", "", "home/.{user}", None),
        ("", "", "{user}", None),
        ("a/b", "", "{user}", None),
        ("a\0", "", "{user}", None),
        ("a/b", "ok", "{home}", Some("ok/x")),
        ("{home}", "secret", "{user}", Some("{home}/x")),
        ("D\\u ser", "", "{user}", Some("D\\u ser/x")),
        ("bob", "", ".{home}.", None),
        ("bob", "", "a/../b", None),
    ] {
        let tree = tree(
            account(name, home),
            &[mount("/", "b", ""), mount("/m", "s3", prefix)],
        );
        let found = tree.authorise(Action::Read, &path("/m/x"));
        let expected = expected.map(str::to_owned).ok_or(Denied::NotMounted);
        assert_eq!(
            found.map(|key| key.as_str().to_owned()),
            expected,
            "{name:?} {home:?} {prefix:?}"
        );
    }
}

#[test]
fn what_is_not_mounted_is_denied_and_not_listed() {
    let tree = tree(
        account("..", ""),
        &[
            mount("/a/b", "s3", "x"),
            mount("/a/c", "s3", "{user}"),
            mount("/z", "s3", ""),
        ],
    );
    assert_eq!(
        tree.authorise(Action::List, &path("/")),
        Err(Denied::NotMounted)
    );
    assert_eq!(
        tree.authorise(Action::List, &path("/a")),
        Err(Denied::NotMounted)
    );
    assert_eq!(
        tree.authorise(Action::List, &path("/a/c/d")),
        Err(Denied::NotMounted)
    );
    assert_eq!(tree.mount_names(&path("/")), ["a", "z"]);
    assert_eq!(tree.mount_names(&path("/a")), ["b"]);
    assert!(tree.mount_names(&path("/a/b")).is_empty());
    assert!(tree.mount_names(&path("/q")).is_empty());
}

#[test]
fn mount_points_and_what_leads_to_them_are_fixed() {
    let tree = tree(
        account("bob", ""),
        &[mount("/", "disk", ""), mount("/a/b", "s3", "")],
    );
    for (_, action) in ACTIONS {
        for at in ["/", "/a", "/a/b"] {
            let found = tree.authorise(action, &path(at));
            if action.changes() {
                assert_eq!(found, Err(Denied::MountPoint(path(at))), "{action:?} {at}");
            } else {
                assert!(found.is_ok(), "{action:?} {at}");
            }
        }
        for at in ["/x", "/a/x", "/a/bb", "/a/b/x"] {
            assert!(tree.authorise(action, &path(at)).is_ok(), "{action:?} {at}");
        }
    }
}

#[test]
fn a_read_only_mount_refuses_changes_below_it_only() {
    let sealed = Mount {
        read_only: true,
        ..mount("/sealed", "s3", "")
    };
    let tree = tree(account("bob", ""), &[mount("/", "disk", ""), sealed]);
    for (_, action) in ACTIONS {
        for at in ["/sealed", "/sealed/x"] {
            let found = tree.authorise(action, &path(at));
            if action.changes() {
                assert_eq!(
                    found,
                    Err(Denied::ReadOnlyMount(path("/sealed"))),
                    "{action:?} {at}"
                );
            } else {
                assert!(found.is_ok(), "{action:?} {at}");
            }
        }
        assert!(
            tree.authorise(action, &path("/sealed2")).is_ok(),
            "{action:?}"
        );
    }
}

#[test]
fn a_bad_child_name_fails_closed() {
    let key = StoreKey::for_test("s3", "home/bob");
    assert_eq!(key.child("x").as_str(), "home/bob/x");
    assert_eq!(StoreKey::for_test("s3", "").child("x").as_str(), "x");
    for name in ["", ".", "..", "a/b", "../bob2", "a\nb"] {
        assert_eq!(key.child(name).as_str(), "home/bob/\0", "{name:?}");
    }
}

/// A tree of one mount with grants: (pattern, allow, deny), words with commas between.
fn granted(grants: &[(&str, &str, &str)]) -> Tree {
    let actions = |words: &str| -> Actions {
        let named = |word: &str| words == "all" || words.split(',').any(|other| other == word);
        let words = ACTIONS.iter().filter(|(word, _)| named(word));
        words.map(|(_, action)| *action).collect()
    };
    let rule = |(index, (pattern, allow, deny)): (usize, &(&str, &str, &str))| Rule {
        pattern: crate::access::Pattern::parse(pattern).unwrap(),
        allow: actions(allow),
        deny: actions(deny),
        origin: format!("grants[{index}]").into(),
    };
    let rules = grants.iter().enumerate().map(rule).map(Arc::new).collect();
    let account = Account {
        rules,
        ..Account::new("bob")
    };
    Tree::new(Arc::new(account), &[mount("/", "disk", "")])
}

#[test]
fn denials_win_and_what_nothing_allows_is_denied() {
    let drop_box = [("/in/**", "write,mkdir", "")];
    let full_but = [("/**", "all", ""), ("/keep/**", "", "delete,overwrite")];
    let only_denial = [("/secret/**", "", "all")];
    for (grants, action, at, allowed) in [
        (&[][..], Action::Delete, "/x", true),
        (&drop_box, Action::Write, "/in/x", true),
        (&drop_box, Action::Overwrite, "/in/x", false),
        (&drop_box, Action::List, "/in", false),
        (&drop_box, Action::Write, "/x", false),
        (&full_but, Action::Delete, "/x", true),
        (&full_but, Action::Delete, "/keep/x/y", false),
        (&full_but, Action::Read, "/keep/x", true),
        (&only_denial, Action::Read, "/x", true),
        (&only_denial, Action::Read, "/secret/x", false),
        (&only_denial, Action::List, "/secret", false),
    ] {
        let found = granted(grants).authorise(action, &path(at));
        assert_eq!(
            found.is_ok(),
            allowed,
            "{grants:?} {action} {at}: {found:?}"
        );
    }
    let denied = granted(&full_but).authorise(Action::Delete, &path("/keep/x"));
    let origin = "grants[1]".into();
    let action = Action::Delete;
    assert_eq!(denied, Err(Denied::Rule { action, origin }));
}

#[test]
fn directories_are_entered_for_the_sake_of_what_is_in_them() {
    let tree = granted(&[("/a/in/**", "write", ""), ("/a/b/**", "", "list")]);
    for (at, enters, shows) in [
        ("/", true, true),
        ("/a", true, true),
        ("/a/in", true, true),
        ("/a/in/deep", true, false),
        ("/a/b", false, false),
        ("/c", false, false),
    ] {
        assert_eq!(tree.enter(&path(at)).is_ok(), enters, "{at}");
        assert_eq!(tree.shows(&path(at)), shows, "{at}");
    }
    assert!(tree.authorise(Action::List, &path("/a")).is_err());
}

#[test]
fn rename_gives_no_right_to_what_had_none() {
    let grants = [
        ("/**", "list,rename,write", ""),
        ("/open/**", "read,delete", ""),
        ("/part/x/**", "", "read"),
    ];
    let tree = granted(&grants);
    for (from, to, is_directory, allowed) in [
        ("/a", "/b", false, true),
        ("/a", "/open/a", false, false),
        ("/open/a", "/a", false, true),
        ("/open/d", "/open/e", true, true),
        ("/part", "/other", true, false),
        ("/other", "/part", true, false),
        ("/d", "/part/x/d", true, true),
    ] {
        let found = tree.rename(&path(from), &path(to), is_directory);
        assert_eq!(found.is_ok(), allowed, "{from} {to}: {found:?}");
    }
    let (_, _, overwrite) = tree.rename(&path("/a"), &path("/b"), false).unwrap();
    assert!(!overwrite);
}

#[test]
fn own_mounts_take_the_place_of_the_common_ones() {
    let mut account = Account::new("bob");
    account.mounts = vec![
        mount("/", "s3", "mine"),
        mount("/more", "s3", "{user}/more"),
    ];
    let common = [
        mount("/", "disk", "{home}"),
        mount("/shared", "disk", "shared"),
    ];
    let tree = Tree::new(Arc::new(account), &common);
    for (at, backend, key) in [
        ("/x", "s3", "mine/x"),
        ("/more/x", "s3", "bob/more/x"),
        ("/shared/x", "disk", "shared/x"),
    ] {
        let found = tree.authorise(Action::Read, &path(at)).unwrap();
        assert_eq!((&**found.backend(), found.as_str()), (backend, key));
    }
}

#[test]
fn file_names_bind_uploads_and_renames() {
    let mut account = Account::new("bob");
    account.file_names.deny("*.exe").unwrap();
    let tree = Tree::new(Arc::new(account), &[mount("/", "disk", "")]);
    for (action, allowed) in [
        (Action::Write, false),
        (Action::Append, false),
        (Action::Read, true),
        (Action::Delete, true),
        (Action::MakeDirectory, true),
    ] {
        let found = tree.authorise(action, &path("/a.exe"));
        assert_eq!(found.is_ok(), allowed, "{action}");
    }
    assert!(tree.rename(&path("/a"), &path("/a.exe"), false).is_err());
    assert!(tree.rename(&path("/a"), &path("/a.exe"), true).is_ok());
}

fn names() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c]{1,2}",
        "[./{}a-z~ ]{0,6}",
        "(home|user|\\{home\\}|\\{user\\}|\\.\\.)",
        ".{0,4}"
    ]
}

fn homes() -> impl Strategy<Value = String> {
    prop_oneof![
        names(),
        "([a-c]{1,2}/){0,2}[a-c]{1,2}",
        "([.a/]{0,3}/){0,2}"
    ]
}

fn prefixes() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("home/{home}".to_owned()),
        Just("{user}".to_owned()),
        "([a-c]{1,2}/){0,2}(\\{home\\}|\\{user\\}|\\.{0,2})"
    ]
}

proptest! {
    #[test]
    fn every_key_stays_below_the_prefix_of_its_mount(
        name in names(), home in homes(), prefix in prefixes(),
        at in "(/[ab]){0,2}", inside in "(/[a-c.]{1,3}){0,4}",
    ) {
        let account = account(&name, &home);
        let at = path(&format!("/{at}"));
        let tree = tree(Arc::clone(&account), &[mount(at.as_str(), "s3", &prefix)]);
        let target = path(&format!("{at}/{inside}"));
        if let Ok(key) = tree.authorise(Action::Read, &target) {
            let plain = prefix.replace("{home}", &home).replace("{user}", &name);
            let expanded: Vec<_> = plain.split('/').filter(|s| !s.is_empty()).collect();
            let found: Vec<_> = key.as_str().split('/').filter(|s| !s.is_empty()).collect();
            // A name or home with a template in it is not expanded again, unlike in `replace`.
            let plain_values = !name.contains('{') && !home.contains('{');
            prop_assert!(!plain_values || found.starts_with(&expanded), "{} {}", plain, key.as_str());
            prop_assert_eq!(found.join("/"), key.as_str());
            prop_assert!(found.iter().all(|segment| check_segment(segment).is_ok()));
            // The rest of the path follows the prefix unchanged.
            let rest: Vec<_> = target.segments().skip(at.segments().count()).collect();
            prop_assert!(found.ends_with(&rest));
        }
    }

    #[test]
    fn a_read_only_account_changes_nothing(
        name in names(), home in homes(), prefix in prefixes(),
        at in "(/[ab]){0,2}", target in "(/[a-c.]{1,3}){0,4}", sealed: bool,
    ) {
        let account = Account { home, read_only: true, ..Account::new(name) };
        let mounts = [Mount { read_only: sealed, ..mount(&format!("/{at}"), "s3", &prefix) }];
        let tree = tree(Arc::new(account), &mounts);
        for (_, action) in ACTIONS {
            let found = tree.authorise(action, &path(&format!("/{target}")));
            if action.changes() {
                prop_assert_eq!(found, Err(Denied::ReadOnlyAccount));
            }
        }
    }

    #[test]
    fn two_homes_never_share_a_key(left in "[a-c]{1,3}", right in "[a-c]{1,3}", inside in "(/[a-c]{1,3}){0,3}") {
        prop_assume!(left != right);
        let key = |home: &str| {
            let tree = tree(account("x", home), &[mount("/", "s3", "home/{home}")]);
            tree.authorise(Action::List, &path(&format!("/{inside}"))).unwrap()
        };
        let (own, other) = (key(&left), key(&right));
        let other_home = path(&format!("/home/{right}"));
        prop_assert!(own != other);
        let own = path(&format!("/{}", own.as_str()));
        prop_assert!(!own.is_within(&other_home));
    }

    #[test]
    fn a_child_key_is_what_authorise_makes(inside in "(/[a-c]{1,3}){0,3}", name in "[a-z *]{1,4}") {
        let tree = tree(account("x", "x"), &[mount("/", "s3", "home/{home}")]);
        let directory = path(&format!("/{inside}"));
        let child = tree.authorise(Action::List, &directory.join(&name).unwrap()).unwrap();
        prop_assert_eq!(tree.authorise(Action::List, &directory).unwrap().child(&name), child);
    }

    #[test]
    fn denial_wins_whatever_else_is_granted(
        grants in proptest::collection::vec(
            ("(/([ab]|\\*|\\*\\*)){1,3}", 0_u16..1024, 0_u16..1024), 0..5),
        at in "(/[abc]){0,4}",
    ) {
        let set = |bits: u16| -> Actions {
            let on = |(index, _): &(usize, &(&str, Action))| bits & (1 << index) != 0;
            ACTIONS.iter().enumerate().filter(on).map(|(_, (_, action))| *action).collect()
        };
        let rules: Vec<Arc<Rule>> = grants.iter().map(|(pattern, allow, deny)| Arc::new(Rule {
            pattern: crate::access::Pattern::parse(pattern).unwrap(),
            allow: set(*allow),
            deny: set(*deny),
            origin: pattern.as_str().into(),
        })).collect();
        let at = path(&format!("/{at}"));
        let tree_of = |rules: Vec<Arc<Rule>>| {
            let account = Account { rules, ..Account::new("bob") };
            Tree::new(Arc::new(account), &[mount("/", "disk", "home")])
        };
        let tree = tree_of(rules.clone());
        let mut turned = rules.clone();
        turned.reverse();
        let turned = tree_of(turned);
        for (_, action) in ACTIONS {
            let covering: Vec<_> = rules.iter().filter(|rule| rule.pattern.matches(&at)).collect();
            let found = tree.authorise(action, &at);
            if covering.iter().any(|rule| rule.deny.contains(action)) {
                prop_assert!(found.is_err());
            }
            let some_allow = rules.iter().any(|rule| !rule.allow.is_empty());
            if some_allow && !covering.iter().any(|rule| rule.allow.contains(action)) {
                prop_assert!(found.is_err());
            }
            // The order of grants means nothing.
            prop_assert_eq!(found.is_ok(), turned.authorise(action, &at).is_ok());
            if let Ok(key) = found {
                prop_assert!(key.as_str() == "home" || key.as_str().starts_with("home/"));
            }
        }
    }

    #[test]
    fn what_divides_no_directory_decides_for_all_in_it(
        pattern in "(/([ab]|\\*|\\*\\*)){1,4}", directory in "(/[ab]){0,3}",
        one in "(/[ab]){1,3}", other in "(/[ab]){1,3}",
    ) {
        let pattern = crate::access::Pattern::parse(&pattern).unwrap();
        let directory = path(&format!("/{directory}"));
        if !pattern.divides(&directory) {
            let inside = |rest: &str| pattern.matches(&path(&format!("{directory}/{rest}")));
            prop_assert_eq!(inside(&one), inside(&other));
        }
    }
}
