//! Lines, replies, Telnet (RFC 959 §4, RFC 2640, RFC 3659 §2.2).

use std::{
    fs,
    time::{Duration, Instant},
};

use super::{Site, answers, answers_to_bytes, last_words};
use crate::harness::{End, Raw, Server, Store, Version, bytes, until};

items!(
    a1_one_220_or_421,
    a2_multi_line_replies_are_indented,
    a3_bare_lf_ends_a_line,
    a4_ten_commands_in_one_record,
    a5_line_too_long,
    a6_verbs_and_keywords_have_no_case,
    a7_trailing_space_and_unwanted_argument,
    a8_500_501_502_504_keep_their_meaning,
    a9_empty_line,
    a10_telnet_sequences_are_stripped,
    a11_nul_and_cr_in_an_argument,
    a12_name_that_is_not_utf8,
    a13_nfc_and_nfd_are_two_names,
    a14_text_in_replies_is_one_line_of_utf8,
    a15_idle_gets_421_and_close_notify,
    a16_quit_lets_a_transfer_finish,
    a17_lost_control_connection_discards_the_upload,
    a18_argument_where_none_belongs,
);

fn a1_one_220_or_421() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/limits/connections_per_address", 2)
        .start();
    let mut clear = Raw::silent(server.explicit);
    let greeting = clear.reply().expect(220);
    assert_eq!(greeting.lines.len(), 1, "{greeting}");
    let mut implicit = Raw::silent(server.implicit);
    implicit.start_tls(&server.tls(Version::Tls13)).unwrap();
    implicit.reply().expect(220);
    let mut refused = Raw::silent(server.explicit);
    assert_eq!(last_words(&mut refused), [421]);
}

fn a2_multi_line_replies_are_indented() {
    let mut site = Site::new();
    site.store.put("alice/213 End", b"looks like the last line");
    site.store.put("alice/250 End", b"");
    for (line, code) in [
        ("FEAT", 211),
        ("HELP", 214),
        ("SITE HELP", 214),
        ("STAT", 211),
        ("STAT /", 212),
        ("STAT 213 End", 213),
        ("MLST 250 End", 250),
    ] {
        let reply = site.raw.expect(line, code);
        let [first, inner @ .., last] = &reply.lines[..] else {
            panic!("{line}: {reply}");
        };
        if inner.is_empty() && first == last {
            continue;
        }
        assert!(first.starts_with(&format!("{code}-")), "{line}: {reply}");
        assert!(last.starts_with(&format!("{code} ")), "{line}: {reply}");
        for row in inner {
            assert!(row.starts_with(' '), "{line}: {row:?}");
        }
        site.raw.expect("NOOP", 200);
    }
}

fn a3_bare_lf_ends_a_line() {
    let mut site = Site::new();
    site.raw.send(b"NOOP\nPWD\n").unwrap();
    assert_eq!([site.raw.reply().code, site.raw.reply().code], [200, 257]);
    // A record ends anywhere, a command only at its LF.
    for piece in [&b"NO"[..], b"OP\r", b"\n"] {
        site.raw.send(piece).unwrap();
    }
    site.raw.reply().expect(200);
    let mut clear = Raw::clear(site.server.explicit);
    clear.send(b"NOOP\n").unwrap();
    clear.reply().expect(200);
}

fn a4_ten_commands_in_one_record() {
    let mut site = Site::new();
    site.raw
        .send(b"NOOP\r\nPWD\r\nMKD a\r\nCWD a\r\nPWD\r\nCDUP\r\nSYST\r\nRMD a\r\nFOO\r\nTYPE I\r\n")
        .unwrap();
    let codes: Vec<u16> = (0..10).map(|_| site.raw.reply().code).collect();
    assert_eq!(codes, [200, 257, 257, 250, 257, 250, 215, 250, 500, 200]);
    // Far more than the queue holds, while a transfer runs: read later, never lost.
    let mut data = site.raw.begin_transfer("STOR file");
    site.raw.send(&b"PWD\r\n".repeat(100)).unwrap();
    data.write(b"content").unwrap();
    assert_eq!(data.finish(), End::CloseNotify);
    site.raw.reply().expect(226);
    for _ in 0..100 {
        site.raw.reply().expect(257);
    }
    site.raw.expect("NOOP", 200);
}

