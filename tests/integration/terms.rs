//! Sessions whose account's time ends while they last.

use std::time::{Duration, SystemTime};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::harness::{Raw, Server, Store, bytes, password_hash, until};

/// `expires` of a user, so many seconds from now.
fn soon(seconds: u64) -> (OffsetDateTime, String) {
    let end = OffsetDateTime::from(SystemTime::now() + Duration::from_secs(seconds));
    (end, end.format(&Rfc3339).unwrap())
}

/// An idle session hears 421 at that moment, and a login afterwards is refused; a transfer may end, and
/// not for ever.
#[test]
fn session_ends_with_the_time_of_its_account() {
    let store = Store::local();
    let (end, expires) = soon(6);
    let hash = password_hash();
    let user = |name: &str| {
        store.make_home(name);
        format!("{{name: {name}, password_hash: \"{hash}\", home: {name}, expires: \"{expires}\"}}")
    };
    let server = Server::with(&store)
        .set("/listeners/0/clear_text", "allow")
        .set("/limits/login_delay_milliseconds", 0)
        .set("/timeouts/drain_seconds", 3)
        .user(&user("idler"))
        .user(&user("mover"))
        .user(&user("lingerer"))
        .start();
    let login = |user: &str| {
        let mut raw = Raw::clear(server.explicit);
        raw.login(user);
        raw
    };
    let mut idler = login("idler");
    let (mut mover, mut lingerer) = (login("mover"), login("lingerer"));
    let mut upload = mover.begin_transfer("STOR file");
    upload.write(&bytes(1, 10_000)).unwrap();
    let mut lingering = lingerer.begin_transfer("STOR file");
    lingering.write(&bytes(2, 10_000)).unwrap();
    // Neither of them is in a hurry before.
    assert!(
        SystemTime::now() < SystemTime::from(end),
        "the machine is too slow for this test"
    );

    let replies = idler.until_closed(Duration::from_secs(20));
    assert!(
        SystemTime::now() >= SystemTime::from(end),
        "too early: {replies:?}"
    );
    assert_eq!(replies.len(), 1, "{replies:?}");
    assert!(replies[0].text().contains("time is over"), "{replies:?}");
    assert_eq!(replies[0].code, 421);
    let mut late = Raw::clear(server.explicit);
    late.expect("USER idler", 331);
    late.expect(&format!("PASS {}", crate::harness::PASSWORD), 530);

    // What was begun in time is whole, and the next command is the last.
    upload.write(&bytes(1, 5_000)).unwrap();
    upload.finish();
    mover.reply().expect(226);
    let replies = mover.until_closed(Duration::from_secs(20));
    assert_eq!(
        replies.last().map(|reply| reply.code),
        Some(421),
        "{replies:?}"
    );
    // Who goes on and on is stopped, and leaves nothing.
    let replies = lingerer.until_closed(Duration::from_secs(30));
    let codes: Vec<u16> = replies.iter().map(|reply| reply.code).collect();
    assert_eq!(codes, [426, 421], "{replies:?}");
    let expected = [bytes(1, 10_000), bytes(1, 5_000)].concat();
    store.assert_holds(&[("mover/file", &expected)]);
    until(Duration::from_secs(10), "it is counted", || {
        let overstayed = server.metric("causeway_transfers_total", &["overstayed"]);
        if overstayed >= 1.0 {
            Ok(())
        } else {
            Err(overstayed.to_string())
        }
    });
    assert!(
        server
            .log()
            .join("\n")
            .contains("its account's time is over")
    );
}
