//! What a listener says about TLS: versions, suites, several certificates, reloads.

use std::{fs, os::unix::fs::symlink, time::Duration};

use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use rustls::SignatureScheme;
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Authority, Builder, Identity, Raw, Server, Store, Tls, Version, until};

const VERSIONS: [Version; 2] = [Version::Tls12, Version::Tls13];

/// TLS with these certificates, the first one the default.
fn with_certificates(store: &Store, certificates: &[&Identity]) -> Builder {
    let mut builder = Server::with(store);
    let mut listed = Vec::new();
    for (number, identity) in certificates.iter().enumerate() {
        let names = [format!("{number}.pem"), format!("{number}.key")];
        builder = builder
            .file(&names[0], &identity.certificate)
            .file(&names[1], &identity.key);
        listed.push(json!({"certificate_file": names[0], "key_file": names[1]}));
    }
    builder.set("/tls/certificates", listed)
}

fn replace(server: &Server, name: &str, content: &str) {
    // As cert-manager and ACME clients do it: one rename, never half a file.
    let new = server.directory().join("new");
    fs::write(&new, content).unwrap();
    fs::rename(new, server.directory().join(name)).unwrap();
}

/// Whether a control connection and a data connection show this certificate.
#[track_caller]
fn assert_shows(server: &Server, tls: &Tls, identity: &Identity) {
    let mut raw = Raw::explicit_with(server, tls);
    assert!(raw.server_certificate() == identity.chain()[0]);
    let mut data = raw.open_data();
    raw.expect("LIST", 150);
    data.handshake().unwrap();
    assert!(data.server_certificate() == identity.chain()[0]);
    data.read_all();
    raw.reply().expect(226);
}

fn handshake_fails(server: &Server, tls: &Tls) -> bool {
    let mut raw = Raw::clear(server.explicit);
    raw.expect("AUTH TLS", 234);
    // The last flight may be away before the alert comes.
    raw.start_tls(tls).and_then(|()| raw.try_reply()).is_err()
}

#[test]
fn minimum_version_shuts_out_older_clients() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/tls/minimum_version", "1.3")
        .start();
    Raw::explicit(&server).store("STOR file", b"new");
    assert!(handshake_fails(&server, &server.tls(Version::Tls12)));
    // The client may know before the server has counted it.
    until(Duration::from_secs(10), "the failure is counted", || {
        let failed = server.metric("causeway_tls_handshakes_total", &["control", "failed"]);
        let is_one = (failed - 1.0).abs() < 0.1;
        is_one.then_some(()).ok_or(failed.to_string())
    });
}

#[test]
fn only_the_configured_cipher_suites_are_spoken() {
    let store = Store::local();
    let suites = [
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    ];
    let server = Server::with(&store)
        .set("/tls/cipher_suites", suites.to_vec())
        .start();
    for version in VERSIONS {
        let only = |word: &'static str| {
            server.tls(version).with_provider(move |provider| {
                provider
                    .cipher_suites
                    .retain(|suite| format!("{suite:?}").contains(word));
            })
        };
        Raw::explicit_with(&server, &only("CHACHA20")).store("STOR file", b"content");
        assert!(handshake_fails(&server, &only("AES")));
    }
}

#[test]
fn certificate_is_chosen_by_server_name() {
    let store = Store::local();
    let authority = Authority::new();
    let default = authority.server(&["localhost"], &PKCS_ECDSA_P256_SHA256);
    let one = authority.server(&["one.example"], &PKCS_ECDSA_P256_SHA256);
    let many = authority.server(&["*.many.example", "two.example"], &PKCS_ECDSA_P256_SHA256);
    let server = with_certificates(&store, &[&default, &one, &many]).start();
    for version in VERSIONS {
        let tls = Tls::new(version, &authority.certificate());
        for (name, identity) in [
            ("localhost", &default),
            ("one.example", &one),
            ("ONE.example", &one),
            ("two.example", &many),
            ("any.many.example", &many),
        ] {
            assert_shows(&server, &tls.clone().calling(name), identity);
        }
        assert_shows(&server, &tls.clone().without_sni(), &default);
        // Another name gets the default certificate; it is the client that refuses it.
        assert!(handshake_fails(
            &server,
            &tls.clone().calling("a.b.many.example")
        ));
    }
}

