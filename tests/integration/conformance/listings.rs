//! Listings (RFC 959 §4.1.3, RFC 1123 §4.1.2.7, RFC 3659 §7).

use std::{
    fs,
    time::{Duration, Instant},
};

use super::{Site, listed, refused_before_150};
use crate::harness::{Server, Store};

items!(
    h1_list,
    h2_list_of_a_file_and_of_nothing,
    h3_options_of_list,
    h4_nlst_of_a_directory,
    h5_options_of_nlst,
    h6_patterns,
    h7_empty_directory,
    h8_hidden_files,
    h9_mlsd,
    h10_mlsd_of_a_file_and_of_nothing,
    h11_mlst,
    h12_facts,
    h13_large_directory,
    h14_odd_names,
    h15_stat_of_a_path,
    h16_names_with_line_ends,
);

/// `a.txt`, `b.txt`, `.hidden` and `dir/inner.csv`.
fn small_tree() -> Site {
    let mut site = Site::new();
    site.raw.store("STOR a.txt", b"12345");
    site.raw.store("STOR b.txt", b"");
    site.raw.store("STOR .hidden", b"");
    site.raw.expect("MKD dir", 257);
    site.raw.store("STOR dir/inner.csv", b"1");
    site
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

/// The names in LIST lines: what follows the ninth column's blank.
fn names_of(lines: &[String]) -> Vec<String> {
    let mut names: Vec<String> = lines
        .iter()
        .map(|line| {
            let mut rest = line.as_str();
            for _ in 0..8 {
                rest = rest.trim_start_matches(' ').split_once(' ').unwrap().1;
            }
            rest.to_owned()
        })
        .collect();
    names.sort();
    names
}

fn h1_list() {
    let mut site = small_tree();
    let lines = listed(&mut site.raw, "LIST");
    assert_eq!(names_of(&lines), [".hidden", "a.txt", "b.txt", "dir"]);
    let file = lines.iter().find(|line| line.ends_with(" a.txt")).unwrap();
    assert!(file.starts_with("-rw-r--r--   1 ftp      ftp "), "{file}");
    assert!(file.contains(" 5 "), "{file}");
    let directory = lines.iter().find(|line| line.ends_with(" dir")).unwrap();
    assert!(directory.starts_with("drwxr-xr-x "), "{directory}");
    // The same minute as MDTM says, in UTC.
    let time = site.raw.expect("MDTM a.txt", 213).text();
    let clock = format!(" {}:{} a.txt", &time[12..14], &time[14..16]);
    assert!(file.ends_with(&clock), "{file} against {time}");
}

fn h2_list_of_a_file_and_of_nothing() {
    let mut site = small_tree();
    assert_eq!(names_of(&listed(&mut site.raw, "LIST dir")), ["inner.csv"]);
    assert_eq!(names_of(&listed(&mut site.raw, "LIST a.txt")), ["a.txt"]);
    assert_eq!(
        names_of(&listed(&mut site.raw, "LIST dir/inner.csv")),
        ["inner.csv"]
    );
    refused_before_150(&mut site.raw, "LIST missing", 550);
}

fn h3_options_of_list() {
    let mut site = small_tree();
    site.raw.store("STOR -x", b"");
    let all = listed(&mut site.raw, "LIST");
    for line in [
        "LIST -a",
        "LIST -la",
        "LIST -l",
        "LIST -R",
        "LIST -al -R",
        "LIST -a /",
    ] {
        assert_eq!(listed(&mut site.raw, line), all, "{line}");
    }
    assert_eq!(
        names_of(&listed(&mut site.raw, "LIST -al dir")),
        ["inner.csv"]
    );
    assert_eq!(names_of(&listed(&mut site.raw, "LIST -- -x")), ["-x"]);
}

fn h4_nlst_of_a_directory() {
    let mut site = small_tree();
    assert_eq!(site.raw.names("NLST"), [".hidden", "a.txt", "b.txt", "dir"]);
    // With a directory, so that each line can be used as it is.
    assert_eq!(listed(&mut site.raw, "NLST dir"), ["dir/inner.csv"]);
    assert_eq!(listed(&mut site.raw, "NLST /dir"), ["/dir/inner.csv"]);
    site.raw.expect("CWD dir", 250);
    assert_eq!(listed(&mut site.raw, "NLST"), ["inner.csv"]);
}

fn h5_options_of_nlst() {
    let mut site = small_tree();
    let all = sorted(listed(&mut site.raw, "NLST"));
    for line in ["NLST -la", "NLST -a", "NLST -1"] {
        assert_eq!(sorted(listed(&mut site.raw, line)), all, "{line}");
    }
}

fn h6_patterns() {
    let mut site = small_tree();
    assert_eq!(
        names_of(&listed(&mut site.raw, "LIST *.txt")),
        ["a.txt", "b.txt"]
    );
    assert_eq!(
        names_of(&listed(&mut site.raw, "LIST -la ?.txt")),
        ["a.txt", "b.txt"]
    );
    assert_eq!(
        sorted(listed(&mut site.raw, "NLST [ab].txt")),
        ["a.txt", "b.txt"]
    );
    assert_eq!(listed(&mut site.raw, "NLST dir/*.csv"), ["dir/inner.csv"]);
    assert!(listed(&mut site.raw, "LIST *.none").is_empty());
    assert!(listed(&mut site.raw, "NLST *.none").is_empty());
    let status = site.raw.expect("STAT *.txt", 212);
    assert_eq!(status.lines.len(), 4, "{status}");
    // A name that exists is a name.
    site.raw.store("STOR a*", b"");
    assert_eq!(names_of(&listed(&mut site.raw, "LIST a*")), ["a*"]);
    // Linear in time, whatever the pattern.
    let hostile = format!("NLST {}b", "*a".repeat(100));
    let start = Instant::now();
    assert!(listed(&mut site.raw, &hostile).is_empty());
    refused_before_150(&mut site.raw, "LIST */*/*/*{a,b}{c,d}", 550);
    assert!(start.elapsed() < Duration::from_secs(5));
}

fn h7_empty_directory() {
    let mut site = Site::new();
    site.raw.expect("MKD empty", 257);
    for line in ["LIST", "NLST", "MLSD"] {
        assert!(listed(&mut site.raw, &format!("{line} empty")).is_empty());
    }
    site.raw.expect("CWD empty", 250);
    assert!(listed(&mut site.raw, "LIST").is_empty());
}

fn h8_hidden_files() {
    let mut site = small_tree();
    for line in ["LIST", "NLST", "MLSD"] {
        let lines = listed(&mut site.raw, line);
        assert!(
            lines.iter().any(|line| line.ends_with(".hidden")),
            "{lines:?}"
        );
    }
}

fn h9_mlsd() {
    let mut site = small_tree();
    site.raw.expect("TYPE A", 200);
    let lines = listed(&mut site.raw, "MLSD");
    let mut names: Vec<&str> = lines
        .iter()
        .map(|line| line.split_once("; ").unwrap().1)
        .collect();
    names.sort_unstable();
    assert_eq!(names, [".hidden", "a.txt", "b.txt", "dir"]);
    let lines = listed(&mut site.raw, "MLSD dir");
    assert!(lines[0].ends_with("; inner.csv"), "{lines:?}");
}

fn h10_mlsd_of_a_file_and_of_nothing() {
    let mut site = small_tree();
    refused_before_150(&mut site.raw, "MLSD a.txt", 501);
    refused_before_150(&mut site.raw, "MLSD missing", 550);
}

fn h11_mlst() {
    let mut site = small_tree();
    site.raw.expect("CWD dir", 250);
    let reply = site.raw.expect("MLST inner.csv", 250);
    assert_eq!(reply.lines.len(), 3, "{reply}");
    assert!(reply.lines[0].starts_with("250-"), "{reply}");
    assert!(reply.lines[1].starts_with(" type=file;size=1;"), "{reply}");
    assert!(reply.lines[1].ends_with("; /dir/inner.csv"), "{reply}");
    assert_eq!(reply.lines[2], "250 End");
    let reply = site.raw.expect("MLST", 250);
    assert!(reply.lines[1].starts_with(" type=dir;"), "{reply}");
    assert!(reply.lines[1].ends_with("; /dir"), "{reply}");
    site.raw.expect("MLST missing", 550);
}

/// The facts of one name.
#[track_caller]
fn facts(lines: &[String], name: &str) -> Vec<String> {
    let end = format!("; {name}");
    let line = lines.iter().find(|line| line.ends_with(&end)).unwrap();
    let facts = line.strip_suffix(&end).unwrap();
    facts.split(';').map(str::to_owned).collect()
}

fn h12_facts() {
    let mut site = small_tree();
    let lines = listed(&mut site.raw, "MLSD");
    let file = facts(&lines, "a.txt");
    assert_eq!(file.len(), 5, "{file:?}");
    assert_eq!(file[..2], ["type=file", "size=5"]);
    let time = file[2].strip_prefix("modify=").unwrap();
    assert!(time.len() == 14 && time.bytes().all(|byte| byte.is_ascii_digit()));
    assert_eq!(file[3], "perm=adfrw");
    assert!(file[4].starts_with("unique="));
    let directory = facts(&lines, "dir");
    assert!(directory.contains(&"type=dir".to_owned()), "{directory:?}");
    assert!(
        directory.contains(&"perm=cdeflmp".to_owned()),
        "{directory:?}"
    );
    assert!(
        !directory.iter().any(|fact| fact.starts_with("size")),
        "{directory:?}"
    );
}

fn h13_large_directory() {
    let store = Store::local();
    let count = 100_000;
    let paths: Vec<String> = (0..count)
        .map(|number| format!("alice/{number:06}"))
        .collect();
    store.put_empty(&paths);
    let server = Server::start(&store);
    let mut site = Site::of(store, server);
    let before = site.server.peak_memory_kib();
    for line in ["LIST", "MLSD"] {
        let mut data = site.raw.open_data();
        let start = Instant::now();
        site.raw.expect(line, 150);
        data.handshake().unwrap();
        data.read_some();
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "{:?}",
            start.elapsed()
        );
        data.read_all();
        site.raw.reply().expect(226);
    }
    assert_eq!(listed(&mut site.raw, "NLST").len(), count);
    let grown = site.server.peak_memory_kib().saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB more");
}

