//! The switch to TLS is one step. In libunftp 0.24 it races with the read loop: 56 of 400 handshakes
//! fail on a busy machine.

use std::{
    hint,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use crate::harness::{Raw, Server, Store, Version};

#[test]
fn two_thousand_auth_handshakes_on_a_busy_machine_are_never_lost() {
    none_of(2_000);
}

/// `./tests/handshakes` runs it and prints what it took.
#[test]
#[ignore = "minutes long: run by ./tests/handshakes"]
fn ten_thousand_auth_handshakes_on_a_busy_machine_are_never_lost() {
    none_of(10_000);
}

/// No handshake of `count` is lost.
fn none_of(count: usize) {
    let start = Instant::now();
    let store = Store::local();
    let server = Server::start(&store);
    let lost = busy(2, || {
        let tls = [Version::Tls12, Version::Tls13].map(|version| server.tls(version).forgetful());
        let mut lost = Vec::new();
        for number in 0..count {
            let mut raw = Raw::clear(server.explicit);
            raw.expect("AUTH TLS", 234);
            let end = raw
                .start_tls(&tls[number % 2])
                .and_then(|()| raw.send(b"NOOP\r\nQUIT\r\n"))
                .and_then(|()| Ok((raw.try_reply()?.code, raw.try_reply()?.code)));
            match end {
                Ok((200, 221)) => {}
                other => lost.push((number, other)),
            }
        }
        lost
    });
    println!(
        "{count} AUTH handshakes, {} lost, {:.0?}",
        lost.len(),
        start.elapsed()
    );
    assert!(lost.is_empty(), "{} of {count}: {lost:?}", lost.len());
}

/// basic-ftp ends an empty upload after the 150 even where its handshake is not done. So the 150 waits for
/// every handshake that began before the command, however late the server's tasks run.
#[test]
fn hello_that_came_before_the_command_holds_the_150_back() {
    let store = Store::local();
    let server = Server::start(&store);
    let early = busy(6, || {
        let mut raw = Raw::explicit(&server);
        let mut early = 0;
        for _ in 0..500 {
            let address = raw.epsv();
            let mut data = raw.connect_data(address);
            data.say_hello();
            // This handshake cannot end: the only reply is that it failed.
            data.send_fin();
            let first = raw.command("STOR file").code;
            if first == 150 {
                early += 1;
                raw.reply().expect(426);
            } else {
                assert_eq!(first, 426);
            }
        }
        early
    });
    assert_eq!(early, 0, "replies of 500 that came before the handshake");
    store.assert_holds(&[]);
}

/// Runs `body` beside this many threads that do nothing as fast as they can.
fn busy<T>(threads: usize, body: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    hint::spin_loop();
                }
            });
        }
        // Ends the busy threads however the body ends; the scope waits for them.
        let _stop = Stop(&done);
        body()
    })
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
