//! Security tests of section 5 of the conformance list that belong to names, rights, logs and the
//! parser: named by their ids.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::harness::{PASSWORD, Raw, Server, Store, Version, on_each_store};

on_each_store!(
    s46_no_path_command_leaves_the_home,
    s54_read_only_user_changes_nothing_by_any_verb,
);

/// A web browser that was lured to an FTP port, or a client of another protocol.
#[test]
fn s17_http_and_unknown_commands_before_login_end_the_connection() {
    let store = Store::local();
    let server = Server::start(&store);
    let tls = server.tls(Version::Tls13);
    for request in [
        "GET / HTTP/1.1\r\nHost: ftp.example\r\n\r\n",
        "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nUSER alice\r\n",
        "Host: ftp.example\r\n",
    ] {
        for mut raw in [
            Raw::clear(server.explicit),
            Raw::implicit_with(&server, &tls),
        ] {
            raw.send(request.as_bytes()).unwrap();
            let said = raw.until_closed(Duration::from_secs(10));
            assert!(said.is_empty(), "{request:?}: {said:?}");
        }
    }
    let mut raw = Raw::secured(&server, &tls);
    raw.expect("EHLO <script>", 500);
    raw.expect("NOOP", 200);
    raw.expect("MAIL FROM:<a@b>", 500);
    let last = raw.expect("<script>alert(1)</script>", 421);
    assert!(!last.text().contains("script"), "{last}");
    assert!(raw.until_closed(Duration::from_secs(10)).is_empty());
    // Who is logged in may err as often as need be.
    let mut raw = Raw::explicit(&server);
    for _ in 0..10 {
        raw.expect("FOO", 500);
    }
    raw.expect("PWD", 257);
}

/// Ways up, in every spelling.
const WAYS_UP: [&str; 14] = [
    "..",
    "../",
    "/..",
    "/../reader",
    "../reader/private",
    "/../../reader/private",
    "x/../../reader/private",
    "....//reader/private",
    "%2e%2e/reader/private",
    "..\\reader\\private",
    "C:\\reader",
    "\\\\host\\share",
    "/./../reader/./private",
    "..;/reader/private",
];

fn s46_no_path_command_leaves_the_home(store: &Store) {
    let server = Server::start(store);
    store.put("reader/private", b"of another user");
    let mut raw = Raw::explicit(&server);
    for path in WAYS_UP {
        // The root is where every way up ends: what is there is alice's.
        for verb in [
            "CWD",
            "SIZE",
            "MDTM",
            "MDTM 20200101000000",
            "MFMT 20200101000000",
            "MFF modify=20200101000000;",
            "MLST",
            "STAT",
            "DELE",
            "RMD",
            "RNFR",
            "HASH",
            "XMD5",
            "AVBL",
            "SITE CHMOD 644",
            "SITE UTIME 20200101000000",
            "XRMD",
            "XCWD",
        ] {
            raw.command(&format!("{verb} {path}"));
            let place = raw.expect("CWD /", 250);
            assert_eq!(place.lines.len(), 1);
        }
        for verb in ["RETR", "LIST", "NLST", "MLSD", "STOR", "APPE"] {
            let mut data = raw.open_data();
            let reply = raw.command(&format!("{verb} {path}"));
            if reply.code == 150 {
                data.handshake().unwrap();
                if matches!(verb, "STOR" | "APPE") {
                    data.write(b"escaped?").unwrap();
                    data.finish();
                } else {
                    let (content, _) = data.read_all();
                    let content = String::from_utf8_lossy(&content).into_owned();
                    assert!(!content.contains("of another"), "{verb} {path}: {content}");
                }
                raw.reply();
            }
            raw.expect("NOOP", 200);
        }
        raw.command(&format!("MKD {path}"));
        raw.store("STOR inner", b"own");
        raw.expect("RNFR inner", 350);
        raw.command(&format!("RNTO {path}"));
    }
    assert_eq!(
        store.bytes("reader/private").as_deref(),
        Some(&b"of another user"[..])
    );
    for name in store.files().union(&store.directories()) {
        let inside = name.starts_with("alice/") || name == "reader/private";
        assert!(inside, "outside the home: {name}");
        assert!(
            name.split('/')
                .all(|segment| !matches!(segment, "" | "." | "..")),
            "{name}"
        );
    }
    // Overlong forms of the dot and the slash are no UTF-8.
    for bytes in [
        &b"CWD \xC0\xAE\xC0\xAE\r\n"[..],
        b"CWD ..\xC0\xAFreader\r\n",
    ] {
        raw.send(bytes).unwrap();
        raw.reply().expect(501);
    }
}

