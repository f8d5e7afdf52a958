//! Passive ports: who connects, when, and protected how. Each 1xx is followed by one final reply.

use std::{
    net::{IpAddr, Ipv4Addr, TcpStream},
    time::Duration,
};

use crate::harness::{Data, End, Raw, Server, Store, Version, on_each_store};

on_each_store!(
    silence_inside_the_data_handshake_ends_the_transfer,
    handshake_before_and_after_the_command_both_work,
    handshake_that_the_client_waits_for_comes_before_its_command,
);

/// The session still does a whole transfer.
#[track_caller]
fn assert_usable(raw: &mut Raw, store: &Store) {
    raw.store("STOR after", b"usable");
    assert_eq!(raw.retrieve("RETR after"), b"usable");
    store.assert_holds(&[("alice/after", b"usable")]);
    raw.expect("DELE after", 250);
    store.assert_holds(&[]);
}

#[test]
fn silence_after_pasv_gets_425_within_the_deadline() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/timeouts/data_connect_seconds", 1)
        .start();
    let mut raw = Raw::explicit(&server);
    for line in ["STOR file", "LIST", "NLST", "MLSD"] {
        raw.epsv();
        let first = raw.command(line);
        let last = if first.code == 150 {
            raw.reply_within(Duration::from_secs(8))
        } else {
            first
        };
        last.expect(425);
        assert_usable(&mut raw, &store);
    }
}

#[test]
fn transfer_without_pasv_gets_425() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::explicit(&server);
    raw.expect("STOR file", 425);
    raw.expect("LIST", 425);
    // A port is good for one transfer.
    assert_usable(&mut raw, &store);
    raw.expect("LIST", 425);
}

fn silence_inside_the_data_handshake_ends_the_transfer(store: &Store) {
    let server = Server::with(store)
        .set("/timeouts/tls_handshake_seconds", 1)
        .start();
    let mut raw = Raw::explicit(&server);
    for start in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        for line in ["STOR file", "LIST"] {
            let mut data = raw.open_data();
            data.send_raw(start).unwrap();
            let first = raw.command(line);
            let last = if first.code == 150 {
                raw.reply_within(Duration::from_secs(8))
            } else {
                first
            };
            last.expect_any(&[425, 426, 522]);
            data.wait_closed(Duration::from_secs(5));
            assert_usable(&mut raw, store);
        }
    }
}

#[test]
fn clear_text_on_a_protected_data_connection_is_refused() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::explicit(&server);
    for line in ["STOR file", "LIST"] {
        let mut data = raw.open_data();
        data.send_raw(b"these bytes are no ClientHello\r\n")
            .unwrap();
        raw.failing_transfer(line).expect_any(&[425, 522]);
        data.wait_closed(Duration::from_secs(5));
        assert_usable(&mut raw, &store);
    }
}

fn handshake_before_and_after_the_command_both_work(store: &Store) {
    let server = Server::start(store);
    for version in [Version::Tls12, Version::Tls13] {
        let tls = server.tls(version);
        let mut raw = Raw::explicit_with(&server, &tls);
        // curl, basic-ftp: the ClientHello is there before the command.
        let mut data = raw.open_data();
        data.say_hello();
        raw.send(b"STOR early\r\n").unwrap();
        data.handshake().unwrap();
        raw.reply().expect(150);
        data.write(b"hello first").unwrap();
        assert_eq!(data.finish(), End::CloseNotify);
        raw.reply().expect(226);
        // basic-ftp with an empty file: done before the 150 is read.
        let mut data = raw.open_data();
        data.say_hello();
        raw.send(b"STOR zero\r\n").unwrap();
        data.handshake().unwrap();
        assert_eq!(data.finish(), End::CloseNotify);
        raw.reply().expect(150);
        raw.reply().expect(226);
        // lftp, ftplib: connected before the command, handshake after the 150.
        raw.store("STOR late", b"150 first");
        // WinSCP: not even connected before the command.
        let address = raw.epsv();
        raw.send(b"STOR last\r\n").unwrap();
        let mut data = raw.connect_data(address);
        raw.reply().expect(150);
        data.handshake().unwrap();
        data.write(b"connected last").unwrap();
        assert_eq!(data.finish(), End::CloseNotify);
        raw.reply().expect(226);
        store.assert_holds(&[
            ("alice/early", b"hello first"),
            ("alice/zero", b""),
            ("alice/late", b"150 first"),
            ("alice/last", b"connected last"),
        ]);
        for name in ["early", "zero", "late", "last"] {
            raw.expect(&format!("DELE {name}"), 250);
        }
    }
}

