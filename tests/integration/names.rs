//! Names, directories and renames; paths that try to leave the home.

use std::{fs, os::unix::fs::symlink};

use crate::harness::{Raw, Server, Store, on_each_store};
use tempfile::TempDir;

on_each_store!(
    rmd_spares_the_neighbours,
    rmd_refuses_a_directory_that_is_not_empty,
    dele_and_rmd_know_files_from_directories,
    mkd_answers_with_the_quoted_path,
    cwd_normalises_and_stays_below_the_root,
    paths_cannot_leave_the_home,
    rename_replaces_and_keeps_every_byte,
    rename_of_nothing_or_out_of_order_fails,
    names_come_back_as_they_were_sent,
    size_and_mdtm_and_mlst_tell_the_truth,
);

/// On an object store a directory is a prefix, and `foo` is a prefix of `foo.txt` too.
fn rmd_spares_the_neighbours(store: &Store) {
    let server = Server::start(store);
    let mut raw = Raw::explicit(&server);
    raw.expect("MKD foo", 257);
    raw.store("STOR foo.txt", b"a file");
    raw.expect("MKD foobar", 257);
    raw.store("STOR foobar/inner", b"inside");
    raw.expect("MKD foo-bar", 257);
    raw.expect("RMD foo", 250);
    assert_eq!(raw.names("NLST"), ["foo-bar", "foo.txt", "foobar"]);
    raw.expect("CWD foo", 550);
    store.assert_holds(&[
        ("alice/foo.txt", b"a file"),
        ("alice/foobar/inner", b"inside"),
    ]);
    raw.expect("RMD foo", 550);
    raw.expect("DELE foobar", 550);
    store.assert_holds(&[
        ("alice/foo.txt", b"a file"),
        ("alice/foobar/inner", b"inside"),
    ]);
}

fn rmd_refuses_a_directory_that_is_not_empty(store: &Store) {
    let server = Server::start(store);
    let mut raw = Raw::explicit(&server);
    raw.expect("MKD full", 257);
    raw.store("STOR full/file", b"here");
    raw.expect("RMD full", 550);
    raw.expect("MKD nest", 257);
    raw.expect("MKD nest/inner", 257);
    raw.expect("RMD nest", 550);
    raw.expect("RMD nest/inner", 250);
    raw.expect("RMD nest", 250);
    raw.expect("RMD /", 550);
    store.assert_holds(&[("alice/full/file", b"here")]);
    // The last file gone, an explicit directory stays until it is removed.
    raw.expect("DELE full/file", 250);
    raw.expect("CWD full", 250);
    raw.expect("CDUP", 250);
    raw.expect("RMD full", 250);
    raw.expect("CWD full", 550);
}

fn dele_and_rmd_know_files_from_directories(store: &Store) {
    let server = Server::start(store);
    let mut raw = Raw::explicit(&server);
    raw.store("STOR file", b"content");
    raw.expect("MKD directory", 257);
    raw.expect("RMD file", 550);
    raw.expect("DELE directory", 550);
    raw.expect("DELE missing", 550);
    raw.expect("CWD file", 550);
    store.assert_holds(&[("alice/file", b"content")]);
    raw.expect("DELE file", 250);
    raw.expect("SIZE file", 550);
    store.assert_holds(&[]);
}

fn mkd_answers_with_the_quoted_path(store: &Store) {
    let server = Server::start(store);
    let mut raw = Raw::explicit(&server);
    let reply = raw.expect("MKD new", 257);
    assert!(reply.text().starts_with("257 \"/new\""), "{reply}");
    // FileZilla compares these words.
    let reply = raw.expect("MKD new", 550);
    assert!(
        reply
            .text()
            .to_lowercase()
            .contains("directory already exists"),
        "{reply}"
    );
    raw.expect("CWD new", 250);
    let reply = raw.expect("MKD say \"hi\"", 257);
    assert!(
        reply.text().starts_with("257 \"/new/say \"\"hi\"\"\""),
        "{reply}"
    );
    raw.expect("CWD say \"hi\"", 250);
    let reply = raw.expect("PWD", 257);
    assert!(
        reply.text().starts_with("257 \"/new/say \"\"hi\"\"\""),
        "{reply}"
    );
    raw.expect("MKD /missing/child", 550);
    raw.store("STOR /file", b"in the way");
    raw.expect("MKD /file", 550);
    store.assert_holds(&[("alice/file", b"in the way")]);
}

