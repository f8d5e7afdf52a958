//! Uploads: whole, cut, at an offset, two at once.

use super::{Bench, Cell, Place, rows};
use crate::harness::bytes;

rows! {
    o7_failed_replace_keeps_the_old: "an upload over a file that fails keeps the old file",
    o19_append: "APPE to files of 10 bytes and 6 MiB",
    o20_restart_an_upload: "REST n, STOR: n below, at, beyond the size",
    o21_broken_upload_leaves_nothing: "a broken upload is not there, the next begins at 0",
    o22_markers_come_in_order: "a `.done` file is visible after its data",
    o25_odd_paths: "trailing slash, `./`, absolute paths in STOR",
    o27_parallel_uploads_of_one_name: "two uploads of one name: the last completed wins",
    abor: "ABOR in an upload leaves nothing",
}

/// Enough for several parts, so that there is something to abort.
const LONG: usize = 12 << 20;

fn o7_failed_replace_keeps_the_old(bench: &mut Bench<'_>) -> Cell {
    bench.raw.store("STOR file", b"old content");
    for size in [0, 10, LONG] {
        let mut data = bench.raw.begin_transfer("STOR file");
        data.write(&bytes(7, size)).unwrap();
        data.reset();
        bench.raw.reply().expect_any(&[426, 451, 522]);
        bench.holds(&[("file", b"old content")]);
    }
    Cell::Yes
}

fn o19_append(bench: &mut Bench<'_>) -> Cell {
    bench.raw.store("APPE new", b"new");
    bench.holds(&[("new", b"new")]);
    bench.raw.expect("DELE new", 250);
    for (old, tail) in [(10, 5), (10, 0), (6 << 20, 10), (6 << 20, 6 << 20)] {
        let (old, tail) = (bytes(1, old), bytes(2, tail));
        bench.raw.store("STOR file", &old);
        if let Err(reply) = bench.try_store("APPE file", &tail) {
            bench.holds(&[("file", &old)]);
            return Cell::refused(&reply);
        }
        bench.holds(&[("file", &[old, tail].concat())]);
    }
    Cell::Yes
}

fn o20_restart_an_upload(bench: &mut Bench<'_>) -> Cell {
    let old = bytes(1, 6 << 20);
    let tail = bytes(2, 1 << 20);
    bench.raw.store("STOR file", &old);
    bench.raw.expect(&format!("REST {}", old.len() + 1), 350);
    let refused = bench.try_store("STOR file", b"x").unwrap_err();
    assert_eq!(refused.code, 554, "{refused}");
    for offset in [1 << 20, old.len()] {
        bench.raw.store("STOR file", &old);
        bench.raw.expect(&format!("REST {offset}"), 350);
        if let Err(reply) = bench.try_store("STOR file", &tail) {
            bench.holds(&[("file", &old)]);
            return Cell::refused(&reply);
        }
        bench.holds(&[("file", &[&old[..offset], &tail].concat())]);
    }
    Cell::Yes
}

fn o21_broken_upload_leaves_nothing(bench: &mut Bench<'_>) -> Cell {
    let content = bytes(3, LONG);
    let mut data = bench.raw.begin_transfer("STOR file");
    data.write(&content[..LONG * 2 / 3]).unwrap();
    // Nothing of it is visible while it runs, nor afterwards.
    let mut other = bench.another();
    other.expect("SIZE file", 550);
    assert_eq!(other.names("NLST"), [""; 0]);
    data.reset();
    bench.raw.reply().expect_any(&[426, 451]);
    bench.raw.expect("SIZE file", 550);
    bench.holds(&[]);
    bench.raw.store("STOR file", &content);
    bench.holds(&[("file", &content)]);
    Cell::Yes
}

fn o22_markers_come_in_order(bench: &mut Bench<'_>) -> Cell {
    let mut other = bench.another();
    bench.raw.store("STOR data", &bytes(1, 6 << 20));
    assert_eq!(other.names("NLST"), ["data"]);
    bench.raw.store("STOR data.done", b"");
    assert_eq!(other.names("NLST"), ["data", "data.done"]);
    assert_eq!(other.expect("SIZE data.done", 213).text(), "213 0");
    bench.holds(&[("data", &bytes(1, 6 << 20)), ("data.done", b"")]);
    Cell::Yes
}

fn o25_odd_paths(bench: &mut Bench<'_>) -> Cell {
    bench.raw.expect("MKD d", 257);
    let refused = bench.try_store("STOR d/", b"x").unwrap_err();
    assert!([550, 553].contains(&refused.code), "{refused}");
    bench.raw.store("STOR ./one", b"1");
    let row = bench.row;
    bench.raw.store(&format!("STOR /{row}/two"), b"2");
    bench.raw.store("STOR d//../three", b"3");
    bench.raw.expect("RMD d", 250);
    bench.holds(&[("one", b"1"), ("two", b"2"), ("three", b"3")]);
    Cell::Yes
}

fn o27_parallel_uploads_of_one_name(bench: &mut Bench<'_>) -> Cell {
    let mut other = bench.another();
    for size in [10, LONG] {
        let (one, two) = (bytes(1, size), bytes(2, size + 1));
        let mut first = bench.raw.begin_transfer("STOR file");
        first.write(&one[..size / 2]).unwrap();
        other.store("STOR file", &two);
        assert!(bench.stored("file").as_ref() == Some(&two));
        first.write(&one[size / 2..]).unwrap();
        first.finish();
        bench.raw.reply().expect(226);
        bench.holds(&[("file", &one)]);
    }
    Cell::Yes
}

fn abor(bench: &mut Bench<'_>) -> Cell {
    for size in [0, LONG] {
        let mut data = bench.raw.begin_transfer("STOR file");
        data.write(&bytes(1, size)).unwrap();
        bench.raw.send(b"ABOR\r\n").unwrap();
        bench.raw.reply().expect(426);
        bench.raw.reply().expect(226);
        drop(data);
        bench.holds(&[]);
    }
    if bench.place == Place::Memory {
        // What an aborted upload held is free again.
        let free = bench.raw.expect("AVBL", 213).text();
        bench.raw.store("STOR file", b"");
        bench.raw.expect("DELE file", 250);
        assert_eq!(bench.raw.expect("AVBL", 213).text(), free);
    }
    Cell::Yes
}
