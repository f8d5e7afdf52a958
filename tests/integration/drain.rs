//! The end of a server under load, and what systemd hears of its life.

use std::{
    net::TcpStream,
    os::unix::net::UnixDatagram,
    time::{Duration, Instant},
};

use crate::harness::{
    End, Raw, Server, Store, Version, begin_downloads, begin_uploads, bytes, http_get,
    on_each_store, until,
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
    refused(&server);
    // Neither who is silent half way through a login nor who is idle goes on.
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

/// The listeners are closed.
#[track_caller]
fn refused(server: &Server) {
    until(
        Duration::from_secs(10),
        "connections are refused",
        || match TcpStream::connect(server.explicit) {
            Ok(_) => Err("it still accepts".to_owned()),
            Err(_) => Ok(()),
        },
    );
}

#[test]
fn who_had_just_connected_uploads_a_file_during_the_drain() {
    let store = Store::local();
    let content = bytes(12, 100_000);
    let mut server = Server::start(&store);
    let mut greeted = Raw::clear(server.explicit);
    let mut secured = Raw::secured(&server, &server.tls(Version::Tls13));
    // In the kernel's queue: for its client it is a connection, for the server nothing yet.
    server.freeze();
    let mut queued = Raw::silent(server.implicit);
    server.terminate();
    server.thaw();
    refused(&server);

    let tls = server.tls(Version::Tls13);
    greeted.expect("AUTH TLS", 234);
    greeted.start_tls(&tls).unwrap();
    queued.start_tls(&tls).unwrap();
    queued.use_for_data(&tls);
    queued.reply().expect(220);
    for (raw, name) in [(&mut greeted, "greeted"), (&mut secured, "secured")] {
        raw.protect();
        raw.login("alice");
        raw.store(&format!("STOR {name}"), &content);
    }
    queued.login("alice");
    queued.store("STOR queued", &content);
    greeted.expect("QUIT", 221);
    for raw in [&mut secured, &mut queued] {
        let replies = raw.until_closed(Duration::from_secs(10));
        assert_eq!(replies.len(), 1, "{replies:?}");
        assert_eq!(replies[0].code, 421);
    }
    assert_eq!(server.wait(Duration::from_secs(20)).code(), Some(0));
    store.assert_holds(&[
        ("alice/greeted", &content),
        ("alice/queued", &content),
        ("alice/secured", &content),
    ]);
}

#[test]
fn who_never_pauses_is_told_between_two_files_when_the_grace_is_over() {
    let store = Store::local();
    let mut server = Server::with(&store)
        .set("/timeouts/drain_grace_seconds", 1)
        .start();
    let mut busy = Raw::explicit(&server);
    let mut awaited = Raw::explicit(&server);
    server.terminate();
    refused(&server);
    let began = Instant::now();
    let mut stored = Vec::new();
    let last = loop {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "it still goes on"
        );
        // A port that was promised is served, the grace may be over or not.
        let reply = busy.command("EPSV");
        if reply.code == 421 {
            break reply;
        }
        let port = reply.text().split('|').nth(3).unwrap().parse().unwrap();
        let mut data = busy.connect_data((server.explicit.ip(), port).into());
        busy.send(format!("STOR file{}\r\n", stored.len()).as_bytes())
            .unwrap();
        busy.reply().expect(150);
        data.handshake().unwrap();
        data.write(b"whole").unwrap();
        assert_eq!(data.finish(), End::CloseNotify);
        busy.reply().expect(226);
        stored.push(format!("alice/file{}", stored.len()));
    };
    assert!(last.text().contains("shutting down"), "{last}");
    assert!(!stored.is_empty());
    let replies = awaited.until_closed(Duration::from_secs(10));
    assert_eq!(replies[0].code, 421);
    assert_eq!(server.wait(Duration::from_secs(20)).code(), Some(0));
    let stored: Vec<_> = stored.iter().map(|name| (&**name, &b"whole"[..])).collect();
    store.assert_holds(&stored);
}

#[test]
fn while_balancers_learn_that_it_goes_everybody_is_served() {
    let store = Store::local();
    let mut server = Server::with(&store)
        .set("/timeouts/drain_delay_seconds", 600)
        .start();
    let mut idle = Raw::explicit(&server);
    server.terminate();
    until(
        Duration::from_secs(10),
        "it is not ready",
        || match http_get(server.admin, "/readyz").0 {
            503 => Ok(()),
            status => Err(status.to_string()),
        },
    );
    let mut new = Raw::explicit(&server);
    new.store("STOR file", b"whole");
    idle.expect("NOOP", 200);
    // A second signal does not wait for anybody.
    server.terminate();
    assert_eq!(server.wait(Duration::from_secs(20)).code(), Some(0));
    store.assert_holds(&[("alice/file", b"whole")]);
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
    // At once: a service manager that does not listen, as this one from here on, holds it up.
    raw.expect("QUIT", 221);
    assert_eq!(server.wait(Duration::from_secs(20)).code(), Some(0));
}

#[test]
fn socket_from_systemd_is_served() {
    let store = Store::local();
    let port = *Server::free_ports().start();
    let server = Server::with(&store)
        .set("/listeners/0/address", format!("127.0.0.1:{port}"))
        .handed_a_socket("127.0.0.1", port)
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
