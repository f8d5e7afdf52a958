//! Files: renamed, deleted, looked at, read.

use serde_json::json;

use super::{Bench, Cell, Place, refusing, rows};
use crate::harness::{Raw, Server, Store, bytes};

rows! {
    sizes: "files of 0 bytes to 12 MiB come back as they went",
    offsets: "REST and RETR send the exact rest",
    o1_rename: "RNFR, RNTO to a new name",
    o2_rename_onto_a_file: "RNTO onto an existing file replaces it",
    o3_rename_a_directory: "RNFR, RNTO of a directory",
    across: "RNTO to another mount and back",
    o4_size_at_once: "SIZE equals the bytes sent, at once after the 226",
    o5_set_time: "MFMT sets the time that MDTM and MLSD give",
    o6_dele_before_stor: "DELE, present or missing, then STOR",
    o28_after_a_rename: "right after RNTO the new name is there, the old is not",
    o29_mdtm_and_mlsd_agree: "MDTM, MLST and MLSD give one time",
    o30_errors_of_the_store: "disk full 552, 403 550, 503 451",
    hash: "HASH of a stored file",
    avbl: "AVBL tells the free space",
    read_only: "a read-only mount refuses every change",
    nested: "a mount below a mount",
}

fn sizes(bench: &mut Bench<'_>) -> Cell {
    for (seed, size) in [0, 1, 5_000, (5 << 20) - 1, 5 << 20, (12 << 20) + 3]
        .into_iter()
        .enumerate()
    {
        let content = bytes(seed as u64, size);
        bench.raw.store("STOR file", &content);
        assert!(bench.raw.retrieve("RETR file") == content, "{size} bytes");
        bench.holds(&[("file", &content)]);
    }
    Cell::Yes
}

fn offsets(bench: &mut Bench<'_>) -> Cell {
    let content = bytes(1, 700_000);
    bench.raw.store("STOR file", &content);
    for offset in [0, 1, 262_144, 699_999, 700_000] {
        bench.raw.expect(&format!("REST {offset}"), 350);
        assert!(
            bench.raw.retrieve("RETR file") == content[offset..],
            "from {offset}"
        );
    }
    bench.raw.expect("REST 700001", 350);
    bench.raw.open_data();
    let code = bench.raw.command("RETR file").code;
    assert!([550, 554].contains(&code), "{code}");
    Cell::Yes
}

/// RNFR and RNTO, or the refusal of the latter.
fn rename(raw: &mut Raw, from: &str, to: &str) -> Option<Cell> {
    raw.expect(&format!("RNFR {from}"), 350);
    raw.send(format!("RNTO {to}\r\n").as_bytes()).unwrap();
    let reply = raw.reply_within(std::time::Duration::from_mins(2));
    (reply.code != 250).then(|| Cell::refused(&reply))
}

fn o1_rename(bench: &mut Bench<'_>) -> Cell {
    for (seed, size) in [0, 10, 6 << 20].into_iter().enumerate() {
        let content = bytes(seed as u64, size);
        bench.raw.store("STOR report.part", &content);
        if let Some(refused) = rename(&mut bench.raw, "report.part", "report") {
            bench.holds(&[("report.part", &content)]);
            return refused;
        }
        bench.holds(&[("report", &content)]);
        bench.raw.expect("DELE report", 250);
    }
    bench.raw.expect("RNFR missing", 550);
    Cell::Yes
}

fn o2_rename_onto_a_file(bench: &mut Bench<'_>) -> Cell {
    bench.raw.store("STOR data", b"old");
    bench.raw.store("STOR data.tmp", b"new content");
    if let Some(refused) = rename(&mut bench.raw, "data.tmp", "data") {
        bench.holds(&[("data", b"old"), ("data.tmp", b"new content")]);
        return refused;
    }
    bench.holds(&[("data", b"new content")]);
    Cell::Yes
}

fn o3_rename_a_directory(bench: &mut Bench<'_>) -> Cell {
    bench.raw.expect("MKD in", 257);
    bench.raw.store("STOR in/file", b"content");
    if let Some(refused) = rename(&mut bench.raw, "in", "out") {
        bench.holds(&[("in/file", b"content")].map(|(name, content)| (name, content as &[u8])));
        bench.raw.expect("CWD out", 550);
        return refused;
    }
    assert_eq!(bench.raw.retrieve("RETR out/file"), b"content");
    bench.raw.expect("CWD in", 550);
    Cell::Yes
}

