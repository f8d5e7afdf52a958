//! Directories and listings.

use std::time::{Duration, Instant};

use super::{Bench, Cell, rows};
use crate::harness::Raw;

rows! {
    o8_mkd_of_what_exists: "MKD of an existing directory or file: 550 Directory already exists",
    o9_mkd_without_parents: "MKD a/b/c without a: 550",
    o10_a_directory_outlives_its_files: "MKD makes it, the last DELE does not end it, RMD does",
    o11_implicit_directory: "CWD into a directory that nobody made",
    o12_a_file_and_a_directory_of_one_name: "`x` beside `x/y`: one name, one rule",
    o13_rmd_of_a_full_directory: "RMD only of empty directories",
    o14_list_of_a_file: "LIST and NLST of one file",
    o15_list_options: "LIST -la: options are dropped; LIST -R lists all below, within bounds",
    o16_wildcards: "wildcards in the last segment",
    o17_hidden_files: "`.name` is shown, a running upload is not",
    o18_nlst_names: "NLST gives names, NLST dir gives dir/names",
    o23_polling: "a cached listing shows own changes at once",
    o24_many_entries: "2,100 entries: complete, first byte within 2 s",
}

fn o8_mkd_of_what_exists(bench: &mut Bench<'_>) -> Cell {
    bench.raw.expect("MKD d", 257);
    bench.raw.store("STOR file", b"");
    for line in ["MKD d", "MKD d/", "MKD file", "MKD /"] {
        let text = bench.raw.expect(line, 550).text();
        assert_eq!(text, "550 Directory already exists", "{line}");
    }
    Cell::Yes
}

fn o9_mkd_without_parents(bench: &mut Bench<'_>) -> Cell {
    bench.raw.expect("MKD a/b/c", 550);
    bench.raw.expect("MKD a/b", 550);
    bench.raw.expect("CWD a", 550);
    assert_eq!(bench.try_store("STOR a/file", b"x").unwrap_err().code, 550);
    bench.raw.expect("MKD a", 257);
    bench.raw.expect("MKD a/b", 257);
    bench.raw.expect("MKD a/b/c", 257);
    Cell::Yes
}

fn o10_a_directory_outlives_its_files(bench: &mut Bench<'_>) -> Cell {
    bench.raw.expect("CWD d", 550);
    bench.raw.expect("MKD d", 257);
    bench.raw.store("STOR d/file", b"x");
    bench.raw.expect("MKD d/inner", 257);
    bench.raw.expect("DELE d/file", 250);
    bench.raw.expect("RMD d/inner", 250);
    assert_eq!(bench.raw.names("NLST d"), [""; 0]);
    bench.raw.expect("CWD d", 250);
    bench.raw.expect("CWD ..", 250);
    bench.raw.expect("RMD d", 250);
    bench.raw.expect("CWD d", 550);
    Cell::Yes
}

fn o11_implicit_directory(bench: &mut Bench<'_>) -> Cell {
    bench.put("d/e/file", b"content");
    bench.raw.expect("CWD d", 250);
    assert_eq!(bench.raw.names("NLST"), ["e"]);
    bench.raw.expect("CWD e", 250);
    assert_eq!(bench.raw.names("NLST"), ["file"]);
    assert_eq!(bench.raw.retrieve("RETR file"), b"content");
    // And it stays when the file goes.
    bench.raw.expect("DELE file", 250);
    bench.raw.expect("CDUP", 250);
    bench.raw.expect("CWD e", 250);
    Cell::Yes
}

fn o12_a_file_and_a_directory_of_one_name(bench: &mut Bench<'_>) -> Cell {
    if bench.place.has_directories() {
        // It cannot come about.
        bench.raw.store("STOR x", b"file");
        bench.raw.expect("MKD x", 550);
        assert_eq!(bench.try_store("STOR x/y", b"inner").unwrap_err().code, 550);
        bench.raw.expect("DELE x", 250);
        bench.raw.expect("MKD x", 257);
        assert_eq!(bench.try_store("STOR x", b"file").unwrap_err().code, 550);
        return Cell::Yes;
    }
    bench.put("x", b"hidden");
    bench.put("x/y", b"inner");
    bench.put("x!", b"between");
    assert_eq!(bench.raw.names("NLST"), ["x", "x!"]);
    let rows = bench.listed("MLSD");
    assert!(
        rows.iter()
            .any(|row| row.contains("type=dir") && row.ends_with(" x")),
        "{rows:?}"
    );
    bench.raw.expect("CWD x", 250);
    bench.raw.expect("CDUP", 250);
    for line in ["SIZE x", "DELE x", "MKD x", "RMD x"] {
        bench.raw.expect(line, 550);
    }
    assert_eq!(bench.try_store("STOR x", b"new").unwrap_err().code, 550);
    bench.holds(&[("x", b"hidden"), ("x!", b"between"), ("x/y", b"inner")]);
    Cell::Yes
}

fn o13_rmd_of_a_full_directory(bench: &mut Bench<'_>) -> Cell {
    bench.put("full/file", b"x");
    bench.put("full2/file", b"x");
    let text = bench.raw.expect("RMD full", 550).text();
    assert_eq!(text, "550 Directory not empty");
    bench.raw.expect("DELE full/file", 250);
    bench.raw.expect("RMD full", 250);
    bench.raw.expect("RMD full", 550);
    bench.raw.expect("RMD full2/file", 550);
    bench.raw.expect("RMD /", 550);
    bench.holds(&[("full2/file", b"x")]);
    Cell::Yes
}

