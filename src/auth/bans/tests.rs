//! Counting, growth, bounds: as tables and as properties.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;

use super::{table::CAPACITY, *};

fn policy() -> config::Bans {
    config::Bans {
        failures_per_address: 5,
        failures_per_network: 20,
        failures_per_user: 3,
        window: Duration::from_mins(10),
        first: Duration::from_mins(1),
        longest: Duration::from_mins(10),
        ..config::Bans::default()
    }
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
}

fn address(text: &str) -> Subject {
    Subject::address(text.parse().unwrap())
}

#[test]
fn a_burst_of_the_allowed_number_bans_and_a_trickle_does_not() {
    let mut table = Table::new(policy(), CAPACITY);
    let guesser = address("192.0.2.1");
    for _ in 0..4 {
        assert_eq!(table.fail(guesser, None, at(0)), None);
    }
    let ban = table.fail(guesser, None, at(0)).unwrap();
    assert_eq!((ban.since, ban.until, ban.count), (at(0), at(60), 1));
    assert!(table.ban(&guesser, at(59)).is_some());
    assert!(table.ban(&guesser, at(60)).is_none());

    // One wrong password every three minutes: never five within ten.
    let device = address("192.0.2.2");
    for round in 0..100 {
        assert_eq!(table.fail(device, None, at(180 * round)), None, "{round}");
    }
}

#[test]
fn bans_grow_to_their_bound_and_are_forgiven_after_as_long() {
    let mut table = Table::new(policy(), CAPACITY);
    let guesser = address("2001:db8::1");
    let mut now = at(0);
    for expected in [60, 120, 240, 480, 600, 600] {
        let ban = (0..5).find_map(|_| table.fail(guesser, None, now)).unwrap();
        let length = ban.until.duration_since(now).unwrap();
        assert_eq!(length, Duration::from_secs(expected));
        // What was under way does not lengthen it.
        assert_eq!(table.fail(guesser, None, now), None);
        assert_eq!(table.ban(&guesser, now).unwrap().until, ban.until);
        now = ban.until;
    }
    now += Duration::from_mins(10);
    table.prune(now);
    assert_eq!(table.len(), 0);
    let ban = (0..5).find_map(|_| table.fail(guesser, None, now)).unwrap();
    assert_eq!(ban.until, now + Duration::from_mins(1));
}

#[test]
fn a_shut_out_table_stays_bounded_and_keeps_its_bans() {
    let mut table = Table::new(policy(), 1000);
    let guesser = address("192.0.2.1");
    for _ in 0..5 {
        table.fail(guesser, None, at(0));
    }
    for number in 0..20_000_u32 {
        let flood = Subject::address(std::net::Ipv4Addr::from(number).into());
        table.fail(flood, None, at(u64::from(number / 1000)));
        assert!(table.len() <= 1000);
    }
    assert!(table.ban(&guesser, at(21)).is_some());
}

#[test]
fn subjects_are_read_as_they_are_written() {
    for (text, shown) in [
        ("address:192.0.2.1", "address:192.0.2.1"),
        ("address:::ffff:192.0.2.1", "address:192.0.2.1"),
        ("network:192.0.2.77/24", "network:192.0.2.0/24"),
        ("network:2001:db8::1/64", "network:2001:db8::/64"),
        ("network:::ffff:192.0.2.77/120", "network:192.0.2.0/24"),
        ("network:::ffff:0:0/95", "network:::fffe:0:0/95"),
    ] {
        assert_eq!(text.parse::<Subject>().unwrap().to_string(), shown);
    }
    let user: Subject = "user:alice".parse().unwrap();
    assert_eq!(user.to_string().parse(), Ok(user));
    for text in [
        "",
        "alice",
        "address:alice",
        "network:1.2.3.4",
        "user:",
        "user-digest:00",
    ] {
        assert!(text.parse::<Subject>().is_err(), "{text}");
    }
}

#[test]
fn who_is_banned_by_a_network_is_found_whatever_its_length() {
    let bans = Bans::open(policy(), Metrics::new());
    let peer = |text: &str| text.parse::<IpAddr>().unwrap();
    for (network, inside, outside) in [
        ("network:10.0.0.0/8", "10.9.8.7", "11.0.0.1"),
        ("network:192.0.2.0/31", "::ffff:192.0.2.1", "192.0.2.2"),
        (
            "network:2001:db8::/33",
            "2001:db8:7fff::1",
            "2001:db8:8000::1",
        ),
    ] {
        let subject = network.parse().unwrap();
        bans.add(subject, None, Duration::from_mins(1)).unwrap();
        assert_eq!(bans.of_peer(peer(inside)).unwrap().subject, subject);
        assert_eq!(bans.of_peer(peer(outside)), None);
        assert!(bans.lift(&subject));
        assert!(!bans.lift(&subject));
        assert_eq!(bans.of_peer(peer(inside)), None);
    }
}

