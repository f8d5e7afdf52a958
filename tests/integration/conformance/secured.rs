//! AUTH and the control TLS session (RFC 2228, RFC 4217, RFC 7301).

use std::{fs, process::Command, time::Duration};

use rustls::HandshakeKind;

use super::{
    Site, answers, last_words,
    openssl::{renegotiate, s_client},
    stranger,
};
use crate::harness::{
    End, Raw, Server, Store, Version, run_to_end, users_file, write_certificates,
};

items!(
    c1_auth_tls,
    c2_auth_tls_c,
    c3_auth_ssl_and_tls_p_start_private,
    c4_auth_gssapi,
    c5_auth_without_argument,
    c6_no_server_without_a_certificate,
    c7_second_auth,
    c8_auth_after_login,
    c9_commands_behind_auth,
    c10_failed_handshake_ends_the_connection,
    c11_silence_instead_of_a_hello,
    c12_no_server_name,
    c13_unknown_server_name,
    c14_alpn,
    c15_no_client_certificate_is_asked_for,
    c16_tls_versions,
    c17_kind_of_certificate,
    c18_renegotiation,
    c19_close_notify_before_fin,
    c20_client_leaves_without_close_notify,
    c21_tickets_on_control,
    c22_implicit_tls,
);

fn c1_auth_tls() {
    let store = Store::local();
    let server = Server::start(&store);
    for version in [Version::Tls12, Version::Tls13] {
        let mut raw = Raw::clear(server.explicit);
        raw.expect("AUTH TLS", 234);
        raw.start_tls(&server.tls(version)).unwrap();
        raw.expect("NOOP", 200);
    }
}

/// The level of data connections after AUTH `mechanism`, without PBSZ and PROT.
#[track_caller]
fn starts_private(server: &Server, mechanism: &str) -> bool {
    let mut raw = Raw::clear(server.explicit);
    raw.expect(&format!("AUTH {mechanism}"), 234);
    raw.start_tls(&server.tls(Version::Tls13)).unwrap();
    raw.login("alice");
    let mut data = raw.open_data();
    let reply = raw.command("LIST");
    if reply.code == 521 {
        return false;
    }
    reply.expect(150);
    data.handshake().unwrap();
    assert_eq!(data.read_all().1, End::CloseNotify);
    raw.reply().expect(226);
    // Clear text on such a connection gets nothing.
    let mut data = raw.open_data();
    data.send_raw(b"no hello").unwrap();
    raw.failing_transfer("LIST").expect(522);
    true
}

fn c2_auth_tls_c() {
    let store = Store::local();
    let server = Server::start(&store);
    assert!(!starts_private(&server, "TLS-C"));
    assert!(!starts_private(&server, "TLS"));
}

fn c3_auth_ssl_and_tls_p_start_private() {
    let store = Store::local();
    let server = Server::start(&store);
    assert!(starts_private(&server, "SSL"));
    assert!(starts_private(&server, "TLS-P"));
    assert!(starts_private(&server, "ssl"));
}

fn c4_auth_gssapi() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::clear(server.explicit);
    answers(&mut raw, &[("AUTH GSSAPI", 504), ("AUTH KERBEROS_V4", 504)]);
    raw.expect("AUTH TLS", 234);
    raw.start_tls(&server.tls(Version::Tls13)).unwrap();
    raw.login("alice");
}

fn c5_auth_without_argument() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::clear(server.explicit);
    answers(&mut raw, &[("AUTH", 501), ("AUTH ", 501)]);
    raw.expect("AUTH TLS", 234);
}

/// There is no server whose AUTH could answer 431: one without a usable certificate does not start.
fn c6_no_server_without_a_certificate() {
    let directory = tempfile::TempDir::new().unwrap();
    write_certificates(directory.path());
    fs::write(directory.path().join("users.yaml"), users_file()).unwrap();
    fs::write(directory.path().join("broken.pem"), "no certificate").unwrap();
    for tls in [
        "",
        "tls: {certificate_file: missing.pem, key_file: key.pem}",
        "tls: {certificate_file: broken.pem, key_file: key.pem}",
    ] {
        let config = format!(
            "listeners: [{{name: main, address: '127.0.0.1:0', mode: explicit}}]\n{tls}\n\
             users: {{file: users.yaml}}\nbackends: {{disk: {{type: fs, root: .}}}}\n\
             mounts: [{{path: /, backend: disk}}]\n"
        );
        let file = directory.path().join("causeway.yaml");
        fs::write(&file, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
        command.args(["serve", "-c"]).arg(&file);
        let (status, _, stderr) = run_to_end(command, Duration::from_secs(30));
        assert!(!status.success(), "{tls:?}: {stderr}");
        assert!(stderr.contains("tls") || stderr.contains("pem"), "{stderr}");
    }
}

fn c7_second_auth() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = stranger(&server);
    answers(&mut raw, &[("AUTH TLS", 503), ("AUTH SSL", 503)]);
    raw.login("alice");
}

