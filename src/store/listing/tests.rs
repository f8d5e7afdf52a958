//! Tables and properties of listing formats.

use proptest::prelude::*;

use super::*;
use crate::{
    access::{Action, Actions, StoreKey},
    store::Stat,
};

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn time(digits: &str) -> SystemTime {
    parse_time(digits).unwrap()
}

fn entry(kind: Kind, name: &str, size: u64, modified: Option<SystemTime>) -> Entry {
    let stat = Stat {
        kind,
        size,
        modified,
        version: Some("v1".to_owned()),
        waits: false,
    };
    Entry {
        name: name.to_owned(),
        stat,
    }
}

fn writer() -> Permissions {
    Permissions {
        actions: Actions::all(),
        fixed: false,
    }
}

#[test]
fn dates_take_the_zone_and_the_form_of_the_style() {
    let now = time("20260615120000");
    let unix = ListDate::Unix;
    for (date, hours, modified, shown) in [
        (unix, 2, "20260614230000", "Jun 15 01:00"),
        (unix, -5, "20260615010000", "Jun 14 20:00"),
        // Half a year is counted in real time, the year printed is the zone's.
        (unix, 2, "20241231230000", "Jan  1  2025"),
        (ListDate::YearOnly, 0, "20260615115959", "Jun 15  2026"),
    ] {
        let style = ListStyle {
            offset: ::time::UtcOffset::from_hms(hours, 0, 0).unwrap(),
            date,
        };
        let entry = entry(Kind::File, "a", 1, Some(time(modified)));
        let line = list_line(&entry, now, style);
        assert!(line.ends_with(&format!(" {shown} a")), "{line}");
    }
    // The ends of the calendar have no other zone.
    let style = ListStyle {
        offset: ::time::UtcOffset::from_hms(14, 0, 0).unwrap(),
        date: unix,
    };
    let end = entry(Kind::File, "a", 1, Some(time("99991231235959")));
    assert!(list_line(&end, now, style).contains("9999"));
}

#[test]
fn list_lines_look_like_ls() {
    let now = time("20260615120000");
    for (modified, shown) in [
        ("20260615115959", "Jun 15 11:59"),
        ("20260105000700", "Jan  5 00:07"),
        ("20251217120000", "Dec 17  2025"),
        ("20251217120001", "Dec 17 12:00"),
        ("20260616115959", "Jun 16 11:59"),
        ("20260617120000", "Jun 17  2026"),
        ("19700101000000", "Jan  1  1970"),
    ] {
        let line = list_line(
            &entry(Kind::File, " a;b ", 12345, Some(time(modified))),
            now,
            ListStyle::default(),
        );
        assert_eq!(
            line,
            format!("-rw-r--r--   1 ftp      ftp             12345 {shown}  a;b ")
        );
    }
    assert_eq!(
        list_line(
            &entry(Kind::Directory, "d", 4096, None),
            now,
            ListStyle::default()
        ),
        "drwxr-xr-x   1 ftp      ftp                 0 Jan  1  1970 d"
    );
}

#[test]
fn times_are_14_digits_in_utc() {
    for (seconds, digits) in [
        (0, "19700101000000"),
        (951_782_400, "20000229000000"),
        (1_767_225_599, "20251231235959"),
        (253_402_300_799, "99991231235959"),
        (253_402_300_800, "99991231235959"),
    ] {
        assert_eq!(mdtm(at(seconds)), digits);
    }
    assert_eq!(mdtm(at(1) + Duration::from_millis(999)), "19700101000001");
    assert_eq!(
        mdtm(SystemTime::UNIX_EPOCH - Duration::from_millis(1)),
        "19691231235959"
    );
}

#[test]
fn times_are_read_strictly() {
    assert_eq!(parse_time("20260101000000"), Some(at(1_767_225_600)));
    assert_eq!(
        parse_time("20260101000000.25"),
        Some(at(1_767_225_600) + Duration::from_millis(250))
    );
    assert_eq!(mdtm(time("19690101000000.5")), "19690101000000");
    for bad in [
        "",
        "2026010100000",
        "202601010000000",
        "20260101000000.",
        "20260101000000.1234567890",
        "20260101000000.x",
        "20260101000000.1.2",
        "+2026010100000",
        "20261301000000",
        "20260229000000",
        "20260101240000",
        "20260101006000",
        "20260101000060",
        " 20260101000000",
        "2026010100000\u{e9}",
    ] {
        assert_eq!(parse_time(bad), None, "{bad:?}");
    }
}

