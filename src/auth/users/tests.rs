//! Users files, good and bad.

use std::{fs, path::Path, time::Duration};

use super::*;
use crate::{
    auth::{Attempt, Authentication, Hashing, Outcome, Proof, Source, password::tests::cheap_hash},
    config::Auth,
    observe::metrics::Metrics,
};

fn names() -> Names {
    Names {
        backends: ["disk".into()].into(),
        profiles: ["old".into()].into(),
        listeners: ["public".into(), "inside".into()].into(),
    }
}

/// Users of a file `users.yaml` with this text.
fn parse(text: &str) -> Result<Users, String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("users.yaml");
    fs::write(&file, text).unwrap();
    let prefix = format!("{}/", directory.path().display());
    let loaded = Users::load(&UsersFiles::File(file), &names());
    loaded.map_err(|error| error.to_string().replace(&prefix, ""))
}

#[test]
fn right_password_yields_the_account_and_wrong_ones_nothing() {
    let hash = cheap_hash("correct horse");
    let users = parse(&format!(
        "users:\n- {{name: anna, password_hash: \"{hash}\"}}\n\
         - {{name: bert, password_hash: \"{hash}\", home: devices/b, read_only: true}}\n\
         - {{name: carl, password_hash: \"{hash}\", enabled: false}}\n\
         - {{name: dora, password_hash: \"{hash}\", home: \"\"}}\n"
    ))
    .unwrap();
    assert_eq!(users.len(), 4);
    assert!(!users.is_empty());
    let anna = users.verify("anna", "correct horse", &[]).unwrap();
    assert_eq!((anna.name.as_str(), anna.home.as_str()), ("anna", "anna"));
    assert!(!anna.read_only && !anna.conditions.disabled);
    let bert = users.verify("bert", "correct horse", &[]).unwrap();
    assert_eq!((bert.home.as_str(), bert.read_only), ("devices/b", true));
    assert_eq!(users.verify("dora", "correct horse", &[]).unwrap().home, "");
    // Known by its password, and refused for its condition.
    let carl = users.verify("carl", "correct horse", &[]).unwrap();
    assert!(carl.conditions.disabled);
    for (name, password) in [
        ("anna", ""),
        ("anna", "correct horsE"),
        ("Anna", "correct horse"),
        ("nobody", "correct horse"),
        ("", ""),
    ] {
        assert!(
            users.verify(name, password, &[]).is_none(),
            "{name} {password}"
        );
    }
}

#[test]
fn strangers_cost_what_users_cost() {
    let (one, other) = (cheap_hash("x"), cheap_hash("y"));
    let users = parse(&format!(
        "users: [{{name: a, password_hash: \"{one}\"}}, {{name: b, password_hash: \"{other}\"}},\
         {{name: c, login: certificate, certificates: [c]}}]"
    ))
    .unwrap();
    let drawn = |draw| {
        users
            .candidate("nobody", &[], draw)
            .hash
            .identity()
            .to_vec()
    };
    // Among those with a password, each as often as the other, and always the same for one name.
    for draw in 0..10 {
        let expected = if draw % 2 == 0 { &one } else { &other };
        assert_eq!(drawn(draw), expected.as_bytes());
    }
    assert!(!users.candidate("nobody", &[], 0).known);
    assert!(users.candidate("nobody", &[], 0).account.is_none());
    // Who has no password is treated like a stranger, and cannot get in with somebody else's.
    assert_eq!(users.candidate("c", &[], 0).hash.identity(), one.as_bytes());
    assert!(users.verify("c", "x", &[]).is_none());
    let users = parse("users: []").unwrap();
    assert_eq!(
        users.candidate("nobody", &[], 7).hash.identity(),
        Hash::decoy().identity()
    );
    assert!(users.verify("a", "x", &[]).is_none());
    assert!(!format!("{users:?}").contains("argon2"));
}

