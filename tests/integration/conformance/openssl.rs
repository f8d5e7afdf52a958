//! `openssl s_client`, for what rustls does not offer: old versions, one kind of certificate only,
//! renegotiation.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::SocketAddr,
    process::Stdio,
    time::Duration,
};

use crate::harness::run_with_input;

/// Connects to an implicit listener with `options`, says `input` and QUIT once connected, and gives
/// all that openssl printed.
pub(crate) fn s_client(address: SocketAddr, options: &[&str], input: &str) -> String {
    let mut said = tempfile::tempfile().unwrap();
    write!(said, "{input}QUIT\r\n").unwrap();
    std::io::Seek::rewind(&mut said).unwrap();
    let mut command = std::process::Command::new("openssl");
    command
        // Else the `Q` of QUIT, or the end of the input, ends the client before the server spoke.
        .args(["s_client", "-ign_eof", "-connect", &address.to_string()])
        .args(options);
    let (_, stdout, stderr) = run_with_input(command, said.into(), Duration::from_secs(30));
    format!("{stdout}{stderr}")
}

/// Asks this often for a renegotiation once greeted, and gives all messages until the connection ends.
pub(crate) fn renegotiate(address: SocketAddr, times: usize) -> String {
    let mut child = std::process::Command::new("openssl")
        .args([
            "s_client",
            "-tls1_2",
            "-msg",
            "-connect",
            &address.to_string(),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut said = String::new();
    // The greeting ends the first handshake.
    while !said.contains("\n220 ") {
        assert_ne!(output.read_line(&mut said).unwrap(), 0, "{said}");
    }
    for _ in 0..times {
        // The client may be gone by then.
        let _ = input.write_all(b"R\n");
    }
    output.read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    said
}