#[test]
fn facts_are_chosen_and_shown_in_canonical_order() {
    for (list, facts) in [
        ("type;size;", "type;size;"),
        ("Size;TYPE;", "type;size;"),
        ("unique;foo;modify", "modify;unique;"),
        ("", ""),
        (";;", ""),
        ("foo;", ""),
        (
            "type;size;modify;perm;unique;UNIX.mode;",
            "type;size;modify;perm;unique;",
        ),
    ] {
        assert_eq!(Facts::parse(list).to_string(), facts, "{list:?}");
    }
    assert_eq!(Facts::parse(""), Facts::none());
    assert_eq!(
        Facts::default().to_string(),
        "type;size;modify;perm;unique;"
    );
    assert_eq!(
        Facts::default().feature(),
        "MLST type*;size*;modify*;perm*;unique*;"
    );
    assert_eq!(
        Facts::parse("size").feature(),
        "MLST type;size*;modify;perm;unique;"
    );
}

#[test]
fn mlsx_lines_follow_rfc_3659() {
    let key = StoreKey::for_test("s3", "a/x");
    let file = entry(Kind::File, "x", 3, Some(time("20260101000000.9"))).stat;
    let directory = entry(Kind::Directory, "x", 0, None).stat;
    let sealed = Permissions {
        actions: [Action::List, Action::Read].into_iter().collect(),
        fixed: false,
    };
    let fixed = Permissions {
        fixed: true,
        ..writer()
    };
    let most = Facts::parse("type;size;modify;perm");
    for (stat, facts, permissions, line) in [
        (
            &file,
            most,
            writer(),
            "type=file;size=3;modify=20260101000000;perm=adfrw; x y;z",
        ),
        (
            &file,
            most,
            sealed,
            "type=file;size=3;modify=20260101000000;perm=r; x y;z",
        ),
        (&directory, most, writer(), "type=dir;perm=cdeflmp; x y;z"),
        (&directory, most, sealed, "type=dir;perm=el; x y;z"),
        (&directory, most, fixed, "type=dir;perm=celmp; x y;z"),
        (&file, Facts::none(), writer(), " x y;z"),
        (&directory, Facts::parse("size"), writer(), " x y;z"),
    ] {
        assert_eq!(mlsx_line("x y;z", stat, &key, facts, permissions), line);
    }
}

#[test]
fn unique_is_stable_and_differs_by_place_and_version() {
    let unique = |backend: &str, key: &str, version: Option<&str>| {
        let stat = Stat {
            version: version.map(str::to_owned),
            ..entry(Kind::File, "x", 1, None).stat
        };
        let key = StoreKey::for_test(backend, key);
        mlsx_line("x", &stat, &key, Facts::parse("unique"), writer())
    };
    // Written down, since another process must come to the same.
    assert_eq!(unique("s3", "a", Some("v")), "unique=45974fe7fab6ba6a; x");
    assert_ne!(unique("s3", "a", Some("v")), unique("s3", "a", Some("w")));
    assert_ne!(unique("s3", "a", Some("v")), unique("s3", "b", Some("v")));
    assert_ne!(unique("s3", "a", Some("v")), unique("gcs", "a", Some("v")));
    assert_ne!(unique("s3", "ab", None), unique("s3", "a", Some("b")));
}

#[test]
fn globs_match_whole_names() {
    for (pattern, yes, no) in [
        ("*", &["", "a", ".x", "a b"][..], &[][..]),
        (
            "*.txt",
            &["a.txt", ".txt", "a.txt.txt"],
            &["a.txt2", "atxt", "a.TXT"],
        ),
        (
            "a*b*c",
            &["abc", "axxbyyc", "abcbc"],
            &["ab", "acb", "abcd"],
        ),
        ("?", &["a", "\u{e9}", "\u{1f600}"], &["", "ab"]),
        ("a?c", &["abc", "a\u{e9}c"], &["ac", "abbc"]),
        ("[a-c]x", &["ax", "bx", "cx"], &["dx", "x", "-x"]),
        ("[!a-c]x", &["dx", "-x"], &["ax", "x"]),
        ("[^a]", &["b"], &["a", ""]),
        ("[]x]", &["]", "x"], &["a"]),
        ("[!]]", &["a"], &["]"]),
        ("[a-]", &["a", "-"], &["b"]),
        ("[-a]", &["a", "-"], &["b"]),
        ("[z-a]", &[], &["a", "m", "z", "-"]),
        ("a[*", &["a[", "a[b"], &["a"]),
        ("[!]*", &["[!]", "[!]x"], &["a", "[!"]),
        ("{a,b}*", &["{a,b}", "{a,b}c"], &["a", "b"]),
        ("~?", &["~a"], &["a"]),
        ("\\*", &["\\", "\\a"], &["*"]),
        ("***x**", &["x", "axb"], &["a"]),
    ] {
        let parsed = Pattern::parse(pattern).unwrap();
        for name in yes {
            assert!(parsed.matches(name), "{pattern:?} matches {name:?}");
        }
        for name in no {
            assert!(!parsed.matches(name), "{pattern:?} does not match {name:?}");
        }
    }
    for literal in [
        "",
        "a.txt",
        "a[b",
        "[",
        "[]",
        "[!]",
        "{a,b}",
        "~",
        &"*".repeat(256),
    ] {
        assert_eq!(Pattern::parse(literal), None, "{literal:?}");
    }
}

