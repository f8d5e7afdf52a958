//! Sessions and transfers: see them, end them.

use std::time::{Instant, SystemTime};

use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};

use super::{super::Shared, FailureView, Problem, SessionView, TransferView, json, problem};

/// Everybody who is connected.
#[utoipa::path(get, path = "/api/v1/sessions", responses((status = 200, body = [SessionView])))]
pub(super) async fn list(State(admin): State<Shared>) -> Response {
    json(StatusCode::OK, &sessions(&admin))
}

/// One session.
#[utoipa::path(
    get,
    path = "/api/v1/sessions/{id}",
    params(("id" = String, Path, description = "Id of the session")),
    responses((status = 200, body = SessionView), (status = 404, body = Problem))
)]
pub(super) async fn inspect(State(admin): State<Shared>, Path(id): Path<String>) -> Response {
    let serving = admin.serving();
    match serving.shared.registry.session(&id) {
        Some(session) => json(
            StatusCode::OK,
            &SessionView::of(&session, SystemTime::now()),
        ),
        None => absent(),
    }
}

/// Ends a session: its running transfer is aborted and leaves nothing, the client gets 421.
#[utoipa::path(
    delete,
    path = "/api/v1/sessions/{id}",
    params(("id" = String, Path, description = "Id of the session")),
    responses((status = 202, body = SessionView), (status = 404, body = Problem))
)]
pub(super) async fn kick(State(admin): State<Shared>, Path(id): Path<String>) -> Response {
    match end(&admin, &id) {
        Some(view) => json(StatusCode::ACCEPTED, &view),
        None => absent(),
    }
}

/// Every running transfer with its progress.
#[utoipa::path(get, path = "/api/v1/transfers", responses((status = 200, body = [TransferView])))]
pub(super) async fn transfers(State(admin): State<Shared>) -> Response {
    let transfers: Vec<_> = sessions(&admin)
        .into_iter()
        .filter_map(|session| session.transfer)
        .collect();
    json(StatusCode::OK, &transfers)
}

/// The last commands that failed, the newest first.
#[utoipa::path(get, path = "/api/v1/failures", responses((status = 200, body = [FailureView])))]
pub(super) async fn failures(State(admin): State<Shared>) -> Response {
    json(StatusCode::OK, &recent_failures(&admin, usize::MAX))
}

/// What [`list`] shows.
pub(in crate::admin) fn sessions(admin: &Shared) -> Vec<SessionView> {
    let serving = admin.serving();
    let registry = &serving.shared.registry;
    registry.measure(Instant::now());
    let now = SystemTime::now();
    let sessions = registry.sessions();
    sessions
        .iter()
        .map(|session| SessionView::of(session, now))
        .collect()
}

/// What [`failures`] shows, at most `limit`.
pub(in crate::admin) fn recent_failures(admin: &Shared, limit: usize) -> Vec<FailureView> {
    let serving = admin.serving();
    let newest = serving.shared.registry.failures().newest(limit);
    newest.iter().map(FailureView::of).collect()
}

/// What [`kick`] does.
pub(in crate::admin) fn end(admin: &Shared, id: &str) -> Option<SessionView> {
    let session = admin.serving().shared.registry.session(id)?;
    let view = SessionView::of(&session, SystemTime::now());
    session.kick();
    tracing::warn!(
        session = id,
        peer = view.peer,
        user = view.user,
        "session ended by the operator"
    );
    Some(view)
}

fn absent() -> Response {
    problem(
        StatusCode::NOT_FOUND,
        "no session has this id: it may have ended; see /api/v1/sessions",
    )
}
