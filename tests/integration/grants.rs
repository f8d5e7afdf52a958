//! Grants through the real server: verb by verb, for a full user, a reader and a drop box (S54), with
//! every alias; quotas and sizes that end an upload in the middle.

use std::{fmt::Write as _, process::Command, time::Duration};

use crate::harness::{
    Builder, Raw, Server, Store, Version, bytes, on_each_store, password_hash, until,
};

on_each_store!(
    every_verb_asks_its_grant,
    slower_of_two_uploads_overwrites_nothing,
    quota_crossed_in_the_middle_leaves_nothing,
);

/// One user of the users file, with more keys.
fn with_user(builder: Builder, name: &str, more: &str) -> Builder {
    let hash = password_hash();
    builder.user(&format!(
        "{{name: {name}, password_hash: \"{hash}\", {more}}}"
    ))
}

/// What a line is answered: yes by any 2xx or 3xx, else the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Yes,
    No(u16),
}
use Answer::{No, Yes};

/// The tree of each user before each line.
const TREE: [&str; 4] = [
    "file",
    "directory/inner",
    "directory/empty/.keep",
    "incoming/old",
];

/// For full, reader and drop box. The drop box may write and make directories below /incoming.
const LINES: &[(&str, [Answer; 3])] = &[
    ("CWD /directory", [Yes, Yes, No(550)]),
    ("XCWD /directory", [Yes, Yes, No(550)]),
    ("CWD /incoming", [Yes, Yes, Yes]),
    ("CWD /", [Yes, Yes, Yes]),
    ("LIST /directory", [Yes, Yes, No(550)]),
    ("LIST /incoming", [Yes, Yes, No(550)]),
    ("NLST /incoming", [Yes, Yes, No(550)]),
    ("MLSD /incoming", [Yes, Yes, No(550)]),
    ("LIST /", [Yes, Yes, No(550)]),
    ("STAT /incoming", [Yes, Yes, No(550)]),
    ("MLST /incoming/old", [Yes, Yes, No(550)]),
    ("SIZE /incoming/old", [Yes, Yes, No(550)]),
    ("MDTM /incoming/old", [Yes, Yes, No(550)]),
    ("RETR /incoming/old", [Yes, Yes, No(550)]),
    ("HASH /incoming/old", [Yes, Yes, No(550)]),
    ("XCRC /incoming/old", [Yes, Yes, No(550)]),
    ("XMD5 /incoming/old", [Yes, Yes, No(550)]),
    ("MD5 /incoming/old", [Yes, Yes, No(550)]),
    ("XSHA1 /incoming/old", [Yes, Yes, No(550)]),
    ("XSHA256 /incoming/old", [Yes, Yes, No(550)]),
    ("XSHA512 /incoming/old", [Yes, Yes, No(550)]),
    ("STOR /new", [Yes, No(550), No(550)]),
    ("STOR /incoming/new", [Yes, No(550), Yes]),
    ("STOR /incoming/old", [Yes, No(550), No(550)]),
    ("STOU", [Yes, No(550), No(550)]),
    ("APPE /incoming/old", [Yes, No(550), No(550)]),
    ("APPE /incoming/new2", [Yes, No(550), Yes]),
    ("DELE /incoming/old", [Yes, No(550), No(550)]),
    ("MKD /incoming/made", [Yes, No(550), Yes]),
    ("XMKD /incoming/made2", [Yes, No(550), Yes]),
    ("MKD /made", [Yes, No(550), No(550)]),
    ("RMD /hollow", [Yes, No(550), No(550)]),
    ("XRMD /hollow2", [Yes, No(550), No(550)]),
    ("RNFR /incoming/old2", [Yes, No(550), No(550)]),
    ("SITE UTIME 20200101000000 /file", [Yes, No(550), No(550)]),
    ("MFMT 20200101000000 /file", [Yes, No(550), No(550)]),
    ("MFF modify=20200101000000; /file", [Yes, No(550), No(550)]),
    ("MDTM 20200101000000 /file", [Yes, No(550), No(550)]),
];

