//! Logins decided by a service over HTTP, and by one that is down, slow, lying or endless.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Builder, GROUPS, Hook, PASSWORD, Raw, Server, Store, until};

fn server(store: &Store, hook: &Hook) -> Builder {
    Server::with(store)
        .groups(GROUPS)
        .set("/listeners/0/clear_text", "allow")
        .set("/limits/login_delay_milliseconds", 0)
        .set("/limits/login_failures_per_connection", 100)
        .set(
            "/auth",
            json!({"sources": ["users", "http"], "http": hook.config}),
        )
}

fn log_in(server: &Server, user: &str, password: &str) -> (u16, Raw) {
    let mut raw = Raw::clear(server.explicit);
    raw.expect(&format!("USER {user}"), 331);
    let code = raw.command(&format!("PASS {password}")).code;
    (code, raw)
}

/// The document decides: home, groups, grants. A yes is remembered for a moment, a no never; what the
/// hook is told is signed, over mutual TLS.
#[test]
fn hook_answers_with_a_user_document() {
    let store = Store::local();
    let hook = Hook::with_certificates();
    let server = server(&store, &hook).start();
    let (code, mut raw) = log_in(&server, "partner", Hook::PASSWORD);
    assert_eq!(code, 230);
    raw.store("STOR file", b"through the hook");
    // The group of the document says so.
    raw.expect("DELE file", 550);
    store.assert_holds(&[("hook/partner/file", b"through the hook")]);
    for _ in 0..2 {
        assert_eq!(log_in(&server, "partner", "wrong").0, 530);
        assert_eq!(log_in(&server, "unknown", Hook::PASSWORD).0, 530);
        assert_eq!(log_in(&server, "partner", Hook::PASSWORD).0, 230);
    }
    // Users of the file come first, and the hook never hears of them.
    assert_eq!(log_in(&server, "alice", PASSWORD).0, 230);
    let requests = hook.requests();
    let asked: Vec<&str> = requests
        .iter()
        .map(|request| request["user"].as_str().unwrap())
        .collect();
    assert_eq!(
        asked,
        ["partner", "partner", "unknown", "partner", "unknown"]
    );
    for request in &requests {
        assert!(request["problem"].is_null(), "{request}");
        assert_eq!(request["method"], "password");
        assert_eq!(request["listener"], "explicit");
        assert_eq!(request["encrypted"], false);
        assert!(request["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
        assert_eq!(request["certificate"], json!([]));
    }
    let log = server.log().join("\n");
    assert!(log.contains("\"name\":\"partner\""), "{log}");
    assert!(!log.contains("\"name\":\"unknown\"") && log.contains("\"name\":\"(unknown)\""));
    assert!(!log.contains(Hook::PASSWORD), "the password is in the log");
}

/// Whatever the hook does: nobody gets in, in bounded time, the log says why, and the next login works.
#[test]
fn hook_that_lies_or_hangs_lets_nobody_in() {
    let store = Store::local();
    let hook = Hook::plain();
    let server = server(&store, &hook).start();
    for (user, code, reason) in [
        ("slow", 421, "no answer within 3 s"),
        ("drip", 421, "no answer within 3 s"),
        ("huge", 421, "more than 262144 bytes"),
        ("endless", 421, "more than 262144 bytes"),
        ("closing", 421, "connection"),
        ("html", 421, "not usable"),
        ("half", 421, "not usable"),
        ("empty", 421, "not usable"),
        ("binary", 421, "not UTF-8"),
        ("liar", 421, "another user"),
        ("nameless", 421, "name: missing"),
        ("keys", 421, "is_admin: unknown key"),
        ("groups", 421, "nobody knows"),
        ("escape", 421, "home: "),
        ("environment", 421, "home: expected"),
        ("file", 421, "home: expected"),
        ("redirect", 421, "status 307"),
        ("error", 421, "status 500"),
        ("created", 421, "status 201"),
        // Its document wants a certificate.
        ("certified", 530, "another proof"),
    ] {
        let before = server.log().len();
        let start = Instant::now();
        let (answered, mut raw) = log_in(&server, user, Hook::PASSWORD);
        assert_eq!(answered, code, "{user}");
        assert!(
            start.elapsed() < Duration::from_secs(8),
            "{user} took too long"
        );
        if answered == 421 {
            assert!(
                raw.until_closed(Duration::from_secs(10)).is_empty(),
                "{user}"
            );
        }
        until(Duration::from_secs(10), "the reason is in the log", || {
            let log = server.log()[before..].join("\n");
            if log.contains(reason) && log.contains("\"source\":\"http\"") {
                Ok(())
            } else {
                Err(format!("{user}: no {reason:?} in\n{log}"))
            }
        });
    }
    assert_eq!(log_in(&server, "partner", Hook::PASSWORD).0, 230);
    // Overloaded twice, and asked again.
    assert_eq!(log_in(&server, "third-time", Hook::PASSWORD).0, 230);
    // Names that are none are not asked about.
    assert_eq!(log_in(&server, "a/b", Hook::PASSWORD).0, 530);
    assert!(
        hook.requests()
            .iter()
            .all(|request| request["user"] != "a/b")
    );
    store.assert_holds(&[]);
}

#[test]
fn hook_that_is_down_shuts_only_its_own_users_out() {
    let store = Store::local();
    let hook = Hook::plain();
    let server = server(&store, &hook)
        .set("/auth/unavailable", "refuse")
        .set("/auth/http/cache_seconds", 0)
        .start();
    assert_eq!(log_in(&server, "partner", Hook::PASSWORD).0, 230);
    drop(hook);
    assert_eq!(log_in(&server, "partner", Hook::PASSWORD).0, 530);
    assert_eq!(log_in(&server, "alice", PASSWORD).0, 230);
    let log = server.log().join("\n");
    assert!(log.contains("cannot connect"), "{log}");
    assert!(server.metric("causeway_logins_total", &["\"unavailable\""]) >= 1.0);
}

/// Off unless configured; read-only unless said.
#[test]
fn anonymous_reads_what_is_public_and_changes_nothing() {
    let store = Store::local();
    store.put("anonymous/notes", b"for everybody");
    let builder = || {
        Server::with(&store)
            .groups(GROUPS)
            .set("/listeners/0/clear_text", "allow")
            .set("/limits/login_delay_milliseconds", 0)
    };
    let server = builder().start();
    for user in ["anonymous", "ftp"] {
        assert_eq!(log_in(&server, user, "me@example.com").0, 530);
    }
    let server = builder()
        .set("/auth", json!({"sources": ["users", "anonymous"]}))
        .start();
    for user in ["anonymous", "ftp", "Anonymous"] {
        let (code, mut raw) = log_in(&server, user, "me@example.com");
        assert_eq!(code, 230, "{user}");
        assert_eq!(raw.retrieve("RETR notes"), b"for everybody");
        for line in ["DELE notes", "MKD new", "RNFR notes"] {
            raw.expect(line, 550);
        }
        let _data = raw.open_data();
        raw.expect("STOR new", 550);
    }
    // A drop box: what may be written is the group's word.
    let server = builder()
        .set(
            "/auth",
            json!({
                "sources": ["anonymous"],
                "anonymous": {"names": ["guest"], "home": "incoming", "read_only": false, "groups": ["uploaders"]},
            }),
        )
        .start();
    assert_eq!(log_in(&server, "anonymous", "x").0, 530);
    let (code, mut raw) = log_in(&server, "guest", "x");
    assert_eq!(code, 230);
    raw.store("STOR new", b"from a guest");
    raw.expect("DELE new", 550);
    store.assert_holds(&[
        ("anonymous/notes", b"for everybody"),
        ("incoming/new", b"from a guest"),
    ]);
}

/// What is remembered of a login was made with the groups of then.
#[test]
fn remembered_login_follows_the_groups_of_a_changed_users_file() {
    let store = Store::local();
    let hook = Hook::plain();
    let server = server(&store, &hook)
        .set("/auth/http/cache_seconds", 600)
        .start();
    let (code, mut raw) = log_in(&server, "partner", Hook::PASSWORD);
    assert_eq!(code, 230);
    raw.store("STOR file", b"content");
    raw.expect("DELE file", 550);
    let users = server.read("users.yaml");
    let changed = users.replace("write, mkdir", "write, delete, mkdir");
    assert_ne!(users, changed);
    std::fs::write(server.directory().join("users.yaml"), changed).unwrap();
    until(Duration::from_secs(20), "the groups are taken up", || {
        let log = server.log().join("\n");
        let done = log.contains("users reloaded");
        done.then_some(()).ok_or(log)
    });
    let (code, mut raw) = log_in(&server, "partner", Hook::PASSWORD);
    assert_eq!(code, 230);
    raw.expect("DELE file", 250);
}