#[test]
fn safe_networks_and_users_are_never_banned_and_unknown_names_stay_unread() {
    let bans = Bans::open(
        config::Bans {
            safe_networks: vec!["192.0.2.0/24".parse().unwrap()],
            safe_users: vec!["robot".to_owned()],
            ..policy()
        },
        Metrics::new(),
    );
    let (safe, other) = (
        "192.0.2.9".parse().unwrap(),
        "198.51.100.1".parse().unwrap(),
    );
    for _ in 0..50 {
        assert_eq!(bans.count_failure("alice", true, safe), 0);
    }
    assert_eq!(bans.list(), []);
    for expected in 1..=4 {
        assert_eq!(bans.count_failure("hunter2", false, other), expected);
    }
    assert!(bans.of_user("hunter2", other).is_some());
    assert!(bans.of_user("hunter2", safe).is_none());
    bans.count_failure("robot", true, other);
    assert!(bans.of_user("robot", other).is_none());
    assert!(bans.of_peer(other).is_some());
    assert!(!format!("{:?}", bans.list()).contains("hunter2"));
}

#[tokio::test]
async fn bans_survive_a_restart_and_a_bad_file_is_no_reason_not_to_start() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bans.json");
    let policy = config::Bans {
        state_file: Some(file.clone()),
        ..policy()
    };
    let bans = Bans::open(policy.clone(), Metrics::new());
    let peer = "198.51.100.1".parse().unwrap();
    for _ in 0..5 {
        bans.count_failure("alice", true, peer);
    }
    bans.save().await;
    let again = Bans::open(policy.clone(), Metrics::new());
    assert_eq!(again.of_peer(peer).unwrap().count, 1);
    let by_subject = |bans: &Bans| -> std::collections::BTreeMap<_, _> {
        let bans = bans.list().into_iter();
        bans.map(|ban| (ban.subject, ban.name)).collect()
    };
    let kept = by_subject(&again);
    assert_eq!(kept, by_subject(&bans));
    assert_eq!(kept.len(), 2);

    std::fs::write(&file, "{\"version\": 1, \"bans\": [").unwrap();
    assert_eq!(Bans::open(policy, Metrics::new()).list(), []);
}

proptest! {
    /// Whatever happens in whatever order: no ban outlives the longest, and the table its bound.
    #[test]
    fn no_ban_outlives_its_limit(
        events in prop::collection::vec((0_u32..40, 0_u64..2000, any::<bool>()), 1..400),
        failures in 1_u32..30,
        window in 1_u64..5000,
        first in 1_u64..5000,
        more in 0_u64..5000,
    ) {
        let policy = config::Bans {
            failures_per_address: failures,
            window: Duration::from_secs(window),
            first: Duration::from_secs(first),
            longest: Duration::from_secs(first + more),
            ..policy()
        };
        let longest = policy.longest;
        let mut table = Table::new(policy, 16);
        let mut now = at(0);
        for (who, pause, prune) in events {
            now += Duration::from_secs(pause);
            let subject = Subject::address(std::net::Ipv4Addr::from(who).into());
            let was_banned = table.ban(&subject, now).is_some();
            let begun = table.fail(subject, None, now);
            prop_assert!(!(was_banned && begun.is_some()));
            if let Some(ban) = begun {
                prop_assert_eq!(ban.since, now);
            }
            if prune {
                table.prune(now);
            }
            prop_assert!(table.len() <= 16);
            for ban in table.list(now) {
                prop_assert!(ban.until.duration_since(now).unwrap() <= longest);
            }
        }
        now += longest;
        prop_assert!(table.list(now).is_empty());
    }

    /// As many failures as allowed within the window always ban, however they are spread.
    #[test]
    fn failures_at_once_always_ban(failures in 1_u32..100, window in 1_u64..100_000) {
        let policy = config::Bans {
            failures_per_address: failures,
            window: Duration::from_secs(window),
            ..policy()
        };
        let mut table = Table::new(policy, CAPACITY);
        let subject = address("192.0.2.1");
        let bans = (0..failures).filter_map(|_| table.fail(subject, None, at(0))).count();
        prop_assert_eq!(bans, 1);
    }
}

/// What comes back from the store, a moment later, is no other ban.
#[test]
fn own_ban_that_comes_back_stays_as_it_is() {
    let mut table = Table::new(policy(), CAPACITY);
    let guesser = address("192.0.2.1");
    let ban = table.ban_for_failures(guesser, at(0)).unwrap();
    let later = ban.until + Duration::from_millis(3);
    table.add(guesser, None, later, BannedBy::Replica, at(1));
    let found = table.ban(&guesser, at(1)).unwrap();
    assert_eq!(
        found,
        Ban {
            until: later,
            ..ban
        }
    );
    // Once it is over, another replica's is one.
    table.add(guesser, None, at(200), BannedBy::Replica, at(100));
    let found = table.ban(&guesser, at(100)).unwrap();
    assert_eq!((found.by, found.since), (BannedBy::Replica, at(100)));
}
