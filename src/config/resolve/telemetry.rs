//! The log, and what is told to an OpenTelemetry collector.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::super::{Log, LogFormat, Otlp, Secret, typed::Table, yaml::Node};
use crate::observe::logging;

pub(super) const LOG: [&str; 3] = ["level", "filter", "format"];
pub(super) const TELEMETRY: [&str; 1] = ["otlp"];
pub(super) const OTLP: [&str; 7] = [
    "endpoint",
    "headers",
    "ca_file",
    "service_name",
    "sample_per_million",
    "identities",
    "timeout_seconds",
];

const LEVELS: [(&str, tracing::Level); 5] = [
    ("error", tracing::Level::ERROR),
    ("warn", tracing::Level::WARN),
    ("info", tracing::Level::INFO),
    ("debug", tracing::Level::DEBUG),
    ("trace", tracing::Level::TRACE),
];
/// `service.name` where the operator gives none.
const SERVICE_NAME: &str = "causeway";
/// Where a collector takes spans, below its address (OTLP 1.x).
const TRACES: &str = "/v1/traces";

pub(super) fn log(root: &Table<'_>) -> Option<Log> {
    let default = Log::default();
    let table = root.section("log", &LOG)?;
    let level = table.choice_or("level", &LEVELS, default.level);
    let format = table.choice_or("format", &LogFormat::NAMES, default.format);
    table.default("filter", Node::String(String::new()));
    let expected = "directives such as causeway::store=debug";
    let filter = table.any_text("filter", expected);
    if let Some(Some(text)) = &filter
        && let Err(error) = logging::check(&text.value)
    {
        let message = format!("expected {expected}, found {}: {error}", text.shown());
        table.error("filter", message);
    }
    Some(Log {
        level: level?,
        filter: filter?.map_or(default.filter, |text| text.value),
        format: format?,
    })
}

#[allow(
    clippy::option_option,
    reason = "a mistake and an absence are different things"
)]
pub(super) fn telemetry(root: &Table<'_>) -> Option<Option<Otlp>> {
    let Some(table) = root.table("telemetry", &TELEMETRY) else {
        return Some(None);
    };
    let Some(table) = table.table("otlp", &OTLP) else {
        return Some(None);
    };
    let endpoint = endpoint(&table);
    let headers = headers(&table);
    let ca_file = table.optional_file("ca_file", "a PEM file");
    table.default("service_name", Node::String(SERVICE_NAME.to_owned()));
    let service_name = table.optional_text("service_name", "a name such as causeway");
    let sample = table.integer("sample_per_million", 1_000_000, 0..=1_000_000);
    let identities = table.boolean("identities", false);
    let timeout = table.integer("timeout_seconds", 10, 1..=600);
    Some(Some(Otlp {
        endpoint: endpoint?,
        headers: headers?,
        ca_file: ca_file?,
        service_name: service_name?.map_or_else(|| SERVICE_NAME.to_owned(), |text| text.value),
        sample_per_million: sample?,
        identities: identities?,
        timeout: Duration::from_secs(timeout?),
    }))
}

/// The text is not repeated: it may hold a password.
fn endpoint(table: &Table<'_>) -> Option<Secret> {
    let expected = "a URL such as http://127.0.0.1:4318";
    let text = table.secret_text("endpoint", expected)?;
    let parsed = reqwest::Url::parse(&text.value).ok();
    let parsed = parsed.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some(mut url) = parsed else {
        table.error("endpoint", format!("expected {expected}"));
        return None;
    };
    if url.path() == "/" {
        url.set_path(TRACES);
    }
    Some(Secret::new(String::from(url)))
}

fn headers(table: &Table<'_>) -> Option<Vec<(String, Secret)>> {
    let Some(item) = table.item("headers") else {
        return Some(Vec::new());
    };
    let mut headers = Vec::new();
    let mut is_good = true;
    for (name, item) in item.names()? {
        let value = item.secret();
        if HeaderName::try_from(name).is_err() {
            item.error("expected the name of an HTTP header");
            is_good = false;
        }
        match value {
            Some(value) if HeaderValue::try_from(value.expose()).is_ok() => {
                headers.push((name.to_ascii_lowercase(), value));
            }
            Some(_) => {
                item.error("a value that no HTTP header can carry");
                is_good = false;
            }
            None => is_good = false,
        }
    }
    is_good.then_some(headers)
}
