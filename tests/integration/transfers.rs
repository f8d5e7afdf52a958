//! Transfers that end well, badly, in the middle, or at an offset: reply codes and stored bytes.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::harness::{Data, End, Raw, Server, Store, Version, bytes, on_each_store, until};

on_each_store!(
    upload_cut_by_reset_leaves_nothing,
    upload_cut_by_fin_without_close_notify_leaves_nothing,
    upload_cut_by_loss_of_the_control_connection_leaves_nothing,
    upload_cut_by_reset_of_the_control_connection_leaves_nothing,
    upload_cut_by_abor_leaves_nothing,
    upload_cut_by_telnet_abor_leaves_nothing,
    silence_in_mid_upload_leaves_nothing,
    store_and_retrieve_keep_every_byte,
    appe_appends_or_is_refused,
    rest_and_stor_write_at_the_offset_or_are_refused,
    append_cut_by_reset_keeps_the_old_object,
    rest_and_retr_send_the_exact_rest,
    rest_beyond_the_end_fails_on_retr,
    stale_rest_never_reaches_an_upload,
    retr_of_nothing_and_of_a_directory_fails_before_150,
    download_dropped_by_the_client_ends_with_one_426,
    abor_in_mid_download_ends_it,
    commands_are_answered_while_a_transfer_runs,
    listings_end_with_close_notify,
    two_uploads_of_one_name_never_mix,
);

/// Enough for several parts of a multipart upload, so that there is something to abort.
const LONG: usize = 20 << 20;

/// Begins to replace `kept` and to write `new`, cuts both, demands that nothing changed.
fn cut(store: &Store, mut cut: impl FnMut(&Server, Raw, Data)) {
    let server = Server::with(store)
        .set("/timeouts/data_stall_seconds", 3)
        .start();
    store.put("alice/kept", b"old content");
    let content = bytes(7, LONG);
    for (name, length) in [("new", LONG), ("kept", LONG), ("small", 10), ("empty", 0)] {
        let mut raw = Raw::explicit(&server);
        let mut data = raw.begin_transfer(&format!("STOR {name}"));
        data.write(&content[..length]).unwrap();
        cut(&server, raw, data);
        store.assert_holds(&[("alice/kept", b"old content")]);
    }
    let mut raw = Raw::explicit(&server);
    raw.store("STOR kept", b"new content");
    store.assert_holds(&[("alice/kept", b"new content")]);
}

fn upload_cut_by_reset_leaves_nothing(store: &Store) {
    cut(store, |_, mut raw, data| {
        data.reset();
        // 522: a reset with nothing before it overtakes the client's end of the handshake.
        raw.reply().expect_any(&[426, 451, 522]);
        raw.expect("NOOP", 200);
    });
}

fn upload_cut_by_fin_without_close_notify_leaves_nothing(store: &Store) {
    cut(store, |_, mut raw, mut data| {
        data.send_fin();
        raw.reply().expect_any(&[426, 451]);
        data.wait_closed(Duration::from_secs(10));
        raw.expect("NOOP", 200);
    });
}

fn upload_cut_by_loss_of_the_control_connection_leaves_nothing(store: &Store) {
    cut(store, |_, raw, mut data| {
        raw.hang_up();
        // The data connection stays open: only the loss of the session can end the upload, and it
        // must, although the client would still send its close_notify.
        data.wait_closed(Duration::from_secs(2));
    });
}

fn upload_cut_by_reset_of_the_control_connection_leaves_nothing(store: &Store) {
    cut(store, |_, raw, mut data| {
        raw.reset();
        data.wait_closed(Duration::from_secs(2));
    });
}

fn abort_with(store: &Store, line: &[u8]) {
    cut(store, |_, mut raw, mut data| {
        let start = Instant::now();
        raw.send(line).unwrap();
        raw.reply().expect(426);
        raw.reply().expect(226);
        let took = start.elapsed();
        assert!(took < Duration::from_secs(1), "ABOR took {took:?}");
        data.wait_closed(Duration::from_secs(5));
        raw.expect("NOOP", 200);
    });
}

fn upload_cut_by_abor_leaves_nothing(store: &Store) {
    abort_with(store, b"ABOR\r\n");
}

/// As lftp does it, inside TLS too: IAC IP, IAC DM (RFC 959 section 4.1.3).
fn upload_cut_by_telnet_abor_leaves_nothing(store: &Store) {
    abort_with(store, b"\xFF\xF4\xFF\xF2ABOR\r\n");
}

fn silence_in_mid_upload_leaves_nothing(store: &Store) {
    cut(store, |_, mut raw, mut data| {
        raw.reply_within(Duration::from_secs(10)).expect(426);
        data.wait_closed(Duration::from_secs(5));
        raw.expect("NOOP", 200);
    });
}

