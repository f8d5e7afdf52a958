//! What is told to an OpenTelemetry collector, as values.

use std::{path::PathBuf, time::Duration};

use super::Secret;

/// Spans for a collector that speaks OTLP over HTTP, in protobuf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otlp {
    /// Where spans go. A URL may hold a password.
    pub endpoint: Secret,
    /// Sent with each request, by name.
    pub headers: Vec<(String, Secret)>,
    /// An authority for the collector's certificate, beside the system's.
    pub ca_file: Option<PathBuf>,
    /// `service.name` of the resource; default `causeway`.
    pub service_name: String,
    /// Of a million connections so many are traced; default all.
    pub sample_per_million: u32,
    /// Whether users, addresses and paths go along; default no.
    pub identities: bool,
    /// For one request; default 10 s.
    pub timeout: Duration,
}
