//! Users files, good and bad.

use super::*;

/// Cheap on purpose: tests check many passwords.
const CHEAP: &str = "$argon2id$v=19$m=64,t=1,p=1$";

fn cheap_hash(password: &str) -> String {
    let params = Params::new(64, 1, 1, None).unwrap();
    let salt = SaltString::encode_b64(&[7; 16]).unwrap();
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2
        .hash_password(password.as_bytes(), &salt)
        .unwrap()
        .to_string()
}

fn parse(text: &str) -> Result<Users, UsersError> {
    Users::parse(text, Path::new("users.yaml"))
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
    let expected = Account {
        name: "anna".to_owned(),
        home: "anna".to_owned(),
        read_only: false,
    };
    assert_eq!(*anna, expected);
    let bert = users.verify("bert", "correct horse", &[]).unwrap();
    assert_eq!((bert.home.as_str(), bert.read_only), ("devices/b", true));
    assert_eq!(users.verify("dora", "correct horse", &[]).unwrap().home, "");
    for (name, password) in [
        ("anna", ""),
        ("anna", "correct horsE"),
        ("Anna", "correct horse"),
        ("carl", "correct horse"),
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
fn unknown_user_costs_what_the_costliest_user_costs() {
    let (cheap, default) = (cheap_hash("x"), Users::hash("x").unwrap());
    let users = parse(&format!(
        "users: [{{name: a, password_hash: \"{cheap}\"}}, {{name: b, password_hash: \"{default}\"}}]"
    ))
    .unwrap();
    assert!(
        users
            .decoy
            .as_str()
            .starts_with("$argon2id$v=19$m=19456,t=2,p=1$")
    );
    let users = parse(&format!("users: [{{name: a, password_hash: \"{cheap}\"}}]")).unwrap();
    assert!(users.decoy.as_str().starts_with(CHEAP));
    let users = parse("users: []").unwrap();
    assert!(
        users
            .decoy
            .as_str()
            .starts_with("$argon2id$v=19$m=19456,t=2,p=1$")
    );
    assert!(users.verify("a", "x", &[]).is_none());
}

#[test]
fn new_hash_is_argon2id_with_its_own_salt_and_verifies() {
    let (one, other) = (Users::hash("päss").unwrap(), Users::hash("päss").unwrap());
    assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
    assert_ne!(one, other);
    let users = parse(&format!("users: [{{name: a, password_hash: \"{one}\"}}]")).unwrap();
    assert!(users.verify("a", "päss", &[]).is_some());
    assert!(!format!("{users:?}").contains("argon2"));
}

#[test]
fn mistakes_are_reported_together_with_their_paths() {
    let hash = cheap_hash("x");
    let bcrypt = "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW";
    let text = format!(
        "users:\n\
         - {{name: a, password_hash: hunter2}}\n\
         - {{name: a, password_hash: \"{bcrypt}\"}}\n\
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
    let errors = parse(&text).unwrap_err();
    let listed = errors.to_string();
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
    assert_eq!(errors.errors.len(), 16, "{listed}");
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
        ("carl", "carl", false),
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
    let listed = parse(&text).unwrap_err().to_string();
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
