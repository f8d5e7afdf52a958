//! [`Client`]: requests to the admin API, with deadlines.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, anyhow};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::Value;

use crate::cli::Failure;

/// Where a server listens that follows `config.example.yaml`.
const DEFAULT_URL: &str = "http://127.0.0.1:9090";
/// To connect.
const CONNECT: Duration = Duration::from_secs(5);
/// For a whole answer: a reload opens stores.
const ANSWER: Duration = Duration::from_mins(2);
/// Largest answer: ten thousand sessions are a few MiB.
const ANSWER_BYTES: usize = 64 << 20;

/// One server.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    /// Without a slash at the end.
    url: String,
}

impl Client {
    /// Reads token and authority; sends nothing yet.
    pub(super) fn new(
        url: Option<String>,
        token_file: Option<&Path>,
        ca_file: Option<&Path>,
    ) -> Result<Self, Failure> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let url = url
            .or_else(|| variable("CAUSEWAY_ADMIN_URL"))
            .unwrap_or_else(|| DEFAULT_URL.to_owned());
        let mut headers = HeaderMap::new();
        // What a server without a token wants to see on a change.
        headers.insert("x-causeway-request", HeaderValue::from_static("ctl"));
        let file = variable("CAUSEWAY_ADMIN_TOKEN_FILE");
        let token = match (token_file, file.as_deref().map(Path::new)) {
            (Some(file), _) => Some(read_token(file)?),
            (None, file) => match (variable("CAUSEWAY_ADMIN_TOKEN"), file) {
                (Some(token), _) => Some(token),
                (None, Some(file)) => Some(read_token(file)?),
                (None, None) => None,
            },
        };
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
                .context("the token holds characters that no header can carry")?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        let mut builder = reqwest::Client::builder()
            .default_headers(headers)
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            // The token goes to the address that was named and nowhere else.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        if let Some(file) = ca_file {
            let pem = std::fs::read(file)
                .with_context(|| format!("--ca-file {}: cannot be read", file.display()))?;
            let authorities = reqwest::Certificate::from_pem_bundle(&pem)
                .with_context(|| format!("--ca-file {}: no PEM certificate", file.display()))?;
            builder = builder.tls_certs_only(authorities);
        }
        Ok(Self {
            http: builder.build().context("no HTTP client")?,
            url: url.trim_end_matches('/').to_owned(),
        })
    }

    /// The address of the server.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.ask(Method::GET, path, &Value::Null).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.ask(Method::POST, path, body).await
    }

    pub(super) async fn put(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.ask(Method::PUT, path, body).await
    }

    /// An answer that is text.
    pub(super) async fn text(&self, path: &str) -> Result<String, Failure> {
        let (url, status, text) = self.send(Method::GET, path, &Value::Null).await?;
        if !status.is_success() {
            return Err(refused(
                &url,
                status,
                &serde_json::from_slice(&text).unwrap_or_default(),
            ));
        }
        Ok(String::from_utf8(text).with_context(|| format!("{url}: not UTF-8"))?)
    }

    pub(super) async fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.ask(Method::DELETE, path, &Value::Null).await
    }

    async fn ask(&self, method: Method, path: &str, body: &Value) -> Result<Value, Failure> {
        let (url, status, text) = self.send(method, path, body).await?;
        let answer = serde_json::from_slice::<Value>(&text).with_context(|| {
            format!("{url}: {status} and no JSON: is this causeway's admin side?")
        })?;
        if status.is_success() {
            return Ok(answer);
        }
        Err(refused(&url, status, &answer))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<(String, StatusCode, Vec<u8>), Failure> {
        let url = format!("{}/api/v1{path}", self.url);
        let mut request = self.http.request(method, &url);
        if !body.is_null() {
            request = request
                .header(header::CONTENT_TYPE, "application/json")
                .body(body.to_string());
        }
        let mut answer = request.send().await.with_context(|| {
            format!("no answer from {url}; is `admin.address` configured, and --url right?")
        })?;
        let status = answer.status();
        let mut text = Vec::new();
        while let Some(chunk) = answer.chunk().await.context("the answer broke off")? {
            text.extend_from_slice(&chunk);
            if text.len() > ANSWER_BYTES {
                return Err(anyhow!("{url}: the answer is too long").into());
            }
        }
        Ok((url, status, text))
    }
}

/// Why a request was not carried out, as the server says it.
fn refused(url: &str, status: StatusCode, answer: &Value) -> Failure {
    let texts = answer["mistakes"].as_array().into_iter().flatten();
    let mistakes: Vec<String> = texts
        .filter_map(Value::as_str)
        .map(|text| super::show::safe(text).into_owned())
        .collect();
    if !mistakes.is_empty() {
        return Failure::Configuration(mistakes);
    }
    let hint = if status == StatusCode::UNAUTHORIZED {
        "; give it by --token-file or $CAUSEWAY_ADMIN_TOKEN"
    } else {
        ""
    };
    let why = answer["error"].as_str().unwrap_or("no reason given");
    anyhow!("{url}: {status}: {}{hint}", super::show::safe(why)).into()
}

/// An answer as the value it should be.
pub(super) fn read<T: serde::de::DeserializeOwned>(answer: &Value) -> Result<T, Failure> {
    Ok(T::deserialize(answer)
        .context("an answer of another version of causeway; --json prints it as it came")?)
}

/// One segment of a path, as it may stand in a URL.
pub(super) fn segment(text: &str) -> String {
    let escaped = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(escaped).collect()
}

fn read_token(file: &Path) -> Result<String, Failure> {
    Ok(std::fs::read_to_string(file)
        .with_context(|| format!("token file {}: cannot be read", file.display()))?)
}
