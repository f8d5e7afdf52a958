//! Every change that an operator makes or tries, for the audit trail.

use std::net::SocketAddr;

use axum::{
    Extension,
    extract::{Request, State},
    http::{Method, StatusCode},
    middleware::Next,
    response::Response,
};

use super::Shared;
use crate::observe::record::{Kind, Outcome, Record};

/// Longest path that is recorded: ours are short.
const LONGEST_PATH: usize = 256;

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operator(pub(super) SocketAddr);

/// What a change was about, where its path does not say.
#[derive(Clone, Debug)]
pub(super) struct Detail(String);

impl Detail {
    /// To be put into the answer.
    pub(super) fn extension(detail: String) -> Extension<Self> {
        Extension(Self(detail))
    }
}

/// Carries out a request and records it, unless it only looks.
pub(super) async fn record(
    State(admin): State<Shared>,
    Extension(Operator(peer)): Extension<Operator>,
    request: Request,
    next: Next,
) -> Response {
    let verb = match *request.method() {
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => return next.run(request).await,
    };
    let path: String = request.uri().path().chars().take(LONGEST_PATH).collect();
    let response = next.run(request).await;
    let status = response.status();
    let outcome = match status {
        status if status.is_success() => Outcome::Success,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Outcome::Refused,
        _ => Outcome::Failed,
    };
    let mut record = Record::new(Kind::Admin, outcome);
    record.peer = Some(peer.to_string());
    (record.verb, record.target) = (Some(verb), Some(path));
    record.code = Some(status.as_u16());
    let detail = response.extensions().get::<Detail>();
    record.detail = detail.map(|Detail(text)| text.clone());
    let serving = admin.serving();
    // No webhook hears of these.
    let _ = serving.shared.registry.journal().keep(record).await;
    response
}
