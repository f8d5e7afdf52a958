//! Metadata and extensions (RFC 3659 §3, §4; draft-somers-ftp-mfxx, draft-bryan-ftpext-hash,
//! draft-peterson-streamlined-ftp-command-extensions).

use std::time::{Duration, SystemTime};

use serde_json::json;

use super::{Site, answers, listed};
use crate::harness::{Raw, Server, Store};

items!(
    i1_size,
    i2_size_of_what_has_none,
    i3_mdtm,
    i4_mdtm_of_a_directory_and_of_nothing,
    i5_mdtm_with_a_time,
    i6_mfmt,
    i7_mff_and_mfct,
    i8_site_chmod,
    i9_site_utime,
    i10_site_of_the_dangerous_kind,
    i11_hash_and_rang,
    i12_checksums,
    i13_avbl,
    i14_x_verbs,
    i15_unique,
);

fn i1_size() {
    let mut site = Site::new();
    for size in [0, 1, 12_345] {
        site.raw.store("STOR file", &vec![7; size]);
        let reply = site.raw.expect("SIZE file", 213);
        assert_eq!(reply.text(), format!("213 {size}"));
    }
}

fn i2_size_of_what_has_none() {
    let mut site = Site::new();
    site.raw.expect("MKD directory", 257);
    answers(
        &mut site.raw,
        &[
            ("SIZE directory", 550),
            ("SIZE missing", 550),
            ("SIZE", 501),
        ],
    );
}

