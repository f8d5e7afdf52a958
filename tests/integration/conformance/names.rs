//! The name space (RFC 959 appendix II, RFC 1123 §4.1.3.1, RFC 3659 §6).

use super::{Site, answers, refused_before_150};

items!(
    j1_pwd,
    j2_mkd,
    j3_mkd_of_what_exists,
    j4_mkd_without_parent,
    j5_cwd,
    j6_cwd_up,
    j7_cwd_is_normalised,
    j8_cdup,
    j9_rename,
    j10_rename_out_of_order,
    j11_rename_onto_a_file,
    j12_dele,
    j13_rmd,
    j14_long_names,
    j15_names_are_literal,
    j16_case_matters,
);

fn j1_pwd() {
    let mut site = Site::new();
    let text = site.raw.expect("PWD", 257).text();
    assert!(text.starts_with("257 \"/\" "), "{text}");
    site.raw.expect("MKD a\"b", 257);
    site.raw.expect("CWD a\"b", 250);
    for line in ["PWD", "XPWD"] {
        let text = site.raw.expect(line, 257).text();
        assert!(text.starts_with("257 \"/a\"\"b\" "), "{text}");
    }
}

fn j2_mkd() {
    let mut site = Site::new();
    assert_eq!(
        site.raw.expect("MKD new", 257).text(),
        "257 \"/new\" created"
    );
    site.raw.expect("CWD new", 250);
    let text = site.raw.expect("XMKD in\"ner", 257).text();
    assert_eq!(text, "257 \"/new/in\"\"ner\" created");
    assert!(site.store.directories().contains("alice/new/in\"ner"));
}

fn j3_mkd_of_what_exists() {
    let mut site = Site::new();
    site.raw.expect("MKD here", 257);
    site.raw.store("STOR file", b"");
    for line in ["MKD here", "XMKD here", "MKD /", "MKD file"] {
        let text = site.raw.expect(line, 550).text();
        assert_eq!(text, "550 Directory already exists", "{line}");
    }
}

fn j4_mkd_without_parent() {
    let mut site = Site::new();
    site.raw.store("STOR file", b"");
    answers(
        &mut site.raw,
        &[
            ("MKD a/b", 550),
            ("MKD file/b", 550),
            ("MKD a", 257),
            ("MKD a/b", 257),
        ],
    );
}

fn j5_cwd() {
    let mut site = Site::new();
    site.raw.expect("MKD here", 257);
    site.raw.store("STOR file", b"");
    answers(
        &mut site.raw,
        &[("CWD here", 250), ("CWD /here/", 250), ("CWD /file", 550)],
    );
    let text = site.raw.expect("CWD /missing", 550).text().to_lowercase();
    assert!(
        text.contains("no such file") || text.contains("not found"),
        "{text}"
    );
    assert!(site.raw.command("PWD").text().starts_with("257 \"/here\""));
}

/// Goes there and demands what PWD says.
#[track_caller]
fn leads_to(site: &mut Site, line: &str, place: &str) {
    site.raw.expect(line, 250);
    let text = site.raw.expect("PWD", 257).text();
    assert!(
        text.starts_with(&format!("257 \"{place}\" ")),
        "{line}: {text}"
    );
}

fn j6_cwd_up() {
    let mut site = Site::new();
    site.raw.expect("MKD a", 257);
    site.raw.expect("MKD a/b", 257);
    for (line, place) in [
        ("CWD a/b", "/a/b"),
        ("CWD ..", "/a"),
        ("CWD b/..", "/a"),
        ("CWD ../../../..", "/"),
        ("CWD ..", "/"),
        ("CWD /..", "/"),
        ("CDUP", "/"),
    ] {
        leads_to(&mut site, line, place);
    }
}

fn j7_cwd_is_normalised() {
    let mut site = Site::new();
    site.raw.expect("MKD a", 257);
    site.raw.expect("MKD a/b", 257);
    for (line, place) in [
        ("CWD //a//./b/", "/a/b"),
        ("CWD .", "/a/b"),
        ("CWD /a/./././b/../b//", "/a/b"),
        ("CWD /", "/"),
        ("CWD ./a", "/a"),
    ] {
        leads_to(&mut site, line, place);
    }
}

