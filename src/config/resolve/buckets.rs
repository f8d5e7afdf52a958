//! Backends beyond the local disk and S3.

use std::{collections::BTreeMap, ops::RangeInclusive};

use super::{
    super::{
        AzblobBackend, AzblobCredentials, BucketSettings, GcsBackend, GcsCredentials, GcsDriver,
        MemoryBackend, OPENDAL_FEATURES, OPENDAL_SCHEMES, OpenDalBackend, SetTime,
        typed::{self, Table},
        yaml::Node,
    },
    backends::LOCAL_TIMES,
    key_prefix,
    s3::{PART_BYTES, PARTS_IN_FLIGHT, endpoint},
};

/// From what is worth a request to what all stores take as one part.
const PART_RANGE: RangeInclusive<usize> = 5 << 20..=4000 << 20;
/// Bytes that are read and written again for one command.
const REWRITE_BYTES: u64 = 1 << 30;
/// Bytes of all files in memory.
const MEMORY_BYTES: usize = 256 << 20;

/// A bucket stamps its objects itself.
const OBJECT_TIMES: [(&str, SetTime); 2] =
    [("ignore", SetTime::Ignore), ("refuse", SetTime::Refuse)];

/// Keys that every bucket but S3 has.
macro_rules! bucket_keys {
    ($($own:literal),+ $(,)?) => {
        &["type", "root", "part_size_bytes", "parts_in_flight", "rewrite_limit_bytes", "set_time",
          "ca_file", $($own),+]
    };
}

pub(super) const GCS: &[&str] = bucket_keys![
    "bucket",
    "endpoint",
    "driver",
    "credentials_file",
    "anonymous",
    "storage_class",
];
pub(super) const AZBLOB: &[&str] = bucket_keys![
    "container",
    "account",
    "endpoint",
    "account_key",
    "sas_token",
    "tenant_id",
    "client_id",
    "client_secret",
    "identity",
];
pub(super) const OPENDAL: &[&str] = bucket_keys!["scheme", "options"];
pub(super) const MEMORY: &[&str] = &["type", "size_bytes", "set_time"];

const DRIVERS: [(&str, GcsDriver); 2] = [
    ("opendal", GcsDriver::OpenDal),
    ("unftp-sbe-gcs", GcsDriver::Unftp),
];
const STORAGE_CLASSES: [(&str, &str); 4] = [
    ("STANDARD", "STANDARD"),
    ("NEARLINE", "NEARLINE"),
    ("COLDLINE", "COLDLINE"),
    ("ARCHIVE", "ARCHIVE"),
];

/// Who authorises an identity on Azure.
#[derive(Clone, Copy)]
enum Identity {
    Workload,
    Managed,
}

const IDENTITIES: [(&str, Identity); 2] = [
    ("workload", Identity::Workload),
    ("managed", Identity::Managed),
];

fn settings(table: &Table<'_>) -> Option<BucketSettings> {
    table.default("root", Node::String(String::new()));
    let root = match table.any_text("root", "a key prefix") {
        Some(Some(text)) => key_prefix(table, "root", &text),
        Some(None) => Some(String::new()),
        None => None,
    };
    let part_bytes = table.integer("part_size_bytes", PART_BYTES, PART_RANGE);
    let parts_in_flight = table.integer("parts_in_flight", PARTS_IN_FLIGHT, 1..=64);
    let rewrite_bytes = table.integer("rewrite_limit_bytes", REWRITE_BYTES, 0..=5 << 40);
    let set_time = table.choice_or("set_time", &OBJECT_TIMES, SetTime::Refuse);
    let ca_file = table.optional_file("ca_file", "the path of a PEM file");
    Some(BucketSettings {
        root: root?,
        part_bytes: part_bytes?,
        parts_in_flight: parts_in_flight?,
        rewrite_bytes: rewrite_bytes?,
        set_time: set_time?,
        ca_file: ca_file?,
    })
}

pub(super) fn gcs(table: &Table<'_>) -> Option<GcsBackend> {
    let bucket = table.text("bucket", "the name of a bucket");
    let endpoint = endpoint(table);
    let driver = table.choice_or("driver", &DRIVERS, GcsDriver::OpenDal);
    let storage_class = table.choice("storage_class", &STORAGE_CLASSES);
    let anonymous = table.boolean("anonymous", false);
    let file = table.optional_file("credentials_file", "the path of a JSON file from Google");
    let settings = settings(table);
    if anonymous == Some(true) && table.has("credentials_file") {
        table.error(
            "anonymous",
            "contradicts credentials_file: keep one of them",
        );
        return None;
    }
    let driver = driver?;
    if driver == GcsDriver::Unftp {
        // unftp-sbe-gcs has no place for them.
        for key in ["storage_class", "ca_file"] {
            if table.has(key) {
                table.error(key, "is not known to the driver unftp-sbe-gcs: take it away, or use the driver opendal");
            }
        }
    }
    Some(GcsBackend {
        bucket: bucket?.value,
        endpoint: endpoint?,
        credentials: match (anonymous?, file?) {
            (true, _) => GcsCredentials::Anonymous,
            (false, Some(file)) => GcsCredentials::File(file),
            (false, None) => GcsCredentials::Default,
        },
        driver,
        storage_class: storage_class?.map(str::to_owned),
        settings: settings?,
    })
}

pub(super) fn azblob(table: &Table<'_>) -> Option<AzblobBackend> {
    let container = table.text("container", "the name of a container");
    let account = table.text("account", "the name of a storage account");
    let endpoint = azblob_endpoint(table);
    let credentials = azblob_credentials(table);
    let settings = settings(table);
    let account = account?.value;
    Some(AzblobBackend {
        container: container?.value,
        endpoint: endpoint?.unwrap_or_else(|| format!("https://{account}.blob.core.windows.net")),
        account,
        credentials: credentials?,
        settings: settings?,
    })
}

