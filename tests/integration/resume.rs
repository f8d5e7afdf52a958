//! Interrupted uploads (`uploads.resume: on`): what is kept, for whom, and how it ends.

use std::{fs, process::Command, time::Duration};

use crate::harness::{
    Builder, Curl, Lftp, Link, Mode, Raw, Relay, Server, Store, Version, bytes, on_each_store,
    run_to_end, same_bytes, until,
};

on_each_store!(
    lftp_and_curl_go_on_where_the_link_broke,
    an_interrupted_upload_goes_on_by_rest_or_appe,
    o20_o21_nobody_else_sees_an_interrupted_upload,
    what_is_kept_ends_by_a_new_upload_a_dele_and_a_newer_file,
    two_sessions_never_continue_one_upload,
    the_last_byte_is_never_kept,
    a_crash_leaves_what_its_user_continues,
    the_sweep_ends_what_nobody_continued,
    a_server_that_stops_leaves_uploads_to_the_next,
    what_a_bound_stopped_is_not_kept,
    the_oldest_of_too_many_is_given_up,
);

/// Several parts of a multipart upload.
const LONG: usize = 21 << 20;

fn resuming(store: &Store) -> Builder {
    Server::with(store)
        .set("/uploads", serde_json::json!({"resume": "on"}))
        .user(&user("bob"))
}

/// A second user in alice's home.
fn user(name: &str) -> String {
    let hash = crate::harness::password_hash();
    format!("{{name: {name}, password_hash: \"{hash}\", home: alice}}")
}

/// Uploads the first bytes of a file and resets the data connection; returns what SIZE says then.
#[track_caller]
fn interrupt(raw: &mut Raw, line: &str, content: &[u8], name: &str) -> usize {
    let mut data = raw.begin_transfer(line);
    data.write(content).unwrap();
    // A FIN and not a reset, which would throw away what the server has not read yet.
    data.send_fin();
    raw.reply().expect_any(&[426, 451]);
    data.wait_closed(Duration::from_secs(20));
    kept(raw, name)
}

/// What SIZE says once the server has put away what it received.
#[track_caller]
fn kept(raw: &mut Raw, name: &str) -> usize {
    until(Duration::from_secs(20), "the upload is kept", || {
        let reply = raw.command(&format!("SIZE {name}"));
        match reply.code {
            213 => Ok(reply.text()[4..].trim().parse().unwrap()),
            _ => Err(reply.text()),
        }
    })
}

fn none() -> Vec<String> {
    Vec::new()
}

/// `put -c` and `-C -`, the link broken at 70 %: the rest alone crosses the second connection.
fn lftp_and_curl_go_on_where_the_link_broke(store: &Store) {
    let (builder, ports) = Relay::prepare(resuming(store));
    let server = builder.start();
    let relay = Relay::start(&server, ports);
    let link = Link::new(&server, Mode::Explicit, Version::Tls13).through(&relay);
    let content = bytes(3, LONG);
    let source = server.scratch().join("source");
    fs::write(&source, &content).unwrap();
    let source_name = source.to_str().unwrap();
    let curl = |resume: bool| -> Command {
        let mut command = Curl::command(&link);
        if resume {
            command.args(["--continue-at", "-"]);
        }
        command.arg("--upload-file").arg(&source);
        command.arg(Curl::url(&link, "by curl"));
        command
    };
    let lftp = |resume: bool| {
        let option = if resume { "-c " } else { "" };
        Lftp::command(
            &link,
            &format!("put {option}\"{source_name}\" -o \"by lftp\""),
        )
    };
    let mut expected = Vec::new();
    for (name, first, second) in [
        ("by curl", curl(false), curl(true)),
        ("by lftp", lftp(false), lftp(true)),
    ] {
        relay.cut_after((LONG * 7 / 10) as u64);
        let (status, _, dialogue) = run_to_end(first, Duration::from_mins(2));
        assert!(!status.success(), "{name}: the link broke\n{dialogue}");
        assert_eq!(store.visible().into_iter().collect::<Vec<_>>(), expected);
        let before = relay.moved();
        let mut raw = Raw::explicit(&server);
        let kept = kept(&mut raw, name);
        assert!(kept > LONG * 6 / 10, "{name}: {kept} bytes kept");
        relay.mend();
        let (status, _, dialogue) = run_to_end(second, Duration::from_mins(2));
        assert!(status.success(), "{name}: {status}\n{dialogue}");
        let moved = relay.moved() - before;
        println!("{name}: {kept} bytes of {LONG} kept, {moved} on the second connection");
        // The rest, and what TLS adds.
        let rest = (LONG - kept) as u64;
        assert!(
            moved < rest * 101 / 100 + 8192,
            "{name}: {moved} bytes moved for {rest}"
        );
        let stored = store.fetch(&format!("alice/{name}")).expect("the object");
        assert!(same_bytes(&source, &stored).unwrap(), "{name} differs");
        expected.push(format!("alice/{name}"));
    }
    assert_eq!(store.visible().into_iter().collect::<Vec<_>>(), expected);
    assert_eq!(store.files(), store.visible(), "nothing is left behind");
    assert_eq!(store.open_uploads(), none());
}

