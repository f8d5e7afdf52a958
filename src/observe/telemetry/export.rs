//! [`Exporter`]: batches of spans to the collector.
//!
//! One request at a time, each with a deadline; what a collector refuses for now is sent again a few
//! times while the queue fills. At the end what is left is sent within a few seconds, or lost.

use std::{sync::atomic::Ordering, time::Duration};

use anyhow::Context as _;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use opentelemetry::KeyValue;
use opentelemetry_proto::{
    tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    transform::{
        common::tonic::ResourceAttributesWithSchema,
        trace::tonic::group_spans_by_resource_and_scope,
    },
};
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracerProvider, SpanData},
};
use prost::Message as _;
use tokio::{
    sync::mpsc,
    time::{Instant, error::Elapsed, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::queue::Lost;
use crate::{
    config::{Otlp, Secret},
    observe::{
        authorities,
        metrics::{Metrics, SpanLabels},
    },
};

/// Spans of one request.
const BATCH_SPANS: usize = 512;
/// Between two requests, so that spans travel together.
const PERIOD: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Tries of one batch.
const TRIES: u32 = 5;
/// For everything that is left when the server ends.
const FLUSH: Duration = Duration::from_secs(5);
/// Largest answer that is looked at.
const ANSWER_BYTES: usize = 64 << 10;

/// Sends what the queue holds.
#[derive(Debug)]
pub struct Exporter {
    queue: mpsc::Receiver<SpanData>,
    lost: Lost,
    client: reqwest::Client,
    endpoint: Secret,
    resource: ResourceAttributesWithSchema,
    /// Spans are made as long as it lives.
    _provider: SdkTracerProvider,
}

/// Why a batch was not taken.
enum Refused {
    /// Perhaps later.
    ForNow(String),
    /// It never will be.
    ForGood(String),
}

impl Exporter {
    pub(super) fn open(
        settings: &Otlp,
        queue: mpsc::Receiver<SpanData>,
        lost: Lost,
        provider: SdkTracerProvider,
    ) -> anyhow::Result<Self> {
        let mut headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            // Both were checked with the configuration.
            let name = HeaderName::try_from(name.as_str())?;
            let mut value = HeaderValue::try_from(value.expose())
                .context("telemetry.otlp.headers: a value that no header can carry")?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-protobuf"),
        );
        let mut builder = reqwest::Client::builder()
            .default_headers(headers)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("causeway/", env!("CARGO_PKG_VERSION")))
            .timeout(settings.timeout);
        if let Some(file) = &settings.ca_file {
            let name = || format!("telemetry.otlp.ca_file {}", file.display());
            for authority in authorities::read(file).with_context(name)? {
                builder = builder.add_root_certificate(authority);
            }
        }
        let resource = Resource::builder_empty()
            .with_service_name(settings.service_name.clone())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self {
            queue,
            lost,
            client: builder.build().context("telemetry.otlp: no HTTP client")?,
            endpoint: settings.endpoint.clone(),
            resource: (&resource).into(),
            _provider: provider,
        })
    }

    /// Sends until `stop`, then what is left.
    pub async fn run(mut self, metrics: std::sync::Arc<Metrics>, stop: CancellationToken) {
        // Also a metric that nothing happened to: an alert needs it to be there.
        for outcome in ["exported", "dropped"] {
            count(&metrics, outcome, 0);
        }
        let mut batch = Vec::with_capacity(BATCH_SPANS);
        loop {
            let gather = async {
                if self.queue.recv_many(&mut batch, BATCH_SPANS).await > 0
                    && batch.len() < BATCH_SPANS
                {
                    sleep(PERIOD).await;
                    while batch.len() < BATCH_SPANS
                        && let Ok(span) = self.queue.try_recv()
                    {
                        batch.push(span);
                    }
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = gather => {}
            }
            self.count_lost(&metrics);
            let spans = std::mem::take(&mut batch);
            let sent = spans.len() as u64;
            let mut deliver = std::pin::pin!(self.deliver(spans));
            let done = tokio::select! {
                done = &mut deliver => done,
                () = stop.cancelled() => timeout(FLUSH, deliver).await.unwrap_or_else(no_time),
            };
            Self::conclude(&metrics, sent, done);
        }
        self.queue.close();
        let end = Instant::now() + FLUSH;
        while let Ok(span) = self.queue.try_recv() {
            batch.push(span);
            if batch.len() == BATCH_SPANS || self.queue.is_empty() {
                let spans = std::mem::take(&mut batch);
                let sent = spans.len() as u64;
                let done = timeout_at(end, self.deliver(spans)).await;
                let done = done.unwrap_or_else(no_time);
                Self::conclude(&metrics, sent, done);
            }
        }
        if !batch.is_empty() {
            let sent = batch.len() as u64;
            let done = timeout_at(end, self.deliver(batch)).await;
            let done = done.unwrap_or_else(no_time);
            Self::conclude(&metrics, sent, done);
        }
        self.count_lost(&metrics);
    }

    fn conclude(metrics: &Metrics, spans: u64, done: Result<u64, String>) {
        match done {
            Ok(rejected) => {
                count(metrics, "exported", spans.saturating_sub(rejected));
                count(metrics, "dropped", rejected);
            }
            Err(why) => {
                count(metrics, "dropped", spans);
                tracing::warn!(
                    spans,
                    why,
                    "spans are lost: the collector did not take them"
                );
            }
        }
    }

    fn count_lost(&self, metrics: &Metrics) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            count(metrics, "dropped", lost);
            tracing::warn!(
                spans = lost,
                "spans are lost: too many wait for the collector"
            );
        }
    }

    /// Sends a batch, again where that may help. How many the collector did not want.
    async fn deliver(&self, spans: Vec<SpanData>) -> Result<u64, String> {
        if spans.is_empty() {
            return Ok(0);
        }
        let body = ExportTraceServiceRequest {
            resource_spans: group_spans_by_resource_and_scope(spans, &self.resource),
        };
        let body = bytes::Bytes::from(body.encode_to_vec());
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            match self.post(body.clone()).await {
                Ok(rejected) => return Ok(rejected),
                Err(Refused::ForGood(why)) => return Err(why),
                Err(Refused::ForNow(why)) if attempt >= TRIES => return Err(why),
                Err(Refused::ForNow(_)) => {
                    sleep(pause).await;
                    pause *= 2;
                }
            }
        }
        Err("not tried".to_owned())
    }

    /// One try (OTLP 1.x, "OTLP/HTTP"). The reasons do not repeat the address, which may hold a password.
    async fn post(&self, body: bytes::Bytes) -> Result<u64, Refused> {
        let request = self.client.post(self.endpoint.expose()).body(body);
        let answer = request.send().await;
        let mut answer = answer.map_err(|error| Refused::ForNow(chain(&error.without_url())))?;
        let status = answer.status();
        if !status.is_success() {
            let why = format!("status {}", status.as_u16());
            return Err(match status {
                StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT => Refused::ForNow(why),
                _ => Refused::ForGood(why),
            });
        }
        let mut text = Vec::new();
        while let Ok(Some(chunk)) = answer.chunk().await {
            text.extend_from_slice(&chunk);
            if text.len() > ANSWER_BYTES {
                return Ok(0);
            }
        }
        // It took them; an answer that says nothing readable takes nothing back.
        let partial = ExportTraceServiceResponse::decode(text.as_slice());
        let rejected = partial.ok().and_then(|answer| answer.partial_success);
        let rejected = rejected.map_or(0, |partial| partial.rejected_spans);
        Ok(u64::try_from(rejected).unwrap_or(0))
    }
}

fn no_time(_: Elapsed) -> Result<u64, String> {
    Err("the server ends and no time is left".to_owned())
}

fn count(metrics: &Metrics, outcome: &'static str, spans: u64) {
    let family = &metrics.spans;
    family.get_or_create(&SpanLabels { outcome }).inc_by(spans);
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
