//! Users of an LDAP directory, on a real slapd.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Builder, GROUPS, PASSWORD, Raw, Server, Slapd, Store, until};

fn server(store: &Store, ldap: &Value) -> Builder {
    Server::with(store)
        .groups(GROUPS)
        .set("/listeners/0/clear_text", "allow")
        .set("/limits/login_delay_milliseconds", 0)
        .set("/limits/login_failures_per_connection", 100)
        .set("/auth", json!({"sources": ["users", "ldap"], "ldap": ldap}))
}

fn log_in(server: &Server, user: &str, password: &str) -> (u16, Raw) {
    let mut raw = Raw::clear(server.explicit);
    raw.expect(&format!("USER {user}"), 331);
    let code = raw.command(&format!("PASS {password}")).code;
    (code, raw)
}

#[track_caller]
fn logged_in(server: &Server, user: &str) -> Raw {
    let (code, raw) = log_in(server, user, Slapd::PASSWORD);
    assert_eq!(code, 230, "{user}");
    raw
}

/// `StartTLS`, a service account, groups by search.
#[test]
fn users_log_in_by_search_and_bind_with_the_grants_of_their_groups() {
    let store = Store::local();
    let slapd = Slapd::start();
    let mut ldap = slapd.config();
    ldap["attributes"] = json!({"room": "roomNumber"});
    let server = server(&store, &ldap)
        .set("/mounts/0/prefix", "{attribute.room}/{home}")
        .start();
    // carol is in `up`, which may write and not delete.
    let mut carol = logged_in(&server, "carol");
    carol.store("STOR file", b"from carol");
    carol.expect("DELE file", 550);
    // In whatever spelling: the directory has one name for her.
    let mut again = logged_in(&server, "CAROL");
    assert_eq!(again.names("NLST"), ["file"]);
    // dave is in `down`, by its DN in another spelling.
    store.put("d2/dave/file", b"for dave");
    let mut dave = logged_in(&server, "dave");
    assert_eq!(dave.retrieve("RETR file"), b"for dave");
    let _data = dave.open_data();
    dave.expect("STOR new", 550);
    // erin is in no group that counts here: nothing limits her.
    let mut erin = logged_in(&server, "erin");
    erin.store("STOR file", b"from erin");
    erin.expect("DELE file", 250);

    for (user, password) in [
        ("carol", "wrong"),
        ("nobody", Slapd::PASSWORD),
        // An unauthenticated bind succeeds (RFC 4513 §5.1.2) and proves nothing.
        ("carol", ""),
        // Nothing of it reaches the filter.
        ("*", Slapd::PASSWORD),
        ("c*", Slapd::PASSWORD),
        ("carol)(uid=dave", Slapd::PASSWORD),
        ("x)(|(uid=carol", Slapd::PASSWORD),
        ("carol\\2a", Slapd::PASSWORD),
        ("service", Slapd::PASSWORD),
    ] {
        assert_eq!(log_in(&server, user, password).0, 530, "{user} {password}");
    }
    store.assert_holds(&[
        ("c1/carol/file", b"from carol"),
        ("d2/dave/file", b"for dave"),
    ]);
    let log = server.log().join("\n");
    // An operator finds the partner; what nobody is called may be a password in the wrong place.
    assert!(log.contains("\"name\":\"carol\""), "{log}");
    assert!(!log.contains("\"name\":\"nobody\"") && log.contains("\"name\":\"(unknown)\""));
    assert!(!log.contains(Slapd::PASSWORD), "a password is in the log");
}

