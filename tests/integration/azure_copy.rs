//! Renames on Azure: in blocks that the service copies by itself, which Azurite cannot.
//! `tests/peers/azure_copy.py` adds that request to it, and Azure's chunked answers.

use crate::harness::{Peer, Raw, Server, Store, bytes};

#[test]
#[ignore = "needs the stand-ins: run by ./tests/behaviour"]
fn azure_copies_inside_the_account() {
    let store = Store::azblob();
    let peer = Peer::start("azure_copy.py", &[&store.credentials()]);
    let account = store.endpoint();
    let account = account.rsplit('/').next().unwrap();
    let server = Server::with(&store)
        .set(
            "/backends/main/endpoint",
            format!("http://{account}.blob.example"),
        )
        .environment("HTTP_PROXY", &peer.url())
        // Nothing may be read and written again.
        .set("/backends/main/rewrite_limit_bytes", 0)
        .start();
    let mut raw = Raw::explicit(&server);
    for (name, size) in [("small", 1000), ("large", 11 << 20)] {
        let content = bytes(1, size);
        raw.store(&format!("STOR {name}"), &content);
        let before = peer.record().len();
        raw.expect(&format!("RNFR {name}"), 350);
        raw.be_patient();
        raw.expect(&format!("RNTO {name} again"), 250);
        assert_eq!(moved(&peer.record()[before..]), 0, "{name}: bytes of it");
        assert_eq!(raw.command(&format!("SIZE {name}")).code, 550);
        assert!(raw.retrieve(&format!("RETR {name} again")) == content);
    }
}

/// Bytes in bodies that are blocks or blobs; at least one block must have been copied.
fn moved(record: &str) -> usize {
    assert!(record.contains("PUT copy-block 0"), "{record}");
    let lines = record.lines().filter(|line| !line.contains(" blocklist "));
    lines
        .map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap())
        .sum()
}
