//! How a control connection becomes TLS, and what cannot be smuggled around it.

use std::time::Duration;

use crate::harness::{Raw, Server, Store, Version};

/// STARTTLS injection (CVE-2011-1575 and its family): what is said in clear behind AUTH must run
/// neither before nor after the handshake. libunftp 0.24 answers it, 30 of 30.
#[test]
fn s1_commands_pipelined_behind_auth_are_never_executed() {
    let store = Store::local();
    let server = Server::start(&store);
    for line in [
        "AUTH TLS\r\nFEAT\r\n",
        "AUTH TLS\r\nUSER alice\r\n",
        "AUTH TLS\nNOOP\n",
    ] {
        for _ in 0..10 {
            let mut raw = Raw::clear(server.explicit);
            raw.send(line.as_bytes()).unwrap();
            let replies = raw.until_closed(Duration::from_secs(10));
            let codes: Vec<u16> = replies.iter().map(|reply| reply.code).collect();
            assert!(
                codes.is_empty() || codes == [234] || codes == [234, 421],
                "{replies:?}"
            );
        }
    }
}

/// The bytes behind AUTH may be a `ClientHello` from a client in a hurry.
#[test]
fn client_hello_sent_with_auth_works() {
    let store = Store::local();
    let server = Server::start(&store);
    for version in [Version::Tls12, Version::Tls13] {
        let tls = server.tls(version);
        let mut raw = Raw::clear(server.explicit);
        let mut session = tls.connection();
        let mut early = b"AUTH TLS\r\n".to_vec();
        session.write_tls(&mut early).unwrap();
        raw.send(&early).unwrap();
        raw.reply().expect(234);
        raw.continue_tls(&tls, session).unwrap();
        raw.protect();
        raw.login("alice");
        raw.store("STOR file", b"early");
        store.assert_holds(&[("alice/file", b"early")]);
    }
}

#[test]
fn every_spelling_of_auth_is_taken() {
    let store = Store::local();
    let server = Server::start(&store);
    for mechanism in ["TLS", "SSL", "TLS-C", "TLS-P", "tls"] {
        let mut raw = Raw::clear(server.explicit);
        raw.expect(&format!("AUTH {mechanism}"), 234);
        raw.start_tls(&server.tls(Version::Tls13)).unwrap();
        raw.expect("AUTH TLS", 503);
        raw.protect();
        raw.login("alice");
        raw.expect("AUTH TLS", 503);
        raw.expect("PWD", 257);
    }
    let mut raw = Raw::clear(server.explicit);
    raw.expect("AUTH", 501);
    raw.expect("AUTH GSSAPI", 504);
    raw.expect("AUTH TLS", 234);
}

/// What was said in clear is forgotten.
#[test]
fn s2_nothing_said_in_clear_survives_the_handshake() {
    let store = Store::local();
    let server = Server::start(&store);
    let untouched = Raw::secured(&server, &server.tls(Version::Tls13)).expect("FEAT", 211);
    let mut raw = Raw::clear(server.explicit);
    raw.expect("USER alice", 530);
    for line in [
        "OPTS MLST size;",
        "OPTS HASH MD5",
        "PBSZ 0",
        "PROT P",
        "TYPE I",
    ] {
        raw.command(line);
    }
    raw.expect("AUTH TLS", 234);
    raw.start_tls(&server.tls(Version::Tls13)).unwrap();
    assert_eq!(raw.expect("FEAT", 211), untouched);
    raw.expect("PASS secret123", 503);
    raw.protect();
    raw.login("alice");
}

/// A name that was said in the clear is nobody's under TLS.
#[test]
fn s3_user_in_clear_is_no_user_under_tls() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/listeners/0/clear_text", "allow")
        .start();
    let mut raw = Raw::clear(server.explicit);
    raw.expect("USER alice", 331);
    raw.expect("AUTH TLS", 234);
    raw.start_tls(&server.tls(Version::Tls13)).unwrap();
    raw.expect("PASS secret123", 503);
    raw.expect("PWD", 530);
    raw.login("alice");
}

#[test]
fn silence_after_auth_ends_the_connection() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/timeouts/tls_handshake_seconds", 1)
        .start();
    let mut raw = Raw::clear(server.explicit);
    raw.expect("AUTH TLS", 234);
    assert!(raw.until_closed(Duration::from_secs(8)).is_empty());
    // And on the implicit port, before the first byte.
    let mut raw = Raw::silent(server.implicit);
    assert!(raw.until_closed(Duration::from_secs(8)).is_empty());
    // Half a handshake is no better than none.
    let mut raw = Raw::clear(server.explicit);
    raw.expect("AUTH TLS", 234);
    raw.send(b"\x16\x03\x01\x02\x00\x01").unwrap();
    assert!(raw.until_closed(Duration::from_secs(8)).is_empty());
}