fn c8_auth_after_login() {
    let mut site = Site::new();
    site.raw.expect("AUTH TLS", 503);
    site.raw.store("STOR file", b"goes on");
    let server = Server::with(&site.store)
        .set("/listeners/0/clear_text", "allow")
        .start();
    let mut clear = Raw::clear(server.explicit);
    clear.login("alice");
    clear.expect("AUTH TLS", 503);
    assert_eq!(clear.retrieve("RETR file"), b"goes on");
}

fn c9_commands_behind_auth() {
    let store = Store::local();
    let server = Server::start(&store);
    for behind in ["FEAT\r\n", "USER alice\r\n", "NOOP\n", "\r\n"] {
        let mut raw = Raw::clear(server.explicit);
        raw.send(format!("AUTH TLS\r\n{behind}").as_bytes())
            .unwrap();
        let said = last_words(&mut raw);
        assert!(said.is_empty() || said == [234], "{behind:?}: {said:?}");
    }
    // The bytes behind may also be the hello of a client in a hurry.
    let tls = server.tls(Version::Tls13);
    let mut raw = Raw::clear(server.explicit);
    let mut session = tls.connection();
    let mut early = b"AUTH TLS\r\n".to_vec();
    session.write_tls(&mut early).unwrap();
    raw.send(&early).unwrap();
    raw.reply().expect(234);
    raw.continue_tls(&tls, session).unwrap();
    raw.expect("NOOP", 200);
}

fn c10_failed_handshake_ends_the_connection() {
    let store = Store::local();
    let server = Server::start(&store);
    for garbage in [&b"USER alice\r\n"[..], &[0x16, 3, 1, 0, 4, 9, 9, 9, 9]] {
        let mut raw = Raw::clear(server.explicit);
        raw.expect("AUTH TLS", 234);
        raw.send(garbage).unwrap();
        raw.wait_closed(Duration::from_secs(10));
    }
    // No cipher suite in common.
    let said = s_client(server.implicit, &["-tls1_2", "-cipher", "AES128-SHA"], "");
    assert!(said.contains("handshake failure"), "{said}");
    assert!(!said.contains("220 "), "{said}");
    assert!(
        server
            .log()
            .iter()
            .any(|line| line.contains("TLS handshake failed")),
        "no alert in the log"
    );
    stranger(&server).login("alice");
}

fn c11_silence_instead_of_a_hello() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/timeouts/tls_handshake_seconds", 1)
        .start();
    let mut raw = Raw::clear(server.explicit);
    raw.expect("AUTH TLS", 234);
    raw.wait_closed(Duration::from_secs(5));
    Raw::silent(server.implicit).wait_closed(Duration::from_secs(5));
}

fn c12_no_server_name() {
    let store = Store::local();
    let server = Server::start(&store);
    for version in [Version::Tls12, Version::Tls13] {
        let tls = server.tls(version).without_sni();
        let mut raw = Raw::explicit_with(&server, &tls);
        raw.store("STOR file", b"nameless");
        let mut raw = Raw::implicit_with(&server, &tls);
        raw.login("alice");
        assert_eq!(raw.retrieve("RETR file"), b"nameless");
    }
}

fn c13_unknown_server_name() {
    let store = Store::local();
    let server = Server::start(&store);
    let said = s_client(server.implicit, &["-servername", "www.other.example"], "");
    assert!(
        said.contains("CN = localhost") || said.contains("CN=localhost"),
        "{said}"
    );
    assert!(said.contains("220 "), "{said}");
}

fn c14_alpn() {
    let store = Store::local();
    let server = Server::start(&store);
    for version in [Version::Tls12, Version::Tls13] {
        for (offer, chosen) in [
            (&[][..], None),
            (&["ftp"], Some(&b"ftp"[..])),
            (&["x-filezilla-ftp", "ftp"], Some(b"ftp")),
            (&["http/1.1", "ftp"], Some(b"ftp")),
        ] {
            let tls = server.tls(version).offering(offer);
            let raw = Raw::secured(&server, &tls);
            assert_eq!(raw.protocol().as_deref(), chosen, "{offer:?}");
            let raw = Raw::implicit_with(&server, &tls);
            assert_eq!(raw.protocol().as_deref(), chosen, "{offer:?}");
        }
        for offer in [&["http/1.1"][..], &["h2"], &["x-filezilla-ftp"]] {
            let tls = server.tls(version).offering(offer);
            let mut raw = Raw::silent(server.implicit);
            let error = raw.start_tls(&tls).unwrap_err().to_string();
            assert!(
                error.contains("NoApplicationProtocol"),
                "{offer:?}: {error}"
            );
        }
    }
}