#[test]
fn mistakes_are_reported_together_with_their_paths() {
    let hash = cheap_hash("x");
    let des = "ab1eUpYk3SKk6";
    let text = format!(
        "users:\n\
         - {{name: a, password_hash: hunter2}}\n\
         - {{name: a, password_hash: \"{des}\"}}\n\
         - {{name: a/b, password_hash: \"{hash}\", home: /srv}}\n\
         - {{name: c, password_hash: \"{hash}\", home: x/../y}}\n\
         - {{name: d, password_hash: \"{hash}\", home: x//y, readonly: true}}\n\
         - {{name: \"e\\nf\", enabled: maybe}}\n\
         - {{name: .., password_hash: \"{costly}\"}}\n\
         - {{password_hash: \"{i}\"}}\n\
         - 7\n",
        costly = hash.replace("m=64", "m=4000000000"),
        i = hash.replace("argon2id", "argon2i"),
    );
    let listed = parse(&text).unwrap_err();
    for expected in [
        "users.yaml: users[0].password_hash: this is no hash",
        "users.yaml: users[1].name: another user has the name \"a\"",
        "users.yaml: users[1].password_hash: ",
        "users.yaml: users[2].name: a name has no `/`, found \"a/b\"",
        "users.yaml: users[2].home: expected a relative path",
        "users.yaml: users[3].home: a home has no empty, `.` or `..` segment",
        "users.yaml: users[4].home: a home has no empty",
        "users.yaml: users[4].readonly: unknown key; did you mean `read_only`?",
        "users.yaml: users[5].name: a name has no control character",
        "users.yaml: users[5].password_hash: missing",
        "users.yaml: users[5].enabled: expected true or false, found the string \"maybe\"",
        "users.yaml: users[6].name: `.` and `..` are no names",
        "users.yaml: users[6].password_hash: costs too much",
        "users.yaml: users[7].name: missing",
        "users.yaml: users[7].password_hash: a hash of the kind argon2i:",
        "users.yaml: users[8]: expected a table of keys, found the number 7",
    ] {
        assert!(listed.contains(expected), "{expected}\n{listed}");
    }
    assert_eq!(listed.lines().count(), 16, "{listed}");
    assert!(!listed.contains("hunter2"), "{listed}");
}

#[test]
fn certificate_is_the_only_or_the_second_factor() {
    let hash = cheap_hash("correct horse");
    let colons = "AB:".repeat(31) + "CD";
    let users = parse(&format!(
        "users:\n- {{name: plc, login: certificate, certificates: [plc@example.com, \"{colons}\"]}}\n\
         - {{name: anna, password_hash: \"{hash}\", login: both, certificates: [anna]}}\n\
         - {{name: bert, password_hash: \"{hash}\", login: password}}\n\
         - {{name: carl, login: certificate, certificates: [carl], enabled: false}}\n"
    ))
    .unwrap();
    let said = |text: &str| vec![text.to_owned(), "other".to_owned()];
    let fingerprint = "ab".repeat(31) + "cd";
    for (name, identity, enough) in [
        ("plc", "plc@example.com", true),
        ("plc", fingerprint.as_str(), true),
        ("plc", "PLC@example.com", false),
        ("plc", "anna", false),
        ("anna", "anna", false),
        ("bert", "bert", false),
        ("carl", "carl", true),
        ("nobody", "plc@example.com", false),
    ] {
        let account = users.verify_certificate(name, &said(identity));
        assert_eq!(account.is_some(), enough, "{name} {identity}");
    }
    for (name, password, identity, enough) in [
        ("anna", "correct horse", "anna", true),
        ("anna", "correct horse", "bert", false),
        ("anna", "wrong", "anna", false),
        ("bert", "correct horse", "", true),
        ("plc", "correct horse", "plc@example.com", false),
        ("plc", "", "plc@example.com", false),
    ] {
        let account = users.verify(name, password, &said(identity));
        assert_eq!(account.is_some(), enough, "{name} {password} {identity}");
    }
    assert!(users.verify("anna", "correct horse", &[]).is_none());
    let plc = users
        .verify_certificate("plc", &said("plc@example.com"))
        .unwrap();
    assert_eq!(plc.certificate.as_deref(), Some("plc@example.com"));
}

#[test]
fn logins_and_certificates_must_fit_together() {
    let hash = cheap_hash("x");
    let text = format!(
        "users:\n\
         - {{name: a, login: certificate}}\n\
         - {{name: b, login: both, certificates: []}}\n\
         - {{name: c, password_hash: \"{hash}\", certificates: [c]}}\n\
         - {{name: d, password_hash: \"{hash}\", login: certificate, certificates: [d]}}\n\
         - {{name: e, password_hash: \"{hash}\", login: both, certificates: [7]}}\n"
    );
    let listed = parse(&text).unwrap_err();
    for expected in [
        "users[0].certificates: missing: expected a list of names",
        "users[1].password_hash: missing",
        "users[1].certificates: empty: expected",
        "users[2].certificates: not used: write `login: certificate`",
        "users[3].password_hash: not used",
        "users[4].certificates[0]: expected a name or a fingerprint, found a number",
    ] {
        assert!(listed.contains(expected), "{expected}\n{listed}");
    }
    assert_eq!(listed.lines().count(), 6, "{listed}");
}

