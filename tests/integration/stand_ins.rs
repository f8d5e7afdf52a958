//! What only stand-ins show: conditions that the Ceph gateway of Debian does not keep, and what goes through
//! OpenDAL when requests fail.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Builder, FaultyGateway, Raw, Server, Store, bytes, password_hash, until};

/// Who may not overwrite is told so after a look. What comes between that look and the rename is not
/// overwritten either, be the file small or of several parts. `slash`: as the store's requests have it in a key.
fn what_comes_after_the_look_stays(
    store: &Store,
    slash: &str,
    files: &[(&str, &str, usize)],
    change: impl FnOnce(Builder) -> Builder,
) {
    let (gateway, endpoint) = before(store);
    let hash = password_hash();
    let server = Server::with(store).set("/backends/main/endpoint", endpoint);
    let server = change(server)
        .user(&format!(
            "{{name: mover, password_hash: \"{hash}\", home: mover, \
             grants: [{{allow: [list, read, write, rename]}}]}}"
        ))
        .start();
    let mut raw = Raw::explicit_as(&server, "mover");
    for (from, to, size) in files {
        let content = bytes(1, *size);
        // Nothing comes: it is a rename like any other.
        raw.store(&format!("STOR {from}"), &content);
        raw.expect(&format!("RNFR {from}"), 350);
        raw.expect(&format!("RNTO {to}.free"), 250);
        assert!(store.bytes(&format!("mover/{to}.free")) == Some(content.clone()));

        raw.store(&format!("STOR {from}"), &content);
        let held = gateway.hold_next(&format!("mover{slash}{to}"));
        raw.expect(&format!("RNFR {from}"), 350);
        raw.send(format!("RNTO {to}\r\n").as_bytes()).unwrap();
        held.wait();
        let target = format!("mover/{to}");
        store.put(&target, b"of somebody else");
        held.release();
        raw.reply().expect(550);
        let there = store.bytes(&target);
        assert_eq!(there.as_deref(), Some(&b"of somebody else"[..]), "{from}");
        assert!(raw.retrieve(&format!("RETR {from}")) == content, "{from}");
    }
}

const FILES: [(&str, &str, usize); 3] = [
    ("empty", "e", 0),
    ("small", "s", 1_000),
    ("large", "l", 9 << 20),
];

#[test]
#[ignore = "needs the stand-ins: run by ./tests/behaviour"]
fn a_rename_overwrites_nothing_that_comes_after_the_look() {
    let store = Store::moto();
    let mut files = FILES.to_vec();
    files.push(("waits.tmp", "waits", 9 << 20));
    what_comes_after_the_look_stays(&store, "/", &files, |server| {
        server
            .set("/backends/main/provider", "aws")
            .set("/backends/main/deferred", json!({"names": ["*.tmp"]}))
    });
    let open = store.open_uploads();
    assert!(open.is_empty(), "{open:?}");
}

#[test]
#[ignore = "needs the stand-ins: run by ./tests/behaviour"]
fn a_rename_on_azure_overwrites_nothing_that_comes_after_the_look() {
    what_comes_after_the_look_stays(&Store::azblob(), "/", &FILES, |server| server);
}

#[test]
#[ignore = "needs the stand-ins: run by ./tests/behaviour"]
fn a_rename_on_google_overwrites_nothing_that_comes_after_the_look() {
    what_comes_after_the_look_stays(&Store::gcs("opendal"), "%2F", &FILES, |server| server);
}

/// An append on GCS has two hidden objects for a moment. What a killed server leaves of them, a sweep removes.
#[test]
#[ignore = "needs the stand-ins: run by ./tests/behaviour"]
fn what_a_killed_append_left_is_swept() {
    let store = Store::gcs("opendal");
    let (gateway, endpoint) = before(&store);
    let mut server = Server::with(&store)
        .set("/backends/main/endpoint", endpoint)
        .set("/timeouts/commit_seconds", 3)
        .set("/uploads", json!({"sweep_seconds": 1, "keep_seconds": 1}))
        .start();
    let mut raw = Raw::explicit(&server);
    raw.store("STOR file", b"one");
    let held = gateway.hold_next("alice%2Ffile/compose");
    let mut data = raw.begin_transfer("APPE file");
    data.write(b"two").unwrap();
    data.finish();
    held.wait();
    let hidden = || {
        let files = store.files();
        files
            .iter()
            .filter(|file| file.contains(".causeway-uploads/"))
            .count()
    };
    assert_eq!(hidden(), 2);
    server.crash_and_restart();
    drop(held);
    until(Duration::from_mins(1), "nothing is left", || {
        let left = hidden();
        (left == 0).then_some(()).ok_or(left.to_string())
    });
    assert_eq!(store.bytes("alice/file").as_deref(), Some(&b"one"[..]));
}

/// A proxy before a store, and the endpoint that leads through it.
fn before(store: &Store) -> (FaultyGateway, String) {
    let endpoint = store.endpoint();
    let (_, address) = endpoint.split_once("//").unwrap();
    let origin = format!("http://{}", address.split('/').next().unwrap());
    let gateway = FaultyGateway::start(&origin, 0, 1);
    let through = endpoint.replace(&origin, &gateway.endpoint);
    (gateway, through)
}

/// Requests that OpenDAL sends again are counted, and the file is whole.
fn retries_are_counted(store: &Store, upload: &'static str, look: &'static str) {
    let (gateway, endpoint) = before(store);
    let server = Server::with(store)
        .set("/backends/main/endpoint", endpoint)
        .start();
    let mut raw = Raw::explicit(&server);
    let counted = || server.metric("causeway_store_retries_total", &["main"]);
    let content = bytes(1, 1_000);
    raw.store("STOR before", &content);
    assert!(counted() < 0.5);
    gateway.lose_next(upload);
    raw.store("STOR file", &content);
    let once = counted();
    assert!((once - 1.0).abs() < 0.5, "{once}");
    assert!(store.bytes("alice/file") == Some(content));
    gateway.lose_next(look);
    raw.expect("SIZE file", 213);
    let twice = counted();
    assert!((twice - 2.0).abs() < 0.5, "{twice}");
}

#[test]
#[ignore = "needs the stand-ins: run by ./tests/behaviour"]
fn retries_on_azure_are_counted() {
    retries_are_counted(&Store::azblob(), "PUT", "HEAD");
}

#[test]
#[ignore = "needs the stand-ins: run by ./tests/behaviour"]
fn retries_on_google_are_counted() {
    retries_are_counted(&Store::gcs("opendal"), "POST", "GET");
}