/// Matches the obvious, exponential way.
fn naive(pattern: &[char], name: &[char]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some(('*', rest)), _) => (0..=name.len()).any(|skipped| naive(rest, &name[skipped..])),
        (Some(('?', pattern)), Some((_, name))) => naive(pattern, name),
        (Some((wanted, pattern)), Some((found, name))) => wanted == found && naive(pattern, name),
        _ => false,
    }
}

proptest! {
    #[test]
    fn globs_match_as_the_naive_matcher_says(pattern in "[ab?*]{0,8}", name in "[ab]{0,10}") {
        if let Some(parsed) = Pattern::parse(&pattern) {
            let (pattern, name_characters): (Vec<_>, Vec<_>) =
                (pattern.chars().collect(), name.chars().collect());
            prop_assert_eq!(parsed.matches(&name), naive(&pattern, &name_characters));
        }
    }

    #[test]
    fn globs_never_panic(pattern in "[\\[\\]!^a-cé*?-]{0,20}|.*", name in ".*") {
        if let Some(parsed) = Pattern::parse(&pattern) {
            parsed.matches(&name);
        }
    }

    #[test]
    fn printed_times_are_read_back(seconds in -62_167_219_200_i64..=253_402_300_799) {
        let whole = Duration::from_secs(seconds.unsigned_abs());
        let instant = if seconds < 0 { SystemTime::UNIX_EPOCH - whole } else { SystemTime::UNIX_EPOCH + whole };
        let digits = mdtm(instant);
        prop_assert_eq!(digits.len(), 14);
        prop_assert_eq!(parse_time(&digits), Some(instant));
    }

    #[test]
    fn reading_times_never_panics(text in "[0-9.]{0,26}|.*") {
        let _ = parse_time(&text);
    }

    #[test]
    fn the_name_ends_every_line(name in "[a-z ;=>\"é%-]{1,12}", size: u64, seconds in 0u64..1 << 33, now in 0u64..1 << 33) {
        let entry = entry(Kind::File, &name, size, Some(at(seconds)));
        let line = list_line(&entry, at(now), ListStyle::default());
        // Eight columns, each followed by blanks; the last of them by exactly one.
        let mut rest = line.as_str();
        for _ in 0..8 {
            rest = rest.trim_start_matches(' ').split_once(' ').unwrap().1;
        }
        prop_assert_eq!(rest, &name);
        let key = StoreKey::for_test("s3", "k");
        let facts = mlsx_line(&name, &entry.stat, &key, Facts::default(), writer());
        prop_assert_eq!(facts.split_once(' ').unwrap().1, name);
    }

    #[test]
    fn chosen_facts_are_read_back(bits in "(type;|size;|modify;|perm;|unique;|x;){0,6}") {
        let facts = Facts::parse(&bits);
        prop_assert_eq!(Facts::parse(&facts.to_string()), facts);
        prop_assert_eq!(facts.to_string().matches(';').count(), facts.iter().count());
    }
}

#[test]
fn a_hostile_glob_is_cheap() {
    let pattern = Pattern::parse(&"*a".repeat(127)).unwrap();
    let name = "a".repeat(126) + &"b".repeat(129);
    let long = Pattern::parse(&format!("*{}b", "a".repeat(200))).unwrap();
    let started = std::time::Instant::now();
    for _ in 0..1000 {
        assert!(!pattern.matches(&name));
        assert!(!long.matches(&"a".repeat(255)));
    }
    // Ten milliseconds a match is far above what it takes and far below what backtracking would.
    assert!(started.elapsed() < Duration::from_secs(10));
}
