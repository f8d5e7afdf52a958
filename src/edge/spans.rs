//! [`Spans`]: what a session is in the log, and in the traces of a collector.
//!
//! The log's span gives every line its session. The other tree (connection → command → store operation)
//! is for OpenTelemetry alone; nothing of it is made where no collector is configured.

use std::net::SocketAddr;

use tracing::{Instrument as _, Span, field::Empty, info_span, instrument::Instrumented};

use crate::observe::telemetry::{SPANS, remember};

/// The two spans of one connection. Cheap to share.
#[derive(Clone, Debug)]
pub(super) struct Spans {
    connection: Span,
    session: Span,
}

impl Spans {
    pub(super) fn new(id: &str, peer: SocketAddr, listener: &str) -> Self {
        let connection = info_span!(
            target: SPANS,
            parent: None,
            "connection",
            otel.kind = "server",
            session = id,
            %peer,
            listener,
            tls = Empty,
            user = Empty,
        );
        let session = info_span!(
            parent: &connection,
            "session",
            session = id,
            %peer,
            listener,
            user = Empty
        );
        Self {
            connection,
            session,
        }
    }

    /// A connection's work, in both. No `async fn`: that would keep the work twice.
    pub(super) fn hold<T>(&self, work: T) -> Instrumented<Instrumented<T>> {
        work.instrument(self.session.clone())
            .instrument(self.connection.clone())
    }

    /// Who it is, from now on.
    pub(super) fn name(&self, user: &str) {
        self.session.record("user", user);
        self.connection.record("user", user);
    }

    /// TLS version of the control connection.
    pub(super) fn secure(&self, version: &str) {
        self.connection.record("tls", version);
    }

    /// What a command's work runs in.
    pub(super) fn command(&self, verb: &'static str) -> Command {
        // Below the span that is entered: the collector's layer does not look at its parents.
        let span = info_span!(
            target: SPANS,
            "command",
            otel.name = verb,
            otel.kind = "server",
            otel.status_code = Empty,
            verb,
            reply_code = Empty,
            path = Empty,
            bytes = Empty,
        );
        remember(&span, &self.session);
        Command(span)
    }
}

/// The span of one command.
#[derive(Debug)]
pub(super) struct Command(Span);

impl Command {
    pub(super) fn span(&self) -> Span {
        self.0.clone()
    }

    /// Its final reply. What a client did wrongly is no error of the server's.
    pub(super) fn answered(&self, code: u16) {
        // The exporter takes numbers without a sign for texts.
        self.0.record("reply_code", i64::from(code));
        if (400..500).contains(&code) {
            self.0.record("otel.status_code", "ERROR");
        }
    }
}

/// What the command at hand is about.
pub(super) fn about(path: &str) {
    Span::current().record("path", path);
}

/// How much the command at hand moved.
pub(super) fn moved(bytes: u64) {
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    Span::current().record("bytes", bytes);
}
