//! Who may see the page and act on it.
//!
//! A browser cannot send the token by itself. The form hands it to the script, which sends it once in
//! the `Authorization` header and gets a session: 256 random bits in a cookie that scripts cannot read
//! and other sites cannot make the browser send (`HttpOnly`, `SameSite=Strict`, `Secure` under TLS).
//! The cookie shows the page and nothing of the API. An action must also carry the value that stands
//! in the page itself, which no other origin can read. Without a configured token there is no login;
//! the loopback rules of [`super::super::guard`] hold instead, and actions need that value too.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use subtle::ConstantTimeEq;

use super::super::{Shared, api::problem, guard};

/// Browsers logged in at once; the oldest goes first.
const SESSIONS: usize = 64;
/// A working day. The page is left open on a wall, and then it asks again.
const LIFE: Duration = Duration::from_hours(12);
/// What a wrong token costs: the guard's own refusals are as slow as the network.
const PENALTY: Duration = Duration::from_millis(500);

const COOKIE: &str = "causeway_session";
const CSRF_HEADER: &str = "x-causeway-csrf";

/// Browsers that are logged in.
#[derive(Debug)]
pub(in crate::admin) struct Logins {
    sessions: Mutex<VecDeque<Browser>>,
    /// What stands in the page where nobody has to log in.
    csrf: String,
}

#[derive(Debug)]
struct Browser {
    id: String,
    csrf: String,
    end: Instant,
}

/// Why a browser is not shown the page.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It may log in.
    AskForToken,
    /// It may not.
    Forbidden(Box<Response>),
}

impl Default for Logins {
    fn default() -> Self {
        Self {
            sessions: Mutex::default(),
            csrf: random(),
        }
    }
}

impl Logins {
    /// A new session: its id.
    fn begin(&self, now: Instant) -> String {
        let id = random();
        let browser = Browser {
            id: id.clone(),
            csrf: random(),
            end: now + LIFE,
        };
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|browser| browser.end > now);
        sessions.truncate(SESSIONS - 1);
        sessions.push_front(browser);
        id
    }

    /// What stands in the page of the session with this id.
    fn csrf_of(&self, id: &str, now: Instant) -> Option<String> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let found = sessions
            .iter()
            .find(|browser| same(&browser.id, id) && browser.end > now);
        found.map(|browser| browser.csrf.clone())
    }

    fn end(&self, id: &str) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|browser| !same(&browser.id, id));
    }
}

/// Whether a request may see the page: the value that stands in it.
pub(super) fn who(admin: &Shared, headers: &HeaderMap) -> Result<String, Refusal> {
    if admin.settings.token.is_none() {
        guard::is_local(headers).map_err(|response| Refusal::Forbidden(Box::new(response)))?;
        return Ok(admin.logins.csrf.clone());
    }
    cookie(headers)
        .and_then(|id| admin.logins.csrf_of(id, Instant::now()))
        .ok_or(Refusal::AskForToken)
}

/// Whether a request may change something.
pub(super) fn may_change(admin: &Shared, headers: &HeaderMap) -> Result<(), Refusal> {
    let csrf = who(admin, headers)?;
    let given = headers
        .get(CSRF_HEADER)
        .and_then(|value| value.to_str().ok());
    if given.is_some_and(|given| same(given, &csrf)) {
        return Ok(());
    }
    let message = "the page that sent this is not the one that is shown: load it again";
    Err(Refusal::Forbidden(Box::new(problem(
        StatusCode::FORBIDDEN,
        message,
    ))))
}

/// The token in the `Authorization` header for a session.
pub(super) async fn log_in(State(admin): State<Shared>, request: Request) -> Response {
    if let Err(refusal) = guard::allow(&admin, &request) {
        tracing::warn!("login to the status page refused");
        tokio::time::sleep(PENALTY).await;
        return refusal;
    }
    let id = admin.logins.begin(Instant::now());
    let secure = if admin.tls.is_some() { "; Secure" } else { "" };
    let cookie = format!(
        "{COOKIE}={id}; Path=/; Max-Age={}; HttpOnly; SameSite=Strict{secure}",
        LIFE.as_secs()
    );
    tracing::info!("login to the status page");
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response()
}

/// The end of a browser's session.
pub(super) async fn log_out(State(admin): State<Shared>, request: Request) -> Response {
    if let Err(refusal) = may_change(&admin, request.headers()) {
        return refusal.into_response();
    }
    if let Some(id) = cookie(request.headers()) {
        admin.logins.end(id);
    }
    let gone = format!("{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict");
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, gone)]).into_response()
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

fn same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

fn random() -> String {
    hex::encode(rand::random::<[u8; 32]>())
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::AskForToken => problem(StatusCode::UNAUTHORIZED, "log in at / first"),
            Self::Forbidden(response) => *response,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_end_and_are_bounded() {
        let logins = Logins::default();
        let start = Instant::now();
        let first = logins.begin(start);
        let csrf = logins.csrf_of(&first, start).unwrap();
        assert_ne!(csrf, first);
        assert_eq!(logins.csrf_of(&first, start + LIFE), None, "it has ended");
        let others: Vec<_> = (0..SESSIONS).map(|_| logins.begin(start)).collect();
        assert_eq!(logins.csrf_of(&first, start), None, "the oldest made room");
        logins.end(&others[3]);
        assert_eq!(logins.csrf_of(&others[3], start), None);
        assert!(logins.csrf_of(&others[4], start).is_some());
    }

    #[test]
    fn cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::COOKIE,
            "a=b; causeway_session=12ab; c=d".parse().unwrap(),
        );
        assert_eq!(cookie(&headers), Some("12ab"));
        headers.insert(header::COOKIE, "causeway_session2=12ab".parse().unwrap());
        assert_eq!(cookie(&headers), None);
    }
}