/// Unlike the others, the URL may have a path: that of an emulator holds the account.
#[allow(
    clippy::option_option,
    reason = "a mistake and an absence are different things"
)]
fn azblob_endpoint(table: &Table<'_>) -> Option<Option<String>> {
    const EXPECTED: &str = "a URL such as https://ACCOUNT.blob.core.windows.net";
    let Some(text) = table.optional_text("endpoint", EXPECTED)? else {
        return Some(None);
    };
    let url = text.value.trim_end_matches('/');
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    if rest.is_none_or(|rest| rest.is_empty() || rest.contains(['@', '?', '#', ' '])) {
        // Not repeated: a URL with a user part or a query holds a secret.
        table.error(
            "endpoint",
            format!("expected {EXPECTED}, without user or query"),
        );
        return None;
    }
    Some(Some(url.to_owned()))
}

fn azblob_credentials(table: &Table<'_>) -> Option<AzblobCredentials> {
    const PRINCIPAL: [&str; 3] = ["tenant_id", "client_id", "client_secret"];
    let account_key = table.secret("account_key");
    let sas_token = table.secret("sas_token");
    let tenant_id = table.optional_text("tenant_id", "a directory (tenant) id");
    let client_id = table.optional_text("client_id", "an application (client) id");
    let client_secret = table.secret("client_secret");
    let identity = table.choice("identity", &IDENTITIES);
    let given = PRINCIPAL.iter().filter(|key| table.has(key)).count();
    if given > 0 && given < PRINCIPAL.len() {
        for key in PRINCIPAL.iter().filter(|key| !table.has(key)) {
            table.error(
                key,
                "missing: tenant_id, client_id and client_secret belong together",
            );
        }
        return None;
    }
    let ways = ["account_key", "sas_token", "client_secret", "identity"];
    let ways: Vec<&str> = ways.into_iter().filter(|key| table.has(key)).collect();
    if let [first, second, ..] = ways[..] {
        table.error(second, format!("contradicts {first}: keep one of them"));
        return None;
    }
    let (account_key, sas_token, identity) = (account_key?, sas_token?, identity?);
    Some(
        match (
            account_key,
            sas_token,
            client_secret?,
            tenant_id?,
            client_id?,
        ) {
            (Some(key), ..) => AzblobCredentials::AccountKey(key),
            (_, Some(token), ..) => AzblobCredentials::SasToken(token),
            (_, _, Some(client_secret), Some(tenant_id), Some(client_id)) => {
                AzblobCredentials::ClientSecret {
                    tenant_id: tenant_id.value,
                    client_id: client_id.value,
                    client_secret,
                }
            }
            _ => match identity {
                Some(Identity::Workload) => AzblobCredentials::WorkloadIdentity,
                Some(Identity::Managed) => AzblobCredentials::ManagedIdentity,
                None => AzblobCredentials::Default,
            },
        },
    )
}

pub(super) fn memory(table: &Table<'_>) -> Option<MemoryBackend> {
    let size_bytes = table.integer("size_bytes", MEMORY_BYTES, 1 << 20..=1 << 40);
    let set_time = table.choice_or("set_time", &LOCAL_TIMES, SetTime::Store);
    Some(MemoryBackend {
        size_bytes: size_bytes?,
        set_time: set_time?,
    })
}

pub(super) fn opendal(table: &Table<'_>) -> Option<OpenDalBackend> {
    let scheme = opendal_scheme(table);
    let settings = settings(table);
    let (scheme, known) = scheme?;
    let mut options = BTreeMap::new();
    if let Some(table) = table.table("options", known) {
        for key in known {
            if let Some(value) = table.secret(key)? {
                options.insert((*key).to_owned(), value);
            }
        }
    }
    Some(OpenDalBackend {
        scheme: scheme.to_owned(),
        options,
        settings: settings?,
    })
}

fn opendal_scheme(table: &Table<'_>) -> Option<(&'static str, &'static [&'static str])> {
    let known: Vec<&str> = OPENDAL_SCHEMES.iter().map(|(scheme, _)| *scheme).collect();
    let list = match known.join(", ") {
        none if none.is_empty() => "none".to_owned(),
        list => list,
    };
    if let Some(item) = table.item("scheme") {
        item.words(known.iter().copied());
    }
    let each: Vec<(&str, _)> = OPENDAL_SCHEMES.iter().map(|one| (one.0, *one)).collect();
    if let Some((scheme, options)) = table.explored(&each) {
        table.required("scheme", &list);
        return Some((scheme, options));
    }
    let text = table.text("scheme", &format!("one of {list}"))?;
    let found = OPENDAL_SCHEMES
        .iter()
        .find(|(scheme, _)| *scheme == text.value);
    if let Some((scheme, options)) = found {
        return Some((scheme, options));
    }
    let message = match text.value.as_str() {
        own @ ("s3" | "gcs" | "azblob" | "fs" | "memory") => {
            format!("has a type of its own: write `type: {own}`")
        }
        left_out if OPENDAL_FEATURES.contains(&left_out) => format!(
            "{} is not compiled in: it needs the cargo feature {left_out}; compiled in: {list}",
            text.shown()
        ),
        other => {
            let hint = typed::nearest(other, &known);
            let hint = hint.map(|scheme| format!("; did you mean `{scheme}`?"));
            format!(
                "{} is not compiled in; compiled in: {list}{}",
                text.shown(),
                hint.unwrap_or_default()
            )
        }
    };
    table.error("scheme", message);
    None
}