fn store_and_retrieve_keep_every_byte(store: &Store) {
    let server = Server::start(store);
    // Around a TLS record, around a part, and odd.
    for (version, mode) in [(Version::Tls13, "explicit"), (Version::Tls12, "implicit")] {
        let tls = server.tls(version);
        let mut raw = if mode == "explicit" {
            Raw::explicit_with(&server, &tls)
        } else {
            let mut raw = Raw::implicit_with(&server, &tls);
            raw.login("alice");
            raw
        };
        for length in [
            0,
            1,
            16_383,
            16_384,
            16_385,
            (8 << 20) - 1,
            8 << 20,
            (8 << 20) + 1,
            17 << 20,
        ] {
            let content = bytes(length as u64, length);
            raw.store("STOR file", &content);
            assert!(
                store.bytes("alice/file").as_ref() == Some(&content),
                "{length} bytes stored"
            );
            raw.expect("SIZE file", 213)
                .text()
                .ends_with(&length.to_string());
            assert!(
                raw.retrieve("RETR file") == content,
                "{length} bytes retrieved"
            );
        }
        store.assert_holds(&[("alice/file", &bytes(17 << 20, 17 << 20))]);
    }
}

/// Uploads with a command that the server may refuse before the 150; says whether it took it.
fn store_or_refuse(raw: &mut Raw, line: &str, content: &[u8]) -> bool {
    let mut data = raw.open_data();
    let reply = raw.command(line);
    if reply.code != 150 {
        assert!((500..560).contains(&reply.code), "{line}: {reply}");
        return false;
    }
    data.handshake().unwrap();
    data.write(content).unwrap();
    assert_eq!(data.finish(), End::CloseNotify);
    raw.reply().expect(226);
    true
}

fn appe_appends_or_is_refused(store: &Store) {
    let server = Server::start(store);
    store.put("alice/log", b"one ");
    let mut raw = Raw::explicit(&server);
    let content: &[u8] = if store_or_refuse(&mut raw, "APPE log", b"two") {
        b"one two"
    } else {
        b"one "
    };
    store.assert_holds(&[("alice/log", content)]);

    // Larger than a part, and to a name that does not exist.
    let (base, more) = (bytes(1, 9 << 20), bytes(2, 9 << 20));
    store.put("alice/large", &base);
    let whole = if store_or_refuse(&mut raw, "APPE large", &more) {
        [base, more].concat()
    } else {
        base
    };
    store.assert_holds(&[("alice/log", content), ("alice/large", &whole)]);
    if store_or_refuse(&mut raw, "APPE fresh", b"first") {
        assert_eq!(store.bytes("alice/fresh"), Some(b"first".to_vec()));
    } else {
        assert_eq!(store.bytes("alice/fresh"), None);
    }
}

fn rest_and_stor_write_at_the_offset_or_are_refused(store: &Store) {
    let server = Server::start(store);
    let mut raw = Raw::explicit(&server);
    for offset in [0_usize, 3, 6] {
        store.put("alice/file", b"abcdef");
        raw.expect(&format!("REST {offset}"), 350);
        let content = if store_or_refuse(&mut raw, "STOR file", b"XYZ") {
            [&b"abcdef"[..offset], b"XYZ"].concat()
        } else {
            assert_ne!(offset, 0, "REST 0 is an ordinary upload");
            b"abcdef".to_vec()
        };
        store.assert_holds(&[("alice/file", &content)]);
    }
    // A hole can never be right.
    store.put("alice/file", b"abcdef");
    raw.expect("REST 7", 350);
    assert!(
        !store_or_refuse(&mut raw, "STOR file", b"XYZ"),
        "a hole was accepted"
    );
    raw.expect("REST 1", 350);
    assert!(
        !store_or_refuse(&mut raw, "STOR missing", b"XYZ"),
        "an offset in nothing was accepted"
    );
    store.assert_holds(&[("alice/file", b"abcdef")]);
}

fn append_cut_by_reset_keeps_the_old_object(store: &Store) {
    let server = Server::start(store);
    store.put("alice/file", b"abcdef");
    let mut raw = Raw::explicit(&server);
    for rest in [None, Some("REST 3")] {
        let mut data = raw.open_data();
        if let Some(rest) = rest {
            raw.expect(rest, 350);
        }
        let reply = raw.command(if rest.is_some() {
            "STOR file"
        } else {
            "APPE file"
        });
        if reply.code == 150 {
            data.handshake().unwrap();
            data.write(&bytes(3, LONG)).unwrap();
            data.reset();
            raw.reply().expect_any(&[426, 451]);
        } else {
            assert!((500..560).contains(&reply.code), "{reply}");
        }
        store.assert_holds(&[("alice/file", b"abcdef")]);
    }
}

