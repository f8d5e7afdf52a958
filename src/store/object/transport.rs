//! The HTTP clients of an S3 backend and the operator over them: credentials, deadlines and retries.

use std::{path::Path, time::Duration};

use opendal::{
    HttpTransporter, OperationContext, Operator,
    layers::{RetryEvent, RetryLayer, TimeoutLayer},
    services::S3,
};
use opendal_http_transport_reqwest::ReqwestTransport;

use super::{
    super::{ErrorKind, Result, StoreError},
    retries::Retries,
};
use crate::config::{S3Backend, S3Encryption, Timeouts};

/// Tries after the first. The budget is per call, not per part, so one slow part must not use it up.
pub(super) const RETRIES: u32 = 10;

/// Between two tries at most.
pub(super) const RETRY_DELAY: Duration = Duration::from_secs(10);

/// Between the first two.
const RETRY_MIN_DELAY: Duration = Duration::from_millis(200);

/// The HTTP clients of one backend.
pub(super) struct Transport {
    /// For looks, listings and reads.
    pub(super) for_opendal: HttpTransporter,
    /// For what makes the store work for minutes before it answers. Each request has its own deadline.
    pub(super) for_moves: reqwest::Client,
}

/// A client that gives up a connection after `silence`.
fn client(
    authorities: &[reqwest::Certificate],
    silence: Duration,
    timeouts: &Timeouts,
) -> Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .http1_only()
        .connect_timeout(Duration::from_secs(10).min(timeouts.store / 4))
        .read_timeout(silence)
        .pool_idle_timeout(Duration::from_mins(1))
        .tcp_keepalive(Duration::from_secs(30));
    for authority in authorities {
        builder = builder.add_root_certificate(authority.clone());
    }
    builder
        .build()
        .map_err(|error| StoreError::with_source(ErrorKind::Internal, "open", error))
}

impl Transport {
    pub(super) fn new(backend: &S3Backend, timeouts: &Timeouts) -> Result<Self> {
        let authorities = match &backend.ca_file {
            Some(file) => authorities(file)?,
            None => Vec::new(),
        };
        let looks = ReqwestTransport::new(client(&authorities, timeouts.store, timeouts)?);
        Ok(Self {
            for_opendal: HttpTransporter::new(looks),
            for_moves: client(&authorities, timeouts.commit.max(timeouts.store), timeouts)?,
        })
    }
}

fn authorities(file: &Path) -> Result<Vec<reqwest::Certificate>> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        let problem = format!("ca_file {}: {error}", file.display());
        StoreError::with_source(ErrorKind::Internal, "open", problem)
    };
    let pem = std::fs::read(file).map_err(|error| failed(error.into()))?;
    let found =
        reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| failed(error.into()))?;
    if found.is_empty() {
        return Err(failed("no certificate in it".into()));
    }
    Ok(found)
}

/// The operator of looks, listings and reads. Each of them is cut off from outside after
/// `timeouts.store`, so a try gets a quarter of it.
pub(super) fn operator(
    backend: &S3Backend,
    timeouts: &Timeouts,
    transport: &Transport,
    retries: &Retries,
) -> Result<Operator> {
    let context = OperationContext::new().with_http_transport(transport.for_opendal.clone());
    // `with_context` first: layers wrap the transport and executor they find.
    let plain = Operator::new(service(backend))
        .map_err(|error| StoreError::from_opendal("open", error))?
        .with_context(context);
    Ok(layered(plain, timeouts.store / 4, retries))
}

/// For a service that is not S3, one operator for looks and one for moves, over one pool of
/// connections. A move is never cut off from outside (its writer could not be aborted any more); all
/// its tries together take `timeouts.commit`, plus what lies between them.
pub(super) fn operators(
    service: Operator,
    ca_file: Option<&Path>,
    timeouts: &Timeouts,
    retries: &Retries,
) -> Result<(Operator, Operator)> {
    let authorities = ca_file.map_or(Ok(Vec::new()), authorities)?;
    let transport = ReqwestTransport::new(client(&authorities, timeouts.store, timeouts)?);
    let transport = HttpTransporter::new(transport);
    let plain = service.with_context(OperationContext::new().with_http_transport(transport));
    let step = (timeouts.commit / (RETRIES + 1)).min(timeouts.store);
    Ok((
        layered(plain.clone(), timeouts.store / 4, retries),
        layered(plain, step, retries),
    ))
}

/// Each try gets `each`.
fn layered(plain: Operator, each: Duration, retries: &Retries) -> Operator {
    let retries = retries.clone();
    plain
        .layer(TimeoutLayer::new().with_timeout(each).with_io_timeout(each))
        .layer(
            RetryLayer::new()
                .with_jitter()
                .with_min_delay(RETRY_MIN_DELAY)
                // Who gives a try little time does not want to wait long for the next one either.
                .with_max_delay(RETRY_DELAY.min(each.max(RETRY_MIN_DELAY)))
                .with_max_times(RETRIES as usize)
                .with_notify(move |event: RetryEvent<'_>| retries.count(event.op.into_static())),
        )
}

/// No root: [`super::keys`] says why.
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
    // For the markers of directories, which it writes, and for what SSE-C must be told with every look.
    service = match &backend.encryption {
        S3Encryption::None => service,
        S3Encryption::S3 => service.server_side_encryption_with_s3_key(),
        S3Encryption::Kms { key_id: None } => {
            service.server_side_encryption_with_aws_managed_kms_key()
        }
        S3Encryption::Kms {
            key_id: Some(key_id),
        } => service.server_side_encryption_with_customer_managed_kms_key(key_id),
        S3Encryption::Customer { key } => {
            service.server_side_encryption_with_customer_key("AES256", key.bytes())
        }
    };
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