fn an_interrupted_upload_goes_on_by_rest_or_appe(store: &Store) {
    let server = resuming(store).start();
    let mut raw = Raw::explicit(&server);
    let content = bytes(5, LONG);
    // Below one part, at the end of one, and in the middle of the third.
    for (number, cut) in [100_000, 8 << 20, 17_500_000].into_iter().enumerate() {
        for appe in [false, true] {
            let name = format!("file{number}{appe}");
            let size = interrupt(&mut raw, &format!("STOR {name}"), &content[..cut], &name);
            assert!(size < cut, "{name}: {size} bytes kept of {cut}");
            raw.expect(&format!("MLST {name}"), 250);
            raw.expect(&format!("MDTM {name}"), 213);
            // Interrupted once more before it ends.
            let next = cut + (content.len() - cut) / 2;
            raw.expect(&format!("REST {size}"), 350);
            let piece = &content[size..next];
            let size = interrupt(&mut raw, &format!("STOR {name}"), piece, &name);
            assert!(size < next, "{name}: {size} bytes kept of {next}");
            raw.expect(&format!("RETR {name}"), 425);
            if appe {
                raw.store(&format!("APPE {name}"), &content[size..]);
            } else {
                raw.expect(&format!("REST {size}"), 350);
                raw.store(&format!("STOR {name}"), &content[size..]);
            }
            assert!(
                store.bytes(&format!("alice/{name}")).as_ref() == Some(&content),
                "{name} differs"
            );
            raw.expect(&format!("SIZE {name}"), 213);
        }
    }
    assert_eq!(store.files().len(), 6, "{:?}", store.files());
    assert_eq!(store.files(), store.visible());
    assert_eq!(store.open_uploads(), none());
}

/// O20, O21: a position that cannot be is 554, and an unfinished upload is nobody else's business.
fn o20_o21_nobody_else_sees_an_interrupted_upload(store: &Store) {
    let server = resuming(store).start();
    store.put("alice/old", b"old content");
    let mut raw = Raw::explicit(&server);
    let content = bytes(6, 9 << 20);
    for name in ["new", "old"] {
        let size = interrupt(&mut raw, &format!("STOR {name}"), &content, name);
        assert!(size > 8 << 20, "{size}");
        raw.expect(&format!("REST {}", size + 1), 350);
        raw.failing_transfer_with_data(&format!("STOR {name}"))
            .expect(554);
    }
    assert_eq!(
        store.visible().into_iter().collect::<Vec<_>>(),
        ["alice/old"]
    );
    assert_eq!(raw.names("NLST"), ["old"]);
    assert_eq!(raw.retrieve("RETR old"), b"old content");
    raw.expect("RNFR new", 550);
    raw.expect("CWD .causeway-uploads", 550);

    let mut bob = Raw::explicit_as(&server, "bob");
    bob.expect("SIZE new", 550);
    bob.expect("MLST new", 550);
    assert!(bob.expect("SIZE old", 213).text().ends_with(" 11"));
    assert_eq!(bob.names("NLST"), ["old"]);
    bob.expect("REST 1000", 350);
    bob.failing_transfer_with_data("STOR new").expect(554);
    bob.store("APPE old", b", more");
    assert_eq!(
        store.bytes("alice/old").as_deref(),
        Some(&b"old content, more"[..])
    );
    // What alice had begun is older than a file that came later: she sees the file. A bucket counts in
    // whole seconds, so it may have to come once more.
    until(Duration::from_secs(10), "the newer file counts", || {
        bob.store("STOR old", b"old content, more");
        let reply = raw.command("SIZE old");
        if reply.text().ends_with(" 17") {
            Ok(())
        } else {
            Err(reply.text())
        }
    });
}