/// Keys that others put into the bucket: they are not shown, do not forge lines, and lead nowhere.
#[test]
fn s47_foreign_keys_are_hidden_and_lead_nowhere() {
    let store = Store::s3();
    store.make_home("alice");
    for key in [
        "alice/good",
        "alice/a\r\n-rw-r--r-- forged",
        "alice/b\nforged",
        "alice/c\rforged",
        "alice/../up-forged",
        "alice/./dot-forged",
        "alice/d//forged",
        "alice//forged",
        "alice/e\u{7f}forged",
        "alice/f\u{1b}[31mforged",
        "reader/private",
    ] {
        store.put(key, b"content");
    }
    let before = store.files();
    let server = Server::start(&store);
    let mut raw = Raw::explicit(&server);
    for line in ["LIST", "NLST", "MLSD", "LIST *forged*", "NLST -a"] {
        let listing = String::from_utf8(raw.retrieve(line)).unwrap();
        assert!(!listing.contains("forged"), "{line}: {listing:?}");
        assert!(
            listing.lines().all(|line| !line.contains(char::is_control)),
            "{listing:?}"
        );
    }
    let status = raw.expect("STAT /", 212);
    assert!(!status.text().contains("forged"), "{status}");
    for line in [
        "SIZE ../up-forged",
        "SIZE ./dot-forged",
        "SIZE d//forged",
        "CWD ..up-forged",
        "DELE /../up-forged",
        "DELE up-forged",
        "DELE forged",
    ] {
        raw.command(line).expect_any(&[501, 550]);
    }
    assert_eq!(raw.retrieve("RETR good"), b"content");
    assert_eq!(store.files(), before);
}

/// One event is one line of JSON, whatever the client calls itself; a password never shows.
#[test]
fn s50_names_do_not_forge_log_lines() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/limits/login_failures_per_connection", 100)
        .start();
    let mut raw = Raw::secured(&server, &server.tls(Version::Tls13));
    let odd = "x\u{1b}[31m\u{202e}\u{2028}\\n{\"level\":\"ERROR\"}";
    raw.expect(&format!("CLNT {odd}"), 200);
    raw.expect(&format!("USER {odd}"), 331);
    raw.expect("PASS very-private", 530);
    raw.protect();
    raw.login("alice");
    raw.command(&format!("MKD {odd}"));
    raw.expect("MKD plain\u{202e}", 257);
    raw.store("STOR plain\u{2028}", b"content");
    raw.expect("QUIT", 221);
    let log = server.log();
    for line in &log {
        let event: Value = serde_json::from_str(line).expect("one line, one event");
        assert_ne!(event["level"], "ERROR", "{line}");
        assert!(!line.contains('\u{1b}'), "{line:?}");
        for secret in [PASSWORD, "very-private"] {
            assert!(!line.contains(secret), "{line}");
        }
    }
}

#[test]
fn s51_names_do_not_forge_replies() {
    let store = Store::local();
    let server = Server::start(&store);
    let home = store.local_root().join("alice");
    fs::write(home.join("a\r\n226 forged"), b"").unwrap();
    fs::create_dir(home.join("250 End")).unwrap();
    fs::write(home.join("250 End/213 End"), b"").unwrap();
    let mut raw = Raw::explicit(&server);
    for line in [
        "MLST 250 End",
        "STAT 250 End",
        "STAT /",
        "STAT 250 End/213 End",
        "CWD 250 End",
        "PWD",
        "MKD 250 \"x\"",
        "SIZE a\u{85}226 forged",
        "HELP 226 forged",
        "SITE 226 forged",
        "OPTS 226 forged",
        "MFMT 20200102030405 213 End",
    ] {
        let reply = raw.command(line);
        for row in &reply.lines[1..reply.lines.len().max(2) - 1] {
            assert!(row.starts_with(' '), "{line}: {reply}");
        }
        assert!(!reply.lines.iter().any(|line| line.contains('\r')));
        // The next reply belongs to the next command.
        raw.expect("SYST", 215);
    }
}

