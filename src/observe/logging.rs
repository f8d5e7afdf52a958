//! The process's logger: the only global.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::config::{Log, LogFormat};

/// Libraries that log names and paths of their own making; libunftp's spans carry raw arguments.
const SILENT: [&str; 3] = ["libunftp=off", "slog_stdlog=off", "unftp_core=off"];
/// Libraries that are talkative, or tell the headers of requests; rustls warns of each client that sends an
/// address as server name, and the verifier of each try of a request, whose error is told anyway.
const QUIET: [&str; 14] = [
    "opendal=warn",
    "hyper=warn",
    "reqwest=warn",
    "rustls=error",
    "rustls_platform_verifier=off",
    "aws_runtime=warn",
    "aws_sdk_s3=warn",
    "aws_sigv4=warn",
    "aws_smithy_runtime=warn",
    "aws_smithy_runtime_api=warn",
    "reqsign_aws_v4=warn",
    "reqsign_azure_storage=warn",
    "reqsign_core=warn",
    "reqsign_google=warn",
];

/// Starts logging to standard error. `RUST_LOG` overrides the configured level for those who debug.
///
/// # Errors
/// A logger is already installed.
pub fn init(log: &Log) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let level = LevelFilter::from_level(log.level);
    let mut filter = EnvFilter::builder()
        .with_default_directive(level.into())
        .from_env_lossy();
    for directive in SILENT.iter().chain(&QUIET) {
        filter = filter.add_directive(directive.parse()?);
    }
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    match log.format {
        LogFormat::Pretty => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().with_span_list(false).try_init(),
    }
}