fn what_is_kept_ends_by_a_new_upload_a_dele_and_a_newer_file(store: &Store) {
    let server = resuming(store).start();
    let mut raw = Raw::explicit(&server);
    let content = bytes(7, 9 << 20);
    interrupt(&mut raw, "STOR dropped", &content, "dropped");
    raw.expect("DELE dropped", 250);
    raw.expect("SIZE dropped", 550);
    raw.expect("DELE dropped", 550);

    interrupt(&mut raw, "STOR anew", &content, "anew");
    raw.store("STOR anew", b"short");
    assert!(raw.expect("SIZE anew", 213).text().ends_with(" 5"));

    // ABOR keeps what was received, as servers that write in place do.
    let mut data = raw.begin_transfer("STOR stopped");
    data.write(&content).unwrap();
    until(Duration::from_secs(20), "the server has read it", || {
        let text = raw.command("STAT").text();
        if text.contains(&format!("{} bytes", content.len())) {
            Ok(())
        } else {
            Err(text)
        }
    });
    raw.expect("ABOR", 426);
    raw.reply().expect(226);
    let size = kept(&mut raw, "stopped");
    raw.store("APPE stopped", &content[size..]);
    assert!(store.bytes("alice/stopped").as_ref() == Some(&content));
    let names = ["alice/anew", "alice/stopped"];
    assert_eq!(store.files().into_iter().collect::<Vec<_>>(), names);
    assert_eq!(store.open_uploads(), none());
}

fn two_sessions_never_continue_one_upload(store: &Store) {
    let server = resuming(store).start();
    let (mut one, mut other) = (Raw::explicit(&server), Raw::explicit(&server));
    let content = bytes(8, 12 << 20);
    let size = interrupt(&mut one, "STOR file", &content[..9 << 20], "file");
    one.expect(&format!("REST {size}"), 350);
    let mut data = one.begin_transfer("STOR file");
    other.expect(&format!("REST {size}"), 350);
    other.failing_transfer_with_data("STOR file").expect(450);
    other.failing_transfer_with_data("APPE file").expect(450);
    // A new upload of the same name is one of its own; the last that completes wins.
    let mut whole = other.begin_transfer("STOR file");
    whole.write(b"another").unwrap();
    data.write(&content[size..]).unwrap();
    data.finish();
    one.reply().expect(226);
    assert!(store.bytes("alice/file").as_ref() == Some(&content));
    whole.finish();
    other.reply().expect(226);
    store.assert_holds(&[("alice/file", b"another")]);
}

/// Had SIZE said all of it, the client would never send the end that makes the file visible.
fn the_last_byte_is_never_kept(store: &Store) {
    let server = resuming(store).start();
    let mut raw = Raw::explicit(&server);
    for length in [2, 70_000, 8 << 20, 16 << 20] {
        let content = bytes(9, length);
        let size = interrupt(&mut raw, "STOR file", &content, "file");
        assert!(size < length, "{size} of {length}");
        raw.expect(&format!("REST {size}"), 350);
        raw.store("STOR file", &content[size..]);
        store.assert_holds(&[("alice/file", &content)]);
        raw.expect("DELE file", 250);
    }
    // Nothing, or one byte, is nothing to go on from.
    for length in [0, 1] {
        let mut data = raw.begin_transfer("STOR none");
        data.write(&bytes(1, length)).unwrap();
        data.send_fin();
        raw.reply().expect_any(&[426, 451]);
        raw.expect("SIZE none", 550);
    }
    store.assert_holds(&[]);
}

fn a_crash_leaves_what_its_user_continues(store: &Store) {
    let mut server = resuming(store).start();
    let mut raw = Raw::explicit(&server);
    let content = bytes(10, LONG);
    let mut data = raw.begin_transfer("STOR file");
    data.write(&content[..20 << 20]).unwrap();
    until(Duration::from_secs(30), "two parts are stored", || {
        let mut other = Raw::explicit(&server);
        let reply = other.command("SIZE file");
        let size: usize = reply.text()[4..].trim().parse().unwrap_or(0);
        if size >= 8 << 20 {
            Ok(())
        } else {
            Err(reply.text())
        }
    });
    server.crash_and_restart();
    assert!(store.visible().is_empty());
    let mut raw = Raw::explicit(&server);
    let size = kept(&mut raw, "file");
    assert!((8 << 20..20 << 20).contains(&size), "{size}");
    assert!(raw.names("NLST").is_empty());
    raw.expect(&format!("REST {size}"), 350);
    raw.store("STOR file", &content[size..]);
    store.assert_holds(&[("alice/file", &content)]);
}

