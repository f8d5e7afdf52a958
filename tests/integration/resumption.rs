//! Whose TLS session a data connection may resume, and where it must.

use std::{fs, time::Duration};

use rustls::HandshakeKind;
use serde_json::json;

use crate::harness::{
    Client, Curl, Lftp, Link, Mode, Raw, Server, Store, Tls, Version, bytes, until,
};

/// One listing; full or resumed.
fn list(raw: &mut Raw) -> Option<HandshakeKind> {
    let mut data = raw.open_data();
    raw.expect("LIST", 150);
    data.handshake().unwrap();
    let kind = data.handshake_kind();
    data.read_all();
    raw.reply().expect(226);
    kind
}

fn session(server: &Server, user: &str, tls: &Tls) -> Raw {
    let mut raw = Raw::secured(server, tls);
    raw.protect();
    raw.login(user);
    raw
}

/// Every way to resume.
fn clients(server: &Server) -> [(&'static str, Tls); 3] {
    [
        ("TLS 1.3", server.tls(Version::Tls13)),
        ("TLS 1.2 by ticket", server.tls(Version::Tls12)),
        (
            "TLS 1.2 by session id",
            server.tls(Version::Tls12).by_session_id(),
        ),
    ]
}

#[test]
fn s24_data_connection_with_the_session_of_another_user_gets_522_and_an_event() {
    let store = Store::local();
    let server = Server::start(&store);
    let others = clients(&server);
    for (number, (name, tls)) in clients(&server).into_iter().enumerate() {
        let mut alice = session(&server, "alice", &tls);
        let mut reader = session(&server, "reader", &others[number].1);
        reader.use_for_data(&tls);
        let mut data = reader.open_data();
        reader.expect("LIST", 150);
        // The handshake may end before the server looks, or not: the reply is what counts.
        let _ = data.handshake();
        let refused = reader.reply().expect(522).text();
        assert!(
            refused.contains("another control connection"),
            "{name}: {refused}"
        );
        let events = server.metric("causeway_security_events_total", &["foreign_tls_session"]);
        assert!(
            (events - f64::from(u32::try_from(number).unwrap() + 1)).abs() < 0.1,
            "{events}"
        );
        // Both sessions go on, each with its own.
        reader.use_for_data(&others[number].1);
        assert_eq!(list(&mut reader), Some(HandshakeKind::Resumed), "{name}");
        assert_eq!(list(&mut alice), Some(HandshakeKind::Resumed), "{name}");
    }
    until(Duration::from_secs(10), "each is in the log", || {
        let log = server.log();
        let warned = log
            .iter()
            .filter(|line| line.contains("data connection is not the session's own"))
            .count();
        (warned == 3)
            .then_some(())
            .ok_or_else(|| format!("{warned} of 3"))
    });
}

#[test]
fn parallel_sessions_of_one_client_share_their_tickets() {
    let store = Store::local();
    let server = Server::with(&store)
        .set_listeners("resumption", &json!("enforced"))
        .start();
    for (name, tls) in clients(&server) {
        // Logged in one after the other, used in turns; the cache holds sessions of both.
        let mut one = session(&server, "alice", &tls);
        let mut two = session(&server, "alice", &tls);
        for round in 0..4 {
            for raw in [&mut one, &mut two] {
                let kind = list(raw);
                assert_eq!(kind, Some(HandshakeKind::Resumed), "{name}, round {round}");
            }
        }
        // What is left of a session that is over serves the same user's next one.
        one.expect("QUIT", 221);
        assert_eq!(list(&mut two), Some(HandshakeKind::Resumed), "{name}");
        two.expect("QUIT", 221);
        let mut three = session(&server, "alice", &tls);
        assert_eq!(list(&mut three), Some(HandshakeKind::Resumed), "{name}");
    }
}

#[test]
fn client_that_logs_in_as_another_user_resumes_what_its_control_connection_resumed() {
    let store = Store::local();
    let server = Server::with(&store)
        .set_listeners("resumption", &json!("enforced"))
        .start();
    // One session id for everything: the second control connection resumes it and gets no other.
    let tls = server.tls(Version::Tls12).by_session_id();
    let mut alice = session(&server, "alice", &tls);
    assert_eq!(list(&mut alice), Some(HandshakeKind::Resumed));
    let mut reader = session(&server, "reader", &tls);
    assert_eq!(reader.handshake_kind(), Some(HandshakeKind::Resumed));
    assert_eq!(list(&mut reader), Some(HandshakeKind::Resumed));
}

#[test]
fn s13_sessions_of_another_server_process_lead_to_a_full_handshake() {
    let store = Store::local();
    let first = Server::start(&store);
    let second = Server::with(&store)
        .file("cert.pem", &first.read("cert.pem"))
        .file("key.pem", &first.read("key.pem"))
        .start();
    for (name, tls) in clients(&first) {
        drop(session(&first, "alice", &tls));
        let mut raw = session(&second, "alice", &tls);
        assert_ne!(raw.handshake_kind(), Some(HandshakeKind::Resumed), "{name}");
        let mut again = session(&first, "alice", &tls);
        list(&mut again);
        let kind = list(&mut raw);
        assert!(kind.is_some(), "{name}");
        raw.store("STOR file", b"content");
    }
    let events = second.metric("causeway_security_events_total", &[]);
    assert!(events < 0.1, "{events}");
}

#[test]
fn s22_enforced_refuses_a_full_handshake_with_the_reason() {
    let store = Store::local();
    let server = Server::with(&store)
        .set_listeners("resumption", &json!("enforced"))
        .start();
    for version in [Version::Tls12, Version::Tls13] {
        let mut raw = session(&server, "alice", &server.tls(version).forgetful());
        for line in ["LIST", "STOR file"] {
            let mut data = raw.open_data();
            raw.expect(line, 150);
            let _ = data.handshake();
            let refused = raw.reply().expect(522).text();
            assert!(refused.contains("must resume"), "{refused}");
            // The same where the client wants its handshake before the command.
            let mut data = raw.open_data();
            let _ = data.handshake();
            raw.expect(line, 522);
        }
        let mut raw = session(&server, "alice", &server.tls(version));
        raw.store("STOR file", b"resumed");
        assert_eq!(raw.retrieve("RETR file"), b"resumed");
    }
    store.assert_holds(&[("alice/file", b"resumed")]);
}

#[test]
fn disabled_gives_nothing_to_resume() {
    let store = Store::local();
    let server = Server::with(&store)
        .set_listeners("resumption", &json!("disabled"))
        .start();
    for (name, tls) in clients(&server) {
        let mut raw = session(&server, "alice", &tls);
        for _ in 0..2 {
            assert_ne!(list(&mut raw), Some(HandshakeKind::Resumed), "{name}");
        }
        assert_eq!(tls.tickets(), 0, "{name}");
        let raw = session(&server, "alice", &tls);
        assert_ne!(raw.handshake_kind(), Some(HandshakeKind::Resumed), "{name}");
    }
}

#[test]
fn tickets_of_data_connections_lead_back_to_their_session() {
    let store = Store::local();
    let server = Server::with(&store)
        .set_listeners("resumption", &json!("enforced"))
        .start();
    for (name, tls) in clients(&server) {
        // Each listing spends one ticket and brings two: after a few, only theirs are left.
        let mut raw = session(&server, "alice", &tls);
        for round in 0..20 {
            let kind = list(&mut raw);
            assert_eq!(kind, Some(HandshakeKind::Resumed), "{name}, round {round}");
        }
    }
}

#[test]
fn curl_and_lftp_work_where_resumption_is_enforced() {
    let store = Store::local();
    let server = Server::with(&store)
        .set_listeners("resumption", &json!("enforced"))
        .start();
    let (source, copy) = (
        server.scratch().join("source"),
        server.scratch().join("copy"),
    );
    fs::write(&source, bytes(3, 100_000)).unwrap();
    for version in [Version::Tls12, Version::Tls13] {
        for mode in [Mode::Explicit, Mode::Implicit] {
            for (name, client) in [("curl", &Curl as &dyn Client), ("lftp", &Lftp)] {
                let link = Link::new(&server, mode, version);
                client.upload(&link, &source, name).expect(226);
                client.download(&link, name, &copy).expect(226);
                assert_eq!(fs::read(&copy).unwrap(), fs::read(&source).unwrap());
                fs::remove_file(&copy).unwrap();
                assert!(client.names(&link, "").contains(&name.to_owned()));
            }
        }
    }
    let refused = server.metric("causeway_tls_handshakes_total", &["failed"]);
    assert!(refused < 0.1, "{refused}");
}

/// lftp opens a control connection for each parallel transfer, and all of them share one cache.
#[test]
fn lftp_mirrors_in_parallel_where_resumption_is_enforced() {
    let store = Store::local();
    let server = Server::with(&store)
        .set_listeners("resumption", &json!("enforced"))
        .start();
    let tree = server.scratch().join("tree");
    fs::create_dir(&tree).unwrap();
    for number in 0..30 {
        fs::write(tree.join(number.to_string()), bytes(number, 20_000)).unwrap();
    }
    for version in [Version::Tls12, Version::Tls13] {
        let link = Link::new(&server, Mode::Explicit, version);
        let target = format!("mirrored-{version:?}");
        Lftp::mirror(&link, &tree, &target);
        for number in 0..30 {
            let stored = store.bytes(&format!("alice/{target}/{number}"));
            assert!(stored == Some(bytes(number, 20_000)), "{target}/{number}");
        }
    }
    let foreign = server.metric("causeway_security_events_total", &[]);
    assert!(foreign < 0.1, "{foreign}");
}
