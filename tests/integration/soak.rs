//! Uploads killed at random bytes, and memory that does not grow with the file. The long forms are
//! ignored by default: `./tests/soak` runs them.

use std::{
    fs,
    io::Write,
    process::{Child, Stdio},
    sync::{Barrier, Mutex},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::harness::{
    Blocks, Curl, Link, Mode, Raw, Server, Store, Version, bytes, same_bytes, until,
};

const LENGTH: usize = 20 << 20;

/// Kills `count` uploads of 20 MiB at random bytes, then lets `count` more end.
fn kill_uploads(count: u64) {
    let store = Store::s3();
    let server = Server::start(&store);
    let link = Link::new(&server, Mode::Explicit, Version::Tls13);
    let content = bytes(1, LENGTH);
    store.put("alice/kept", b"never replaced");
    for (number, cut) in (1..=count).zip(cuts()) {
        // Every fourth one tries to replace an object that is there.
        let name = if number % 4 == 0 {
            "kept".to_owned()
        } else {
            format!("cut {number}")
        };
        let mut curl = upload_from_pipe(&link, &name);
        let mut pipe = curl.stdin.take().unwrap();
        // The pipe is still open after this: curl cannot have seen the end of the file.
        pipe.write_all(&content[..cut]).unwrap();
        curl.kill().unwrap();
        curl.wait().unwrap();
        drop(pipe);
    }
    store.assert_holds(&[("alice/kept", b"never replaced")]);

    let source = server.scratch().join("source");
    fs::write(&source, &content).unwrap();
    for number in 1..=count {
        let mut command = Curl::command(&link);
        command
            .arg("--upload-file")
            .arg(&source)
            .arg(Curl::url(&link, &format!("whole {number}")));
        let (status, _, dialogue) = crate::harness::run_to_end(command, Duration::from_mins(2));
        assert!(
            status.success() && dialogue.contains("\n< 226 "),
            "upload {number}: {status}\n{dialogue}"
        );
    }
    for number in 1..=count {
        let stored = store
            .fetch(&format!("alice/whole {number}"))
            .expect("the object");
        assert!(
            same_bytes(&source, &stored).unwrap(),
            "upload {number} differs"
        );
    }
    assert_eq!(store.files().len() as u64, count + 1);
    assert_eq!(store.open_uploads(), Vec::<String>::new());
    let peak = server.peak_memory_kib() >> 10;
    assert!(peak < 150, "{peak} MiB were resident");
}

/// Pseudo-random places below 20 MiB, equal in every run.
fn cuts() -> impl Iterator<Item = usize> {
    let numbers = bytes(77, 8 << 10);
    (0..1_000).map(move |number| {
        let chunk = numbers[number * 8..number * 8 + 8].try_into().unwrap();
        usize::try_from(u64::from_le_bytes(chunk) % LENGTH as u64).unwrap()
    })
}

fn upload_from_pipe(link: &Link, name: &str) -> Child {
    Curl::command(link)
        .args(["--upload-file", "-"])
        .arg(Curl::url(link, name))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Sends `mebibytes` up and down without a file on this side.
fn memory(mebibytes: u64) {
    let store = Store::s3();
    let server = Server::start(&store);
    let link = Link::new(&server, Mode::Explicit, Version::Tls13);
    let mut upload = upload_from_pipe(&link, "large");
    let mut pipe = upload.stdin.take().unwrap();
    let mut blocks = Blocks::new(4, mebibytes);
    blocks.write_to(&mut pipe).unwrap();
    drop(pipe);
    let status = upload.wait().unwrap();
    assert!(status.success(), "upload: {status}");
    println!(
        "{} KiB resident at most during the upload",
        server.peak_memory_kib()
    );

    let mut download = Curl::command(&link)
        .arg(Curl::url(&link, "large"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let same = blocks.check(&mut download.stdout.take().unwrap());
    let status = download.wait().unwrap();
    assert!(
        status.success() && same.is_ok(),
        "download: {status}, {same:?}"
    );
    assert_eq!(store.open_uploads(), Vec::<String>::new());
    let peak = server.peak_memory_kib();
    println!("{peak} KiB resident at most for a file of {mebibytes} MiB");
    assert!(
        peak >> 10 < 150,
        "{peak} KiB were resident for a file of {mebibytes} MiB"
    );
}

#[test]
fn twenty_killed_uploads_leave_nothing_and_twenty_more_are_whole() {
    kill_uploads(20);
}

#[test]
#[ignore = "minutes long: ./tests/soak"]
fn two_hundred_killed_uploads_leave_nothing_and_two_hundred_more_are_whole() {
    kill_uploads(200);
}

#[test]
#[ignore = "minutes long and gigabytes large: ./tests/soak"]
fn four_gibibytes_up_and_down_stay_below_150_mebibytes_resident() {
    memory(4 << 10);
}

/// CPU time of the server for one upload to S3.
fn cost_of_upload(mebibytes: u64, object: bool, trail: bool) -> f64 {
    let store = Store::s3();
    let checksums: &[&str] = if object { &["sha256"] } else { &[] };
    let server = Server::with(&store)
        .set("/log/level", "info")
        .set("/backends/main/metadata", json!({"checksums": checksums}))
        .set("/audit", json!({"file": "audit.jsonl", "sha256": trail}))
        .start();
    let link = Link::new(&server, Mode::Explicit, Version::Tls13);
    let before = server.cpu_time();
    let mut upload = upload_from_pipe(&link, "file");
    let mut pipe = upload.stdin.take().unwrap();
    Blocks::new(4, mebibytes).write_to(&mut pipe).unwrap();
    drop(pipe);
    assert!(upload.wait().unwrap().success());
    server.cpu_time().as_secs_f64() - before.as_secs_f64()
}

/// SHA-256 for the object and for the audit trail is one computation, not two.
#[test]
#[ignore = "gigabytes large: ./tests/soak"]
fn sha256_of_an_upload_is_computed_once() {
    const MEBIBYTES: u64 = 1 << 10;
    // The best of three: nothing else takes less time than it needs.
    let cost = |object, trail| {
        let costs = (0..3).map(|_| cost_of_upload(MEBIBYTES, object, trail));
        costs.fold(f64::INFINITY, f64::min)
    };
    let [none, object, trail, both] =
        [(false, false), (true, false), (false, true), (true, true)].map(|(o, t)| cost(o, t));
    let (one, two) = (object.max(trail) - none, object + trail - 2.0 * none);
    println!(
        "CPU seconds for 1 GiB: {none:.2} without SHA-256, {object:.2} for the object, {trail:.2} for the \
         trail, {both:.2} for both; SHA-256 {one:.2} once, {two:.2} twice, {:.2} for both",
        both - none
    );
    assert!(both - none < f64::midpoint(one, two), "computed twice");
}

/// All connected before the first of them sends a byte, then all at once.
fn uploads_at_once(count: usize) {
    const LENGTH: usize = 8 << 20;
    const KEPT: usize = 50;
    const PATIENCE: Duration = Duration::from_mins(20);
    let store = Store::s3();
    let server = Server::with(&store)
        .set("/limits/connections", 1_100)
        .set("/limits/connections_per_address", 1_100)
        .set("/limits/upload_memory_bytes", 256 << 20)
        .set("/timeouts/data_stall_seconds", 1_200)
        .set("/timeouts/data_connect_seconds", 600)
        .set("/timeouts/tls_handshake_seconds", 600)
        .set("/timeouts/login_seconds", 600)
        .set("/timeouts/idle_seconds", 1_200)
        .set("/log/level", "info")
        .start();
    let content = bytes(1, LENGTH);
    let ready = Barrier::new(count);
    let tls = server.tls(Version::Tls13);
    // Handshakes and logins one after the other: they are not what is measured.
    let door = Mutex::new(());
    let started = Mutex::new(None);
    thread::scope(|scope| {
        for number in 0..count {
            let (server, content, ready, tls) = (&server, &content, &ready, &tls);
            let (door, started) = (&door, &started);
            scope.spawn(move || {
                let (mut raw, mut data) = {
                    let _turn = door.lock().unwrap();
                    let mut raw = Raw::explicit_with(server, tls);
                    let data = raw.begin_transfer(&format!("STOR file {number}"));
                    (raw, data)
                };
                data.wait_up_to(PATIENCE);
                if ready.wait().is_leader() {
                    *started.lock().unwrap() = Some(Instant::now());
                }
                data.write(content).unwrap();
                data.finish();
                raw.reply_within(PATIENCE).expect(226);
                raw.send(format!("SIZE file {number}\r\n").as_bytes())
                    .unwrap();
                let size = raw.reply_within(PATIENCE).expect(213).text();
                assert_eq!(size, format!("213 {LENGTH}"), "upload {number}");
                // The gateway keeps its objects in memory: only some stay to be compared.
                if number % KEPT != 0 {
                    raw.send(format!("DELE file {number}\r\n").as_bytes())
                        .unwrap();
                    raw.reply_within(PATIENCE).expect(250);
                }
            });
        }
    });
    let seconds = started.lock().unwrap().unwrap().elapsed().as_secs_f64();
    assert_eq!(store.files().len(), count / KEPT);
    for number in (0..count).step_by(KEPT) {
        let stored = store.bytes(&format!("alice/file {number}"));
        assert!(stored.as_ref() == Some(&content), "upload {number} differs");
    }
    assert_eq!(store.open_uploads(), Vec::<String>::new());
    let peak = server.peak_memory_kib() >> 10;
    println!("{count} uploads of 8 MiB at once in {seconds:.0} s, {peak} MiB resident at most");
    assert!(peak < 400, "{peak} MiB were resident");
}

#[test]
#[ignore = "minutes long: ./tests/soak"]
fn a_thousand_uploads_at_once_end_whole_in_a_budget_of_256_mebibytes() {
    uploads_at_once(1_000);
}

/// A budget for all uploads together: many at once may wait for each other, but not grow.
#[test]
fn uploads_together_stay_within_the_memory_budget() {
    let store = Store::s3();
    let server = Server::with(&store)
        .set("/limits/upload_memory_bytes", 48 << 20)
        .start();
    let link = Link::new(&server, Mode::Explicit, Version::Tls13);
    let content = bytes(1, LENGTH);
    thread::scope(|scope| {
        for number in 0..12 {
            let (link, content) = (&link, &content);
            scope.spawn(move || {
                let mut curl = upload_from_pipe(link, &format!("file {number}"));
                let mut pipe = curl.stdin.take().unwrap();
                let sent = pipe.write_all(content);
                drop(pipe);
                let status = curl.wait().unwrap();
                assert!(
                    sent.is_ok() && status.success(),
                    "upload {number}: {sent:?}, {status}"
                );
            });
        }
    });
    until(Duration::from_secs(10), "all are stored", || {
        let files = store.files().len();
        if files == 12 {
            Ok(())
        } else {
            Err(format!("{files} of 12"))
        }
    });
    assert_eq!(
        store.bytes("alice/file 11").map(|bytes| bytes == content),
        Some(true)
    );
    let peak = server.peak_memory_kib() >> 10;
    assert!(peak < 150, "{peak} MiB were resident");
}