/// CVE-1999-0351 and its opposite: the stray peer gets nothing, and takes nothing from the right one.
/// aioftp sends no command before the data handshake is done.
fn handshake_that_the_client_waits_for_comes_before_its_command(store: &Store) {
    let server = Server::start(store);
    for version in [Version::Tls12, Version::Tls13] {
        let tls = server.tls(version);
        let mut raw = Raw::explicit_with(&server, &tls);
        let mut upload = raw.open_data();
        upload.handshake().unwrap();
        // As on every upload: a ticket would turn this client's close into a reset.
        let tickets = tls.tickets();
        raw.expect("STOR file", 150);
        upload.write(b"patient").unwrap();
        assert_eq!(upload.finish(), End::CloseNotify);
        raw.reply().expect(226);
        assert_eq!(tls.tickets(), tickets);
        for (line, content) in [("RETR file", b"patient".as_slice()), ("NLST", b"file\r\n")] {
            let mut download = raw.open_data();
            download.handshake().unwrap();
            assert!(download.handshake_kind().is_some());
            raw.expect(line, 150);
            assert_eq!(download.read_all(), (content.to_vec(), End::CloseNotify));
            raw.reply().expect(226);
        }
        // A command that is refused ends the connection.
        let mut data = raw.open_data();
        data.handshake().unwrap();
        raw.expect("RETR nothing", 550);
        data.wait_closed(Duration::from_secs(10));
        raw.expect("DELE file", 250);
        assert_usable(&mut raw, store);
    }
    // Bytes that are no ClientHello are for the command to judge.
    let mut raw = Raw::explicit(&server);
    let mut data = raw.open_data();
    data.send_raw(b"GET / HTTP/1.1\r\n").unwrap();
    raw.failing_transfer("STOR file").expect(522);
    assert_usable(&mut raw, store);
}

#[test]
fn early_handshake_and_prot_c_after_it_do_not_mix() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/listeners/0/clear_text", "allow")
        .start();
    let mut raw = Raw::explicit(&server);
    let mut data = raw.open_data();
    data.handshake().unwrap();
    raw.expect("PROT C", 200);
    raw.failing_transfer("STOR file").expect(425);
    data.wait_closed(Duration::from_secs(10));
    raw.expect("PROT P", 200);
    assert_usable(&mut raw, &store);
}

#[test]
fn stray_peer_on_the_passive_port_is_closed_and_the_right_one_gets_in() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::explicit(&server);
    let elsewhere = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

    let address = raw.pasv();
    let mut stray = Data::connect_from(elsewhere, address, None).unwrap();
    raw.send(b"STOR file\r\n").unwrap();
    stray.wait_closed(Duration::from_secs(10));
    let mut data = raw.connect_data(address);
    raw.reply().expect(150);
    data.handshake().unwrap();
    data.write(b"from the right peer").unwrap();
    assert_eq!(data.finish(), End::CloseNotify);
    raw.reply().expect(226);
    store.assert_holds(&[("alice/file", b"from the right peer")]);
}

#[test]
fn only_stray_peers_end_in_425() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/timeouts/data_connect_seconds", 1)
        .start();
    let mut raw = Raw::explicit(&server);
    let address = raw.epsv();
    let elsewhere = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    let _stray = Data::connect_from(elsewhere, address, None).unwrap();
    raw.failing_transfer("STOR file").expect(425);
    assert_usable(&mut raw, &store);
}

