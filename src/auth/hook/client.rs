//! [`Client`]: signed requests and their bounded answers.

use std::{
    error::Error as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::hmac;
use http::{HeaderName, HeaderValue, header};
use reqwest::{StatusCode, redirect};
use tokio::sync::Semaphore;

use super::retry::Budget;
use crate::{
    auth::{
        FOREIGN_BYTES,
        trust::{Trust, TrustErrors},
    },
    config::{self, Secret},
};

/// Wait before the first retry; twice as long before each further one.
const PAUSE: Duration = Duration::from_millis(100);

const TIMESTAMP: HeaderName = HeaderName::from_static("causeway-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("causeway-signature");

/// Why there can be no client.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Files are not usable.
    #[error(transparent)]
    Files(#[from] TrustErrors),
    /// The library refuses.
    #[error("auth.http: {0}")]
    Client(String),
}

/// Why there is no answer. Without the URL, which may hold a secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("connection broke: {0}")]
    Broken(String),
    #[error("its answer has more than {FOREIGN_BYTES} bytes")]
    TooLong,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
}

/// The connections to the hook, and what bounds their use. Outlives a reload that leaves its settings
/// and files alone.
#[derive(Debug)]
pub(super) struct Client {
    settings: config::HttpHook,
    trust: Trust,
    http: reqwest::Client,
    key: hmac::Key,
    bearer: Option<HeaderValue>,
    budget: Budget,
    /// Requests at once.
    places: Semaphore,
}

impl Client {
    /// Asks nobody yet.
    pub(super) fn new(settings: &config::HttpHook, trust: Trust) -> Result<Self, OpenError> {
        let refused = |error: reqwest::Error| OpenError::Client(chain(&error));
        let builder = reqwest::Client::builder()
            .http1_only()
            .connect_timeout(settings.connect)
            .timeout(settings.total)
            // A redirect would carry the password to wherever it says.
            .redirect(redirect::Policy::none())
            // The environment must not put somebody between us and the service.
            .no_proxy()
            .retry(reqwest::retry::never())
            .pool_max_idle_per_host(settings.requests)
            .user_agent("causeway")
            .tls_backend_preconfigured(trust.config().as_ref().clone());
        let bearer = settings.bearer_token.as_ref().map(bearer).transpose()?;
        Ok(Self {
            http: builder.build().map_err(refused)?,
            key: hmac::Key::new(
                hmac::HMAC_SHA256,
                settings.signing_secret.expose().as_bytes(),
            ),
            bearer,
            budget: Budget::default(),
            places: Semaphore::new(settings.requests),
            trust,
            settings: settings.clone(),
        })
    }

    /// Whether it is made of these settings and files.
    pub(super) fn is_of(&self, settings: &config::HttpHook, trust: &Trust) -> bool {
        self.settings == *settings && self.trust == *trust
    }

    /// Asks until there is an answer or no reason to go on. The caller sets the deadline.
    pub(super) async fn ask(&self, body: &[u8]) -> Result<Reply, Failure> {
        // Never closed.
        let _place = self.places.acquire().await;
        self.budget.earn();
        let mut pause = PAUSE;
        for _ in 0..self.settings.retries {
            match self.post(body, now()).await {
                Err(failure) if failure.may_pass() && self.budget.spend() => {
                    tracing::debug!(%failure, "authentication hook is asked again");
                }
                Ok(reply) if reply.may_pass() && self.budget.spend() => {
                    let status = reply.status.as_u16();
                    tracing::debug!(status, "authentication hook is asked again");
                }
                answer => return answer,
            }
            tokio::time::sleep(pause.mul_f32(0.5 + rand::random::<f32>() / 2.0)).await;
            pause *= 2;
        }
        self.post(body, now()).await
    }

    /// Asks once. `timestamp` is in Unix seconds: with it in the signature a request cannot be played
    /// back later.
    async fn post(&self, body: &[u8], timestamp: u64) -> Result<Reply, Failure> {
        let mut signed = timestamp.to_string().into_bytes();
        signed.push(b'.');
        signed.extend_from_slice(body);
        let signature = format!("v1={}", hex::encode(hmac::sign(&self.key, &signed)));
        let mut request = self
            .http
            .post(self.settings.url.expose())
            .header(header::CONTENT_TYPE, "application/json")
            .header(TIMESTAMP, timestamp)
            .header(SIGNATURE, signature)
            .body(body.to_vec());
        if let Some(bearer) = &self.bearer {
            request = request.header(header::AUTHORIZATION, bearer.clone());
        }
        let mut response = request.send().await.map_err(Failure::of)?;
        let status = response.status();
        let mut body = Vec::new();
        // Only the body of a yes is of interest.
        while status == StatusCode::OK
            && let Some(chunk) = response.chunk().await.map_err(Failure::of)?
        {
            if body.len() + chunk.len() > FOREIGN_BYTES {
                return Err(Failure::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply { status, body })
    }
}

fn bearer(token: &Secret) -> Result<HeaderValue, OpenError> {
    let value = HeaderValue::try_from(format!("Bearer {}", token.expose()));
    let mut value = value.map_err(|_| {
        OpenError::Client("bearer_token has characters that no header can hold".to_owned())
    })?;
    value.set_sensitive(true);
    Ok(value)
}

impl Failure {
    fn of(error: reqwest::Error) -> Self {
        let error = error.without_url();
        if error.is_connect() {
            Self::Connect(chain(&error))
        } else {
            Self::Broken(chain(&error))
        }
    }

    /// Whether it may be gone at the next try.
    fn may_pass(&self) -> bool {
        !matches!(self, Self::TooLong)
    }
}

impl Reply {
    /// Whether it may be another at the next try.
    fn may_pass(&self) -> bool {
        matches!(
            self.status,
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
        )
    }
}

/// Unix seconds.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// An error with its sources: reqwest's own text says only that something failed.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