fn the_sweep_ends_what_nobody_continued(store: &Store) {
    let uploads = serde_json::json!({"resume": "on", "keep_seconds": 1, "sweep_seconds": 1});
    let mut server = Server::with(store).set("/uploads", uploads).start();
    let mut raw = Raw::explicit(&server);
    let content = bytes(11, 9 << 20);
    let mut data = raw.begin_transfer("STOR crashed");
    data.write(&content).unwrap();
    until(Duration::from_secs(30), "the upload is noted", || {
        let files = store.files();
        if files.is_empty() {
            Err("nothing is stored".to_owned())
        } else {
            Ok(())
        }
    });
    server.crash_and_restart();
    let mut raw = Raw::explicit(&server);
    let mut data = raw.begin_transfer("STOR cut");
    data.write(&content).unwrap();
    data.send_fin();
    raw.reply().expect_any(&[426, 451]);
    store.assert_holds(&[]);
    raw.expect("SIZE cut", 550);
    raw.expect("SIZE crashed", 550);
    until(Duration::from_secs(10), "the metrics say so", || {
        let swept = server.metric("causeway_uploads_swept_total", &["main"]);
        let open = server.metric("causeway_uploads_unfinished", &["main"]);
        if swept >= 2.0 && open == 0.0 {
            Ok(())
        } else {
            Err(format!("{swept} {open}"))
        }
    });
}

/// Two servers on one bucket: what the first one has is gone on with at the second, also while the first
/// still waits for a client that is gone.
#[test]
fn another_replica_goes_on_and_the_first_loses() {
    let store = Store::s3();
    let (one, other) = (resuming(&store).start(), resuming(&store).start());
    let content = bytes(12, LONG);
    let mut first = Raw::explicit(&one);
    let size = interrupt(&mut first, "STOR calm", &content[..18 << 20], "calm");
    let mut second = Raw::explicit(&other);
    assert_eq!(kept(&mut second, "calm"), size);
    second.expect(&format!("REST {size}"), 350);
    second.store("STOR calm", &content[size..]);
    assert!(store.bytes("alice/calm").as_ref() == Some(&content));

    interrupt(
        &mut first,
        "STOR contested",
        &content[..9 << 20],
        "contested",
    );
    let size = kept(&mut first, "contested");
    first.expect(&format!("REST {size}"), 350);
    let mut slow = first.begin_transfer("STOR contested");
    slow.write(&content[size..10 << 20]).unwrap();
    let at_second = kept(&mut second, "contested");
    second.expect(&format!("REST {at_second}"), 350);
    let mut fast = second.begin_transfer("STOR contested");
    fast.write(&content[at_second..]).unwrap();
    slow.write(b"something else").unwrap();
    slow.finish();
    first.reply().expect(450);
    fast.finish();
    second.reply().expect(226);
    store.assert_holds(&[("alice/calm", &content), ("alice/contested", &content)]);
}

fn a_server_that_stops_leaves_uploads_to_the_next(store: &Store) {
    let mut server = resuming(store).set("/timeouts/drain_seconds", 1).start();
    let mut raw = Raw::explicit(&server);
    let content = bytes(13, 12 << 20);
    let mut data = raw.begin_transfer("STOR file");
    data.write(&content[..10 << 20]).unwrap();
    server.terminate();
    raw.reply_within(Duration::from_secs(20)).expect(426);
    assert!(server.wait(Duration::from_secs(30)).success());
    assert!(store.visible().is_empty());
    let server = resuming(store).start();
    let mut raw = Raw::explicit(&server);
    let size = kept(&mut raw, "file");
    assert!(size > 8 << 20, "{size}");
    raw.store("APPE file", &content[size..]);
    store.assert_holds(&[("alice/file", &content)]);
}