#[test]
fn groups_fill_in_and_add() {
    let hash = cheap_hash("x");
    let users = parse(&format!(
        "groups:\n\
         \x20 partners:\n\
         \x20   home: partners/{{user}}\n\
         \x20   quota: {{bytes: 1000, files: 10}}\n\
         \x20   limits: {{sessions: 2}}\n\
         \x20   grants: [{{path: /in/**, allow: [write]}}]\n\
         \x20   allowed_networks: [192.0.2.0/24]\n\
         \x20   attributes: {{site: bonn}}\n\
         \x20   profile: old\n\
         \x20 sealed: {{read_only: true, expires: 2027-01-31}}\n\
         users:\n\
         - {{name: a, password_hash: \"{hash}\", groups: [partners]}}\n\
         - {{name: b, password_hash: \"{hash}\", groups: [partners, sealed], home: b, quota: {{bytes: 5}},\n\
         \x20  grants: [{{path: /in/x, deny: [write]}}], attributes: {{site: kiel}}, mounts: [{{path: /m, backend: disk, prefix: m}}]}}\n"
    ))
    .unwrap();
    let a = users.account("a").unwrap();
    assert_eq!(a.home, "partners/{user}");
    assert_eq!((a.quota.bytes, a.quota.files), (Some(1000), Some(10)));
    assert_eq!(a.limits.sessions, Some(2));
    assert_eq!(a.rules.len(), 1);
    assert!(
        a.rules[0]
            .origin
            .ends_with("users.yaml: groups.partners.grants[0]")
    );
    assert_eq!(a.attributes["site"], "bonn");
    assert_eq!(a.profile.as_deref(), Some("old"));
    assert!(!a.read_only);
    let b = users.account("b").unwrap();
    assert_eq!(
        (b.home.as_str(), b.attributes["site"].as_str()),
        ("b", "kiel")
    );
    assert_eq!((b.quota.bytes, b.quota.files), (Some(5), Some(10)));
    assert!(b.read_only && b.conditions.expires.is_some());
    assert_eq!(
        (b.rules.len(), b.conditions.networks.len(), b.mounts.len()),
        (2, 1, 1)
    );
}

#[test]
fn directory_is_one_table_and_its_mistakes_come_together() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let hash = cheap_hash("x");
    let user = |name: &str, more: &str| {
        format!("users: [{{name: {name}, password_hash: \"{hash}\"{more}}}]")
    };
    // As Kubernetes lays it out.
    fs::create_dir(at("..2026_11")).unwrap();
    std::os::unix::fs::symlink("..2026_11", at("..data")).unwrap();
    let put = |name: &str, text: &str| {
        fs::write(at("..2026_11").join(name), text).unwrap();
        std::os::unix::fs::symlink(Path::new("..data").join(name), at(name)).unwrap();
    };
    put("b.yaml", &user("b", ", groups: [all]"));
    put("a.yml", "groups: {all: {read_only: true}}");
    put("notes.txt", "no YAML: [");
    let files = UsersFiles::Directory(directory.path().to_owned());
    let users = Users::load(&files, &names()).unwrap();
    assert_eq!(users.len(), 1);
    assert!(users.account("b").unwrap().read_only);
    put("c.yaml", &user("b", ""));
    put("d.yaml", "users: [{name: d}]");
    put("e.yaml", "users: [");
    let lines = Users::load(&files, &names()).unwrap_err().lines();
    for (line, expected) in lines.iter().zip([
        "e.yaml: not YAML",
        "c.yaml: users[0].name: another user has the name \"b\"",
        "d.yaml: users[0].password_hash: missing",
    ]) {
        assert!(line.contains(expected), "{line}");
    }
    assert_eq!(lines.len(), 3, "{lines:?}");
    let gone = UsersFiles::Directory(at("nowhere"));
    assert_eq!(Users::load(&gone, &names()).unwrap_err().lines().len(), 1);
}

fn store(directory: &Path, text: &str, metrics: &Arc<Metrics>) -> Arc<UserStore> {
    let file = directory.join("users.yaml");
    fs::write(&file, text).unwrap();
    let auth = Auth {
        users: Some(UsersFiles::File(file)),
        ..Auth::default()
    };
    let hashing = Arc::new(Hashing::default());
    Arc::new(UserStore::open(&auth, names(), hashing, Arc::clone(metrics)).unwrap())
}

fn attempt(user: &str, password: &str) -> Attempt {
    Attempt {
        user: user.to_owned(),
        proof: Proof::Password(password.to_owned()),
        identities: Vec::new(),
        peer: ([192, 0, 2, 7], 4711).into(),
        listener: "public".into(),
        encrypted: true,
    }
}

