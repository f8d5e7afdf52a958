//! Two things at once: what one feature does while another one is at work.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream},
    os::unix::fs::MetadataExt,
    process::Command,
    thread,
    time::{Duration, Instant, SystemTime},
};

use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::harness::{
    Builder, Raw, Server, Store, Version, bytes, on_each_store, password_hash, until,
};

on_each_store!(who_tries_again_at_once_is_not_in_its_own_way);

fn in_clear(store: &Store) -> Builder {
    Server::with(store)
        .set("/listeners/0/clear_text", "allow")
        .set("/limits/login_delay_milliseconds", 0)
}

fn clear(server: &Server, user: &str) -> Raw {
    let mut raw = Raw::clear(server.explicit);
    raw.login(user);
    raw
}

#[test]
fn abor_before_the_end_of_the_data_leaves_nothing() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::explicit(&server);
    for turn in 0..100 {
        let mut data = raw.begin_transfer(&format!("STOR file{turn}"));
        data.write(&bytes(1, 100_000)).unwrap();
        // As lftp does: ABOR, and the data connection ends in order.
        raw.send(b"ABOR\r\n").unwrap();
        data.finish_anyhow();
        let codes = [raw.reply().code, raw.reply().code];
        assert_eq!(codes, [426, 226], "turn {turn}");
    }
    store.assert_holds(&[]);
}

#[test]
fn abor_before_the_end_of_the_data_keeps_what_came() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/uploads", json!({"resume": "on"}))
        .start();
    let mut raw = Raw::explicit(&server);
    for turn in 0..20 {
        let name = format!("file{turn}");
        let mut data = raw.begin_transfer(&format!("STOR {name}"));
        data.write(&bytes(1, 100_000)).unwrap();
        until(Duration::from_secs(10), "all of it is there", || {
            let reply = raw.command("STAT");
            let all = reply.text().contains("upload of 100000 bytes");
            if all { Ok(()) } else { Err(reply.text()) }
        });
        raw.send(b"ABOR\r\n").unwrap();
        data.finish_anyhow();
        raw.reply().expect(426);
        raw.reply().expect(226);
        let size = raw.expect(&format!("SIZE {name}"), 213).text();
        assert_eq!(size, "213 99999", "turn {turn}");
    }
}

#[test]
fn place_of_a_session_is_free_when_its_221_is_there() {
    let store = Store::local();
    let server = in_clear(&store).set("/limits/sessions_per_user", 1).start();
    let mut kept = Vec::new();
    for turn in 0..20 {
        let mut raw = Raw::clear(server.explicit);
        raw.expect("USER alice", 331);
        let reply = raw.command(&format!("PASS {}", crate::harness::PASSWORD));
        assert_eq!(reply.code, 230, "turn {turn}: {reply}");
        raw.expect("QUIT", 221);
        kept.push(raw);
    }
}

#[test]
fn place_of_a_transfer_is_free_when_its_226_is_there() {
    let store = Store::local();
    let server = in_clear(&store)
        .set("/limits/transfers_per_user", 1)
        .start();
    let mut sessions = [clear(&server, "alice"), clear(&server, "alice")];
    let mut refused = 0;
    for turn in 0..600 {
        let raw = &mut sessions[turn % 2];
        let data = raw.open_data();
        let reply = raw.command("STOR file");
        if reply.code == 450 {
            refused += 1;
            continue;
        }
        assert_eq!(reply.code, 150, "{reply}");
        data.finish();
        raw.reply().expect(226);
    }
    assert_eq!(refused, 0);
}

