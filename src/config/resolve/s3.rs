//! The backend type `s3`.

use std::{ops::RangeInclusive, time::Duration};

use aws_smithy_types::base64;

use super::{
    super::{
        Checksum, ConcurrentUploads, CustomerKey, Deferred, S3Backend, S3Credentials, S3Encryption,
        S3Metadata, S3Provider, S3Switches, SetTime, TemporaryName, typed::Table, yaml::Node,
    },
    key_prefix,
};

/// Bytes of one part of a multipart upload.
pub(super) const PART_BYTES: usize = 8 << 20;
/// Parts under way at once per upload.
pub(super) const PARTS_IN_FLIGHT: usize = 2;
/// The region that S3-compatible stores with an endpoint of their own expect.
const REGION: &str = "us-east-1";
/// The largest object there is.
const RENAME_BYTES: u64 = 5 << 40;
/// A copy of this size takes about a second.
const SET_TIME_BYTES: u64 = 64 << 20;
/// What one `CopyObject` takes.
const MOST_SET_TIME_BYTES: u64 = 5 << 30;

/// S3 refuses smaller parts (but for the last) and larger ones:
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>.
const PART_RANGE: RangeInclusive<usize> = 5 << 20..=5 << 30;

const TIMES: [(&str, SetTime); 3] = [
    ("copy", SetTime::Store),
    ("ignore", SetTime::Ignore),
    ("refuse", SetTime::Refuse),
];
const PROVIDERS: [(&str, S3Provider); 6] = [
    ("aws", S3Provider::Aws),
    ("minio", S3Provider::Minio),
    ("ceph", S3Provider::Ceph),
    ("r2", S3Provider::R2),
    ("garage", S3Provider::Garage),
    ("generic", S3Provider::Generic),
];
const CONCURRENT: [(&str, ConcurrentUploads); 2] = [
    ("last_wins", ConcurrentUploads::LastWins),
    ("refuse", ConcurrentUploads::Refuse),
];

/// Well below a day, the least after which a bucket's own rule may end what waits.
const COMMIT_AFTER_SECONDS: RangeInclusive<u64> = 1..=3600;

pub(super) const S3: [&str; 28] = [
    "type",
    "bucket",
    "region",
    "endpoint",
    "ca_file",
    "provider",
    "conditional_writes",
    "delete_if_match",
    "exact_parts",
    "integrity_checksums",
    "object_tags",
    "root",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "virtual_host_style",
    "part_size_bytes",
    "parts_in_flight",
    "concurrent_uploads",
    "storage_class",
    "encryption",
    "metadata",
    "content_type_by_name",
    "rename_bytes",
    "set_time",
    "set_time_bytes",
    "list_set_times",
    "deferred",
];
pub(super) const ENCRYPTION: [&str; 3] = ["mode", "kms_key_id", "customer_key"];
pub(super) const DEFERRED: [&str; 4] = ["names", "commit_after_seconds", "uploads", "size_bytes"];
pub(super) const METADATA: [&str; 3] = ["checksums", "uploader", "session"];

/// Which encryption a table asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    None,
    S3,
    Kms,
    Customer,
}

