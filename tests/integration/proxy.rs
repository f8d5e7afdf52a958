//! The PROXY protocol: whose address counts, who may say so, and that not a byte behind it is lost.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Data, End, Raw, Server, Store, Version, until};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V1: &[u8] = b"PROXY TCP4 192.0.2.7 203.0.113.5 40000 21\r\n";
const V1_ELSEWHERE: &[u8] = b"PROXY TCP4 192.0.2.8 203.0.113.5 40000 21\r\n";

/// As [`V1`] says it, with a field of a vendor behind the addresses.
fn v2() -> Vec<u8> {
    let addresses = [192, 0, 2, 7, 203, 0, 113, 5, 0x9C, 0x40, 0, 21];
    let vendor = [0xEA, 0, 3, b'a', b'b', b'c'];
    [SIGNATURE, &[0x21, 0x11, 0, 18], &addresses, &vendor].concat()
}

fn v2_local() -> Vec<u8> {
    [SIGNATURE, &[0x20, 0, 0, 0]].concat()
}

fn proxied(store: &Store, data: &str, trusted: &Value) -> Server {
    let proxy = json!({
        "control": "required", "data": data, "trusted_networks": trusted, "header_seconds": 1,
    });
    Server::with(store)
        .set_listeners("proxy_protocol", &proxy)
        .set_listeners("passive", &json!({"ports": "0", "address": "from_proxy"}))
        .start()
}

fn behind(header: &[u8], server: &Server) -> Raw {
    let mut raw = Raw::silent(server.explicit);
    raw.send(header).unwrap();
    raw.reply().expect(220);
    raw.expect("AUTH TLS", 234);
    raw.start_tls(&server.tls(Version::Tls13)).unwrap();
    raw.protect();
    raw.login("alice");
    raw
}

#[track_caller]
fn assert_logged(server: &Server, text: &str) {
    until(Duration::from_secs(5), text, || {
        let log = server.log();
        let found = log.iter().any(|line| line.contains(text));
        found.then_some(()).ok_or_else(|| "not logged".to_owned())
    });
}

#[test]
fn headers_of_both_versions_name_the_client_on_every_kind_of_listener() {
    let store = Store::local();
    let server = proxied(&store, "off", &json!(["127.0.0.1"]));
    let v6 = b"PROXY TCP6 2001:db8::7 2001:db8::5 40000 21\r\n".to_vec();
    for (header, client) in [
        (V1.to_vec(), "192.0.2.7:40000"),
        (v2(), "192.0.2.7:40000"),
        (v6, "[2001:db8::7]:40000"),
    ] {
        let mut raw = behind(&header, &server);
        raw.expect("PWD", 257);
        raw.expect("QUIT", 221);
        assert_logged(&server, client);
        let mut raw = Raw::silent(server.implicit);
        raw.send(&header).unwrap();
        raw.start_tls(&server.tls(Version::Tls12)).unwrap();
        raw.reply().expect(220);
        raw.login("alice");
    }
}

#[test]
fn header_in_pieces_and_header_with_commands_behind_it_both_work() {
    let store = Store::local();
    let server = proxied(&store, "off", &json!(["127.0.0.0/8"]));
    for header in [V1.to_vec(), v2()] {
        let mut raw = Raw::silent(server.explicit);
        for byte in &header {
            raw.send(&[*byte]).unwrap();
        }
        raw.reply().expect(220);
        let mut raw = Raw::silent(server.explicit);
        raw.send(&[&header[..], b"FEAT\r\nNOOP\r\n"].concat())
            .unwrap();
        raw.reply().expect(220);
        raw.reply().expect(211);
        raw.reply().expect(200);
    }
}

#[test]
fn header_from_an_untrusted_network_ends_the_connection() {
    let store = Store::local();
    let server = proxied(&store, "off", &json!(["10.0.0.0/8", "fd00::/8"]));
    for start in [V1, b"USER alice\r\n"] {
        let mut raw = Raw::silent(server.explicit);
        let _ = raw.send(start);
        assert_eq!(raw.until_closed(Duration::from_secs(5)), []);
    }
    assert_logged(&server, "from outside the trusted networks");
}