fn every_verb_asks_its_grant(store: &Store) {
    let builder = with_user(Server::with(store), "full", "home: full");
    let builder = with_user(
        builder,
        "looker",
        "home: looker, grants: [{allow: [list, read]}]",
    );
    let drop_box = "home: dropper, grants: [{path: /incoming/**, allow: [write, mkdir]}]";
    let server = with_user(builder, "dropper", drop_box).start();
    let keeps_times = matches!(store, Store::Local(_));
    for (index, user) in ["full", "looker", "dropper"].into_iter().enumerate() {
        for file in TREE {
            store.put(&format!("{user}/{file}"), b"as it was");
        }
        store.put(&format!("{user}/incoming/old2"), b"as it was");
        let mut owner = Raw::explicit_as(&server, "full");
        if user == "full" {
            owner.expect("MKD /hollow", 257);
            owner.expect("MKD /hollow2", 257);
        }
        let mut raw = Raw::explicit_as(&server, user);
        for (line, answers) in LINES {
            let sets_time = line.contains("20200101000000");
            if sets_time && !keeps_times {
                continue;
            }
            let found = ask(&mut raw, line);
            assert_eq!(found, answers[index], "{user}: {line}");
            // The command line says the same without a connection.
            assert_explains(&server, user, line, found);
        }
    }
    // What was denied has changed nothing.
    for user in ["looker", "dropper"] {
        for file in TREE {
            let kept = store.bytes(&format!("{user}/{file}"));
            assert_eq!(kept.as_deref(), Some(&b"as it was"[..]), "{user}/{file}");
        }
    }
    let expected = ["dropper/incoming/new", "dropper/incoming/new2"].map(str::to_owned);
    let old: Vec<String> = TREE.iter().map(|file| format!("dropper/{file}")).collect();
    for file in store
        .files()
        .iter()
        .filter(|file| file.starts_with("dropper/"))
    {
        let known = expected.contains(file) || old.contains(file) || file.ends_with("old2");
        assert!(known, "{file} should not be there");
    }
    // A device looks whether its upload arrived: its own, in this session.
    let mut raw = Raw::explicit_as(&server, "dropper");
    raw.store("STOR /incoming/own", b"12345");
    assert!(raw.expect("SIZE /incoming/own", 213).text().ends_with('5'));
    raw.expect("MLST /incoming/own", 250);
    raw.expect("MDTM /incoming/own", 213);
    raw.expect("SIZE /incoming/new", 550);
    assert_eq!(
        raw.failing_transfer_with_data("RETR /incoming/own").code,
        550
    );
    let mut other = Raw::explicit_as(&server, "dropper");
    other.expect("SIZE /incoming/own", 550);
}

/// Both begin where nothing is yet, so both are let in; who may not overwrite must not do so by ending
/// last.
fn slower_of_two_uploads_overwrites_nothing(store: &Store) {
    let drop_box = "home: dropper, grants: [{allow: [write]}]";
    let server = with_user(Server::with(store), "dropper", drop_box).start();
    // In one request and in parts.
    for (name, size) in [("small", 1_000), ("large", 9 << 20)] {
        let (first, second) = (bytes(7, size), vec![0; size]);
        let line = format!("STOR {name}");
        let sessions = [&first, &second].map(|content| {
            let mut raw = Raw::explicit_as(&server, "dropper");
            let mut data = raw.begin_transfer(&line);
            data.write(content).unwrap();
            (raw, data)
        });
        let codes = sessions.map(|(mut raw, data)| {
            data.finish();
            raw.reply().code
        });
        assert_eq!(codes, [226, 550], "{name}");
        let kept = store.bytes(&format!("dropper/{name}"));
        assert!(kept == Some(first), "{name} is not the first upload");
    }
}

