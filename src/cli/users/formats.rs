//! The formats of other servers, line by line.

use std::fmt::Write as _;

use time::Date;

use super::{Format, Found, Line, Secret};

/// The first of January 1970 as a Julian day.
const EPOCH: i32 = 2_440_588;

impl Default for Secret {
    fn default() -> Self {
        Self::Hash(String::new())
    }
}

/// Most of what a users file takes: sessions, bytes a second, bytes and files of a quota.
const COUNT: u64 = 1_000_000;
const RATE: u64 = 1 << 50;
const QUOTA: u64 = 1 << 60;

/// Every user of a file.
pub(super) fn read(format: Format, text: &str) -> Vec<Line> {
    // What Windows editors put before the first name.
    let lines = text
        .trim_start_matches('\u{feff}')
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim_end_matches('\r')))
        .filter(|(_, line)| !line.trim().is_empty());
    if format == Format::Vsftpd {
        return pairs(lines);
    }
    let comment = |line: &str| line.starts_with('#');
    lines
        .filter(|(_, line)| !comment(line))
        .map(|(number, line)| {
            let fields: Vec<&str> = line.split(':').collect();
            let found = match format {
                Format::Passwd | Format::Proftpd => passwd(&fields),
                Format::Shadow => shadow(&fields),
                Format::Puredb => puredb(&fields),
                Format::Htpasswd | Format::Vsftpd => htpasswd(&fields),
            };
            let name = fields.first().copied().unwrap_or_default();
            (number, found.map_err(|reason| (name.to_owned(), reason)))
        })
        .collect()
}

/// Why a hash of another server is none of ours, where its form tells.
pub(super) fn explain(hash: &str) -> Option<&'static str> {
    let is_des = hash.len() == 13
        && hash
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/'));
    if is_des {
        return Some("a DES hash, which looks at eight characters: give a new password");
    }
    if hash.starts_with('_') && hash.len() == 20 {
        return Some("a BSDi DES hash: give a new password");
    }
    if hash.starts_with("{SHA}") {
        return Some("an unsalted SHA-1 hash: give a new password");
    }
    if hash.starts_with("$7$") {
        return Some("a scrypt hash in crypt's own form ($7$): give a new password");
    }
    if hash.starts_with("$2x$") {
        return Some("a bcrypt hash of a faulty program ($2x$): give a new password");
    }
    None
}

/// Where a hash would stand: locked, empty, elsewhere, or a hash.
fn hash(field: &str) -> Result<(Secret, bool), String> {
    let (hash, enabled) = match field.strip_prefix('!') {
        Some(rest) => (rest.trim_start_matches('!'), false),
        None => (field, true),
    };
    match hash {
        "" if enabled => Err("no password at all".to_owned()),
        "" | "*" | "*LK*" | "NP" => Err("no password opens it".to_owned()),
        "x" => Err("its hash is in the shadow file: use --from shadow".to_owned()),
        _ => Ok((Secret::Hash(hash.to_owned()), enabled)),
    }
}

/// `name:hash:uid:gid:gecos:home:shell`; also `ProFTPD`'s.
fn passwd(fields: &[&str]) -> Result<Found, String> {
    let [name, secret, _, _, _, home, ..] = fields else {
        return Err("not a line of passwd: expected seven fields".to_owned());
    };
    let (secret, enabled) = hash(secret)?;
    Ok(Found {
        name: (*name).to_owned(),
        secret,
        home: Some((*home).to_owned()),
        enabled,
        ..Found::default()
    })
}

/// `name:hash:changed:min:max:warn:inactive:expire:`, days since 1970.
fn shadow(fields: &[&str]) -> Result<Found, String> {
    let [name, secret, _, _, _, _, _, expire, ..] = fields else {
        return Err("not a line of shadow: expected nine fields".to_owned());
    };
    let (secret, enabled) = hash(secret)?;
    let mut found = Found {
        name: (*name).to_owned(),
        secret,
        enabled,
        ..Found::default()
    };
    if !expire.is_empty() {
        // The day itself is no longer valid there; here a date is the last valid day.
        let days = expire.parse::<i32>().ok();
        let last = days
            .and_then(|days| Date::from_julian_day(EPOCH.checked_add(days)?.checked_sub(1)?).ok())
            .filter(|date| (0..=9999).contains(&date.year()));
        let last = last.ok_or("its date of expiry cannot be read")?;
        found.more.push(format!("expires: \"{last}\""));
    }
    Ok(found)
}

/// `name:hash`.
fn htpasswd(fields: &[&str]) -> Result<Found, String> {
    let [name, secret, ..] = fields else {
        return Err("not a line of htpasswd: expected name:hash".to_owned());
    };
    let (secret, enabled) = hash(secret)?;
    Ok(Found {
        name: (*name).to_owned(),
        secret,
        enabled,
        ..Found::default()
    })
}