#[tokio::test]
async fn bad_file_keeps_the_old_users_and_a_good_one_replaces_them() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("users.yaml");
    let text = |password: &str| {
        let hash = cheap_hash(password);
        format!("users: [{{name: a, password_hash: \"{hash}\"}}]")
    };
    let store = store(directory.path(), &text("one"), &Metrics::new());
    let authentication = Authentication::new(vec![Arc::clone(&store) as Arc<dyn Source>]);
    let now = std::time::SystemTime::now();
    let welcome = async |password: &str| {
        let outcome = authentication
            .log_in(&attempt("a", password), now)
            .await
            .outcome;
        matches!(outcome, Outcome::Welcome(_))
    };
    // Twice, so that it is remembered: a new file must count all the same.
    assert!(welcome("one").await && welcome("one").await);
    fs::write(&file, "users: [{name: a}]").unwrap();
    assert!(
        !store.reload(false).unwrap(),
        "half a file is no mistake yet"
    );
    assert!(store.reload(false).is_err());
    assert!(!store.reload(false).unwrap(), "a mistake is told once");
    assert!(welcome("one").await);
    fs::write(&file, text("two")).unwrap();
    assert!(store.reload(true).unwrap());
    assert!(!welcome("one").await && welcome("two").await);
    fs::remove_file(&file).unwrap();
    assert!(store.reload(true).is_err());
    assert!(welcome("two").await);
}

#[tokio::test]
async fn right_password_is_hashed_once_and_wrong_ones_always() {
    let directory = tempfile::tempdir().unwrap();
    let hash = cheap_hash("right");
    let metrics = Metrics::new();
    let store = store(
        directory.path(),
        &format!("users: [{{name: a, password_hash: \"{hash}\"}}]"),
        &metrics,
    );
    let count = |outcome: &'static str| {
        let labels = crate::observe::metrics::UsersLabels { outcome };
        metrics.password_checks.get_or_create(&labels).get()
    };
    for _ in 0..3 {
        let verdict = store.log_in(&attempt("a", "right")).await;
        assert!(matches!(verdict, crate::auth::Verdict::Accepted(_)));
    }
    assert_eq!((count("hashed"), count("remembered")), (1, 2));
    for _ in 0..3 {
        let verdict = store.log_in(&attempt("a", "wrong")).await;
        assert!(matches!(verdict, crate::auth::Verdict::Refused(_)));
        store.pretend(&attempt("nobody", "right")).await;
    }
    assert_eq!((count("hashed"), count("remembered")), (7, 2));
}

#[tokio::test]
async fn conditions_are_looked_at_after_the_password() {
    let directory = tempfile::tempdir().unwrap();
    let hash = cheap_hash("x");
    let user =
        |name: &str, more: &str| format!("- {{name: {name}, password_hash: \"{hash}\", {more}}}\n");
    let text = format!(
        "users:\n{}{}{}{}{}",
        user(
            "here",
            "allowed_networks: [192.0.2.7], allowed_listeners: [public]"
        ),
        user("away", "allowed_networks: [198.51.100.0/24]"),
        user("inside", "allowed_listeners: [inside]"),
        user("late", "expires: 2020-01-01"),
        user("off", "enabled: false"),
    );
    let store = store(directory.path(), &text, &Metrics::new());
    let authentication = Authentication::new(vec![store as Arc<dyn Source>]);
    for (user, welcome) in [
        ("here", true),
        ("away", false),
        ("inside", false),
        ("late", false),
        ("off", false),
    ] {
        let now = std::time::SystemTime::now();
        let outcome = authentication
            .log_in(&attempt(user, "x"), now)
            .await
            .outcome;
        assert_eq!(matches!(outcome, Outcome::Welcome(_)), welcome, "{user}");
    }
}

/// The parser of a test build, unoptimised: the server's own takes a fraction of it.
#[test]
fn five_thousand_users_load_in_a_moment() {
    use std::fmt::Write as _;
    let hash = cheap_hash("x");
    let mut text =
        "groups: {devices: {grants: [{path: /in/**, allow: [write]}]}}\nusers:\n".to_owned();
    for index in 0..5000 {
        writeln!(
            text,
            "- {{name: device-{index:05}, password_hash: \"{hash}\", groups: [devices]}}"
        )
        .unwrap();
    }
    let started = std::time::Instant::now();
    let users = parse(&text).unwrap();
    let took = started.elapsed();
    println!("5,000 users, {} bytes: {took:?}", text.len());
    assert_eq!(users.len(), 5000);
    assert!(took < Duration::from_secs(5), "{took:?}");
}