#[test]
fn silence_before_login_ends_the_connection() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/timeouts/login_seconds", 2)
        .start();
    let mut raw = Raw::clear(server.explicit);
    let replies = raw.until_closed(Duration::from_secs(10));
    assert!(replies.iter().all(|reply| reply.code == 421), "{replies:?}");
    let mut raw = Raw::secured(&server, &server.tls(Version::Tls13));
    raw.expect("USER alice", 331);
    let replies = raw.until_closed(Duration::from_secs(10));
    assert_eq!(
        replies.iter().map(|reply| reply.code).collect::<Vec<_>>(),
        [421]
    );
}

#[test]
fn idle_session_gets_421() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/timeouts/idle_seconds", 2)
        .start();
    let mut raw = Raw::explicit(&server);
    let replies = raw.until_closed(Duration::from_secs(10));
    assert_eq!(
        replies.iter().map(|reply| reply.code).collect::<Vec<_>>(),
        [421]
    );
}

#[test]
fn s15_alpn_selects_ftp() {
    let store = Store::local();
    let server = Server::start(&store);
    for version in [Version::Tls12, Version::Tls13] {
        let tls = server.tls(version);
        for offer in [&["ftp"][..], &["x-filezilla-ftp", "ftp"]] {
            let offering = tls.clone().offering(offer);
            let mut raw = Raw::secured(&server, &offering);
            assert_eq!(raw.protocol().as_deref(), Some(&b"ftp"[..]), "{offer:?}");
            raw.expect("FEAT", 211);
            let raw = Raw::implicit_with(&server, &offering);
            assert_eq!(raw.protocol().as_deref(), Some(&b"ftp"[..]), "{offer:?}");
        }
        let raw = Raw::secured(&server, &tls);
        assert_eq!(raw.protocol(), None);
    }
}

/// ALPACA (CVE-2021-3618): a connection meant for a web server gets no FTP greeting.
#[test]
fn s14_alpn_of_the_web_is_refused() {
    let store = Store::local();
    let server = Server::start(&store);
    for version in [Version::Tls12, Version::Tls13] {
        let tls = server.tls(version);
        for offer in [&["http/1.1"][..], &["h2", "http/1.1"]] {
            let offering = tls.clone().offering(offer);
            let mut raw = Raw::clear(server.explicit);
            raw.expect("AUTH TLS", 234);
            let error = raw.start_tls(&offering).unwrap_err();
            assert!(
                error.to_string().contains("NoApplicationProtocol"),
                "{error}"
            );
            let mut raw = Raw::silent(server.implicit);
            let error = raw.start_tls(&offering).unwrap_err();
            assert!(
                error.to_string().contains("NoApplicationProtocol"),
                "{error}"
            );
        }
    }
}

#[test]
fn garbage_instead_of_a_handshake_ends_the_connection() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::clear(server.explicit);
    raw.expect("AUTH TLS", 234);
    raw.send(&[0x16, 3, 1, 0, 4, 9, 9, 9, 9]).unwrap();
    // An alert may come, which is no reply: read below the line reader.
    raw.wait_closed(Duration::from_secs(10));
    let mut raw = Raw::silent(server.implicit);
    raw.send(b"USER alice\r\n").unwrap();
    raw.wait_closed(Duration::from_secs(10));
}

#[test]
fn feat_offers_tls_before_and_after_auth() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::clear(server.explicit);
    let clear = raw.expect("FEAT", 211);
    raw.expect("AUTH TLS", 234);
    raw.start_tls(&server.tls(Version::Tls13)).unwrap();
    let secured = raw.expect("FEAT", 211);
    for reply in [clear, secured] {
        for feature in [
            "AUTH TLS",
            "PBSZ",
            "PROT",
            "EPSV",
            "UTF8",
            "SIZE",
            "MDTM",
            "REST STREAM",
        ] {
            let found = reply.lines.iter().any(|line| {
                line.strip_prefix(' ')
                    .is_some_and(|line| line.starts_with(feature))
            });
            assert!(found, "{feature} is missing in {reply}");
        }
    }
}