#[test]
fn checksum_ends_with_the_time_of_its_account() {
    let store = Store::local();
    let end = OffsetDateTime::from(SystemTime::now() + Duration::from_secs(6));
    let expires = end.format(&Rfc3339).unwrap();
    let hash = password_hash();
    store.make_home("leaver");
    let server = in_clear(&store)
        .set("/timeouts/drain_seconds", 2)
        .set("/limits/checksum_bytes", 1_u64 << 50)
        .user(&format!(
            "{{name: leaver, password_hash: \"{hash}\", home: leaver, expires: \"{expires}\"}}"
        ))
        .start();
    let sparse = fs::File::create(store.local_root().join("leaver/sparse")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    let mut raw = clear(&server, "leaver");
    raw.send(b"HASH sparse\r\nNOOP\r\n").unwrap();
    let replies = raw.until_closed(Duration::from_secs(25));
    let codes: Vec<u16> = replies.iter().map(|reply| reply.code).collect();
    assert_eq!(codes, [426, 421], "{replies:?}");
}

#[test]
fn abor_ends_a_checksum() {
    let store = Store::local();
    let server = in_clear(&store)
        .set("/limits/checksum_bytes", 1_u64 << 50)
        .start();
    let sparse = fs::File::create(store.local_root().join("alice/sparse")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    let mut raw = clear(&server, "alice");
    for line in ["HASH sparse", "XCRC sparse", "XSHA512 sparse"] {
        raw.send(format!("{line}\r\nNOOP\r\nABOR\r\n").as_bytes())
            .unwrap();
        let codes = [raw.reply().code, raw.reply().code, raw.reply().code];
        assert_eq!(codes, [426, 226, 200], "{line}");
    }
}

/// What failed before a byte moved is over with its reply: the next try is no second session.
fn who_tries_again_at_once_is_not_in_its_own_way(store: &Store) {
    let server = Server::with(store)
        .set("/uploads", json!({"resume": "on"}))
        .start();
    let mut raw = Raw::explicit(&server);
    let content = bytes(4, 11 << 20);
    let mut data = raw.begin_transfer("STOR file");
    data.write(&content[..7 << 20]).unwrap();
    data.send_fin();
    raw.reply().expect(426);
    for turn in 0..5 {
        rest(&mut raw);
        let address = raw.epsv();
        let mut data = TcpStream::connect(address).unwrap();
        data.write_all(b"no TLS").unwrap();
        let reply = raw.failing_transfer("STOR file");
        assert_eq!(reply.code, 522, "turn {turn}: {reply}");
        rest(&mut raw);
        raw.epsv();
        let reply = raw.command("STOR file");
        assert_eq!(reply.code, 150, "turn {turn}: {reply}");
        raw.send(b"ABOR\r\n").unwrap();
        raw.reply().expect(426);
        raw.reply().expect(226);
    }
    let kept = rest(&mut raw);
    raw.store("STOR file", &content[kept..]);
    store.assert_holds(&[("alice/file", &content)]);
}

/// SIZE, once something is kept, and REST.
fn rest(raw: &mut Raw) -> usize {
    let kept = until(Duration::from_secs(20), "the upload is kept", || {
        let reply = raw.command("SIZE file");
        match reply.code {
            213 => Ok(reply.text()[4..].trim().parse().unwrap()),
            _ => Err(reply.text()),
        }
    });
    raw.expect(&format!("REST {kept}"), 350);
    kept
}

/// An S3 server with a directory of which every page says that more follows.
fn endless_listing() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || answer_pages(stream.unwrap()));
        }
    });
    endpoint
}

