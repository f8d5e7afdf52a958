//! Sessions, transfers and failures as JSON. Times are RFC 3339 in UTC, rates bytes a second.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::ToSchema;

use crate::{
    edge::{Failed, Presence, Running},
    store::transfer::Direction,
};

/// One session.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SessionView {
    /// Eight hexadecimal digits, as in the log.
    pub id: String,
    /// Address and port of the client.
    pub peer: String,
    /// Name of the listener.
    pub listener: String,
    /// The account; absent before login.
    pub user: Option<String>,
    /// TLS version of the control connection; absent in the clear.
    pub tls: Option<String>,
    /// When it began.
    pub connected_at: String,
    /// Since the last command.
    pub idle_seconds: u64,
    /// Verb of the last command.
    pub last_command: Option<String>,
    /// The transfer that runs.
    pub transfer: Option<TransferView>,
}

/// One running transfer.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TransferView {
    /// Id of its session: a session runs one transfer at a time.
    pub session: String,
    /// The account.
    pub user: Option<String>,
    /// Address and port of the client.
    pub peer: String,
    /// `STOR`, `RETR`, `LIST` …
    pub verb: String,
    /// `upload`, `download`, `listing`.
    pub direction: String,
    /// Absolute, as the user sees it.
    pub path: String,
    /// Moved so far.
    pub bytes: u64,
    /// There will be so many, where that is known.
    pub expected_bytes: Option<u64>,
    /// Over the last second or two.
    pub bytes_per_second: f64,
    /// When the command came.
    pub started_at: String,
    /// Since then.
    pub seconds: f64,
}

/// One failed command.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FailureView {
    /// As in the client's reply and in the log.
    pub reference: String,
    /// When.
    pub at: String,
    /// Id of the session.
    pub session: String,
    /// Address and port of the client.
    pub peer: String,
    /// The account; absent before login.
    pub user: Option<String>,
    /// Verb of the command.
    pub verb: String,
    /// What it was about; empty where it names no file.
    pub path: String,
    /// FTP code of the reply.
    pub code: u16,
    /// The whole reason.
    pub reason: String,
}

impl SessionView {
    pub(in crate::admin) fn of(session: &Presence, now: SystemTime) -> Self {
        let doing = session.doing();
        Self {
            id: session.id().to_owned(),
            peer: session.peer().to_string(),
            listener: session.listener().to_owned(),
            tls: doing.tls.map(str::to_owned),
            connected_at: rfc3339(session.connected()),
            idle_seconds: since(doing.active, now).as_secs(),
            last_command: doing.last_command.map(str::to_owned),
            transfer: doing
                .transfer
                .as_ref()
                .map(|transfer| TransferView::of(session, doing.user.as_deref(), transfer, now)),
            user: doing.user.as_deref().map(str::to_owned),
        }
    }
}

impl TransferView {
    fn of(session: &Presence, user: Option<&str>, transfer: &Running, now: SystemTime) -> Self {
        Self {
            session: session.id().to_owned(),
            user: user.map(str::to_owned),
            peer: session.peer().to_string(),
            verb: transfer.verb.to_owned(),
            direction: match transfer.direction {
                Direction::Upload => "upload",
                Direction::Download => "download",
                Direction::Listing => "listing",
            }
            .to_owned(),
            path: transfer.path.clone(),
            bytes: transfer.bytes(),
            expected_bytes: transfer.expected,
            bytes_per_second: transfer.bytes_per_second().round(),
            started_at: rfc3339(transfer.started),
            seconds: since(transfer.started, now).as_secs_f64(),
        }
    }
}

impl FailureView {
    pub(in crate::admin) fn of(failed: &Failed) -> Self {
        Self {
            reference: failed.reference.to_string(),
            at: rfc3339(failed.at),
            session: failed.session.clone(),
            peer: failed.peer.to_string(),
            user: failed.user.as_deref().map(str::to_owned),
            verb: failed.verb.to_owned(),
            path: failed.path.clone(),
            code: failed.code,
            reason: failed.reason.clone(),
        }
    }
}

fn since(moment: SystemTime, now: SystemTime) -> std::time::Duration {
    // A clock that was set back makes no time pass.
    now.duration_since(moment).unwrap_or_default()
}

pub(in crate::admin) fn rfc3339(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    let time = time.replace_nanosecond(0).unwrap_or(time);
    // Years beyond 9999 have no such form.
    time.format(&Rfc3339).unwrap_or_default()
}
