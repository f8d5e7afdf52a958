//! Data connections (RFC 959 §3.2, RFC 2428, RFC 2577, RFC 4217 §10).

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, TcpStream},
    time::{Duration, Instant},
};

use serde_json::json;

use super::{Site, answers};
use crate::harness::{Data, End, Raw, Server, Store, Version};

items!(
    e1_pasv_on_ipv4,
    e2_public_address,
    e3_pasv_on_ipv6,
    e4_epsv,
    e5_epsv_with_a_protocol,
    e6_epsv_all,
    e7_no_active_mode,
    e8_second_pasv,
    e9_nobody_connects,
    e10_transfer_without_pasv,
    e11_hello_before_the_command,
    e12_connection_after_the_command,
    e13_failed_data_handshake,
    e14_clear_text_on_a_private_connection,
    e15_stray_peer,
    e16_second_connection_to_a_port,
    e17_ports_are_unpredictable,
    e18_empty_port_pool,
    e19_same_certificate_on_data,
    e20_alpn_on_data,
    e21_pret_cpsv_sscn,
);

fn e1_pasv_on_ipv4() {
    let mut site = Site::new();
    let text = site.raw.expect("PASV", 227).text();
    assert!(
        text.starts_with("227 Entering Passive Mode (127,0,0,1,"),
        "{text}"
    );
    assert!(text.ends_with(")."), "{text}");
    let address = site.raw.pasv();
    let mut data = site.raw.connect_data(address);
    site.raw.expect("LIST", 150);
    data.handshake().unwrap();
    assert_eq!(data.read_all(), (Vec::new(), End::CloseNotify));
    site.raw.reply().expect(226);
}

fn e2_public_address() {
    let store = Store::local();
    let passive = json!({"address": "203.0.113.10", "ports": "0"});
    let server = Server::with(&store)
        .set("/listeners/0/passive", passive)
        .start();
    let mut raw = Raw::explicit(&server);
    assert_eq!(raw.pasv().ip(), IpAddr::from([203, 0, 113, 10]));
    raw.store("STOR file", b"EPSV needs no address");
}

fn over_ipv6(server: &Server) -> Raw {
    let mut raw = Raw::clear(server.explicit6);
    raw.expect("AUTH TLS", 234);
    raw.start_tls(&server.tls(Version::Tls13)).unwrap();
    raw.protect();
    raw.login("alice");
    raw
}

fn e3_pasv_on_ipv6() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = over_ipv6(&server);
    let reply = raw.expect("PASV", 425);
    assert!(reply.text().contains("EPSV"), "{reply}");
    raw.store("STOR file", b"over six");
}

fn e4_epsv() {
    let mut site = Site::new();
    let text = site.raw.expect("EPSV", 229).text();
    let port = text
        .strip_prefix("229 Entering Extended Passive Mode (|||")
        .and_then(|rest| rest.strip_suffix("|)"));
    assert!(
        port.is_some_and(|port| port.parse::<u16>().is_ok()),
        "{text}"
    );
    site.raw.store("STOR file", b"content");
}

fn e5_epsv_with_a_protocol() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut four = Raw::explicit(&server);
    answers(&mut four, &[("EPSV 1", 229), ("EPSV x", 501)]);
    let text = four.expect("EPSV 2", 522).text();
    assert!(text.contains("(1)"), "{text}");
    let text = four.expect("EPSV 3", 522).text();
    assert!(text.contains("(1,2)"), "{text}");
    let mut six = over_ipv6(&server);
    six.expect("EPSV 2", 229);
    let text = six.expect("EPSV 1", 522).text();
    assert!(text.contains("(2)"), "{text}");
}

fn e6_epsv_all() {
    let mut site = Site::new();
    answers(
        &mut site.raw,
        &[
            ("EPSV ALL", 200),
            ("PASV", 503),
            ("PORT 127,0,0,1,200,200", 502),
            ("EPRT |1|127.0.0.1|51400|", 502),
        ],
    );
    site.raw.store("STOR file", b"EPSV still works");
    site.raw.expect("PASV", 503);
}

fn e7_no_active_mode() {
    let mut site = Site::new();
    answers(
        &mut site.raw,
        &[
            ("PORT 127,0,0,1,200,200", 502),
            ("PORT 10,0,0,1,0,22", 502),
            ("PORT x", 502),
            ("EPRT |1|127.0.0.1|51400|", 502),
            ("LPRT 4,4,127,0,0,1,2,200,200", 502),
        ],
    );
}