fn answer_pages(mut stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    for page in 0.. {
        let mut request = String::new();
        while !request.ends_with("\r\n\r\n") {
            if !matches!(reader.read_line(&mut request), Ok(1..)) {
                return;
            }
        }
        let body = if request.starts_with("HEAD") {
            String::new()
        } else {
            format!(
                "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>true</IsTruncated>\
                 <NextContinuationToken>{page}</NextContinuationToken>\
                 <Contents><Key>alice/file{page}</Key><Size>0</Size><ETag>\"e\"</ETag>\
                 <LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents></ListBucketResult>"
            )
        };
        let status = if request.starts_with("HEAD") {
            "404 Not Found"
        } else {
            "200 OK"
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        if stream.write_all((head + &body).as_bytes()).is_err() {
            return;
        }
    }
}

#[test]
fn abor_and_the_operator_end_a_stat_that_finds_nothing() {
    let store = Store::local();
    let backend = json!({
        "type": "s3", "endpoint": endless_listing(), "bucket": "bucket", "region": "us-east-1",
        "access_key_id": "id", "secret_access_key": "key",
    });
    let server = in_clear(&store).set("/backends/main", backend).start();
    let mut raw = clear(&server, "alice");
    raw.send(b"STAT *.nothing\r\nABOR\r\n").unwrap();
    let codes = [raw.reply().code, raw.reply().code];
    assert_eq!(codes, [426, 226]);
    raw.expect("NOOP", 200);
    raw.send(b"STAT *.nothing\r\n").unwrap();
    let id = until(Duration::from_secs(10), "STAT is there", || {
        let session = server.api("GET", "/sessions", "", 200)[0].clone();
        match session["last_command"].as_str() {
            Some("STAT") => Ok(session["id"].as_str().unwrap().to_owned()),
            _ => Err(session.to_string()),
        }
    });
    server.api("DELETE", &format!("/sessions/{id}"), "", 202);
    let replies = raw.until_closed(Duration::from_secs(20));
    let codes: Vec<u16> = replies.iter().map(|reply| reply.code).collect();
    assert_eq!(codes, [426, 421], "{replies:?}");
}

#[test]
fn commands_that_wait_under_tls_are_not_answered_after_ccc() {
    let store = Store::local();
    let server = Server::with(&store)
        .set_listeners("ccc", &"allow".into())
        .start();
    let mut raw = Raw::explicit(&server);
    let data = raw.begin_transfer("STOR file");
    // Whoever has heard of STAT has been read behind it, too.
    raw.send(b"STAT\r\nCCC\r\nPWD\r\n").unwrap();
    raw.reply().expect(213);
    data.finish();
    raw.reply().expect(226);
    raw.reply().expect(200);
    if raw.try_leave_tls().is_ok() {
        let replies = raw.until_closed(Duration::from_secs(10));
        assert!(replies.is_empty(), "in the clear: {replies:?}");
    }
}

#[test]
fn line_that_is_too_long_forgets_what_was_pending() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::explicit(&server);
    raw.store("STOR file", b"content");
    let long = "x".repeat(9000);
    raw.expect("REST 3", 350);
    raw.expect(&format!("STOR {long}"), 500);
    assert_eq!(raw.retrieve("RETR file"), b"content");
    raw.expect("RNFR file", 350);
    raw.expect(&format!("RNTO {long}"), 500);
    raw.expect("RNTO other", 503);
}

#[test]
fn who_is_held_back_does_not_stall() {
    let store = Store::local();
    let server = in_clear(&store)
        .set("/listeners/0/upload_bytes_per_second", 1024)
        .set("/timeouts/data_stall_seconds", 1)
        .start();
    let sessions: Vec<_> = (0..4)
        .map(|index| {
            let mut raw = clear(&server, "alice");
            thread::spawn(move || {
                let mut data = raw.begin_transfer(&format!("STOR file{index}"));
                data.write(&bytes(index, 1500)).unwrap();
                data.finish_anyhow();
                raw.reply().code
            })
        })
        .collect();
    let codes: Vec<u16> = sessions
        .into_iter()
        .map(|one| one.join().unwrap())
        .collect();
    assert_eq!(codes, [226; 4]);
}

#[test]
fn client_that_takes_nothing_stalls() {
    let store = Store::local();
    store.put("alice/down", &bytes(3, 20 << 20));
    let server = in_clear(&store)
        .set("/timeouts/data_stall_seconds", 2)
        .start();
    let mut raw = clear(&server, "alice");
    let _data = raw.begin_transfer("RETR down");
    let reply = raw.reply_within(Duration::from_secs(20));
    assert_eq!(reply.code, 426, "{reply}");
    assert!(reply.text().contains("stalled"), "{reply}");
}

