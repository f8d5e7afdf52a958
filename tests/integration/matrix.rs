//! Every client × {explicit, implicit} × {TLS 1.2, TLS 1.3} × {local disk, S3} takes one whole tour
//! of the file commands; what is stored is read behind the server's back.

use std::fs;

use crate::harness::{
    Blocks, Client, Curl, Ftplib, Lftp, Link, Mode, Server, Store, Version, bytes, same_bytes,
};

/// Names that break clients and servers that encode, decode or quote once too often.
const NAMES: [&str; 7] = [
    "plain.txt",
    "with two spaces.txt",
    "über-日本語-🚢.txt",
    "100%41.txt",
    "a+b.txt",
    "hash#tag.txt",
    "zero",
];

fn tour(client: &dyn Client, mode: Mode, version: Version, store: &Store) {
    let server = Server::start(store);
    let link = Link::new(&server, mode, version);
    let scratch = server.scratch();
    let (source, copy) = (scratch.join("source"), scratch.join("copy"));

    // Uploads and downloads, each compared with the stored bytes.
    for (seed, name) in (1..).zip(NAMES) {
        let content = if name == "zero" {
            Vec::new()
        } else {
            bytes(seed, 70_000 + name.len())
        };
        fs::write(&source, &content).unwrap();
        client.upload(&link, &source, name).expect(226);
        assert_eq!(
            store.bytes(&format!("alice/{name}")),
            Some(content),
            "stored as {name}"
        );
        client.download(&link, name, &copy).expect(226);
        assert!(
            same_bytes(&source, &copy).unwrap(),
            "downloaded from {name}"
        );
        fs::remove_file(&copy).unwrap();
    }
    let mut all = NAMES.map(str::to_owned).to_vec();
    all.sort();
    assert_eq!(client.names(&link, ""), all);

    // An overwrite replaces the whole object.
    fs::write(&source, b"short").unwrap();
    client.upload(&link, &source, "plain.txt").expect(226);
    assert_eq!(store.bytes("alice/plain.txt"), Some(b"short".to_vec()));

    // A directory, a file in it, a rename into it and one inside it.
    client.make_directory(&link, "new dir").expect(257);
    assert_eq!(client.names(&link, "new dir"), Vec::<String>::new());
    client
        .upload(&link, &source, "new dir/inner #1.txt")
        .expect(226);
    client
        .rename(&link, "a+b.txt", "new dir/moved + renamed.txt")
        .expect(250);
    client
        .rename(&link, "new dir/inner #1.txt", "new dir/inner %31.txt")
        .expect(250);
    assert_eq!(
        client.names(&link, "new dir"),
        ["inner %31.txt", "moved + renamed.txt"]
    );
    assert_eq!(
        store.bytes("alice/new dir/inner %31.txt"),
        Some(b"short".to_vec())
    );
    let moved = bytes(5, 70_000 + "a+b.txt".len());
    assert_eq!(
        store.bytes("alice/new dir/moved + renamed.txt"),
        Some(moved)
    );
    assert_eq!(store.bytes("alice/a+b.txt"), None);

    // Everything away again.
    for name in NAMES.into_iter().filter(|name| *name != "a+b.txt") {
        client.delete(&link, name).expect(250);
    }
    for name in ["new dir/inner %31.txt", "new dir/moved + renamed.txt"] {
        client.delete(&link, name).expect(250);
    }
    client.remove_directory(&link, "new dir").expect(250);
    assert_eq!(client.names(&link, ""), Vec::<String>::new());
    store.assert_holds(&[]);
    assert!(store.directories().is_empty(), "{:?}", store.directories());
}

macro_rules! matrix {
    ($($module:ident: $client:ident;)+) => {$(
        mod $module {
            use crate::harness::{Mode, Store, Version};

            #[test]
            fn explicit_tls12_local() {
                super::tour(&super::$client, Mode::Explicit, Version::Tls12, &Store::local());
            }
            #[test]
            fn explicit_tls12_s3() {
                super::tour(&super::$client, Mode::Explicit, Version::Tls12, &Store::s3());
            }
            #[test]
            fn explicit_tls13_local() {
                super::tour(&super::$client, Mode::Explicit, Version::Tls13, &Store::local());
            }
            #[test]
            fn explicit_tls13_s3() {
                super::tour(&super::$client, Mode::Explicit, Version::Tls13, &Store::s3());
            }
            #[test]
            fn implicit_tls12_local() {
                super::tour(&super::$client, Mode::Implicit, Version::Tls12, &Store::local());
            }
            #[test]
            fn implicit_tls12_s3() {
                super::tour(&super::$client, Mode::Implicit, Version::Tls12, &Store::s3());
            }
            #[test]
            fn implicit_tls13_local() {
                super::tour(&super::$client, Mode::Implicit, Version::Tls13, &Store::local());
            }
            #[test]
            fn implicit_tls13_s3() {
                super::tour(&super::$client, Mode::Implicit, Version::Tls13, &Store::s3());
            }
        }
    )+};
}

matrix! {
    curl: Curl;
    lftp: Lftp;
    ftplib: Ftplib;
}

/// 300 MiB up and down with curl; the server must not hold the file in memory.
fn large(mode: Mode, version: Version, store: &Store) {
    let server = Server::start(store);
    let link = Link::new(&server, mode, version);
    let (source, copy) = (
        server.scratch().join("source"),
        server.scratch().join("copy"),
    );
    Blocks::new(300, 300)
        .write_to(&mut fs::File::create(&source).unwrap())
        .unwrap();
    Curl.upload(&link, &source, "large").expect(226);
    let stored = store.fetch("alice/large").expect("the object");
    assert!(same_bytes(&source, &stored).unwrap(), "stored bytes differ");
    Curl.download(&link, "large", &copy).expect(226);
    assert!(
        same_bytes(&source, &copy).unwrap(),
        "downloaded bytes differ"
    );
    let peak = server.peak_memory_kib() >> 10;
    assert!(peak < 150, "{peak} MiB were resident for a file of 300 MiB");
}

mod large_file {
    use super::large;
    use crate::harness::{Mode, Store, Version};

    #[test]
    fn explicit_local() {
        large(Mode::Explicit, Version::Tls13, &Store::local());
    }

    #[test]
    fn implicit_local() {
        large(Mode::Implicit, Version::Tls12, &Store::local());
    }

    #[test]
    fn explicit_s3() {
        large(Mode::Explicit, Version::Tls12, &Store::s3());
    }

    #[test]
    fn implicit_s3() {
        large(Mode::Implicit, Version::Tls13, &Store::s3());
    }
}

mod ipv6 {
    use std::fs;

    use super::{Client, Curl, Ftplib, Lftp, Link, Mode, Server, Store, Version};

    /// EPSV is the only passive command there (RFC 2428), which every client knows.
    #[test]
    fn every_client_uploads_over_ipv6() {
        let clients: [(&str, &dyn Client); 3] =
            [("curl", &Curl), ("lftp", &Lftp), ("ftplib", &Ftplib)];
        let store = Store::local();
        let server = Server::start(&store);
        let source = server.scratch().join("source");
        fs::write(&source, b"over six").unwrap();
        for (name, client) in clients {
            for mode in [Mode::Explicit, Mode::Implicit] {
                let link = Link::new(&server, mode, Version::Tls13).on_ipv6(&server);
                let file = format!("{name} {mode:?}");
                client.upload(&link, &source, &file).expect(226);
                assert_eq!(
                    store.bytes(&format!("alice/{file}")),
                    Some(b"over six".to_vec())
                );
            }
        }
    }
}