/// Seconds since 1970 of a file on the local disk.
fn modified(site: &Site, path: &str) -> u64 {
    let metadata = std::fs::metadata(site.store.local_root().join(path)).unwrap();
    let modified = metadata.modified().unwrap();
    modified
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

fn i3_mdtm() {
    let mut site = Site::new();
    site.raw.store("STOR file", b"");
    let path = site.store.local_root().join("alice/file");
    let file = std::fs::File::options().write(true).open(path).unwrap();
    // 2001-02-03 04:05:06 UTC, and a fraction that is cut off.
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(981_173_106_900);
    file.set_modified(time).unwrap();
    assert_eq!(
        site.raw.expect("MDTM file", 213).text(),
        "213 20010203040506"
    );
}

fn i4_mdtm_of_a_directory_and_of_nothing() {
    let mut site = Site::new();
    site.raw.expect("MKD directory", 257);
    answers(
        &mut site.raw,
        &[("MDTM directory", 213), ("MDTM missing", 550)],
    );
}

/// 2020-01-02 03:04:05 UTC.
const TIME: u64 = 1_577_934_245;

fn i5_mdtm_with_a_time() {
    let mut site = Site::new();
    site.raw.store("STOR file", b"");
    site.raw.expect("MDTM 20200102030405 file", 213);
    assert_eq!(modified(&site, "alice/file"), TIME);
    // Where a file has that name, it is a name: the reading of RFC 3659.
    site.raw.store("STOR 19990101000000 file", b"");
    let before = modified(&site, "alice/19990101000000 file");
    let text = site.raw.expect("MDTM 19990101000000 file", 213).text();
    assert!(!text.contains("1999"), "{text}");
    assert_eq!(modified(&site, "alice/file"), TIME);
    assert_eq!(modified(&site, "alice/19990101000000 file"), before);
    answers(
        &mut site.raw,
        &[
            ("MDTM 20200102030405 missing", 550),
            ("MDTM 20201302030405 file", 550),
            ("MDTM 2020 file", 550),
        ],
    );
}

fn i6_mfmt() {
    let mut site = Site::new();
    site.raw.store("STOR file", b"content");
    site.raw.expect("MKD directory", 257);
    let reply = site.raw.expect("MFMT 20200102030405 file", 213);
    assert_eq!(reply.text(), "213 Modify=20200102030405; file");
    assert_eq!(modified(&site, "alice/file"), TIME);
    assert_eq!(
        site.raw.expect("MDTM file", 213).text(),
        "213 20200102030405"
    );
    answers(
        &mut site.raw,
        &[
            ("MFMT 20200102030405.5 /directory", 213),
            ("MFMT 20200102030405 missing", 550),
            ("MFMT 20201302030405 file", 501),
            ("MFMT 2020 file", 501),
            ("MFMT 20200102030405", 501),
            ("MFMT", 501),
            ("MFMT 20200102030405 /", 550),
        ],
    );
    assert_eq!(modified(&site, "alice/directory"), TIME);
    let mut reader = Raw::explicit_as(&site.server, "reader");
    site.store.put("reader/file", b"");
    reader.expect("MFMT 20200102030405 file", 550);
    assert_ne!(modified(&site, "reader/file"), TIME);
    // Where the storage keeps no times: absent, or accepted and forgotten.
    let store = Store::s3();
    let server = Server::start(&store);
    let mut bucket = Site::of(store, server);
    bucket.raw.store("STOR file", b"");
    bucket.raw.expect("MFMT 20200102030405 file", 502);
    let features = bucket.raw.expect("FEAT", 211);
    assert!(!features.text().contains("MFMT"), "{features}");
    assert!(!features.text().contains("MFF"), "{features}");
    let mut backend = bucket.store.backend();
    backend["set_time"] = json!("ignore");
    let server = Server::with(&bucket.store)
        .set("/backends/main", backend)
        .start();
    let mut raw = Raw::explicit(&server);
    raw.expect("MFMT 20200102030405 file", 213);
    raw.expect("MFMT 20200102030405 missing", 550);
    let features = raw.expect("FEAT", 211);
    assert!(features.text().contains("MFMT"), "{features}");
}

fn i7_mff_and_mfct() {
    let mut site = Site::new();
    site.raw.store("STOR file", b"");
    let reply = site.raw.expect("MFF Modify=20200102030405; file", 213);
    assert_eq!(reply.text(), "213 Modify=20200102030405; file");
    assert_eq!(modified(&site, "alice/file"), TIME);
    answers(
        &mut site.raw,
        &[
            ("MFF modify=20210102030405;UNIX.mode=0644; file", 504),
            ("MFF UNIX.mode=0644; file", 504),
            ("MFF modify=x; file", 501),
            ("MFF modify=20210102030405 file", 501),
            ("MFF modify=20210102030405; missing", 550),
            ("MFCT 20200102030405 file", 502),
        ],
    );
    assert_eq!(modified(&site, "alice/file"), TIME);
}

fn i8_site_chmod() {
    let mut site = Site::new();
    site.raw.store("STOR file", b"");
    site.store.put("reader/file", b"");
    answers(&mut site.raw, &[("SITE CHMOD 644 file", 502)]);
    let server = Server::with(&site.store)
        .set_listeners("site_chmod", &"ignore".into())
        .start();
    let mut raw = Raw::explicit(&server);
    answers(
        &mut raw,
        &[
            ("SITE CHMOD 644 file", 200),
            ("site chmod 0755 file", 200),
            ("SITE CHMOD 644 missing", 550),
            ("SITE CHMOD rwx file", 501),
            ("SITE CHMOD 644", 501),
        ],
    );
    let mut reader = Raw::explicit_as(&server, "reader");
    reader.expect("SITE CHMOD 644 file", 550);
}

fn i9_site_utime() {
    let mut site = Site::new();
    site.raw.store("STOR a file", b"");
    for line in [
        "SITE UTIME 20200102030405 a file",
        "SITE UTIME a file 20210102030405 20200102030405 20220102030405 UTC",
    ] {
        site.raw.expect("MFMT 19990101000000 a file", 213);
        site.raw.expect(line, 200);
        assert_eq!(modified(&site, "alice/a file"), TIME, "{line}");
    }
    site.raw.expect("SITE UTIME 202001020304 a file", 200);
    assert_eq!(modified(&site, "alice/a file"), TIME - 5);
    answers(
        &mut site.raw,
        &[
            ("SITE UTIME 20200102030405 missing", 550),
            ("SITE UTIME x", 501),
        ],
    );
}

fn i10_site_of_the_dangerous_kind() {
    let mut site = Site::new();
    site.raw.store("STOR file", b"");
    answers(
        &mut site.raw,
        &[
            ("SITE EXEC id", 502),
            ("SITE CPFR file", 502),
            ("SITE CPTO copy", 502),
            ("SITE SYMLINK /etc/passwd link", 502),
            ("SITE MKDIR x", 502),
            ("SITE UTIMES x", 502),
            ("SITE", 501),
        ],
    );
    let help = site.raw.expect("SITE HELP", 214).text();
    assert!(help.contains("UTIME") && help.contains("IDLE"), "{help}");
    assert!(!help.contains("CHMOD") && !help.contains("EXEC"), "{help}");
    answers(
        &mut site.raw,
        &[
            ("SITE IDLE", 200),
            ("SITE IDLE 60", 200),
            ("SITE IDLE 86400", 501),
            ("SITE IDLE 0", 501),
        ],
    );
    site.store.assert_holds(&[("alice/file", b"")]);
}

/// Of `abc`, from the documents that define the algorithms.
const CRC32: &str = "352441c2";
const MD5: &str = "900150983cd24fb0d6963f7d28e17f72";
const SHA1: &str = "a9993e364706816aba3e25717850c26c9cd0d89d";
const SHA256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const SHA512: &str = "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                      2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";

fn i11_hash_and_rang() {
    for store in [Store::local(), Store::s3()] {
        let server = Server::start(&store);
        let mut site = Site::of(store, server);
        site.store.put("alice/a file", b"abc");
        site.store.put("alice/longer", b"xxabcxx");
        assert_eq!(site.raw.expect("OPTS HASH", 200).text(), "200 SHA-256");
        for (name, digest) in [
            ("SHA-256", SHA256),
            ("SHA-512", SHA512),
            ("SHA-1", SHA1),
            ("MD5", MD5),
            ("CRC32", CRC32),
        ] {
            let reply = site
                .raw
                .expect(&format!("OPTS HASH {}", name.to_lowercase()), 200);
            assert_eq!(reply.text(), format!("200 {name}"));
            let reply = site.raw.expect("HASH a file", 213);
            assert_eq!(reply.text(), format!("213 {name} 0-3 {digest} a file"));
            site.raw.expect("RANG 2 4", 350);
            let reply = site.raw.expect("HASH longer", 213);
            assert_eq!(reply.text(), format!("213 {name} 2-4 {digest} longer"));
            // Good for one HASH.
            let reply = site.raw.expect("HASH longer", 213);
            assert!(reply.text().contains(" 0-7 "), "{reply}");
        }
        site.raw.expect("RANG 1 0", 350);
        assert!(site.raw.expect("HASH longer", 213).text().contains(" 0-7 "));
        // A part of a download is not what this server does with it.
        site.raw.expect("RANG 2 4", 350);
        super::refused_before_150(&mut site.raw, "RETR longer", 504);
        assert_eq!(site.raw.retrieve("RETR longer"), b"xxabcxx");
        site.raw.expect("MKD directory", 257);
        answers(
            &mut site.raw,
            &[
                ("HASH missing", 550),
                ("HASH directory", 550),
                ("HASH", 501),
                ("OPTS HASH WHIRLPOOL", 501),
                ("RANG x", 501),
                ("RANG 5 9", 350),
                ("RANG 50 90", 350),
                ("HASH longer", 554),
            ],
        );
    }
}

fn i12_checksums() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/limits/checksum_bytes", 1000)
        .start();
    let mut site = Site::of(store, server);
    site.store.put("alice/a file", b"abc");
    site.store.put("alice/longer", b"xxabcxx");
    site.store.put("alice/huge", &[7; 1001]);
    for (verb, digest) in [
        ("XCRC", CRC32),
        ("XMD5", MD5),
        ("XSHA1", SHA1),
        ("XSHA256", SHA256),
        ("XSHA512", SHA512),
    ] {
        for argument in ["a file", "\"a file\"", "\"longer\" 2 5", "\"a file\" 0"] {
            let reply = site.raw.expect(&format!("{verb} {argument}"), 250);
            assert_eq!(reply.text(), format!("250 {digest}"), "{verb} {argument}");
        }
        answers(
            &mut site.raw,
            &[
                (&format!("{verb} missing"), 550),
                (&format!("{verb} huge"), 550),
                (&format!("{verb} \"huge\" 0 1000"), 250),
                (&format!("{verb} \"longer\" 8"), 554),
                (&format!("{verb} \"longer\" 5 2"), 501),
                (verb, 501),
            ],
        );
    }
    let reply = site.raw.expect("MD5 a file", 251);
    assert_eq!(reply.text(), format!("251 a file {MD5}"));
    // Larger than a chunk, against another implementation.
    let server = Server::start(&site.store);
    let mut raw = Raw::explicit(&server);
    let content = crate::harness::bytes(1, 5_000_003);
    site.store.put("alice/large", &content);
    let output = std::process::Command::new("sha256sum")
        .arg(site.store.local_root().join("alice/large"))
        .output()
        .unwrap();
    let digest = String::from_utf8(output.stdout).unwrap()[..64].to_owned();
    assert_eq!(
        raw.expect("XSHA256 large", 250).text(),
        format!("250 {digest}")
    );
}

