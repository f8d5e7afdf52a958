//! How a transfer ended: its log line, its metrics, its final reply.

use std::time::Instant;

use crate::{
    access::VirtualPath,
    edge::{
        data::DataError,
        files::{explain, lost_engine},
        learn::Quirk,
        passive::PassiveError,
        registry::{Reference, What},
        reply::Reply,
        session::{Next, Session},
        spans,
        tls::HandshakeError,
        trace::What as Heard,
    },
    engine::EngineError,
    observe::{
        metrics::{DirectionLabels, Metrics, PhaseLabels, SecurityLabels, TransferLabels},
        record::{Kind, Outcome as Deed, Record},
    },
    store::{
        exchange::Outcome,
        transfer::{Direction, Failure, Phase, Progress},
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
    /// First byte in the file.
    pub(super) offset: u64,
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
        ..
    } = summary;
    let (verb, bytes, seconds) = (*verb, progress.bytes(), started.elapsed().as_secs_f64());
    let (reply, outcome) = match ending {
        Ending::Concluded(Some(done @ (Outcome::Done | Outcome::Appeared | Outcome::Found(_)))) => {
            let waits = matches!(&done, Outcome::Found(stat) if stat.waits);
            tracing::info!(
                verb,
                path = path.as_str(),
                bytes,
                seconds,
                waits,
                "transfer complete"
            );
            summary.complete(session, waits);
            (Reply::new(226, closing), "complete")
        }
        Ending::Concluded(Some(Outcome::Failed(failure))) | Ending::Stopped(failure) => {
            if matches!(
                (&failure, direction),
                (Failure::Truncated, Direction::Upload)
            ) {
                session.learn(Quirk::UploadEnd);
            }
            let (reply, reference) = explain(&session.visit, verb, path, &failure);
            summary.failed(session, &failure, reference.as_ref());
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
            let reason = error.to_string();
            let path = path.as_str();
            let reference = session.visit.fail(&What {
                verb,
                path,
                code,
                error: &error,
            });
            tracing::warn!(verb, path, %error, %reference, "no data connection");
            summary.not_connected(session, code, reason, &reference);
            let text = format!("{text} (ref {reference})");
            (Reply::new(code, text), "no_connection")
        }
        Ending::Concluded(None) => {
            let failure = Failure::Intent("nothing: it did not ask the storage");
            let (reply, reference) = explain(&session.visit, verb, path, &failure);
            summary.failed(session, &failure, reference.as_ref());
            (reply, "internal")
        }
        Ending::Engine(error) => return Err(lost_engine(&error)),
    };
    let direction = direction_label(*direction);
    spans::moved(bytes);
    session.visit.tap().note(|| Heard::Transfer {
        verb,
        direction,
        path: path.as_str().to_owned(),
        offset: summary.offset,
        bytes,
        outcome,
    });
    let metrics = &session.shared.metrics;
    summary.count_phases(metrics, outcome == "complete");
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

impl Summary<'_> {
    fn count_phases(&self, metrics: &Metrics, complete: bool) {
        let direction = direction_label(self.direction);
        let observe = |phase, seconds: f64| {
            metrics
                .transfer_phase_seconds
                .get_or_create(&PhaseLabels { direction, phase })
                .observe(seconds);
        };
        let since = |moment: Instant| moment.saturating_duration_since(self.started).as_secs_f64();
        if let Some(opened) = self.progress.reached(Phase::Opened) {
            observe("opening", since(opened));
        }
        if let Some(first) = self.progress.reached(Phase::FirstByte) {
            observe("first_byte", since(first));
        }
        if let Some(received) = self.progress.reached(Phase::Received)
            && complete
        {
            observe("commit", received.elapsed().as_secs_f64());
        }
    }

    /// `waits`: the file is safe, and appears with its rename.
    fn complete(&self, session: &Session, waits: bool) {
        if let Some(mut record) = self.record(session, Deed::Success) {
            record.deferred = waits.then_some(true);
            self.note(session, record, 226);
        }
    }

    fn failed(&self, session: &Session, failure: &Failure, reference: Option<&Reference>) {
        let paths = (None, self.path);
        let record = session.visit.failure(self.verb, paths, failure, reference);
        if let Some(record) = record {
            self.note(session, record, failure.reply().0);
        }
    }

    fn not_connected(&self, session: &Session, code: u16, reason: String, reference: &Reference) {
        if let Some(mut record) = self.record(session, Deed::Failed) {
            record.reason = Some("no_connection");
            record.detail = Some(reason);
            record.reference = Some(reference.to_string());
            self.note(session, record, code);
        }
    }

    /// `None` for listings, too.
    fn record(&self, session: &Session, outcome: Deed) -> Option<Record> {
        let kind = match self.direction {
            Direction::Upload => Kind::Upload,
            Direction::Download => Kind::Download,
            Direction::Listing => return None,
        };
        session.visit.record(kind, outcome)
    }

    fn note(&self, session: &Session, mut record: Record, code: u16) {
        session.visit.locate(&mut record, self.path);
        (record.verb, record.code) = (Some(self.verb), Some(code));
        record.offset = Some(self.offset).filter(|offset| *offset > 0);
        record.bytes = Some(self.progress.bytes());
        record.sha256 = self.progress.sha256();
        record.seconds = Some((self.started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0);
        session.visit.note(record);
    }
}

pub(super) fn direction_label(direction: Direction) -> &'static str {
    match direction {
        Direction::Upload => "upload",
        Direction::Download => "download",
        Direction::Listing => "listing",
    }
}
