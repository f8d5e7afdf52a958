//! The status page: what an operator at three in the morning wants to see first.
//!
//! | path | answers |
//! | --- | --- |
//! | `GET /` | the page, or a form that asks for the token |
//! | `GET /page/live` | the part of it that changes, for the script |
//! | `POST /page/login`, `POST /page/logout` | a session for the browser, and its end |
//! | `POST /page/sessions/{id}/kick` | ends an FTP session |
//! | `POST /page/bans/{subject}/lift` | ends a ban |
//! | `GET /page.css`, `GET /page.js` | no secret |
//!
//! Server-rendered; everything that comes from clients or stores passes through maud, which escapes it.
//! The script replaces the live part every two seconds and sends the actions. The content security
//! policy lets neither inline script nor inline style run, nor anything of another origin.
//!
//! Who may see it: [`login`].

mod live;
mod login;
mod plot;

use axum::{
    Router,
    extract::{Path, Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use maud::{DOCTYPE, Markup, html};

pub(super) use self::login::Logins;
use super::{
    Shared,
    api::{self, json, problem},
};

/// Nothing but our own two files, and requests to where the page came from.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/", get(page))
        .route("/page/live", get(live_part))
        .route("/page/login", post(login::log_in))
        .route("/page/logout", post(login::log_out))
        .route("/page/sessions/{id}/kick", post(kick))
        .route("/page/bans/{subject}/lift", post(lift))
        .route("/page.css", get(style))
        .route("/page.js", get(script))
}

async fn page(State(admin): State<Shared>, request: Request) -> Response {
    match login::who(&admin, request.headers()) {
        Ok(csrf) => shell(
            "causeway",
            Some(&csrf),
            &html! {
                main id="live" { (live::render(&admin)) }
                dialog id="confirm" {
                    p id="question" {}
                    form method="dialog" {
                        button value="no" autofocus { "Leave it" }
                        button id="doit" value="yes" class="danger" { "End session" }
                    }
                }
            },
            StatusCode::OK,
        ),
        Err(login::Refusal::AskForToken) => shell(
            "causeway: log in",
            None,
            &html! {
                main class="login" {
                    form id="login" {
                        h1 { "causeway" }
                        label for="token" { "Admin token" }
                        input id="token" type="password" autocomplete="current-password" required autofocus;
                        button { "Show status" }
                        p id="refused" role="alert" hidden { "This is not the token." }
                        p class="hint" { "It is what " code { "admin.token" } " of the configuration says." }
                    }
                }
            },
            StatusCode::UNAUTHORIZED,
        ),
        Err(login::Refusal::Forbidden(response)) => *response,
    }
}

async fn live_part(State(admin): State<Shared>, request: Request) -> Response {
    match login::who(&admin, request.headers()) {
        Ok(_) => html_answer(StatusCode::OK, live::render(&admin)),
        Err(refusal) => refusal.into_response(),
    }
}

async fn kick(State(admin): State<Shared>, Path(id): Path<String>, request: Request) -> Response {
    if let Err(refusal) = login::may_change(&admin, request.headers()) {
        return refusal.into_response();
    }
    match api::end(&admin, &id) {
        Some(view) => json(StatusCode::ACCEPTED, &view),
        None => problem(StatusCode::NOT_FOUND, "the session has ended already"),
    }
}

async fn lift(
    State(admin): State<Shared>,
    Path(subject): Path<String>,
    request: Request,
) -> Response {
    if let Err(refusal) = login::may_change(&admin, request.headers()) {
        return refusal.into_response();
    }
    match api::end_ban(&admin, &subject) {
        Ok(true) => json(StatusCode::OK, &subject),
        Ok(false) => problem(StatusCode::NOT_FOUND, "the ban has ended already"),
        Err(error) => problem(StatusCode::BAD_REQUEST, &error),
    }
}

async fn style() -> Response {
    let kind = [(header::CONTENT_TYPE, "text/css; charset=utf-8")];
    (kind, include_str!("page.css")).into_response()
}

async fn script() -> Response {
    let kind = [(header::CONTENT_TYPE, "text/javascript; charset=utf-8")];
    (kind, include_str!("page.js")).into_response()
}

fn shell(title: &str, csrf: Option<&str>, body: &Markup, status: StatusCode) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                @if let Some(csrf) = csrf {
                    meta name="csrf" content=(csrf);
                }
                title { (title) }
                link rel="stylesheet" href="/page.css";
                link rel="icon" href="data:,";
                script src="/page.js" defer {}
            }
            body {
                p id="lost" role="alert" hidden { "No answer from the server. Trying again …" }
                (body)
            }
        }
    };
    html_answer(status, page)
}

fn html_answer(status: StatusCode, page: Markup) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ];
    (status, headers, page.into_string()).into_response()
}
