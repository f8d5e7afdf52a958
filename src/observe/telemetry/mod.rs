//! Spans for an OpenTelemetry collector (OTLP over HTTP): connection → command → store operation.
//!
//! Owns what leaves the server and when: a bounded queue, batches, retries, a flush at the end. A
//! collector that is slow or away costs spans, which are counted, and disturbs nobody: whoever ends a
//! span never waits. Off unless configured, and then no span is ever made.

mod export;
mod here;
mod queue;

use tokio::sync::mpsc;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer as _, filter::filter_fn};

use self::queue::Queue;
pub use self::{
    export::Exporter,
    here::{Here, remember},
};
use super::logging::AnyLayer;
use crate::config::Otlp;

/// Target of the spans that are exported; the log never shows them.
pub const SPANS: &str = "causeway::spans";

/// Spans that may wait for the collector: a minute of eighty commands a second with their store
/// operations, some 4 MiB.
const QUEUE_SPANS: usize = 8192;

/// What makes spans, for the logger, and what sends them.
///
/// # Errors
/// The authority's file cannot be read.
pub fn open(settings: &Otlp) -> anyhow::Result<(AnyLayer, Exporter)> {
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};

    let (sender, receiver) = mpsc::channel(QUEUE_SPANS);
    let lost = queue::Lost::default();
    let queue = Queue::new(sender, lost.clone(), settings.identities);
    let sampler = Sampler::TraceIdRatioBased(f64::from(settings.sample_per_million) / 1e6);
    let provider = SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(sampler)))
        .with_span_processor(queue)
        .build();
    let tracer = provider.tracer("causeway");
    let exporter = Exporter::open(settings, receiver, lost, provider)?;
    let spans = filter_fn(|metadata| metadata.is_span() && metadata.target() == SPANS)
        .with_max_level_hint(LevelFilter::INFO);
    let layer = tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_context_activation(false)
        .with_filter(spans);
    Ok((layer.boxed(), exporter))
}