/// A name on one line, a password or a hash on the next. With an odd line out nobody knows which are which:
/// a user might get a name for a password, and a remark might show a password as a name.
fn pairs<'a>(lines: impl Iterator<Item = (usize, &'a str)>) -> Vec<Line> {
    let lines: Vec<_> = lines.collect();
    let (pairs, rest) = lines.as_chunks::<2>();
    if let [(number, _)] = rest {
        let reason = "a name or a password is missing somewhere above or here, so that names cannot be told from passwords: no user is taken";
        return vec![(*number, Err((String::new(), reason.to_owned())))];
    }
    let pair = |[(number, name), (_, secret)]: &[(usize, &str); 2]| {
        let secret = if secret.starts_with('$') {
            // What pam_userdb has with `crypt=crypt`.
            Secret::Hash(secret.trim().to_owned())
        } else {
            Secret::Clear((*secret).to_owned())
        };
        let found = Found {
            name: name.trim().to_owned(),
            secret,
            enabled: true,
            ..Found::default()
        };
        (*number, Ok(found))
    };
    pairs.iter().map(pair).collect()
}

/// Pure-FTPd's eighteen fields.
fn puredb(fields: &[&str]) -> Result<Found, String> {
    let field = |index: usize| fields.get(index).copied().unwrap_or_default();
    if fields.len() < 6 {
        return Err("not a line of pureftpd.passwd".to_owned());
    }
    let (secret, enabled) = hash(field(1))?;
    let mut found = Found {
        name: field(0).to_owned(),
        secret,
        home: Some(field(5).to_owned()),
        enabled,
        ..Found::default()
    };
    for (index, most) in [(10, COUNT), (6, RATE), (7, RATE), (11, QUOTA), (12, QUOTA)] {
        let text = field(index).trim();
        if !text.is_empty() && text.parse::<u64>().ok().is_none_or(|value| value > most) {
            return Err(format!(
                "its limit {text:?} cannot be one: expected 0 to {most}"
            ));
        }
    }
    let positive = |index: usize| {
        let value = field(index).trim().parse::<u64>().ok();
        value.filter(|value| *value > 0)
    };
    let mut limits = String::new();
    for (key, index) in [
        ("sessions", 10),
        ("upload_bytes_per_second", 6),
        ("download_bytes_per_second", 7),
    ] {
        if let Some(value) = positive(index) {
            let comma = if limits.is_empty() { "" } else { ", " };
            // Writing to a string does not fail.
            let _ = write!(limits, "{comma}{key}: {value}");
        }
    }
    if !limits.is_empty() {
        found.more.push(format!("limits: {{{limits}}}"));
    }
    let quota: Vec<String> = [("files", 11), ("bytes", 12)]
        .iter()
        .filter_map(|(key, index)| Some(format!("{key}: {}", positive(*index)?)))
        .collect();
    if !quota.is_empty() {
        found.more.push(format!("quota: {{{}}}", quota.join(", ")));
    }
    let networks: Vec<String> = field(15)
        .split(',')
        .map(str::trim)
        .filter(|network| !network.is_empty())
        .map(|network| format!("\"{network}\""))
        .collect();
    if networks.iter().all(|network| is_network(network)) {
        if !networks.is_empty() {
            found
                .more
                .push(format!("allowed_networks: [{}]", networks.join(", ")));
        }
    } else {
        return Err("its list of allowed clients holds names, which are not looked up".to_owned());
    }
    match hours(field(17)) {
        Ok(None) => {}
        Ok(Some(window)) => {
            found
                .more
                .push(format!("hours: {{windows: [\"{window}\"]}}"));
            let note = "its hours are now hours of UTC: set time_zone";
            found.notes.push(note.to_owned());
        }
        Err(()) => return Err("its hours cannot be read".to_owned()),
    }
    for (index, what) in [
        (8, "upload ratio"),
        (9, "download ratio"),
        (13, "list of allowed server addresses"),
        (14, "list of refused server addresses"),
        (16, "list of refused clients"),
    ] {
        if !matches!(field(index).trim(), "" | "0") {
            found.notes.push(format!("its {what} is not taken"));
        }
    }
    Ok(found)
}

fn is_network(quoted: &str) -> bool {
    let text = quoted.trim_matches('"');
    text.parse::<ipnet::IpNet>().is_ok() || text.parse::<std::net::IpAddr>().is_ok()
}

/// `0900-1800` as `09:00-18:00`.
fn hours(field: &str) -> Result<Option<String>, ()> {
    if field.trim().is_empty() || field.trim() == "0-0" {
        return Ok(None);
    }
    let clock = |text: &str| -> Result<String, ()> {
        let number: u16 = text.trim().parse().map_err(|_| ())?;
        Ok(format!("{:02}:{:02}", number / 100, number % 100))
    };
    let (from, to) = field.split_once('-').ok_or(())?;
    let window = format!("{}-{}", clock(from)?, clock(to)?);
    crate::access::Window::parse(&window)
        .map(|_| Some(window))
        .ok_or(())
}
