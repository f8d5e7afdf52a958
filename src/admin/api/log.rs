//! The log while the server runs: what is written, and in which form.

use std::time::{Duration, SystemTime};

use axum::{
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    super::{Shared, recorded::Detail},
    Problem, json, problem,
    view::rfc3339,
};
use crate::{config::LogFormat, observe::logging::Present};

/// A day: who wants it for longer writes it into the configuration.
const LONGEST: u64 = 24 * 3600;

/// What is logged now.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LogView {
    /// A level and directives, such as `info,causeway::store=debug`.
    pub filter: String,
    /// `compact`, `pretty`, `json`.
    pub format: String,
    /// Whether it is as configured.
    pub configured: bool,
    /// When it will be as configured again.
    pub until: Option<String>,
}

/// What is to be logged. What is not said is as configured.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LogRequest {
    /// A level and directives, such as `info,causeway::store=debug`.
    filter: Option<String>,
    /// `compact`, `pretty`, `json`.
    format: Option<String>,
    /// For how long, 1 to a day; default until it is taken back or the server ends.
    seconds: Option<u64>,
}

impl LogView {
    fn of(present: Present) -> Self {
        Self {
            filter: present.filter,
            format: present.format.name().to_owned(),
            configured: present.configured,
            until: present.until.map(rfc3339),
        }
    }
}

/// What is logged now.
#[utoipa::path(get, path = "/api/v1/log", responses((status = 200, body = LogView)))]
pub(super) async fn present(State(admin): State<Shared>) -> Response {
    json(StatusCode::OK, &LogView::of(admin.logging.present()))
}

/// Logs something else, at once and for all sessions.
#[utoipa::path(
    put,
    path = "/api/v1/log",
    request_body(content = LogRequest, content_type = "application/json"),
    responses((status = 200, body = LogView), (status = 400, body = Problem))
)]
pub(super) async fn change(State(admin): State<Shared>, body: Bytes) -> Response {
    match try_change(&admin, &body) {
        Ok(view) => {
            let detail = format!("{}, {}", view.filter, view.format);
            tracing::warn!(
                filter = view.filter,
                format = view.format,
                until = view.until,
                "log changed by the operator"
            );
            (Detail::extension(detail), json(StatusCode::OK, &view)).into_response()
        }
        Err(message) => problem(StatusCode::BAD_REQUEST, &message),
    }
}

fn try_change(admin: &Shared, body: &[u8]) -> Result<LogView, String> {
    let LogRequest {
        filter,
        format,
        seconds,
    } = serde_json::from_slice(body).map_err(|error| {
        format!("expected {{\"filter\": …, \"format\": …, \"seconds\": …}}: {error}")
    })?;
    let named = |name: &str| {
        let found = LogFormat::NAMES.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, format)| *format)
            .ok_or_else(|| format!("format: expected compact, pretty or json, found {name:?}"))
    };
    let format = format.as_deref().map(named).transpose()?;
    if filter.is_none() && format.is_none() {
        return Err("expected filter, format or both".to_owned());
    }
    if let Some(seconds) = seconds
        && !(1..=LONGEST).contains(&seconds)
    {
        return Err(format!(
            "seconds: expected 1 to {LONGEST}, a day; found {seconds}"
        ));
    }
    let lasts = seconds.map(Duration::from_secs);
    let changed = admin.logging.change(filter.as_deref(), format, lasts);
    let present = changed.map_err(|error| format!("filter: {error}"))?;
    Ok(LogView::of(present))
}

/// Logs as configured again.
#[utoipa::path(delete, path = "/api/v1/log", responses((status = 200, body = LogView)))]
pub(super) async fn reset(State(admin): State<Shared>) -> Response {
    if admin.logging.reset() {
        tracing::warn!("log as configured again, by the operator");
    }
    present(State(admin)).await
}

/// How long until `moment`.
pub(super) fn seconds_left(moment: SystemTime, now: SystemTime) -> u64 {
    moment.duration_since(now).unwrap_or_default().as_secs()
}
