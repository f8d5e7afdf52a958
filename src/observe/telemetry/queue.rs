//! [`Queue`]: ended spans on their way to the collector.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use opentelemetry::Context;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanProcessor},
};
use tokio::sync::mpsc;

/// What says who it was and what about; [`crate::config::Otlp::identities`] lets it through.
const IDENTITIES: [&str; 4] = ["user", "peer", "path", "target"];

/// Spans that found the queue full.
pub(super) type Lost = Arc<AtomicU64>;

/// Takes spans from whoever ends them, without ever waiting.
#[derive(Debug)]
pub(super) struct Queue {
    sender: mpsc::Sender<SpanData>,
    lost: Lost,
    identities: bool,
}

impl Queue {
    pub(super) fn new(sender: mpsc::Sender<SpanData>, lost: Lost, identities: bool) -> Self {
        Self {
            sender,
            lost,
            identities,
        }
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, mut span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        if !self.identities {
            let about = |key: &str| IDENTITIES.contains(&key);
            span.attributes.retain(|pair| !about(pair.key.as_str()));
        }
        if self.sender.try_send(span).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    // The exporter empties the queue.

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}
