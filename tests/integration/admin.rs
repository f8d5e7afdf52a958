//! The operator's side: what it shows of a running server, what it changes, and whom it refuses.

use std::{process::Command, time::Duration};

use serde_json::Value;

use crate::harness::{
    End, Raw, Server, Store, bytes, http, http_get, on_each_store, run_to_end, until,
};

on_each_store!(kicked_session_gets_421_and_its_upload_leaves_nothing);

const TOKEN: &str = "an-admin-token-of-some-length";

/// The only session of a user.
#[track_caller]
pub(crate) fn session_of(server: &Server, user: &str) -> Value {
    let sessions = server.api("GET", "/sessions", "", 200);
    let found: Vec<_> = sessions
        .as_array()
        .unwrap()
        .iter()
        .filter(|session| session["user"] == user)
        .collect();
    assert_eq!(found.len(), 1, "{sessions:#}");
    found[0].clone()
}

fn kicked_session_gets_421_and_its_upload_leaves_nothing(store: &Store) {
    store.put("alice/file", b"old");
    let server = Server::start(store);
    let mut raw = Raw::explicit(&server);
    let mut data = raw.begin_transfer("STOR file");
    data.write(&bytes(3, 9 << 20)).unwrap();
    let transfer = until(Duration::from_secs(20), "the bytes are counted", || {
        let transfers = server.api("GET", "/transfers", "", 200);
        let transfer = transfers[0].clone();
        match transfer["bytes"].as_u64() {
            Some(bytes) if bytes == 9 << 20 => Ok(transfer),
            _ => Err(transfers.to_string()),
        }
    });
    let session = session_of(&server, "alice");
    for (view, key, expected) in [
        (&transfer, "path", "/file"),
        (&transfer, "verb", "STOR"),
        (&transfer, "direction", "upload"),
        (&transfer, "user", "alice"),
        (&session, "tls", "1.3"),
        (&session, "listener", "explicit"),
        (&session, "last_command", "STOR"),
    ] {
        assert_eq!(view[key], expected, "{key} of {view:#}");
    }
    assert_eq!(session["transfer"]["bytes"], 9 << 20);
    let id = session["id"].as_str().unwrap();
    let path = format!("/sessions/{id}");
    assert_eq!(server.api("GET", &path, "", 200)["id"], id);
    assert_eq!(server.api("DELETE", &path, "", 202)["user"], "alice");

    let replies = raw.until_closed(Duration::from_secs(20));
    let codes: Vec<_> = replies.iter().map(|reply| reply.code).collect();
    assert_eq!(codes, [426, 421], "{replies:?}");
    data.wait_closed(Duration::from_secs(10));
    until(Duration::from_secs(10), "the session is gone", || {
        let sessions = server.api("GET", "/sessions", "", 200);
        if sessions == Value::Array(Vec::new()) {
            return Ok(());
        }
        Err(sessions.to_string())
    });
    server.api("DELETE", &path, "", 404);
    store.assert_holds(&[("alice/file", b"old")]);
}

#[test]
fn kicked_session_with_queued_commands_hears_nothing_but_421() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::explicit(&server);
    let mut data = raw.begin_transfer("STOR file");
    data.write(b"some").unwrap();
    raw.send(&b"PWD\r\n".repeat(20)).unwrap();
    let id = session_of(&server, "alice")["id"]
        .as_str()
        .unwrap()
        .to_owned();
    server.api("DELETE", &format!("/sessions/{id}"), "", 202);
    let replies = raw.until_closed(Duration::from_secs(20));
    let codes: Vec<_> = replies.iter().map(|reply| reply.code).collect();
    assert_eq!(codes, [426, 421], "{replies:?}");
}

#[test]
fn failed_command_has_one_reference_in_reply_log_and_api() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/timeouts/data_connect_seconds", 1)
        .start();
    let mut raw = Raw::explicit(&server);
    raw.expect("EPSV", 229);
    raw.expect("STOR file", 150);
    let timed_out = raw.reply().expect(425).text();
    let mut reader = Raw::explicit_as(&server, "reader");
    let denied = reader.expect("MKD new", 550).text();
    // An ordinary answer has none: clients compare these.
    assert_eq!(
        raw.expect("SIZE nothing", 550).text(),
        "550 No such file or directory"
    );

    let failures = server.api("GET", "/failures", "", 200);
    let log = server.log();
    for (index, (reply, verb, path, code, user)) in [
        (&denied, "MKD", "/new", 550, "reader"),
        (&timed_out, "STOR", "/file", 425, "alice"),
    ]
    .into_iter()
    .enumerate()
    {
        let reference = reply
            .split("(ref ")
            .nth(1)
            .and_then(|rest| rest.strip_suffix(')'))
            .unwrap_or_else(|| panic!("no reference in {reply:?}"));
        assert_eq!(reference.len(), 6, "{reply}");
        let failure = &failures[index];
        assert_eq!(failure["reference"], reference, "{failures:#}");
        assert_eq!(failure["verb"], verb);
        assert_eq!(failure["path"], path);
        assert_eq!(failure["code"], code);
        assert_eq!(failure["user"], user);
        let lines: Vec<_> = log.iter().filter(|line| line.contains(reference)).collect();
        assert_eq!(lines.len(), 1, "log lines with {reference}: {lines:?}");
        let line: Value = serde_json::from_str(lines[0]).unwrap();
        assert_eq!(line["span"]["session"], failure["session"], "{line:#}");
    }
}

