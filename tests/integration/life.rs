//! Health, metrics and a shutdown that finishes what was begun.

use std::{net::TcpStream, time::Duration};

use crate::harness::{End, Raw, Server, Store, bytes, http_get, on_each_store, until};

on_each_store!(
    sigterm_lets_a_running_upload_finish,
    upload_still_running_at_the_drain_deadline_leaves_nothing,
);

fn sigterm_lets_a_running_upload_finish(store: &Store) {
    let mut server = Server::start(store);
    let content = bytes(9, 12 << 20);
    let (head, tail) = content.split_at(9 << 20);
    let mut idle = Raw::explicit(&server);
    let mut busy = Raw::explicit(&server);
    let mut data = busy.begin_transfer("STOR file");
    data.write(head).unwrap();

    server.terminate();
    for address in [
        server.explicit,
        server.implicit,
        server.explicit6,
        server.implicit6,
    ] {
        until(
            Duration::from_secs(10),
            "new connections are refused",
            || match TcpStream::connect(address) {
                Ok(_) => Err(format!("{address} still accepts")),
                Err(_) => Ok(()),
            },
        );
    }
    data.write(tail).unwrap();
    assert_eq!(data.finish(), End::CloseNotify);
    busy.reply().expect(226);
    for raw in [&mut idle, &mut busy] {
        let replies = raw.until_closed(Duration::from_secs(10));
        assert_eq!(
            replies.iter().map(|reply| reply.code).collect::<Vec<_>>(),
            [421]
        );
    }
    assert_eq!(server.wait(Duration::from_secs(20)).code(), Some(0));
    store.assert_holds(&[("alice/file", &content)]);
}

fn upload_still_running_at_the_drain_deadline_leaves_nothing(store: &Store) {
    store.put("alice/file", b"old");
    let mut server = Server::with(store)
        .set("/timeouts/drain_seconds", 2)
        .start();
    let mut raw = Raw::explicit(&server);
    let mut data = raw.begin_transfer("STOR file");
    data.write(&bytes(9, 20 << 20)).unwrap();
    server.terminate();
    assert_eq!(server.wait(Duration::from_secs(30)).code(), Some(0));
    data.wait_closed(Duration::from_secs(5));
    store.assert_holds(&[("alice/file", b"old")]);
}

#[test]
fn admin_answers_health_readiness_and_metrics() {
    let store = Store::local();
    let server = Server::start(&store);
    assert_eq!(http_get(server.admin, "/livez").0, 200);
    assert_eq!(http_get(server.admin, "/readyz").0, 200);
    let mut raw = Raw::explicit(&server);
    raw.store("STOR file", b"counted");
    let (status, metrics) = http_get(server.admin, "/metrics");
    assert_eq!(status, 200);
    assert!(metrics.contains("# TYPE causeway_"), "{metrics}");
    // Names of users and files are no labels: a client could make as many as it likes.
    assert!(
        !metrics.contains("alice") && !metrics.contains("STOR file"),
        "{metrics}"
    );
    assert_eq!(http_get(server.admin, "/nothing").0, 404);
}

#[test]
fn log_never_shows_a_password() {
    let store = Store::local();
    let server = Server::with(&store).set("/log/level", "trace").start();
    let mut raw = Raw::explicit(&server);
    raw.store("STOR file", b"content");
    raw.expect("QUIT", 221);
    let mut raw = Raw::secured(&server, &server.tls(crate::harness::Version::Tls13));
    raw.expect("USER alice", 331);
    raw.expect("PASS wrong-and-private", 530);
    let log = server.log().join("\n");
    for secret in [crate::harness::PASSWORD, "wrong-and-private", "$argon2id$"] {
        assert!(!log.contains(secret), "the log shows {secret}");
    }
}