pub(super) fn s3(table: &Table<'_>) -> Option<S3Backend> {
    let bucket = table.text("bucket", "the name of a bucket");
    let endpoint = endpoint(table);
    if table.has("endpoint") {
        table.default("region", Node::String(REGION.to_owned()));
    }
    let region = match table.optional_text("region", "a region such as eu-central-1") {
        Some(Some(region)) => Some(region.value),
        Some(None) if table.has("endpoint") => Some(REGION.to_owned()),
        Some(None) => {
            table.error("region", "missing: expected a region such as eu-central-1");
            None
        }
        None => None,
    };
    let ca_file = table.optional_file("ca_file", "the path of a PEM file");
    table.default("root", Node::String(String::new()));
    let root = match table.any_text("root", "a key prefix") {
        Some(Some(text)) => key_prefix(table, "root", &text),
        Some(None) => Some(String::new()),
        None => None,
    };
    let switches = switches(table);
    let credentials = credentials(table);
    let virtual_host_style = table.boolean("virtual_host_style", false);
    let part_bytes = table.integer("part_size_bytes", PART_BYTES, PART_RANGE);
    let parts_in_flight = table.integer("parts_in_flight", PARTS_IN_FLIGHT, 1..=64);
    let concurrent_uploads = table.choice_or(
        "concurrent_uploads",
        &CONCURRENT,
        ConcurrentUploads::LastWins,
    );
    let storage_class = table.optional_text("storage_class", "a storage class such as STANDARD_IA");
    let encryption = encryption(table);
    if let (Some(S3Encryption::Customer { .. }), Some(Some(endpoint))) = (&encryption, &endpoint)
        && endpoint.starts_with("http://")
    {
        table.error(
            "endpoint",
            "expected https://, since `mode: sse-c` sends the key with every request",
        );
    }
    let keep = metadata(table);
    let content_type_by_name = table.boolean("content_type_by_name", true);
    let rename_bytes = table.integer("rename_bytes", RENAME_BYTES, 0..=RENAME_BYTES);
    let set_time = table.choice_or("set_time", &TIMES, SetTime::Refuse);
    let set_time_bytes = table.integer("set_time_bytes", SET_TIME_BYTES, 0..=MOST_SET_TIME_BYTES);
    let list_set_times = table.boolean("list_set_times", false);
    if list_set_times == Some(true) && set_time.is_some_and(|set| set != SetTime::Store) {
        table.error("list_set_times", "belongs to `set_time: copy`");
    }
    let deferred = deferred(table);
    Some(S3Backend {
        bucket: bucket?.value,
        region: region?,
        endpoint: endpoint?,
        ca_file: ca_file?,
        switches: switches?,
        root: root?,
        credentials: credentials?,
        virtual_host_style: virtual_host_style?,
        part_bytes: part_bytes?,
        parts_in_flight: parts_in_flight?,
        concurrent_uploads: concurrent_uploads?,
        storage_class: storage_class?.map(|class| class.value),
        encryption: encryption?,
        keep: keep?,
        content_type_by_name: content_type_by_name?,
        rename_bytes: rename_bytes?,
        set_time: set_time?,
        set_time_bytes: set_time_bytes?,
        list_set_times: list_set_times?,
        deferred: deferred?,
    })
}

fn deferred(table: &Table<'_>) -> Option<Deferred> {
    let default = Deferred::default();
    let table = table.section("deferred", &DEFERRED)?;
    let names = temporary_names(&table);
    let seconds = default.commit_after.as_secs();
    let commit_after = table.integer("commit_after_seconds", seconds, COMMIT_AFTER_SECONDS);
    let uploads = table.integer("uploads", default.uploads, 1..=100_000);
    let bytes = table.integer("size_bytes", default.bytes, 1..=u64::MAX);
    Some(Deferred {
        names: names?,
        commit_after: Duration::from_secs(commit_after?),
        uploads: uploads?,
        bytes: bytes?,
    })
}

fn temporary_names(table: &Table<'_>) -> Option<Vec<TemporaryName>> {
    const EXPECTED: &str = "a name with one `*` for the final name, such as \"*.filepart\"";
    let items = table.optional_list("names", "a list of patterns")?;
    let parse = |item: &super::super::typed::Item<'_>| {
        let text = item.text(EXPECTED)?;
        let name = TemporaryName::parse(&text.value);
        if name.is_none() {
            item.error(format!("expected {EXPECTED}, found {}", text.shown()));
        }
        name
    };
    // All of them are looked at, so that every mistake is told.
    let names: Vec<_> = items.iter().map(parse).collect();
    names.into_iter().collect()
}