fn across(bench: &mut Bench<'_>) -> Cell {
    for (seed, size) in [0, 10, 9 << 20].into_iter().enumerate() {
        let content = bytes(seed as u64, size);
        bench.raw.store("STOR file", &content);
        assert_eq!(rename(&mut bench.raw, "file", "/other/file"), None);
        bench.holds(&[]);
        assert!(bench.raw.retrieve("RETR /other/file") == content);
        assert_eq!(rename(&mut bench.raw, "/other/file", "back"), None);
        bench.raw.expect("SIZE /other/file", 550);
        bench.holds(&[("back", &content)]);
        bench.raw.expect("DELE back", 250);
    }
    // A directory stays where it is, and so does a file whose new name is taken by one.
    bench.raw.expect("MKD d", 257);
    bench.raw.expect("RNFR d", 350);
    bench.raw.expect("RNTO /other/d", 553);
    bench.raw.store("STOR file", b"content");
    bench.raw.expect("RNFR file", 350);
    bench.raw.expect("RNTO /other/deep", 550);
    bench.raw.expect("RNFR file", 350);
    bench.raw.expect("RNTO /other/missing/file", 550);
    bench.raw.expect("RNFR file", 350);
    bench.raw.expect("RNTO /sealed/file", 550);
    bench.raw.expect("RMD d", 250);
    assert_eq!(bench.stored("file").as_deref(), Some(&b"content"[..]));
    Cell::Yes
}

fn o4_size_at_once(bench: &mut Bench<'_>) -> Cell {
    for size in [0, 7, 6 << 20] {
        bench.raw.store("STOR file", &bytes(2, size));
        assert_eq!(
            bench.raw.expect("SIZE file", 213).text(),
            format!("213 {size}")
        );
        assert_eq!(
            bench.another().expect("SIZE file", 213).text(),
            format!("213 {size}")
        );
    }
    Cell::Yes
}

fn o5_set_time(bench: &mut Bench<'_>) -> Cell {
    bench.raw.store("STOR file", b"content");
    let reply = bench.raw.command("MFMT 20200102030405 file");
    if reply.code != 213 {
        return Cell::refused(&reply);
    }
    assert_eq!(
        bench.raw.expect("MDTM file", 213).text(),
        "213 20200102030405"
    );
    let facts = bench.listed("MLSD").concat();
    assert!(
        facts.to_lowercase().contains("modify=20200102030405;"),
        "{facts}"
    );
    Cell::Yes
}

fn o6_dele_before_stor(bench: &mut Bench<'_>) -> Cell {
    bench.raw.expect("DELE file", 550);
    bench.raw.store("STOR file", b"one");
    bench.raw.expect("DELE file", 250);
    bench.raw.expect("DELE file", 550);
    bench.raw.store("STOR file", b"two");
    bench.holds(&[("file", b"two")]);
    Cell::Yes
}

fn o28_after_a_rename(bench: &mut Bench<'_>) -> Cell {
    bench.raw.store("STOR old", b"content");
    if let Some(refused) = rename(&mut bench.raw, "old", "new") {
        return refused;
    }
    let mut other = bench.another();
    other.expect("SIZE old", 550);
    assert_eq!(other.expect("SIZE new", 213).text(), "213 7");
    assert_eq!(other.retrieve("RETR new"), b"content");
    assert_eq!(other.names("NLST"), ["new"]);
    Cell::Yes
}

fn o29_mdtm_and_mlsd_agree(bench: &mut Bench<'_>) -> Cell {
    bench.raw.store("STOR file", b"content");
    let time = bench.raw.expect("MDTM file", 213).text()[4..].to_owned();
    assert!(time.starts_with("20") && time.len() >= 14, "{time}");
    let fact = format!("modify={};", time.to_lowercase());
    let listed = bench.listed("MLSD").concat().to_lowercase();
    assert!(listed.contains(&fact), "{fact} {listed}");
    let single = bench.raw.expect("MLST file", 250).text().to_lowercase();
    assert!(single.contains(&fact), "{fact} {single}");
    Cell::Yes
}

/// The reply to an upload that the store does not take.
fn failing_upload(raw: &mut Raw, size: usize) -> u16 {
    let mut data = raw.open_data();
    let reply = raw.command("STOR new");
    if reply.code != 150 {
        return reply.code;
    }
    // The server may end the connection before all is sent.
    if data.handshake().is_ok() && data.write(&bytes(1, size)).is_ok() {
        data.send_close_notify();
        data.send_fin();
    }
    raw.reply_within(std::time::Duration::from_mins(1)).code
}