fn a5_line_too_long() {
    let mut site = Site::new();
    site.store.put("alice/keep", b"kept");
    for length in [9 << 10, 16 << 10, 1 << 20] {
        let mut line = b"DELE keep\r".repeat(length / 10);
        line.push(b'\n');
        site.raw.send(&line).unwrap();
        let reply = site.raw.reply().expect(500);
        assert_eq!(reply.text(), "500 Line too long");
        site.raw.expect("NOOP", 200);
    }
    // Past the hard cap of 4 MiB.
    let mut endless = Raw::explicit(&site.server);
    for _ in 0..5 {
        if endless.send(&vec![b'A'; 1 << 20]).is_err() {
            break;
        }
    }
    assert_eq!(last_words(&mut endless), [500, 421]);
    site.store.assert_holds(&[("alice/keep", b"kept")]);
}

fn a6_verbs_and_keywords_have_no_case() {
    let mut site = Site::new();
    answers(
        &mut site.raw,
        &[
            ("tYpE i", 200),
            ("opts utf8 on", 200),
            ("Opts Utf8 On", 200),
            ("stru f", 200),
            ("MODE s", 200),
            ("prot p", 200),
            ("type a n", 200),
            ("type l 8", 200),
            ("epsv all", 200),
            ("opts mlst Type;SIZE;", 200),
        ],
    );
}

fn a7_trailing_space_and_unwanted_argument() {
    let mut site = Site::new();
    answers(
        &mut site.raw,
        &[
            ("PWD ", 257),
            ("NOOP foo", 200),
            ("PWD x", 257),
            ("TYPE I ", 200),
            ("PBSZ 0 ", 200),
            ("SYST ", 215),
            ("CDUP ..", 250),
        ],
    );
}

fn a8_500_501_502_504_keep_their_meaning() {
    let mut site = Site::new();
    answers(
        &mut site.raw,
        &[
            ("FOO", 500),
            ("FOO bar", 500),
            ("CSID Name=x;", 502),
            ("SMNT x", 502),
            ("ALLO 1", 202),
            ("TYPE E", 504),
            ("MODE C", 504),
            ("REST x", 501),
            ("MKD", 501),
            ("CWD ", 501),
        ],
    );
}

fn a9_empty_line() {
    let mut site = Site::new();
    site.raw.send(b"\r\n\n\r\nNOOP\r\n").unwrap();
    site.raw.reply().expect(200);
    site.raw.expect("PWD", 257);
}

fn a10_telnet_sequences_are_stripped() {
    let mut site = Site::new();
    answers_to_bytes(
        &mut site.raw,
        &[
            (b"\xFF\xF4\xFF\xF2ABOR\r\n", 226),
            (b"\xFF\xF4ABOR\r\n", 226),
            (b"\xFF\xFD\x06NOOP\r\n", 200),
            (b"\xFF\xFB\x01\xFF\xFC\x01\xFF\xFE\x01PWD\r\n", 257),
            (b"P\xFF\xF1WD\r\n", 257),
            // One FF, which is no UTF-8.
            (b"MKD a\xFF\xFFb\r\n", 501),
        ],
    );
    assert!(site.store.directories().is_empty());
}

fn a11_nul_and_cr_in_an_argument() {
    let mut site = Site::new();
    for verb in ["MKD", "STOR", "CWD", "RNFR", "USER"] {
        for name in [&b"a\0b"[..], b"a\rb", b"a\r\0b"] {
            let line = [verb.as_bytes(), b" ", name, b"\r\n"].concat();
            answers_to_bytes(&mut site.raw, &[(&line, 501)]);
        }
    }
    assert!(site.store.directories().is_empty());
    site.store.assert_holds(&[]);
}

