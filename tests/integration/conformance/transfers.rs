//! Transfers (RFC 959 §4.1.3, RFC 3659 §5, RFC 4217 §15).

use std::time::{Duration, Instant};

use super::{Site, answers, refused_before_150};
use crate::harness::{End, Raw, Server, Store, bytes};

items!(
    g1_retr,
    g2_retr_of_what_cannot_be_read,
    g3_stor,
    g4_stor_without_parent,
    g5_how_stor_ends,
    g6_stor_of_an_empty_file,
    g7_appe,
    g8_stou,
    g9_allo,
    g10_rest_and_retr,
    g11_rest_and_stor,
    g12_rest_is_cleared_by_any_transfer,
    g13_rest_is_cleared_by_other_commands,
    g14_rest_of_no_number,
    g15_abor_in_a_transfer,
    g16_abor_with_nothing_running,
    g17_stat_in_a_transfer,
    g18_keep_alive,
    g19_other_commands_in_a_transfer,
    g20_type,
    g21_type_a_is_pass_through,
    g22_size_in_type_a,
    g23_mode,
    g24_stru,
    g25_size_in_the_150,
    g26_full_store,
    g27_failing_store,
    g28_replaced_while_read,
    g29_final_reply_comes_soon,
    g30_client_closes_a_download,
);

/// More than the sockets of a connection hold.
const LARGE: usize = 32 << 20;

fn g1_retr() {
    let mut site = Site::new();
    let content = bytes(1, 3_000_001);
    site.store.put("alice/file", &content);
    // `retrieve` demands 150, close_notify and 226.
    assert!(site.raw.retrieve("RETR file") == content);
    assert!(site.raw.retrieve("RETR /file") == content);
}

fn g2_retr_of_what_cannot_be_read() {
    let mut site = Site::new();
    site.raw.expect("MKD directory", 257);
    for line in ["RETR missing", "RETR directory", "RETR missing/file"] {
        refused_before_150(&mut site.raw, line, 550);
    }
}

fn g3_stor() {
    let mut site = Site::new();
    let content = bytes(2, 9_000_001);
    let mut data = site.raw.begin_transfer("STOR file");
    data.write(&content).unwrap();
    // Nothing is visible before the end.
    assert_eq!(site.store.bytes("alice/file"), None);
    assert_eq!(data.finish(), End::CloseNotify);
    site.raw.reply().expect(226);
    site.store.assert_holds(&[("alice/file", &content)]);
}

fn g4_stor_without_parent() {
    for store in [Store::local(), Store::s3()] {
        let server = Server::start(&store);
        let mut site = Site::of(store, server);
        for line in [
            "STOR missing/file",
            "APPE missing/file",
            "MKD missing/directory",
        ] {
            if line.starts_with("MKD") {
                site.raw.expect(line, 550);
            } else {
                refused_before_150(&mut site.raw, line, 550);
            }
        }
        site.store.assert_holds(&[]);
    }
}

fn g5_how_stor_ends() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/timeouts/data_stall_seconds", 1)
        .start();
    let mut site = Site::of(store, server);
    site.raw.store("STOR file", b"whole");
    let content = bytes(3, 100_000);
    for end in ["FIN", "RST", "idle", "bad record"] {
        let mut data = site.raw.begin_transfer("STOR file");
        data.write(&content).unwrap();
        let mut open = None;
        match end {
            "FIN" => {
                data.send_fin();
                open = Some(data);
            }
            "RST" => data.reset(),
            "idle" => open = Some(data),
            _ => {
                data.send_raw(&[0x17, 3, 3, 0, 32].repeat(8)).unwrap();
                open = Some(data);
            }
        }
        site.raw
            .reply_within(Duration::from_secs(8))
            .expect_any(&[426, 451]);
        drop(open);
        site.raw.expect("NOOP", 200);
        site.store.assert_holds(&[("alice/file", b"whole")]);
    }
}

fn g6_stor_of_an_empty_file() {
    let mut site = Site::new();
    site.raw.store("STOR empty", b"");
    // As basic-ftp does it: everything said before the 150 is read.
    let mut data = site.raw.open_data();
    data.say_hello();
    site.raw.send(b"STOR early\r\n").unwrap();
    data.handshake().unwrap();
    assert_eq!(data.finish(), End::CloseNotify);
    site.raw.reply().expect(150);
    site.raw.reply().expect(226);
    site.store
        .assert_holds(&[("alice/empty", b""), ("alice/early", b"")]);
}

