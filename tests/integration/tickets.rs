//! TLS session tickets by direction. A ticket on an upload's data connection is never read by the
//! client, its close becomes a reset, and curl, lftp, Ruby, Perl and Go clients lose bytes.

use rustls::HandshakeKind;

use crate::harness::{End, Raw, Server, Store, Version, bytes};

#[test]
fn uploads_get_no_tickets_downloads_and_control_do() {
    let store = Store::local();
    let server = Server::start(&store);
    let tls = server.tls(Version::Tls13);
    let mut raw = Raw::explicit_with(&server, &tls);
    // The replies of the login have been read, and with them what came before.
    let control = tls.tickets();
    assert_eq!(control, 8, "tickets on the control connection");

    for line in ["STOR file", "APPE file"] {
        let before = tls.tickets();
        let mut data = raw.open_data();
        if raw.command(line).code == 150 {
            data.handshake().unwrap();
            data.write(&bytes(1, 200_000)).unwrap();
            // Reads to the very end, so that no ticket could hide.
            assert_eq!(data.finish(), End::CloseNotify);
            raw.reply().expect(226);
        }
        assert_eq!(tls.tickets() - before, 0, "tickets on {line}");
    }
    for line in ["RETR file", "LIST", "NLST", "MLSD"] {
        let before = tls.tickets();
        raw.retrieve(line);
        assert!(tls.tickets() > before, "no ticket on {line}");
    }
}

#[test]
fn data_connections_resume_the_control_session() {
    let store = Store::local();
    let server = Server::start(&store);
    for (name, tls) in [
        ("TLS 1.3", server.tls(Version::Tls13)),
        ("TLS 1.2 by ticket", server.tls(Version::Tls12)),
        // curl 7.88 offers no ticket extension: without a session cache it never resumes.
        (
            "TLS 1.2 by session id",
            server.tls(Version::Tls12).by_session_id(),
        ),
    ] {
        let mut raw = Raw::explicit_with(&server, &tls);
        assert_ne!(raw.handshake_kind(), Some(HandshakeKind::Resumed), "{name}");
        // Once resumed, always resumed: uploads bring no new tickets, and they must not run out.
        for round in 0..6 {
            let mut data = raw.open_data();
            raw.expect("STOR file", 150);
            data.handshake().unwrap();
            // A TLS 1.3 client uses each ticket once, and an upload brings none: those of the control
            // connection have to do.
            assert_eq!(
                data.handshake_kind(),
                Some(HandshakeKind::Resumed),
                "{name}, upload {round}"
            );
            data.write(b"content").unwrap();
            assert_eq!(data.finish(), End::CloseNotify);
            raw.reply().expect(226);
        }
        for round in 0..6 {
            raw.retrieve("RETR file");
            let mut data = raw.open_data();
            raw.expect("LIST", 150);
            data.handshake().unwrap();
            assert_eq!(
                data.handshake_kind(),
                Some(HandshakeKind::Resumed),
                "{name}, listing {round}"
            );
            data.read_all();
            raw.reply().expect(226);
        }
        // A new control connection resumes too.
        let raw = Raw::explicit_with(&server, &tls);
        assert_eq!(
            raw.handshake_kind(),
            Some(HandshakeKind::Resumed),
            "{name}, second session"
        );
        store.assert_holds(&[("alice/file", b"content")]);
    }
}

#[test]
fn clients_that_never_resume_are_served() {
    let store = Store::local();
    let server = Server::start(&store);
    for version in [Version::Tls12, Version::Tls13] {
        let mut raw = Raw::explicit_with(&server, &server.tls(version).forgetful());
        raw.store("STOR file", b"full handshakes");
        assert_eq!(raw.retrieve("RETR file"), b"full handshakes");
    }
}