fn h14_odd_names() {
    let mut site = Site::new();
    let mut names = [
        " leading",
        "trailing ",
        "semi;colon",
        "a=b",
        "q\"uote",
        "a -> b",
        "\u{e9}\u{1f6a2}",
        "100%",
        "a  b",
        "type=dir; x",
        "\u{a0}nbsp",
    ];
    for name in names {
        site.raw.store(&format!("STOR {name}"), name.as_bytes());
    }
    names.sort_unstable();
    let lines = listed(&mut site.raw, "MLSD");
    let mut shown: Vec<&str> = lines
        .iter()
        .map(|line| line.split_once("; ").unwrap().1)
        .collect();
    shown.sort_unstable();
    assert_eq!(shown, names);
    assert_eq!(names_of(&listed(&mut site.raw, "LIST")), names);
    for name in names {
        assert_eq!(site.raw.retrieve(&format!("RETR {name}")), name.as_bytes());
    }
}

fn h15_stat_of_a_path() {
    let mut site = small_tree();
    let lines = listed(&mut site.raw, "LIST");
    let reply = site.raw.expect("STAT /", 212);
    let inner: Vec<&str> = reply.lines[1..reply.lines.len() - 1]
        .iter()
        .map(|line| line.strip_prefix(' ').unwrap())
        .collect();
    assert_eq!(inner, lines);
    let reply = site.raw.expect("STAT a.txt", 213);
    assert!(reply.lines[1].ends_with(" a.txt"), "{reply}");
    assert_eq!(site.raw.expect("STAT -la .", 212).lines.len(), 6);
    site.raw.expect("STAT missing", 550);
    // Relative to the working directory.
    site.raw.expect("CWD dir", 250);
    let reply = site.raw.expect("STAT .", 212);
    assert!(reply.lines[1].ends_with(" inner.csv"), "{reply}");
    site.raw.expect("STAT inner.csv", 213);
}

