//! Profiles: each switch off and on, by listener and by user; and what `learn` says without one.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Raw, Server, Store, http_get, until};

fn with_profile(store: &Store, profile: &Value) -> Server {
    Server::with(store)
        .set("/profiles", json!({"old": profile}))
        .set_listeners("profile", &json!("old"))
        .start()
}

#[test]
fn latin1_names_are_utf8_in_the_store() {
    let store = Store::local();
    let server = with_profile(&store, &json!({"name_charset": "latin1"}));
    let mut raw = Raw::explicit(&server);
    raw.expect_latin1();
    let text = raw.expect("FEAT", 211).text();
    assert!(!text.contains("UTF8"), "{text}");
    let mut data = raw.open_data();
    raw.send(b"STOR \xE4\xF6\xFC.txt\r\n").unwrap();
    let opening = raw.reply().expect(150).text();
    assert!(opening.contains("äöü.txt"), "{opening}");
    data.handshake().unwrap();
    data.write(b"umlauts").unwrap();
    data.finish();
    raw.reply().expect(226);
    store.assert_holds(&[("alice/äöü.txt", b"umlauts")]);
    assert_eq!(raw.retrieve("NLST"), b"\xE4\xF6\xFC.txt\r\n");
    let listing = raw.retrieve("LIST");
    assert!(listing.ends_with(b" \xE4\xF6\xFC.txt\r\n"), "{listing:?}");
    // A client that says UTF-8 gets UTF-8.
    raw.expect("OPTS UTF8 ON", 200);
    assert_eq!(raw.retrieve("NLST"), "äöü.txt\r\n".as_bytes());
    assert_eq!(raw.retrieve("RETR äöü.txt"), b"umlauts");
}

#[test]
fn epsv_can_be_off() {
    let store = Store::local();
    let server = with_profile(&store, &json!({"epsv": "off"}));
    let mut raw = Raw::explicit(&server);
    let text = raw.expect("FEAT", 211).text();
    assert!(!text.contains("EPSV"), "{text}");
    raw.expect("EPSV", 502);
    raw.expect("EPSV ALL", 502);
    let address = raw.pasv();
    let mut data = raw.connect_data(address);
    raw.expect("STOR file", 150);
    data.handshake().unwrap();
    data.write(b"through PASV").unwrap();
    data.finish();
    raw.reply().expect(226);
    store.assert_holds(&[("alice/file", b"through PASV")]);
}

#[test]
fn dates_of_list_take_the_form_of_the_profile() {
    let store = Store::local();
    let profile = json!({"list_date": "year_only", "list_time_zone": "+14:00"});
    let server = with_profile(&store, &profile);
    let mut raw = Raw::explicit(&server);
    raw.store("STOR file", b"new");
    let listing = String::from_utf8(raw.retrieve("LIST")).unwrap();
    let field = listing.split_whitespace().nth(7).unwrap();
    assert_eq!(field.len(), 4, "{listing}");
    assert!(
        field.parse::<u16>().is_ok_and(|year| year > 2024),
        "{listing}"
    );
    let status = raw.expect("STAT file", 213).text();
    assert!(status.contains(&format!(" {field} file")), "{status}");
}

#[test]
fn upload_ended_before_tls_is_empty_where_the_profile_says_so() {
    let store = Store::local();
    for (value, code) in [("accept", 226), ("refuse", 426)] {
        let profile = json!({"empty_upload_without_handshake": value});
        let server = with_profile(&store, &profile);
        let mut raw = Raw::explicit(&server);
        for early in [false, true] {
            let data = raw.open_data();
            if early {
                data.send_fin();
                raw.expect("STOR file", 150);
            } else {
                raw.expect("STOR file", 150);
                data.send_fin();
            }
            raw.reply().expect(code);
            if code == 226 {
                store.assert_holds(&[("alice/file", b"")]);
                raw.expect("DELE file", 250);
            }
            store.assert_holds(&[]);
        }
        // A reset proves nothing, whatever the profile.
        let data = raw.open_data();
        raw.expect("STOR file", 150);
        data.reset();
        raw.reply().expect(426);
        store.assert_holds(&[]);
        // An upload that is not empty still needs its close_notify.
        let mut data = raw.begin_transfer("STOR file");
        data.write(b"cut").unwrap();
        data.send_fin();
        raw.reply().expect(426);
        store.assert_holds(&[]);
    }
}