/// `uploads.kept_per_user`: by number and by bytes, the oldest first, and nobody else's.
fn the_oldest_of_too_many_is_given_up(store: &Store) {
    let server = Server::with(store)
        .set(
            "/uploads",
            serde_json::json!({
                "resume": "on", "kept_per_user": 2, "kept_per_user_bytes": 12_000_000, "kept": 3,
            }),
        )
        .user(&user("bob"))
        .start();
    let gone = |raw: &mut Raw, name: &str| {
        until(Duration::from_secs(20), "it is given up", || {
            let reply = raw.command(&format!("SIZE {name}"));
            if reply.code == 550 {
                Ok(())
            } else {
                Err(reply.text())
            }
        });
    };
    let (mut alice, mut bob) = (Raw::explicit(&server), Raw::explicit_as(&server, "bob"));
    let (short, long) = (bytes(16, 100_000), bytes(17, 9 << 20));
    for name in ["one", "two", "three"] {
        interrupt(&mut alice, &format!("STOR {name}"), &short, name);
    }
    gone(&mut alice, "one");
    // Too many bytes of hers: all but the newest go.
    interrupt(&mut alice, "STOR long", &long, "long");
    gone(&mut alice, "two");
    interrupt(&mut alice, "STOR longer", &long, "longer");
    gone(&mut alice, "long");
    // His are his own affair.
    for name in ["his", "hers too"] {
        interrupt(&mut bob, &format!("STOR {name}"), &short, name);
    }
    let size = kept(&mut alice, "longer");
    alice.expect(&format!("REST {size}"), 350);
    alice.store("STOR longer", &long[size..]);
    for name in ["his", "hers too"] {
        bob.expect(&format!("DELE {name}"), 250);
    }
    assert!(server.metric("causeway_uploads_kept", &[]) < 0.5);
    store.assert_holds(&[("alice/longer", &long)]);
}

/// A quota or a largest size ends an upload for good: 552, and nothing to go on from.
fn what_a_bound_stopped_is_not_kept(store: &Store) {
    let hash = crate::harness::password_hash();
    let bounded = |name: &str, bound: &str| {
        format!("{{name: {name}, password_hash: \"{hash}\", home: alice, {bound}}}")
    };
    let server = Server::with(store)
        .set("/uploads", serde_json::json!({"resume": "on"}))
        .user(&bounded("quota", "quota: {bytes: 12000000}"))
        .user(&bounded("size", "limits: {file_bytes: 12000000}"))
        .start();
    for user in ["quota", "size"] {
        let mut raw = Raw::explicit_as(&server, user);
        // Refused at a part, and at the end of the file.
        for length in [LONG, 12_000_001] {
            let mut data = raw.begin_transfer("STOR file");
            // The server stops reading when it knows.
            if data.write(&bytes(15, length)).is_ok() {
                data.finish();
            }
            raw.reply().expect(552);
            raw.expect("SIZE file", 550);
            store.assert_holds(&[]);
        }
    }
}

/// Somebody else's open upload in the same place stays; so does one of ours that is younger.
#[test]
fn causeway_sweep_ends_ours_and_nobody_elses() {
    let store = Store::s3();
    let server = resuming(&store).start();
    let mut raw = Raw::explicit(&server);
    interrupt(&mut raw, "STOR ours", &bytes(14, 9 << 20), "ours");
    store.leave_litter();
    assert_eq!(store.open_uploads().len(), 2);
    let causeway = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
        let file = server.directory().join("causeway.yaml");
        command.args(arguments).arg("-c").arg(file);
        let (status, output, errors) = run_to_end(command, Duration::from_mins(1));
        assert!(status.success(), "{arguments:?}: {output}{errors}");
        output
    };
    let output = causeway(&["sweep"]);
    assert!(
        output.contains("main: 0 unfinished uploads ended, 1 left"),
        "{output}"
    );
    assert_eq!(store.open_uploads().len(), 2);
    let output = causeway(&["sweep", "--age", "0"]);
    assert!(
        output.contains("main: 1 unfinished uploads ended, 0 left"),
        "{output}"
    );
    let open = store.open_uploads();
    assert!(
        open.len() == 1 && open[0].contains("alice/file"),
        "{open:?}"
    );
    assert!(store.files().is_empty(), "{:?}", store.files());
    raw.expect("SIZE ours", 550);

    let warning = "has no life-cycle rule with AbortIncompleteMultipartUpload";
    assert!(output.contains(warning), "{output}");
    assert!(causeway(&["check"]).contains(warning));
    store.end_incomplete_uploads_by_rule();
    assert!(!causeway(&["check"]).contains(warning));
}
