//! Lines as htpasswd, openssl and the tools of other servers write them.

use super::*;
use crate::{
    auth::{Names, Users},
    config::UsersFiles,
};

const SHA512: &str = "$6$saltsalt$rVIyJtXnL0mXUCLepstXWqeOv9JVyd7nOH8wn0BvOU5lCiAviUJLxXZ5CkPgq6XNTHV22yG4mV0IO9gqPL5WQ.";

/// The users file and the remarks, without the file's name.
fn import(from: Format, text: &str, homes: Option<&str>) -> (String, Vec<String>) {
    let mut imported = Imported::default();
    let lines = formats::read(from, text);
    let homes = homes.map(Path::new);
    take(
        &mut imported,
        &mut BTreeSet::new(),
        Path::new("f"),
        lines,
        homes,
    )
    .unwrap();
    (imported.file(), imported.left_out)
}

fn load(yaml: &str) -> Users {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("users.yaml");
    fs::write(&file, yaml).unwrap();
    let loaded = Users::load(&UsersFiles::File(file), &Names::default());
    loaded.unwrap_or_else(|errors| panic!("{errors}\n{yaml}"))
}

#[track_caller]
fn assert_remarks(found: &[String], expected: &[&str]) {
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (line, expected) in found.iter().zip(expected) {
        assert!(line.contains(expected), "{expected}: {line}");
    }
}

#[test]
fn passwd_and_proftpd_give_users_with_homes() {
    let text = format!(
        "# comment\n\
         anna:{SHA512}:1001:1001:Anna:/srv/ftp/partners/anna:/bin/false\n\
         bert:x:1002:1002::/home/bert:/bin/sh\r\n\
         carl:!{SHA512}:1003:1003::/srv/ftp/./carl:/bin/false\n\
         dora:ab1eUpYk3SKk6:1004:1004::/srv/ftp/dora:/bin/false\n\
         emil:*:1005:1005::/:/bin/false\n\
         frida:{SHA512}:1006:1006::/home/frida:/bin/false\n\
         anna:{SHA512}:1007:1007::/srv/ftp/x:/bin/false\n\
         short:line\n\
         ../x:{SHA512}:1:1::/:/\n"
    );
    for format in [Format::Passwd, Format::Proftpd] {
        let (yaml, remarks) = import(format, &text, Some("/srv/ftp"));
        let users = load(&yaml);
        assert_eq!(users.len(), 3, "{yaml}");
        assert_eq!(users.account("anna").unwrap().home, "partners/anna");
        assert_eq!(users.account("carl").unwrap().home, "carl");
        assert!(users.account("carl").unwrap().conditions.disabled);
        assert_eq!(users.account("frida").unwrap().home, "frida");
        assert!(users.verify("anna", "pässword", &[]).is_some());
        assert_remarks(
            &remarks,
            &[
                "f:3: \"bert\": its hash is in the shadow file",
                "f:5: \"dora\": a DES hash",
                "f:6: \"emil\": no password opens it",
                "f:7: \"frida\": its home /home/frida is elsewhere",
                "f:8: \"anna\": the name was there before",
                "f:9: \"short\": not a line of passwd",
                "f:10: \"../x\": a name has no `/`",
            ],
        );
    }
    let (yaml, _) = import(Format::Passwd, &text, None);
    assert_eq!(load(&yaml).account("anna").unwrap().home, "anna");
}

#[test]
fn shadow_gives_expiry_and_locks() {
    let text = format!(
        "root:*:19000:0:99999:7:::\n\
         anna:{SHA512}:19000:0:99999:7::20820:\n\
         bert:!!:19000::::::\n\
         carl:!{SHA512}:19000:0:99999:7:::\n\
         dora::19000:0:99999:7:::\n"
    );
    let (yaml, remarks) = import(Format::Shadow, &text, None);
    // Day 20820 is 2027-01-02, the first on which the account is closed.
    assert!(yaml.contains("expires: \"2027-01-01\""), "{yaml}");
    let users = load(&yaml);
    assert_eq!(users.len(), 2);
    assert!(users.account("carl").unwrap().conditions.disabled);
    assert!(!users.account("anna").unwrap().conditions.disabled);
    assert_remarks(
        &remarks,
        &[
            "no password opens it",
            "no password opens it",
            "no password at all",
        ],
    );
}