fn cwd_normalises_and_stays_below_the_root(store: &Store) {
    let server = Server::start(store);
    let mut raw = Raw::explicit(&server);
    raw.expect("MKD a", 257);
    raw.expect("MKD a/b", 257);
    for (line, code, place) in [
        ("CWD //a//./b/", 250, "/a/b"),
        ("CWD ..", 250, "/a"),
        ("CWD b/../b", 250, "/a/b"),
        ("CWD ../../../..", 250, "/"),
        ("CDUP", 250, "/"),
        ("XCWD a", 250, "/a"),
        ("CWD missing", 550, "/a"),
        ("XCUP", 250, "/"),
    ] {
        let reply = raw.command(line);
        // At the root `..` may also be refused; it may not lead anywhere else.
        let refused_at_root = line.contains("..") && reply.code == 550;
        assert!(reply.code == code || refused_at_root, "{line}: {reply}");
        if refused_at_root {
            raw.expect("CWD /", 250);
        }
        let reply = raw.expect("PWD", 257);
        assert!(
            reply.text().starts_with(&format!("257 \"{place}\"")),
            "{line}: {reply}"
        );
    }
}

fn paths_cannot_leave_the_home(store: &Store) {
    let server = Server::start(store);
    store.put("reader/private", b"of another user");
    store.put("alice2/private", b"of a neighbour with a longer name");
    let mut raw = Raw::explicit(&server);
    for path in [
        "../../etc/passwd",
        "/../../etc/passwd",
        "../reader/private",
        "/../reader/private",
        "../alice2/private",
        "x/../../reader/private",
        "....//reader/private",
        "..\\reader\\private",
        "%2e%2e/reader/private",
        "%2e%2e%2freader%2fprivate",
    ] {
        let data = raw.open_data();
        raw.failing_transfer(&format!("RETR {path}"))
            .expect_any(&[501, 550, 553]);
        drop(data);
        for verb in ["SIZE", "MDTM", "DELE", "RNFR", "RMD", "MLST"] {
            raw.command(&format!("{verb} {path}"))
                .expect_any(&[501, 550, 553]);
        }
        // Refused, or stored below the home: never beside it.
        let mut data = raw.open_data();
        if raw.command(&format!("STOR {path}")).code == 150 {
            data.handshake().unwrap();
            data.write(b"escaped?").unwrap();
            data.finish();
            raw.reply();
        }
        raw.command(&format!("MKD {path}.d"));
        raw.store("STOR inner", b"own");
        raw.expect("RNFR inner", 350);
        raw.command(&format!("RNTO {path}"));
    }
    for (name, content) in [
        ("reader/private", &b"of another user"[..]),
        ("alice2/private", b"of a neighbour with a longer name"),
    ] {
        assert_eq!(store.bytes(name).as_deref(), Some(content));
    }
    let strays: Vec<String> = store
        .files()
        .union(&store.directories())
        .filter(|name| !name.starts_with("alice/"))
        .filter(|name| !["reader/private", "alice2/private", "alice2"].contains(&name.as_str()))
        .cloned()
        .collect();
    assert!(strays.is_empty(), "outside the home: {strays:?}");
}

/// CVE-2017-7418 class: a link inside the root is no way out of it.
#[test]
fn symlinks_cannot_leave_a_local_root() {
    let outside = TempDir::new().unwrap();
    fs::write(outside.path().join("secret"), "outside").unwrap();
    let store = Store::local();
    let server = Server::start(&store);
    let home = store.local_root().join("alice");
    symlink(outside.path(), home.join("out")).unwrap();
    symlink(outside.path().join("secret"), home.join("link")).unwrap();
    symlink("../../../../../../etc", home.join("etc")).unwrap();
    let mut raw = Raw::explicit(&server);
    for line in [
        "RETR out/secret",
        "RETR link",
        "RETR etc/passwd",
        "STOR out/new",
        "APPE out/secret",
        "APPE link",
    ] {
        let _data = raw.open_data();
        raw.failing_transfer(line)
            .expect_any(&[501, 502, 504, 550, 551, 553]);
    }
    for line in [
        "CWD out",
        "MKD out/new",
        "DELE out/secret",
        "RNFR out/secret",
        "RMD out/x",
        "SIZE out/secret",
    ] {
        raw.expect(line, 550);
    }
    // Over the link itself a file may be put, and it lands in the home.
    let mut data = raw.open_data();
    if raw.command("STOR link").code == 150 {
        data.handshake().unwrap();
        data.write(b"inside").unwrap();
        data.finish();
        raw.reply();
    }
    raw.store("STOR mine", b"mine");
    raw.expect("RNFR mine", 350);
    raw.command("RNTO out/mine").expect_any(&[550, 553]);
    let left: Vec<_> = fs::read_dir(outside.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["secret"]);
    assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"outside");
}

