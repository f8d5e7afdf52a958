//! Protocol traces: start, list, read, stop, save.

use std::time::{Duration, SystemTime};

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::FormatItem, macros::format_description};
use utoipa::ToSchema;

use super::{
    super::{Shared, recorded::Detail},
    Problem, json,
    log::seconds_left,
    problem,
    view::rfc3339,
};
use crate::config::plain_network;
use crate::edge::trace::{Entry, LINES, LONGEST, Order, Subject, Trace};

const DEFAULT_SECONDS: u64 = 600;
const DEFAULT_LINES: usize = 10_000;
/// Milliseconds say what waits for what.
const MOMENT: &[FormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// One trace.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TraceView {
    /// Eight hexadecimal digits.
    pub id: String,
    /// `user:NAME` or `address:NETWORK`.
    pub subject: String,
    /// When it began.
    pub started: String,
    /// `running`, or why it ended: `time`, `full`, `stopped`.
    pub state: String,
    /// Until it ends; 0 once it has.
    pub seconds_left: u64,
    /// Lines and events so far.
    pub lines: usize,
    /// It ends with so many.
    pub most_lines: usize,
    /// Sessions it has heard of, in the order of their first words.
    pub sessions: Vec<String>,
}

/// A trace with what it heard.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TraceContent {
    /// About it.
    #[serde(flatten)]
    pub trace: TraceView,
    /// In the order it was heard.
    pub entries: Vec<EntryView>,
}

/// One line or event.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EntryView {
    /// When, with milliseconds.
    pub at: String,
    /// Id of the session.
    pub session: String,
    /// `client`, `server`, `event`.
    pub side: String,
    /// A command without its line end and its secrets, a reply with all its lines, or what happened.
    pub text: String,
}

/// Whom to follow: a user or an address.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TraceRequest {
    /// Name as said in USER.
    user: Option<String>,
    /// An address such as 192.0.2.1, or a network such as 192.0.2.0/24.
    address: Option<String>,
    /// For how long, 1 to a day; default ten minutes.
    seconds: Option<u64>,
    /// After how many lines and events it ends, 1 to 100,000; default 10,000.
    lines: Option<usize>,
}

impl TraceView {
    fn of(trace: &Trace, now: SystemTime) -> Self {
        let ended = trace.ended();
        let end = trace.started() + trace.order().lasts;
        let mut sessions = Vec::<String>::new();
        for entry in trace.entries() {
            if !sessions.iter().any(|known| **known == *entry.session) {
                sessions.push(entry.session.to_string());
            }
        }
        Self {
            id: trace.id().to_owned(),
            subject: trace.order().subject.to_string(),
            started: rfc3339(trace.started()),
            state: ended.map_or("running", |(why, _)| why.label()).to_owned(),
            seconds_left: if ended.is_some() {
                0
            } else {
                seconds_left(end, now)
            },
            lines: trace.count(),
            most_lines: trace.order().lines,
            sessions,
        }
    }
}

impl EntryView {
    fn of(entry: &Entry) -> Self {
        Self {
            // Years beyond 9999 have no such form.
            at: OffsetDateTime::from(entry.at)
                .format(MOMENT)
                .unwrap_or_default(),
            session: entry.session.to_string(),
            side: entry.what.side().to_owned(),
            text: entry.what.to_string(),
        }
    }
}

/// Every trace that is kept: running ones, and ended ones for an hour.
#[utoipa::path(get, path = "/api/v1/traces", responses((status = 200, body = [TraceView])))]
pub(super) async fn list(State(admin): State<Shared>) -> Response {
    let now = SystemTime::now();
    let traces = admin.serving().shared.registry.traces().list();
    let views: Vec<_> = traces
        .iter()
        .map(|trace| TraceView::of(trace, now))
        .collect();
    json(StatusCode::OK, &views)
}

/// Follows a user or an address from now on, sessions that are there included. Passwords are not kept.
#[utoipa::path(
    post,
    path = "/api/v1/traces",
    request_body(content = TraceRequest, content_type = "application/json"),
    responses((status = 201, body = TraceView), (status = 400, body = Problem), (status = 409, body = Problem))
)]
pub(super) async fn start(State(admin): State<Shared>, body: Bytes) -> Response {
    let order = match order(&body) {
        Ok(order) => order,
        Err(message) => return problem(StatusCode::BAD_REQUEST, &message),
    };
    let started = admin.serving().shared.registry.traces().start(order);
    match started {
        Ok(trace) => {
            let view = TraceView::of(&trace, SystemTime::now());
            tracing::warn!(
                trace = view.id,
                subject = view.subject,
                "protocol trace started by the operator"
            );
            recorded(StatusCode::CREATED, &view)
        }
        Err(full) => problem(StatusCode::CONFLICT, &full.to_string()),
    }
}

