//! What logins cost and what their time tells (CONFORMANCE S29, S31, S32).

use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version, password_hash::SaltString};

use crate::harness::{Builder, PASSWORD, Raw, Server, Store};

/// Of each kind.
const TRIES: usize = 1000;
/// A connection is given up before its limit of failures.
const TRIES_PER_CONNECTION: usize = 900;

/// The hash of [`PASSWORD`] with `kib` of memory: enough that leaving it out would show.
fn hash(kib: u32, passes: u32) -> String {
    let params = Params::new(kib, passes, 1, None).unwrap();
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let salt = SaltString::encode_b64(b"0123456789abcdef").unwrap();
    let hash = argon2.hash_password(PASSWORD.as_bytes(), &salt).unwrap();
    hash.to_string()
}

/// A server that lets one client fail as often as it likes, in clear text and without delays.
fn patient(store: &Store) -> Builder {
    Server::with(store)
        .set("/listeners/0/clear_text", "allow")
        .set("/limits/login_delay_milliseconds", 0)
        .set("/limits/login_failures_per_connection", 1000)
        .set("/timeouts/login_seconds", 600)
        .set(
            "/bans",
            serde_json::json!({"failures_per_address": 0, "failures_per_network": 0}),
        )
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Mean, standard deviation and median in microseconds, for people.
fn summary(times: &mut [Duration]) -> String {
    let micros: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e6).collect();
    #[allow(clippy::cast_precision_loss, reason = "a thousand")]
    let count = micros.len() as f64;
    let mean = micros.iter().sum::<f64>() / count;
    let variance = micros.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / count;
    let deviation = variance.sqrt();
    let median = median(times);
    format!("median {median:?}, mean {mean:.0} us, deviation {deviation:.0} us")
}

/// S29: a thousand USER and PASS each for a user who is there, one who is not, and one who is locked:
/// the same words, and the same time. The medians are compared, which a busy machine moves together,
/// since the three take turns.
#[test]
fn s29_known_unknown_and_locked_users_take_the_same_time() {
    let store = Store::local();
    let hash = hash(2048, 1);
    let users = format!(
        "users:\n- {{name: known, password_hash: \"{hash}\"}}\n\
         - {{name: locked, password_hash: \"{hash}\", enabled: false}}\n"
    );
    let server = patient(&store).file("users.yaml", &users).start();
    let kinds = ["known", "unknown", "locked"];
    let mut asked = kinds.map(|_| Vec::new());
    let mut refused = kinds.map(|_| Vec::new());
    let mut words = kinds.map(|_| String::new());
    let mut raw = Raw::clear(server.explicit);
    for turn in 0..TRIES * kinds.len() {
        let kind = turn % kinds.len();
        if turn % TRIES_PER_CONNECTION == TRIES_PER_CONNECTION - 1 {
            raw = Raw::clear(server.explicit);
        }
        // A right password for who is locked: it must not show either.
        let password = if kind == 2 { PASSWORD } else { "wrong" };
        let started = Instant::now();
        let first = raw.expect(&format!("USER {}", kinds[kind]), 331).text();
        asked[kind].push(started.elapsed());
        let started = Instant::now();
        let second = raw.expect(&format!("PASS {password}"), 530).text();
        refused[kind].push(started.elapsed());
        words[kind] = first + &second;
    }
    assert!(words.iter().all(|said| *said == words[0]), "{words:?}");
    for (verb, times, tolerance) in [("USER", &mut asked, 2.0), ("PASS", &mut refused, 1.25)] {
        let [known, unknown, locked] = times;
        for (kind, times) in kinds.iter().zip([&mut *known, &mut *unknown, &mut *locked]) {
            println!("{verb} {kind}: {}", summary(times));
        }
        let base = median(known).as_secs_f64();
        for (kind, times) in [("unknown", unknown), ("locked", locked)] {
            let ratio = median(times).as_secs_f64() / base;
            let alike = (1.0 / tolerance..=tolerance).contains(&ratio);
            assert!(
                alike,
                "{verb} {kind}: {ratio:.3} of the time of a known user"
            );
        }
    }
}

/// S31, S32: what is sent as a name or password is nothing but that, and a session has one user.
#[test]
fn s31_s32_names_and_passwords_are_text() {
    let store = Store::local();
    let server = patient(&store).start();
    let mut raw = Raw::clear(server.explicit);
    for name in [
        "' OR 1=1 --",
        "alice\"; DROP TABLE users",
        "%n%n%s",
        "${jndi:ldap://x}",
        "alice/../reader",
        "../../etc/passwd",
        "älice",
        "*",
        "alice*",
        "{env: HOME}",
    ] {
        raw.expect(&format!("USER {name}"), 331);
        raw.expect(&format!("PASS {name}"), 530);
    }
    let long = "x".repeat(2000);
    raw.expect("USER alice", 331);
    raw.expect(&format!("PASS {long}"), 530);
    raw.expect("USER alice", 331);
    raw.command("PASS secret123\0")
        .expect_any(&[500, 501, 530, 503]);
    raw.expect("PWD", 530);
    raw.login("alice");
    raw.expect("USER reader", 503);
    raw.expect(&format!("PASS {PASSWORD}"), 503);
    raw.store("STOR file", b"alice's");
    store.assert_holds(&[("alice/file", b"alice's")]);
}

/// CPU time of one login over a connection in the clear, with hashes as `hash-password` makes them.
fn cost_of_a_login(cache_seconds: u32, logins: u32) -> Duration {
    let store = Store::local();
    let hash = hash(19456, 2);
    let server = Server::with(&store)
        .file(
            "users.yaml",
            &format!("users: [{{name: alice, password_hash: \"{hash}\"}}]"),
        )
        .set("/listeners/0/clear_text", "allow")
        .set(
            "/auth",
            serde_json::json!({"password_cache_seconds": cache_seconds}),
        )
        .start();
    let login = || Raw::clear(server.explicit).login("alice");
    login();
    let before = server.cpu_time();
    for _ in 0..logins {
        login();
    }
    let cost = server.cpu_time().saturating_sub(before) / logins;
    let remembered = server.metric("causeway_password_checks_total", &["remembered"]);
    let expected = if cache_seconds > 0 {
        f64::from(logins)
    } else {
        0.0
    };
    assert!(
        (remembered - expected).abs() < 0.5,
        "{remembered} of {logins} remembered"
    );
    cost
}

fn compare_costs(logins: u32) {
    let hashed = cost_of_a_login(0, logins);
    let remembered = cost_of_a_login(120, logins);
    println!("CPU per login of {logins}: {hashed:?} hashed, {remembered:?} remembered");
    assert!(
        remembered < hashed,
        "{remembered:?} remembered, {hashed:?} hashed"
    );
}

#[test]
fn remembered_password_costs_less_than_its_hash() {
    compare_costs(30);
}

/// Prints what a login costs: `./tests/soak login_costs`.
#[test]
#[ignore = "a figure for the documentation: ./tests/soak"]
fn login_costs() {
    compare_costs(500);
}
