//! A directory that sends nonsense, half answers, or far too much: nobody gets in by it, in bounded
//! time and memory, and everybody else goes on.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{
    Builder, PASSWORD, Raw, Server, Store,
    liar::{Answer, Asked, BIND, Liar, SEARCH, SUCCESS, Script, entry, honest, message, tlv},
    until,
};

/// A login may take as long in all.
const TOTAL: u64 = 2;
/// What all answers together may cost, far below what is sent.
const MEMORY_KIB: u64 = 300 << 10;

fn ldap(liar: &Liar, tls: &str) -> Value {
    json!({
        "urls": [liar.url()], "tls": tls,
        "bind_dn": "cn=service,dc=example", "bind_password": "service",
        "user_base": "dc=example", "connect_seconds": 2, "total_seconds": TOTAL,
    })
}

fn server(store: &Store, ldap: &Value) -> Builder {
    Server::with(store)
        .set("/listeners/0/clear_text", "allow")
        .set("/limits/login_delay_milliseconds", 0)
        .set("/limits/login_failures_per_connection", 100)
        .set("/auth", json!({"sources": ["users", "ldap"], "ldap": ldap}))
}

fn log_in(server: &Server, user: &str, password: &str) -> u16 {
    let mut raw = Raw::clear(server.explicit);
    raw.expect(&format!("USER {user}"), 331);
    raw.command(&format!("PASS {password}")).code
}

/// `lie` for the requests with this tag, the truth for others.
fn at(asked: Asked, operation: u8, lie: impl FnOnce(u8) -> Answer) -> Answer {
    if asked.operation == operation {
        lie(asked.id)
    } else {
        honest(asked)
    }
}

/// Sequences in sequences: each is an empty one around the next.
fn deep() -> Vec<u8> {
    let mut inner = Vec::new();
    for _ in 0..40_000 {
        let length = u32::try_from(inner.len()).unwrap().to_le_bytes();
        // From the inside out, to be turned round.
        inner.extend(length);
        inner.extend([0x84, 0x30]);
    }
    inner.reverse();
    inner
}

const LIES: &[(&str, Script, u16)] = &[
    (
        "another protocol",
        |_| Answer::Bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        421,
    ),
    ("the end at once", |_| Answer::Last(Vec::new()), 421),
    ("silence", |_| Answer::Bytes(Vec::new()), 421),
    (
        "half an answer",
        |asked| Answer::Bytes(message(asked.id, &tlv(0x61, SUCCESS))[..5].to_vec()),
        421,
    ),
    (
        "half an answer and the end",
        |asked| Answer::Last(message(asked.id, &tlv(0x61, SUCCESS))[..9].to_vec()),
        421,
    ),
    ("an empty message", |_| Answer::Bytes(vec![0x30, 0]), 421),
    (
        "no message id",
        |_| Answer::Bytes(vec![0x30, 5, 4, 1, 1, 0x61, 0]),
        421,
    ),
    ("values in values", |_| Answer::Bytes(deep()), 421),
    (
        "values in values in a message",
        |asked| Answer::Bytes(message(asked.id, &tlv(0x61, &deep()))),
        421,
    ),
    (
        "a length of 4 GiB, and zeros",
        |_| {
            let mut start = vec![0; 1 << 16];
            start[..6].copy_from_slice(&[0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF]);
            Answer::Endless(start)
        },
        421,
    ),
    (
        "a result without content",
        |asked| at(asked, BIND, |id| Answer::Bytes(message(id, &[0x61, 0]))),
        421,
    ),
    (
        "a result of another kind",
        |asked| {
            at(asked, BIND, |id| {
                Answer::Bytes(message(id, &tlv(0x61, &[4, 1, 0, 4, 0, 4, 0])))
            })
        },
        421,
    ),
    (
        "a bind answered by an entry",
        |asked| {
            at(asked, BIND, |id| {
                Answer::Bytes(entry(id, b"dc=example", "uid", b"carol"))
            })
        },
        421,
    ),
    (
        "a search answered by a bind",
        |asked| {
            at(asked, SEARCH, |id| {
                Answer::Bytes(message(id, &tlv(0x61, SUCCESS)))
            })
        },
        421,
    ),
    (
        "the answer to another request",
        |asked| {
            Answer::Bytes(message(
                asked.id + 1,
                &tlv(asked.operation.wrapping_add(1), SUCCESS),
            ))
        },
        421,
    ),
    (
        "an entry without content",
        |asked| at(asked, SEARCH, |id| Answer::Bytes(message(id, &[0x64, 0]))),
        421,
    ),
    (
        "an entry whose name is no text",
        |asked| {
            at(asked, SEARCH, |id| {
                let found = entry(id, b"\xff\xfe", "uid", b"carol");
                Answer::Bytes([found, message(id, &tlv(0x65, SUCCESS))].concat())
            })
        },
        421,
    ),
    (
        "entries without end",
        |asked| {
            at(asked, SEARCH, |id| {
                Answer::Endless(entry(id, b"dc=example", "uid", b"carol").repeat(1000))
            })
        },
        421,
    ),
    (
        "two entries",
        |asked| {
            at(asked, SEARCH, |id| {
                let found = entry(id, b"dc=example", "uid", b"carol").repeat(2);
                Answer::Bytes([found, message(id, &tlv(0x65, SUCCESS))].concat())
            })
        },
        530,
    ),
    (
        "somebody else's entry without a name",
        |asked| {
            at(asked, SEARCH, |id| {
                let found = entry(id, b"dc=example", "cn", b"carol");
                Answer::Bytes([found, message(id, &tlv(0x65, SUCCESS))].concat())
            })
        },
        530,
    ),
    (
        "a name that is none",
        |asked| {
            at(asked, SEARCH, |id| {
                let found = entry(id, b"dc=example", "uid", b"../alice");
                Answer::Bytes([found, message(id, &tlv(0x65, SUCCESS))].concat())
            })
        },
        530,
    ),
];