#[test]
fn directory_that_goes_away_shuts_its_users_out_until_it_is_back() {
    let store = Store::local();
    let mut slapd = Slapd::start();
    let server = server(&store, &slapd.config()).start();
    let mut before = logged_in(&server, "carol");
    slapd.stop();
    for _ in 0..2 {
        let start = Instant::now();
        let (code, mut raw) = log_in(&server, "carol", Slapd::PASSWORD);
        assert_eq!(code, 421);
        assert!(raw.until_closed(Duration::from_secs(10)).is_empty());
        assert!(start.elapsed() < Duration::from_secs(10));
    }
    // Who is in stays in, and the users file needs no directory.
    before.store("STOR file", b"meanwhile");
    assert_eq!(log_in(&server, "alice", PASSWORD).0, 230);
    let log = server.log().join("\n");
    assert!(log.contains("authentication source cannot answer"), "{log}");
    assert!(server.metric("causeway_logins_total", &["\"unavailable\""]) >= 2.0);
    slapd.resume();
    logged_in(&server, "carol");
    assert_eq!(log_in(&server, "carol", "wrong").0, 530);
}

/// `ldaps`, and the user's own DN from its name; 530 while the directory is away, if that is wished.
#[test]
fn users_log_in_by_their_own_dn() {
    let store = Store::local();
    let mut slapd = Slapd::start();
    let ldap = json!({
        "urls": ["ldaps://127.0.0.1:9", slapd.tls_url()], "ca_file": slapd.authority_file(),
        "user_dn": "uid={user},ou=people,dc=example,dc=com",
        "home_attribute": "roomNumber",
        "groups": {
            "base": "ou=groups,dc=example,dc=com", "filter": "(member={dn})",
            "map": {"up": "uploaders", "down": "readers"}, "required": true,
        },
        "connect_seconds": 2, "total_seconds": 5,
    });
    let server = server(&store, &ldap)
        .set("/auth/unavailable", "refuse")
        .start();
    let mut carol = logged_in(&server, "carol");
    carol.store("STOR file", b"from carol");
    carol.expect("DELE file", 550);
    store.assert_holds(&[("c1/file", b"from carol")]);
    // erin's groups are none of ours, and one of them is required.
    assert_eq!(log_in(&server, "erin", Slapd::PASSWORD).0, 530);
    for (user, password) in [
        ("carol", "wrong"),
        ("carol", ""),
        ("nobody", Slapd::PASSWORD),
        ("carol,ou=people", Slapd::PASSWORD),
    ] {
        assert_eq!(log_in(&server, user, password).0, 530, "{user}");
    }
    slapd.stop();
    assert_eq!(log_in(&server, "carol", Slapd::PASSWORD).0, 530);
    slapd.resume();
    logged_in(&server, "carol");
}

/// Nobody's password goes to a directory that cannot prove who it is.
#[test]
fn directory_with_a_strange_certificate_is_not_asked() {
    let store = Store::local();
    let slapd = Slapd::start();
    let other = Slapd::start();
    for url in [slapd.url(), slapd.tls_url()] {
        let mut ldap = slapd.config();
        ldap["urls"] = json!([url]);
        ldap["ca_file"] = json!(other.authority_file());
        let server = server(&store, &ldap).start();
        assert_eq!(log_in(&server, "carol", Slapd::PASSWORD).0, 421, "{url}");
        until(Duration::from_secs(30), "the reason is logged", || {
            let log = server.log().join("\n");
            let found = log.contains("LDAP server cannot be reached");
            found.then_some(()).ok_or(log)
        });
    }
}