fn j8_cdup() {
    let mut site = Site::new();
    site.raw.expect("MKD a", 257);
    leads_to(&mut site, "CWD a", "/a");
    leads_to(&mut site, "CDUP", "/");
    leads_to(&mut site, "XCUP", "/");
}

fn j9_rename() {
    let mut site = Site::new();
    site.raw.store("STOR old", b"content");
    answers(&mut site.raw, &[("RNFR missing", 550)]);
    site.raw.expect("RNFR old", 350);
    site.raw.expect("RNTO new", 250);
    site.store.assert_holds(&[("alice/new", b"content")]);
}

fn j10_rename_out_of_order() {
    let mut site = Site::new();
    site.raw.store("STOR file", b"content");
    site.raw.expect("RNTO other", 503);
    for line in ["PWD", "NOOP", "FOO", "RNFR missing", "TYPE I"] {
        site.raw.expect("RNFR file", 350);
        site.raw.command(line);
        site.raw.expect("RNTO other", 503);
    }
    site.raw.expect("RNFR file", 350);
    site.raw.expect("RNTO other", 250);
    site.raw.expect("RNTO third", 503);
    site.store.assert_holds(&[("alice/other", b"content")]);
}

fn j11_rename_onto_a_file() {
    let mut site = Site::new();
    site.raw.store("STOR data", b"old");
    site.raw.store("STOR data.tmp", b"new");
    site.raw.expect("RNFR data.tmp", 350);
    site.raw.expect("RNTO data", 250);
    site.store.assert_holds(&[("alice/data", b"new")]);
}

fn j12_dele() {
    let mut site = Site::new();
    site.raw.store("STOR file", b"");
    site.raw.expect("MKD directory", 257);
    answers(
        &mut site.raw,
        &[
            ("DELE directory", 550),
            ("DELE missing", 550),
            ("DELE file", 250),
            ("DELE file", 550),
        ],
    );
    site.store.assert_holds(&[]);
}

fn j13_rmd() {
    let mut site = Site::new();
    site.raw.expect("MKD full", 257);
    site.raw.store("STOR full/file", b"");
    let text = site.raw.expect("RMD full", 550).text();
    assert_eq!(text, "550 Directory not empty");
    answers(
        &mut site.raw,
        &[
            ("RMD missing", 550),
            ("RMD full/file", 550),
            ("DELE full/file", 250),
            ("RMD full", 250),
            ("XRMD full", 550),
        ],
    );
}

fn j14_long_names() {
    let mut site = Site::new();
    let longest = "n".repeat(255);
    site.raw.store(&format!("STOR {longest}"), b"longest");
    assert_eq!(site.raw.retrieve(&format!("RETR {longest}")), b"longest");
    site.raw.expect(&format!("MKD {longest}x"), 553);
    refused_before_150(&mut site.raw, &format!("STOR {longest}x"), 553);
    // A path of 1024 bytes, and one more.
    for _ in 0..4 {
        site.raw.expect(&format!("MKD {}", "d".repeat(200)), 257);
        site.raw.expect(&format!("CWD {}", "d".repeat(200)), 250);
    }
    let rest = "f".repeat(1024 - 4 * 201 - 1);
    site.raw.store(&format!("STOR {rest}"), b"deep");
    assert_eq!(site.raw.retrieve(&format!("RETR {rest}")), b"deep");
    refused_before_150(&mut site.raw, &format!("STOR {rest}x"), 553);
}

fn j15_names_are_literal() {
    let mut site = Site::new();
    for name in [
        "CON", "a:b", "a\\b", "..\\x", "C:\\x", "~", "~root", "*", "?", "-x", "\"", "%2e%2e",
        "$HOME", "`id`", "...", "....", "a'b", "nul.txt",
    ] {
        site.raw.store(&format!("STOR {name}"), name.as_bytes());
        site.store
            .assert_holds(&[(format!("alice/{name}").as_str(), name.as_bytes())]);
        assert_eq!(site.raw.retrieve(&format!("RETR {name}")), name.as_bytes());
        site.raw.expect(&format!("DELE {name}"), 250);
    }
}

fn j16_case_matters() {
    let mut site = Site::new();
    site.raw.store("STOR file", b"small");
    site.raw.store("STOR FILE", b"large");
    site.raw.expect("SIZE File", 550);
    site.store
        .assert_holds(&[("alice/file", b"small"), ("alice/FILE", b"large")]);
}