/// Whatever a line holds, the others are taken, and what is printed can be loaded.
#[test]
fn odd_lines_spoil_no_others() {
    let text = format!(
        "\u{feff}anna:{SHA512}:19000:0:99999:7:::\n\
         bert:{SHA512}:19000:0:99999:7::999999999999999999:\n\
         carl:{SHA512}:19000:0:99999:7::-9223372036854775808:\n\
         dora:{SHA512}:19000:0:99999:7::2932898:\n\
         emil:{SHA512}:19000:0:99999:7::soon:\n\
         frida:{SHA512}:19000:0:99999:7::0:\n"
    );
    let (yaml, remarks) = import(Format::Shadow, &text, None);
    let users = load(&yaml);
    assert!(users.knows("anna") && users.knows("frida"), "{yaml}");
    assert_eq!(users.len(), 2, "who may be closed is not let in: {yaml}");
    assert_remarks(&remarks, &["its date of expiry cannot be read"; 4]);
    let line = |name: &str, sessions: &str, bytes: &str| {
        format!("{name}:{SHA512}:1:1::/srv/ftp/{name}/./:0:0:0:0:{sessions}:0:{bytes}:::::\n")
    };
    let text = line("anna", "5", "0")
        + &line("bert", "5000000000", "")
        + &line("carl", "", "9999999999999999999")
        + &line("dora", "many", "");
    let (yaml, remarks) = import(Format::Puredb, &text, None);
    assert_eq!(load(&yaml).len(), 1, "{yaml}");
    assert_remarks(&remarks, &["its limit"; 3]);
}

#[test]
fn htpasswd_gives_every_kind_but_the_lost_ones() {
    let text = "anna:$apr1$ab$fGW6NJ7kMZj/0UCz7DMr/.\n\
                bert:$2y$04$abcdefghijklmnopqrstuu2Vo3TWutZSHUfluiaHt5gekKPzGepHC\n\
                carl:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n\
                dora:ab1eUpYk3SKk6\n";
    let (yaml, remarks) = import(Format::Htpasswd, text, None);
    let users = load(&yaml);
    assert!(users.verify("anna", "pässword", &[]).is_some());
    assert!(users.verify("bert", "correct", &[]).is_some());
    assert_eq!(users.with_weak_hashes().collect::<Vec<_>>(), ["anna"]);
    assert_remarks(&remarks, &["unsalted SHA-1", "DES"]);
}

#[test]
fn vsftpd_gives_hashes_for_passwords_in_the_clear() {
    let text = format!("anna\nsecret: one\n\nbert\n{SHA512}\n");
    let (yaml, remarks) = import(Format::Vsftpd, &text, None);
    assert!(!yaml.contains("secret"), "{yaml}");
    let users = load(&yaml);
    assert!(users.verify("anna", "secret: one", &[]).is_some());
    assert!(users.verify("bert", "pässword", &[]).is_some());
    assert_remarks(&remarks, &[]);
    // A line too many anywhere makes passwords of names and names of passwords.
    let (yaml, remarks) = import(Format::Vsftpd, "# users\nanna\nsecret\nbert\nhu/sh\n", None);
    assert_eq!(load(&yaml).len(), 0);
    assert_remarks(&remarks, &["f:5: \"\": a name or a password is missing"]);
}

#[test]
fn puredb_gives_limits_quotas_networks_and_hours() {
    let text = format!(
        "anna:{SHA512}:1001:1001::/srv/ftp/anna/./:102400:204800:::5:1000:10485760:::192.0.2.0/24,198.51.100.7::0900-1800\n\
         bert:{SHA512}:1001:1001::/srv/ftp/bert/./::::::::::::\n\
         carl:{SHA512}:1001:1001::/srv/ftp/carl/./:::1:5:::::::10.0.0.0/8::\n\
         dora:{SHA512}:1001:1001::/srv/ftp/dora/./::::::::::example.com::\n\
         emil:$7$C6..../....abc$def:1001:1001::/srv/ftp/e/./::::::::::::\n"
    );
    let (yaml, remarks) = import(Format::Puredb, &text, Some("/srv/ftp"));
    let users = load(&yaml);
    let anna = users.account("anna").unwrap();
    assert_eq!(anna.home, "anna");
    assert_eq!(
        (anna.quota.files, anna.quota.bytes),
        (Some(1000), Some(10_485_760))
    );
    assert_eq!(anna.limits.sessions, Some(5));
    assert_eq!(anna.limits.upload_bytes_per_second, Some(102_400));
    assert_eq!(anna.limits.download_bytes_per_second, Some(204_800));
    assert_eq!(anna.conditions.networks[0].len(), 2);
    assert_eq!(anna.conditions.hours.len(), 1);
    assert!(users.account("bert").unwrap().quota.is_unlimited());
    assert_eq!(users.len(), 3, "{yaml}");
    assert_remarks(
        &remarks,
        &[
            "its hours are now hours of UTC",
            "its upload ratio is not taken",
            "its download ratio is not taken",
            "its list of refused clients is not taken",
            "f:4: \"dora\": its list of allowed clients holds names",
            "f:5: \"emil\": a scrypt hash",
        ],
    );
}

#[test]
fn nothing_at_all_is_an_empty_list() {
    let (yaml, remarks) = import(Format::Htpasswd, "# nobody\n", None);
    assert_eq!((yaml.as_str(), remarks.len()), ("users: []\n", 0));
}
