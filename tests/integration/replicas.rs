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

/// Waits until the replicas have looked at the store some more times.
fn looks(redis: &Redis, more: u64) {
    let processed = || {
        let looked = redis.ask("INCR looks");
        let calls = "local info = redis.call('INFO', 'commandstats') return tonumber(string.match(info, 'cmdstat_eval:calls=(%d+)'))";
        let calls = redis.ask(&format!("EVAL \"{calls}\" 0"));
        assert!(looked.starts_with(':'), "{looked}");
        calls.trim_start_matches(':').parse::<u64>().unwrap()
    };
    let before = processed();
    until(SOON, "the replicas look at the store", || {
        let now = processed();
        if now >= before + more {
            Ok(())
        } else {
            Err(now.to_string())
        }
    });
}

/// A ban stays its replica's own, ends by itself, and the next one is longer.
#[test]
fn bans_grow_with_shared_counters_as_without() {
    let store = Store::local();
    let redis = Redis::start();
    let server = replica(&store, &redis)
        .set(
            "/bans",
            json!({"failures_per_address": 2, "first_seconds": 6}),
        )
        .start();
    connected(&server);
    for (number, length) in [(1, 6), (2, 12)] {
        for _ in 0..2 {
            assert_eq!(attempt(&server, "127.0.0.2", "nobody", "wrong"), 530);
        }
        let listed = || server.api("GET", "/bans", "", 200)[0].clone();
        let ban = listed();
        assert_eq!(ban["count"], number, "{ban}");
        looks(&redis, 8);
        let later = listed();
        assert_eq!(
            (&later["by"], &later["since"]),
            (&json!("failures"), &ban["since"]),
            "{later}"
        );
        if number == 1 {
            until(SOON, "the ban has run its course", || {
                let left = redis.ask("ZCARD causeway:bans");
                if left == ":0" { Ok(()) } else { Err(left) }
            });
            looks(&redis, 4);
        }
        let log = server.log().join("\n");
        assert!(log.contains(&format!("\"seconds\":{length}")), "{log}");
        assert!(!log.contains("ban lifted"), "{log}");
    }
}

/// More bans than are fetched at once: those that are missing in what was fetched are not over.
#[test]
fn crowd_of_bans_lifts_no_other() {
    let store = Store::local();
    let redis = Redis::start();
    let server = replica(&store, &redis).set("/bans", json!({})).start();
    connected(&server);
    let ban = json!({"subject": "address:192.0.2.1", "seconds": 86400}).to_string();
    server.api("POST", "/bans", &ban, 201);
    until(SOON, "the store has it", || {
        let count = redis.ask("ZCARD causeway:bans");
        if count == ":1" { Ok(()) } else { Err(count) }
    });
    let crowd = "local clock = redis.call('TIME') for i = 1, 10000 do redis.call('ZADD', 'causeway:bans', (clock[1] + 300) * 1000, 'address:10.0.' .. math.floor(i / 250) .. '.' .. (i % 250)) end return 1";
    assert_eq!(redis.ask(&format!("EVAL \"{crowd}\" 0")), ":1");
    until(SOON, "the crowd is known", || {
        let bans = server.metric("causeway_bans", &["address"]);
        if bans >= 10_000.0 {
            Ok(())
        } else {
            Err(bans.to_string())
        }
    });
    looks(&redis, 6);
    let bans = server.api("GET", "/bans", "", 200);
    let kept = bans
        .as_array()
        .unwrap()
        .iter()
        .any(|ban| ban["subject"] == "address:192.0.2.1");
    assert!(kept, "the operator's ban is gone");
}

/// What an operator lifts while the store is away does not come back with it.
#[test]
fn ban_lifted_while_the_store_is_away_stays_lifted() {
    let store = Store::local();
    let redis = Redis::start();
    let start = || replica(&store, &redis).set("/bans", json!({})).start();
    let servers = [start(), start()];
    servers.iter().for_each(connected);
    let ban = json!({"subject": "address:127.0.0.2", "seconds": 600}).to_string();
    servers[0].api("POST", "/bans", &ban, 201);
    until(
        SOON,
        "the other replica learns of the ban",
        || match attempt(&servers[1], "127.0.0.2", "alice", PASSWORD) {
            421 => Ok(()),
            code => Err(code.to_string()),
        },
    );
    redis.freeze(true);
    servers.iter().for_each(away);
    servers[0].api("DELETE", "/bans/address:127.0.0.2", "", 200);
    assert_eq!(attempt(&servers[0], "127.0.0.2", "alice", PASSWORD), 230);
    redis.freeze(false);
    servers.iter().for_each(connected);
    until(SOON, "it is lifted for everybody", || {
        let left = redis.ask("ZCARD causeway:bans");
        if left == ":0" { Ok(()) } else { Err(left) }
    });
    looks(&redis, 8);
    assert_eq!(attempt(&servers[0], "127.0.0.2", "alice", PASSWORD), 230);
}