/// libunftp 0.24 sends the listing in clear here: only its PASV knows the rule.
#[test]
fn s6_transfers_with_prot_c_get_521_and_no_data() {
    let store = Store::local();
    let server = Server::start(&store);
    store.put("alice/file", b"private");
    for passive in ["EPSV", "PASV"] {
        let mut raw = Raw::secured(&server, &server.tls(Version::Tls13));
        // No PBSZ and no PROT: the level is C (RFC 4217 section 9).
        raw.login("alice");
        raw.send_data_in_clear();
        for line in [
            "LIST",
            "NLST",
            "MLSD",
            "RETR file",
            "STOR file",
            "APPE file",
        ] {
            let address = if passive == "EPSV" {
                raw.epsv()
            } else {
                raw.pasv()
            };
            let mut data = raw.connect_data(address);
            raw.expect(line, 521);
            // The port may stay open for a command after PROT P; what counts is that nothing comes.
            raw.expect("NOOP", 200);
            raw.expect("PBSZ 0", 200);
            raw.command("PROT C").expect(534);
            raw.pasv();
            let (content, _) = data.read_all();
            assert!(
                content.is_empty(),
                "{line}: {} bytes in clear",
                content.len()
            );
        }
        store.assert_holds(&[("alice/file", b"private")]);
    }
    let mut raw = Raw::explicit(&server);
    raw.expect("PROT C", 534);
    assert_eq!(raw.retrieve("RETR file"), b"private");
}

#[test]
fn pbsz_and_prot_keep_their_order_and_their_words() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::clear(server.explicit);
    raw.expect("PBSZ 0", 503);
    raw.expect("AUTH TLS", 234);
    raw.start_tls(&server.tls(Version::Tls13)).unwrap();
    let reply = raw.expect("PBSZ 1024", 200);
    assert!(reply.text().contains("PBSZ=0"), "{reply}");
    raw.expect("PBSZ x", 501);
    raw.expect("PROT S", 536);
    raw.expect("PROT E", 536);
    raw.expect("PROT X", 504);
    raw.expect("PROT", 501);
    raw.expect("prot p", 200);
    raw.login("alice");
    assert_usable(&mut raw, &store);
}

#[test]
fn implicit_session_protects_data_without_a_word() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::implicit_with(&server, &server.tls(Version::Tls13));
    raw.login("alice");
    assert_usable(&mut raw, &store);
    raw.expect("AUTH TLS", 503);
    raw.expect("PBSZ 0", 200);
    raw.expect("PROT P", 200);
    assert_usable(&mut raw, &store);
}

#[test]
fn second_pasv_replaces_the_first() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::explicit(&server);
    let first = raw.pasv();
    let second = raw.pasv();
    assert_ne!(first.port(), second.port());
    assert!(
        TcpStream::connect(first).is_err(),
        "the first port is still open"
    );
    let mut data = raw.connect_data(second);
    raw.expect("STOR file", 150);
    data.handshake().unwrap();
    data.write(b"through the second").unwrap();
    assert_eq!(data.finish(), End::CloseNotify);
    raw.reply().expect(226);
    store.assert_holds(&[("alice/file", b"through the second")]);
    assert!(
        TcpStream::connect(second).is_err(),
        "the used port is still open"
    );
}

#[test]
fn active_mode_and_pasv_on_ipv6_are_refused() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::explicit(&server);
    raw.expect("PORT 127,0,0,1,200,200", 502);
    raw.expect("EPRT |1|127.0.0.1|51400|", 502);
    raw.expect("EPSV 2", 522);
    raw.expect("EPSV 1", 229);
    raw.expect("EPSV ALL", 200);
    let reply = raw.command("PASV");
    assert!((500..600).contains(&reply.code), "{reply}");
    raw.store("STOR file", b"after EPSV ALL");

    let mut raw = Raw::clear(server.explicit6);
    raw.expect("AUTH TLS", 234);
    raw.start_tls(&server.tls(Version::Tls13)).unwrap();
    raw.protect();
    raw.login("alice");
    raw.command("PASV").expect_any(&[425, 522]);
    raw.store("STOR file", b"over six");
    store.assert_holds(&[("alice/file", b"over six")]);
}

#[test]
fn passive_ports_come_from_the_configured_range() {
    let store = Store::local();
    let range = Server::free_ports();
    let server = Server::with(&store)
        .set_listeners(
            "passive",
            &serde_json::json!({
                "address": "127.0.0.1", "ports": format!("{}-{}", range.start(), range.end()),
            }),
        )
        .start();
    let mut raw = Raw::explicit(&server);
    for _ in 0..20 {
        let address = raw.pasv();
        assert!(
            range.contains(&address.port()),
            "{address} outside {range:?}"
        );
    }
    raw.store("STOR file", b"inside the range");
    store.assert_holds(&[("alice/file", b"inside the range")]);
}
