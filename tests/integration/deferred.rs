//! Temporary names on S3 (`deferred`): received, seen by their users, and completed only by the rename.

use std::{collections::BTreeSet, fs, time::Duration};

use serde_json::{Value, json};

use crate::harness::{Builder, FaultyGateway, Raw, Receiver, Server, Store, bytes, until};

const PATIENCE: Duration = Duration::from_secs(30);
/// More than one part.
const LONG: usize = 9 << 20;

fn deferring(store: &Store, more: &[(&str, Value)]) -> Builder {
    let mut deferred = json!({"names": ["*.filepart", ".in.*"]});
    for (key, value) in more {
        deferred[key] = value.clone();
    }
    Server::with(store).set("/backends/main/deferred", deferred)
}

fn rename(raw: &mut Raw, from: &str, to: &str) {
    raw.expect(&format!("RNFR {from}"), 350);
    raw.expect(&format!("RNTO {to}"), 250);
}

fn size(raw: &mut Raw, name: &str) -> Option<usize> {
    let reply = raw.command(&format!("SIZE {name}"));
    (reply.code == 213).then(|| reply.text()[4..].trim().parse().unwrap())
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// What `WinSCP` and others do: upload, look, rename. One request makes the object, none copies.
#[test]
fn a_renamed_upload_is_one_object_and_no_copy() {
    let store = Store::s3();
    let gateway = FaultyGateway::start(&store.endpoint(), 0, 1);
    let server = deferring(&store, &[])
        .set("/backends/main/endpoint", gateway.endpoint.as_str())
        .start();
    let mut raw = Raw::explicit(&server);
    raw.expect("MKD d", 257);
    let mut expected = Vec::new();
    for (number, length) in [1, 100_000, LONG, 17 << 20].into_iter().enumerate() {
        let content = bytes(number as u64, length);
        let (temporary, name) = if number % 2 == 0 {
            (format!("d/f{number}.filepart"), format!("d/f{number}"))
        } else {
            (format!("d/.in.f{number}"), format!("d/f{number}"))
        };
        raw.store(&format!("STOR {temporary}"), &content);
        assert!(!store.visible().contains(&format!("alice/{temporary}")));
        assert_eq!(size(&mut raw, &temporary), Some(length));
        assert_eq!(size(&mut raw, &name), None);
        raw.expect(&format!("MLST {temporary}"), 250);
        raw.expect(&format!("MDTM {temporary}"), 213);
        assert!(raw.names("NLST d").contains(&temporary), "{temporary}");
        let listed = String::from_utf8(raw.retrieve("MLSD d")).unwrap();
        let row = format!("size={length};");
        assert!(listed.lines().any(|line| line.contains(&row)), "{listed}");
        raw.expect("RMD d", 550);
        raw.expect(&format!("MKD {temporary}"), 550);

        rename(&mut raw, &temporary, &name);
        assert_eq!(size(&mut raw, &temporary), None);
        assert_eq!(size(&mut raw, &name), Some(length));
        let made = |key: &str| {
            let requests = gateway.requests_for(key);
            let makes = |verb: &&String| matches!(verb.as_str(), "PUT" | "POST uploadId");
            requests.iter().filter(makes).count()
        };
        assert_eq!((made(&name), made(&temporary)), (1, 0), "{name}");
        expected.push((format!("alice/{name}"), content));
    }
    assert_eq!(gateway.copies(), 0);
    // Markers of directories count as such.
    let expected: Vec<_> = expected
        .iter()
        .map(|(name, content)| (name.as_str(), content.as_slice()))
        .collect();
    store.assert_holds(&expected);
    // An empty file is nothing to wait with, and another name none to wait for.
    raw.store("STOR empty.filepart", b"");
    raw.store("STOR plain", b"plain");
    assert!(
        store
            .visible()
            .is_superset(&names(&["alice/empty.filepart", "alice/plain"]))
    );
    rename(&mut raw, "empty.filepart", "empty");
    assert_eq!(store.bytes("alice/empty").as_deref(), Some(&b""[..]));
}

/// After 226 a crash loses nothing, whoever goes on: the same server, another one, or nobody.
#[test]
fn a_crash_after_226_loses_nothing() {
    let store = Store::s3();
    let mut server = deferring(&store, &[]).start();
    let other = deferring(&store, &[]).start();
    let mut brief = deferring(&store, &[("commit_after_seconds", json!(2))]).start();
    let (short, long) = (bytes(1, 1000), bytes(2, LONG));
    let mut raw = Raw::explicit(&server);
    raw.store("STOR a.filepart", &short);
    raw.store("STOR b.filepart", &long);
    assert!(store.visible().is_empty());
    server.crash_and_restart();
    let mut raw = Raw::explicit(&server);
    assert_eq!(size(&mut raw, "a.filepart"), Some(short.len()));
    rename(&mut raw, "a.filepart", "a");
    let mut second = Raw::explicit(&other);
    assert_eq!(size(&mut second, "b.filepart"), Some(LONG));
    assert_eq!(second.names("NLST"), ["a", "b.filepart"]);
    rename(&mut second, "b.filepart", "b");
    assert_eq!(size(&mut raw, "b.filepart"), None);
    // The third is received by one that does not come back, and committed under its temporary name by another
    // once its time is up.
    Raw::explicit(&brief).store("STOR c.filepart", &long);
    brief.kill();
    let mut impatient = deferring(&store, &[("commit_after_seconds", json!(1))]).start();
    until(PATIENCE, "the time is up", || {
        let visible = store.visible();
        if visible.contains("alice/c.filepart") {
            Ok(())
        } else {
            Err(format!("{visible:?}"))
        }
    });
    store.assert_holds(&[
        ("alice/a", &short),
        ("alice/b", &long),
        ("alice/c.filepart", &long),
    ]);
    // From here on it is a file like any other.
    rename(&mut raw, "c.filepart", "c");
    assert_eq!(store.bytes("alice/c").as_ref(), Some(&long));
    impatient.terminate();
    assert!(impatient.wait(PATIENCE).success());
}

/// While replicas are replaced, some have other settings, or none. What waits is left alone by them until it
/// has waited as long as the one that received it would have let it.
#[test]
fn others_with_other_settings_leave_alone_what_waits() {
    let store = Store::s3();
    let server = deferring(&store, &[]).start();
    let sweeping = json!({"sweep_seconds": 1});
    let without = Server::with(&store).set("/uploads", sweeping.clone());
    let without = without.start();
    let hasty = deferring(&store, &[("commit_after_seconds", json!(1))]);
    let hasty = hasty.set("/uploads", sweeping).start();
    let mut raw = Raw::explicit(&server);
    let content = bytes(1, 1_000);
    raw.store("STOR a.filepart", &content);
    // Each look of a sweep at the bucket lists the area. Both have seen the record when they have looked twice.
    let sweeps = |server: &Server| {
        let labels = ["main", "sweep", "ok"];
        server.metric("causeway_store_operations_total", &labels)
    };
    let before = [sweeps(&without), sweeps(&hasty)];
    until(PATIENCE, "others look twice", || {
        let now = [sweeps(&without), sweeps(&hasty)];
        let twice = (0..2).all(|at| now[at] - before[at] > 1.5);
        twice.then_some(()).ok_or(format!("{before:?} {now:?}"))
    });
    assert!(store.visible().is_empty(), "{:?}", store.visible());
    rename(&mut raw, "a.filepart", "a");
    store.assert_holds(&[("alice/a", &content)]);
}

/// Everything that may happen instead of the rename that was expected.
#[test]
fn what_waits_is_a_file_to_its_user() {
    let store = Store::s3();
    let server = deferring(&store, &[]).start();
    let mut raw = Raw::explicit(&server);
    let (old, new) = (bytes(3, 5000), bytes(4, LONG));

    raw.store("STOR dropped.filepart", &old);
    raw.expect("DELE dropped.filepart", 250);
    assert_eq!(size(&mut raw, "dropped.filepart"), None);
    raw.expect("DELE dropped.filepart", 550);
    store.assert_holds(&[]);

    raw.store("STOR again.filepart", &new);
    raw.store("STOR again.filepart", &old);
    assert_eq!(size(&mut raw, "again.filepart"), Some(old.len()));
    rename(&mut raw, "again.filepart", "again");
    store.assert_holds(&[("alice/again", &old)]);

    // Over what is there, and to a name that nobody expected.
    raw.store("STOR again.filepart", &new);
    assert_eq!(store.bytes("alice/again").as_ref(), Some(&old));
    rename(&mut raw, "again.filepart", "again");
    raw.store("STOR other.filepart", &old);
    rename(&mut raw, "other.filepart", "elsewhere");
    store.assert_holds(&[("alice/again", &new), ("alice/elsewhere", &old)]);

    // To read it, or to add to it, is to need it whole.
    raw.store("STOR read.filepart", &old);
    assert_eq!(raw.retrieve("RETR read.filepart"), old);
    raw.store("STOR more.filepart", &old);
    raw.store("APPE more.filepart", b"more");
    let more = [&old[..], b"more"].concat();
    store.assert_holds(&[
        ("alice/again", &new),
        ("alice/elsewhere", &old),
        ("alice/more.filepart", &more),
        ("alice/read.filepart", &old),
    ]);

    // A file in the place of one that was committed, and a rename onto one that waits.
    raw.store("STOR read.filepart", &new);
    rename(&mut raw, "read.filepart", "read");
    raw.store("STOR target.filepart", &old);
    rename(&mut raw, "read", "target.filepart");
    assert_eq!(size(&mut raw, "target.filepart"), Some(LONG));
    for name in ["again", "elsewhere", "more.filepart"] {
        raw.expect(&format!("DELE {name}"), 250);
    }
    store.assert_holds(&[("alice/target.filepart", &new)]);

    // An upload that does not end leaves nothing.
    let mut data = raw.begin_transfer("STOR cut.filepart");
    data.write(&new).unwrap();
    data.send_fin();
    raw.reply().expect_any(&[426, 451]);
    store.assert_holds(&[("alice/target.filepart", &new)]);
}

/// What goes beyond a bound is committed as it comes; a server that stops commits what waits.
#[test]
fn bounds_hold_and_a_stop_leaves_nothing_waiting() {
    let store = Store::s3();
    let mut server = deferring(
        &store,
        &[
            ("uploads", json!(2)),
            ("size_bytes", json!(LONG)),
            ("commit_after_seconds", json!(20)),
        ],
    )
    .start();
    let mut raw = Raw::explicit(&server);
    let (short, long) = (bytes(5, 100), bytes(6, LONG));
    raw.store("STOR large.filepart", &bytes(6, LONG + 1));
    assert_eq!(store.visible(), names(&["alice/large.filepart"]));
    raw.expect("DELE large.filepart", 250);
    raw.store("STOR a.filepart", &short);
    raw.store("STOR b.filepart", &short);
    raw.store("STOR c.filepart", &long);
    assert_eq!(store.visible(), names(&["alice/c.filepart"]));
    rename(&mut raw, "a.filepart", "a");
    raw.store("STOR d.filepart", &short);
    assert_eq!(store.visible(), names(&["alice/a", "alice/c.filepart"]));
    until(PATIENCE, "the metrics say so", || {
        let number = |name| server.metric(name, &["main"]);
        let found = (
            number("causeway_uploads_deferred"),
            number("causeway_uploads_deferred_size_bytes"),
        );
        if found == (2.0, 200.0) {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    });
    server.terminate();
    assert!(server.wait(PATIENCE).success());
    store.assert_holds(&[
        ("alice/a", &short),
        ("alice/b.filepart", &short),
        ("alice/c.filepart", &long),
        ("alice/d.filepart", &short),
    ]);
}

/// Counted once, from the 226 on; what is interrupted is gone on with under its own name.
#[test]
fn quotas_and_resuming_know_of_what_waits() {
    let store = Store::s3();
    let hash = crate::harness::password_hash();
    let server = deferring(&store, &[])
        .set("/uploads", json!({"resume": "on"}))
        .user(&format!(
            "{{name: bob, password_hash: \"{hash}\", home: bob, quota: {{bytes: 20000}}}}"
        ))
        .start();
    let mut bob = Raw::explicit_as(&server, "bob");
    bob.store("STOR one.filepart", &bytes(7, 15_000));
    let refused = |bob: &mut Raw| {
        let mut data = bob.begin_transfer("STOR two");
        data.write(&bytes(8, 6000)).unwrap();
        data.finish();
        bob.reply().expect(552);
    };
    refused(&mut bob);
    rename(&mut bob, "one.filepart", "one");
    refused(&mut bob);
    bob.store("STOR three", &bytes(9, 4000));

    let mut raw = Raw::explicit(&server);
    let content = bytes(10, LONG);
    let mut data = raw.begin_transfer("STOR cut.filepart");
    data.write(&content[..8_500_000]).unwrap();
    data.send_fin();
    raw.reply().expect_any(&[426, 451]);
    let kept = until(PATIENCE, "it is kept", || {
        size(&mut raw, "cut.filepart").ok_or_else(|| "nothing".to_owned())
    });
    raw.expect(&format!("REST {kept}"), 350);
    raw.store("STOR cut.filepart", &content[kept..]);
    rename(&mut raw, "cut.filepart", "cut");
    store.assert_holds(&[
        ("alice/cut", &content),
        ("bob/one", &bytes(7, 15_000)),
        ("bob/three", &bytes(9, 4000)),
    ]);
}

/// One request of ten fails: what was acknowledged is there, under one name and whole.
#[test]
fn a_failing_store_loses_nothing_that_waits() {
    let store = Store::s3();
    let gateway = FaultyGateway::start(&store.endpoint(), 100, 11);
    let server = deferring(&store, &[("commit_after_seconds", json!(2))])
        .set("/backends/main/endpoint", gateway.endpoint.as_str())
        .set("/timeouts/store_seconds", 20)
        .set("/timeouts/commit_seconds", 60)
        .start();
    let mut raw = Raw::explicit(&server);
    raw.be_patient();
    let mut acknowledged = Vec::new();
    for number in 0..24_u64 {
        let length = if number % 8 == 0 { LONG } else { 3000 };
        let (content, name) = (bytes(number, length), format!("f{number}"));
        let mut data = raw.begin_transfer(&format!("STOR {name}.filepart"));
        if data.write(&content).is_ok() {
            data.finish();
        }
        if raw.reply().code != 226 {
            continue;
        }
        // Every third is left to the time.
        let renamed = number % 3 > 0
            && raw.command(&format!("RNFR {name}.filepart")).code == 350
            && raw.command(&format!("RNTO {name}")).code == 250;
        acknowledged.push((name, content, renamed));
    }
    gateway.set(0);
    println!(
        "{} acknowledged, {:?}",
        acknowledged.len(),
        gateway.faults()
    );
    assert!(acknowledged.len() > 12);
    for (name, content, renamed) in &acknowledged {
        let (last, first) = (format!("alice/{name}"), format!("alice/{name}.filepart"));
        let found = until(Duration::from_mins(1), "it is there", || {
            let visible = store.visible();
            match (visible.contains(&last), visible.contains(&first)) {
                (true, false) => Ok(&last),
                (false, true) => Ok(&first),
                other => Err(format!("{name}: {other:?}")),
            }
        });
        if *renamed {
            assert_eq!(found, &last);
        }
        assert!(
            store.bytes(found).as_ref() == Some(content),
            "{found} differs"
        );
    }
    until(PATIENCE, "no record is left", || {
        let (all, visible) = (store.files(), store.visible());
        if all == visible {
            Ok(())
        } else {
            Err(format!("{all:?}"))
        }
    });
}

/// One event when the file appears, with the name that it then has; the audit trail has the commands too.
#[test]
fn a_file_is_told_of_when_it_appears() {
    let store = Store::s3();
    let receiver = Receiver::start(Some(204));
    let spool = tempfile::tempdir().unwrap();
    let events = ["file.uploaded", "file.renamed", "file.deleted"];
    let hook = json!({"name": "hook", "url": receiver.url(), "events": events, "concurrency": 1});
    let mut server = deferring(&store, &[])
        .set(
            "/events",
            json!({"spool": spool.path(), "webhooks": [hook]}),
        )
        .start();
    let mut raw = Raw::explicit(&server);
    for name in ["a", "b", "c", "d"] {
        raw.store(&format!("STOR {name}.filepart"), &bytes(1, 1000));
    }
    rename(&mut raw, "a.filepart", "a");
    rename(&mut raw, "b.filepart", "other");
    raw.expect("DELE c.filepart", 250);
    server.terminate();
    assert!(server.wait(PATIENCE).success());
    // What a stop left in the spool comes with the next start.
    server = deferring(&store, &[])
        .set(
            "/events",
            json!({"spool": spool.path(), "webhooks": [{
                "name": "hook", "url": receiver.url(), "events": events, "concurrency": 1,
            }]}),
        )
        .start();
    let told = until(PATIENCE, "everything is told", || {
        let requests = receiver.requests();
        let told: Vec<String> = requests
            .iter()
            .map(|request| {
                let event: Value = serde_json::from_str(&request.body).unwrap();
                let [kind, subject] = ["type", "subject"].map(|key| event[key].as_str().unwrap());
                format!("{kind} {subject}")
            })
            .collect();
        if told.len() >= 5 {
            Ok(told)
        } else {
            Err(format!("{told:?}"))
        }
    });
    assert_eq!(
        told,
        [
            "file.uploaded /a",
            "file.uploaded /b.filepart",
            "file.renamed /b.filepart",
            "file.deleted /c.filepart",
            "file.uploaded /d.filepart",
        ]
    );
    let _ = server;
}

/// Every deed with what came of it: `deferred` of what waits and of what ends that.
#[test]
fn the_audit_trail_says_what_waits_and_what_appeared() {
    let store = Store::s3();
    let server = deferring(&store, &[])
        .set("/audit", json!({"file": "audit.jsonl"}))
        .start();
    let mut raw = Raw::explicit(&server);
    raw.store("STOR a.filepart", &bytes(1, 1000));
    rename(&mut raw, "a.filepart", "a");
    let lines = until(PATIENCE, "the lines are written", || {
        let text = fs::read_to_string(server.directory().join("audit.jsonl")).unwrap_or_default();
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        if lines.len() >= 4 {
            Ok(lines)
        } else {
            Err(text)
        }
    });
    let seen: Vec<_> = lines
        .iter()
        .map(|line| {
            let words =
                ["kind", "verb", "path", "key"].map(|key| line[key].as_str().unwrap_or("-"));
            format!("{} {}", words.join(" "), line["deferred"])
        })
        .collect();
    assert_eq!(
        seen,
        [
            "login - - - null",
            "upload STOR /a.filepart alice/a.filepart true",
            "upload RNTO /a alice/a null",
            "rename RNTO /a.filepart alice/a.filepart true",
        ]
    );
    let (first, appeared) = (&lines[1], &lines[2]);
    for key in ["user", "session", "bytes", "sha256", "mount", "backend"] {
        assert_eq!(first[key], appeared[key], "{key}");
        assert!(!first[key].is_null(), "{key}");
    }
}