#[test]
fn s16_strict_sni_refuses_unknown_names_and_serves_clients_without_one() {
    let store = Store::local();
    let authority = Authority::new();
    let default = authority.server(&["localhost"], &PKCS_ECDSA_P256_SHA256);
    let server = with_certificates(&store, &[&default])
        .set("/tls/sni", "strict")
        .start();
    for version in VERSIONS {
        let tls = Tls::new(version, &authority.certificate());
        assert_shows(&server, &tls, &default);
        assert_shows(&server, &tls.clone().without_sni(), &default);
        assert!(handshake_fails(&server, &tls.calling("www.example")));
    }
}

#[test]
fn rsa_and_ecdsa_stand_side_by_side() {
    let store = Store::local();
    let authority = Authority::new();
    let rsa = authority.server(&["localhost"], &PKCS_RSA_SHA256);
    let ecdsa = authority.server(&["localhost"], &PKCS_ECDSA_P256_SHA256);
    let server = with_certificates(&store, &[&rsa, &ecdsa]).start();
    for version in VERSIONS {
        let tls = Tls::new(version, &authority.certificate());
        assert_shows(&server, &tls, &rsa);
        // Verifies and so announces ECDSA alone; its authority signs with that too.
        let only_ecdsa = tls.with_provider(|provider| {
            let is_ecdsa = |scheme: &SignatureScheme| format!("{scheme:?}").starts_with("ECDSA");
            provider.signature_verification_algorithms.mapping = provider
                .signature_verification_algorithms
                .mapping
                .iter()
                .filter(|(scheme, _)| is_ecdsa(scheme))
                .copied()
                .collect::<Vec<_>>()
                .leak();
        });
        assert_shows(&server, &only_ecdsa, &ecdsa);
    }
}

#[test]
fn host_is_answered_by_the_names_of_the_certificates() {
    let store = Store::local();
    let authority = Authority::new();
    let default = authority.server(&["localhost"], &PKCS_ECDSA_P256_SHA256);
    let one = authority.server(&["one.example"], &PKCS_ECDSA_P256_SHA256);
    let server = with_certificates(&store, &[&default, &one]).start();
    let tls = Tls::new(Version::Tls13, &authority.certificate());

    let mut raw = Raw::clear(server.explicit);
    raw.expect("HOST one.example", 220);
    raw.expect("HOST www.example", 504);
    assert!(raw.expect("FEAT", 211).text().contains("\n HOST"));

    let mut raw = Raw::secured(&server, &tls.clone().calling("one.example"));
    raw.expect("HOST One.Example", 220);
    raw.expect("HOST localhost", 504);
    raw.login("alice");
    raw.expect("HOST one.example", 503);

    let mut raw = Raw::secured(&server, &tls.without_sni());
    raw.expect("HOST one.example", 220);

    // With one set of names there is nothing to choose.
    let server = Server::start(&store);
    let mut raw = Raw::clear(server.explicit);
    assert!(!raw.expect("FEAT", 211).text().contains("HOST"));
}

#[test]
fn changed_certificate_is_taken_up_and_sessions_keep_theirs() {
    let store = Store::local();
    let authority = Authority::new();
    let old = authority.server(&["localhost"], &PKCS_ECDSA_P256_SHA256);
    let new = authority.server(&["localhost"], &PKCS_ECDSA_P256_SHA256);
    let server = with_certificates(&store, &[&old])
        .set_listeners("resumption", &json!("enforced"))
        .start();
    let tls = Tls::new(Version::Tls13, &authority.certificate());
    let mut before = Raw::explicit_with(&server, &tls);

    replace(&server, "0.pem", &new.certificate);
    replace(&server, "0.key", &new.key);
    until(
        Duration::from_secs(30),
        "the new certificate is served",
        || {
            let raw = Raw::secured(&server, &tls.clone().forgetful());
            (raw.server_certificate() == new.chain()[0])
                .then_some(())
                .ok_or_else(|| "still the old one".to_owned())
        },
    );
    let reloaded = server.metric("causeway_certificate_reloads_total", &["reloaded"]);
    assert!(reloaded >= 1.0, "{reloaded}");

    // The old session, its tickets and its certificate go on.
    before.store("STOR file", b"after the reload");
    let mut data = before.open_data();
    before.expect("LIST", 150);
    data.handshake().unwrap();
    assert!(data.server_certificate() == old.chain()[0]);
    data.read_all();
    before.reply().expect(226);
    store.assert_holds(&[("alice/file", b"after the reload")]);
}

