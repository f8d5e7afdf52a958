//! [`Logging`]: the process's logger, the only global, and what it says now.
//!
//! Owns which lines are written and in which form, and changes both while the server runs: for good by
//! a reload, for a while by an operator. The three forms are always there and one of them prints, so
//! that a session which began under one form is told in full under another.

use std::{
    io::{self, IsTerminal},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{Level, Metadata, level_filters::LevelFilter, span, subscriber::Interest};
use tracing_subscriber::{
    EnvFilter, Layer, Registry, fmt,
    layer::{Context, Filter, SubscriberExt as _},
    reload,
    util::SubscriberInitExt as _,
};

use super::telemetry::SPANS;
use crate::config::{Log, LogFormat};

/// Libraries that log names and paths of their own making; libunftp's lines carry raw arguments. No
/// filter of anybody's brings them back.
const SILENT: [&str; 3] = ["libunftp", "slog_stdlog", "unftp_core"];
/// Libraries that are talkative; rustls warns of each client that sends an address as server name, and the
/// verifier of each try of a request, whose error is told anyway.
const QUIET: &str =
    "opendal=warn,hyper=warn,reqwest=warn,rustls=error,rustls_platform_verifier=off";
/// Libraries that tell the headers of requests, or whole tokens, and with them credentials: warnings and errors at most,
/// whatever a filter says.
const CAPPED: [&str; 5] = ["aws_", "reqsign", "hyper", "reqwest", "yup_oauth2"];
/// Longest filter that is taken.
pub const FILTER_BYTES: usize = 4096;

/// A layer of the logger, whatever it does.
pub type AnyLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// The running logger. Cheap to share.
#[derive(Clone, Debug)]
pub struct Logging(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    printers: Vec<(LogFormat, reload::Handle<Chosen, Registry>)>,
    state: Mutex<State>,
    /// A change was made, which may have an end.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    /// What the configuration says, or `RUST_LOG` in its place.
    configured: Wanted,
    /// What an operator said.
    change: Option<Change>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    filter: String,
    format: LogFormat,
}

#[derive(Clone, Debug)]
struct Change {
    wanted: Wanted,
    /// `None`: until somebody takes it back, or the process ends.
    until: Option<(Instant, SystemTime)>,
}

/// What is logged now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// A level, and directives such as `causeway::store=debug`.
    pub filter: String,
    /// Form of a line.
    pub format: LogFormat,
    /// Whether it is as configured.
    pub configured: bool,
    /// When it will be as configured again.
    pub until: Option<SystemTime>,
}

/// A text that is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a level (error, warn, info, debug, trace) or directives such as info,causeway::store=debug: {0}"
)]
pub struct NoFilter(String);

impl Logging {
    /// Starts logging to standard error. `RUST_LOG` takes the place of the configured filter for those
    /// who debug. `spans` hears of the spans of [`SPANS`].
    ///
    /// # Errors
    /// A logger is already installed.
    pub fn start(
        log: &Log,
        spans: Option<AnyLayer>,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let wanted = wanted(log);
        let mut layers: Vec<AnyLayer> = spans.into_iter().collect();
        let mut printers = Vec::new();
        for format in LogFormat::ALL {
            let (chosen, handle) = reload::Layer::new(Chosen::new(&wanted, format)?);
            layers.push(printer(format, chosen));
            printers.push((format, handle));
        }
        tracing_subscriber::registry().with(layers).try_init()?;
        Ok(Self(Arc::new(Inner {
            printers,
            state: Mutex::new(State {
                configured: wanted,
                change: None,
            }),
            changed: Notify::new(),
        })))
    }

    /// What is logged now.
    pub fn present(&self) -> Present {
        let state = self.state();
        let change = state.change.as_ref();
        let wanted = change.map_or(&state.configured, |change| &change.wanted);
        Present {
            filter: wanted.filter.clone(),
            format: wanted.format,
            configured: change.is_none(),
            until: change.and_then(|change| change.until).map(|until| until.1),
        }
    }

    /// Logs something else, for a while or until [`Self::reset`]. What is not said is as configured.
    ///
    /// # Errors
    /// The filter is none; nothing was changed.
    pub fn change(
        &self,
        filter: Option<&str>,
        format: Option<LogFormat>,
        lasts: Option<Duration>,
    ) -> Result<Present, NoFilter> {
        if let Some(filter) = filter {
            parse(filter)?;
        }
        let mut state = self.state();
        let configured = &state.configured;
        let wanted = Wanted {
            filter: filter.map_or_else(|| configured.filter.clone(), str::to_owned),
            format: format.unwrap_or(configured.format),
        };
        let until = lasts.map(|lasts| (Instant::now() + lasts, SystemTime::now() + lasts));
        self.apply(&wanted);
        state.change = Some(Change { wanted, until });
        drop(state);
        self.0.changed.notify_one();
        Ok(self.present())
    }

    /// Logs as configured again; `false` if it did already.
    pub fn reset(&self) -> bool {
        let mut state = self.state();
        let changed = state.change.take().is_some();
        if changed {
            self.apply(&state.configured);
        }
        changed
    }

    /// Takes up a new configuration. What an operator said for a while goes on.
    pub fn configure(&self, log: &Log) {
        let mut state = self.state();
        state.configured = wanted(log);
        if state.change.is_none() {
            self.apply(&state.configured);
        }
    }