fn e8_second_pasv() {
    let mut site = Site::new();
    let (first, second) = (site.raw.pasv(), site.raw.pasv());
    assert!(
        TcpStream::connect(first).is_err(),
        "the first is still open"
    );
    let mut data = site.raw.connect_data(second);
    site.raw.expect("STOR file", 150);
    data.handshake().unwrap();
    assert_eq!(data.finish(), End::CloseNotify);
    site.raw.reply().expect(226);
}

fn e9_nobody_connects() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/timeouts/data_connect_seconds", 1)
        .start();
    let mut raw = Raw::explicit(&server);
    for line in ["STOR file", "LIST", "MLSD", "NLST"] {
        raw.epsv();
        raw.expect(line, 150);
        raw.reply_within(Duration::from_secs(5)).expect(425);
        raw.expect("NOOP", 200);
    }
    store.assert_holds(&[]);
}

fn e10_transfer_without_pasv() {
    let mut site = Site::new();
    for line in ["STOR x", "RETR x", "APPE x", "STOU", "LIST", "NLST", "MLSD"] {
        site.raw.expect(line, 425);
    }
    site.raw.store("STOR file", b"content");
    // A port is good for one transfer.
    site.raw.expect("LIST", 425);
}

fn e11_hello_before_the_command() {
    let store = Store::local();
    let server = Server::start(&store);
    for version in [Version::Tls12, Version::Tls13] {
        let mut raw = Raw::explicit_with(&server, &server.tls(version));
        let mut data = raw.open_data();
        data.say_hello();
        raw.expect("NOOP", 200);
        raw.send(b"STOR file\r\n").unwrap();
        data.handshake().unwrap();
        raw.reply().expect(150);
        data.write(b"hello first").unwrap();
        assert_eq!(data.finish(), End::CloseNotify);
        raw.reply().expect(226);
        store.assert_holds(&[("alice/file", b"hello first")]);
    }
}

fn e12_connection_after_the_command() {
    let mut site = Site::new();
    let address = site.raw.epsv();
    site.raw.expect("STOR file", 150);
    let mut data = site.raw.connect_data(address);
    data.handshake().unwrap();
    data.write(b"connected last").unwrap();
    assert_eq!(data.finish(), End::CloseNotify);
    site.raw.reply().expect(226);
    site.store
        .assert_holds(&[("alice/file", b"connected last")]);
}

fn e13_failed_data_handshake() {
    let mut site = Site::new();
    for line in ["STOR file", "LIST"] {
        let mut data = site.raw.open_data();
        // A TLS record that holds no hello.
        data.send_raw(&[0x16, 3, 1, 0, 4, 9, 9, 9, 9]).unwrap();
        site.raw.failing_transfer(line).expect(522);
        data.wait_closed(Duration::from_secs(5));
        site.raw.store("STOR after", b"usable");
    }
    site.store.assert_holds(&[("alice/after", b"usable")]);
}

fn e14_clear_text_on_a_private_connection() {
    let mut site = Site::new();
    site.store.put("alice/file", b"private");
    for line in ["RETR file", "LIST", "STOR new"] {
        let address = site.raw.epsv();
        let mut data = Data::connect(address, None);
        data.send_raw(b"no hello\r\n").unwrap();
        site.raw.failing_transfer(line).expect(522);
        let (content, _) = data.read_all();
        assert!(content.is_empty(), "{line}: {content:?}");
    }
    site.store.assert_holds(&[("alice/file", b"private")]);
}

fn e15_stray_peer() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/timeouts/data_connect_seconds", 1)
        .start();
    let mut raw = Raw::explicit(&server);
    let elsewhere = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    let address = raw.epsv();
    let mut stray = Data::connect_from(elsewhere, address, None).unwrap();
    stray.wait_closed(Duration::from_secs(5));
    let mut data = raw.connect_data(address);
    raw.expect("STOR file", 150);
    data.handshake().unwrap();
    data.write(b"from the right one").unwrap();
    assert_eq!(data.finish(), End::CloseNotify);
    raw.reply().expect(226);
    // Only strays: 425 at the deadline.
    let address = raw.epsv();
    let _stray = Data::connect_from(elsewhere, address, None).unwrap();
    raw.failing_transfer("LIST").expect(425);
    store.assert_holds(&[("alice/file", b"from the right one")]);
}

