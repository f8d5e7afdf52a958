//! The operators: HTTP client, credentials, deadlines and retries.

use std::time::Duration;

use http::{HeaderValue, Request, Response, header::CONTENT_LENGTH};
use opendal::{
    Buffer, HttpBody, HttpTransport, HttpTransporter, OperationContext, Operator,
    layers::{RetryLayer, TimeoutLayer},
    services::S3,
};
use opendal_http_transport_reqwest::ReqwestTransport;

use super::super::{ErrorKind, Result, StoreError};
use crate::config::{S3Backend, Timeouts};

/// Tries after the first. The budget is per call, not per part, so one slow part must not use it up.
const RETRIES: u32 = 10;

/// Between two tries at most.
const RETRY_DELAY: Duration = Duration::from_secs(10);

/// One operator for looks and one for moves, over one pool of connections.
///
/// A look is cut off from outside after `timeouts.store`, so each try gets a quarter of it. A move is
/// never cut off (its writer could not be aborted any more); all its tries together take
/// `timeouts.commit`, plus what lies between them.
pub(super) fn operators(backend: &S3Backend, timeouts: &Timeouts) -> Result<(Operator, Operator)> {
    let look = timeouts.store / 4;
    let step = (timeouts.commit / (RETRIES + 1)).min(timeouts.store);
    let client = reqwest::Client::builder()
        .http1_only()
        .connect_timeout(Duration::from_secs(10).min(look))
        .read_timeout(timeouts.store)
        .pool_idle_timeout(Duration::from_mins(1))
        .tcp_keepalive(Duration::from_secs(30))
        .build()
        .map_err(|error| StoreError::with_source(ErrorKind::Internal, "open", error))?;
    let transport = HttpTransporter::new(WithLength(ReqwestTransport::new(client)));
    // `with_context` first: layers wrap the transport and executor they find.
    let plain = Operator::new(service(backend))
        .map_err(|error| StoreError::from_opendal("open", error))?
        .with_context(OperationContext::new().with_http_transport(transport));
    let layered = |each: Duration| {
        plain
            .clone()
            .layer(TimeoutLayer::new().with_timeout(each).with_io_timeout(each))
            .layer(
                RetryLayer::new()
                    .with_jitter()
                    .with_min_delay(Duration::from_millis(200))
                    .with_max_delay(RETRY_DELAY)
                    .with_max_times(RETRIES as usize),
            )
    };
    Ok((layered(look), layered(step)))
}

/// Says `Content-Length: 0` where OpenDAL says nothing of an empty body.
///
/// Works around opendal-service-s3 0.59.5, `core.rs`, `s3_upload_part_copy_request`, which alone of
/// the requests sets no length: Ceph answers 411 `MissingContentLength` and no append of 5 MiB or more
/// works there. Added after signing, which does not cover it. `append_and_restart_keep_the_first_bytes`
/// on the gateway tells when this can go.
#[derive(Debug)]
struct WithLength(ReqwestTransport);

impl HttpTransport for WithLength {
    async fn fetch(&self, mut request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        let sends = matches!(*request.method(), http::Method::PUT | http::Method::POST);
        if sends && request.body().is_empty() {
            request
                .headers_mut()
                .entry(CONTENT_LENGTH)
                .or_insert(HeaderValue::from_static("0"));
        }
        self.0.fetch(request).await
    }
}

/// No checksum algorithm: it would turn `UploadPartCopy` off, and an append would stream the old bytes
/// through us. No root: [`super::keys`] says why.
fn service(backend: &S3Backend) -> S3 {
    let mut service = S3::default()
        .bucket(&backend.bucket)
        .region(&backend.region);
    if let Some(endpoint) = &backend.endpoint {
        service = service.endpoint(endpoint);
    }
    if backend.virtual_host_style {
        service = service.enable_virtual_host_style();
    }
    if let Some(credentials) = &backend.credentials {
        // What the operator wrote is all there is: no environment, no profile, no instance metadata.
        service = service
            .disable_config_load()
            .disable_ec2_metadata()
            .access_key_id(&credentials.access_key_id)
            .secret_access_key(credentials.secret_access_key.expose());
        if let Some(token) = &credentials.session_token {
            service = service.session_token(token.expose());
        }
    }
    service
}