/// A secret of Kubernetes: the files are links through `..data`, and that one link is swapped.
#[test]
fn swapped_link_of_a_kubernetes_secret_is_taken_up() {
    let store = Store::local();
    let authority = Authority::new();
    let secret = TempDir::new().unwrap();
    let at = |name: &str| secret.path().join(name);
    let issue = |version: &str| {
        let identity = authority.server(&["localhost"], &PKCS_ECDSA_P256_SHA256);
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("tls.crt"), &identity.certificate).unwrap();
        fs::write(at(version).join("tls.key"), &identity.key).unwrap();
        symlink(version, at("..new")).unwrap();
        fs::rename(at("..new"), at("..data")).unwrap();
        identity
    };
    let old = issue("..1");
    for name in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{name}"), at(name)).unwrap();
    }
    let server = Server::with(&store)
        .set("/tls/certificate_file", at("tls.crt").to_str().unwrap())
        .set("/tls/key_file", at("tls.key").to_str().unwrap())
        .start();
    let tls = Tls::new(Version::Tls13, &authority.certificate()).forgetful();
    assert_shows(&server, &tls, &old);
    let new = issue("..2");
    fs::remove_dir_all(at("..1")).unwrap();
    until(Duration::from_secs(30), "the new secret is served", || {
        let raw = Raw::secured(&server, &tls);
        (raw.server_certificate() == new.chain()[0])
            .then_some(())
            .ok_or_else(|| "still the old one".to_owned())
    });
    let failed = server.metric("causeway_certificate_reloads_total", &["failed"]);
    assert!(failed < 0.1, "{failed}");
}

#[test]
fn broken_pair_keeps_the_old_certificate_and_says_why() {
    let store = Store::local();
    let authority = Authority::new();
    let old = authority.server(&["localhost"], &PKCS_ECDSA_P256_SHA256);
    let new = authority.server(&["localhost"], &PKCS_ECDSA_P256_SHA256);
    let server = with_certificates(&store, &[&old]).start();
    let tls = Tls::new(Version::Tls13, &authority.certificate()).forgetful();

    replace(&server, "0.pem", &new.certificate);
    server.hang_up();
    let why = "the key does not belong to";
    until(Duration::from_secs(30), "the reason is logged", || {
        let log = server.log();
        let logged = log.iter().any(|line| line.contains(why));
        logged.then_some(()).ok_or_else(|| "nothing yet".to_owned())
    });
    assert!(server.metric("causeway_certificate_reloads_total", &["failed"]) >= 1.0);
    assert_shows(&server, &tls, &old);

    // SIGHUP does not wait for a change to settle.
    replace(&server, "0.key", &new.key);
    server.hang_up();
    until(Duration::from_secs(30), "the whole pair is served", || {
        let raw = Raw::secured(&server, &tls);
        (raw.server_certificate() == new.chain()[0])
            .then_some(())
            .ok_or_else(|| "still the old one".to_owned())
    });
}

#[test]
fn end_of_certificates_is_a_metric_and_a_log_line() {
    let store = Store::local();
    let authority = Authority::new();
    let good = authority.server(&["localhost"], &PKCS_ECDSA_P256_SHA256);
    let server = with_certificates(&store, &[&good, &authority.expired(&["old.example"])]).start();
    let name = "causeway_certificate_expiry_timestamp_seconds";
    let end = until(Duration::from_secs(10), "the metric is there", || {
        let end = server.metric(name, &["listener=\"explicit\"", "1.pem"]);
        (end > 0.0).then_some(end).ok_or_else(|| "0".to_owned())
    });
    // 2021-01-01.
    assert!((end - 1_609_459_200.0).abs() < 1.0, "{end}");
    until(Duration::from_secs(10), "the log says so", || {
        let log = server.log();
        let said = log
            .iter()
            .any(|line| line.contains("certificate has expired"));
        said.then_some(()).ok_or_else(|| "nothing yet".to_owned())
    });
}
