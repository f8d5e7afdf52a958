//! Tables and properties of [`Tree`].

use proptest::prelude::*;

use super::*;

const ACTIONS: [Action; 10] = [
    Action::List,
    Action::Read,
    Action::Write,
    Action::Overwrite,
    Action::Append,
    Action::Rename,
    Action::Delete,
    Action::MakeDirectory,
    Action::RemoveDirectory,
    Action::SetTime,
];

fn path(text: &str) -> VirtualPath {
    VirtualPath::parse(&VirtualPath::root(), text).unwrap()
}

fn account(name: &str, home: &str) -> Arc<Account> {
    Arc::new(Account {
        name: name.to_owned(),
        home: home.to_owned(),
        read_only: false,
    })
}

fn mount(at: &str, backend: &str, prefix: &str) -> Mount {
    Mount {
        path: path(at),
        backend: backend.into(),
        prefix: prefix.to_owned(),
        read_only: false,
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
    for action in ACTIONS {
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
    for action in ACTIONS {
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
        let account = Account { name, home, read_only: true };
        let mounts = [Mount { read_only: sealed, ..mount(&format!("/{at}"), "s3", &prefix) }];
        let tree = tree(Arc::new(account), &mounts);
        for action in ACTIONS {
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
}
