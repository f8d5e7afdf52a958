//! The end of a server under load, and what systemd hears of its life.

use std::{
    net::TcpStream,
    os::unix::net::UnixDatagram,
    time::{Duration, Instant},
};

use crate::harness::{
    End, Raw, Server, Store, Version, begin_downloads, begin_uploads, bytes, on_each_store, until,
};

on_each_store!(drain_lets_50_transfers_finish_whole);

fn drain_lets_50_transfers_finish_whole(store: &Store) {
    let content = bytes(11, 200_000);
    store.put("alice/down", &content);
    let mut server = Server::start(store);
    let mut uploads = begin_uploads(&server, 40, &content[..90_000]);
    let downloads = begin_downloads(&server, 10);
    let mut waiting = Raw::secured(&server, &server.tls(Version::Tls13));
    let mut idle = Raw::explicit(&server);

    let began = Instant::now();
    server.terminate();
    until(
        Duration::from_secs(10),
        "new connections are refused",
        || match TcpStream::connect(server.explicit) {
            Ok(_) => Err("it still accepts".to_owned()),
            Err(_) => Ok(()),
        },
    );
    // Neither who is half way through a login nor who is idle goes on.
    for raw in [&mut waiting, &mut idle] {
        let replies = raw.until_closed(Duration::from_secs(10));
        assert_eq!(replies.len(), 1, "{replies:?}");
        assert_eq!(replies[0].code, 421);
    }
    for (_, data) in &mut uploads {
        data.write(&content[90_000..]).unwrap();
    }
    let mut stored = vec!["alice/down".to_owned()];
    for (index, (mut raw, data)) in uploads.into_iter().enumerate() {
        assert_eq!(data.finish(), End::CloseNotify);
        raw.reply().expect(226);
        stored.push(format!("alice/up{index}"));
    }
    for (mut raw, mut data) in downloads {
        assert_eq!(data.read_all(), (content.clone(), End::CloseNotify));
        raw.reply().expect(226);
        let replies = raw.until_closed(Duration::from_secs(10));
        assert_eq!(replies[0].code, 421);
    }
    assert_eq!(server.wait(Duration::from_secs(20)).code(), Some(0));
    assert!(
        began.elapsed() < Duration::from_mins(1),
        "the drain deadline"
    );
    let stored: Vec<_> = stored
        .iter()
        .map(|name| (name.as_str(), content.as_slice()))
        .collect();
    store.assert_holds(&stored);
}

#[test]
fn second_signal_ends_the_drain_at_once() {
    let store = Store::local();
    let mut server = Server::with(&store)
        .set("/timeouts/drain_seconds", 600)
        .start();
    let mut raw = Raw::explicit(&server);
    let mut data = raw.begin_transfer("STOR file");
    data.write(b"some").unwrap();
    server.terminate();
    until(Duration::from_secs(10), "the drain has begun", || {
        let log = server.log();
        if log.iter().any(|line| line.contains("draining")) {
            return Ok(());
        }
        Err(log.join("\n"))
    });
    server.terminate();
    assert_eq!(server.wait(Duration::from_secs(20)).code(), Some(0));
    store.assert_holds(&[]);
}

/// What the server told its service manager, until a message holds `word`.
#[track_caller]
fn hear(socket: &UnixDatagram, word: &str) -> Vec<String> {
    let mut heard = Vec::new();
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        let mut message = [0; 4096];
        if let Ok(length) = socket.recv(&mut message) {
            heard.push(String::from_utf8_lossy(&message[..length]).into_owned());
            if heard.iter().any(|message| message.contains(word)) {
                return heard;
            }
        }
    }
    panic!("{word} expected, heard {heard:?}");
}

#[test]
fn systemd_hears_of_readiness_life_reload_and_end() {
    let store = Store::local();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let mut server = Server::with(&store)
        .environment("NOTIFY_SOCKET", path.to_str().unwrap())
        .environment("WATCHDOG_USEC", "400000")
        .start();
    hear(&socket, "READY=1");
    hear(&socket, "WATCHDOG=1");
    hear(&socket, "WATCHDOG=1");
    server.hang_up();
    let heard = hear(&socket, "RELOADING=1");
    let reloading = heard.last().unwrap();
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    hear(&socket, "READY=1");
    // The watchdog is fed while the last transfer runs, however long that takes.
    let mut raw = Raw::explicit(&server);
    let mut data = raw.begin_transfer("STOR file");
    data.write(b"some").unwrap();
    server.terminate();
    hear(&socket, "STOPPING=1");
    hear(&socket, "WATCHDOG=1");
    assert_eq!(data.finish(), End::CloseNotify);
    raw.reply().expect(226);
    assert_eq!(server.wait(Duration::from_secs(20)).code(), Some(0));
}

#[test]
fn socket_from_systemd_is_served() {
    // What systemd does: binds, listens, hands over descriptor 3.
    const HAND_OVER: &str = "
import os, socket, sys
handed = socket.socket()
handed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
handed.bind(('127.0.0.1', int(sys.argv[1])))
handed.listen()
if handed.fileno() != 3:
    os.dup2(handed.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
";
    let store = Store::local();
    let port = *Server::free_ports().start();
    let server = Server::with(&store)
        .set("/listeners/0/address", format!("127.0.0.1:{port}"))
        .launched_by(&["python3", "-c", HAND_OVER, &port.to_string()])
        .start();
    // Had it bound the address itself, it would have met the socket that is there already.
    assert_eq!(server.explicit.port(), port);
    let mut raw = Raw::explicit(&server);
    raw.store("STOR file", b"over a socket from systemd");
    let mut other = Raw::silent(server.implicit);
    other.start_tls(&server.tls(Version::Tls13)).unwrap();
    other.reply().expect(220);
    store.assert_holds(&[("alice/file", b"over a socket from systemd")]);
}
