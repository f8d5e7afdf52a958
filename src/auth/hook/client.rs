//! [`Client`]: one signed request and its bounded answer.

use std::{error::Error as _, fs, io, path::PathBuf, sync::Arc};

use aws_lc_rs::hmac;
use http::{HeaderName, HeaderValue, header};
use reqwest::{Certificate, Identity, StatusCode, redirect};

use crate::{
    auth::FOREIGN_BYTES,
    config::{self, Secret},
};

const TIMESTAMP: HeaderName = HeaderName::from_static("causeway-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("causeway-signature");

/// Why there can be no client.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file cannot be read.
    #[error("{0}: {1}")]
    File(PathBuf, Arc<io::Error>),
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

#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    url: String,
    key: hmac::Key,
    bearer: Option<HeaderValue>,
}

impl Client {
    pub(super) fn open(settings: &config::HttpHook) -> Result<Self, OpenError> {
        let read = |path: &PathBuf| {
            fs::read(path).map_err(|error| OpenError::File(path.clone(), Arc::new(error)))
        };
        let refused = |error: reqwest::Error| OpenError::Client(chain(&error));
        let mut builder = reqwest::Client::builder()
            .http1_only()
            .connect_timeout(settings.connect)
            .timeout(settings.total)
            // A redirect would carry the password to wherever it says.
            .redirect(redirect::Policy::none())
            // The environment must not put somebody between us and the service.
            .no_proxy()
            .retry(reqwest::retry::never())
            .pool_max_idle_per_host(settings.requests)
            .user_agent("causeway");
        if let Some(file) = &settings.ca_file {
            let authorities = Certificate::from_pem_bundle(&read(file)?).map_err(refused)?;
            if authorities.is_empty() {
                let problem = io::Error::other("no certificate found");
                return Err(OpenError::File(file.clone(), Arc::new(problem)));
            }
            builder = builder.tls_certs_only(authorities);
        }
        if let Some(files) = &settings.client_certificate {
            let mut pem = read(&files.key_file)?;
            pem.push(b'\n');
            pem.extend(read(&files.certificate_file)?);
            builder = builder.identity(Identity::from_pem(&pem).map_err(refused)?);
        }
        let bearer = settings.bearer_token.as_ref().map(bearer).transpose()?;
        Ok(Self {
            http: builder.build().map_err(refused)?,
            url: settings.url.clone(),
            key: hmac::Key::new(
                hmac::HMAC_SHA256,
                settings.signing_secret.expose().as_bytes(),
            ),
            bearer,
        })
    }

    /// Asks once. `timestamp` is in Unix seconds: with it in the signature a request cannot be played
    /// back later.
    pub(super) async fn post(&self, body: &[u8], timestamp: u64) -> Result<Reply, Failure> {
        let mut signed = timestamp.to_string().into_bytes();
        signed.push(b'.');
        signed.extend_from_slice(body);
        let signature = format!("v1={}", hex::encode(hmac::sign(&self.key, &signed)));
        let mut request = self
            .http
            .post(&self.url)
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
    pub(super) fn may_pass(&self) -> bool {
        !matches!(self, Self::TooLong)
    }
}

impl Reply {
    /// Whether it may be another at the next try.
    pub(super) fn may_pass(&self) -> bool {
        matches!(
            self.status,
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
        )
    }
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