#[test]
fn lies_let_nobody_in_and_stop_nobody() {
    let store = Store::local();
    let liar = Liar::start(honest);
    let server = server(&store, &ldap(&liar, "off")).start();
    assert_eq!(log_in(&server, "carol", "any"), 230, "an honest directory");
    for (what, script, expected) in LIES {
        liar.play(*script);
        let before = server.log().len();
        let started = Instant::now();
        assert_eq!(log_in(&server, "carol", "any"), *expected, "{what}");
        let took = started.elapsed();
        assert!(took < Duration::from_secs(TOTAL + 5), "{what}: {took:?}");
        // The process lives, and users that need no directory log in.
        assert_eq!(log_in(&server, "alice", PASSWORD), 230, "{what}");
        let reason = match expected {
            421 => "authentication source cannot answer",
            _ => "login refused by its source",
        };
        until(Duration::from_secs(10), "the reason is in the log", || {
            let log = server.log()[before..].join("\n");
            if log.contains(reason) {
                Ok(())
            } else {
                Err(format!("{what}: {log}"))
            }
        });
    }
    let peak = server.peak_memory_kib();
    println!("{} lies: {peak} KiB at most", LIES.len());
    assert!(peak < MEMORY_KIB, "{peak} KiB");
    liar.play(honest);
    assert_eq!(log_in(&server, "carol", "any"), 230, "honest again");
    let log = server.log().join("\n");
    for line in log.lines() {
        let parsed = serde_json::from_str::<Value>(line);
        assert!(parsed.is_ok(), "not JSON: {line}");
    }
}

/// What comes before TLS can be anybody's who is on the way.
#[test]
fn lies_before_tls_stop_nobody() {
    let store = Store::local();
    let liar = Liar::start(honest);
    let server = server(&store, &ldap(&liar, "start_tls")).start();
    let lies: &[(&str, Script)] = &[
        ("values in values", |_| Answer::Bytes(deep())),
        ("a no", |asked| {
            Answer::Bytes(message(asked.id, &tlv(0x78, &[0x0A, 1, 52, 4, 0, 4, 0])))
        }),
        ("a yes with a bind behind it", |asked| {
            let yes = message(asked.id, &tlv(0x78, SUCCESS));
            Answer::Bytes([yes, message(2, &tlv(0x61, SUCCESS))].concat())
        }),
        ("a yes and no TLS", honest),
        ("silence", |_| Answer::Bytes(Vec::new())),
        ("zeros without end", |_| Answer::Endless(vec![0; 1 << 16])),
    ];
    for (what, script) in lies {
        liar.play(*script);
        assert_eq!(log_in(&server, "carol", "any"), 421, "{what}");
        assert_eq!(log_in(&server, "alice", PASSWORD), 230, "{what}");
    }
    assert!(server.peak_memory_kib() < MEMORY_KIB);
}

/// A reload that changes nothing of the directory goes on with its connections.
#[test]
fn connections_outlive_a_reload_that_leaves_them_alone() {
    let store = Store::local();
    let liar = Liar::start(honest);
    let server = server(&store, &ldap(&liar, "off")).start();
    let login = || assert_eq!(log_in(&server, "carol", "any"), 230);
    login();
    login();
    assert_eq!(liar.connections(), 1);
    server.configure(|config| config["timeouts"]["idle_seconds"] = 200.into());
    let reloaded = server.api("POST", "/reload", "", 200);
    assert_eq!(reloaded["changed"], json!(["timeouts"]));
    login();
    assert_eq!(liar.connections(), 1, "after a reload of something else");
    server.configure(|config| config["auth"]["ldap"]["connections"] = 3.into());
    server.api("POST", "/reload", "", 200);
    login();
    assert_eq!(liar.connections(), 2, "after other settings");
}
