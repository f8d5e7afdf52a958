//! Protocol traces of real clients, and their replay.

use std::{fs, process::Command, time::Duration};

use serde_json::{Value, json};

use crate::{
    dialogues,
    harness::{
        Client as _, Curl, Lftp, Link, Mode, PASSWORD, Raw, Server, Store, Version, bytes,
        run_to_end, until,
    },
};

const PATIENCE: Duration = Duration::from_secs(30);

fn ctl(server: &Server, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
    command.args(["ctl", "--url", &format!("http://{}", server.admin)]);
    command.args(arguments);
    let (status, stdout, stderr) = run_to_end(command, PATIENCE);
    assert!(status.success(), "{arguments:?}: {stdout}{stderr}");
    stdout
}

/// Starts a trace and returns its id.
fn follow(server: &Server, subject: &[&str]) -> String {
    let arguments = [&["--json", "trace", "start", "--for", "5m"], subject].concat();
    let started: Value = serde_json::from_str(&ctl(server, &arguments)).unwrap();
    started["id"].as_str().unwrap().to_owned()
}

/// The dialogue of the trace's only session, once that is over.
fn saved(server: &Server, id: &str) -> String {
    until(PATIENCE, "the session is over", || {
        let shown = ctl(server, &["trace", "show", id]);
        let over = shown.trim_end().ends_with("disconnected");
        over.then_some(()).ok_or(shown)
    });
    let file = server.scratch().join(format!("{id}.dialogue"));
    ctl(server, &["trace", "save", id, file.to_str().unwrap()]);
    fs::read_to_string(file).unwrap()
}

/// Plays it against a server that has seen nothing, and returns what that holds then.
fn replay(dialogue: &str) -> Store {
    println!("{dialogue}");
    assert!(!dialogue.contains(PASSWORD), "a password was saved");
    assert!(!dialogue.contains("Not to be played"), "it has a gap");
    let fresh = Store::local();
    dialogues::play_on(&Server::start(&fresh), &fresh, dialogue);
    fresh
}

#[test]
fn session_of_curl_is_saved_and_replayed() {
    let store = Store::local();
    let server = Server::start(&store);
    store.put("alice/old.bin", &bytes(1, 5000));
    let id = follow(&server, &["--user", "alice"]);
    // Of no interest.
    Raw::explicit_as(&server, "reader").expect("PWD", 257);
    for (mode, version) in [
        (Mode::Explicit, Version::Tls13),
        (Mode::Implicit, Version::Tls12),
    ] {
        let id = if version == Version::Tls13 {
            id.clone()
        } else {
            follow(&server, &["--user", "alice"])
        };
        let link = Link::new(&server, mode, version);
        let upload = server.scratch().join("upload");
        fs::write(&upload, bytes(2, 70_000)).unwrap();
        let mut command = Curl::command(&link);
        command.arg("--ftp-create-dirs").arg("--upload-file");
        command.arg(&upload).arg(Curl::url(&link, "sub/new.bin"));
        command.args(["--next", "--silent"]);
        // The same connection goes on.
        let again = Curl::command(&link);
        command.args(again.get_args()).arg("--output");
        command.arg("/dev/null").arg(Curl::url(&link, "old.bin"));
        let (status, stdout, stderr) = run_to_end(command, PATIENCE);
        assert!(status.success(), "{stdout}{stderr}");
        ctl(&server, &["trace", "list"]);
        let dialogue = saved(&server, &id);
        let wanted = if mode == Mode::Explicit {
            ["@ tls 1.3", "< 234 Begin TLS"]
        } else {
            ["@ implicit", "> USER alice"]
        };
        for text in wanted.iter().chain(&[
            "> PASS {password}\n< 230 Logged in",
            "@ file-bytes old.bin 5000",
            "> STOR new.bin\n< 150 ",
            "@ upload-bytes 70000\n< 226 Transfer complete",
            "@ receive\n@ received-bytes 5000\n< 226 ",
        ]) {
            assert!(dialogue.contains(text), "{text:?} in\n{dialogue}");
        }
        let fresh = replay(&dialogue);
        assert_eq!(
            fresh.bytes("alice/sub/new.bin").map(|it| it.len()),
            Some(70_000)
        );
        store.make_home("alice");
        fs::remove_dir_all(store.local_root().join("alice/sub")).unwrap();
        ctl(&server, &["trace", "remove", &id]);
    }
}

