//! Names that others chose, and names that try to leave.

use std::os::unix::fs::symlink;

use super::{Bench, Cell, Place, rows};
use crate::harness::Raw;

rows! {
    o26_odd_names: "names with %, +, #, ?, emoji, a leading space; long paths",
    s46_traversal: "`..` and its kin in every command stay below the home",
    s47_hostile_keys: "keys of others with CR, LF, `..`, `//` forge nothing",
    s48_prefix_confusion: "a home `alice` and a home `alice2` share nothing",
    s49_links: "symbolic links, FIFOs and devices lead nowhere",
}

fn o26_odd_names(bench: &mut Bench<'_>) -> Cell {
    let odd = [
        " leading",
        "in side",
        "100%",
        "%2e%2e",
        "a+b",
        "#hash",
        "q?x=1&y",
        "\u{e4}\u{1f600}",
        "semi;colon",
        "a:b",
        "~",
        "-x",
        "\"quoted\"",
        "it's",
        "=",
        "<&>",
    ];
    for name in odd {
        bench.raw.store(&format!("STOR {name}"), name.as_bytes());
        assert_eq!(
            bench.raw.retrieve(&format!("RETR {name}")),
            name.as_bytes(),
            "{name}"
        );
        bench.raw.expect(&format!("MKD {name}.d"), 257);
    }
    let mut wanted: Vec<String> = odd
        .iter()
        .flat_map(|name| [(*name).to_owned(), format!("{name}.d")])
        .collect();
    wanted.sort();
    let mut found = bench.raw.names("NLST");
    found.sort();
    assert_eq!(found, wanted);
    for name in odd {
        assert_eq!(
            bench.stored(name).as_deref(),
            Some(name.as_bytes()),
            "{name}"
        );
        bench.raw.expect(&format!("DELE {name}"), 250);
        bench.raw.expect(&format!("RMD {name}.d"), 250);
    }
    // A key of some 900 bytes.
    let long = "n".repeat(220);
    for _ in 0..3 {
        bench.raw.expect(&format!("MKD {long}"), 257);
        bench.raw.expect(&format!("CWD {long}"), 250);
    }
    bench.raw.store(&format!("STOR {long}"), b"deep");
    assert_eq!(bench.raw.retrieve(&format!("RETR {long}")), b"deep");
    assert_eq!(bench.raw.names("NLST"), [long.as_str()]);
    bench.raw.expect(&format!("DELE {long}"), 250);
    Cell::Yes
}

fn s46_traversal(bench: &mut Bench<'_>) -> Cell {
    bench.raw.store("STOR file", b"content");
    let before = (bench.place != Place::Memory).then(|| bench.store.files());
    for path in [
        "../../../../etc/passwd",
        "/../../alice2/x",
        "....//....//x",
        "%2e%2e/%2e%2e/x",
        "..\\..\\x",
        "C:\\x",
        "\\\\host\\share",
        "/./../x/..//../y",
        "./../../z/q",
    ] {
        for verb in [
            "RETR", "SIZE", "MDTM", "DELE", "RMD", "RNFR", "CWD", "MLST", "HASH",
        ] {
            let reply = if verb == "RETR" {
                bench.raw.open_data();
                bench.raw.command(&format!("RETR {path}"))
            } else {
                bench.raw.command(&format!("{verb} {path}"))
            };
            assert!(
                [550, 553, 501].contains(&reply.code),
                "{verb} {path}: {reply}"
            );
        }
    }
    // What stays below the home is one of its names.
    bench.raw.expect("CWD /../../..", 250);
    assert!(bench.raw.expect("PWD", 257).text().contains("\"/\""));
    let row = bench.row;
    bench
        .raw
        .store(&format!("STOR ../../{row}/../{row}/second"), b"x");
    assert_eq!(bench.stored("second").as_deref(), Some(&b"x"[..]));
    bench.raw.expect(&format!("DELE /{row}/second"), 250);
    if let Some(before) = before {
        assert_eq!(bench.store.files(), before);
    }
    Cell::Yes
}