/// S47 on a bucket: keys that others put there.
fn h16_names_with_line_ends() {
    for store in [Store::local(), Store::s3()] {
        store.make_home("alice");
        store.put("alice/good", b"");
        if let Store::Local(root) = &store {
            for name in ["forged\r\nline", "forged\nline", "forged\rline"] {
                fs::write(root.path().join("alice").join(name), b"secret").unwrap();
            }
        } else {
            for name in [
                "alice/forged\r\nline",
                "alice/forged\nline",
                "alice/./forged",
                "alice/x//forged",
            ] {
                store.put(name, b"secret");
            }
            store.put("alice/../forged", b"secret");
        }
        let server = Server::start(&store);
        let mut site = Site::of(store, server);
        for line in ["LIST", "NLST", "MLSD"] {
            let lines = listed(&mut site.raw, line);
            assert!(
                lines
                    .iter()
                    .all(|line| !line.contains("forged") && !line.contains(char::is_control)),
                "{line}: {lines:?}"
            );
            assert!(lines.iter().any(|line| line.ends_with("good")), "{lines:?}");
        }
        site.raw.expect("STAT /", 212);
        for line in [
            "SIZE forged\r",
            "SIZE ../forged",
            "SIZE ./forged",
            "CWD ..forged",
        ] {
            site.raw.command(line).expect_any(&[501, 550]);
        }
    }
}