#[test]
fn session_of_lftp_is_saved_and_replayed() {
    let store = Store::local();
    let server = Server::start(&store);
    store.put("alice/there/old.txt", &bytes(1, 1234));
    let id = follow(&server, &["--address", "127.0.0.0/8"]);
    let link = Link::new(&server, Mode::Explicit, Version::Tls12);
    let file = server.scratch().join("file.bin");
    fs::write(&file, bytes(2, 30_000)).unwrap();
    let action = format!(
        "cd there; cls -l; put {} -o new.bin; mv new.bin renamed.bin; get old.txt -o {}; rm old.txt; mkdir deep; rmdir deep; bye",
        file.display(),
        server.scratch().join("got").display(),
    );
    let (status, stdout, stderr) = run_to_end(Lftp::command(&link, &action), PATIENCE);
    assert!(status.success(), "{stdout}{stderr}");
    let dialogue = saved(&server, &id);
    let fresh = replay(&dialogue);
    let renamed = fresh.bytes("alice/there/renamed.bin");
    assert_eq!(renamed.map(|it| it.len()), Some(30_000), "{dialogue}");
    assert_eq!(fresh.bytes("alice/there/old.txt"), None);
}

/// What the trace of the session below shows, by the side that says it.
const SHOWN: &[(&str, &str)] = &[
    ("event", "connected from 127.0.0.1:"),
    ("server", "220 FTP server ready"),
    ("client", "AUTH TLS"),
    ("event", "control connection under TLS 1.3, TLS13_"),
    ("client", "USER alice"),
    ("client", "PASS ***"),
    ("server", "530 Login incorrect"),
    ("client", "ACCT ***"),
    ("client", "SITE PSWD ***"),
    ("server", "230 Logged in"),
    ("event", "data connection under TLS 1.3"),
    ("event", "upload of /file from byte 0: 7 bytes, complete"),
    (
        "event",
        "upload of /nobody-comes from byte 0: 0 bytes, no_connection",
    ),
    ("event", "found under way"),
    ("client", "NOOP"),
    ("event", "disconnected"),
];