fn a12_name_that_is_not_utf8() {
    let mut site = Site::new();
    for line in [
        &b"MKD caf\xE9\r\n"[..],
        b"STOR \xC3(\r\n",
        b"MKD \xC0\xAF\r\n",
        b"MKD \xED\xA0\x80\r\n",
        b"\xE9\r\n",
        b"USER \xE9\r\n",
    ] {
        site.raw.send(line).unwrap();
        let reply = site.raw.reply().expect(501);
        assert!(reply.text().contains("UTF-8"), "{reply}");
        site.raw.expect("NOOP", 200);
    }
    assert!(site.store.directories().is_empty());
    site.store.assert_holds(&[]);
}

fn a13_nfc_and_nfd_are_two_names() {
    let mut site = Site::new();
    site.raw.store("STOR \u{e9}", b"composed");
    site.raw.store("STOR e\u{301}", b"decomposed");
    site.store.assert_holds(&[
        ("alice/\u{e9}", b"composed"),
        ("alice/e\u{301}", b"decomposed"),
    ]);
    assert_eq!(site.raw.names("NLST"), ["e\u{301}", "\u{e9}"]);
}

fn a14_text_in_replies_is_one_line_of_utf8() {
    let mut site = Site::new();
    site.raw.expect("MKD caf\u{e9} \u{202e}x", 257);
    let reply = site.raw.expect("CWD caf\u{e9} \u{202e}x", 250);
    assert_eq!(reply.lines.len(), 1);
    let reply = site.raw.expect("PWD", 257);
    assert!(reply.text().contains("caf\u{e9}"), "{reply}");
    // Behind the server's back: names that would forge a reply.
    fs::write(site.store.local_root().join("alice/a\r\n226 b"), b"").unwrap();
    for line in [
        "STAT /",
        "MLST /",
        "HELP \u{1b}[31m",
        "CLNT a\tb",
        "MKD a\tb",
    ] {
        let reply = site.raw.command(line);
        for row in &reply.lines {
            assert!(!row.chars().any(char::is_control), "{line}: {row:?}");
        }
        site.raw.expect("NOOP", 200);
    }
}

fn a15_idle_gets_421_and_close_notify() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/timeouts/idle_seconds", 1)
        .start();
    let mut raw = Raw::explicit(&server);
    raw.reply_within(Duration::from_secs(5)).expect(421);
    assert_eq!(raw.end(), End::CloseNotify);
    until(Duration::from_secs(5), "the log says so", || {
        let log = server.log().join("\n");
        let says = log.contains("session ends") && log.contains("Idle for too long");
        if says { Ok(()) } else { Err(log) }
    });
}

fn a16_quit_lets_a_transfer_finish() {
    let mut site = Site::new();
    let mut data = site.raw.begin_transfer("STOR file");
    data.write(b"first, ").unwrap();
    site.raw.send(b"QUIT\r\n").unwrap();
    data.write(b"second").unwrap();
    assert_eq!(data.finish(), End::CloseNotify);
    assert_eq!(last_words(&mut site.raw), [226, 221]);
    site.store.assert_holds(&[("alice/file", b"first, second")]);
    let mut idle = Raw::explicit(&site.server);
    idle.expect("QUIT", 221);
    assert_eq!(idle.end(), End::CloseNotify);
}

fn a17_lost_control_connection_discards_the_upload() {
    let site = Site::new();
    for reset in [false, true] {
        let mut raw = Raw::explicit(&site.server);
        let mut data = raw.begin_transfer("STOR file");
        data.write(&bytes(7, 100_000)).unwrap();
        if reset {
            raw.reset();
        } else {
            raw.hang_up();
        }
        let start = Instant::now();
        data.wait_closed(Duration::from_secs(5));
        assert!(start.elapsed() < Duration::from_secs(2));
        site.store.assert_holds(&[]);
    }
}

fn a18_argument_where_none_belongs() {
    let mut site = Site::new();
    answers(
        &mut site.raw,
        &[("SYST x", 215), ("noop", 200), ("syst", 215)],
    );
    site.raw.expect("QUIT foo", 221);
    assert_eq!(site.raw.end(), End::CloseNotify);
}