#[test]
fn connection_without_a_whole_header_is_closed() {
    let store = Store::local();
    let server = proxied(&store, "off", &json!(["127.0.0.1"]));
    let endless = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat();
    let huge = [SIGNATURE, &[0x21, 0x11, 0xFF, 0xFF]].concat();
    let datagram = [SIGNATURE, &[0x21, 0x12, 0, 12], &[1; 12]].concat();
    for start in [
        &b""[..],
        b"PROXY TCP4 192.0.2.7",
        b"USER alice\r\nNOOP\r\n",
        b"PROXY TCP4 192.0.2.7 nonsense 1 2\r\n",
        &endless,
        &huge,
        &datagram,
    ] {
        let mut raw = Raw::silent(server.explicit);
        let _ = raw.send(start);
        assert_eq!(raw.until_closed(Duration::from_secs(5)), [], "{start:?}");
    }
}

#[test]
fn health_check_of_the_balancer_keeps_its_own_address() {
    let store = Store::local();
    let server = proxied(&store, "off", &json!(["127.0.0.1"]));
    for header in [v2_local(), b"PROXY UNKNOWN\r\n".to_vec()] {
        let mut raw = behind(&header, &server);
        let text = raw.expect("PASV", 227).text();
        assert!(text.contains("127,0,0,1,"), "{text}");
        raw.store("STOR file", b"straight");
    }
    store.assert_holds(&[("alice/file", b"straight")]);
}

/// The client's address is the header's: for the 227, for the bound per address, for data.
#[test]
fn address_of_the_header_counts_everywhere() {
    let store = Store::local();
    let proxy = json!({
        "control": "required", "data": "required", "trusted_networks": ["127.0.0.1"],
        "header_seconds": 1,
    });
    let server = Server::with(&store)
        .set_listeners("proxy_protocol", &proxy)
        .set_listeners("passive", &json!({"ports": "0", "address": "from_proxy"}))
        .set("/limits/connections_per_address", 1)
        .start();
    let mut raw = behind(V1, &server);
    let mut second = Raw::silent(server.explicit);
    second.send(V1).unwrap();
    second.reply().expect(421);
    behind(V1_ELSEWHERE, &server);
    let text = raw.expect("PASV", 227).text();
    assert!(text.contains("203,0,113,5,"), "{text}");

    let address = raw.epsv();
    // Silent, without header, of another client, the balancer's own: all closed, none in the way.
    let silent = Data::connect(address, None);
    for start in [&b"\x16\x03\x01 no header"[..], V1_ELSEWHERE, &v2_local()] {
        let mut stray = Data::connect(address, None);
        stray.send_raw(start).unwrap();
        stray.wait_closed(Duration::from_secs(5));
    }
    let mut data = raw.connect_data(address);
    data.send_raw(&v2()).unwrap();
    raw.expect("STOR file", 150);
    data.handshake().unwrap();
    data.write(b"through the balancer").unwrap();
    assert_eq!(data.finish(), End::CloseNotify);
    raw.reply().expect(226);
    drop(silent);
    store.assert_holds(&[("alice/file", b"through the balancer")]);
}

/// Control through the balancer, data past it: the client's own address must be the header's.
#[test]
fn data_past_the_balancer_comes_from_the_address_in_the_header() {
    let store = Store::local();
    let server = proxied(&store, "off", &json!(["127.0.0.1"]));
    let header = b"PROXY TCP4 127.0.0.1 203.0.113.5 40000 21\r\n";
    let mut raw = behind(header, &server);
    raw.store("STOR file", b"past the balancer");
    store.assert_holds(&[("alice/file", b"past the balancer")]);
    // The balancer's own address is no longer the client's.
    let mut raw = behind(V1, &server);
    let address = raw.epsv();
    Data::connect(address, None).wait_closed(Duration::from_secs(5));
}
