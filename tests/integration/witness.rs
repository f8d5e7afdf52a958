//! A test that looks for litter proves nothing if it cannot see any.

use std::{
    io::{ErrorKind, Read},
    net::TcpListener,
    time::Duration,
};

use crate::harness::{Data, Store, bytes, on_each_store};

on_each_store!(stored_bytes_are_seen_as_they_are, litter_is_seen);

fn stored_bytes_are_seen_as_they_are(store: &Store) {
    let content = bytes(1, 100_000);
    let names = ["alice/ü + 100% #1.txt", "alice/a/b/c", "reader/zero"];
    store.put(names[0], &content);
    store.put(names[1], b"below");
    store.put(names[2], b"");
    store.assert_holds(&[(names[0], &content), (names[1], b"below"), (names[2], b"")]);
    assert_eq!(store.bytes("alice/missing"), None);
}

fn litter_is_seen(store: &Store) {
    store.make_home("alice");
    assert!(store.files().is_empty() && store.open_uploads().is_empty());
    store.leave_litter();
    assert_eq!(store.files().len() + store.open_uploads().len(), 1);
}

#[test]
fn reset_arrives_as_a_reset_and_fin_as_the_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let arriving = || {
        let (mut stream, _) = listener.accept().unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream.read(&mut [0; 16]).map_err(|error| error.kind())
    };
    Data::connect(address, None).reset();
    assert_eq!(arriving(), Err(ErrorKind::ConnectionReset));
    let data = Data::connect(address, None);
    data.send_fin();
    assert_eq!(arriving(), Ok(0));
}
