//! Section 5 of the conformance list: what only its ids ask for, and the count of all of them.

use std::{
    fs,
    io::{self, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    conformance::openssl::{renegotiate, s_client},
    harness::{Data, End, Raw, Server, Store, Version, bytes, run_to_end},
};

/// The ids that belong here; the others are about logins, storage, names and logs.
#[test]
fn every_id_of_tls_data_and_parser_has_a_test() {
    let binary = std::env::current_exe().unwrap();
    let listed = Command::new(binary).arg("--list").output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let ids = (1..=28).chain(34..=38).chain([41, 42]);
    let missing: Vec<u32> = ids
        .filter(|id| {
            let start = format!("s{id}_");
            !listed.lines().any(|line| {
                let name = line.strip_suffix(": test").unwrap_or_default();
                name.split("::").any(|part| part.starts_with(&start))
            })
        })
        .collect();
    assert!(missing.is_empty(), "no test of S{missing:?}");
}

#[test]
fn s5_level_of_protection_never_falls() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::explicit(&server);
    raw.expect("PROT C", 534);
    // `store` and `retrieve` do their own handshakes and demand close_notify.
    raw.store("STOR file", b"still private");
    assert_eq!(raw.retrieve("RETR file"), b"still private");
}

#[test]
fn s7_commands_behind_ccc_are_under_tls() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::explicit(&server);
    raw.expect("CCC", 534);
    raw.expect("PWD", 257);
    raw.store("STOR file", b"private");
}

#[test]
fn s8_rein_leaves_no_login_in_the_clear() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::explicit(&server);
    raw.expect("REIN", 502);
    raw.expect("PWD", 257);
    // Below TLS nobody listens.
    let mut clear = Raw::clear(server.explicit);
    clear.expect("REIN", 502);
    clear.expect("PWD", 530);
}

#[test]
fn s9_second_auth_is_503_and_nests_no_tls() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::secured(&server, &server.tls(Version::Tls13));
    for line in ["AUTH TLS", "AUTH SSL", "AUTH TLS-P"] {
        raw.expect(line, 503);
        raw.expect("NOOP", 200);
    }
    raw.protect();
    raw.login("alice");
    raw.expect("AUTH TLS", 503);
    raw.store("STOR file", b"in one layer");
}

#[test]
fn s10_renegotiation_is_refused_however_often_it_is_asked_for() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/timeouts/idle_seconds", 1)
        .start();
    for _ in 0..5 {
        let said = renegotiate(server.implicit, 200);
        assert_eq!(said.matches(", ServerHello\n").count(), 1, "{said}");
    }
    Raw::explicit(&server).expect("NOOP", 200);
}

/// What the scanner may find: two suites of each version.
const SUITES: [(&str, &str, &str); 4] = [
    (
        "TLSv1.3",
        "TLS_AES_256_GCM_SHA384",
        "TLS_AES_256_GCM_SHA384",
    ),
    (
        "TLSv1.3",
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_CHACHA20_POLY1305_SHA256",
    ),
    (
        "TLSv1.2",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
    ),
    (
        "TLSv1.2",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
    ),
];

#[test]
fn s11_scanner_finds_only_what_is_configured_on_control_implicit_and_data_ports() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/tls/cipher_suites", json!(SUITES.map(|suite| suite.1)))
        .set("/timeouts/tls_handshake_seconds", 5)
        .start();
    assert_only_configured("control port", &scan(server.explicit, &["--starttls-ftp"]));
    assert_only_configured("implicit port", &scan(server.implicit, &[]));

    // A data port takes one connection: each of the scanner's gets a port and an upload of its own.
    let relay = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = relay.local_addr().unwrap();
    let done = AtomicBool::new(false);
    let count = AtomicUsize::new(0);
    let report = thread::scope(|scope| {
        scope.spawn(|| {
            for scanner in relay.incoming() {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                count.fetch_add(1, Ordering::Relaxed);
                // The scanner may hold several connections at once.
                let server = &server;
                scope.spawn(move || {
                    let mut raw = Raw::explicit(server);
                    let data = TcpStream::connect(raw.epsv()).unwrap();
                    raw.send(b"STOR scanned\r\n").unwrap();
                    splice(&scanner.unwrap(), &data);
                });
            }
        });
        let _stop = Stop(&done, address);
        scan(address, &[])
    });
    let count = count.into_inner();
    assert!(count > 20, "the scanner made {count} connections only");
    assert_only_configured("data port", &report);
}

/// Ends the relay however the scan ends.
struct Stop<'a>(&'a AtomicBool, SocketAddr);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.1));
    }
}