/// Carries a line out, with its data connection where it needs one.
fn ask(raw: &mut Raw, line: &str) -> Answer {
    let verb = line.split(' ').next().unwrap();
    let moves = ["LIST", "NLST", "MLSD", "RETR", "STOR", "STOU", "APPE"].contains(&verb);
    let code = if moves {
        let mut data = raw.open_data();
        let reply = raw.command(line);
        if reply.code == 150 {
            data.handshake().unwrap();
            if matches!(verb, "STOR" | "STOU" | "APPE") {
                data.write(b"content").unwrap();
                data.finish();
            } else {
                data.read_all();
            }
            raw.reply().code
        } else {
            reply.code
        }
    } else {
        raw.command(line).code
    };
    if code < 400 { Yes } else { No(code) }
}

/// `causeway explain` for a line without a condition it cannot know.
fn assert_explains(server: &Server, user: &str, line: &str, found: Answer) {
    let mut words = line.split(' ');
    let (verb, path) = (words.next().unwrap(), words.next_back().unwrap_or("/"));
    let output = Command::new(env!("CARGO_BIN_EXE_causeway"))
        .args(["explain", "-c", "causeway.yaml", user, verb, path])
        .current_dir(server.directory())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // What exists it cannot know, a time that is set makes another command of MDTM, and STOU has no
    // path.
    if text.contains("if the file exists: denied") || line.starts_with("MDTM 2") || line == "STOU" {
        return;
    }
    let expected = if found == Yes { 0 } else { 4 };
    assert_eq!(
        output.status.code(),
        Some(expected),
        "{user}: {line}\n{text}"
    );
    assert!(text.starts_with(&format!("{user} {verb}")), "{text}");
}

fn quota_crossed_in_the_middle_leaves_nothing(store: &Store) {
    const MIB: usize = 1 << 20;
    let quota = "home: q, quota: {bytes: 12000000, files: 3}, limits: {file_bytes: 11000000}";
    let server = with_user(Server::with(store), "q", quota).start();
    store.put("q/there", &vec![7; MIB]);
    let mut raw = Raw::explicit_as(&server, "q");
    raw.store("STOR first", &bytes(1, MIB));
    // 9.9 MB are left: 20 MiB are too much by any limit, 10 MiB by the quota only.
    for (length, text) in [(20 * MIB, ""), (10 * MIB, "Quota")] {
        let data = raw.begin_transfer("STOR second");
        // The server ends the connection as soon as it knows.
        data.send_what_is_taken(&bytes(2, length));
        let reply = raw.reply().expect(552);
        assert!(reply.text().contains(text), "{reply}");
        raw.expect("SIZE second", 550);
    }
    assert!(
        store.open_uploads().is_empty(),
        "{:?}",
        store.open_uploads()
    );
    // Said before: refused before.
    for (announced, text) in [(11_534_336, "larger"), (10_485_760, "Quota")] {
        raw.expect(&format!("ALLO {announced}"), 202);
        let reply = raw.failing_transfer_with_data("STOR second").expect(552);
        assert!(reply.text().contains(text), "{reply}");
    }
    raw.expect("ALLO 1000", 202);
    raw.store("STOR second", b"small");
    // Three files are there: no fourth, but any may be replaced.
    assert_eq!(raw.failing_transfer_with_data("STOR third").code, 552);
    raw.store("STOR first", &bytes(3, 9 * MIB));
    raw.store("STOR first", &bytes(3, MIB));
    raw.expect("DELE second", 250);
    raw.store("STOR third", b"in its place");
    // Two at once share what is left.
    let mut one = raw.begin_transfer("STOR first");
    let mut other = Raw::explicit_as(&server, "q");
    let second = other.begin_transfer("STOR there");
    one.write(&bytes(4, 8 * MIB)).unwrap();
    second.send_what_is_taken(&bytes(4, 8 * MIB));
    one.send_what_is_taken(&[]);
    let codes = [raw.reply().code, other.reply().code];
    assert!(codes.contains(&226) && codes.contains(&552), "{codes:?}");
    store.assert_holds(&[
        ("q/first", &store.bytes("q/first").unwrap()),
        ("q/there", &store.bytes("q/there").unwrap()),
        ("q/third", b"in its place"),
    ]);
}

