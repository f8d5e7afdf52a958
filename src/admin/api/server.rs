//! The server as a whole: state, configuration, reload, drain.

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
    super::{DrainOrder, Readiness, Reloaded, Shared, recorded::Detail},
    Problem, json, problem,
};

/// Longest drain that can be asked for: as the configuration allows.
const LONGEST_DRAIN: u64 = 7 * 24 * 3600;

/// The server in a few numbers.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Version of causeway.
    pub version: String,
    /// `serving`, `draining`.
    pub state: String,
    /// Sessions now.
    pub sessions: usize,
    /// Transfers now.
    pub transfers: usize,
    /// Bytes that uploads hold in memory.
    pub upload_memory_bytes: usize,
}

/// Every mistake in the files: nothing was changed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Invalid {
    /// For people.
    pub error: String,
    /// One each, with file and YAML path.
    pub mistakes: Vec<String>,
}

/// What a drain may be asked for.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DrainRequest {
    /// How long running transfers may take; default `timeouts.drain_seconds`. 0 aborts them now.
    deadline_seconds: Option<u64>,
}

/// The server in a few numbers.
#[utoipa::path(get, path = "/api/v1/status", responses((status = 200, body = Status)))]
pub(super) async fn status(State(admin): State<Shared>) -> Response {
    let serving = admin.serving();
    let sessions = serving.shared.registry.sessions();
    let running = |doing: crate::edge::Doing| doing.transfer.is_some();
    json(
        StatusCode::OK,
        &Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: if serving.shared.drain.has_begun() {
                "draining"
            } else {
                "serving"
            }
            .to_owned(),
            sessions: sessions.len(),
            transfers: sessions.iter().filter(|one| running(one.doing())).count(),
            upload_memory_bytes: serving.shared.budget.used_bytes(),
        },
    )
}

/// What `/readyz?verbose` says.
#[utoipa::path(get, path = "/api/v1/readiness", responses((status = 200, body = Readiness)))]
pub(super) async fn readiness(State(admin): State<Shared>) -> Response {
    json(StatusCode::OK, &Readiness::of(&admin, SystemTime::now()))
}

/// The configuration in force, defaults and all, secrets masked.
/// By the keys of the configuration file; `causeway config print` writes the same as YAML.
#[utoipa::path(get, path = "/api/v1/config", responses((status = 200, content_type = "application/json", body = Object)))]
pub(super) async fn config(State(admin): State<Shared>) -> Response {
    json(StatusCode::OK, &admin.serving().config.effective)
}

/// Looks at configuration, users and certificates now. All or nothing: with a mistake in them
/// everything stays as it was.
#[utoipa::path(
    post,
    path = "/api/v1/reload",
    responses((status = 200, body = Reloaded), (status = 422, body = Invalid), (status = 503, body = Problem))
)]
pub(super) async fn reload(State(admin): State<Shared>) -> Response {
    match admin.levers.reload().await {
        Ok(Ok(reloaded)) => {
            let detail = Detail::extension(reloaded.summary());
            (detail, json(StatusCode::OK, &reloaded)).into_response()
        }
        Ok(Err(mistakes)) => {
            let detail = Detail::extension(mistakes.join("; "));
            let invalid = Invalid {
                error: "nothing was changed: the files have mistakes".to_owned(),
                mistakes,
            };
            (detail, json(StatusCode::UNPROCESSABLE_ENTITY, &invalid)).into_response()
        }
        Err(ending) => ending.into_response(),
    }
}

/// Stops the server: nobody new gets in, running transfers end until the deadline, then the process
/// exits. Asked again, the deadline is set anew.
#[utoipa::path(
    post,
    path = "/api/v1/drain",
    request_body(content = Option<DrainRequest>, content_type = "application/json"),
    responses((status = 202), (status = 400, body = Problem), (status = 503, body = Problem))
)]
pub(super) async fn drain(State(admin): State<Shared>, body: Bytes) -> Response {
    let request = if body.is_empty() {
        Ok(DrainRequest::default())
    } else {
        serde_json::from_slice::<DrainRequest>(&body)
    };
    let deadline = match request {
        Ok(DrainRequest { deadline_seconds }) => deadline_seconds,
        Err(error) => {
            let message = format!("expected {{\"deadline_seconds\": NUMBER}} or nothing: {error}");
            return problem(StatusCode::BAD_REQUEST, &message);
        }
    };
    if deadline.is_some_and(|seconds| seconds > LONGEST_DRAIN) {
        let message = format!("deadline_seconds: expected at most {LONGEST_DRAIN}, a week");
        return problem(StatusCode::BAD_REQUEST, &message);
    }
    tracing::warn!(
        deadline_seconds = deadline,
        "drain asked for by the operator"
    );
    let deadline = deadline.map(Duration::from_secs);
    match admin.levers.drain(DrainOrder { deadline }) {
        Ok(()) => json(
            StatusCode::ACCEPTED,
            &serde_json::json!({"state": "draining"}),
        ),
        Err(ending) => ending.into_response(),
    }
}