#[test]
fn slow_but_steady_download_does_not_stall() {
    let store = Store::local();
    store.put("alice/down", &bytes(3, 12 << 20));
    let server = in_clear(&store)
        .set("/timeouts/data_stall_seconds", 1)
        .start();
    let mut raw = clear(&server, "alice");
    let address = raw.epsv();
    let mut data = TcpStream::connect(address).unwrap();
    raw.expect("RETR down", 150);
    // 200 KB/s: the kernel's buffer has room for more only after seconds.
    let began = Instant::now();
    let mut read = 0;
    let mut chunk = vec![0; 20_000];
    while began.elapsed() < Duration::from_secs(8) {
        thread::sleep(Duration::from_millis(100));
        read += data.read(&mut chunk).unwrap();
    }
    loop {
        match data.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(count) => read += count,
        }
    }
    let reply = raw.reply();
    assert_eq!(reply.code, 226, "{reply} after {read}");
}

/// The first link-local address of this machine, with its interface: every interface but the loopback has
/// one where IPv6 is on.
/// Runs the test of this name once more, in a network of its own: loopback with a link-local address. Answers
/// whether this is there already.
fn in_a_network_of_its_own(name: &str) -> bool {
    const NETWORK: &str = "
ip link set lo up
ip address add fe80::1/64 dev lo nodad
exec \"$@\"
";
    const INSIDE: &str = "CAUSEWAY_TEST_NETWORK";
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    let mut command = Command::new("unshare");
    // Whoever is not root becomes it in a user namespace.
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .args(["--net", "sh", "-e", "-c", NETWORK, "sh"])
        .arg(env::current_exe().unwrap())
        .args(["--exact", &format!("interplay::{name}"), "--nocapture"])
        .env(INSIDE, "1");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    false
}

#[test]
fn link_local_clients_get_data_connections() {
    if !in_a_network_of_its_own("link_local_clients_get_data_connections") {
        return;
    }
    let store = Store::local();
    let server = Server::with(&store)
        .set("/listeners/2/address", "[::]:0")
        .start();
    // Loopback is the first interface of a network.
    let scope = 1;
    let on_the_link = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    let mut address = SocketAddrV6::new(on_the_link, server.explicit6.port(), 0, scope);
    let mut raw = Raw::clear(address.into());
    raw.expect("AUTH TLS", 234);
    raw.start_tls(&server.tls(Version::Tls13)).unwrap();
    raw.protect();
    raw.login("alice");
    let text = raw.expect("EPSV", 229).text();
    let port = text.split('|').nth(3).unwrap().parse().unwrap();
    address.set_port(port);
    let mut data = raw.connect_data(SocketAddr::V6(address));
    raw.expect("STOR file", 150);
    data.handshake().unwrap();
    data.write(b"over the link").unwrap();
    data.finish();
    raw.reply().expect(226);
    store.assert_holds(&[("alice/file", b"over the link")]);
}

#[test]
fn socket_of_both_families_from_systemd_is_served() {
    if !in_a_network_of_its_own("socket_of_both_families_from_systemd_is_served") {
        return;
    }
    let store = Store::local();
    let port = *Server::free_ports().start();
    let server = Server::with(&store)
        .set("/listeners/2/address", format!("[::]:{port}"))
        .handed_a_socket("::", port)
        .start();
    let mut raw = Raw::clear(([127, 0, 0, 1], port).into());
    raw.expect("AUTH TLS", 234);
    raw.start_tls(&server.tls(Version::Tls13)).unwrap();
    raw.protect();
    raw.login("alice");
    let four = raw.pasv();
    let mut data = raw.connect_data(four);
    raw.expect("STOR four", 150);
    data.handshake().unwrap();
    data.finish();
    raw.reply().expect(226);
    raw.store("STOR file", b"by either");
    store.assert_holds(&[("alice/file", b"by either"), ("alice/four", b"")]);
    let sessions = server.api("GET", "/sessions", "", 200).to_string();
    assert!(sessions.contains("\"127.0.0.1:"), "{sessions}");
}
