//! Command lines that are too long, odd, or early.

use std::time::Duration;

use crate::harness::{Raw, Server, Store, Version};

/// A line of this many bytes, CRLF and all, that looks like a command at its end.
fn long_line(length: usize, filler: &[u8]) -> Vec<u8> {
    let tail = b"DELE keep\r\n";
    let mut line = filler.repeat(length / filler.len());
    line.truncate(length - tail.len());
    line.extend_from_slice(tail);
    line
}

/// CVE-2008-4242: the tail of a line that is too long must not become a command.
#[test]
fn s34_line_of_one_mebibyte_gets_one_500_and_its_tail_is_never_parsed() {
    let store = Store::local();
    let server = Server::start(&store);
    store.put("alice/keep", b"kept");
    let mut raw = Raw::explicit(&server);
    for length in [16 << 10, 1 << 20] {
        for filler in [&b"A"[..], b"DELE keep\r", b"NOOP "] {
            raw.send(&long_line(length, filler)).unwrap();
            raw.reply().expect(500);
            // The very next reply belongs to the very next command.
            raw.expect("PWD", 257);
            raw.expect("NOOP", 200);
        }
    }
    raw.store("STOR after", b"usable");
    store.assert_holds(&[("alice/keep", b"kept"), ("alice/after", b"usable")]);
}

#[test]
fn line_of_one_mebibyte_before_login_is_no_different() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::clear(server.explicit);
    raw.send(&long_line(1 << 20, b"A")).unwrap();
    raw.reply().expect(500);
    raw.expect("AUTH TLS", 234);
    raw.start_tls(&server.tls(Version::Tls13)).unwrap();
    raw.login("alice");
}

#[test]
fn endless_line_does_not_grow_the_server() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::clear(server.explicit);
    let before = server.peak_memory_kib();
    let chunk = vec![b'A'; 1 << 20];
    for _ in 0..64 {
        // The server may hang up on a client like this.
        if raw.send(&chunk).is_err() {
            break;
        }
    }
    let grown = server.peak_memory_kib().saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB more for one line");
}

#[test]
fn pipelined_commands_are_answered_in_order() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::explicit(&server);
    raw.send(b"NOOP\r\nPWD\r\nMKD a\r\nCWD a\r\nPWD\r\nCDUP\r\nSYST\r\nRMD a\r\nFOO\r\nTYPE I\n")
        .unwrap();
    let codes: Vec<u16> = (0..10).map(|_| raw.reply().code).collect();
    assert_eq!(codes, [200, 257, 257, 250, 257, 250, 215, 250, 500, 200]);
}

#[test]
fn odd_lines_are_answered_and_the_session_lives() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::explicit(&server);
    for (line, codes) in [
        ("noop", &[200][..]),
        ("tYpE i", &[200]),
        ("TYPE A N", &[200]),
        ("TYPE L 8", &[200]),
        ("TYPE E", &[504]),
        ("STRU f", &[200]),
        ("STRU R", &[504]),
        ("MODE s", &[200]),
        ("MODE Z", &[504]),
        ("PWD ", &[257]),
        ("OPTS utf8 on", &[200]),
        ("OPTS UTF8", &[200]),
        ("Opts Mlst type;size;", &[200]),
        ("OPTS FOO", &[501]),
        ("ALLO 1000", &[200, 202]),
        ("SITE CHMOD 644 x", &[200, 202, 500, 502, 504]),
        ("SITE EXEC ls", &[500, 502]),
        ("SYST", &[215]),
        ("HELP", &[211, 214]),
        ("STAT", &[211]),
        ("CLNT test", &[200]),
        ("REIN", &[500, 502]),
        ("CCC", &[500, 502, 533, 534]),
        ("ADAT", &[500, 502, 503]),
        ("RNTO x", &[503]),
        ("XPWD", &[257]),
        ("PASS again", &[503]),
        ("USER reader", &[503, 530]),
        ("FOO", &[500]),
        ("ABOR", &[225, 226]),
    ] {
        raw.command(line).expect_any(codes);
        raw.expect("NOOP", 200);
    }
}

/// Control characters and names that are not UTF-8 are refused; nothing is repaired.
#[test]
fn names_with_control_characters_or_broken_utf8_are_refused() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::explicit(&server);
    for name in [&b"a\0b"[..], b"a\rb", b"a\r\0b", b"\xE9t\xE9", b"a\x1Bb"] {
        let _data = raw.open_data();
        let line = [b"STOR ", name, b"\r\n"].concat();
        raw.send(&line).unwrap();
        raw.reply().expect_any(&[500, 501, 550, 553]);
        let line = [b"MKD ", name, b"\r\n"].concat();
        raw.send(&line).unwrap();
        raw.reply().expect_any(&[500, 501, 550, 553]);
        raw.expect("NOOP", 200);
    }
    store.assert_holds(&[]);
    assert!(store.directories().is_empty());
}

#[test]
fn replies_name_neither_engine_nor_version() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::explicit(&server);
    for line in ["STAT", "HELP", "SYST", "FEAT", "FOO", "SITE HELP"] {
        let text = raw.command(line).text().to_lowercase();
        for leak in ["unftp", env!("CARGO_PKG_VERSION"), "opendal", "argon2"] {
            assert!(!text.contains(leak), "{line} says {leak}: {text}");
        }
    }
    raw.send(b"QUIT\r\n").unwrap();
    raw.reply().expect(221);
    assert!(raw.until_closed(Duration::from_secs(10)).is_empty());
}
