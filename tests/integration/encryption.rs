//! What new objects are: encrypted as configured, of the storage class that is configured, and reached
//! over TLS that a private authority has signed.

use serde_json::{Value, json};

use crate::harness::{Builder, Raw, Server, Store, TlsFront, bytes, sha256};

/// The key of the customer, in base64.
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// One file of each kind: a single PUT and a multipart upload.
const SIZES: [(&str, usize); 2] = [("small", 1000), ("large", (11 << 20) + 5)];

fn content(name: &str) -> Vec<u8> {
    let (_, size) = SIZES.iter().find(|(known, _)| *known == name).unwrap();
    bytes(*size as u64, *size)
}

/// Uploads both files and a directory.
fn upload(raw: &mut Raw) {
    for (name, _) in SIZES {
        raw.store(&format!("STOR {name}"), &content(name));
        assert!(raw.retrieve(&format!("RETR {name}")) == content(name));
    }
    raw.expect("MKD d", 257);
}

/// Renames, appends and restarts both files; each must be whole after each step.
fn change(raw: &mut Raw) {
    for (name, size) in SIZES {
        let mut whole = content(name);
        raw.expect(&format!("RNFR {name}"), 350);
        raw.be_patient();
        raw.expect(&format!("RNTO {name}.renamed"), 250);
        assert!(
            raw.retrieve(&format!("RETR {name}.renamed")) == whole,
            "{name}"
        );
        let tail = bytes(7, 100_000);
        raw.store(&format!("APPE {name}.renamed"), &tail);
        whole.extend(&tail);
        assert!(
            raw.retrieve(&format!("RETR {name}.renamed")) == whole,
            "{name}"
        );
        raw.expect(&format!("REST {}", size / 2), 350);
        raw.store(&format!("STOR {name}.renamed"), &tail);
        whole.truncate(size / 2);
        whole.extend(&tail);
        assert!(
            raw.retrieve(&format!("RETR {name}.renamed")) == whole,
            "{name}"
        );
    }
}

fn encrypted(store: &Store, encryption: &Value) -> Builder {
    Server::with(store).set("/backends/main/encryption", encryption.clone())
}

/// What HEAD says of all objects, markers of directories included.
fn all_are(store: &Store, names: &[&str], expected: &Value) {
    for name in names {
        let head = store.head(&format!("alice/{name}"), None);
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&head[key], value, "{name}: {head}");
        }
    }
}

const UPLOADED: [&str; 3] = ["small", "large", "d/"];
const CHANGED: [&str; 2] = ["small.renamed", "large.renamed"];

#[test]
#[ignore = "needs the stand-ins: run by ./tests/behaviour"]
fn sse_s3() {
    let store = Store::moto();
    let server = encrypted(&store, &json!({"mode": "sse-s3"})).start();
    let mut raw = Raw::explicit(&server);
    let expected = json!({"ServerSideEncryption": "AES256"});
    upload(&mut raw);
    all_are(&store, &UPLOADED, &expected);
    change(&mut raw);
    all_are(&store, &CHANGED, &expected);
}

