//! A proxy in front of a store that passes every look on and refuses every change.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

/// Starts one before `upstream` (host and port) that answers changes with this status, for the life of
/// the process.
pub(super) fn start(upstream: String, status: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, upstream) = (stream.unwrap(), upstream.clone());
            thread::spawn(move || serve(stream, &upstream, status));
        }
    });
    address
}

/// One request for each connection.
fn serve(mut stream: TcpStream, upstream: &str, status: &str) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (mut head, mut length, mut line) = (String::new(), 0, String::new());
    loop {
        line.clear();
        if !matches!(reader.read_line(&mut line), Ok(1..)) {
            return None;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if !lower.starts_with("connection:") && line.trim() != "" {
            head.push_str(&line);
        }
        if line.trim().is_empty() {
            break;
        }
    }
    if head.starts_with("GET ") || head.starts_with("HEAD ") {
        let mut store = TcpStream::connect(upstream).ok()?;
        store
            .write_all(format!("{head}Connection: close\r\n\r\n").as_bytes())
            .ok()?;
        std::io::copy(&mut store, &mut stream).ok()?;
        return Some(());
    }
    std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink()).ok()?;
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).ok()
}