/// The provider's switches, each of which the operator may know better.
fn switches(table: &Table<'_>) -> Option<S3Switches> {
    let default = if table.has("endpoint") {
        S3Provider::Generic
    } else {
        S3Provider::Aws
    };
    let known = table.choice_or("provider", &PROVIDERS, default)?.switches();
    let conditional_writes = table.boolean("conditional_writes", known.conditional_writes);
    let delete_if_match = table.boolean("delete_if_match", known.delete_if_match);
    let exact_parts = table.boolean("exact_parts", known.exact_parts);
    let integrity = table.boolean("integrity_checksums", known.integrity);
    let object_tags = table.boolean("object_tags", known.object_tags);
    Some(S3Switches {
        conditional_writes: conditional_writes?,
        delete_if_match: delete_if_match?,
        exact_parts: exact_parts?,
        integrity: integrity?,
        object_tags: object_tags?,
    })
}

fn metadata(table: &Table<'_>) -> Option<S3Metadata> {
    let default = S3Metadata {
        checksums: vec![Checksum::Sha256],
        uploader: false,
        session: false,
    };
    let table = table.section("metadata", &METADATA)?;
    let checksums = checksums(&table, default.checksums);
    let uploader = table.boolean("uploader", default.uploader);
    let session = table.boolean("session", default.session);
    Some(S3Metadata {
        checksums: checksums?,
        uploader: uploader?,
        session: session?,
    })
}

fn checksums(table: &Table<'_>, default: Vec<Checksum>) -> Option<Vec<Checksum>> {
    const ALL: [Checksum; 5] = [
        Checksum::Crc32,
        Checksum::Md5,
        Checksum::Sha1,
        Checksum::Sha256,
        Checksum::Sha512,
    ];
    let expected = ALL.map(Checksum::name).join(", ");
    let names = default
        .iter()
        .map(|one| Node::String(one.name().to_owned()));
    table.default("checksums", Node::Sequence(names.collect()));
    let Some(items) = table.items("checksums", &format!("a list of {expected}"))? else {
        return Some(default);
    };
    let mut found = Vec::new();
    let mut complete = true;
    for item in items {
        item.words(ALL.map(Checksum::name));
        let known = item.text(&format!("one of {expected}")).map(|text| {
            (
                ALL.into_iter().find(|known| known.name() == text.value),
                text,
            )
        });
        match known {
            Some((Some(checksum), _)) if !found.contains(&checksum) => found.push(checksum),
            Some((Some(_), _)) => {}
            Some((None, text)) => {
                item.error(format!(
                    "expected one of {expected}, found {}",
                    text.shown()
                ));
                complete = false;
            }
            None => complete = false,
        }
    }
    complete.then_some(found)
}

fn encryption(table: &Table<'_>) -> Option<S3Encryption> {
    const MODES: [(&str, Mode); 4] = [
        ("none", Mode::None),
        ("sse-s3", Mode::S3),
        ("sse-kms", Mode::Kms),
        ("sse-c", Mode::Customer),
    ];
    let Some(item) = table.item("encryption") else {
        return Some(S3Encryption::None);
    };
    let table = item.table(&ENCRYPTION)?;
    let mode = table.required_choice("mode", &MODES);
    let key_id = table.optional_text("kms_key_id", "the id or ARN of a KMS key");
    let key = table.secret("customer_key");
    let (mode, key_id, key) = (mode?, key_id?, key?);
    if key_id.is_some() && mode != Mode::Kms {
        table.error("kms_key_id", "belongs to `mode: sse-kms`");
        return None;
    }
    if key.is_some() && mode != Mode::Customer {
        table.error("customer_key", "belongs to `mode: sse-c`");
        return None;
    }
    match mode {
        Mode::None => Some(S3Encryption::None),
        Mode::S3 => Some(S3Encryption::S3),
        Mode::Kms => Some(S3Encryption::Kms {
            key_id: key_id.map(|text| text.value),
        }),
        Mode::Customer => {
            let key = key.and_then(|key| base64::decode(key.expose()).ok());
            let key = key.and_then(|key| <[u8; 32]>::try_from(key).ok());
            if key.is_none() {
                table.error("customer_key", "expected 32 bytes in base64");
            }
            key.map(|key| S3Encryption::Customer {
                key: CustomerKey::new(key),
            })
        }
    }
}

#[allow(
    clippy::option_option,
    reason = "a mistake and an absence are different things"
)]
pub(super) fn endpoint(table: &Table<'_>) -> Option<Option<String>> {
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