#[test]
fn token_is_asked_for_everywhere_but_at_the_probes() {
    let store = Store::local();
    let server = Server::with(&store).set("/admin/token", TOKEN).start();
    let ask = |method: &str, path: &str, headers: &[(&str, &str)]| {
        http(server.admin, method, path, headers, "").0
    };
    let bearer = format!("Bearer {TOKEN}");
    let wrong = format!("Bearer {TOKEN}x");
    for (path, open) in [
        ("/livez", true),
        ("/readyz", true),
        ("/readyz?verbose", false),
        ("/metrics", false),
        ("/api/v1/sessions", false),
        ("/api/v1/openapi.json", false),
        ("/api/v1/nothing", false),
    ] {
        assert_eq!(
            ask("GET", path, &[]),
            if open { 200 } else { 401 },
            "{path}"
        );
        for header in [wrong.as_str(), "Bearer", "Bearer ", "Basic YTpi", TOKEN] {
            let expected = if open { 200 } else { 401 };
            assert_eq!(
                ask("GET", path, &[("Authorization", header)]),
                expected,
                "{path} {header}"
            );
        }
        let expected = if path.ends_with("nothing") { 404 } else { 200 };
        assert_eq!(
            ask("GET", path, &[("authorization", &bearer)]),
            expected,
            "{path}"
        );
    }
    // A token in the address ends up in logs: it is not read there.
    assert_eq!(
        ask("GET", &format!("/api/v1/sessions?token={TOKEN}"), &[]),
        401
    );
    assert_eq!(ask("POST", "/api/v1/drain", &[]), 401);
    assert_eq!(
        ask(
            "DELETE",
            "/api/v1/sessions/1",
            &[("Authorization", &bearer)]
        ),
        404
    );
    let log = server.log().join("\n");
    assert!(!log.contains(TOKEN), "the log shows the token");
}

#[test]
fn metrics_may_be_open_while_the_rest_is_not() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/admin/token", TOKEN)
        .set("/admin/metrics", "open")
        .start();
    assert_eq!(http_get(server.admin, "/metrics").0, 200);
    assert_eq!(http_get(server.admin, "/api/v1/status").0, 401);
}

#[test]
fn page_of_another_site_can_neither_read_nor_change_without_a_token() {
    let store = Store::local();
    let server = Server::start(&store);
    let ask = |method: &str, path: &str, headers: &[(&str, &str)]| {
        http(server.admin, method, path, headers, "").0
    };
    // A DNS name that was rebound to 127.0.0.1.
    for host in [
        "evil.example",
        "evil.example:9090",
        "127.0.0.1.evil.example",
    ] {
        assert_eq!(
            ask("GET", "/api/v1/sessions", &[("Host", host)]),
            403,
            "{host}"
        );
        assert_eq!(ask("GET", "/metrics", &[("Host", host)]), 403, "{host}");
    }
    assert_eq!(
        ask("GET", "/api/v1/sessions", &[("Host", "localhost:1")]),
        200
    );
    // What a form of another site can send: no header of its own making.
    let form = [
        ("Content-Type", "text/plain"),
        ("Origin", "https://evil.example"),
    ];
    assert_eq!(ask("POST", "/api/v1/drain", &form), 403);
    assert_eq!(ask("DELETE", "/api/v1/sessions/1", &form), 403);
    // The question a browser asks before it sends such a header is not answered with leave.
    let preflight = [
        ("Origin", "https://evil.example"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "x-causeway-request"),
    ];
    let (status, answer) = http(server.admin, "OPTIONS", "/api/v1/drain", &preflight, "");
    assert_eq!(status, 405, "{answer}");
}