fn s47_hostile_keys(bench: &mut Bench<'_>) -> Cell {
    let hostile: &[&str] = match bench.place {
        Place::Memory => return Cell::Absent("nobody else puts names there"),
        Place::Fs => &["a\r\n226 forged", "b\nc", "\u{85}d", "tab\there"],
        // Their clients resolve `..` themselves, or refuse what XML cannot hold.
        Place::Azblob => &["tab\there", "\u{85}d"],
        // It has no route for a line feed (404).
        Place::S3Moto => &[
            "\u{85}d",
            "tab\there",
            "../up",
            "./dot",
            "d//empty",
            "x/../../y",
        ],
        // It keeps objects under paths of files, where `..` is an error.
        Place::Gcs | Place::GcsUnftp => &[
            "a\r\n226 forged",
            "b\nc",
            "\u{85}d",
            "tab\there",
            "./dot",
            "d//empty",
        ],
        Place::S3Ceph => &[
            "a\r\n226 forged",
            "b\nc",
            "\u{85}d",
            "tab\there",
            "../up",
            "./dot",
            "d//empty",
            "x/../../y",
        ],
    };
    bench.put("good", b"content");
    for name in hostile {
        bench.put(name, b"hostile");
    }
    let before = bench.store.files();
    for line in ["LIST", "NLST", "MLSD"] {
        let lines = bench.listed(line);
        for row in &lines {
            assert!(
                !row.contains("forged")
                    && !row.contains("..")
                    && !row.chars().any(char::is_control),
                "{row:?}"
            );
        }
        assert!(lines.iter().any(|row| row.ends_with("good")), "{lines:?}");
    }
    let stat = bench.raw.expect("STAT .", 212).text();
    assert!(!stat.contains("226 forged"), "{stat}");
    assert_eq!(bench.raw.retrieve("RETR good"), b"content");
    assert_eq!(bench.store.files(), before, "nothing was merged or removed");
    Cell::Yes
}

fn s48_prefix_confusion(bench: &mut Bench<'_>) -> Cell {
    let mut neighbour = Raw::explicit_as(bench.server, "alice2");
    neighbour.store("STOR secret", b"of alice2");
    assert!(
        !bench
            .raw
            .names("NLST /")
            .iter()
            .any(|name| name.contains("secret"))
    );
    for line in [
        "SIZE /secret",
        "SIZE /../alice2/secret",
        "CWD /../alice2",
        "DELE /../alice2/secret",
        "SIZE /2/secret",
    ] {
        bench.raw.expect(line, 550);
    }
    assert_eq!(neighbour.retrieve("RETR secret"), b"of alice2");
    assert_eq!(
        neighbour.names("NLST"),
        ["cached", "other", "sealed", "secret"]
    );
    Cell::Yes
}

fn s49_links(bench: &mut Bench<'_>) -> Cell {
    if bench.place != Place::Fs {
        return Cell::Absent("there are no links");
    }
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "outside").unwrap();
    let here = bench.store.local_root().join("alice").join(bench.row);
    symlink(outside.path(), here.join("out")).unwrap();
    symlink(outside.path().join("secret"), here.join("file-out")).unwrap();
    symlink("/dev/zero", here.join("zero")).unwrap();
    let fifo = std::process::Command::new("mkfifo")
        .arg(here.join("fifo"))
        .status()
        .unwrap();
    assert!(fifo.success());
    for line in [
        "CWD out",
        "SIZE file-out",
        "SIZE out/secret",
        "SIZE zero",
        "SIZE fifo",
        "DELE out/secret",
        "MKD out/d",
        "HASH file-out",
        "RNFR out/secret",
    ] {
        bench.raw.expect(line, 550);
    }
    for line in ["RETR file-out", "RETR zero", "RETR fifo", "RETR out/secret"] {
        bench.raw.open_data();
        bench.raw.expect(line, 550);
    }
    assert_eq!(bench.try_store("STOR out/new", b"x").unwrap_err().code, 550);
    // Nor is it written through.
    for name in ["file-out", "zero", "fifo"] {
        let refused = bench
            .try_store(&format!("STOR {name}"), b"inside")
            .unwrap_err();
        assert_eq!(refused.code, 550, "{name}");
    }
    assert_eq!(
        std::fs::read(outside.path().join("secret")).unwrap(),
        b"outside"
    );
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    Cell::Yes
}