/// A name that the directory takes for `carol` is not a way around what the users file says of `carol`,
/// nor around a ban.
#[test]
fn names_in_another_case_are_the_same_user_to_sources_and_bans() {
    let store = Store::local();
    let slapd = Slapd::start();
    let hash = crate::harness::password_hash();
    let server = server(&store, &slapd.config())
        .user(&format!(
            "{{name: carol, password_hash: '{hash}', enabled: false}}"
        ))
        .set("/bans", json!({"failures_per_user": 3}))
        .start();
    for name in ["carol", "CAROL", "Carol"] {
        for password in [Slapd::PASSWORD, PASSWORD] {
            assert_eq!(log_in(&server, name, password).0, 530, "{name}");
            server.api("DELETE", "/bans/user:carol", "", 404);
        }
    }
    logged_in(&server, "DAVE");
    let ban = json!({"subject": "user:dave", "seconds": 600}).to_string();
    server.api("POST", "/bans", &ban, 201);
    for name in ["dave", "DAVE", "dAve"] {
        assert_eq!(log_in(&server, name, Slapd::PASSWORD).0, 530, "{name}");
    }
    for name in ["erin", "ERIN", "Erin"] {
        assert_eq!(log_in(&server, name, "wrong").0, 530, "{name}");
    }
    assert_eq!(log_in(&server, "erin", Slapd::PASSWORD).0, 530);
    assert!(server.metric("causeway_bans_started_total", &["user"]) >= 2.0);
}

/// What a user is not told to be in may be what denies it something: nobody gets in on a part of it.
#[test]
fn groups_and_users_that_the_directory_does_not_show_are_not_taken_for_absent() {
    let store = Store::local();
    let slapd = Slapd::configured("sizelimit 1\n");
    let good = slapd.config();
    for (key, value) in [
        ("/groups/base", "ou=nowhere,dc=example,dc=com"),
        ("/user_base", "ou=nowhere,dc=example,dc=com"),
        // Two groups, and the directory gives one.
        (
            "/groups/filter",
            "(|(member={dn})(objectClass=groupOfNames))",
        ),
    ] {
        let mut ldap = good.clone();
        let (parent, key) = key.rsplit_once('/').unwrap();
        ldap.pointer_mut(parent).unwrap()[key] = json!(value);
        let server = server(&store, &ldap).start();
        assert_eq!(log_in(&server, "carol", Slapd::PASSWORD).0, 421, "{key}");
        until(Duration::from_secs(10), "the reason is logged", || {
            let log = server.log().join("\n");
            let found = log.contains("authentication source cannot answer");
            found.then_some(()).ok_or(log)
        });
    }
    // The limit alone is none.
    logged_in(&server(&store, &good).start(), "carol");
}

/// With a service account the directory says who is known, although users bind by themselves.
#[test]
fn failed_direct_bind_of_a_known_user_is_told_with_its_name() {
    let store = Store::local();
    let slapd = Slapd::start();
    let mut ldap = slapd.config();
    ldap["user_dn"] = json!("uid={user},ou=people,dc=example,dc=com");
    for with_base in [true, false] {
        if !with_base {
            ldap.as_object_mut().unwrap().remove("user_base");
        }
        let server = server(&store, &ldap).start();
        assert_eq!(log_in(&server, "carol", "wrong").0, 530);
        assert_eq!(log_in(&server, "nobody", "wrong").0, 530);
        logged_in(&server, "carol");
        let log = until(Duration::from_secs(10), "all is logged", || {
            let log = server.log().join("\n");
            let all = log.matches("logged in").count() == 1;
            all.then_some(log.clone()).ok_or(log)
        });
        assert!(log.contains("\"name\":\"carol\""), "{log}");
        assert!(!log.contains("\"name\":\"nobody\""), "{log}");
        let refused = |source| server.metric("causeway_logins_total", &[source, "\"refused\""]);
        assert!(refused("\"ldap\"") >= 1.0 && refused("\"none\"") >= 1.0);
    }
}

/// A wrong password of a user of the directory costs the hash that an unknown name costs.
#[test]
fn known_and_unknown_names_cost_the_same() {
    let store = Store::local();
    let slapd = Slapd::start();
    let server = server(&store, &slapd.config()).start();
    let hashed = || server.metric("causeway_password_checks_total", &["hashed"]);
    for (number, name) in [(1.0, "nobody"), (2.0, "carol"), (3.0, "alice")] {
        assert_eq!(log_in(&server, name, "wrong").0, 530);
        let found = hashed();
        assert!((found - number).abs() < 0.5, "{name}: {found} hashes");
    }
}
