//! How a transfer ended: its log line, its metrics, its final reply.

use std::time::Instant;

use crate::{
    access::VirtualPath,
    edge::{
        data::DataError,
        files::{lost_engine, report},
        learn::Quirk,
        passive::PassiveError,
        registry::What,
        reply::Reply,
        session::{Next, Session},
        tls::HandshakeError,
    },
    engine::EngineError,
    observe::metrics::{DirectionLabels, Metrics, SecurityLabels, TransferLabels},
    store::{
        exchange::Outcome,
        transfer::{Direction, Failure, Progress},
    },
};

/// How a transfer ended.
pub(super) enum Ending {
    /// There never was a data connection.
    NotConnected(DataError),
    /// Stopped while the data connection was being made.
    Stopped(Failure),
    /// The backend's own word.
    Concluded(Option<Outcome>),
    /// The engine is gone.
    Engine(EngineError),
}

/// Logs and counts a data connection that somebody else may have made.
pub(super) fn security_event(error: &DataError, metrics: &Metrics) {
    let event = match error {
        DataError::Handshake(HandshakeError::ForeignSession) => "foreign_tls_session",
        DataError::Handshake(HandshakeError::OtherCertificate) => "other_client_certificate",
        _ => return,
    };
    tracing::warn!(event, "data connection is not the session's own");
    metrics
        .security_events
        .get_or_create(&SecurityLabels { event })
        .inc();
}

/// What is logged and counted of a transfer.
pub(super) struct Summary<'a> {
    pub(super) verb: &'static str,
    pub(super) path: &'a VirtualPath,
    pub(super) direction: Direction,
    pub(super) progress: &'a Progress,
    pub(super) started: Instant,
}

/// Logs, counts and words the final reply.
pub(super) fn conclude(
    session: &Session,
    summary: &Summary<'_>,
    ending: Ending,
    closing: &str,
) -> Result<Reply, Next> {
    let Summary {
        verb,
        path,
        direction,
        progress,
        started,
    } = summary;
    let (verb, bytes, seconds) = (*verb, progress.bytes(), started.elapsed().as_secs_f64());
    let (reply, outcome) = match ending {
        Ending::Concluded(Some(Outcome::Done | Outcome::Found(_))) => {
            tracing::info!(
                verb,
                path = path.as_str(),
                bytes,
                seconds,
                "transfer complete"
            );
            (Reply::new(226, closing), "complete")
        }
        Ending::Concluded(Some(Outcome::Failed(failure))) | Ending::Stopped(failure) => {
            if matches!(
                (&failure, direction),
                (Failure::Truncated, Direction::Upload)
            ) {
                session.learn(Quirk::UploadEnd);
            }
            let reply = report(&session.visit, verb, path, &failure);
            tracing::info!(
                verb,
                path = path.as_str(),
                bytes,
                seconds,
                reason = failure.label(),
                "transfer failed"
            );
            (reply, failure.label())
        }
        Ending::NotConnected(error) => {
            match error {
                DataError::ClosedBeforeTls => session.learn(Quirk::EmptyUpload),
                DataError::Passive(PassiveError::Timeout(_)) if session.extended => {
                    session.learn(Quirk::Epsv);
                }
                _ => {}
            }
            let (code, text) = error.reply();
            let path = path.as_str();
            let reference = session.visit.fail(&What {
                verb,
                path,
                code,
                error: &error,
            });
            tracing::warn!(verb, path, %error, %reference, "no data connection");
            let text = format!("{text} (ref {reference})");
            (Reply::new(code, text), "no_connection")
        }
        Ending::Concluded(None) => {
            let failure = Failure::Intent("nothing: it did not ask the storage");
            (report(&session.visit, verb, path, &failure), "internal")
        }
        Ending::Engine(error) => return Err(lost_engine(&error)),
    };
    let direction = direction_label(*direction);
    let metrics = &session.shared.metrics;
    metrics
        .transfers
        .get_or_create(&TransferLabels { direction, outcome })
        .inc();
    metrics
        .transfer_bytes
        .get_or_create(&DirectionLabels { direction })
        .inc_by(bytes);
    metrics
        .transfer_seconds
        .get_or_create(&DirectionLabels { direction })
        .observe(seconds);
    Ok(reply)
}

pub(super) fn direction_label(direction: Direction) -> &'static str {
    match direction {
        Direction::Upload => "upload",
        Direction::Download => "download",
        Direction::Listing => "listing",
    }
}