fn e16_second_connection_to_a_port() {
    let mut site = Site::new();
    let address = site.raw.epsv();
    let mut first = site.raw.connect_data(address);
    site.raw.expect("STOR file", 150);
    first.handshake().unwrap();
    assert!(
        TcpStream::connect(address).is_err(),
        "the port is still open"
    );
    first.write(b"of the first").unwrap();
    assert_eq!(first.finish(), End::CloseNotify);
    site.raw.reply().expect(226);
    site.store.assert_holds(&[("alice/file", b"of the first")]);
}

fn e17_ports_are_unpredictable() {
    let store = Store::local();
    let passive = json!({"ports": "40000-41999"});
    let server = Server::with(&store)
        .set("/listeners/0/passive", passive)
        .start();
    let mut raw = Raw::explicit(&server);
    let ports: Vec<u16> = (0..60).map(|_| raw.epsv().port()).collect();
    assert!(ports.iter().all(|port| (40_000..42_000).contains(port)));
    let different: HashSet<u16> = ports.iter().copied().collect();
    assert!(different.len() > 50, "{ports:?}");
    // No step is the rule, and both halves are used.
    let steps: HashSet<i32> = ports
        .windows(2)
        .map(|pair| i32::from(pair[1]) - i32::from(pair[0]))
        .collect();
    assert!(steps.len() > 50, "{ports:?}");
    let low = ports.iter().filter(|port| **port < 41_000).count();
    assert!((10..=50).contains(&low), "{ports:?}");
}

fn e18_empty_port_pool() {
    let store = Store::local();
    let range = Server::free_ports();
    let ports = format!("{}-{}", range.start(), range.start() + 1);
    let server = Server::with(&store)
        .set(
            "/listeners/0/passive",
            json!({"ports": ports, "ports_per_user": 2}),
        )
        .start();
    let mut sessions: Vec<Raw> = (0..3).map(|_| Raw::explicit(&server)).collect();
    sessions[0].epsv();
    sessions[1].epsv();
    let start = Instant::now();
    sessions[2].expect("EPSV", 425);
    sessions[2].expect("PASV", 425);
    assert!(start.elapsed() < Duration::from_secs(1));
    // One session holds one port, however often it asks, and gives it back at its end.
    sessions[1].epsv();
    sessions.swap_remove(0).expect("QUIT", 221);
    crate::harness::until(
        Duration::from_secs(5),
        "a port is free again",
        || match sessions[0].command("EPSV").code {
            229 => Ok(()),
            code => Err(code.to_string()),
        },
    );
    sessions[0].store("STOR file", b"content");
}

/// The client verifies data connections as it does control, and is held to one version on both.
fn e19_same_certificate_on_data() {
    let store = Store::local();
    let server = Server::start(&store);
    for version in [Version::Tls12, Version::Tls13] {
        let tls = server.tls(version).forgetful();
        let mut raw = Raw::explicit_with(&server, &tls);
        raw.store("STOR file", b"content");
        assert_eq!(raw.retrieve("RETR file"), b"content");
    }
}

fn e20_alpn_on_data() {
    let mut site = Site::new();
    site.store.put("alice/file", b"content");
    for version in [Version::Tls12, Version::Tls13] {
        for (offer, chosen) in [
            (&[][..], None),
            (&["ftp-data"], Some(&b"ftp-data"[..])),
            (&["ftp"], Some(b"ftp")),
            (&["x-filezilla-ftp", "ftp-data"], Some(b"ftp-data")),
            (&["something-else"], None),
        ] {
            let tls = site.server.tls(version).offering(offer);
            let address = site.raw.epsv();
            let mut data = Data::connect(address, Some(&tls));
            site.raw.expect("RETR file", 150);
            data.handshake().unwrap();
            assert_eq!(data.protocol(), chosen, "{offer:?}");
            assert_eq!(data.read_all().0, b"content");
            site.raw.reply().expect(226);
        }
    }
}

fn e21_pret_cpsv_sscn() {
    let mut site = Site::new();
    answers(
        &mut site.raw,
        &[
            ("PRET STOR x", 502),
            ("CPSV", 502),
            ("SSCN ON", 502),
            ("SSCN", 502),
        ],
    );
}