fn g7_appe() {
    for store in [Store::local(), Store::s3()] {
        let server = Server::start(&store);
        let mut site = Site::of(store, server);
        site.raw.store("APPE log", b"one ");
        site.raw.store("APPE log", b"two");
        site.store.assert_holds(&[("alice/log", b"one two")]);
    }
}

fn g8_stou() {
    let mut site = Site::new();
    let mut names = Vec::new();
    for line in ["STOU", "STOU", "STOU wish.txt"] {
        let mut data = site.raw.open_data();
        let reply = site.raw.expect(line, 150);
        let name = reply.text();
        let name = name
            .strip_prefix("150 FILE: ")
            .expect("the form of RFC 1123");
        names.push(format!("alice/{name}"));
        data.handshake().unwrap();
        data.write(b"unique").unwrap();
        assert_eq!(data.finish(), End::CloseNotify);
        site.raw.reply().expect(226);
    }
    assert!(names[2].starts_with("alice/wish.txt"), "{names:?}");
    let held: Vec<(&str, &[u8])> = names
        .iter()
        .map(|name| (name.as_str(), &b"unique"[..]))
        .collect();
    site.store.assert_holds(&held);
}

fn g9_allo() {
    let mut site = Site::new();
    answers(
        &mut site.raw,
        &[
            ("ALLO 1000", 202),
            ("ALLO 1000 R 100", 202),
            ("ALLO", 501),
            ("ALLO x", 501),
        ],
    );
}

fn g10_rest_and_retr() {
    let mut site = Site::new();
    site.store.put("alice/file", b"abcdef");
    for (offset, rest) in [(0, &b"abcdef"[..]), (4, b"ef"), (6, b"")] {
        site.raw.expect(&format!("REST {offset}"), 350);
        assert_eq!(site.raw.retrieve("RETR file"), rest);
    }
    site.raw.expect("REST 7", 350);
    refused_before_150(&mut site.raw, "RETR file", 554);
    assert_eq!(site.raw.retrieve("RETR file"), b"abcdef");
}

fn g11_rest_and_stor() {
    for store in [Store::local(), Store::s3()] {
        let server = Server::start(&store);
        let mut site = Site::of(store, server);
        site.store.put("alice/file", b"abcdef");
        site.raw.expect("REST 6", 350);
        site.raw.store("STOR file", b"ghi");
        site.store.assert_holds(&[("alice/file", b"abcdefghi")]);
        site.raw.expect("REST 0", 350);
        site.raw.store("STOR file", b"new");
        site.store.assert_holds(&[("alice/file", b"new")]);
        site.raw.expect("REST 4", 350);
        refused_before_150(&mut site.raw, "STOR file", 554);
        site.raw.expect("REST 1", 350);
        refused_before_150(&mut site.raw, "STOR missing", 554);
        site.store.assert_holds(&[("alice/file", b"new")]);
    }
}

fn g12_rest_is_cleared_by_any_transfer() {
    let mut site = Site::new();
    site.raw.expect("REST 3", 350);
    refused_before_150(&mut site.raw, "RETR missing", 550);
    site.raw.store("STOR file", b"ABCDEF");
    site.store.assert_holds(&[("alice/file", b"ABCDEF")]);
}

fn g13_rest_is_cleared_by_other_commands() {
    let mut site = Site::new();
    site.store.put("alice/file", b"abcdef");
    for line in ["PWD", "CWD /", "SYST", "LIST", "FOO", "MKD", "DELE missing"] {
        site.raw.expect("REST 3", 350);
        if line == "LIST" {
            site.raw.retrieve(line);
        } else {
            site.raw.command(line);
        }
        assert_eq!(site.raw.retrieve("RETR file"), b"abcdef", "{line}");
    }
    for line in [
        "PASV",
        "EPSV",
        "TYPE I",
        "SIZE file",
        "MDTM file",
        "NOOP",
        "ALLO 3",
    ] {
        site.raw.expect("REST 3", 350);
        site.raw.command(line);
        assert_eq!(site.raw.retrieve("RETR file"), b"def", "{line}");
    }
}

