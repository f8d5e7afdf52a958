//! The switch to TLS is one step. In libunftp 0.24 it races with the read loop: 56 of 400 handshakes
//! fail on a busy machine.

use std::{
    hint,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use crate::harness::{Raw, Server, Store, Version};

#[test]
fn two_thousand_auth_handshakes_on_a_busy_machine_are_never_lost() {
    let store = Store::local();
    let server = Server::start(&store);
    let done = AtomicBool::new(false);
    let lost = thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    hint::spin_loop();
                }
            });
        }
        // Ends the busy threads however the body ends; the scope waits for them.
        let _stop = Stop(&done);
        let tls = [Version::Tls12, Version::Tls13].map(|version| server.tls(version).forgetful());
        let mut lost = Vec::new();
        for number in 0..2_000 {
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
    assert!(lost.is_empty(), "{} of 2,000: {lost:?}", lost.len());
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
