//! The JSON API, version 1. What is here stays: fields may be added, none changes its meaning.

mod bans;
mod log;
mod server;
mod sessions;
mod traces;
mod users;
mod view;

use axum::{
    Router,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

pub use self::{
    bans::BanView,
    log::LogView,
    server::{Invalid, Status},
    traces::{EntryView, TraceContent, TraceView},
    users::{Explanation, GrantView, MountView, StepView, UserDetails, UserView},
    view::{FailureView, SessionView, TransferView},
};
pub(super) use self::{
    bans::{bans, end_ban},
    sessions::{end, recent_failures, sessions},
};
use super::Shared;

/// The whole API as an OpenAPI 3.1 document.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "causeway",
        description = "The operator's side of a running causeway server. Every request carries \
                       `Authorization: Bearer TOKEN` where `admin.token` is configured; where it is not, \
                       a change carries the header `x-causeway-request`."
    ),
    paths(
        sessions::list,
        sessions::inspect,
        sessions::kick,
        sessions::transfers,
        sessions::failures,
        users::list,
        users::inspect,
        users::explained,
        bans::list,
        bans::add,
        bans::lift,
        server::status,
        server::readiness,
        server::config,
        server::reload,
        server::drain,
        log::present,
        log::change,
        log::reset,
        traces::list,
        traces::start,
        traces::content,
        traces::dialogue,
        traces::dialogue_of,
        traces::stop,
        traces::remove,
    ),
    components(schemas(Problem, Invalid))
)]
struct Document;

/// Why a request was not carried out.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// For people.
    pub error: String,
}

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/openapi.json", get(openapi))
        .route("/status", get(server::status))
        .route("/readiness", get(server::readiness))
        .route("/config", get(server::config))
        .route("/reload", post(server::reload))
        .route("/drain", post(server::drain))
        .route("/sessions", get(sessions::list))
        .route(
            "/sessions/{id}",
            get(sessions::inspect).delete(sessions::kick),
        )
        .route("/transfers", get(sessions::transfers))
        .route("/failures", get(sessions::failures))
        .route("/users", get(users::list))
        .route("/users/{name}", get(users::inspect))
        .route("/users/{name}/explain", get(users::explained))
        .route("/bans", get(bans::list).post(bans::add))
        .route("/bans/{subject}", delete(bans::lift))
        .route(
            "/log",
            get(log::present).put(log::change).delete(log::reset),
        )
        .route("/traces", get(traces::list).post(traces::start))
        .route("/traces/{id}", get(traces::content).delete(traces::remove))
        .route("/traces/{id}/stop", post(traces::stop))
        .route("/traces/{id}/dialogue", get(traces::dialogue))
        .route("/traces/{id}/dialogue/{session}", get(traces::dialogue_of))
        .fallback(async || {
            problem(
                StatusCode::NOT_FOUND,
                "no such path; see /api/v1/openapi.json",
            )
        })
}

async fn openapi() -> Response {
    json(StatusCode::OK, &Document::openapi())
}

/// An answer in JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// An answer that says why not.
pub(super) fn problem(status: StatusCode, error: &str) -> Response {
    json(
        status,
        &Problem {
            error: error.to_owned(),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_names_every_route() {
        let document = serde_json::to_value(Document::openapi()).unwrap();
        for (method, path) in [
            ("get", "/api/v1/status"),
            ("get", "/api/v1/readiness"),
            ("get", "/api/v1/config"),
            ("post", "/api/v1/reload"),
            ("post", "/api/v1/drain"),
            ("get", "/api/v1/sessions"),
            ("get", "/api/v1/sessions/{id}"),
            ("delete", "/api/v1/sessions/{id}"),
            ("get", "/api/v1/transfers"),
            ("get", "/api/v1/failures"),
            ("get", "/api/v1/users"),
            ("get", "/api/v1/users/{name}"),
            ("get", "/api/v1/users/{name}/explain"),
            ("get", "/api/v1/bans"),
            ("post", "/api/v1/bans"),
            ("delete", "/api/v1/bans/{subject}"),
            ("get", "/api/v1/log"),
            ("put", "/api/v1/log"),
            ("delete", "/api/v1/log"),
            ("get", "/api/v1/traces"),
            ("post", "/api/v1/traces"),
            ("get", "/api/v1/traces/{id}"),
            ("delete", "/api/v1/traces/{id}"),
            ("post", "/api/v1/traces/{id}/stop"),
            ("get", "/api/v1/traces/{id}/dialogue"),
            ("get", "/api/v1/traces/{id}/dialogue/{session}"),
        ] {
            assert!(
                document["paths"][path][method].is_object(),
                "{method} {path}"
            );
        }
        assert!(document["components"]["schemas"]["SessionView"].is_object());
    }
}