fn rename_replaces_and_keeps_every_byte(store: &Store) {
    let server = Server::start(store);
    let content = crate::harness::bytes(31, (9 << 20) + 5);
    let mut raw = Raw::explicit(&server);
    raw.store("STOR data.tmp", &content);
    raw.store("STOR data", b"old");
    raw.expect("RNFR data.tmp", 350);
    raw.expect("RNTO data", 250);
    store.assert_holds(&[("alice/data", &content)]);
    // Onto itself nothing is lost.
    raw.expect("RNFR data", 350);
    raw.command("RNTO data");
    store.assert_holds(&[("alice/data", &content)]);
    assert!(raw.retrieve("RETR data") == content);
    raw.expect("SIZE data.tmp", 550);
}

fn rename_of_nothing_or_out_of_order_fails(store: &Store) {
    let server = Server::start(store);
    let mut raw = Raw::explicit(&server);
    raw.expect("RNFR missing", 550);
    raw.expect("RNTO other", 503);
    raw.store("STOR file", b"content");
    raw.expect("RNFR file", 350);
    raw.expect("PWD", 257);
    raw.expect("RNTO other", 503);
    raw.expect("MKD directory", 257);
    raw.expect("RNFR file", 350);
    raw.command("RNTO directory").expect_any(&[550, 553]);
    raw.expect("RNFR file", 350);
    raw.command("RNTO missing/other").expect_any(&[550, 553]);
    store.assert_holds(&[("alice/file", b"content")]);
}

fn names_come_back_as_they_were_sent(store: &Store) {
    let server = Server::start(store);
    let mut raw = Raw::explicit(&server);
    let mut names = vec![
        " leading space",
        "a:b",
        "a\\b",
        "~",
        "~root",
        "star*",
        "what?",
        "q\"uote",
        "semi;colon=x",
        "per%cent%2F",
        "plus+plus",
        "hash#",
        "amp&",
        "[x]",
        "{y}",
        "e\u{301}",
        "\u{e9}",
        "🚢",
        ".hidden",
        "CON",
    ];
    let long = "n".repeat(200);
    names.push(&long);
    for name in &names {
        raw.store(&format!("STOR {name}"), name.as_bytes());
        assert_eq!(
            store.bytes(&format!("alice/{name}")).as_deref(),
            Some(name.as_bytes()),
            "{name:?}"
        );
        assert_eq!(
            raw.retrieve(&format!("RETR {name}")),
            name.as_bytes(),
            "{name:?}"
        );
        raw.expect(&format!("SIZE {name}"), 213);
    }
    let expected: Vec<(String, &[u8])> = names
        .iter()
        .map(|name| (format!("alice/{name}"), name.as_bytes()))
        .collect();
    let expected: Vec<(&str, &[u8])> = expected
        .iter()
        .map(|(name, content)| (name.as_str(), *content))
        .collect();
    store.assert_holds(&expected);
    names.sort_unstable();
    assert_eq!(raw.names("NLST"), names);
    let listing = String::from_utf8(raw.retrieve("MLSD")).unwrap();
    let mut listed: Vec<&str> = listing
        .lines()
        .filter(|line| !line.contains("type=cdir") && !line.contains("type=pdir"))
        .map(|line| line.split_once("; ").expect("facts, a space, the name").1)
        .collect();
    listed.sort_unstable();
    assert_eq!(listed, names);
    for name in names {
        raw.expect(&format!("DELE {name}"), 250);
    }
    store.assert_holds(&[]);
}

fn size_and_mdtm_and_mlst_tell_the_truth(store: &Store) {
    let server = Server::start(store);
    let mut raw = Raw::explicit(&server);
    raw.expect("MKD directory", 257);
    raw.expect("CWD directory", 250);
    raw.store("STOR file", &[7; 12_345]);
    assert_eq!(raw.expect("SIZE file", 213).text(), "213 12345");
    let time = raw.expect("MDTM file", 213).text();
    let digits = time
        .strip_prefix("213 ")
        .unwrap()
        .split('.')
        .next()
        .unwrap();
    assert!(
        digits.len() == 14 && digits.bytes().all(|byte| byte.is_ascii_digit()),
        "{time}"
    );
    let mlst = raw.expect("MLST file", 250);
    let facts = mlst.lines[1].to_lowercase();
    assert!(facts.starts_with(' '), "{mlst}");
    assert!(
        facts.contains("type=file;") && facts.contains("size=12345;"),
        "{mlst}"
    );
    assert!(
        facts.contains(&format!("modify={digits}")),
        "{mlst} against {time}"
    );
    let mlst = raw.expect("MLST /directory", 250);
    assert!(mlst.lines[1].to_lowercase().contains("type=dir;"), "{mlst}");
    let line = String::from_utf8(raw.retrieve("LIST")).unwrap();
    assert!(
        line.starts_with("-rw") && line.ends_with(" file\r\n") && line.contains(" 12345 "),
        "{line}"
    );
    let line = String::from_utf8(raw.retrieve("LIST /")).unwrap();
    assert!(
        line.starts_with("drwx") && line.ends_with(" directory\r\n"),
        "{line}"
    );
}
