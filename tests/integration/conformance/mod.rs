//! The conformance list, item by item: A1 is `a1_…`. One file for each letter.
//!
//! Items are registered with [`items!`], which makes a test of each and a list of all, so that the
//! test at the end can say that none of the 179 is missing. What deliberately differs from the list
//! is said in `docs/clients.md`; the test of such an item holds the difference.

use crate::harness::{Raw, Server, Store, Version};

/// Makes a test of each function and `ITEMS`, the list of their names.
macro_rules! items {
    ($($item:ident),+ $(,)?) => {
        pub(super) const ITEMS: &[&str] = &[$(stringify!($item)),+];

        $(
            mod $item {
                #[test]
                fn conforms() {
                    super::$item();
                }
            }
        )+
    };
}

/// A store that fails.
mod failing_store;
/// F: FEAT, OPTS, HOST, LANG, CLNT.
mod features;
/// A: lines, replies, Telnet.
mod lines;
/// H: listings.
mod listings;
/// B: login and session.
mod login;
/// I: metadata and extensions.
mod metadata;
/// J: the name space.
mod names;
/// A peer with the TLS options that rustls does not have.
pub(crate) mod openssl;
/// E: data connections.
mod passive;
/// D: PBSZ, PROT, CCC.
mod protection;
/// C: AUTH and the control TLS session.
mod secured;
/// G: transfers.
mod transfers;

/// How many items each letter has.
const LETTERS: [(char, usize, &[&str]); 10] = [
    ('a', 18, lines::ITEMS),
    ('b', 15, login::ITEMS),
    ('c', 22, secured::ITEMS),
    ('d', 16, protection::ITEMS),
    ('e', 21, passive::ITEMS),
    ('f', 10, features::ITEMS),
    ('g', 30, transfers::ITEMS),
    ('h', 16, listings::ITEMS),
    ('i', 15, metadata::ITEMS),
    ('j', 16, names::ITEMS),
];

#[test]
fn every_item_of_the_list_has_one_test() {
    let mut total = 0;
    for (letter, count, items) in LETTERS {
        for number in 1..=count {
            let start = format!("{letter}{number}_");
            let found = items.iter().filter(|item| item.starts_with(&start)).count();
            assert_eq!(found, 1, "tests of {letter}{number}");
        }
        assert_eq!(items.len(), count, "items of the letter {letter}");
        total += count;
    }
    assert_eq!(total, 179);
}

/// A server of its own for one item, and alice logged in over explicit TLS.
struct Site {
    raw: Raw,
    server: Server,
    store: Store,
}

impl Site {
    /// On a fresh local disk, with the defaults of [`Server::with`].
    fn new() -> Self {
        let store = Store::local();
        let server = Server::start(&store);
        Self::of(store, server)
    }

    fn of(store: Store, server: Server) -> Self {
        let raw = Raw::explicit(&server);
        Self { raw, server, store }
    }
}

/// Sends each line, demands its code, and that the session lives.
#[track_caller]
fn answers(raw: &mut Raw, table: &[(&str, u16)]) {
    for (line, code) in table {
        raw.expect(line, *code);
        raw.expect("NOOP", 200);
    }
}

/// As [`answers`], for lines that are no text.
#[track_caller]
fn answers_to_bytes(raw: &mut Raw, table: &[(&[u8], u16)]) {
    for (line, code) in table {
        raw.send(line).unwrap();
        let reply = raw.reply();
        assert_eq!(reply.code, *code, "{line:?}: {reply}");
        raw.expect("NOOP", 200);
    }
}

/// The code of each reply until the server closes.
#[track_caller]
fn last_words(raw: &mut Raw) -> Vec<u16> {
    let replies = raw.until_closed(std::time::Duration::from_secs(10));
    replies.iter().map(|reply| reply.code).collect()
}

/// Inside TLS, not logged in.
fn stranger(server: &Server) -> Raw {
    Raw::secured(server, &server.tls(Version::Tls13))
}

/// Uploads are refused before the 150, with this code.
#[track_caller]
fn refused_before_150(raw: &mut Raw, line: &str, code: u16) {
    let data = raw.open_data();
    raw.expect(line, code);
    drop(data);
    raw.expect("NOOP", 200);
}

/// What a listing command sends, line by line.
#[track_caller]
fn listed(raw: &mut Raw, line: &str) -> Vec<String> {
    let listing = String::from_utf8(raw.retrieve(line)).unwrap();
    assert_eq!(
        listing.matches('\n').count(),
        listing.matches("\r\n").count()
    );
    listing.lines().map(str::to_owned).collect()
}
