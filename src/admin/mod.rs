//! The operator's HTTP side.
//!
//! | path | answers |
//! | --- | --- |
//! | `/livez` | 200 while the process runs |
//! | `/readyz` | 200 while new connections are admitted, 503 while draining |
//! | `/metrics` | OpenMetrics text |
//!
//! Owns nothing of the sessions; reads [`crate::observe`] and [`crate::shutdown`].

use std::{io, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;

use crate::{observe::metrics::Metrics, shutdown::Drain, store::Budget};

/// What the pages are made of.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Printed at `/metrics`.
    pub metrics: Arc<Metrics>,
    /// Decides `/readyz`.
    pub drain: Drain,
    /// Read at each scrape.
    pub budget: Budget,
}

impl Admin {
    /// Serves until `stop` completes.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let router = Router::new()
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .with_state(self);
        axum::serve(listener, router)
            .with_graceful_shutdown(stop)
            .await
    }
}

async fn ready(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    if admin.drain.has_begun() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else {
        (StatusCode::OK, "ok\n")
    }
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let used = i64::try_from(admin.budget.used_bytes()).unwrap_or(i64::MAX);
    admin.metrics.upload_memory.set(used);
    admin
        .metrics
        .page()
        .map(|page| ([(header::CONTENT_TYPE, TEXT)], page))
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}
