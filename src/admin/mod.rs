//! The operator's HTTP side.
//!
//! | path | answers |
//! | --- | --- |
//! | `/livez` | 200 while the process runs |
//! | `/readyz` | 200 while new connections are admitted, else 503; `?verbose` says why |
//! | `/metrics` | OpenMetrics text |
//! | `/` | the status page |
//! | `/api/v1/…` | JSON; `/api/v1/openapi.json` describes it |
//!
//! Owns HTTP, who may use it, and what is shown. Reads [`crate::edge`]'s registry and
//! [`crate::observe`]; what it changes goes through [`Levers`] to whoever owns it.

mod api;
mod guard;
mod history;
mod levers;
mod page;
mod ready;
mod recorded;
mod serve;

use std::{net::SocketAddr, sync::Arc, time::SystemTime};

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, header},
    middleware,
    response::IntoResponse,
    routing::get,
};

pub use self::{
    api::{
        BanView, EntryView, Explanation, FailureView, GrantView, Invalid, LogView, MountView,
        Problem, SessionView, Status, StepView, TraceContent, TraceView, TransferView, UserDetails,
        UserView,
    },
    levers::{DrainOrder, Levers, Orders, ReloadOrder, Reloaded},
    ready::{Check, Readiness},
};
use self::{history::History, page::Logins};
use crate::{
    config,
    edge::{Current, Serving, Tls},
    observe::logging::Logging,
};

/// Largest request body: the API takes a few words.
const BODY_BYTES: usize = 16 << 10;

/// What the answers are made of.
#[derive(Debug)]
pub struct Admin {
    /// The server as it is.
    current: Current,
    /// What an operator can move.
    levers: Levers,
    logging: Logging,
    /// What the listeners are bound to, by their names.
    addresses: Vec<(Arc<str>, SocketAddr)>,
    /// Who may ask.
    settings: config::Admin,
    /// `None`: plain HTTP.
    tls: Option<Arc<Tls>>,
    started: SystemTime,
    history: History,
    logins: Logins,
}

/// Shared by all requests.
type Shared = Arc<Admin>;

impl Admin {
    /// The admin side of the server that `current` is and whose listeners have these `addresses`.
    pub fn new(
        current: Current,
        levers: Levers,
        logging: Logging,
        addresses: Vec<(Arc<str>, SocketAddr)>,
        settings: config::Admin,
        tls: Option<Arc<Tls>>,
    ) -> Self {
        Self {
            current,
            levers,
            logging,
            addresses,
            settings,
            tls,
            started: SystemTime::now(),
            history: History::default(),
            logins: Logins::default(),
        }
    }

    /// What a listener is bound to: by its configuration it may be any free port.
    fn address_of(&self, listener: &config::Listener) -> SocketAddr {
        let mut addresses = self.addresses.iter();
        let bound = addresses.find(|(name, _)| *name == listener.name);
        bound.map_or(listener.address, |(_, address)| *address)
    }

    /// The present state of the server.
    fn serving(&self) -> Arc<Serving> {
        self.current.load_full()
    }
}

fn router(admin: &Shared) -> Router {
    let open = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready::readyz));
    let guarded = Router::new()
        .route("/metrics", get(metrics))
        .nest("/api/v1", api::router())
        .layer(middleware::from_fn_with_state(
            Arc::clone(admin),
            guard::check,
        ));
    open.merge(guarded)
        .merge(page::router())
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(middleware::from_fn_with_state(
            Arc::clone(admin),
            recorded::record,
        ))
        .layer(middleware::from_fn(guard::headers))
        .with_state(Arc::clone(admin))
}

/// OpenMetrics for those who ask for it, as Prometheus does; the older text form for all others.
async fn metrics(State(admin): State<Shared>, headers: HeaderMap) -> impl IntoResponse {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";
    let accept = headers.get(header::ACCEPT);
    let accept = accept.and_then(|accept| accept.to_str().ok());
    let open = accept.is_some_and(|accept| accept.contains("application/openmetrics-text"));
    let serving = admin.serving();
    let (metrics, budget) = (&serving.shared.metrics, &serving.shared.budget);
    let used = i64::try_from(budget.used_bytes()).unwrap_or(i64::MAX);
    metrics.upload_memory.set(used);
    let (kind, page) = if open {
        (OPEN_METRICS, metrics.page())
    } else {
        (PLAIN, metrics.plain_page())
    };
    page.map(|page| ([(header::CONTENT_TYPE, kind)], page))
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}