fn o30_errors_of_the_store(bench: &mut Bench<'_>) -> Cell {
    let table: Vec<(serde_json::Value, usize, u16)> = match bench.place {
        Place::Fs => {
            let mut backend = bench.store.backend();
            backend["free_space_bytes"] = json!(1_u64 << 50);
            vec![(backend, 10, 552)]
        }
        Place::Memory => vec![(
            json!({"type": "memory", "size_bytes": 1 << 20}),
            2 << 20,
            552,
        )],
        Place::S3Ceph | Place::S3Moto | Place::Gcs | Place::GcsUnftp | Place::Azblob => {
            let refused = |status, code| {
                let mut backend = bench.store.backend();
                let endpoint = backend["endpoint"].as_str().unwrap().to_owned();
                let rest = endpoint.strip_prefix("http://").unwrap();
                let (host, path) = rest
                    .split_once('/')
                    .map_or((rest, ""), |(host, path)| (host, path));
                let proxy = refusing::start(host.to_owned(), status);
                backend["endpoint"] = format!("http://{proxy}/{path}")
                    .trim_end_matches('/')
                    .into();
                (backend, 10, code)
            };
            vec![
                refused("403 Forbidden", 550),
                refused("503 Service Unavailable", 451),
            ]
        }
    };
    for (backend, size, code) in table {
        // A home that is there already: the store takes no new one.
        let server = Server::with(&Store::Memory)
            .set("/backends/main", backend.clone())
            .set("/timeouts/store_seconds", 4)
            .set("/timeouts/commit_seconds", 4)
            .start();
        let mut raw = Raw::explicit(&server);
        assert_eq!(failing_upload(&mut raw, size), code, "{backend}");
        raw.expect("SIZE new", 550);
        raw.expect("NOOP", 200);
    }
    Cell::Yes
}

fn hash(bench: &mut Bench<'_>) -> Cell {
    bench.raw.store("STOR file", b"content");
    let text = bench.raw.expect("HASH file", 213).text();
    let sum = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73";
    assert!(text.contains(sum), "{text}");
    Cell::Yes
}

fn avbl(bench: &mut Bench<'_>) -> Cell {
    let reply = bench.raw.command("AVBL");
    if reply.code != 213 {
        return Cell::refused(&reply);
    }
    assert!(
        reply.text()[4..].trim().parse::<u64>().unwrap() > 0,
        "{reply}"
    );
    Cell::Yes
}

fn read_only(bench: &mut Bench<'_>) -> Cell {
    // There by configuration, whether the backend has the directory or not.
    bench.raw.expect("CWD /sealed", 250);
    if bench.place != Place::Memory {
        bench.store.put("alice/sealed/file", b"content");
        assert_eq!(bench.raw.retrieve("RETR /sealed/file"), b"content");
    }
    for line in [
        "DELE /sealed/file",
        "MKD /sealed/new",
        "RMD /sealed/file",
        "RNFR /sealed/file",
        "MFMT 20200102030405 /sealed/file",
    ] {
        let code = bench.raw.command(line).code;
        assert!([550, 502].contains(&code), "{line}: {code}");
    }
    for line in ["STOR /sealed/file", "STOR /sealed/new", "APPE /sealed/file"] {
        assert_eq!(bench.try_store(line, b"x").unwrap_err().code, 550, "{line}");
    }
    Cell::Yes
}

fn nested(bench: &mut Bench<'_>) -> Cell {
    bench.raw.store("STOR /other/deep/nested", b"inner");
    bench.raw.store("STOR /other/outer", b"outer");
    let names = bench.raw.names("NLST /other");
    assert!(names.contains(&"/other/deep".to_owned()), "{names:?}");
    assert_eq!(bench.raw.names("NLST /other/deep"), ["/other/deep/nested"]);
    for line in [
        "RMD /other/deep",
        "DELE /other/deep",
        "RNFR /other/deep",
        "MKD /other/deep",
    ] {
        bench.raw.expect(line, 550);
    }
    if bench.place != Place::Memory {
        let stored = bench.store.bytes("deep/alice/nested");
        assert_eq!(stored.as_deref(), Some(&b"inner"[..]));
    }
    bench.raw.expect("DELE /other/deep/nested", 250);
    bench.raw.expect("DELE /other/outer", 250);
    Cell::Yes
}