fn rest_and_retr_send_the_exact_rest(store: &Store) {
    let server = Server::start(store);
    let content = bytes(11, (9 << 20) + 17);
    store.put("alice/file", &content);
    let mut raw = Raw::explicit(&server);
    for offset in [0, 1, 16_384, 8 << 20, content.len() - 1, content.len()] {
        raw.expect(&format!("REST {offset}"), 350);
        let rest = raw.retrieve("RETR file");
        assert!(
            rest == content[offset..],
            "{} bytes from {offset} on",
            rest.len()
        );
    }
    // The marker is good for one transfer.
    assert!(
        raw.retrieve("RETR file") == content,
        "the marker outlived its transfer"
    );
}

fn rest_beyond_the_end_fails_on_retr(store: &Store) {
    let server = Server::start(store);
    store.put("alice/file", b"abcdef");
    let mut raw = Raw::explicit(&server);
    raw.expect("REST 7", 350);
    let _data = raw.open_data();
    raw.command("RETR file").expect_any(&[550, 551, 554]);
    for wrong in ["REST abc", "REST -1", "REST 99999999999999999999", "REST"] {
        raw.expect(wrong, 501);
    }
    assert_eq!(raw.retrieve("RETR file"), b"abcdef");
}

/// CONFORMANCE G12: libunftp 0.24 keeps the marker of a failed download and writes `\0\0\0ABCDEF`.
fn stale_rest_never_reaches_an_upload(store: &Store) {
    let server = Server::start(store);
    let mut raw = Raw::explicit(&server);
    raw.expect("REST 3", 350);
    let data = raw.open_data();
    raw.failing_transfer("RETR missing").expect(550);
    drop(data);
    raw.store("STOR file", b"ABCDEF");
    store.assert_holds(&[("alice/file", b"ABCDEF")]);
    raw.expect("REST 3", 350);
    raw.expect("PWD", 257);
    raw.store("STOR file", b"GHIJKL");
    store.assert_holds(&[("alice/file", b"GHIJKL")]);
}

fn retr_of_nothing_and_of_a_directory_fails_before_150(store: &Store) {
    let server = Server::start(store);
    let mut raw = Raw::explicit(&server);
    raw.expect("MKD directory", 257);
    for line in [
        "RETR missing",
        "RETR directory",
        "STOR directory",
        "LIST missing",
        "MLSD missing",
    ] {
        let _data = raw.open_data();
        raw.expect(line, 550);
    }
    raw.expect("SIZE directory", 550);
    raw.expect("SIZE missing", 550);
    raw.expect("MDTM missing", 550);
    raw.store("STOR file", b"still fine");
    store.assert_holds(&[("alice/file", b"still fine")]);
}

fn download_dropped_by_the_client_ends_with_one_426(store: &Store) {
    let server = Server::start(store);
    store.put("alice/file", &bytes(5, 64 << 20));
    let mut raw = Raw::explicit(&server);
    let mut data = raw.open_data();
    raw.expect("RETR file", 150);
    data.handshake().unwrap();
    // Without a byte read it would be the handshake that fails: the reset overtakes its end.
    data.read_some();
    data.reset();
    raw.reply().expect(426);
    raw.expect("NOOP", 200);
    assert_eq!(raw.names("NLST"), ["file"]);
}

fn abor_in_mid_download_ends_it(store: &Store) {
    let server = Server::start(store);
    store.put("alice/file", &bytes(5, 64 << 20));
    let mut raw = Raw::explicit(&server);
    let mut data = raw.open_data();
    raw.expect("RETR file", 150);
    data.handshake().unwrap();
    // Nothing is read: the server cannot be through.
    let start = Instant::now();
    raw.send(b"ABOR\r\n").unwrap();
    raw.reply().expect(426);
    raw.reply().expect(226);
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    let (content, _) = data.read_all();
    assert!(content.len() < 64 << 20);
    raw.expect("ABOR", 226);
    raw.expect("NOOP", 200);
}

fn commands_are_answered_while_a_transfer_runs(store: &Store) {
    let server = Server::start(store);
    let mut raw = Raw::explicit(&server);
    let mut data = raw.begin_transfer("STOR file");
    data.write(b"first half, ").unwrap();
    raw.expect("NOOP", 200);
    raw.command("STAT").expect_any(&[211, 213]);
    // Not one of those that run beside a transfer: kept until it is over, and never lost.
    raw.send(b"PWD\r\n").unwrap();
    data.write(b"second half").unwrap();
    assert_eq!(data.finish(), End::CloseNotify);
    let mut codes = [raw.reply().code, raw.reply().code];
    codes.sort_unstable();
    assert!(codes == [226, 257] || codes == [226, 503], "{codes:?}");
    store.assert_holds(&[("alice/file", b"first half, second half")]);
    // QUIT lets the transfer end first.
    let mut data = raw.begin_transfer("STOR file");
    raw.send(b"QUIT\r\n").unwrap();
    data.write(b"whole").unwrap();
    assert_eq!(data.finish(), End::CloseNotify);
    raw.reply().expect(226);
    raw.reply().expect(221);
    assert!(raw.until_closed(Duration::from_secs(10)).is_empty());
    store.assert_holds(&[("alice/file", b"whole")]);
}

