//! What clients say that cannot run here: `tests/dialogues/*.dialogue`, played line by line.
//!
//! Owns the little language of those files; its table is in `tests/dialogues/README.md`.

use std::{
    fs::{self, File, FileTimes},
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::{Duration, SystemTime},
};

use crate::harness::{Data, End, PASSWORD, Raw, Server, Store, Version};

macro_rules! dialogues {
    ($($name:ident),+ $(,)?) => {
        $(
            #[test]
            fn $name() {
                play(include_str!(concat!("../dialogues/", stringify!($name), ".dialogue")));
            }
        )+

        /// A file without its test would prove nothing.
        #[test]
        fn every_file_is_played() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues");
            let mut found: Vec<String> = fs::read_dir(folder)
                .unwrap()
                .filter_map(|entry| {
                    let name = entry.unwrap().file_name().into_string().unwrap();
                    name.strip_suffix(".dialogue").map(str::to_owned)
                })
                .collect();
            found.sort();
            let mut played = [$(stringify!($name)),+];
            played.sort_unstable();
            assert_eq!(found, played);
        }
    };
}

dialogues!(
    cyberduck,
    dotnet_ftpwebrequest,
    fluentftp,
    ibm_mq_bridge_agent,
    windows_explorer,
    windows_ftp,
    winscp,
    zos,
    zos_implicit,
);

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Plays one file. The line being played is printed, so that a failure shows where it was.
fn play(script: &str) {
    let store = Store::local();
    play_on(&Server::start(&store), &store, script);
}

/// Plays a dialogue against this server.
pub(crate) fn play_on(server: &Server, store: &Store, script: &str) {
    let mut player = Player::new(server, store, script);
    for (number, line) in (1..).zip(script.lines()) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        println!("{number}: {line}");
        let (sign, rest) = line.split_once(' ').expect("a sign, a blank, the rest");
        match sign {
            ">" => {
                let line = rest.replace("{password}", PASSWORD);
                player.raw.send(format!("{line}\r\n").as_bytes()).unwrap();
            }
            "<" => player.expect_reply(rest),
            "@" => player.act(rest),
            _ => panic!("line {number} begins with neither # > < nor @"),
        }
    }
}

struct Player<'a> {
    server: &'a Server,
    store: &'a Store,
    raw: Raw,
    /// Of the last `227` or `229`.
    address: Option<SocketAddr>,
    data: Option<Data>,
    received: String,
}

impl<'a> Player<'a> {
    fn new(server: &'a Server, store: &'a Store, script: &str) -> Self {
        let raw = if script.lines().any(|line| line == "@ implicit") {
            let mut raw = Raw::silent(server.implicit);
            raw.start_tls(&server.tls(Version::Tls13)).unwrap();
            raw
        } else {
            Raw::silent(server.explicit)
        };
        Self {
            server,
            store,
            raw,
            address: None,
            data: None,
            received: String::new(),
        }
    }

    fn expect_reply(&mut self, wanted: &str) {
        let (codes, pattern) = wanted.split_once(' ').unwrap_or((wanted, "*"));
        let pattern = &pattern.replace("\\n", "\n");
        let reply = self.raw.reply();
        assert!(
            codes.split('|').any(|code| code.parse() == Ok(reply.code)),
            "{codes} expected, got {reply}"
        );
        let text = reply.text();
        let text = text.get(4..).unwrap_or_default();
        assert!(fits(pattern, text), "{pattern:?} expected, got {reply}");
        match reply.code {
            227 => self.address = Some(passive_address(text)),
            229 => self.address = Some(extended_passive_address(text)),
            _ => {}
        }
    }

    fn act(&mut self, action: &str) {
        let (verb, rest) = action.split_once(' ').unwrap_or((action, ""));
        match verb {
            "implicit" => {}
            "tls" => {
                let version = if rest == "1.2" {
                    Version::Tls12
                } else {
                    Version::Tls13
                };
                self.raw.start_tls(&self.server.tls(version)).unwrap();
            }
            "connect" => self.connect(),
            "upload" => {
                let mut data = self.handshaken();
                data.write(unescaped(rest).as_bytes()).unwrap();
                assert_eq!(data.finish(), End::CloseNotify);
            }
            "upload-bytes" => {
                let mut data = self.handshaken();
                data.write(&filler(rest)).unwrap();
                assert_eq!(data.finish(), End::CloseNotify);
            }
            "received-bytes" => assert_eq!(self.received.len().to_string(), rest),
            "file-bytes" => {
                let (name, size) = rest.rsplit_once(' ').expect("a name and a size");
                self.store.put(&home(name), &filler(size));
            }
            "directory" => fs::create_dir_all(self.store.local_root().join(home(rest))).unwrap(),
            "receive" => {
                let (content, end) = self.handshaken().read_all();
                assert_eq!(end, End::CloseNotify);
                self.received = String::from_utf8(content).unwrap();
            }
            "line" => assert!(
                self.received.lines().any(|line| fits(rest, line)),
                "no line fits {rest:?} in\n{}",
                self.received
            ),
            "content" => assert_eq!(self.received, unescaped(rest)),
            "file" => {
                let (name, text) = named(rest);
                self.store.put(&home(name), text.as_bytes());
            }
            "age" => {
                let (name, days) = rest.rsplit_once(' ').expect("a name and days");
                let days: u64 = days.parse().unwrap();
                let then = SystemTime::now() - Duration::from_hours(24 * days);
                let file = File::options()
                    .write(true)
                    .open(self.store.local_root().join(home(name)));
                let times = FileTimes::new().set_modified(then);
                file.unwrap().set_times(times).unwrap();
            }
            "stored" => {
                let (name, text) = named(rest);
                assert_eq!(self.store.bytes(&home(name)), Some(text.into_bytes()));
            }
            "absent" => assert!(!self.store.local_root().join(home(rest)).exists()),
            _ => panic!("no action named {verb:?}"),
        }
    }

