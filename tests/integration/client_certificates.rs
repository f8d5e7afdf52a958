//! Certificates of clients: who must have one, whom it names, and that data connections show the same.

use aws_lc_rs::digest::{SHA256, digest};
use rustls::HandshakeKind;
use serde_json::json;

use crate::harness::{Authority, Builder, Identity, PASSWORD, Raw, Server, Store, Tls, Version};

const VERSIONS: [Version; 2] = [Version::Tls12, Version::Tls13];

/// Asks for certificates of `authority`; knows who needs which.
fn server(store: &Store, authority: &Authority, mode: &str, map_by: &str) -> Builder {
    store.make_home("plc");
    store.make_home("anna");
    Server::with(store)
        .file("clients.pem", &authority.pem())
        .set(
            "/tls/client_certificates",
            json!({"mode": mode, "ca_file": "clients.pem", "map": {"by": map_by}}),
        )
        .user("{name: plc, login: certificate, certificates: [plc@example.com, plc-cn]}")
        .user(&format!(
            "{{name: anna, login: both, certificates: [anna@example.com], password_hash: {:?}}}",
            crate::harness::password_hash()
        ))
}

fn refused(server: &Server, tls: &Tls) -> bool {
    let mut raw = Raw::clear(server.explicit);
    raw.expect("AUTH TLS", 234);
    // TLS 1.3: the client is done before the server looks at its certificate.
    raw.start_tls(tls)
        .and_then(|()| raw.send(b"NOOP\r\n"))
        .and_then(|()| raw.try_reply())
        .is_err()
}

/// A session up to USER.
fn secured(server: &Server, tls: &Tls) -> Raw {
    let mut raw = Raw::secured(server, tls);
    raw.protect();
    raw
}

#[test]
fn request_takes_clients_with_and_without_certificates() {
    let store = Store::local();
    let authority = Authority::new();
    let server = server(&store, &authority, "request", "san").start();
    let plc = authority.client("plc-cn", "plc@example.com", 1);
    let anna = authority.client("anna", "anna@example.com", 2);
    for version in VERSIONS {
        // Without one: the password is all there is.
        let mut raw = Raw::explicit_with(&server, &server.tls(version));
        raw.store("STOR file", b"by password");

        // The only factor.
        let mut raw = secured(&server, &server.tls(version).presenting(&plc));
        raw.expect("USER plc", 232);
        raw.expect("PASS whatever", 202);
        raw.expect("USER plc", 503);
        raw.expect("TYPE I", 200);
        raw.store("STOR file", b"by certificate");
        assert_eq!(raw.retrieve("RETR file"), b"by certificate");

        // The second factor, which is worth nothing without the first.
        let mut raw = secured(&server, &server.tls(version).presenting(&anna));
        raw.expect("USER anna", 331);
        raw.expect("PASS wrong", 530);
        raw.expect("USER anna", 331);
        raw.expect(&format!("PASS {PASSWORD}"), 230);

        // Nobody else's, and no password instead.
        for (user, tls) in [
            ("plc", server.tls(version).presenting(&anna)),
            ("plc", server.tls(version)),
            ("anna", server.tls(version).presenting(&plc)),
            ("anna", server.tls(version)),
        ] {
            let mut raw = secured(&server, &tls);
            raw.expect(&format!("USER {user}"), 331);
            raw.expect(&format!("PASS {PASSWORD}"), 530);
        }

        // One of a stranger's authority is no certificate at all.
        let stranger = Authority::new().client("plc-cn", "plc@example.com", 1);
        assert!(refused(&server, &server.tls(version).presenting(&stranger)));
    }
    store.assert_holds(&[
        ("alice/file", b"by password"),
        ("plc/file", b"by certificate"),
    ]);
}

#[test]
fn require_refuses_handshakes_without_a_certificate() {
    let store = Store::local();
    let authority = Authority::new();
    let server = server(&store, &authority, "require", "san").start();
    let plc = authority.client("plc-cn", "plc@example.com", 1);
    for version in VERSIONS {
        assert!(refused(&server, &server.tls(version)));
        let tls = server.tls(version).presenting(&plc);
        let mut raw = secured(&server, &tls);
        // The password is asked for where that is what the user needs.
        raw.login("alice");
        raw.store("STOR file", b"content");
        // A data connection must show one too, unless it resumes the session that did.
        raw.use_for_data(&server.tls(version));
        let mut data = raw.open_data();
        raw.expect("LIST", 150);
        let _ = data.handshake();
        raw.reply().expect(522);
        raw.use_for_data(&tls);
        raw.retrieve("LIST");
    }
}

