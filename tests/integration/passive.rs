//! Passive ports: how many one user may have, that they come back, and the address of the 227.

use std::{net::TcpStream, ops::RangeInclusive, time::Duration};

use serde_json::{Value, json};

use crate::harness::{Data, Kubernetes, Raw, Server, Store, Version, http_get, until};

fn server(store: &Store, ports: &RangeInclusive<u16>, per_user: usize) -> Server {
    let ports = format!("{}-{}", ports.start(), ports.end());
    with_passive(store, json!({"ports": ports, "ports_per_user": per_user}))
}

fn with_passive(store: &Store, passive: Value) -> Server {
    Server::with(store)
        .set("/listeners/0/passive", passive)
        .start()
}

/// The value of a sample on the metrics page; 0 where there is none.
fn metric(server: &Server, sample: &str) -> u64 {
    let (_, page) = http_get(server.admin, "/metrics");
    let line = page.lines().find_map(|line| line.strip_prefix(sample));
    line.map_or(0, |value| value.trim().parse().unwrap())
}

#[track_caller]
fn wait_for(server: &Server, sample: &str, expected: u64) {
    until(Duration::from_secs(10), sample, || {
        let value = metric(server, sample);
        (value == expected)
            .then_some(())
            .ok_or_else(|| format!("{value} instead of {expected}"))
    });
}

const FREE: &str = "causeway_passive_ports_free{listener=\"explicit\"}";

/// E18, S42: one user's sessions take their share; another user's get in.
#[test]
fn e18_share_of_one_user_leaves_ports_for_others() {
    let store = Store::local();
    let server = server(&store, &Server::free_ports(), 2);
    assert_eq!(metric(&server, FREE), 10);
    let mut first = Raw::explicit(&server);
    let mut second = Raw::explicit(&server);
    let mut third = Raw::explicit(&server);
    first.epsv();
    second.pasv();
    wait_for(&server, FREE, 8);
    third.send(b"EPSV\r\n").unwrap();
    third.reply_within(Duration::from_secs(1)).expect(425);
    let refusals = "causeway_passive_refusals_total{listener=\"explicit\",reason=\"share\"}";
    assert_eq!(metric(&server, refusals), 1);
    // A session with a port may always have another one instead.
    first.epsv();
    let mut other = Raw::explicit_as(&server, "reader");
    other.epsv();
    wait_for(&server, FREE, 7);
    first.hang_up();
    other.expect("QUIT", 221);
    wait_for(&server, FREE, 9);
    third.store("STOR file", b"in the place of the first");
    second.expect("QUIT", 221);
    wait_for(&server, FREE, 10);
    store.assert_holds(&[("alice/file", b"in the place of the first")]);
}

/// E18: nothing left is 425 at once, and not for longer than it is so.
#[test]
fn e18_empty_pool_is_425_within_a_second() {
    let store = Store::local();
    let ports = Server::free_ports();
    let server = server(&store, &(*ports.start()..=*ports.start() + 1), 2);
    let mut sessions: Vec<Raw> = (0..2).map(|_| Raw::explicit(&server)).collect();
    for session in &mut sessions {
        session.epsv();
    }
    let mut late = Raw::explicit_as(&server, "reader");
    for line in ["EPSV", "PASV"] {
        late.send(format!("{line}\r\n").as_bytes()).unwrap();
        late.reply_within(Duration::from_secs(1)).expect(425);
    }
    sessions.pop().unwrap().expect("QUIT", 221);
    wait_for(&server, FREE, 1);
    late.epsv();
}

/// E17, S23, S42: a flood of one session takes one port at a time, each one another.
#[test]
fn s42_flood_of_passive_commands_holds_one_port_and_repeats_none() {
    let store = Store::local();
    let server = server(&store, &Server::free_ports(), 10);
    let mut raw = Raw::explicit(&server);
    for round in 0..5 {
        let ports: Vec<u16> = (0..5).map(|_| raw.epsv().port()).collect();
        if round == 0 {
            let mut distinct = ports.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), 5, "used again at once: {ports:?}");
        }
    }
    wait_for(&server, FREE, 9);
}

/// E16, S26: the port is closed with its session, whichever way that ends.
#[test]
fn s26_port_is_closed_with_its_session() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::explicit(&server);
    let address = raw.epsv();
    raw.expect("QUIT", 221);
    let mut dropped = Raw::explicit(&server);
    let other = dropped.epsv();
    dropped.reset();
    for address in [address, other] {
        until(
            Duration::from_secs(5),
            "the port is closed",
            || match TcpStream::connect(address) {
                Ok(_) => Err("still open".to_owned()),
                Err(_) => Ok(()),
            },
        );
    }
}

/// E15, S21: a stranger is counted.
#[test]
fn s21_stranger_is_closed_and_counted() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::explicit(&server);
    let address = raw.epsv();
    let mut stray = Data::connect_from("127.0.0.2".parse().unwrap(), address, None).unwrap();
    stray.wait_closed(Duration::from_secs(5));
    let strangers = "causeway_data_strangers_total{listener=\"explicit\"}";
    assert_eq!(metric(&server, strangers), 1);
}