#[test]
#[ignore = "needs the stand-ins: run by ./tests/behaviour"]
fn sse_kms_with_each_object() {
    let store = Store::moto();
    let server = encrypted(&store, &json!({"mode": "sse-kms", "kms_key_id": "key"})).start();
    let mut raw = Raw::explicit(&server);
    let expected = json!({"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "key"});
    upload(&mut raw);
    all_are(&store, &UPLOADED, &expected);
    change(&mut raw);
    all_are(&store, &CHANGED, &expected);
}

/// The Ceph gateway encrypts for good, with a key of its testing backend.
#[test]
fn sse_kms() {
    let store = Store::s3();
    let encryption = json!({"mode": "sse-kms", "kms_key_id": "testkey"});
    let server = encrypted(&store, &encryption).start();
    let mut raw = Raw::explicit(&server);
    let expected = json!({"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "testkey"});
    upload(&mut raw);
    all_are(&store, &UPLOADED, &expected);
    change(&mut raw);
    all_are(&store, &CHANGED, &expected);
    assert_eq!(store.open_uploads(), [""; 0]);
}

/// A key that only we have: the gateway refuses everybody without it. Behind TLS of a private authority,
/// since the key goes along with each request.
#[test]
fn sse_c() {
    let store = Store::s3();
    let front = TlsFront::before(&store);
    let server = encrypted(&store, &json!({"mode": "sse-c", "customer_key": KEY}))
        .set("/backends/main/endpoint", front.endpoint.clone())
        .set("/backends/main/ca_file", front.authority_file().to_str())
        .set("/uploads", json!({"resume": "on"}))
        .start();
    let mut raw = Raw::explicit(&server);
    upload(&mut raw);
    for name in ["small", "large"] {
        let path = format!("alice/{name}");
        assert_eq!(
            store.head(&path, Some(KEY))["SSECustomerAlgorithm"],
            "AES256"
        );
        let without = store.try_head(&path, None);
        assert!(without.is_err(), "{without:?}");
    }
    // What is kept of an interrupted upload is encrypted with it as well.
    let whole = bytes(5, 7 << 20);
    let mut data = raw.begin_transfer("STOR resumed");
    data.write(&whole[..6 << 20]).unwrap();
    data.reset();
    raw.reply().expect(426);
    let size = raw.expect("SIZE resumed", 213).text();
    let kept: usize = size[4..].parse().unwrap();
    assert!((1..=6 << 20).contains(&kept), "{size}");
    raw.expect(&format!("REST {kept}"), 350);
    raw.store("STOR resumed", &whole[kept..]);
    assert!(raw.retrieve("RETR resumed") == whole);
    let digest = raw.expect("XSHA256 large", 250).text();
    assert!(digest.contains(&sha256(&content("large"))), "{digest}");
    change(&mut raw);
    assert_eq!(store.open_uploads(), [""; 0]);
}

/// A certificate of an authority that nobody knows ends no session and hangs nobody.
#[test]
fn tls_of_an_unknown_authority_is_refused() {
    let store = Store::s3();
    let front = TlsFront::before(&store);
    let server = Server::with(&store)
        .set("/backends/main/endpoint", front.endpoint.clone())
        .set("/timeouts/store_seconds", 4)
        .set("/timeouts/commit_seconds", 20)
        .start();
    let mut raw = Raw::explicit(&server);
    raw.be_patient();
    raw.expect("SIZE file", 451);
    raw.expect("NOOP", 200);
    let server = Server::with(&store)
        .set("/backends/main/endpoint", front.endpoint.clone())
        .set("/backends/main/ca_file", front.authority_file().to_str())
        .start();
    let mut raw = Raw::explicit(&server);
    raw.store("STOR file", b"content");
    assert_eq!(store.bytes("alice/file").as_deref(), Some(&b"content"[..]));
}

/// New objects get the configured class; renamed and appended ones keep theirs.
#[test]
#[ignore = "needs the stand-ins: run by ./tests/behaviour"]
fn storage_class() {
    let store = Store::moto();
    let server = Server::with(&store)
        .set("/backends/main/storage_class", "STANDARD_IA")
        .start();
    let mut raw = Raw::explicit(&server);
    upload(&mut raw);
    all_are(
        &store,
        &UPLOADED[..2],
        &json!({"StorageClass": "STANDARD_IA"}),
    );
    change(&mut raw);
    all_are(&store, &CHANGED, &json!({"StorageClass": "STANDARD_IA"}));
    for (name, size) in SIZES {
        let path = format!("alice/other {name}");
        store.put_in_class(&path, &bytes(1, size), "ONEZONE_IA");
        raw.expect(&format!("RNFR other {name}"), 350);
        raw.expect(&format!("RNTO moved {name}"), 250);
        let moved = format!("moved {name}");
        all_are(&store, &[&moved], &json!({"StorageClass": "ONEZONE_IA"}));
        raw.store(&format!("APPE {moved}"), b"more");
        all_are(&store, &[&moved], &json!({"StorageClass": "ONEZONE_IA"}));
    }
}