fn listings_end_with_close_notify(store: &Store) {
    let server = Server::start(store);
    // More than one page of a bucket listing.
    let count = 1_050;
    let paths: Vec<String> = (0..count)
        .map(|number| format!("alice/file {number}"))
        .collect();
    store.put_empty(&paths);
    let mut raw = Raw::explicit(&server);
    // `retrieve` demands close_notify.
    for line in ["LIST", "NLST", "LIST -la", "NLST -a"] {
        let listing = String::from_utf8(raw.retrieve(line)).unwrap();
        assert_eq!(
            listing.matches("\r\n").count(),
            count,
            "{line}: CRLF ends every line"
        );
    }
    let listing = String::from_utf8(raw.retrieve("MLSD")).unwrap();
    let files = listing
        .lines()
        .filter(|line| line.to_lowercase().contains("type=file;"))
        .count();
    assert_eq!(files, count);
    raw.expect("MKD empty", 257);
    assert_eq!(raw.retrieve("LIST empty"), b"");
}

fn two_uploads_of_one_name_never_mix(store: &Store) {
    let server = Server::start(store);
    let (one, two) = (bytes(21, LONG), bytes(22, LONG));
    let (mut first, mut second) = (Raw::explicit(&server), Raw::explicit(&server));
    let mut first_data = first.begin_transfer("STOR file");
    let mut second_data = second.begin_transfer("STOR file");
    for (one, two) in one.chunks(1 << 20).zip(two.chunks(1 << 20)) {
        first_data.write(one).unwrap();
        second_data.write(two).unwrap();
    }
    assert_eq!(first_data.finish(), End::CloseNotify);
    first.reply().expect(226);
    assert_eq!(second_data.finish(), End::CloseNotify);
    second.reply().expect(226);
    // The last that was completed wins.
    store.assert_holds(&[("alice/file", &two)]);
}

/// `upload_end: fin` is for devices that never send a `close_notify`.
#[test]
fn fin_ends_an_upload_where_the_listener_says_so() {
    let store = Store::local();
    let server = Server::with(&store)
        .set_listeners("upload_end", &"fin".into())
        .start();
    let mut raw = Raw::explicit(&server);
    let mut data = raw.begin_transfer("STOR file");
    data.write(b"from an old device").unwrap();
    data.send_fin();
    raw.reply().expect(226);
    data.wait_closed(Duration::from_secs(10));
    store.assert_holds(&[("alice/file", b"from an old device")]);
    // A reset stays an error.
    let mut data = raw.begin_transfer("STOR file");
    data.write(b"from a broken").unwrap();
    data.reset();
    raw.reply().expect_any(&[426, 451]);
    store.assert_holds(&[("alice/file", b"from an old device")]);
}

#[test]
fn s28_cut_uploads_leak_no_descriptors() {
    cut_uploads(60);
}

#[test]
#[ignore = "minutes long: tests/soak runs it"]
fn s28_ten_thousand_cut_uploads_leak_no_descriptors() {
    cut_uploads(10_000);
}

/// Cuts `count` uploads by a reset, each after another number of bytes, from four sessions at once.
fn cut_uploads(count: usize) {
    const SESSIONS: usize = 4;
    let store = Store::local();
    let server = Server::start(&store);
    let content = bytes(1, 100_000);
    let cut = |session: usize, count: usize| {
        let mut raw = Raw::explicit(&server);
        for number in 0..count {
            let mut data = raw.begin_transfer(&format!("STOR file{session}"));
            // Below 100,000 bytes.
            let sent = (number * 7_919 + session * 104_729) % content.len();
            data.write(&content[..sent]).unwrap();
            data.reset();
            raw.reply().expect_any(&[426, 451]);
        }
        raw.expect("QUIT", 221);
    };
    // What a first upload allocates for good is no leak.
    cut(0, 20);
    let before = server.descriptors();
    thread::scope(|scope| {
        for session in 0..SESSIONS {
            let cut = &cut;
            scope.spawn(move || cut(session, count / SESSIONS));
        }
    });
    until(
        Duration::from_secs(10),
        "descriptors are given back",
        || {
            let now = server.descriptors();
            if now <= before + 2 {
                Ok(())
            } else {
                Err(format!("{before} before, {now} now"))
            }
        },
    );
    store.assert_holds(&[]);
}