fn g14_rest_of_no_number() {
    let mut site = Site::new();
    answers(
        &mut site.raw,
        &[
            ("REST abc", 501),
            ("REST -1", 501),
            ("REST +1", 501),
            ("REST 99999999999999999999", 501),
            ("REST", 501),
            ("REST 18446744073709551615", 350),
        ],
    );
}

fn g15_abor_in_a_transfer() {
    let mut site = Site::new();
    site.store.put("alice/large", &bytes(4, LARGE));
    for line in ["RETR large", "STOR new"] {
        let mut data = site.raw.open_data();
        site.raw.expect(line, 150);
        data.handshake().unwrap();
        if line.starts_with("STOR") {
            data.write(b"some").unwrap();
        }
        let start = Instant::now();
        site.raw.send(b"ABOR\r\n").unwrap();
        let first = site.raw.reply().expect(426);
        assert!(!first.text().contains("ABOR"), "{first}");
        let second = site.raw.reply().expect(226);
        assert!(second.text().contains("ABOR"), "{second}");
        assert!(start.elapsed() < Duration::from_secs(1));
        data.wait_closed(Duration::from_secs(5));
        site.raw.expect("NOOP", 200);
    }
    assert_eq!(site.store.bytes("alice/new"), None);
    site.raw.store("STOR after", b"usable");
}

fn g16_abor_with_nothing_running() {
    let mut site = Site::new();
    site.raw.expect("ABOR", 226);
    site.raw.epsv();
    site.raw.expect("ABOR", 226);
    site.raw.store("STOR file", b"content");
}

fn g17_stat_in_a_transfer() {
    let mut site = Site::new();
    let content = bytes(10, 100_000);
    let mut data = site.raw.begin_transfer("STOR file");
    data.write(&content[..50_000]).unwrap();
    crate::harness::until(Duration::from_secs(5), "progress in STAT", || {
        let text = site.raw.expect("STAT", 213).text();
        if text.contains("50000") {
            Ok(())
        } else {
            Err(text)
        }
    });
    data.write(&content[50_000..]).unwrap();
    assert_eq!(data.finish(), End::CloseNotify);
    site.raw.reply().expect(226);
    site.store.assert_holds(&[("alice/file", &content)]);
}

fn g18_keep_alive() {
    let mut site = Site::new();
    for (line, code) in [
        ("NOOP", 200),
        ("PWD", 257),
        ("REST 0", 350),
        ("TYPE A", 200),
    ] {
        // Idle.
        site.raw.expect(line, code);
        // During a transfer: at once or behind the 226, never lost.
        let mut data = site.raw.begin_transfer("STOR file");
        site.raw.send(format!("{line}\r\n").as_bytes()).unwrap();
        data.write(b"content").unwrap();
        assert_eq!(data.finish(), End::CloseNotify);
        let mut codes = [site.raw.reply().code, site.raw.reply().code];
        codes.sort_unstable();
        let mut expected = [226, code];
        expected.sort_unstable();
        assert_eq!(codes, expected, "{line}");
        site.raw.expect("SYST", 215);
    }
}

fn g19_other_commands_in_a_transfer() {
    let mut site = Site::new();
    let mut data = site.raw.begin_transfer("STOR file");
    site.raw
        .send(b"SIZE file\r\nMKD d\r\nFOO\r\nNOOP\r\n")
        .unwrap();
    data.write(b"content").unwrap();
    assert_eq!(data.finish(), End::CloseNotify);
    let codes: Vec<u16> = (0..5).map(|_| site.raw.reply().code).collect();
    assert_eq!(codes, [226, 213, 257, 500, 200]);
}

fn g20_type() {
    let mut site = Site::new();
    answers(
        &mut site.raw,
        &[
            ("TYPE A", 200),
            ("TYPE A N", 200),
            ("TYPE I", 200),
            ("TYPE L 8", 200),
            ("TYPE E", 504),
            ("TYPE X", 504),
            ("TYPE L 7", 504),
            ("TYPE A T", 504),
            ("TYPE", 501),
        ],
    );
}

fn g21_type_a_is_pass_through() {
    let mut site = Site::new();
    let content = b"unix\nwindows\r\nmac\rend\0\xff";
    site.raw.expect("TYPE A", 200);
    site.raw.store("STOR file", content);
    site.store.assert_holds(&[("alice/file", content)]);
    assert_eq!(site.raw.retrieve("RETR file"), content);
    site.raw.expect("REST 5", 350);
    assert_eq!(site.raw.retrieve("RETR file"), &content[5..]);
}