    fn connect(&mut self) {
        let address = self.address.take().expect("a 227 or 229 before");
        self.data = Some(self.raw.connect_data(address));
    }

    fn handshaken(&mut self) -> Data {
        if self.data.is_none() {
            self.connect();
        }
        let mut data = self.data.take().unwrap();
        data.handshake().unwrap();
        data
    }
}

/// Text of so many bytes.
fn filler(size: &str) -> Vec<u8> {
    b"causeway\n"
        .iter()
        .copied()
        .cycle()
        .take(size.parse().unwrap())
        .collect()
}

fn home(name: &str) -> String {
    format!("alice/{name}")
}

/// `NAME = TEXT`.
fn named(rest: &str) -> (&str, String) {
    let (name, text) = rest.split_once(" = ").expect("NAME = TEXT");
    (name, unescaped(text))
}

fn unescaped(text: &str) -> String {
    text.replace("\\r", "\r").replace("\\n", "\n")
}

/// The six numbers, wherever they stand: clients look for digits (RFC 1123 §4.1.2.6).
fn passive_address(text: &str) -> SocketAddr {
    let numbers: Vec<u8> = text
        .split(|letter: char| !letter.is_ascii_digit())
        .filter(|digits| !digits.is_empty())
        .map(|digits| digits.parse().unwrap())
        .collect();
    let [a, b, c, d, high, low] = numbers[..] else {
        panic!("not six numbers: {text:?}")
    };
    (Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])).into()
}

/// The port between the bars, on the address of the control connection (RFC 2428 §3).
fn extended_passive_address(text: &str) -> SocketAddr {
    let port = text.split('|').nth(3).expect("(|||port|)");
    (Ipv4Addr::LOCALHOST, port.parse().unwrap()).into()
}

/// Whether the whole text fits: `*` any text, `{n}` a number, `{month}` a month, a blank one or more
/// blanks, the rest itself.
fn fits(pattern: &str, text: &str) -> bool {
    if let Some(rest) = pattern.strip_prefix('*') {
        return text
            .char_indices()
            .map(|(at, _)| at)
            .chain([text.len()])
            .any(|at| fits(rest, &text[at..]));
    }
    if let Some(rest) = pattern.strip_prefix("{n}") {
        let end = text.trim_start_matches(|letter: char| letter.is_ascii_digit());
        return end.len() < text.len() && fits(rest, end);
    }
    if let Some(rest) = pattern.strip_prefix("{month}") {
        return text
            .get(..3)
            .is_some_and(|month| MONTHS.contains(&month) && fits(rest, &text[3..]));
    }
    if let Some(rest) = pattern.strip_prefix(' ') {
        return text.starts_with(' ') && fits(rest, text.trim_start_matches(' '));
    }
    match (pattern.chars().next(), text.chars().next()) {
        (None, None) => true,
        (Some(wanted), Some(found)) if wanted == found => {
            fits(&pattern[wanted.len_utf8()..], &text[found.len_utf8()..])
        }
        _ => false,
    }
}

#[test]
fn patterns_fit_what_they_say() {
    for (pattern, text) in [
        ("*", ""),
        ("a*c", "abbc"),
        ("*({n},{n})*", "at (12,3)."),
        (
            "-rw* 9 {month} {n} {n} x",
            "-rw-r--r--   1 o g    9 Jan  2  2024 x",
        ),
    ] {
        assert!(fits(pattern, text), "{pattern:?} {text:?}");
    }
    for (pattern, text) in [
        ("a", "ab"),
        ("{n}", ""),
        ("{n}", "x"),
        ("{month}", "jan"),
        ("a b", "ab"),
    ] {
        assert!(!fits(pattern, text), "{pattern:?} {text:?}");
    }
}
