//! [`probe`]: whether the hook answers, for `causeway check`.

use std::net::{Ipv4Addr, SocketAddr};

use reqwest::StatusCode;
use tokio::time::timeout;

use super::{Question, client::Client, trust};
use crate::{
    auth::check::{Finding, nobody},
    config,
};

/// Asks about a user that nobody has: a no is what a hook that works says.
pub(in crate::auth) async fn probe(settings: &config::HttpHook) -> Finding {
    let trust = trust(settings).map_err(|errors| errors.to_string())?;
    let client = Client::new(settings, trust).map_err(|error| error.to_string())?;
    let (user, password) = (nobody(), nobody());
    let question = Question {
        version: 1,
        method: "password",
        user: &user,
        password: Some(&password),
        certificate: &[],
        peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        listener: "check",
        encrypted: true,
    };
    let body = serde_json::to_vec(&question).map_err(|error| error.to_string())?;
    let answer = timeout(settings.total, client.ask(&body)).await;
    let seconds = settings.total.as_secs();
    let reply = answer.map_err(|_| format!("no answer within {seconds} s"))?;
    let status = reply.map_err(|failure| failure.to_string())?.status;
    let code = status.as_u16();
    match status {
        StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Ok(format!(
            "answers; a user that nobody has gets status {code}"
        )),
        StatusCode::OK => Err("lets in a user that nobody has, with any password".to_owned()),
        _ => Err(format!(
            "status {code} for a user that nobody has: expected 404, 401 or 403"
        )),
    }
}
