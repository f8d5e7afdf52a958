//! `causeway ctl`, as an operator types it.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use crate::harness::{
    End, GROUPS, Raw, Server, Store, http_get, password_hash, run_to_end, run_with_input, until,
};

const TOKEN: &str = "a-token-for-causeway-ctl";

fn ctl(server: &Server, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
    command.args(["ctl", "--url", &format!("http://{}", server.admin)]);
    command.args(arguments);
    command.env_remove("CAUSEWAY_ADMIN_TOKEN_FILE");
    command.env("CAUSEWAY_ADMIN_TOKEN", TOKEN);
    command
}

/// What it prints; it must succeed.
#[track_caller]
fn says(server: &Server, arguments: &[&str]) -> String {
    let (status, stdout, stderr) = run_to_end(ctl(server, arguments), Duration::from_mins(1));
    assert!(status.success(), "{arguments:?}: {stdout}{stderr}");
    stdout
}

/// Its exit code and what it complains of.
#[track_caller]
fn complains(command: Command) -> (i32, String) {
    let (status, stdout, stderr) = run_to_end(command, Duration::from_mins(1));
    assert!(!status.success(), "{stdout}");
    (status.code().unwrap(), stderr)
}

fn start(store: &Store) -> Server {
    Server::with(store).set("/admin/token", TOKEN).start()
}

#[test]
fn ctl_shows_and_ends_sessions() {
    let store = Store::local();
    let server = start(&store);
    assert_eq!(says(&server, &["sessions"]), "nobody is connected\n");
    assert_eq!(says(&server, &["transfers"]), "no transfer is running\n");
    assert!(says(&server, &["status"]).contains("serving, 0 sessions"));
    let mut raw = Raw::explicit(&server);
    // Names of clients must not reach the terminal as they are: this one turns the text around.
    let mut data = raw.begin_transfer("STOR gpj.\u{202e}exe");
    data.write(&vec![7; 100_000]).unwrap();
    let text = until(Duration::from_secs(20), "the bytes are counted", || {
        let text = says(&server, &["transfers"]);
        if text.contains("97.7 KiB") {
            Ok(text)
        } else {
            Err(text)
        }
    });
    assert!(
        text.contains("/gpj.\\u{202e}exe") && text.contains("STOR"),
        "{text}"
    );
    assert!(text.starts_with("SESSION"), "{text}");
    let sessions: Value = serde_json::from_str(&says(&server, &["sessions", "--json"])).unwrap();
    let id = sessions[0]["id"].as_str().unwrap();
    assert_eq!(sessions[0]["user"], "alice");
    assert!(says(&server, &["sessions"]).contains(id));
    let kicked = says(&server, &["kick", id]);
    assert!(kicked.contains("session of alice"), "{kicked}");
    let replies = raw.until_closed(Duration::from_secs(20));
    assert_eq!(replies.last().unwrap().code, 421);
    until(Duration::from_secs(10), "the session is gone", || {
        let text = says(&server, &["sessions"]);
        if text.starts_with("nobody") {
            Ok(())
        } else {
            Err(text)
        }
    });
    let (code, why) = complains(ctl(&server, &["kick", "../drain"]));
    assert_eq!(code, 1);
    assert!(
        why.contains("404") && why.contains("no session has this id"),
        "{why}"
    );
    assert_eq!(says(&server, &["status"]).matches("serving").count(), 1);
}

#[test]
fn ctl_finds_a_failure_by_its_reference() {
    let store = Store::local();
    let server = start(&store);
    let mut raw = Raw::explicit_as(&server, "reader");
    let text = raw.expect("MKD new", 550).text();
    let reference = text.split("(ref ").nth(1).unwrap().trim_end_matches(')');
    let found = says(&server, &["failures", reference]);
    assert!(
        found.contains("reader") && found.contains("/new"),
        "{found}"
    );
    assert_eq!(found.lines().count(), 2, "{found}");
    let (code, why) = complains(ctl(&server, &["failures", "zzzzzz"]));
    assert_eq!(code, 1);
    assert!(why.contains("zzzzzz: no failure"), "{why}");
}