#[test]
fn odd_requests_get_clear_answers() {
    let store = Store::local();
    let server = Server::start(&store);
    for (body, part) in [
        ("{\"deadline\": 1}", "unknown field"),
        ("{\"deadline_seconds\": -1}", "deadline_seconds"),
        ("{\"deadline_seconds\": 100000000}", "at most"),
        ("[", "expected"),
    ] {
        let answer = server.api("POST", "/drain", body, 400);
        assert!(
            answer["error"].as_str().unwrap().contains(part),
            "{body}: {answer}"
        );
    }
    let large = "x".repeat(100_000);
    let headers = [("x-causeway-request", "1")];
    assert_eq!(
        http(server.admin, "POST", "/api/v1/drain", &headers, &large).0,
        413
    );
    server.api("GET", "/nothing", "", 404);
    assert_eq!(server.api("GET", "/status", "", 200)["state"], "serving");
    assert_eq!(
        server.api("GET", "/openapi.json", "", 200)["openapi"]
            .as_str()
            .map(|v| &v[..2]),
        Some("3.")
    );
    let (status, config) = http_get(server.admin, "/api/v1/config");
    assert_eq!(status, 200);
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(
        config["auth"]["sources"],
        serde_json::json!(["users"]),
        "{config:#}"
    );
    let (status, ready) = http_get(server.admin, "/readyz?verbose");
    assert_eq!(status, 200);
    assert!(
        ready.contains("[+] listener explicit: accepts on 127.0.0.1"),
        "{ready}"
    );
    assert!(ready.contains("[+] certificate explicit"), "{ready}");
    assert!(ready.ends_with("\nready\n"), "{ready}");
}

#[test]
fn admin_side_speaks_tls_with_a_certificate_of_its_own() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/admin/token", TOKEN)
        .set(
            "/admin/tls",
            serde_json::json!({"certificate_file": "cert.pem", "key_file": "key.pem"}),
        )
        .start();
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "20", "--cacert"])
        .arg(server.authority_file())
        .args(["-H", &format!("Authorization: Bearer {TOKEN}")])
        .arg(format!(
            "https://localhost:{}/api/v1/status",
            server.admin.port()
        ));
    let (status, stdout, stderr) = run_to_end(curl, Duration::from_secs(30));
    assert!(status.success(), "{stderr}");
    let answer: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(answer["state"], "serving");
}

#[test]
fn drain_by_api_lets_a_running_upload_finish() {
    let store = Store::local();
    let mut server = Server::start(&store);
    let mut raw = Raw::explicit(&server);
    let mut data = raw.begin_transfer("STOR file");
    data.write(b"first ").unwrap();
    server.api("POST", "/drain", "{\"deadline_seconds\": 50}", 202);
    until(Duration::from_secs(10), "the server is not ready", || {
        let (status, text) = http_get(server.admin, "/readyz");
        if status == 503 { Ok(()) } else { Err(text) }
    });
    assert_eq!(server.api("GET", "/status", "", 200)["state"], "draining");
    data.write(b"second").unwrap();
    assert_eq!(data.finish(), End::CloseNotify);
    raw.reply().expect(226);
    assert_eq!(server.wait(Duration::from_secs(20)).code(), Some(0));
    store.assert_holds(&[("alice/file", b"first second")]);
}

#[test]
fn drain_asked_for_again_ends_at_the_new_deadline() {
    let store = Store::local();
    let mut server = Server::start(&store);
    let mut raw = Raw::explicit(&server);
    let mut data = raw.begin_transfer("STOR file");
    data.write(b"first ").unwrap();
    server.api("POST", "/drain", "", 202);
    server.api("POST", "/drain", "{\"deadline_seconds\": 0}", 202);
    assert_eq!(server.wait(Duration::from_secs(20)).code(), Some(0));
    store.assert_holds(&[]);
}

/// A port that the system has chosen is shown as what it is.
#[test]
fn readiness_and_page_show_the_ports_that_are_bound() {
    let store = Store::local();
    let server = Server::start(&store);
    let bound = format!("accepts on {}", server.explicit);
    let (_, verbose) = http_get(server.admin, "/readyz?verbose");
    let (_, page) = http_get(server.admin, "/");
    let readiness = server.api("GET", "/readiness", "", 200).to_string();
    for text in [verbose, page, readiness] {
        assert!(text.contains(&bound), "{text}");
        assert!(!text.contains("127.0.0.1:0"), "{text}");
    }
}

#[test]
fn ban_that_would_mean_nothing_is_refused() {
    let store = Store::local();
    let server = Server::start(&store);
    for (subject, status) in [
        ("address:127.0.0.1", 409),
        ("address:::ffff:127.0.0.1", 409),
        ("network:127.0.0.0/24", 409),
        ("network:::ffff:127.0.0.0/120", 409),
        ("network:0.0.0.0/0", 201),
        ("address:192.0.2.1", 201),
    ] {
        let ban = serde_json::json!({"subject": subject, "seconds": 60}).to_string();
        let answer = server.api("POST", "/bans", &ban, status);
        if status == 409 {
            assert!(
                answer["error"].to_string().contains("safe network"),
                "{answer}"
            );
        }
    }
}
