//! The log, changed while the server runs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{PASSWORD, Raw, Receiver, Server, Store, Version, until};

const PATIENCE: Duration = Duration::from_secs(30);

/// The first line with this text.
#[track_caller]
fn line(server: &Server, text: &str) -> String {
    until(PATIENCE, text, || {
        let log = server.log();
        let found = log.iter().find(|line| line.contains(text)).cloned();
        found.ok_or_else(|| log.join("\n"))
    })
}

fn say(server: &Server, change: &Value) -> Value {
    server.api("PUT", "/log", &change.to_string(), 200)
}

#[test]
fn form_and_filter_change_under_running_sessions() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/audit", json!({"file": "audit.jsonl"}))
        .start();
    let before = server.api("GET", "/log", "", 200);
    assert_eq!(
        before,
        json!({"filter": "debug", "format": "json", "configured": true, "until": null})
    );
    // It began under one form and is told of in all of them.
    let mut raw = Raw::explicit(&server);
    let session = crate::admin::session_of(&server, "alice");
    let id = session["id"].as_str().unwrap();
    let changed = say(&server, &json!({"filter": "info", "format": "compact"}));
    assert_eq!(changed["configured"], false);
    raw.expect("MKD compact", 257);
    let text = line(&server, "path=\"/compact\"");
    assert!(
        text.contains("INFO") && text.contains("directory made"),
        "{text}"
    );
    assert!(text.contains(id) && text.contains("alice"), "{text}");

    // What is not said is as configured.
    say(&server, &json!({"format": "pretty"}));
    raw.expect("MKD pretty", 257);
    line(&server, "/pretty");
    let log = server.log();
    let at = log
        .iter()
        .position(|line| line.contains("/pretty"))
        .unwrap();
    let around = log[at..].join("\n");
    assert!(around.contains(id), "{around}");

    say(&server, &json!({"filter": "warn"}));
    raw.expect("MKD unheard", 257);
    let directives = "warn,causeway::edge=info";
    let changed = say(&server, &json!({"filter": directives, "format": "json"}));
    assert_eq!(changed["filter"], directives);
    raw.expect("MKD heard", 257);
    let told: Value = serde_json::from_str(&line(&server, "/heard")).unwrap();
    assert_eq!(told["span"]["session"], id);
    assert_eq!(told["span"]["user"], "alice");
    assert!(!server.log().join("\n").contains("/unheard"));

    assert_eq!(server.api("DELETE", "/log", "", 200), before);
    // For a while.
    let changed = say(&server, &json!({"filter": "error", "seconds": 1}));
    assert!(changed["until"].is_string(), "{changed}");
    until(PATIENCE, "it is as configured again", || {
        let now = server.api("GET", "/log", "", 200);
        (now == before).then_some(()).ok_or(now.to_string())
    });
    let records = server.read("audit.jsonl");
    let acts: Vec<Value> = records
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|record: &Value| record["target"] == "/api/v1/log")
        .collect();
    assert_eq!(acts.len(), 6, "{records}");
    assert_eq!(acts[0]["detail"], "info, compact");
    assert_eq!(acts[4]["verb"], "DELETE");
}

#[test]
fn wrong_filters_and_forms_change_nothing_and_say_why() {
    let store = Store::local();
    let server = Server::start(&store);
    let before = server.api("GET", "/log", "", 200);
    for (change, why) in [
        (json!({}), "expected filter, format or both"),
        (
            json!({"filter": "causeway=loud"}),
            "filter: expected a level",
        ),
        (json!({"filter": "info\nx"}), "control characters"),
        (
            json!({"format": "xml"}),
            "format: expected compact, pretty or json",
        ),
        (
            json!({"filter": "info", "seconds": 0}),
            "seconds: expected 1 to",
        ),
        (json!({"level": "info"}), "unknown field"),
    ] {
        let answer = server.api("PUT", "/log", &change.to_string(), 400);
        let error = answer["error"].as_str().unwrap();
        assert!(error.contains(why), "{error}");
    }
    assert_eq!(server.api("GET", "/log", "", 200), before);
}

/// libunftp's own lines carry raw arguments: no filter shows them, and nothing shows a password.
#[test]
fn no_filter_brings_secrets_into_the_log() {
    let store = Store::local();
    let server = Server::start(&store);
    let loud = "trace,libunftp=trace,libunftp::server=trace,slog_stdlog=trace,unftp_core=trace";
    say(&server, &json!({"filter": loud}));
    let mut raw = Raw::secured(&server, &server.tls(Version::Tls13));
    raw.expect("USER alice", 331);
    raw.expect(&format!("PASS {PASSWORD}"), 230);
    raw.expect("MKD last", 257);
    line(&server, "/last");
    for line in server.log() {
        assert!(!line.contains(PASSWORD), "{line}");
        let value: Value = serde_json::from_str(&line).unwrap();
        let target = value["target"].as_str().unwrap();
        assert!(!target.contains("unftp"), "{line}");
    }
}

#[test]
fn reload_takes_up_the_log() {
    let store = Store::local();
    let server = Server::start(&store);
    server.configure(|config| {
        config["log"] =
            json!({"level": "warn", "filter": "causeway::edge=debug", "format": "compact"});
    });
    let answer = server.api("POST", "/reload", "", 200);
    // It may have noticed the change by itself meanwhile.
    let changed = answer["changed"].as_array().unwrap();
    assert!(changed.is_empty() || *changed == [json!("log")], "{answer}");
    let now = server.api("GET", "/log", "", 200);
    assert_eq!(now["filter"], "warn,causeway::edge=debug");
    assert_eq!(now["format"], "compact");
    Raw::explicit(&server).expect("MKD compact", 257);
    let text = line(&server, "path=\"/compact\"");
    assert!(!text.starts_with('{'), "{text}");
}

/// The second driver of GCS speaks to Google's token service by a library that logs what it sends and gets.
#[test]
fn credentials_of_a_bucket_are_never_in_the_log() {
    let store = Store::local();
    // Stands for the token service; that its answer is none is no matter.
    let google = Receiver::start(Some(200));
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let account = json!({
        "type": "service_account", "project_id": "p", "private_key_id": "id",
        "private_key": key.serialize_pem(), "client_email": "ftp@p.example", "client_id": "1",
        "auth_uri": google.url(), "token_uri": google.url(),
    });
    let server = Server::with(&store)
        .file("account.json", &account.to_string())
        .set(
            "/backends/main",
            json!({
                "type": "gcs", "bucket": "b", "driver": "unftp-sbe-gcs",
                "endpoint": google.url().trim_end_matches("/hook"), "credentials_file": "account.json",
            }),
        )
        .set("/timeouts/store_seconds", 5)
        .set("/log/level", "trace")
        .start();
    Raw::explicit(&server).expect("QUIT", 221);
    let asked = until(PATIENCE, "a token is asked for", || {
        let requests = google.requests();
        let asked = requests
            .iter()
            .find(|request| request.body.contains("assertion="));
        asked.cloned().ok_or(format!("{requests:?}"))
    });
    let (_, assertion) = asked.body.split_once("assertion=").unwrap();
    let log = server.log().join("\n");
    assert!(!log.contains(assertion), "{log}");
    assert!(!log.contains("PRIVATE KEY"), "{log}");
}
