//! Listings of a million keys: the first line comes at once, and memory does not grow with the count.

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::harness::{Raw, Server, Store};

/// An S3 server whose one directory `alice/` holds `count` keys, given in pages of a thousand, for the
/// life of the process.
fn pages(count: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || serve(stream, count));
        }
    });
    address
}

fn serve(stream: TcpStream, count: usize) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request).ok()? == 0 {
            return None;
        }
        let mut line = String::new();
        while line.trim() != "" || line.is_empty() {
            line.clear();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
        }
        let (status, body) = if request.starts_with("GET") && request.contains("list-type=2") {
            ("200 OK", page(&request, count))
        } else {
            ("404 Not Found", String::new())
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        writer.write_all(head.as_bytes()).ok()?;
        if !request.starts_with("HEAD") {
            writer.write_all(body.as_bytes()).ok()?;
        }
    }
}

/// One page; the token is the number of keys before it.
fn page(request: &str, count: usize) -> String {
    let value = |name: &str| {
        let (_, rest) = request.split_once(&format!("{name}="))?;
        rest.split(['&', ' ']).next().map(str::to_owned)
    };
    let number = |name: &str| value(name).and_then(|value| value.parse::<usize>().ok());
    let start = number("continuation-token").unwrap_or(0);
    let end = count.min(start + number("max-keys").unwrap_or(1000));
    let mut body = String::from("<?xml version=\"1.0\"?><ListBucketResult>");
    // Only the home has keys: other prefixes are looked for as well.
    let prefix = value("prefix").unwrap_or_default();
    let home = ["alice/", "alice%2F"].contains(&prefix.as_str());
    for key in if home { start..end } else { 0..0 } {
        write!(
            body,
            "<Contents><Key>alice/{key:07}</Key><Size>7</Size><ETag>\"e\"</ETag>\
             <LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
        )
        .unwrap();
    }
    let more = home && end < count;
    write!(body, "<IsTruncated>{more}</IsTruncated>").unwrap();
    if more {
        write!(body, "<NextContinuationToken>{end}</NextContinuationToken>").unwrap();
    }
    body + "</ListBucketResult>"
}

/// Lists `count` keys and gives the time to the first byte and the growth of memory in MiB.
fn list(count: usize) -> (Duration, u64) {
    let address = pages(count);
    let server = Server::with(&Store::Memory)
        .set(
            "/backends/main",
            json!({
                "type": "s3", "bucket": "b", "endpoint": format!("http://{address}"),
                "access_key_id": "id", "secret_access_key": "secret",
            }),
        )
        .start();
    let mut raw = Raw::explicit(&server);
    // Whatever a first listing allocates for good.
    raw.expect("MLST /", 250);
    let before = server.peak_memory_kib();
    let mut data = raw.open_data();
    let begin = Instant::now();
    raw.expect("MLSD", 150);
    data.handshake().unwrap();
    data.read_some();
    let first = begin.elapsed();
    let (mut lines, mut bytes) = (0, 0);
    // Counted as they come: the test must not hold them either.
    data.read_each(|chunk| {
        bytes += chunk.len();
        lines += chunk.split(|byte| *byte == b'\n').count() - 1;
    });
    raw.reply().expect(226);
    let grown = (server.peak_memory_kib() - before) / 1024;
    println!(
        "{count} keys: first byte after {first:?}, all after {:?}, memory grew by {grown} MiB",
        begin.elapsed()
    );
    // The first piece was read before counting began.
    assert!(
        lines + 100 >= count && lines <= count,
        "{lines} lines of {count}, {bytes} bytes"
    );
    (first, grown)
}

#[test]
fn fifty_thousand_keys_begin_at_once_in_little_memory() {
    let (first, grown) = list(50_000);
    assert!(first < Duration::from_secs(2), "{first:?}");
    assert!(grown < 64, "{grown} MiB");
}

/// The claim: a machine that does nothing else, an optimised build.
#[test]
#[ignore = "a minute of listing: run by ./tests/soak"]
fn a_million_keys_begin_at_once_in_little_memory() {
    let (first, grown) = list(1_000_000);
    assert!(first < Duration::from_millis(500), "{first:?}");
    assert!(grown < 64, "{grown} MiB");
}

/// On a real server: 20,000 keys in pages.
#[test]
#[ignore = "20,000 objects have to be made: run by ./tests/soak"]
fn twenty_thousand_objects_are_listed_completely() {
    let store = Store::s3();
    let names: Vec<String> = (0..20_000).map(|n| format!("{n:05}")).collect();
    let paths: Vec<String> = names.iter().map(|name| format!("alice/{name}")).collect();
    store.put_empty(&paths);
    let server = Server::start(&store);
    let mut raw = Raw::explicit(&server);
    let begin = Instant::now();
    assert_eq!(raw.names("NLST"), names);
    println!("20,000 objects listed in {:?}", begin.elapsed());
}
