//! Bans: list, add, lift.

use std::time::{Duration, SystemTime};

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{super::Shared, Problem, json, problem, view::rfc3339};
use crate::auth::bans::{Ban, Subject};

/// Longest ban by an operator: a year.
const LONGEST: u64 = 366 * 24 * 3600;

/// One ban.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BanView {
    /// `address:192.0.2.1`, `network:192.0.2.0/24`, `user-digest:HEX`.
    pub subject: String,
    /// The user's name, if somebody has it: a name that nobody has may be a password.
    pub name: Option<String>,
    /// When it began.
    pub since: String,
    /// When it ends.
    pub until: String,
    /// Until then.
    pub seconds_left: u64,
    /// The how manieth it is.
    pub count: u32,
    /// `failures`, `operator`, `replica`.
    pub by: String,
}

/// Whom to ban, and for how long.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BanRequest {
    /// `address:192.0.2.1`, `network:192.0.2.0/24`, `user:NAME`.
    subject: String,
    /// 1 to a year.
    seconds: u64,
}

impl BanView {
    fn of(ban: &Ban, now: SystemTime) -> Self {
        Self {
            subject: ban.subject.to_string(),
            name: ban.name.clone(),
            since: rfc3339(ban.since),
            until: rfc3339(ban.until),
            seconds_left: ban.until.duration_since(now).unwrap_or_default().as_secs(),
            count: ban.count,
            by: ban.by.label().to_owned(),
        }
    }
}

/// Everybody who is banned now.
#[utoipa::path(get, path = "/api/v1/bans", responses((status = 200, body = [BanView])))]
pub(super) async fn list(State(admin): State<Shared>) -> Response {
    json(StatusCode::OK, &bans(&admin))
}

/// Bans somebody. Sessions that are logged in go on: end them besides.
#[utoipa::path(
    post,
    path = "/api/v1/bans",
    request_body(content = BanRequest, content_type = "application/json"),
    responses((status = 201, body = BanView), (status = 400, body = Problem), (status = 409, body = Problem))
)]
pub(super) async fn add(State(admin): State<Shared>, body: Bytes) -> Response {
    let request = match serde_json::from_slice::<BanRequest>(&body) {
        Ok(request) => request,
        Err(error) => {
            let message = format!("expected {{\"subject\": …, \"seconds\": …}}: {error}");
            return problem(StatusCode::BAD_REQUEST, &message);
        }
    };
    let BanRequest { subject, seconds } = request;
    if !(1..=LONGEST).contains(&seconds) {
        let message = format!("seconds: expected 1 to {LONGEST}, a year; found {seconds}");
        return problem(StatusCode::BAD_REQUEST, &message);
    }
    let parsed = match subject.parse::<Subject>() {
        Ok(parsed) => parsed,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("subject: {error}")),
    };
    let name = subject.strip_prefix("user:");
    let bans = &admin.serving().shared.bans;
    match bans.add(parsed, name, Duration::from_secs(seconds)) {
        Some(ban) => {
            let view = BanView::of(&ban, SystemTime::now());
            tracing::warn!(subject = view.subject, seconds, "banned by the operator");
            json(StatusCode::CREATED, &view)
        }
        None => problem(
            StatusCode::CONFLICT,
            "not banned: it is in a safe network of the configuration",
        ),
    }
}

/// Ends a ban and forgets the failures behind it.
#[utoipa::path(
    delete,
    path = "/api/v1/bans/{subject}",
    params(("subject" = String, Path, description = "As the list names it, percent-encoded")),
    responses((status = 200), (status = 400, body = Problem), (status = 404, body = Problem))
)]
pub(super) async fn lift(State(admin): State<Shared>, Path(subject): Path<String>) -> Response {
    match end_ban(&admin, &subject) {
        Ok(true) => json(StatusCode::OK, &serde_json::json!({ "lifted": subject })),
        Ok(false) => problem(StatusCode::NOT_FOUND, "nobody of this name is banned"),
        Err(error) => problem(StatusCode::BAD_REQUEST, &format!("subject: {error}")),
    }
}

/// What [`list`] shows.
pub(in crate::admin) fn bans(admin: &Shared) -> Vec<BanView> {
    let now = SystemTime::now();
    let bans = admin.serving().shared.bans.list();
    bans.iter().map(|ban| BanView::of(ban, now)).collect()
}

/// What [`lift`] does.
pub(in crate::admin) fn end_ban(admin: &Shared, subject: &str) -> Result<bool, String> {
    let subject = subject
        .parse::<Subject>()
        .map_err(|error| error.to_string())?;
    Ok(admin.serving().shared.bans.lift(&subject))
}