/// What others put into the store behind the server's back is seen by the next count.
#[test]
fn quota_follows_the_store() {
    let store = Store::local();
    let user = "home: q, quota: {bytes: 1000}";
    let server = with_user(Server::with(&store), "q", user)
        .set("/limits/quota_recount_seconds", 1)
        .start();
    let mut raw = Raw::explicit_as(&server, "q");
    raw.store("STOR file", &[0; 900]);
    let data = raw.begin_transfer("STOR more");
    data.send_what_is_taken(&[0; 900]);
    raw.reply().expect(552);
    std::fs::remove_file(store.local_root().join("q/file")).unwrap();
    until(Duration::from_secs(20), "the file is forgotten", || {
        let mut data = raw.open_data();
        let reply = raw.command("STOR more");
        if reply.code != 150 {
            return Err(reply.text());
        }
        data.handshake().unwrap();
        data.send_what_is_taken(&[0; 900]);
        let reply = raw.reply();
        if reply.code == 226 {
            Ok(())
        } else {
            Err(reply.text())
        }
    });
}

#[test]
fn listings_hide_what_grants_hide_and_names_are_checked() {
    let store = Store::local();
    let user = "home: m, grants: [{allow: all}, {path: /secret/**, deny: all}, {path: /sealed, deny: [rename]}], \
                file_names: {deny: [\"*.exe\"]}";
    let server = with_user(Server::with(&store), "m", user).start();
    for file in ["secret/inner", "open/inner", "sealed/inner", "a.txt"] {
        store.put(&format!("m/{file}"), b"x");
    }
    let mut raw = Raw::explicit_as(&server, "m");
    assert_eq!(raw.names("NLST"), ["a.txt", "open", "sealed"]);
    let facts = String::from_utf8(raw.retrieve("MLSD")).unwrap();
    assert!(!facts.contains("secret"), "{facts}");
    let sealed = facts.lines().find(|line| line.ends_with("sealed")).unwrap();
    assert!(sealed.contains("perm=cdelmp;"), "{sealed}");
    for (line, code) in [
        ("CWD secret", 550),
        ("SIZE secret/inner", 550),
        ("RNFR secret", 550),
        ("RNFR sealed", 550),
        ("RNFR open", 350),
        ("RNTO secret/open", 550),
        ("RNFR a.txt", 350),
        ("RNTO a.exe", 553),
        ("RNFR a.txt", 350),
        ("RNTO b.txt", 250),
        ("MKD dir.exe", 257),
    ] {
        raw.expect(line, code);
    }
    assert_eq!(raw.failing_transfer_with_data("STOR x.EXE").code, 553);
    raw.store("STOR x.txt", b"x");
}

/// Own mounts, templates and conditions of logins.
#[test]
fn users_see_their_own_tree_from_where_they_may() {
    let store = Store::local();
    let builder = with_user(
        Server::with(&store),
        "site",
        "attributes: {town: bonn}, home: \"sites/{attribute.town}\", \
         mounts: [{path: /shared, backend: main, prefix: shared, read_only: true}]",
    );
    let builder = with_user(builder, "away", "allowed_networks: [192.0.2.0/24]");
    let builder = with_user(builder, "inner", "allowed_listeners: [implicit]");
    let builder = with_user(builder, "late", "expires: 2020-01-31");
    let builder = with_user(builder, "never", "enabled: false");
    let server = builder.start();
    store.put("shared/notice", b"for all");
    let mut raw = Raw::explicit_as(&server, "site");
    raw.store("STOR file", b"x");
    assert_eq!(raw.retrieve("RETR /shared/notice"), b"for all");
    assert_eq!(raw.failing_transfer_with_data("STOR /shared/x").code, 550);
    assert_eq!(store.bytes("sites/bonn/file").as_deref(), Some(&b"x"[..]));
    let tls = server.tls(Version::Tls13);
    for user in ["away", "inner", "late", "never"] {
        let mut raw = Raw::secured(&server, &tls);
        raw.expect(&format!("USER {user}"), 331);
        raw.expect(&format!("PASS {}", crate::harness::PASSWORD), 530);
    }
    let mut raw = Raw::implicit_with(&server, &tls);
    raw.login("inner");
    raw.expect("PWD", 257);
    let log = server.log().join("\n");
    for reason in [
        "not from this network",
        "not on this listener",
        "has expired",
        "is disabled",
    ] {
        assert!(log.contains(reason), "{reason}");
    }
}