#[test]
fn data_connection_shows_the_certificate_of_its_control_connection() {
    let store = Store::local();
    let authority = Authority::new();
    let server = server(&store, &authority, "request", "san").start();
    let plc = authority.client("plc-cn", "plc@example.com", 1);
    let anna = authority.client("anna", "anna@example.com", 2);
    for (number, version) in VERSIONS.into_iter().enumerate() {
        for (control, data) in [
            (server.tls(version).presenting(&plc), &anna),
            (server.tls(version), &plc),
        ] {
            let mut raw = secured(&server, &control);
            raw.login("alice");
            raw.use_for_data(&server.tls(version).presenting(data));
            let mut data = raw.open_data();
            raw.expect("LIST", 150);
            let _ = data.handshake();
            let refused = raw.reply().expect(522).text();
            assert!(refused.contains("another certificate"), "{refused}");
            raw.use_for_data(&control);
            raw.retrieve("LIST");
        }
        let events = server.metric(
            "causeway_security_events_total",
            &["other_client_certificate"],
        );
        let expected = f64::from(u32::try_from(number + 1).unwrap() * 2);
        assert!((events - expected).abs() < 0.1, "{events}");
    }
}

#[test]
fn revoked_certificate_is_refused_as_soon_as_the_list_says_so() {
    let store = Store::local();
    let authority = Authority::new();
    let server = server(&store, &authority, "request", "san")
        .file("clients.crl", &authority.revoked(&[1]))
        .set("/tls/client_certificates/crl_file", "clients.crl")
        .start();
    let revoked = authority.client("plc-cn", "plc@example.com", 1);
    let valid = authority.client("plc-cn", "plc@example.com", 2);
    for version in VERSIONS {
        assert!(refused(&server, &server.tls(version).presenting(&revoked)));
        let tls = server.tls(version).presenting(&valid);
        secured(&server, &tls).expect("USER plc", 232);
        // A resumed control connection would not be looked at again.
        let mut raw = secured(&server, &tls);
        assert_ne!(raw.handshake_kind(), Some(HandshakeKind::Resumed));
        raw.expect("USER plc", 232);
        let mut data = raw.open_data();
        raw.expect("LIST", 150);
        data.handshake().unwrap();
        assert_eq!(data.handshake_kind(), Some(HandshakeKind::Resumed));
        data.read_all();
        raw.reply().expect(226);
    }
    // Changed while the server runs.
    let list = server.directory().join("clients.crl");
    std::fs::write(list, authority.revoked(&[1, 2])).unwrap();
    server.hang_up();
    crate::harness::until(
        std::time::Duration::from_secs(30),
        "the new list counts",
        || {
            let tls = server.tls(Version::Tls13).presenting(&valid);
            refused(&server, &tls)
                .then_some(())
                .ok_or_else(|| "still let in".to_owned())
        },
    );
}

#[test]
fn certificates_are_mapped_by_common_name_or_fingerprint() {
    let store = Store::local();
    let authority = Authority::new();
    let plc = authority.client("plc-cn", "other@example.com", 1);
    let cn = server(&store, &authority, "request", "cn").start();
    let tls = cn.tls(Version::Tls13).presenting(&plc);
    secured(&cn, &tls).expect("USER plc", 232);
    let other = authority.client("other", "plc@example.com", 2);
    let tls = cn.tls(Version::Tls13).presenting(&other);
    secured(&cn, &tls).expect("USER plc", 331);

    let by_hash = server(&store, &authority, "request", "fingerprint")
        .user(&format!(
            "{{name: hash, login: certificate, certificates: [{:?}]}}",
            fingerprint(&plc)
        ))
        .start();
    store.make_home("hash");
    let tls = by_hash.tls(Version::Tls12).presenting(&plc);
    secured(&by_hash, &tls).expect("USER hash", 232);
    let tls = by_hash.tls(Version::Tls12).presenting(&other);
    secured(&by_hash, &tls).expect("USER hash", 331);
}

/// As `openssl x509 -fingerprint -sha256` prints it.
fn fingerprint(identity: &Identity) -> String {
    let hash = digest(&SHA256, &identity.chain()[0]);
    let pairs = hash.as_ref().iter().map(|byte| format!("{byte:02X}"));
    pairs.collect::<Vec<_>>().join(":")
}