/// Certificates of clients are asked for where a listener is configured to: by default none is.
fn c15_no_client_certificate_is_asked_for() {
    let store = Store::local();
    let server = Server::start(&store);
    for version in ["-tls1_2", "-tls1_3"] {
        let said = s_client(server.implicit, &[version], "USER alice\r\n");
        assert!(
            said.contains("No client certificate CA names sent"),
            "{said}"
        );
        assert!(!said.contains("Requested Signature Algorithms"), "{said}");
    }
    stranger(&server).expect("USER alice", 331);
}

fn c16_tls_versions() {
    let store = Store::local();
    let server = Server::start(&store);
    for version in [Version::Tls12, Version::Tls13] {
        Raw::explicit_with(&server, &server.tls(version)).expect("NOOP", 200);
    }
    for version in ["-tls1", "-tls1_1"] {
        let options = [version, "-cipher", "ALL:@SECLEVEL=0"];
        let said = s_client(server.implicit, &options, "");
        // Not `protocol_version`: rustls first misses the signature algorithms such clients never send.
        assert!(
            said.contains("alert handshake failure"),
            "{version}: {said}"
        );
        assert!(!said.contains("220 "), "{said}");
    }
    crate::harness::until(
        Duration::from_secs(5),
        "both are logged with their peer",
        || {
            let log = server.log();
            let refused = log.iter().filter(|line| line.contains("no session"));
            match refused
                .filter(|line| line.contains("\"peer\":\"127.0.0.1:"))
                .count()
            {
                2 => Ok(()),
                count => Err(format!("{count} in {log:?}")),
            }
        },
    );
}

/// One key of one kind; a second one beside it is a matter of configuration.
fn c17_kind_of_certificate() {
    let store = Store::local();
    let server = Server::start(&store);
    let cipher = |suite| s_client(server.implicit, &["-tls1_2", "-cipher", suite], "");
    let said = cipher("ECDHE-ECDSA-AES128-GCM-SHA256");
    assert!(said.contains("220 "), "{said}");
    let said = cipher("ECDHE-RSA-AES128-GCM-SHA256");
    assert!(said.contains("handshake failure"), "{said}");
}

fn c18_renegotiation() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/timeouts/idle_seconds", 1)
        .start();
    let said = renegotiate(server.implicit, 1);
    // Asked again, answered once; the idle session then ends as any other.
    assert_eq!(said.matches(", ClientHello\n").count(), 2, "{said}");
    assert_eq!(said.matches(", ServerHello\n").count(), 1, "{said}");
    stranger(&server).login("alice");
}

fn c19_close_notify_before_fin() {
    let store = Store::local();
    let server = Server::start(&store);
    for version in [Version::Tls12, Version::Tls13] {
        let mut raw = Raw::explicit_with(&server, &server.tls(version));
        raw.expect("QUIT", 221);
        assert_eq!(raw.end(), End::CloseNotify);
    }
}

fn c20_client_leaves_without_close_notify() {
    let store = Store::local();
    let server = Server::start(&store);
    for _ in 0..3 {
        Raw::explicit(&server).hang_up();
    }
    crate::harness::until(Duration::from_secs(5), "sessions ended", || {
        let log = server.log();
        let ended = log.iter().filter(|line| line.contains("disconnected"));
        if ended.count() == 3 {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    });
    for line in server.log() {
        assert!(
            !line.contains("\"ERROR\"") && !line.contains("\"WARN\""),
            "{line}"
        );
    }
}

fn c21_tickets_on_control() {
    let store = Store::local();
    let server = Server::start(&store);
    let tls = server.tls(Version::Tls13);
    let mut raw = Raw::explicit_with(&server, &tls);
    assert!(tls.tickets() >= 2, "{} tickets", tls.tickets());
    for _ in 0..2 {
        let mut data = raw.begin_transfer("STOR file");
        assert_eq!(data.handshake_kind(), Some(HandshakeKind::Resumed));
        data.write(b"content").unwrap();
        assert_eq!(data.finish(), End::CloseNotify);
        raw.reply().expect(226);
    }
    // One ticket, many times: TLS 1.2 clients keep theirs.
    let tls = server.tls(Version::Tls12);
    let mut raw = Raw::explicit_with(&server, &tls);
    for _ in 0..5 {
        let mut data = raw.begin_transfer("STOR file");
        assert_eq!(data.handshake_kind(), Some(HandshakeKind::Resumed));
        data.write(b"content").unwrap();
        assert_eq!(data.finish(), End::CloseNotify);
        raw.reply().expect(226);
    }
}

fn c22_implicit_tls() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::implicit_with(&server, &server.tls(Version::Tls13));
    raw.expect("AUTH TLS", 503);
    raw.login("alice");
    raw.store("STOR file", b"private at once");
    answers(&mut raw, &[("PBSZ 0", 200), ("PROT P", 200)]);
    assert_eq!(raw.retrieve("RETR file"), b"private at once");
}
