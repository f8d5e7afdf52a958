//! Profiles of devices.

use std::{collections::BTreeMap, sync::Arc};

use encoding_rs::{Encoding, UTF_8};
use time::UtcOffset;

use super::{
    super::{
        EmptyUpload, ListDate, ListStyle, Profile,
        typed::{Table, nearest},
        yaml::Node,
    },
    listeners::UPLOAD_ENDS,
};

/// Longest greeting: one line of a reply with room for its code.
const GREETING_BYTES: usize = 400;

pub(super) const PROFILE: [&str; 9] = [
    "epsv",
    "list_time_zone",
    "list_date",
    "name_charset",
    "upload_end",
    "empty_upload_without_handshake",
    "ignore_set_time",
    "ignore_chmod",
    "greeting",
];

const SWITCH: [(&str, bool); 2] = [("on", true), ("off", false)];
const LIST_DATES: [(&str, ListDate); 2] =
    [("unix", ListDate::Unix), ("year_only", ListDate::YearOnly)];
const EMPTY_UPLOADS: [(&str, EmptyUpload); 2] = [
    ("refuse", EmptyUpload::Refuse),
    ("accept", EmptyUpload::Accept),
];

pub(super) type Profiles = BTreeMap<Arc<str>, Arc<Profile>>;

/// The table `profiles`; empty if it is not there. Broken ones keep their name, so that what refers
/// to them is not a second mistake.
pub(super) fn profiles(root: &Table<'_>) -> Option<Profiles> {
    let Some(item) = root.item("profiles") else {
        return Some(Profiles::new());
    };
    let mut profiles = Profiles::new();
    for (name, item) in item.names()? {
        let profile = item.table(&PROFILE).and_then(|table| profile(&table));
        profiles.insert(name.into(), Arc::new(profile.unwrap_or_default()));
    }
    Some(profiles)
}

/// The profile that a listener names.
pub(super) fn profile_of(
    listener: &Table<'_>,
    profiles: Option<&Profiles>,
) -> Option<Arc<Profile>> {
    let Some(name) = listener.optional_text("profile", "the name of a profile")? else {
        return Some(Arc::default());
    };
    let profiles = profiles?;
    let found = profiles.get(name.value.as_str());
    if found.is_none() {
        let names: Vec<&str> = profiles.keys().map(|name| &**name).collect();
        let hint = nearest(&name.value, &names)
            .map(|name| format!("; did you mean `{name}`?"))
            .unwrap_or_default();
        let shown = name.shown();
        listener.error("profile", format!("no profile has the name {shown}{hint}"));
    }
    found.cloned()
}

fn profile(table: &Table<'_>) -> Option<Profile> {
    let epsv = table.choice_or("epsv", &SWITCH, true);
    let offset = time_zone(table, "list_time_zone");
    let date = table.choice_or("list_date", &LIST_DATES, ListDate::Unix);
    let name_charset = charset(table);
    let upload_end = table.choice("upload_end", &UPLOAD_ENDS);
    let empty_upload = table.choice_or(
        "empty_upload_without_handshake",
        &EMPTY_UPLOADS,
        EmptyUpload::Refuse,
    );
    let ignore_set_time = table.boolean("ignore_set_time", false);
    let ignore_chmod = table.boolean("ignore_chmod", false);
    let greeting = greeting(table);
    Some(Profile {
        epsv: epsv?,
        list: ListStyle {
            offset: offset?,
            date: date?,
        },
        name_charset: name_charset?,
        upload_end: upload_end?,
        empty_upload: empty_upload?,
        ignore_set_time: ignore_set_time?,
        ignore_chmod: ignore_chmod?,
        greeting: greeting?,
    })
}

/// The zone at `key`, as distance from UTC; UTC if it is not given.
pub(crate) fn time_zone(table: &Table<'_>, key: &str) -> Option<UtcOffset> {
    const EXPECTED: &str = "a distance from UTC such as \"+02:00\" or \"-05:30\"";
    table.default(key, Node::String("+00:00".to_owned()));
    let Some(text) = table.optional_text(key, EXPECTED)? else {
        return Some(UtcOffset::UTC);
    };
    let offset = parse_offset(&text.value);
    if offset.is_none() {
        let shown = text.shown();
        table.error(key, format!("expected {EXPECTED}, found {shown}"));
    }
    offset
}

/// `+HH:MM`, at most the 14 hours that the world has.
fn parse_offset(text: &str) -> Option<UtcOffset> {
    let (sign, digits) = match text.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = digits.split_once(':')?;
    let number = |text: &str| {
        let plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse::<i8>().ok()).flatten()
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    if hours > 14 || minutes > 59 {
        return None;
    }
    UtcOffset::from_hms(sign * hours, sign * minutes, 0).ok()
}

fn charset(table: &Table<'_>) -> Option<&'static Encoding> {
    const EXPECTED: &str = "a charset that contains ASCII, such as utf-8, latin1 or windows-1251";
    table.default("name_charset", Node::String("utf-8".to_owned()));
    let Some(text) = table.optional_text("name_charset", EXPECTED)? else {
        return Some(UTF_8);
    };
    let charset = Encoding::for_label(text.value.as_bytes())
        .filter(|charset| charset.is_ascii_compatible() && charset.output_encoding() == *charset);
    if charset.is_none() {
        let shown = text.shown();
        table.error(
            "name_charset",
            format!("expected {EXPECTED}, found {shown}"),
        );
    }
    charset
}

#[allow(
    clippy::option_option,
    reason = "a mistake and an absence are different things"
)]
fn greeting(table: &Table<'_>) -> Option<Option<String>> {
    const EXPECTED: &str = "one line of text";
    let Some(text) = table.optional_text("greeting", EXPECTED)? else {
        return Some(None);
    };
    if text.value.len() > GREETING_BYTES || text.value.chars().any(char::is_control) {
        let message = format!("expected {EXPECTED} of at most {GREETING_BYTES} bytes");
        table.error("greeting", message);
        return None;
    }
    Some(Some(text.value))
}