/// sslscan's report, as XML.
fn scan(address: SocketAddr, options: &[&str]) -> String {
    let mut command = Command::new("sslscan");
    command
        .args(["--xml=-", "--no-check-certificate", "--ipv4"])
        .args(options)
        .arg(address.to_string());
    let (status, report, said) = run_to_end(command, Duration::from_mins(2));
    assert!(status.success(), "sslscan: {status}\n{report}\n{said}");
    report
}

#[track_caller]
fn assert_only_configured(place: &str, report: &str) {
    let attribute = |line: &str, name: &str| {
        let rest = line.split_once(&format!(" {name}=\""))?.1;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let mut accepted: Vec<(String, String)> = report
        .lines()
        .filter(|line| line.contains("<cipher "))
        .map(|line| {
            let suite = attribute(line, "sslversion").zip(attribute(line, "cipher"));
            suite.unwrap_or_else(|| panic!("{line}"))
        })
        .collect();
    accepted.sort();
    let mut wanted = SUITES.map(|(version, _, name)| (version.to_owned(), name.to_owned()));
    wanted.sort();
    assert_eq!(accepted, wanted, "{place}\n{report}");
    for line in report.lines().filter(|line| line.contains("<protocol ")) {
        let modern = line.contains("type=\"tls\"")
            && (line.contains("version=\"1.2\"") || line.contains("version=\"1.3\""));
        assert_eq!(line.contains("enabled=\"1\""), modern, "{place}: {line}");
    }
    assert!(
        !report.contains("vulnerable=\"1\""),
        "{place}: heartbleed\n{report}"
    );
}

/// Both directions; each end is passed on, and a server that has ended is the end of both.
fn splice(client: &TcpStream, server: &TcpStream) {
    thread::scope(|scope| {
        let (mut from, mut to) = (client, server);
        scope.spawn(move || {
            // A reset is an end too.
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
        let (mut from, mut to) = (server, client);
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
}

#[test]
fn s12_early_data_is_not_taken() {
    let store = Store::local();
    let server = Server::start(&store);
    let (session, early) = (
        server.scratch().join("session"),
        server.scratch().join("early"),
    );
    fs::write(&early, "USER alice\r\n").unwrap();
    let path = session.to_str().unwrap();
    let said = s_client(server.implicit, &["-tls1_3", "-sess_out", path], "");
    assert!(said.contains("Max Early Data: 0"), "{said}");
    let options = [
        "-tls1_3",
        "-sess_in",
        path,
        "-early_data",
        early.to_str().unwrap(),
    ];
    let said = s_client(server.implicit, &options, "");
    assert!(said.contains("Early data was not sent"), "{said}");
    assert!(!said.contains("331 "), "{said}");
}

/// A page that somebody uploaded must not be served to a browser that was led to a data port.
#[test]
fn s18_data_port_speaks_no_protocol_of_the_web() {
    let store = Store::local();
    let server = Server::start(&store);
    store.put("alice/page", b"HTTP/1.1 200 OK\r\n\r\n<script>");
    for version in [Version::Tls12, Version::Tls13] {
        let tls = server.tls(version);
        let mut raw = Raw::explicit_with(&server, &tls);
        for offer in [&["http/1.1"][..], &["h2"], &["h2", "http/1.1"]] {
            for line in ["RETR page", "STOR new"] {
                raw.use_for_data(&tls.clone().offering(offer));
                let mut data = raw.open_data();
                data.say_hello();
                raw.failing_transfer(line).expect(522);
                assert!(data.handshake().is_err(), "{offer:?}");
            }
        }
        for (offer, chosen) in [(&[][..], None), (&["ftp-data"], Some(&b"ftp-data"[..]))] {
            raw.use_for_data(&tls.clone().offering(offer));
            let mut data = raw.open_data();
            raw.expect("RETR page", 150);
            data.handshake().unwrap();
            assert_eq!(data.protocol(), chosen);
            assert!(data.read_all().0.ends_with(b"<script>"));
            raw.reply().expect(226);
        }
    }
    store.assert_holds(&[("alice/page", b"HTTP/1.1 200 OK\r\n\r\n<script>")]);
}

/// A certificate that a web site shares is the half of ALPACA that no server can close by itself.
#[test]
fn s19_operators_are_told_to_use_a_name_of_its_own() {
    let root = env!("CARGO_MANIFEST_DIR");
    let text = fs::read_to_string(format!("{root}/docs/clients.md")).unwrap();
    let advice = text.split("\n\n").find(|part| part.contains("ALPACA"));
    let advice = advice.expect("a paragraph on ALPACA");
    assert!(advice.contains("wildcard") && advice.contains("host name"));
}

#[test]
fn s20_server_connects_to_nobody() {
    let store = Store::local();
    let server = Server::start(&store);
    store.put("alice/file", b"content");
    let bait = TcpListener::bind("127.0.0.1:0").unwrap();
    bait.set_nonblocking(true).unwrap();
    let port = bait.local_addr().unwrap().port();
    let [high, low] = port.to_be_bytes();
    let mut raw = Raw::explicit(&server);
    for line in [
        format!("PORT 127,0,0,1,{high},{low}"),
        format!("EPRT |1|127.0.0.1|{port}|"),
        "PORT 10,0,0,1,0,22".to_owned(),
        "PORT 127,0,0,1,0,25".to_owned(),
        "EPRT |1|10.0.0.1|80|".to_owned(),
        "EPRT |2|::1|443|".to_owned(),
        "LPRT 4,4,127,0,0,1,2,0,25".to_owned(),
    ] {
        raw.expect(&line, 502);
        raw.expect("RETR file", 425);
    }
    assert_eq!(bait.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn s23_ports_are_spread_and_rest_after_use() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/listeners/0/passive", json!({"ports": "42000-42999"}))
        .start();
    let mut raw = Raw::explicit(&server);
    let ports: Vec<u16> = (0..1_000).map(|_| raw.epsv().port()).collect();
    // Of the thousand none comes back while others have not been used, save those that another
    // process of this machine holds.
    let mut distinct = ports.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert!(distinct.len() > 900, "{} of 1000", distinct.len());
    let quarter = |port: &u16| usize::from((port - 42_000) / 250);
    for part in ports.chunks(250) {
        let mut counts = [0; 4];
        for port in part {
            counts[quarter(port)] += 1;
        }
        // 62 expected in each.
        assert!(
            counts.iter().all(|count| (25..=110).contains(count)),
            "{counts:?}"
        );
    }
    let successors = ports.windows(2).filter(|pair| pair[0] + 1 == pair[1]);
    assert!(successors.count() < 20, "{ports:?}");
}

/// FIN and RST at each byte of the last record and of the `close_notify` behind it.
#[test]
fn s25_upload_cut_at_any_byte_of_its_last_record_is_never_whole() {
    let store = Store::local();
    let server = Server::start(&store);
    store.put("alice/file", b"as it was");
    for version in [Version::Tls12, Version::Tls13] {
        // One full handshake for each connection, so that nothing depends on tickets.
        let tls = server.tls(version).forgetful();
        let mut raw = Raw::explicit_with(&server, &tls);
        let mut whole = usize::MAX;
        let mut cut = 0;
        while cut < whole {
            for reset in [false, true] {
                let mut data = raw.begin_transfer("STOR file");
                let mut last = data.sealed(b"the end");
                last.extend(data.sealed_close_notify());
                whole = last.len();
                data.send_raw(&last[..cut]).unwrap();
                if reset {
                    data.reset();
                } else {
                    data.send_fin();
                }
                raw.reply().expect(426);
            }
            cut += 1;
        }
        assert!(whole > 50, "{whole}");
        store.assert_holds(&[("alice/file", b"as it was")]);
        raw.store("STOR other", b"whole");
        raw.expect("DELE other", 250);
    }
}

#[test]
fn s27_reply_to_pasv_names_the_servers_own_address() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::explicit(&server);
    // Nothing that a client says moves it.
    raw.command("HOST 10.9.8.7");
    raw.command("PORT 10,9,8,7,1,1");
    for _ in 0..3 {
        assert_eq!(raw.pasv().ip(), server.explicit.ip());
    }
}

/// Telnet bytes in every place: no crash, no memory, and the next command is answered.
#[test]
fn s35_telnet_sequences_at_random_harm_nothing() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::explicit(&server);
    raw.send(b"\xFF\xF4\xFF\xF2NOOP\r\n").unwrap();
    raw.reply().expect(200);
    let before = server.peak_memory_kib();
    let noise = bytes(35, 64 << 10);
    for chunk in noise.chunks(64) {
        let mut line = b"MKD ".to_vec();
        // Every other byte is one of Telnet's commands; line ends would make other commands.
        for byte in chunk {
            line.extend([0xF0 | (byte >> 4), *byte]);
        }
        line.retain(|byte| !matches!(byte, b'\r' | b'\n'));
        line.extend(b"\r\n");
        raw.send(&line).unwrap();
        let reply = raw.reply();
        assert!((200..600).contains(&reply.code), "{reply}");
    }
    // A flood of them, with no line end for a megabyte.
    raw.send(&[0xFF, 0xF4].repeat(512 << 10)).unwrap();
    raw.send(b"\r\n").unwrap();
    raw.send(b"SYST\r\n").unwrap();
    while raw.reply().code != 215 {}
    let grown = server.peak_memory_kib().saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB more");
}

/// Commands at line speed beside an upload: answered or queued, in bounded memory, and the file whole.
#[test]
fn s41_flood_of_commands_in_a_transfer_is_bounded() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::explicit(&server);
    let mut data = raw.begin_transfer("STOR file");
    let before = server.peak_memory_kib();
    let start = Instant::now();
    let whole = vec![7; 100_000];
    let round = "NOOP\r\nSTAT\r\n".repeat(20);
    for _ in 0..100 {
        raw.send(round.as_bytes()).unwrap();
        data.write(&[7; 1_000]).unwrap();
        for _ in 0..20 {
            raw.reply().expect(200);
            raw.reply().expect_any(&[211, 213]);
        }
    }
    // More than the queue takes: the server stops reading and the rest waits in the socket.
    for _ in 0..200 {
        raw.send(b"PWD\r\n").unwrap();
    }
    assert_eq!(data.finish(), End::CloseNotify);
    raw.reply().expect(226);
    for _ in 0..200 {
        raw.reply().expect(257);
    }
    assert!(start.elapsed() < Duration::from_mins(1));
    let grown = server.peak_memory_kib().saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB more");
    store.assert_holds(&[("alice/file", &whole)]);
    // ABOR without end: one transfer, one pair of replies, then one reply each.
    let _data = raw.begin_transfer("STOR other");
    raw.send("ABOR\r\n".repeat(500).as_bytes()).unwrap();
    raw.reply().expect(426);
    for _ in 0..500 {
        raw.reply().expect_any(&[225, 226]);
    }
    store.assert_holds(&[("alice/file", &whole)]);
}

/// Where the data connection may come from: `data_peer` beyond its default (E15).
#[test]
fn e15_data_peer_same_subnet_and_any_let_others_in() {
    let store = Store::local();
    let near: IpAddr = "127.0.0.9".parse().unwrap();
    let far: IpAddr = "127.9.9.9".parse().unwrap();
    for (rule, admitted, closed) in [
        ("same-address", &[][..], &[near, far][..]),
        ("same-subnet", &[near], &[far]),
        ("any", &[near, far], &[]),
    ] {
        let server = Server::with(&store)
            .set(
                "/listeners/0/passive",
                json!({"ports": "0", "data_peer": rule}),
            )
            .start();
        let mut raw = Raw::explicit(&server);
        for from in closed {
            let mut stray = Data::connect_from(*from, raw.epsv(), None).unwrap();
            stray.wait_closed(Duration::from_secs(5));
        }
        for from in admitted {
            let tls = server.tls(Version::Tls13);
            let mut data = Data::connect_from(*from, raw.epsv(), Some(&tls)).unwrap();
            raw.expect("STOR file", 150);
            data.handshake().unwrap();
            data.write(rule.as_bytes()).unwrap();
            assert_eq!(data.finish(), End::CloseNotify);
            raw.reply().expect(226);
            assert_eq!(store.bytes("alice/file").as_deref(), Some(rule.as_bytes()));
        }
    }
}

/// HASH and the older commands read up to a gibibyte: ABOR stops them, and so does a client that leaves.
#[test]
fn checksum_hears_abor_and_the_loss_of_its_client() {
    let store = Store::local();
    let server = Server::start(&store);
    let large = store.local_root().join("alice/large");
    fs::File::create(large).unwrap().set_len(1 << 30).unwrap();
    let mut raw = Raw::explicit(&server);
    for line in ["HASH large", "XSHA512 large"] {
        raw.send(format!("{line}\r\nPWD\r\nABOR\r\n").as_bytes())
            .unwrap();
        let start = Instant::now();
        raw.reply().expect(426);
        raw.reply().expect(226);
        assert!(start.elapsed() < Duration::from_secs(2), "{line}");
        // What was said before ABOR is answered after it.
        raw.reply().expect(257);
    }
    raw.send(b"HASH large\r\n").unwrap();
    raw.hang_up();
    crate::harness::until(Duration::from_secs(3), "the session ends", || {
        let ended = server
            .log()
            .iter()
            .any(|line| line.contains("disconnected"));
        ended.then_some(()).ok_or_else(|| "it goes on".to_owned())
    });
}

/// The scanner's relay ends as its connections do.
#[test]
fn splice_carries_both_directions_to_their_ends() {
    let pair = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (one, listener.accept().unwrap().0)
    };
    let ((mut client, near), (far, mut server)) = (pair(), pair());
    thread::scope(|scope| {
        scope.spawn(|| splice(&near, &far));
        client.write_all(b"up").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut said = String::new();
        server.read_to_string(&mut said).unwrap();
        server.write_all(b"down").unwrap();
        drop(server);
        let mut heard = String::new();
        client.read_to_string(&mut heard).unwrap();
        assert_eq!((said.as_str(), heard.as_str()), ("up", "down"));
    });
}