fn i13_avbl() {
    let mut site = Site::new();
    site.raw.store("STOR file", b"");
    for line in ["AVBL", "AVBL /"] {
        let text = site.raw.expect(line, 213).text();
        assert!(text[4..].parse::<u64>().unwrap() > 0, "{text}");
    }
    answers(&mut site.raw, &[("AVBL missing", 550), ("AVBL file", 550)]);
    let store = Store::s3();
    let server = Server::start(&store);
    let mut bucket = Site::of(store, server);
    bucket.raw.expect("AVBL", 502);
    let features = bucket.raw.expect("FEAT", 211);
    assert!(!features.text().contains("AVBL"), "{features}");
}

fn i14_x_verbs() {
    let mut site = Site::new();
    answers(
        &mut site.raw,
        &[
            ("XMKD d", 257),
            ("XMKD d", 550),
            ("XCWD d", 250),
            ("XPWD", 257),
            ("XCUP", 250),
            ("XRMD d", 250),
            ("XRMD d", 550),
            ("xpwd", 257),
        ],
    );
    // S54: an alias is checked as the verb is.
    let mut reader = Raw::explicit_as(&site.server, "reader");
    answers(&mut reader, &[("XMKD d", 550), ("XRMD d", 550)]);
}

fn i15_unique() {
    let mut site = Site::new();
    site.raw.expect("OPTS MLST unique;", 200);
    site.raw.store("STOR a", b"same");
    site.raw.store("STOR b", b"same");
    let first = listed(&mut site.raw, "MLSD");
    assert_eq!(first.len(), 2);
    let unique = |line: &str| line.split_once(';').unwrap().0.to_owned();
    assert_ne!(unique(&first[0]), unique(&first[1]));
    let mut again = listed(&mut site.raw, "MLSD");
    again.sort();
    let mut sorted = first.clone();
    sorted.sort();
    assert_eq!(again, sorted);
    let before = site.raw.expect("MLST a", 250).lines[1].clone();
    site.raw.store("STOR a", b"other");
    assert_ne!(site.raw.expect("MLST a", 250).lines[1], before);
}