#[test]
fn trace_shows_both_sides_and_hides_secrets() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/audit", json!({"file": "audit.jsonl"}))
        .set("/timeouts/data_connect_seconds", 1)
        .start();
    let mut joined = Raw::explicit(&server);
    joined.expect("PWD", 257);
    let id = follow(&server, &["--user", "alice", "--lines", "200"]);
    let mut raw = Raw::secured(&server, &server.tls(Version::Tls13));
    for (line, code) in [
        ("USER alice", 331),
        ("pAsS wrong-s3cr3t", 530),
        ("ACCT s3cr3t", 503),
        ("SITE PSWD s3cr3t s3cr3t", 530),
        ("USER alice", 331),
    ] {
        raw.expect(line, code);
    }
    raw.expect(&format!("PASS {PASSWORD}"), 230);
    raw.expect("PBSZ 0", 200);
    raw.expect("PROT P", 200);
    raw.store("STOR file", b"content");
    raw.expect("EPSV", 229);
    raw.expect("STOR nobody-comes", 150);
    raw.reply().expect(425);
    joined.expect("NOOP", 200);
    raw.expect("QUIT", 221);
    until(PATIENCE, "the session is over", || {
        let shown = ctl(&server, &["trace", "show", &id]);
        shown.contains("disconnected").then_some(()).ok_or(shown)
    });
    let content = server.api("GET", &format!("/traces/{id}"), "", 200);
    let text = content.to_string();
    assert!(
        !text.contains("s3cr3t") && !text.contains(PASSWORD),
        "{text}"
    );
    assert_eq!(content["state"], "running");
    assert_eq!(content["sessions"].as_array().unwrap().len(), 2, "{text}");
    let entries = content["entries"].as_array().unwrap();
    let has = |side: &str, text: &str| {
        entries
            .iter()
            .any(|entry| entry["side"] == side && entry["text"].as_str().unwrap().contains(text))
    };
    for (side, text) in SHOWN {
        assert!(has(side, text), "{side}: {text} in {text}");
    }
    // Two sessions: one has to be named.
    let (status, _, why) = run_to_end(
        {
            let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
            command.args(["ctl", "--url", &format!("http://{}", server.admin)]);
            command.args(["trace", "save", &id, "-"]);
            command
        },
        PATIENCE,
    );
    assert!(
        !status.success() && why.contains("several sessions"),
        "{why}"
    );
    let session = content["sessions"][0].as_str().unwrap();
    let dialogue = ctl(&server, &["trace", "save", &id, "-", "--session", session]);
    assert!(dialogue.contains("> USER alice"), "{dialogue}");
    assert!(ctl(&server, &["trace", "stop", &id]).contains("stopped"));
    joined.expect("PWD", 257);
    assert_eq!(
        server.api("GET", &format!("/traces/{id}"), "", 200)["lines"],
        content["lines"]
    );
    assert_eq!(ctl(&server, &["trace", "remove", &id]), "removed\n");
    assert_eq!(ctl(&server, &["trace", "list"]), "nobody is followed\n");
    server.api("GET", &format!("/traces/{id}"), "", 404);
    let records = server.read("audit.jsonl");
    let acts: Vec<Value> = records
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|record: &Value| record["kind"] == "admin")
        .collect();
    let told: Vec<_> = acts
        .iter()
        .map(|act| (act["verb"].as_str().unwrap(), act["detail"].as_str()))
        .collect();
    let alice = Some("user:alice");
    assert_eq!(
        told,
        [("POST", alice), ("POST", alice), ("DELETE", alice)],
        "{records}"
    );
}

#[test]
fn wrong_orders_are_refused() {
    let store = Store::local();
    let server = Server::start(&store);
    for (order, why) in [
        (json!({}), "either user or address"),
        (
            json!({"user": "a", "address": "::1"}),
            "either user or address",
        ),
        (
            json!({"address": "somewhere"}),
            "address: expected 192.0.2.1",
        ),
        (json!({"user": "a", "seconds": 0}), "seconds: expected 1 to"),
        (json!({"user": "a", "lines": 0}), "lines: expected 1 to"),
        (json!({"who": "a"}), "unknown field"),
    ] {
        let answer = server.api("POST", "/traces", &order.to_string(), 400);
        let error = answer["error"].as_str().unwrap();
        assert!(error.contains(why), "{error}");
    }
    for _ in 0..8 {
        server.api("POST", "/traces", r#"{"user": "a"}"#, 201);
    }
    server.api("POST", "/traces", r#"{"user": "a"}"#, 409);
    server.api("POST", "/traces/none/stop", "", 404);
    server.api("DELETE", "/traces/none", "", 404);
    server.api("GET", "/traces/none/dialogue", "", 404);
}

/// The whole point of a bound: a client that says much fills it and no more.
#[test]
fn full_trace_ends_and_the_session_goes_on() {
    let store = Store::local();
    let server = Server::start(&store);
    let id = follow(&server, &["--user", "alice", "--lines", "50"]);
    let mut raw = Raw::explicit(&server);
    for _ in 0..60 {
        raw.expect("NOOP", 200);
    }
    let view = server.api("GET", &format!("/traces/{id}"), "", 200);
    assert_eq!(
        (&view["state"], &view["lines"]),
        (&json!("full"), &json!(50))
    );
    let link = Link::new(&server, Mode::Explicit, Version::Tls13);
    Curl.make_directory(&link, "later").expect(257);
}