fn order(body: &[u8]) -> Result<Order, String> {
    let request = serde_json::from_slice::<TraceRequest>(body);
    let TraceRequest {
        user,
        address,
        seconds,
        lines,
    } = request.map_err(|error| {
        format!("expected {{\"user\": …}} or {{\"address\": …}}, seconds and lines: {error}")
    })?;
    let subject = match (user, address) {
        (Some(user), None) if !user.is_empty() => Subject::User(user),
        (None, Some(address)) => {
            let network = address
                .parse::<std::net::IpAddr>()
                .map(IpNet::from)
                .or_else(|_| address.parse());
            Subject::Network(network.map(plain_network).map_err(|_| {
                format!("address: expected 192.0.2.1 or 192.0.2.0/24, found {address:?}")
            })?)
        }
        _ => return Err("expected either user or address".to_owned()),
    };
    let seconds = seconds.unwrap_or(DEFAULT_SECONDS);
    let longest = LONGEST.as_secs();
    if !(1..=longest).contains(&seconds) {
        return Err(format!(
            "seconds: expected 1 to {longest}, a day; found {seconds}"
        ));
    }
    let lines = lines.unwrap_or(DEFAULT_LINES);
    if !(1..=LINES).contains(&lines) {
        return Err(format!("lines: expected 1 to {LINES}; found {lines}"));
    }
    Ok(Order {
        subject,
        lasts: Duration::from_secs(seconds),
        lines,
    })
}

/// A trace with everything it heard so far.
#[utoipa::path(
    get,
    path = "/api/v1/traces/{id}",
    params(("id" = String, Path, description = "Id of the trace")),
    responses((status = 200, body = TraceContent), (status = 404, body = Problem))
)]
pub(super) async fn content(State(admin): State<Shared>, Path(id): Path<String>) -> Response {
    let Some(trace) = admin.serving().shared.registry.traces().find(&id) else {
        return absent();
    };
    let content = TraceContent {
        trace: TraceView::of(&trace, SystemTime::now()),
        entries: trace.entries().iter().map(EntryView::of).collect(),
    };
    json(StatusCode::OK, &content)
}

/// The one session of a trace as a dialogue that can be replayed (`tests/dialogues/README.md`).
#[utoipa::path(
    get,
    path = "/api/v1/traces/{id}/dialogue",
    params(("id" = String, Path, description = "Id of the trace")),
    responses(
        (status = 200, content_type = "text/plain", body = String),
        (status = 404, body = Problem),
        (status = 409, body = Problem)
    )
)]
pub(super) async fn dialogue(State(admin): State<Shared>, Path(id): Path<String>) -> Response {
    let Some(trace) = admin.serving().shared.registry.traces().find(&id) else {
        return absent();
    };
    let sessions = TraceView::of(&trace, SystemTime::now()).sessions;
    match sessions.as_slice() {
        [session] => spoken(&trace, session),
        [] => problem(StatusCode::CONFLICT, "the trace has heard nothing yet"),
        several => {
            let message = format!(
                "the trace has several sessions, name one of them: {}",
                several.join(", ")
            );
            problem(StatusCode::CONFLICT, &message)
        }
    }
}

/// One session of a trace as such a dialogue.
#[utoipa::path(
    get,
    path = "/api/v1/traces/{id}/dialogue/{session}",
    params(
        ("id" = String, Path, description = "Id of the trace"),
        ("session" = String, Path, description = "Id of the session")
    ),
    responses(
        (status = 200, content_type = "text/plain", body = String),
        (status = 404, body = Problem)
    )
)]
pub(super) async fn dialogue_of(
    State(admin): State<Shared>,
    Path((id, session)): Path<(String, String)>,
) -> Response {
    let trace = admin.serving().shared.registry.traces().find(&id);
    trace.map_or_else(absent, |trace| spoken(&trace, &session))
}

fn spoken(trace: &Trace, session: &str) -> Response {
    match trace.dialogue(session) {
        Some(text) => {
            let plain = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
            (plain, text).into_response()
        }
        None => problem(
            StatusCode::NOT_FOUND,
            "the trace has not heard of this session",
        ),
    }
}

/// Ends a trace; what it heard is kept for an hour.
#[utoipa::path(
    post,
    path = "/api/v1/traces/{id}/stop",
    params(("id" = String, Path, description = "Id of the trace")),
    responses((status = 200, body = TraceView), (status = 404, body = Problem))
)]
pub(super) async fn stop(State(admin): State<Shared>, Path(id): Path<String>) -> Response {
    let stopped = admin.serving().shared.registry.traces().stop(&id);
    ended(stopped.as_deref(), "protocol trace stopped by the operator")
}

/// Ends a trace and forgets it.
#[utoipa::path(
    delete,
    path = "/api/v1/traces/{id}",
    params(("id" = String, Path, description = "Id of the trace")),
    responses((status = 200, body = TraceView), (status = 404, body = Problem))
)]
pub(super) async fn remove(State(admin): State<Shared>, Path(id): Path<String>) -> Response {
    let removed = admin.serving().shared.registry.traces().remove(&id);
    ended(removed.as_deref(), "protocol trace removed by the operator")
}

fn ended(trace: Option<&Trace>, what: &'static str) -> Response {
    match trace {
        Some(trace) => {
            let view = TraceView::of(trace, SystemTime::now());
            tracing::warn!(trace = view.id, subject = view.subject, what);
            recorded(StatusCode::OK, &view)
        }
        None => absent(),
    }
}

/// The answer, with what it was about for the audit trail.
fn recorded(status: StatusCode, view: &TraceView) -> Response {
    let detail = Detail::extension(view.subject.clone());
    (detail, json(status, view)).into_response()
}

fn absent() -> Response {
    problem(
        StatusCode::NOT_FOUND,
        "no trace has this id: it may be forgotten; see /api/v1/traces",
    )
}