fn g22_size_in_type_a() {
    let mut site = Site::new();
    site.store.put("alice/file", b"a\nb\n");
    for line in ["TYPE A", "TYPE I"] {
        site.raw.expect(line, 200);
        assert_eq!(site.raw.expect("SIZE file", 213).text(), "213 4");
    }
}

fn g23_mode() {
    let mut site = Site::new();
    answers(
        &mut site.raw,
        &[
            ("MODE S", 200),
            ("MODE B", 504),
            ("MODE C", 504),
            ("MODE Z", 504),
            ("MODE", 501),
        ],
    );
}

fn g24_stru() {
    let mut site = Site::new();
    answers(
        &mut site.raw,
        &[
            ("STRU F", 200),
            ("STRU R", 504),
            ("STRU P", 504),
            ("STRU", 501),
        ],
    );
}

fn g25_size_in_the_150() {
    let mut site = Site::new();
    site.store.put("alice/file", &[7; 12_345]);
    let mut data = site.raw.open_data();
    let reply = site.raw.expect("RETR file", 150);
    assert_eq!(
        reply.text(),
        "150 Opening BINARY mode data connection for file (12345 bytes)."
    );
    data.handshake().unwrap();
    assert_eq!(data.read_all().0.len(), 12_345);
    site.raw.reply().expect(226);
}

/// An upload to a store that answers each write with this: the final reply.
#[track_caller]
fn upload_to_failing_store(status: &'static str, code: &'static str) -> u16 {
    let address = super::failing_store::start(status, code);
    let store = Store::local();
    let server = Server::with(&store)
        .set(
            "/backends/main",
            serde_json::json!({
                "type": "s3", "bucket": "bucket", "region": "us-east-1",
                "endpoint": format!("http://{address}"),
                "access_key_id": "id", "secret_access_key": "key",
            }),
        )
        .set("/timeouts/store_seconds", 2)
        .start();
    let mut raw = Raw::explicit(&server);
    let mut data = raw.begin_transfer("STOR file");
    // The failure of a part is seen when a later one is due, and then the server hangs up.
    let content = bytes(5, 8 << 20);
    let _ = (0..64).try_for_each(|_| data.write(&content));
    let reply = raw.reply_within(Duration::from_secs(25));
    data.wait_closed(Duration::from_secs(5));
    raw.expect("NOOP", 200);
    reply.code
}

fn g26_full_store() {
    assert_eq!(
        upload_to_failing_store("403 Forbidden", "QuotaExceeded"),
        552
    );
}

fn g27_failing_store() {
    assert_eq!(
        upload_to_failing_store("503 Service Unavailable", "SlowDown"),
        451
    );
}

fn g28_replaced_while_read() {
    for store in [Store::local(), Store::s3()] {
        let server = Server::start(&store);
        let mut site = Site::of(store, server);
        let (old, new) = (bytes(6, LARGE), bytes(7, LARGE));
        site.store.put("alice/file", &old);
        let mut data = site.raw.open_data();
        site.raw.expect("RETR file", 150);
        data.handshake().unwrap();
        Raw::explicit(&site.server).store("STOR file", &new);
        let (content, _) = data.read_all();
        // All of one generation, or a 426.
        if site.raw.reply().expect_any(&[226, 426, 450]).code == 226 {
            assert!(content == old, "{} bytes", content.len());
        } else {
            assert!(old.starts_with(&content), "{} bytes", content.len());
        }
        assert!(site.raw.retrieve("RETR file") == new);
    }
}

fn g29_final_reply_comes_soon() {
    for store in [Store::local(), Store::s3()] {
        let server = Server::start(&store);
        let mut site = Site::of(store, server);
        let mut data = site.raw.begin_transfer("STOR file");
        data.write(&bytes(8, LARGE)).unwrap();
        data.finish();
        site.raw.reply_within(Duration::from_secs(15)).expect(226);
    }
}

fn g30_client_closes_a_download() {
    let mut site = Site::new();
    site.store.put("alice/file", &bytes(9, LARGE));
    for _ in 0..3 {
        let mut data = site.raw.open_data();
        site.raw.expect("RETR file", 150);
        data.handshake().unwrap();
        data.read_some();
        data.reset();
        site.raw.reply_within(Duration::from_secs(5)).expect(426);
        site.raw.expect("NOOP", 200);
    }
}