#[test]
fn ctl_says_what_is_wrong_with_address_token_and_files() {
    let store = Store::local();
    let server = start(&store);
    let mut command = ctl(&server, &["sessions"]);
    command.env("CAUSEWAY_ADMIN_TOKEN", "another token altogether");
    let (code, why) = complains(command);
    assert_eq!(code, 1);
    assert!(why.contains("401") && why.contains("--token-file"), "{why}");
    assert!(!why.contains("another token"), "{why}");
    let (code, why) = complains(ctl(&server, &["--token-file", "/nonexistent", "sessions"]));
    assert_eq!(code, 1);
    assert!(why.contains("token file /nonexistent"), "{why}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
    command.args(["ctl", "--url", "http://127.0.0.1:1", "sessions"]);
    let (code, why) = complains(command);
    assert_eq!(code, 1);
    assert!(why.contains("no answer from http://127.0.0.1:1/"), "{why}");
    let (_, why) = complains(ctl(&server, &["top"]));
    assert!(why.contains("needs a terminal"), "{why}");
    assert_eq!(complains(ctl(&server, &["kick"])).0, 2);

    let file = server.scratch().join("token");
    fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let mut command = ctl(&server, &["status", "--token-file", file.to_str().unwrap()]);
    command.env_remove("CAUSEWAY_ADMIN_TOKEN");
    let (status, _, stderr) = run_to_end(command, Duration::from_mins(1));
    assert!(status.success(), "{stderr}");
}

#[test]
fn ctl_reloads_or_says_every_mistake() {
    let store = Store::local();
    let server = start(&store);
    assert!(says(&server, &["reload"]).contains("the configuration is as before"));
    server.configure(|config| {
        config["timeouts"]["idle_seconds"] = json!(77);
        config["telemetry"] = json!({"otlp": {"endpoint": "http://127.0.0.1:1"}});
    });
    let said = says(&server, &["reload"]);
    // The server may have noticed the change by itself meanwhile.
    assert!(said.contains("needs a restart: telemetry"), "{said}");
    server.configure(|config| {
        config["timeouts"]["idle_seconds"] = json!(0);
        config["limits"]["connections"] = json!("many");
    });
    let (code, why) = complains(ctl(&server, &["reload"]));
    assert_eq!(code, 3, "{why}");
    assert_eq!(why.lines().count(), 2, "{why}");
    assert!(
        why.contains("timeouts.idle_seconds") && why.contains("limits.connections"),
        "{why}"
    );
}

#[test]
fn ctl_drains_and_waits_for_the_end() {
    let store = Store::local();
    let mut server = start(&store);
    let mut raw = Raw::explicit(&server);
    let mut data = raw.begin_transfer("STOR file");
    data.write(b"whole").unwrap();
    let mut waiting = ctl(&server, &["drain", "--wait", "--deadline", "50"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until(Duration::from_secs(20), "the drain has begun", || {
        let log = server.log();
        if log.iter().any(|line| line.contains("draining")) {
            return Ok(());
        }
        Err(log.join("\n"))
    });
    assert!(
        waiting.try_wait().unwrap().is_none(),
        "it waits for the upload"
    );
    assert_eq!(data.finish(), End::CloseNotify);
    raw.reply().expect(226);
    assert_eq!(server.wait(Duration::from_secs(20)).code(), Some(0));
    assert!(waiting.wait().unwrap().success());
    store.assert_holds(&[("alice/file", b"whole")]);
}

#[test]
fn ctl_top_draws_on_a_terminal_and_ends_with_q() {
    let store = Store::local();
    let server = start(&store);
    let _raw = Raw::explicit(&server);
    // `script` gives it a terminal of its own.
    let top = format!(
        "stty rows 40 cols 120; {} ctl --url http://{} top",
        env!("CARGO_BIN_EXE_causeway"),
        server.admin
    );
    let keys = server.scratch().join("keys");
    fs::write(&keys, "q").unwrap();
    let mut command = Command::new("script");
    command.args(["-qec", &top, "/dev/null"]);
    command
        .env("CAUSEWAY_ADMIN_TOKEN", TOKEN)
        .env("TERM", "xterm-256color");
    let input = Stdio::from(fs::File::open(&keys).unwrap());
    let (status, stdout, stderr) = run_with_input(command, input, Duration::from_mins(1));
    assert!(status.success(), "{stdout}{stderr}");
    for word in ["alice", "throughput", "recent", "quit", "127.0.0.1"] {
        assert!(stdout.contains(word), "{word}: {stdout:?}");
    }
    // It leaves the other screen it drew on.
    assert!(stdout.contains("\u{1b}[?1049l"), "{stdout:?}");
}

#[test]
fn ctl_lists_adds_and_lifts_bans() {
    let store = Store::local();
    // The harness's own address is safe elsewhere: here it is not.
    let server = Server::with(&store)
        .set("/admin/token", TOKEN)
        .set("/bans", json!({"safe_networks": []}))
        .start();
    assert_eq!(says(&server, &["bans"]), "nobody is banned\n");
    let added = says(&server, &["bans", "add", "user:alice", "--seconds", "600"]);
    assert!(
        added.contains("alice") && added.contains("operator"),
        "{added}"
    );
    let mut raw = Raw::secured(&server, &server.tls(crate::harness::Version::Tls13));
    raw.expect("USER alice", 331);
    let refused = raw.command(&format!("PASS {}", crate::harness::PASSWORD));
    assert_ne!(refused.code, 230, "{refused}");
    let listed: Value = serde_json::from_str(&says(&server, &["bans", "--json"])).unwrap();
    assert_eq!(listed[0]["by"], "operator");
    // As it is listed, which does not tell the name.
    let subject = listed[0]["subject"].as_str().unwrap();
    assert_eq!(says(&server, &["bans", "lift", subject]), "lifted\n");
    assert_eq!(says(&server, &["bans"]), "nobody is banned\n");
    Raw::explicit(&server).expect("PWD", 257);
    let (code, why) = complains(ctl(&server, &["bans", "add", "alice"]));
    assert_eq!(code, 1);
    assert!(why.contains("subject: expected address:"), "{why}");
    let (_, why) = complains(ctl(&server, &["bans", "lift", "address:192.0.2.1"]));
    assert!(why.contains("404"), "{why}");
}

/// Users of the file and of other sources, without their hashes; and the same answer about a command as
/// the session gets.
#[test]
fn ctl_shows_users_and_explains() {
    let store = Store::local();
    let hash = password_hash();
    let bounded = format!(
        "{{name: bounded, password_hash: \"{hash}\", home: here, quota: {{bytes: 1000}}, \
         hours: {{windows: [\"00:00-24:00\"]}}, file_names: {{deny: [\"*.exe\"]}}, \
         groups: [uploaders], expires: 2099-01-31}}"
    );
    let server = Server::with(&store)
        .groups(GROUPS)
        .user(&bounded)
        .set("/listeners/0/clear_text", "allow")
        .set("/auth", json!({"sources": ["users", "anonymous"]}))
        .start();
    let mut guest = Raw::clear(server.explicit);
    guest.expect("USER anonymous", 331);
    guest.expect("PASS x", 230);
    let mut session = Raw::clear(server.explicit);
    session.login("bounded");

    let listed = says(&server, &["users"]);
    for words in [
        &["alice", "users", "yes", "password", "argon2id", " 0 "][..],
        &["bounded", "2099-0", "uploaders", " 1 "],
        &["anonymous", "session", " 1 "],
    ] {
        let found = listed
            .lines()
            .any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "{words:?}: {listed}");
    }
    let shown = says(&server, &["users", "bounded"]);
    for words in [
        "home        here",
        "mount       / is main:\"here\"",
        "grant       /**: allow list, read, write, mkdir, deny nothing",
        "limit       quota.bytes 1000",
        "file names  deny *.exe",
        "condition   00:00-24:00, time zone +00:00:00",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let json = says(&server, &["--json", "users", "anonymous"]);
    assert!(json.contains("\"read_only\": true"), "{json}");
    for text in [
        &listed,
        &shown,
        &says(&server, &["--json", "users", "alice"]),
    ] {
        assert!(
            !text.contains('$') && !text.contains(&hash),
            "a hash is shown: {text}"
        );
    }

    session.store("STOR file", b"content");
    for (line, expected) in [
        ("STOR /new", true),
        ("DELE /file", false),
        ("STOR /x.exe", false),
    ] {
        let (verb, path) = line.split_once(' ').unwrap();
        let (status, said, _) = run_to_end(
            ctl(&server, &["explain", "bounded", verb, path]),
            Duration::from_mins(1),
        );
        let code = if expected { Some(0) } else { Some(4) };
        assert_eq!(status.code(), code, "{line}: {said}");
        let mut offline = Command::new(env!("CARGO_BIN_EXE_causeway"));
        offline
            .args(["explain", "-c"])
            .arg(server.directory().join("causeway.yaml"));
        offline.args(["bounded", verb, path]);
        let (_, same, _) = run_to_end(offline, Duration::from_mins(1));
        assert_eq!(said, same, "{line}");
    }
    session.expect("DELE file", 550);
    for (arguments, words) in [
        (&["users", "nobody"][..], "404"),
        (&["explain", "nobody", "CWD", "/"], "404"),
        (
            &["explain", "bounded", "PORT", "/"],
            "no command with a path",
        ),
        (&["explain", "bounded", "CWD", "/\u{1}"], "path:"),
    ] {
        let (code, said) = complains(ctl(&server, arguments));
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(words), "{words}: {said}");
    }
    let (status, body) = http_get(
        server.admin,
        "/api/v1/users/bounded/explain?verb=CWD&path=/&who=x",
    );
    assert_eq!(status, 400, "{body}");
}