/// Five thousand users: the files are read anew while others log in, and half a file changes nothing.
#[test]
fn thousands_of_users_reload_while_others_log_in() {
    let store = Store::local();
    let hash = password_hash();
    let mut text = "users:\n".to_owned();
    for index in 0..5000 {
        writeln!(text, "  - {{name: d{index}, password_hash: \"{hash}\"}}").unwrap();
    }
    let server = Server::with(&store).start();
    let file = server.directory().join("users.yaml");
    let old = std::fs::read_to_string(&file).unwrap();
    let more = old.clone() + text.strip_prefix("users:\n").unwrap();
    let login = |user: &str| {
        let mut raw = Raw::secured(&server, &server.tls(Version::Tls13));
        raw.expect(&format!("USER {user}"), 331);
        raw.command(&format!("PASS {}", crate::harness::PASSWORD))
            .code
    };
    let fastest = |user: &str| {
        (0..5)
            .map(|_| {
                let started = std::time::Instant::now();
                assert_eq!(login(user), 230);
                started.elapsed()
            })
            .min()
            .unwrap()
    };
    let before = fastest("alice");
    let reloads = |outcome: &str| server.metric("causeway_users_reloads_total", &[outcome]);
    std::fs::write(&file, more).unwrap();
    server.hang_up();
    let mut during = Vec::new();
    until(Duration::from_secs(30), "the users are there", || {
        let started = std::time::Instant::now();
        assert_eq!(login("alice"), 230);
        during.push(started.elapsed());
        if reloads("reloaded") >= 1.0 {
            Ok(())
        } else {
            Err(String::new())
        }
    });
    assert!(server.metric("causeway_users", &[]) > 5000.0);
    assert_eq!(login("d4999"), 230);
    println!("login before {before:?}, during the reload {during:?}");
    // What a reload costs the machine, whatever else it does; from one file, and from fifty.
    let timed = |what: &str| {
        let (cpu, started) = (server.cpu_time(), std::time::Instant::now());
        server.api("POST", "/reload", "", 200);
        let (cpu, took) = (server.cpu_time().saturating_sub(cpu), started.elapsed());
        println!("reload of 5,000 users from {what}: {took:?}, {cpu:?} of CPU");
        assert!(cpu < Duration::from_secs(1), "{what}: {cpu:?} of CPU");
        assert!(server.metric("causeway_users", &[]) > 5000.0, "{what}");
        assert_eq!(login("d4999"), 230, "{what}");
    };
    timed("one file");
    let directory = server.directory().join("users.d");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("0.yaml"), &old).unwrap();
    let lines: Vec<&str> = text.lines().skip(1).collect();
    for (index, lines) in lines.chunks(100).enumerate() {
        let part = format!("users:\n{}\n", lines.join("\n"));
        std::fs::write(directory.join(format!("{}.yaml", index + 1)), part).unwrap();
    }
    server.configure(|config| config["users"] = serde_json::json!({"directory": directory}));
    timed("a directory, for the first time");
    timed("a directory of 51 files");
    server.configure(|config| config["users"] = serde_json::json!({"file": file}));
    server.api("POST", "/reload", "", 200);
    std::fs::write(&file, "users: [{name: alice}]").unwrap();
    server.hang_up();
    until(Duration::from_secs(30), "the mistake is told", || {
        if reloads("failed") >= 1.0 {
            Ok(())
        } else {
            Err(String::new())
        }
    });
    until(Duration::from_secs(30), "the log has it", || {
        let log = server.log().join("\n");
        let told = log.contains("users[0].password_hash: missing");
        if told { Ok(()) } else { Err(String::new()) }
    });
    assert_eq!(login("d4999"), 230);
    std::fs::write(&file, old).unwrap();
    until(
        Duration::from_secs(30),
        "the change is seen without a signal",
        || {
            if reloads("reloaded") >= 2.0 {
                Ok(())
            } else {
                Err(String::new())
            }
        },
    );
}