    /// Ends changes that were made for a while, until `end`.
    pub async fn keep(self, end: CancellationToken) {
        loop {
            let until = self.state().change.as_ref().and_then(|change| change.until);
            let over = async {
                match until {
                    Some((until, _)) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = end.cancelled() => return,
                () = self.0.changed.notified() => {}
                () = over => {
                    self.reset();
                    tracing::info!("logging as configured again");
                }
            }
        }
    }

    fn apply(&self, wanted: &Wanted) {
        for (format, handle) in &self.0.printers {
            // What is applied was parsed before; and the logger lives as long as the process.
            if let Ok(chosen) = Chosen::new(wanted, *format) {
                let _ = handle.reload(chosen);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wanted(log: &Log) -> Wanted {
    let level = log.level.as_str().to_ascii_lowercase();
    let from_environment = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let directives = if from_environment.is_empty() {
        &log.filter
    } else {
        &from_environment
    };
    let mut filter = format!("{level},{directives}");
    if parse(&filter).is_err() || directives.is_empty() {
        // The configuration was checked; `RUST_LOG` was not.
        filter = level;
    }
    Wanted {
        filter,
        format: log.format,
    }
}

fn parse(filter: &str) -> Result<EnvFilter, NoFilter> {
    let read = || {
        if filter.len() > FILTER_BYTES {
            return Err(format!("longer than {FILTER_BYTES} bytes"));
        }
        if filter.chars().any(char::is_control) {
            return Err("it has control characters, such as a line end".to_owned());
        }
        // Ours first: what the filter says of the same library takes their place.
        EnvFilter::builder()
            .with_regex(false)
            .parse(format!("{QUIET},{filter}"))
            .map_err(|error| error.to_string())
    };
    read().map_err(NoFilter)
}

/// Whether directives of a configuration will do, behind whatever level.
///
/// # Errors
/// Why not.
pub fn check(directives: &str) -> Result<(), String> {
    parse(&format!("trace,{directives}"))
        .map(drop)
        .map_err(|NoFilter(problem)| problem)
}

/// One form, printing what its filter lets through.
fn printer(format: LogFormat, chosen: reload::Layer<Chosen, Registry>) -> AnyLayer {
    let layer = fmt::layer()
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    match format {
        LogFormat::Compact => layer.with_target(false).with_filter(chosen).boxed(),
        LogFormat::Pretty => layer.pretty().with_filter(chosen).boxed(),
        LogFormat::Json => layer
            .json()
            .with_span_list(false)
            .with_filter(chosen)
            .boxed(),
    }
}

/// What one form hears of: always of the sessions' spans, so that a line has its context whatever was
/// logged when the session began; of lines if the form is the one that prints.
#[derive(Debug)]
struct Chosen(Option<EnvFilter>);

impl Chosen {
    fn new(wanted: &Wanted, format: LogFormat) -> Result<Self, NoFilter> {
        let prints = wanted.format == format;
        prints.then(|| parse(&wanted.filter)).transpose().map(Self)
    }
}

fn is_context(metadata: &Metadata<'_>) -> bool {
    metadata.target() != SPANS && metadata.target().starts_with("causeway")
}

fn is_silent(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let begins = |word: &str| target.starts_with(word);
    SILENT.iter().any(|word| begins(word))
        || *metadata.level() > Level::WARN && CAPPED.iter().any(|word| begins(word))
}

impl Filter<Registry> for Chosen {
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, Registry>) -> bool {
        match &self.0 {
            _ if metadata.is_span() => is_context(metadata),
            Some(filter) if !is_silent(metadata) => filter.enabled(metadata, context.clone()),
            _ => false,
        }
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        // The filter hears of spans for its directives about them.
        let interest = match &self.0 {
            Some(filter) => Filter::<Registry>::callsite_enabled(filter, metadata),
            None => Interest::never(),
        };
        if metadata.is_span() {
            if is_context(metadata) {
                Interest::always()
            } else {
                Interest::never()
            }
        } else if is_silent(metadata) {
            Interest::never()
        } else {
            interest
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let hint = match &self.0 {
            Some(filter) => filter.max_level_hint()?,
            None => LevelFilter::OFF,
        };
        // Of the sessions' spans.
        Some(hint.max(LevelFilter::INFO))
    }

    fn on_new_span(
        &self,
        attributes: &span::Attributes<'_>,
        id: &span::Id,
        context: Context<'_, Registry>,
    ) {
        if let Some(filter) = &self.0 {
            filter.on_new_span(attributes, id, context);
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, Registry>) {
        if let Some(filter) = &self.0 {
            filter.on_record(id, values, context);
        }
    }

    fn on_enter(&self, id: &span::Id, context: Context<'_, Registry>) {
        if let Some(filter) = &self.0 {
            filter.on_enter(id, context);
        }
    }

    fn on_exit(&self, id: &span::Id, context: Context<'_, Registry>) {
        if let Some(filter) = &self.0 {
            filter.on_exit(id, context);
        }
    }

    fn on_close(&self, id: span::Id, context: Context<'_, Registry>) {
        if let Some(filter) = &self.0 {
            filter.on_close(id, context);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_levels_and_directives() {
        for filter in [
            "",
            "debug",
            "info,causeway::store=debug",
            "warn,[session{user=alice}]=debug",
            "off",
        ] {
            assert!(parse(filter).is_ok(), "{filter}");
        }
        for filter in ["causeway=loud", "a=b=c", "info\nx", &"x,".repeat(4096)] {
            assert!(parse(filter).is_err(), "{filter}");
        }
    }

    #[test]
    fn a_form_that_does_not_print_still_hears_of_sessions() {
        let wanted = Wanted {
            filter: "error".to_owned(),
            format: LogFormat::Json,
        };
        for format in LogFormat::ALL {
            let chosen = Chosen::new(&wanted, format).unwrap();
            assert_eq!(chosen.0.is_some(), format == LogFormat::Json);
            assert_eq!(chosen.max_level_hint(), Some(LevelFilter::INFO));
        }
    }
}
