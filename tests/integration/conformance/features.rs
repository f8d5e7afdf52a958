//! FEAT, OPTS, HOST, LANG, CLNT (RFC 2389, RFC 2640, RFC 3659 §7, RFC 7151).

use std::time::Duration;

use super::{Site, answers, listed, stranger};

items!(
    f1_feat,
    f2_mlsd_is_implied_by_mlst,
    f3_opts_utf8,
    f4_opts_mlst,
    f5_opts_of_what_is_not_there,
    f6_clnt,
    f7_host,
    f8_lang,
    f9_csid,
    f10_utf8_without_opts,
);

/// The features, without their leading space.
fn features(site: &mut Site) -> Vec<String> {
    let reply = site.raw.expect("FEAT", 211);
    assert_eq!(reply.lines[0], "211-Features:");
    assert_eq!(reply.lines[reply.lines.len() - 1], "211 End");
    reply.lines[1..reply.lines.len() - 1]
        .iter()
        .map(|line| {
            let feature = line.strip_prefix(' ').expect("one space");
            assert!(!feature.starts_with(' '), "{line:?}");
            feature.to_owned()
        })
        .collect()
}

fn f1_feat() {
    let mut site = Site::new();
    assert_eq!(
        features(&mut site),
        [
            "AUTH TLS",
            "PBSZ",
            "PROT",
            "EPSV",
            "UTF8",
            "TVFS",
            "SIZE",
            "MDTM",
            "MFMT",
            "MFF Modify;",
            "REST STREAM",
            "MLST type*;size*;modify*;perm*;unique*;",
            "CLNT",
            "AVBL",
            "HASH SHA-256*;SHA-512;SHA-1;MD5;CRC32",
            "XCRC",
            "XMD5",
            "XSHA1",
            "XSHA256",
            "XSHA512",
            "MD5",
        ]
    );
    answers(&mut site.raw, &[("FEAT x", 501), ("FEAT ", 211)]);
}

fn f2_mlsd_is_implied_by_mlst() {
    let mut site = Site::new();
    let features = features(&mut site);
    assert!(!features.iter().any(|line| line.starts_with("MLSD")));
    assert!(features.iter().any(|line| line.starts_with("MLST ")));
    site.raw.retrieve("MLSD");
}

fn f3_opts_utf8() {
    let mut site = Site::new();
    answers(
        &mut site.raw,
        &[
            ("OPTS UTF8 ON", 200),
            ("OPTS UTF8", 200),
            ("opts utf8 on", 200),
            ("OPTS UTF8 OFF", 504),
            ("OPTS UTF-8 NLST", 501),
        ],
    );
    stranger(&site.server).expect("OPTS UTF8 ON", 200);
}

fn f4_opts_mlst() {
    let mut site = Site::new();
    site.store.put("alice/file", b"12345");
    for (line, answer, feature, row) in [
        (
            "OPTS MLST type;size;",
            "200 MLST OPTS type;size;",
            "MLST type*;size*;modify;perm;unique;",
            "type=file;size=5; file",
        ),
        (
            "OPTS MLST Size;foo;UNIX.mode;",
            "200 MLST OPTS size;",
            "MLST type;size*;modify;perm;unique;",
            "size=5; file",
        ),
        (
            "OPTS MLST",
            "200 MLST OPTS ",
            "MLST type;size;modify;perm;unique;",
            " file",
        ),
    ] {
        let reply = site.raw.expect(line, 200);
        assert_eq!(reply.text(), answer);
        assert!(features(&mut site).contains(&feature.to_owned()), "{line}");
        assert_eq!(listed(&mut site.raw, "MLSD"), [row], "{line}");
        let reply = site.raw.expect("MLST file", 250);
        let facts = reply.lines[1].strip_prefix(' ').unwrap();
        assert_eq!(facts, row.replace(" file", " /file"), "{line}");
    }
}

fn f5_opts_of_what_is_not_there() {
    let mut site = Site::new();
    answers(
        &mut site.raw,
        &[
            ("OPTS FOO", 501),
            ("OPTS", 501),
            ("OPTS REST STOR", 501),
            ("OPTS MODE Z", 501),
            ("OPTS HASH WHIRLPOOL", 501),
        ],
    );
}

fn f6_clnt() {
    let mut site = Site::new();
    answers(
        &mut site.raw,
        &[("CLNT tester \u{202e}1.0", 200), ("CLNT", 501)],
    );
    crate::harness::until(Duration::from_secs(5), "one line in the log", || {
        let log = site.server.log();
        match log.iter().filter(|line| line.contains("tester")).count() {
            1 => Ok(()),
            count => Err(count.to_string()),
        }
    });
    stranger(&site.server).expect("CLNT early", 200);
}

/// The hosts are the names of the certificate.
fn f7_host() {
    let mut site = Site::new();
    site.raw.expect("HOST localhost", 503);
    let mut raw = stranger(&site.server);
    answers(
        &mut raw,
        &[
            ("HOST localhost", 220),
            ("HOST LOCALHOST", 220),
            ("HOST [::1]", 504),
            ("HOST ftp.other.example", 504),
            ("HOST localhost:21", 501),
            ("HOST a b", 501),
            ("HOST", 501),
        ],
    );
    raw.login("alice");
}

fn f8_lang() {
    let mut site = Site::new();
    answers(
        &mut site.raw,
        &[("LANG", 502), ("LANG en", 502), ("LANG xx", 502)],
    );
    let features = features(&mut site);
    assert!(!features.iter().any(|line| line.starts_with("LANG")));
}

/// 502 instead of 500: the verb is known, the command is not there.
fn f9_csid() {
    let mut site = Site::new();
    answers(&mut site.raw, &[("CSID Name=tester;Version=1;", 502)]);
}

fn f10_utf8_without_opts() {
    let mut site = Site::new();
    site.raw
        .store("STOR \u{4f60}\u{597d} \u{1f6a2}", b"content");
    site.store
        .assert_holds(&[("alice/\u{4f60}\u{597d} \u{1f6a2}", b"content")]);
    assert_eq!(site.raw.names("NLST"), ["\u{4f60}\u{597d} \u{1f6a2}"]);
}
