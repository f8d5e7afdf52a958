//! Several replicas that count together, through a real Redis.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Builder, PASSWORD, Raw, Redis, Server, Store, until, write_certificates};

const SOON: Duration = Duration::from_secs(20);

fn replica(store: &Store, redis: &Redis) -> Builder {
    Server::with(store)
        .set("/listeners/0/clear_text", "allow")
        .set("/limits/login_delay_milliseconds", 0)
        .set("/limits/login_failures_per_connection", 1000)
        .set("/shared_counters", redis.config())
}

/// Ready once both replicas reach the store.
fn connected(server: &Server) {
    until(SOON, "the store is there", || {
        let up = server.metric("causeway_shared_counters_up", &[]);
        if up >= 1.0 {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    });
}

fn away(server: &Server) {
    until(SOON, "the store is noticed to be away", || {
        let up = server.metric("causeway_shared_counters_up", &[]);
        if up < 1.0 {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    });
}

fn attempt(server: &Server, source: &str, user: &str, password: &str) -> u16 {
    let mut raw = Raw::silent_from(source, server.explicit);
    let greeting = raw.reply().code;
    if greeting != 220 {
        return greeting;
    }
    raw.expect(&format!("USER {user}"), 331);
    raw.command(&format!("PASS {password}")).code
}

/// S30: "limits hold across replicas".
#[test]
fn guesses_spread_over_replicas_are_counted_together() {
    counted_together(Redis::start());
}

/// `rediss://`, with a client certificate, and an account that may do what the documentation lists.
#[test]
fn guesses_are_counted_together_over_tls() {
    counted_together(Redis::with_tls());
}

fn counted_together(mut redis: Redis) {
    let store = Store::local();
    let start = || {
        let bans = json!({"failures_per_address": 10, "first_seconds": 600});
        replica(&store, &redis).set("/bans", bans).start()
    };
    let servers = [start(), start()];
    servers.iter().for_each(connected);
    for number in 0..10 {
        let server = &servers[number % 2];
        assert_eq!(
            attempt(server, "127.0.0.2", "nobody", "wrong"),
            530,
            "{number}"
        );
    }
    // Five on each: the tenth bans on both.
    for server in &servers {
        until(SOON, "the address is banned", || {
            match attempt(server, "127.0.0.2", "alice", PASSWORD) {
                421 => Ok(()),
                code => Err(code.to_string()),
            }
        });
        assert_eq!(attempt(server, "127.0.0.3", "alice", PASSWORD), 230);
    }
    // With the store away every replica goes on by itself, and says so.
    redis.stop();
    servers.iter().for_each(away);
    let codes: Vec<u16> = (0..12)
        .map(|_| attempt(&servers[0], "127.0.0.4", "nobody", "wrong"))
        .collect();
    assert_eq!(codes[..10], [530; 10], "{codes:?}");
    assert_eq!(codes[10..], [421; 2], "{codes:?}");
    assert_eq!(attempt(&servers[1], "127.0.0.4", "alice", PASSWORD), 230);
    assert_eq!(attempt(&servers[0], "127.0.0.2", "alice", PASSWORD), 421);
    assert!(servers[0].metric("causeway_shared_store_failures_total", &[]) >= 1.0);
    // Back, and empty: the replicas bring their bans along.
    redis.resume();
    servers.iter().for_each(connected);
    until(
        SOON,
        "the other replica learns of the ban",
        || match attempt(&servers[1], "127.0.0.4", "alice", PASSWORD) {
            421 => Ok(()),
            code => Err(code.to_string()),
        },
    );
}

#[test]
fn sessions_of_a_user_are_bounded_over_all_replicas() {
    let store = Store::local();
    let mut redis = Redis::start();
    let start = || {
        replica(&store, &redis)
            .set("/limits/sessions_per_user", 2)
            .start()
    };
    let servers = [start(), start()];
    servers.iter().for_each(connected);
    let login = |server: &Server| {
        let mut raw = Raw::clear(server.explicit);
        raw.login("alice");
        raw
    };
    let (first, _second) = (login(&servers[0]), login(&servers[1]));
    for server in &servers {
        assert_eq!(attempt(server, "127.0.0.1", "alice", PASSWORD), 421);
        assert_eq!(attempt(server, "127.0.0.1", "reader", PASSWORD), 230);
    }
    first.hang_up();
    until(
        SOON,
        "a place is free on the other replica",
        || match attempt(&servers[1], "127.0.0.1", "alice", PASSWORD) {
            230 => Ok(()),
            code => Err(code.to_string()),
        },
    );
    // Without the store each replica bounds its own.
    redis.stop();
    servers.iter().for_each(away);
    let _third = login(&servers[0]);
    let _fourth = login(&servers[0]);
    assert_eq!(attempt(&servers[0], "127.0.0.1", "alice", PASSWORD), 421);
}

/// Whoever cannot prove to be the store hears nothing, and logins go on without it.
#[test]
fn store_that_is_not_believed_or_does_not_believe_is_away() {
    let store = Store::local();
    let redis = Redis::with_tls();
    let other = tempfile::TempDir::new().unwrap();
    write_certificates(other.path());
    let others = |name: &str| json!(other.path().join(name));
    let good = redis.config();
    let changed = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut config = good.clone();
        change(&mut config);
        config
    };
    for (what, config) in [
        (
            "another authority",
            changed(&|config| config["ca_file"] = others("ca.pem")),
        ),
        (
            "a strange certificate",
            changed(&|config| {
                config["client_certificate_file"] = others("cert.pem");
                config["client_key_file"] = others("key.pem");
            }),
        ),
        (
            "a wrong password",
            changed(&|config| config["url"] = redis.url().replace("counters", "nobody").into()),
        ),
        (
            "no TLS",
            json!({"url": redis.url().replace("rediss", "redis")}),
        ),
    ] {
        let server = replica(&store, &redis)
            .set("/shared_counters", config)
            .start();
        until(SOON, what, || {
            let failures = server.metric("causeway_shared_store_failures_total", &[]);
            if failures >= 2.0 {
                Ok(())
            } else {
                Err(failures.to_string())
            }
        });
        assert!(
            server.metric("causeway_shared_counters_up", &[]) < 1.0,
            "{what}"
        );
        assert_eq!(
            attempt(&server, "127.0.0.1", "alice", PASSWORD),
            230,
            "{what}"
        );
        let log = server.log().join("\n");
        assert!(
            !log.contains(Redis::PASSWORD),
            "{what}: a password is in the log"
        );
    }
}
