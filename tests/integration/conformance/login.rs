//! Login and session (RFC 959 §4.1.1, RFC 2577).

use std::time::{Duration, Instant};

use super::{Site, answers, last_words, stranger};
use crate::harness::{PASSWORD, Raw, Server, Store};

items!(
    b1_user_is_always_331,
    b2_wrong_password_is_slow_and_counted,
    b3_pass_before_user,
    b4_user_in_clear,
    b5_user_after_login,
    b6_user_and_pass_are_verbatim,
    b7_acct,
    b8_rein,
    b9_smnt,
    b10_before_login,
    b11_no_login_in_time,
    b12_stat_of_the_session,
    b13_help,
    b14_syst_to_the_letter,
    b15_noop_says_noop,
);

fn b1_user_is_always_331() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = stranger(&server);
    let known = raw.expect("USER alice", 331);
    for name in ["nobody", "root", "ALICE", "anonymous"] {
        assert_eq!(raw.expect(&format!("USER {name}"), 331), known);
    }
}

fn b2_wrong_password_is_slow_and_counted() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = stranger(&server);
    for failure in 1..=3_u32 {
        raw.expect(["USER alice", "USER nobody"][failure as usize % 2], 331);
        let start = Instant::now();
        raw.expect("PASS wrong", if failure < 3 { 530 } else { 421 });
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(500) * failure, "{took:?}");
    }
    assert!(last_words(&mut raw).is_empty());
    let mut raw = stranger(&server);
    raw.expect("USER alice", 331);
    raw.expect(&format!("PASS {PASSWORD}"), 230);
}

fn b3_pass_before_user() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = stranger(&server);
    raw.expect(&format!("PASS {PASSWORD}"), 503);
    raw.expect("PWD", 530);
}

fn b4_user_in_clear() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::clear(server.explicit);
    let reply = raw.expect("USER alice", 530);
    assert_eq!(reply.text(), "530 Use AUTH TLS first");
    raw.expect(&format!("PASS {PASSWORD}"), 503);
    raw.expect("PWD", 530);
}

fn b5_user_after_login() {
    let mut site = Site::new();
    site.raw.expect("MKD here", 257);
    site.raw.expect("CWD here", 250);
    site.raw.expect("USER reader", 503);
    site.raw.expect(&format!("PASS {PASSWORD}"), 503);
    let place = site.raw.expect("PWD", 257);
    assert!(place.text().starts_with("257 \"/here\""), "{place}");
    site.raw.store("STOR file", b"still alice");
    site.store
        .assert_holds(&[("alice/here/file", b"still alice")]);
}

fn b6_user_and_pass_are_verbatim() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/limits/login_failures_per_connection", 100)
        .start();
    let mut raw = stranger(&server);
    for name in ["DOMAIN\\user", "two  words ", "\u{fc}ser", "-x", "a\"b%n"] {
        raw.expect(&format!("USER {name}"), 331);
    }
    raw.expect("USER  alice", 331);
    // The second space belongs to the name, which nobody has.
    raw.expect(&format!("PASS {PASSWORD}"), 530);
    raw.expect("USER alice", 331);
    raw.expect(&format!("PASS {PASSWORD} "), 530);
    // What nobody has as a name may be a password (S50).
    let log = server.log().join("\n");
    assert!(!log.contains("\" alice\""), "{log}");
    raw.expect("USER alice", 331);
    raw.expect("PASS -\"%s \u{fc}", 530);
}

fn b7_acct() {
    let mut site = Site::new();
    answers(&mut site.raw, &[("ACCT x", 202), ("ACCT", 202)]);
    stranger(&site.server).expect("ACCT x", 503);
}

fn b8_rein() {
    let mut site = Site::new();
    site.raw.expect("REIN", 502);
    // Neither the login nor TLS is gone.
    site.raw.expect("PWD", 257);
    site.raw.expect("PROT P", 200);
}

fn b9_smnt() {
    let mut site = Site::new();
    answers(&mut site.raw, &[("SMNT /", 502), ("SMNT", 502)]);
}

fn b10_before_login() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = stranger(&server);
    answers(
        &mut raw,
        &[
            ("FEAT", 211),
            ("HELP", 214),
            ("NOOP", 200),
            ("OPTS UTF8 ON", 200),
            ("OPTS MLST type;", 200),
            ("CLNT tester", 200),
            ("LANG en", 502),
            ("SYST", 215),
            ("PBSZ 0", 200),
            ("PROT P", 200),
            ("AUTH TLS", 503),
            ("FOO", 500),
        ],
    );
    // HOST is answered too; F7 says how.
    assert_ne!(raw.command("HOST ftp.example").code, 530);
    for line in [
        "PWD",
        "CWD /",
        "CDUP",
        "LIST",
        "NLST",
        "MLSD",
        "MLST",
        "RETR x",
        "STOR x",
        "APPE x",
        "STOU",
        "DELE x",
        "MKD x",
        "XMKD x",
        "RMD x",
        "RNFR x",
        "RNTO x",
        "SIZE x",
        "MDTM x",
        "MDTM 20200101000000 x",
        "MFMT 20200101000000 x",
        "MFF modify=20200101000000; x",
        "SITE HELP",
        "SITE CHMOD 644 x",
        "HASH x",
        "XCRC x",
        "MD5 x",
        "AVBL",
        "RANG 0 1",
        "PASV",
        "EPSV",
        "TYPE I",
        "MODE S",
        "STRU F",
        "REST 0",
        "ALLO 1",
        "ABOR",
        "STAT",
        "STAT x",
    ] {
        raw.expect(line, 530);
    }
    raw.expect("QUIT", 221);
}

fn b11_no_login_in_time() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/timeouts/login_seconds", 1)
        .start();
    let mut raw = Raw::clear(server.explicit);
    assert_eq!(last_words(&mut raw), [421]);
    // Commands do not put it off.
    let start = Instant::now();
    let mut raw = stranger(&server);
    let mut code = 200;
    while code == 200 && start.elapsed() < Duration::from_secs(10) {
        code = raw.command("NOOP").code;
    }
    assert_eq!(code, 421);
}

fn b12_stat_of_the_session() {
    let mut site = Site::new();
    let reply = site.raw.expect("STAT", 211);
    assert!(reply.lines.len() > 2, "{reply}");
    let text = reply.text().to_lowercase();
    for leak in [
        "unftp",
        "causeway",
        env!("CARGO_PKG_VERSION"),
        "opendal",
        "reader",
        "argon",
    ] {
        assert!(!text.contains(leak), "{leak} in {text}");
    }
}

fn b13_help() {
    let mut site = Site::new();
    for line in ["HELP", "HELP STOR", "help stor", "SITE HELP", "HELP SITE"] {
        let reply = site.raw.expect(line, 214);
        let text = reply.text().to_lowercase();
        for leak in ["unftp", "causeway", env!("CARGO_PKG_VERSION")] {
            assert!(!text.contains(leak), "{line}: {text}");
        }
    }
    let reply = site.raw.expect("HELP STOR", 214);
    assert!(reply.text().contains("STOR"), "{reply}");
    site.raw.expect("HELP FOO", 502);
}

fn b14_syst_to_the_letter() {
    let mut site = Site::new();
    assert_eq!(site.raw.expect("SYST", 215).text(), "215 UNIX Type: L8");
}

fn b15_noop_says_noop() {
    let mut site = Site::new();
    assert_eq!(site.raw.expect("NOOP", 200).text(), "200 NOOP ok");
}