/// E2: where the address of the 227 comes from.
#[test]
fn e2_public_address_comes_from_the_configured_place() {
    let store = Store::local();
    for (address, expected) in [
        (json!("connection"), "127,0,0,1,"),
        (json!("203.0.113.10"), "203,0,113,10,"),
        (json!({"dns": "localhost"}), "127,0,0,1,"),
        (
            json!({"by_client": [
                {"clients": "10.0.0.0/8", "address": "10.1.1.1"},
                {"clients": "127.0.0.0/8", "address": "203.0.113.7"},
            ]}),
            "203,0,113,7,",
        ),
    ] {
        let server = with_passive(&store, json!({"ports": "0", "address": address}));
        let text = Raw::explicit(&server).expect("PASV", 227).text();
        assert!(text.contains(expected), "{address}: {text}");
    }
}

/// A name that is not known is no reason not to start: EPSV needs none.
#[test]
fn e2_unknown_name_is_425_for_pasv_only() {
    let store = Store::local();
    let passive = json!({"ports": "0", "address": {"dns": "name.invalid"}});
    let server = with_passive(&store, passive);
    let mut raw = Raw::explicit(&server);
    raw.expect("PASV", 425);
    raw.store("STOR file", b"through EPSV");
    let failure = "public address cannot be looked up";
    assert!(server.log().iter().any(|line| line.contains(failure)));
}

/// E2 in Kubernetes: the address of the pod's own Service, as soon as its load balancer has one.
#[test]
fn e2_public_address_is_that_of_the_service() {
    let store = Store::local();
    let api = Kubernetes::start();
    let passive = json!({"ports": "0", "address": api.address(None)});
    let server = with_passive(&store, passive);
    let mut raw = Raw::explicit(&server);
    raw.expect("PASV", 425);
    let lines = server.log();
    let told = |line: &String| line.contains("no IPv4 address");
    assert!(lines.iter().any(told), "{lines:?}");

    api.announce(&json!([{"ip": "203.0.113.21"}]), &json!({}));
    // Asked again every five seconds while there is none.
    until(Duration::from_secs(20), "227", || {
        let reply = raw.command("PASV");
        let found = reply.code == 227 && reply.text().contains("203,0,113,21,");
        found.then_some(()).ok_or_else(|| reply.text())
    });

    api.announce(
        &json!([{"hostname": "localhost"}]),
        &json!({"x/y": "203.0.113.22"}),
    );
    for (annotation, expected) in [(None, "127,0,0,1,"), (Some("x/y"), "203,0,113,22,")] {
        let passive = json!({"ports": "0", "address": api.address(annotation)});
        let server = with_passive(&store, passive);
        let text = Raw::explicit(&server).expect("PASV", 227).text();
        assert!(text.contains(expected), "{text}");
    }
}

/// Each reason why the Service cannot be read is in the log, the token is not.
#[test]
fn e2_unreadable_service_is_425_for_pasv_and_says_why() {
    let store = Store::local();
    let api = Kubernetes::start();
    let refused = api.address(None);
    api.fail(403);
    let mut nowhere = refused.clone();
    nowhere["service"]["account_directory"] = "/nowhere".into();
    let stranger = Kubernetes::start();
    let mut untrusted = refused.clone();
    untrusted["service"]["account_directory"] =
        stranger.directory().to_str().unwrap().to_owned().into();
    for (address, reason) in [
        (
            refused,
            "answers 403; may the service account get this Service?",
        ),
        (nowhere, "token of the service account cannot be read"),
        (untrusted, "the Kubernetes API cannot be asked"),
    ] {
        let passive = json!({"ports": "0", "address": address});
        let server = with_passive(&store, passive);
        let mut raw = Raw::explicit(&server);
        raw.expect("PASV", 425);
        raw.store("STOR file", b"through EPSV");
        let log = server.log().join("\n");
        assert!(log.contains(reason), "{reason}: {log}");
        assert!(!log.contains("token-of-the-account"), "{log}");
    }
}

/// E3, E4, E5, E6: each family by its number, PASV on IPv4 only, and EPSV ALL for good.
#[test]
fn e5_extended_passive_knows_its_families() {
    let store = Store::local();
    let server = Server::start(&store);
    for (address, own, other) in [
        (server.explicit, "EPSV 1", "EPSV 2"),
        (server.explicit6, "EPSV 2", "EPSV 1"),
    ] {
        let mut raw = Raw::clear(address);
        raw.expect("AUTH TLS", 234);
        raw.start_tls(&server.tls(Version::Tls13)).unwrap();
        raw.protect();
        raw.login("alice");
        let text = raw.expect(own, 229).text();
        assert!(text.contains("(|||") && text.contains("|)"), "{text}");
        let text = raw.expect(other, 522).text();
        let number = own.strip_prefix("EPSV ").unwrap();
        assert!(text.contains(&format!("({number})")), "{text}");
        raw.expect("EPSV 3", 522);
        if address.is_ipv6() {
            raw.command("PASV").expect_any(&[425, 522]);
        }
        raw.expect("EPSV ALL", 200);
        for line in ["PASV", "PORT 10,0,0,1,0,22", "EPRT |1|10.0.0.1|22|"] {
            let reply = raw.command(line);
            assert!((500..600).contains(&reply.code), "{line}: {reply}");
        }
        raw.store("STOR file", b"EPSV still works");
    }
}