#[test]
fn s53_site_runs_and_copies_nothing() {
    let store = Store::local();
    let server = Server::start(&store);
    store.put("alice/file", b"content");
    for mut raw in [Raw::explicit(&server), Raw::explicit_as(&server, "reader")] {
        for line in [
            "SITE EXEC id",
            "SITE EXEC %p%p%n",
            "SITE CPFR /etc/passwd",
            "SITE CPTO passwd",
            "SITE SYMLINK /etc/passwd passwd",
            "SITE MKDIR d",
            "SITE RMDIR d",
            "SITE ZONE",
            "SITE MD5 file",
        ] {
            raw.expect(line, 502);
        }
    }
    let mut stranger = Raw::secured(&server, &server.tls(Version::Tls13));
    stranger.expect("SITE CPFR file", 530);
    store.assert_holds(&[("alice/file", b"content")]);
}

fn s54_read_only_user_changes_nothing_by_any_verb(store: &Store) {
    let server = Server::start(store);
    store.put("reader/file", b"as it was");
    store.put("reader/directory/inner", b"too");
    let mut raw = Raw::explicit_as(&server, "reader");
    let time = raw.expect("MDTM file", 213).text();
    for line in [
        "STOR new",
        "STOR file",
        "APPE file",
        "APPE new",
        "STOU",
        "STOU wish",
    ] {
        let _data = raw.open_data();
        raw.expect(line, 550);
    }
    raw.expect("REST 2", 350);
    let _data = raw.open_data();
    raw.expect("STOR file", 550);
    // A bucket has no times to set.
    let no_times = if matches!(store, Store::Local(_)) {
        550
    } else {
        502
    };
    for (line, code) in [
        ("DELE file", 550),
        ("MKD new", 550),
        ("XMKD new", 550),
        ("RMD directory", 550),
        ("XRMD directory", 550),
        ("RNFR file", 550),
        ("RNTO other", 503),
        // Where it is ignored with success it is 550 too: conformance item I8.
        ("SITE CHMOD 644 file", 502),
        ("MFMT 20200101000000 file", no_times),
        ("MFF modify=20200101000000; file", no_times),
        ("MDTM 20200101000000 file", 550),
        ("SITE UTIME 20200101000000 file", no_times),
        ("ALLO 1000", 202),
    ] {
        raw.expect(line, code);
    }
    assert_eq!(raw.expect("MDTM file", 213).text(), time);
    store.assert_holds(&[
        ("reader/file", b"as it was"),
        ("reader/directory/inner", b"too"),
    ]);
    assert_eq!(raw.retrieve("RETR file"), b"as it was");
}

/// A refusal each, or an empty listing, in no time; the session goes on.
#[track_caller]
fn refused_at_once(lines: &[String]) {
    let store = Store::local();
    let server = Server::start(&store);
    store.put("alice/file", b"");
    let mut raw = Raw::explicit(&server);
    let start = Instant::now();
    for line in lines {
        let mut data = raw.open_data();
        let reply = raw.command(line);
        if reply.code == 150 {
            data.handshake().unwrap();
            data.read_all();
            raw.reply().expect(226);
        } else {
            assert!((500..560).contains(&reply.code), "{line:.40}: {reply}");
        }
        raw.expect("NOOP", 200);
    }
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn s36_quotes_blanks_and_foreign_letters_are_no_commands() {
    let lines = [
        "\"",
        " ",
        "\\",
        "\u{e9}\u{e9} x",
        " PWD",
        "XCRC \"file",
        "XCRC \"\"",
        "\"\\\"\\\"",
        "MKD",
    ];
    refused_at_once(&lines.map(str::to_owned));
}

#[test]
fn s37_monstrous_options_and_paths_are_refused() {
    let deep = "a/".repeat(2000);
    refused_at_once(&[
        format!("LIST -{}", "l".repeat(7000)),
        format!("LIST -{} {deep}", "a".repeat(100)),
        format!("MLSD {deep}"),
        format!("CWD {deep}"),
    ]);
}

#[test]
fn s38_monstrous_patterns_cost_nothing() {
    refused_at_once(&[
        format!("LIST {}", "*a".repeat(3000)),
        format!("NLST {}", "*/".repeat(1000)),
        format!("LIST {}", "[".repeat(5000)),
        format!("LIST {}", "{a,b}".repeat(1000)),
        "LIST */*/*/*{a,b}{c,d}".to_owned(),
        "NLST **".to_owned(),
    ]);
}
