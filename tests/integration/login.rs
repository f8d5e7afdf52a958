//! Who gets in, what a stranger learns, and what a read-only user may not do.

use std::time::Duration;

use crate::harness::{Raw, Server, Store, Version, on_each_store};

on_each_store!(read_only_user_changes_nothing);

#[test]
fn s4_user_in_clear_gets_530_and_is_never_asked_for_the_password() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::clear(server.explicit);
    raw.expect("USER alice", 530);
    raw.command("PASS secret123").expect_any(&[503, 530]);
    raw.expect("PWD", 530);
    raw.expect("AUTH TLS", 234);
    raw.start_tls(&server.tls(Version::Tls13)).unwrap();
    raw.login("alice");
    raw.expect("PWD", 257);
}

#[test]
fn clear_text_is_served_where_the_listener_allows_it() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/listeners/0/clear_text", "allow")
        .start();
    let mut raw = Raw::clear(server.explicit);
    raw.login("alice");
    raw.store("STOR file", b"in the clear");
    assert_eq!(raw.retrieve("RETR file"), b"in the clear");
    store.assert_holds(&[("alice/file", b"in the clear")]);
}

#[test]
fn unknown_user_and_wrong_password_get_the_same_words() {
    let store = Store::local();
    let server = Server::start(&store);
    let dialogue = |user: &str| {
        let mut raw = Raw::secured(&server, &server.tls(Version::Tls13));
        let asked = raw
            .expect(&format!("USER {user}"), 331)
            .text()
            .replace(user, "NAME");
        let refused = raw.expect("PASS wrong", 530).text().replace(user, "NAME");
        (asked, refused)
    };
    let known = dialogue("alice");
    for stranger in ["nobody", "root", "al ice", "ALICE", "alice@example", "äöü"] {
        assert_eq!(dialogue(stranger), known, "{stranger}");
    }
}

#[test]
fn failed_logins_end_the_connection_with_421() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/limits/login_failures_per_connection", 2)
        .start();
    let mut raw = Raw::secured(&server, &server.tls(Version::Tls13));
    raw.expect("USER alice", 331);
    raw.expect("PASS wrong", 530);
    raw.expect("USER nobody", 331);
    raw.send(b"PASS wrong\r\n").unwrap();
    let replies = raw.until_closed(Duration::from_secs(10));
    assert_eq!(
        replies.last().map(|reply| reply.code),
        Some(421),
        "{replies:?}"
    );
    let mut raw = Raw::explicit(&server);
    raw.expect("PWD", 257);
}

#[test]
fn nothing_but_login_works_before_login() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::secured(&server, &server.tls(Version::Tls13));
    raw.protect();
    raw.expect("PASS secret123", 503);
    for line in [
        "PWD", "CWD /", "LIST", "NLST", "MLSD", "MLST", "RETR x", "STOR x", "APPE x", "DELE x",
        "MKD x", "RMD x", "RNFR x", "SIZE x", "MDTM x", "PASV", "EPSV",
    ] {
        raw.expect(line, 530);
    }
    for line in ["NOOP", "OPTS UTF8 ON", "CLNT test", "PBSZ 0", "PROT P"] {
        raw.expect(line, 200);
    }
    raw.login("alice");
    store.assert_holds(&[]);
}

#[test]
fn connections_beyond_the_limit_get_421() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/limits/connections_per_address", 3)
        .start();
    let mut open: Vec<Raw> = (0..3).map(|_| Raw::clear(server.explicit)).collect();
    let mut refused = Raw::silent(server.explicit);
    let replies = refused.until_closed(Duration::from_secs(10));
    assert!(replies.iter().all(|reply| reply.code == 421), "{replies:?}");
    open.pop().unwrap().expect("QUIT", 221);
    crate::harness::until(Duration::from_secs(10), "a place is free again", || {
        Raw::silent(server.explicit)
            .try_reply()
            .map_err(|error| error.to_string())
            .and_then(|reply| {
                if reply.code == 220 {
                    Ok(())
                } else {
                    Err(reply.text())
                }
            })
    });
}

fn read_only_user_changes_nothing(store: &Store) {
    let server = Server::start(store);
    store.put("reader/file", b"as it was");
    store.put("reader/directory/inner", b"too");
    let mut raw = Raw::explicit_as(&server, "reader");
    for line in ["STOR new", "STOR file", "APPE file"] {
        let _data = raw.open_data();
        raw.expect(line, 550);
    }
    for line in [
        "DELE file",
        "MKD new",
        "XMKD new",
        "RMD directory",
        "XRMD directory",
        "RNFR file",
        "RNFR directory",
    ] {
        raw.expect(line, 550);
    }
    raw.expect("RNTO other", 503);
    assert_eq!(raw.retrieve("RETR file"), b"as it was");
    assert_eq!(raw.names("NLST"), ["directory", "file"]);
    store.assert_holds(&[
        ("reader/file", b"as it was"),
        ("reader/directory/inner", b"too"),
    ]);
    assert!(!store.directories().contains("reader/new"));
}
