//! Backends: local directories and S3 buckets.

use std::{collections::BTreeMap, ops::RangeInclusive, sync::Arc};

use super::{
    super::{
        Backend, FsBackend, S3Backend, S3Credentials, SetTime,
        typed::{Item, Table},
    },
    key_prefix,
};

/// Bytes of one part of a multipart upload.
const PART_BYTES: usize = 8 << 20;
/// Parts under way at once per upload.
const PARTS_IN_FLIGHT: usize = 2;
/// The region that S3-compatible stores with an endpoint of their own expect.
const REGION: &str = "us-east-1";

/// S3 refuses smaller parts (but for the last) and larger ones:
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>.
const PART_RANGE: RangeInclusive<usize> = 5 << 20..=5 << 30;

const LOCAL_TIMES: [(&str, SetTime); 3] = [
    ("store", SetTime::Store),
    ("ignore", SetTime::Ignore),
    ("refuse", SetTime::Refuse),
];
/// A bucket stamps its objects itself.
const OBJECT_TIMES: [(&str, SetTime); 2] =
    [("ignore", SetTime::Ignore), ("refuse", SetTime::Refuse)];

pub(super) const FS: [&str; 3] = ["type", "root", "set_time"];
pub(super) const S3: [&str; 12] = [
    "type",
    "bucket",
    "region",
    "endpoint",
    "root",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "virtual_host_style",
    "part_size_bytes",
    "parts_in_flight",
    "set_time",
];

/// Every name, also of backends with mistakes, and the backends without any.
pub(super) type Backends<'a> = (Vec<&'a str>, BTreeMap<Arc<str>, Backend>);

pub(super) fn backends<'a>(root: &Table<'a>) -> Option<Backends<'a>> {
    let items = root
        .required("backends", "a table of at least one backend")?
        .names()?;
    if items.is_empty() {
        root.error("backends", "empty: the server needs at least one backend");
    }
    let mut names = Vec::new();
    let mut backends = BTreeMap::new();
    for (name, item) in items {
        names.push(name);
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric())
            || !name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        {
            item.error("a backend's name starts with a letter or digit and holds letters, digits, `_`, `-`");
        }
        if let Some(backend) = backend(&item) {
            backends.insert(name.into(), backend);
        }
    }
    Some((names, backends))
}

/// Which store a backend is.
#[derive(Clone, Copy)]
enum Kind {
    Fs,
    S3,
}

fn backend(item: &Item<'_>) -> Option<Backend> {
    // The type decides which keys the table may hold, so it is looked up before the table is read.
    match item.tag("type", &[("fs", Kind::Fs), ("s3", Kind::S3)])? {
        Kind::Fs => {
            let table = item.table(&FS)?;
            let root = table.file("root", "the path of a directory");
            let set_time = table.choice("set_time", &LOCAL_TIMES);
            Some(Backend::Fs(FsBackend {
                root: root?,
                set_time: set_time?.unwrap_or(SetTime::Store),
            }))
        }
        Kind::S3 => Some(Backend::S3(Box::new(s3(&item.table(&S3)?)?))),
    }
}

fn s3(table: &Table<'_>) -> Option<S3Backend> {
    let bucket = table.text("bucket", "the name of a bucket");
    let endpoint = endpoint(table);
    let region = match table.optional_text("region", "a region such as eu-central-1") {
        Some(Some(region)) => Some(region.value),
        Some(None) if table.has("endpoint") => Some(REGION.to_owned()),
        Some(None) => {
            table.error("region", "missing: expected a region such as eu-central-1");
            None
        }
        None => None,
    };
    let root = match table.any_text("root", "a key prefix") {
        Some(Some(text)) => key_prefix(table, "root", &text),
        Some(None) => Some(String::new()),
        None => None,
    };
    let credentials = credentials(table);
    let virtual_host_style = table.boolean("virtual_host_style", false);
    let part_bytes = table.integer("part_size_bytes", PART_BYTES, PART_RANGE);
    let parts_in_flight = table.integer("parts_in_flight", PARTS_IN_FLIGHT, 1..=64);
    let set_time = table.choice("set_time", &OBJECT_TIMES);
    Some(S3Backend {
        bucket: bucket?.value,
        region: region?,
        endpoint: endpoint?,
        root: root?,
        credentials: credentials?,
        virtual_host_style: virtual_host_style?,
        part_bytes: part_bytes?,
        parts_in_flight: parts_in_flight?,
        set_time: set_time?.unwrap_or(SetTime::Refuse),
    })
}

#[allow(
    clippy::option_option,
    reason = "a mistake and an absence are different things"
)]
fn endpoint(table: &Table<'_>) -> Option<Option<String>> {
    const EXPECTED: &str = "a URL such as https://s3.example.com:9000";
    let Some(text) = table.optional_text("endpoint", EXPECTED)? else {
        return Some(None);
    };
    let url = text.value.trim_end_matches('/');
    let host = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    match host {
        Some(host) if !host.is_empty() && !host.contains(['/', '@', '?', '#', ' ']) => {
            Some(Some(url.to_owned()))
        }
        _ => {
            // Not repeated: a URL with a user part holds a password.
            table.error(
                "endpoint",
                format!("expected {EXPECTED}, without user, path or query"),
            );
            None
        }
    }
}

#[allow(
    clippy::option_option,
    reason = "a mistake and an absence are different things"
)]
fn credentials(table: &Table<'_>) -> Option<Option<S3Credentials>> {
    let access_key_id = table.optional_text("access_key_id", "an access key id");
    let secret_access_key = table.secret("secret_access_key");
    let session_token = table.secret("session_token");
    let (has_id, has_secret) = (table.has("access_key_id"), table.has("secret_access_key"));
    if has_id && !has_secret {
        table.error(
            "secret_access_key",
            "missing: access_key_id is given, both belong together",
        );
    }
    if has_secret && !has_id {
        table.error(
            "access_key_id",
            "missing: secret_access_key is given, both belong together",
        );
    }
    if table.has("session_token") && !has_id && !has_secret {
        table.error(
            "session_token",
            "belongs to access_key_id and secret_access_key, which are missing",
        );
    }
    let session_token = session_token?;
    Some(match (access_key_id?, secret_access_key?) {
        (Some(id), Some(secret_access_key)) => Some(S3Credentials {
            access_key_id: id.value,
            secret_access_key,
            session_token,
        }),
        _ => None,
    })
}