fn o14_list_of_a_file(bench: &mut Bench<'_>) -> Cell {
    bench.raw.store("STOR file", b"content");
    bench.raw.store("STOR file2", b"other");
    let lines = bench.listed("LIST file");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains(" 7 ") && lines[0].ends_with(" file"),
        "{lines:?}"
    );
    assert_eq!(bench.raw.names("NLST file"), ["file"]);
    Cell::Yes
}

fn o15_list_options(bench: &mut Bench<'_>) -> Cell {
    bench.put("d/deep", b"x");
    bench.put("file", b"content");
    bench.put("d/e/deeper", b"xy");
    let plain = bench.listed("LIST");
    for line in ["LIST -la", "LIST -a -l"] {
        assert_eq!(bench.listed(line), plain, "{line}");
    }
    let mut shown = Vec::new();
    for line in bench.listed("LIST -R") {
        let name = line.rsplit(' ').next().unwrap_or_default();
        shown.push(name.to_owned());
    }
    // In each directory a store has its own order.
    shown[1..3].sort();
    shown[5..7].sort();
    let all = [
        ".:", "d", "file", "", "./d:", "deep", "e", "", "./d/e:", "deeper",
    ];
    assert_eq!(shown, all);
    Cell::Yes
}

fn o16_wildcards(bench: &mut Bench<'_>) -> Cell {
    for name in ["a.txt", "b.txt", "b.log"] {
        bench.put(name, b"x");
    }
    assert_eq!(bench.raw.names("NLST *.txt"), ["a.txt", "b.txt"]);
    assert_eq!(bench.raw.names("NLST b.*"), ["b.log", "b.txt"]);
    assert_eq!(bench.raw.names("NLST ?.log"), ["b.log"]);
    assert_eq!(bench.listed("LIST *.txt").len(), 2);
    for line in ["NLST {a,b}.txt", "NLST ~"] {
        let code = bench.raw.failing_transfer_with_data(line).code;
        assert_eq!(code, 550, "{line}");
    }
    Cell::Yes
}

fn o17_hidden_files(bench: &mut Bench<'_>) -> Cell {
    bench.put(".hidden", b"x");
    let mut other = bench.another();
    let mut data = other.begin_transfer("STOR running");
    data.write(b"half").unwrap();
    assert_eq!(bench.raw.names("NLST"), [".hidden"]);
    assert_eq!(bench.raw.names("NLST -a"), [".hidden"]);
    data.finish();
    other.reply().expect(226);
    assert_eq!(bench.raw.names("NLST"), [".hidden", "running"]);
    // Nor does the root show where uploads lie meanwhile.
    let root = bench.raw.names("NLST /");
    assert!(
        !root.iter().any(|name| name.contains("causeway")),
        "{root:?}"
    );
    Cell::Yes
}

fn o18_nlst_names(bench: &mut Bench<'_>) -> Cell {
    bench.put("d/file", b"x");
    bench.put("top", b"x");
    assert_eq!(bench.raw.names("NLST"), ["d", "top"]);
    assert_eq!(bench.raw.names("NLST d"), ["d/file"]);
    let row = bench.row;
    assert_eq!(
        bench.raw.names(&format!("NLST /{row}/d")),
        [format!("/{row}/d/file")]
    );
    Cell::Yes
}

fn o23_polling(bench: &mut Bench<'_>) -> Cell {
    let names = |raw: &mut Raw| raw.names("NLST /cached");
    let plain = |names: &[&str]| {
        names
            .iter()
            .map(|name| format!("/cached/{name}"))
            .collect::<Vec<_>>()
    };
    let mut other = bench.another();
    let raw = &mut bench.raw;
    assert_eq!(names(raw), plain(&[]));
    raw.store("STOR /cached/one", b"x");
    assert_eq!(names(&mut other), plain(&["one"]));
    raw.expect("MKD /cached/two", 257);
    assert_eq!(names(&mut other), plain(&["one", "two"]));
    raw.expect("DELE /cached/one", 250);
    assert_eq!(names(&mut other), plain(&["two"]));
    raw.store("STOR /cached/two/deep", b"x");
    assert_eq!(other.names("NLST /cached/two"), ["/cached/two/deep"]);
    raw.expect("DELE /cached/two/deep", 250);
    raw.expect("RMD /cached/two", 250);
    assert_eq!(names(&mut other), plain(&[]));
    Cell::Yes
}

fn o24_many_entries(bench: &mut Bench<'_>) -> Cell {
    // More than two pages of a thousand.
    let all: Vec<String> = (0..2_100).map(|n| format!("{n:05}")).collect();
    bench.put_empty(&all);
    // The best of three: the stand-ins share the machine with each other.
    let mut first = Duration::MAX;
    for _ in 0..3 {
        let mut data = bench.raw.open_data();
        let begin = Instant::now();
        bench.raw.expect("NLST", 150);
        data.handshake().unwrap();
        data.read_some();
        first = first.min(begin.elapsed());
        data.read_all();
        bench.raw.reply().expect(226);
    }
    assert!(first < Duration::from_secs(2), "first byte after {first:?}");
    assert_eq!(bench.raw.names("NLST"), all);
    Cell::Yes
}
