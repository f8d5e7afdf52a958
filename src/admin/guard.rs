//! Who may use the operator's side.
//!
//! With a token configured, a request carries it in the `Authorization` header, which no browser sends
//! by itself: a page of another site can neither read an answer (there is no CORS) nor cause a change.
//! Without a token (loopback only) two things keep foreign pages in the operator's browser out: the
//! `Host` must be a loopback name, which a rebound DNS name is not, and a change must carry a header
//! that a page cannot send to another origin without being asked about first.

use std::net::IpAddr;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use subtle::ConstantTimeEq;

use super::{Shared, api::problem};
use crate::config::{MetricsAccess, Secret};

/// What a change must carry where no token is configured; any value will do.
const CHANGE_HEADER: &str = "x-causeway-request";

/// Lets a request through or answers 401 or 403.
pub(super) async fn check(State(admin): State<Shared>, request: Request, next: Next) -> Response {
    match allow(&admin, &request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            let path = request.uri().path().to_owned();
            tracing::warn!(
                path,
                status = refusal.status().as_u16(),
                "admin request refused"
            );
            refusal
        }
    }
}

/// Whether a request may be answered.
#[allow(clippy::result_large_err, reason = "the refusal is the answer")]
pub(super) fn allow(admin: &Shared, request: &Request) -> Result<(), Response> {
    let settings = &admin.settings;
    let headers = request.headers();
    match &settings.token {
        _ if settings.metrics == MetricsAccess::Open && request.uri().path() == "/metrics" => {
            Ok(())
        }
        Some(token) => bearer(headers, token),
        None => local(headers, request.method()),
    }
}

/// What every answer says to browsers.
pub(super) async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static(
            "default-src 'none'; frame-ancestors 'none'",
        ));
    response
}

/// Whether the two are the same, in a time that does not say where they differ.
pub(super) fn is_token(given: &str, token: &Secret) -> bool {
    given.as_bytes().ct_eq(token.expose().as_bytes()).into()
}

#[allow(clippy::result_large_err, reason = "the refusal is the answer")]
fn bearer(headers: &HeaderMap, token: &Secret) -> Result<(), Response> {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, given)| given.trim());
    if given.is_some_and(|given| is_token(given, token)) {
        return Ok(());
    }
    let mut refusal = problem(
        StatusCode::UNAUTHORIZED,
        "send `Authorization: Bearer` and the configured admin.token",
    );
    refusal.headers_mut().insert(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static("Bearer realm=\"causeway\""),
    );
    Err(refusal)
}

/// Without a token: whether the request was meant for this machine by its own name.
#[allow(clippy::result_large_err, reason = "the refusal is the answer")]
pub(super) fn is_local(headers: &HeaderMap) -> Result<(), Response> {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    if !host.is_some_and(is_loopback) {
        let message = "without a token the Host must be a loopback address or localhost";
        return Err(problem(StatusCode::FORBIDDEN, message));
    }
    Ok(())
}

#[allow(clippy::result_large_err, reason = "the refusal is the answer")]
fn local(headers: &HeaderMap, method: &Method) -> Result<(), Response> {
    is_local(headers)?;
    if !method.is_safe() && !headers.contains_key(CHANGE_HEADER) {
        let message = "without a token a change must carry the header x-causeway-request";
        return Err(problem(StatusCode::FORBIDDEN, message));
    }
    Ok(())
}

/// Whether a `Host` is this machine by its own words. A name that merely resolves to it is not.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl IntoResponse for super::levers::Ending {
    fn into_response(self) -> Response {
        problem(StatusCode::SERVICE_UNAVAILABLE, &self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_hosts_are_local() {
        for host in [
            "localhost:9090",
            "127.0.0.1",
            "127.0.0.1:1",
            "[::1]:9090",
            "LOCALHOST",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "example.com",
            "localhost.example.com:9090",
            "127.0.0.1.example.com",
            "10.0.0.1:9090",
            "[::2]:1",
            "::1.example.com",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn token_is_compared_whole() {
        let token = Secret::new("0123456789abcdef");
        assert!(is_token("0123456789abcdef", &token));
        for other in [
            "",
            "0123456789abcde",
            "0123456789abcdef0",
            "0123456789abcdeF",
        ] {
            assert!(!is_token(other, &token), "{other}");
        }
    }
}