#[test]
fn upload_end_of_the_profile_wins_over_the_listener() {
    let store = Store::local();
    let server = with_profile(&store, &json!({"upload_end": "fin"}));
    let mut raw = Raw::explicit(&server);
    let mut data = raw.begin_transfer("STOR file");
    data.write(b"no close_notify").unwrap();
    data.send_fin();
    raw.reply().expect(226);
    store.assert_holds(&[("alice/file", b"no close_notify")]);
}

#[test]
fn times_and_modes_are_ignored_with_success() {
    let store = Store::local();
    let profile = json!({
        "ignore_set_time": true, "ignore_chmod": true, "greeting": "Old friend, welcome",
    });
    let server = with_profile(&store, &profile);
    let mut raw = Raw::silent(server.explicit);
    assert_eq!(raw.reply().expect(220).text(), "220 Old friend, welcome");
    let mut raw = Raw::explicit(&server);
    raw.store("STOR file", b"mine");
    let reply = raw.expect("MFMT 20010203040506 file", 213).text();
    assert_eq!(reply, "213 Modify=20010203040506; file");
    let reply = raw.expect("MDTM 20010203040506 file", 213).text();
    assert_eq!(reply, "213 Modify=20010203040506; file");
    raw.expect("SITE CHMOD 600 file", 200);
    raw.expect("SITE UTIME 20010203040506 file", 200);
    let time = raw.expect("MDTM file", 213).text();
    assert!(!time.contains("2001"), "{time}");
}

#[test]
fn profile_of_the_user_wins_after_login() {
    let store = Store::local();
    let server = Server::with(&store)
        .set(
            "/profiles",
            json!({"listener": {"greeting": "hello"}, "user": {"epsv": "off"}}),
        )
        .set_listeners("profile", &json!("listener"))
        .user_profile("alice", "user")
        .start();
    let mut raw = Raw::silent(server.explicit);
    assert_eq!(raw.reply().expect(220).text(), "220 hello");
    Raw::explicit(&server).expect("EPSV", 502);
    Raw::explicit_as(&server, "reader").expect("EPSV", 229);
}

#[test]
fn learn_says_once_which_switch_a_device_would_have_needed() {
    let store = Store::local();
    let server = Server::with(&store)
        .set_listeners("learn", &json!(true))
        .set("/timeouts/data_connect_seconds", 1)
        .start();
    let mut raw = Raw::clear(server.explicit);
    raw.expect("USER alice", 530);
    let mut raw = Raw::explicit(&server);
    for _ in 0..2 {
        raw.send(b"STOR \xE4.txt\r\n").unwrap();
        raw.reply().expect_any(&[500, 501, 553]);
    }
    let mut data = raw.begin_transfer("STOR file");
    data.write(b"no close_notify").unwrap();
    data.send_fin();
    raw.reply().expect(426);
    let data = raw.open_data();
    raw.expect("STOR file", 150);
    data.send_fin();
    raw.reply().expect(426);
    raw.epsv();
    raw.expect("STOR file", 150);
    raw.reply().expect(425);
    let (_, metrics) = http_get(server.admin, "/metrics");
    for quirk in [
        "clear_text",
        "name_charset",
        "upload_end",
        "empty_upload_without_handshake",
        "epsv",
    ] {
        let line =
            format!("causeway_learned_quirks_total{{listener=\"explicit\",quirk=\"{quirk}\"}} 1");
        assert!(metrics.contains(&line), "{line}\n{metrics}");
        let field = format!("\"quirk\":\"{quirk}\"");
        until(Duration::from_secs(5), quirk, || {
            let log = server.log();
            let count = log.iter().filter(|line| line.contains(&field)).count();
            (count == 1)
                .then_some(())
                .ok_or_else(|| format!("logged {count} times"))
        });
    }
}
