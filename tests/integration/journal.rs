//! The audit trail and the webhooks: that what they say is true, and that none of it is lost.

use std::{
    collections::BTreeSet,
    fs,
    process::Command,
    time::{Duration, Instant},
};

use base64ct::{Base64, Encoding as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::harness::{
    Raw, Receiver, Request, Server, Store, Version, bytes, on_each_store, run_to_end, sha256, until,
};

on_each_store!(audit_line_of_every_deed_follows_the_schema);

const PATIENCE: Duration = Duration::from_mins(1);
const SECRET: &str = "a key of some length that nobody guesses";

/// The audit trail, once it has so many lines.
#[track_caller]
fn audit(server: &Server, least: usize) -> Vec<Value> {
    until(PATIENCE, "the audit lines are written", || {
        let text = fs::read_to_string(server.directory().join("audit.jsonl")).unwrap_or_default();
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        if lines.len() >= least {
            return Ok(lines);
        }
        Err(text)
    })
}

/// Something of everything; the replies that carry a reference: of the cut upload, of the refusal.
#[track_caller]
fn do_everything(server: &Server, odd: &str, content: &[u8]) -> [String; 2] {
    let mut raw = Raw::explicit(server);
    raw.expect("MKD in", 257);
    raw.store(&format!("STOR {odd}"), content);
    assert_eq!(raw.retrieve(&format!("RETR {odd}")), content);
    raw.expect("RNFR there", 350);
    raw.expect("RNTO in/moved", 250);
    raw.expect("DELE in/moved", 250);
    raw.expect("DELE nothing", 550);
    raw.expect("MKD empty", 257);
    raw.expect("RMD empty", 250);
    // An upload that ends without its proof.
    let mut data = raw.begin_transfer("STOR cut");
    data.write(&bytes(1, 100_000)).unwrap();
    data.send_fin();
    let cut = raw.reply().expect(426).text();
    let mut reader = Raw::explicit_as(server, "reader");
    let denied = reader.expect("MKD new", 550).text();
    let mut stranger = Raw::secured(server, &server.tls(Version::Tls13));
    for user in ["alice", "nobody-has-this-name"] {
        stranger.expect(&format!("USER {user}"), 331);
        stranger.expect("PASS wrong", 530);
    }
    server.api("POST", "/reload", "", 200);
    [cut, denied]
}

/// Validates the file against `docs/audit.schema.json`, which must be one that can say no.
#[track_caller]
fn assert_follows_the_schema(server: &Server, lines: usize) {
    let validate = "import json, sys, jsonschema\n\
        schema = json.load(open(sys.argv[1]))\n\
        jsonschema.Draft202012Validator.check_schema(schema)\n\
        validator = jsonschema.Draft202012Validator(schema)\n\
        lines = open(sys.argv[2]).read().split('\\n')[:-1]\n\
        for line in lines: validator.validate(json.loads(line))\n\
        try: validator.validate({**json.loads(lines[0]), 'other': 1})\n\
        except jsonschema.ValidationError: print('valid', len(lines))\n";
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/audit.schema.json");
    let mut command = Command::new("python3");
    command.args(["-c", validate, schema]);
    command.arg(server.directory().join("audit.jsonl"));
    let (status, output, errors) = run_to_end(command, PATIENCE);
    assert!(status.success(), "{errors}");
    assert_eq!(output.trim(), format!("valid {lines}"));
}

fn audit_line_of_every_deed_follows_the_schema(store: &Store) {
    let content = bytes(7, 9_000_000);
    store.put("alice/there", b"something");
    let server = Server::with(store)
        .set("/audit", json!({"file": "audit.jsonl"}))
        .start();
    // U+202E turns the direction of what follows.
    let odd = "/in/a\u{202e}b ü.bin";
    let [cut, denied] = do_everything(&server, odd, &content);
    let lines = audit(&server, 15);
    let summary = |line: &Value| {
        let keys = ["kind", "outcome", "user", "path", "reason"];
        keys.map(|key| line[key].as_str().unwrap_or("-")).join(" ")
    };
    let seen: Vec<_> = lines.iter().map(summary).collect();
    let expected = [
        "login success alice - -".to_owned(),
        "make_directory success alice /in -".to_owned(),
        format!("upload success alice {odd} -"),
        format!("download success alice {odd} -"),
        "rename success alice /there -".to_owned(),
        "delete success alice /in/moved -".to_owned(),
        "delete failed alice /nothing not_found".to_owned(),
        "make_directory success alice /empty -".to_owned(),
        "remove_directory success alice /empty -".to_owned(),
        "upload failed alice /cut truncated".to_owned(),
        "login success reader - -".to_owned(),
        "denied refused reader /new denied".to_owned(),
        "login refused alice - wrong_proof".to_owned(),
        "login refused - - unknown_user".to_owned(),
        "admin success - - -".to_owned(),
    ];
    assert_eq!(seen, expected, "{lines:#?}");

    let upload = &lines[2];
    for (key, value) in [
        ("sha256", json!(sha256(&content))),
        ("bytes", json!(content.len())),
        ("code", json!(226)),
        ("tls_version", json!("1.3")),
        ("listener", json!("explicit")),
        ("mount", json!("/")),
        ("backend", json!("main")),
        ("key", json!(format!("alice{odd}"))),
        ("verb", json!("STOR")),
    ] {
        assert_eq!(upload[key], value, "{key} of {upload:#}");
    }
    assert_eq!(lines[3]["sha256"], sha256(&content));
    assert_eq!(lines[4]["target"], "/in/moved");
    assert_eq!(lines[4]["target_key"], "alice/in/moved");
    assert_eq!(lines[9]["bytes"], 100_000);
    for (line, reply) in [(&lines[9], cut), (&lines[11], denied)] {
        let reference = line["reference"].as_str().unwrap();
        assert!(reply.contains(reference), "{reply:?} in {line:#}");
    }
    assert_eq!(lines[14]["target"], "/api/v1/reload");
    let text = server.read("audit.jsonl");
    assert!(!text.contains('\u{202e}'), "a hidden character is shown");
    assert!(!text.contains("nobody-has"), "a name may be a password");
    assert_follows_the_schema(&server, lines.len());
}

/// `/dev/full` takes nothing: the line before is still being written, the next one waits, and the one
/// after it finds the queue full.
#[test]
fn disk_that_takes_nothing_stops_no_session() {
    let store = Store::local();
    let server = Server::with(&store)
        .set(
            "/audit",
            json!({"file": "/dev/full", "queue_lines": 1, "when_full": "drop"}),
        )
        .start();
    let begin = Instant::now();
    let mut raw = Raw::explicit(&server);
    for number in 0..20 {
        raw.expect(&format!("MKD {number}"), 257);
    }
    assert!(begin.elapsed() < Duration::from_secs(20));
    until(PATIENCE, "lost lines are counted", || {
        let lost = server.metric("causeway_audit_records_total", &["outcome=\"dropped\""]);
        let tries = server.metric("causeway_audit_records_total", &["outcome=\"retried\""]);
        if lost >= 15.0 && tries >= 1.0 {
            return Ok(());
        }
        Err(format!("{lost} lost, {tries} tries"))
    });
}

fn webhook(receiver: &Receiver, events: &[&str]) -> Value {
    json!({"name": "hook", "url": receiver.url(), "events": events, "secret": SECRET})
}

/// Whether the receiver can tell that an event is ours (standardwebhooks.com).
#[track_caller]
fn assert_signed(request: &Request) {
    let header = |name: &str| request.headers[name].clone();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    mac.update(format!("{id}.{timestamp}.{}", request.body).as_bytes());
    let expected = Base64::encode_string(&mac.finalize().into_bytes());
    assert_eq!(header("webhook-signature"), format!("v1,{expected}"));
    assert_eq!(header("content-type"), "application/cloudevents+json");
    let event: Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!(event["id"], id);
    assert_eq!(event["specversion"], "1.0");
}

#[test]
fn every_uploaded_file_is_told_of_though_receiver_and_server_were_down() {
    let store = Store::local();
    let receiver = Receiver::start(None);
    let spool = tempfile::tempdir().unwrap();
    let mut server = Server::with(&store)
        .set(
            "/events",
            json!({"spool": spool.path(), "webhooks": [webhook(&receiver, &["file.uploaded"])]}),
        )
        .start();
    let mut uploaded = BTreeSet::new();
    for round in 0..3 {
        let mut raw = Raw::explicit(&server);
        for number in 0..5 {
            let name = format!("/file-{round}-{number}");
            raw.store(&format!("STOR {name}"), &bytes(number, 10_000));
            uploaded.insert(name);
        }
        // Neither is a file: one was aborted, one had no end when the server died.
        let mut data = raw.begin_transfer("STOR aborted");
        data.write(b"some").unwrap();
        data.send_fin();
        raw.reply().expect(426);
        let mut data = raw.begin_transfer("STOR unfinished");
        data.write(b"some").unwrap();
        server.crash_and_restart();
    }
    assert!(receiver.requests().is_empty());
    assert!(fs::read_dir(spool.path().join("hook")).unwrap().count() >= 15);
    receiver.answer(Some(503));
    until(PATIENCE, "a refusal is seen", || {
        let refused = server.metric("causeway_events_total", &["outcome=\"retried\""]);
        (refused >= 1.0).then_some(()).ok_or("none".to_owned())
    });
    receiver.answer(Some(204));
    until(PATIENCE, "the spool is empty", || {
        let left = server.metric("causeway_events_spooled", &["webhook=\"hook\""]);
        (left == 0.0).then_some(()).ok_or(format!("{left} left"))
    });
    let requests = receiver.requests();
    let told: BTreeSet<_> = requests
        .iter()
        .map(|request| {
            assert_signed(request);
            let event: Value = serde_json::from_str(&request.body).unwrap();
            assert_eq!(event["type"], "file.uploaded");
            assert_eq!(event["data"]["bytes"], 10_000);
            event["subject"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(told, uploaded);
    let ids: BTreeSet<_> = requests
        .iter()
        .map(|request| request.headers["webhook-id"].clone())
        .collect();
    assert_eq!(ids.len(), uploaded.len(), "an event keeps its id");
}

#[test]
fn webhook_hears_what_it_asked_for_and_what_nobody_takes_is_a_dead_letter() {
    let store = Store::local();
    let (receiver, broken) = (Receiver::start(Some(200)), Receiver::start(Some(500)));
    let all = [
        "file.uploaded",
        "file.downloaded",
        "file.deleted",
        "file.renamed",
        "login.failed",
    ];
    let mut picky = webhook(&receiver, &all);
    picky["name"] = "picky".into();
    picky["paths"] = json!(["/in/*.csv"]);
    picky["users"] = json!(["alice"]);
    let mut lost = webhook(&broken, &["login.failed"]);
    lost["name"] = "lost".into();
    lost["give_up_seconds"] = 1.into();
    let mut watch = webhook(&receiver, &["ban"]);
    watch["name"] = "watch".into();
    let server = Server::with(&store)
        .set("/bans", json!({"failures_per_user": 1}))
        .set(
            "/events",
            json!({"spool": "spool", "webhooks": [picky, lost, watch]}),
        )
        .start();
    let mut raw = Raw::explicit(&server);
    raw.expect("MKD in", 257);
    raw.store("STOR in/a.csv", b"1;2");
    raw.store("STOR in/b.txt", b"no");
    assert_eq!(raw.retrieve("RETR in/a.csv"), b"1;2");
    raw.expect("RNFR in/b.txt", 350);
    raw.expect("RNTO in/b.csv", 250);
    raw.expect("DELE in/a.csv", 250);
    let mut stranger = Raw::secured(&server, &server.tls(Version::Tls13));
    stranger.expect("USER alice", 331);
    stranger.expect("PASS wrong", 530);

    let events = until(PATIENCE, "the events arrive", || {
        let requests = receiver.requests();
        let mut events: Vec<String> = requests
            .iter()
            .map(|request| {
                let event: Value = serde_json::from_str(&request.body).unwrap();
                format!("{} {}", event["type"], event["subject"])
            })
            .collect();
        events.sort();
        (events.len() >= 5)
            .then_some(events.clone())
            .ok_or(format!("{events:?}"))
    });
    let expected = [
        "\"ban\" null",
        "\"file.deleted\" \"/in/a.csv\"",
        "\"file.downloaded\" \"/in/a.csv\"",
        "\"file.renamed\" \"/in/b.txt\"",
        "\"file.uploaded\" \"/in/a.csv\"",
    ];
    assert_eq!(events, expected);
    let dead = until(PATIENCE, "the event is given up", || {
        let path = server.directory().join("spool/lost/dead-letters.jsonl");
        fs::read_to_string(path).map_err(|error| error.to_string())
    });
    let dead: Value = serde_json::from_str(&dead).unwrap();
    assert_eq!(dead["reason"], "status 500");
    assert_eq!(dead["event"]["data"]["user"], "alice");
    // Counted behind the write.
    until(PATIENCE, "the dead letter is counted", || {
        let counted = server.metric("causeway_events_total", &["lost", "outcome=\"dead\""]);
        if (counted - 1.0).abs() < f64::EPSILON {
            return Ok(());
        }
        Err(counted.to_string())
    });
}

#[test]
fn full_spool_refuses_uploads_before_they_begin() {
    let store = Store::local();
    let receiver = Receiver::start(None);
    let hook = webhook(&receiver, &["file.uploaded"]);
    let server = Server::with(&store)
        .set(
            "/events",
            json!({"spool": "spool", "spool_events": 2, "webhooks": [hook]}),
        )
        .start();
    let mut raw = Raw::explicit(&server);
    raw.store("STOR one", b"1");
    raw.store("STOR two", b"2");
    raw.epsv();
    raw.expect("STOR three", 452);
    store.assert_holds(&[("alice/one", b"1"), ("alice/two", b"2")]);
    receiver.answer(Some(200));
    until(PATIENCE, "there is room again", || {
        let left = server.metric("causeway_events_spooled", &["webhook=\"hook\""]);
        (left == 0.0).then_some(()).ok_or(format!("{left} left"))
    });
    raw.store("STOR three", b"3");
}
