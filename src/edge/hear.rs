//! What the client says while long work runs for it.
//!
//! ABOR stops the work, the loss of the control connection stops it too, the rest waits in the
//! session's queue and is answered in its order (RFC 959 §4.1.3, CONFORMANCE A17, G15–G19).

use std::{collections::VecDeque, future::Future};

use tokio::time::timeout;

use super::{
    QUEUED_COMMANDS,
    command::{self, Command},
    control::{Control, Incoming},
    line::LineEvent,
    registry::Visit,
    reply::Reply,
    session::{Next, Session},
    term::Term,
};
use crate::{
    shutdown::Drain,
    store::{
        ErrorKind, StoreError,
        transfer::{CancelReason, Failure, Progress},
    },
};

/// What the client said during a transfer.
pub(super) enum Heard {
    Answer(Reply),
    Later(LineEvent),
    Abort,
    Gone,
}

/// What the edge does about it; `direction` is of the bytes that `progress` counts.
pub(super) fn hear(
    incoming: Incoming,
    nothing_queued: bool,
    direction: &'static str,
    progress: &Progress,
) -> Heard {
    let event = match incoming {
        Incoming::Closed => return Heard::Gone,
        Incoming::Line(event) => event,
    };
    let LineEvent::Line(line) = &event else {
        return Heard::Later(event);
    };
    match command::parse(line) {
        Ok(Command::Abor) => Heard::Abort,
        // Behind a queued command they wait too: replies keep the order of the commands.
        Ok(Command::Noop) if nothing_queued => Heard::Answer(Reply::new(200, "NOOP ok")),
        Ok(Command::Stat(None)) if nothing_queued => {
            let moved = format!("{} of {} bytes moved", direction, progress.bytes());
            Heard::Answer(Reply::multi_line(213, ["Status:", &moved], "End"))
        }
        _ => Heard::Later(event),
    }
}

/// Work without a data connection: ABOR is 426 to it and 226 to itself. Dropped, `work` has left
/// nothing behind.
pub(super) async fn while_heard(
    control: &mut Control,
    queue: &mut VecDeque<LineEvent>,
    work: impl Future<Output = Next>,
) -> Next {
    tokio::pin!(work);
    loop {
        let incoming = tokio::select! {
            biased;
            next = &mut work => return next,
            incoming = control.next(), if queue.len() < QUEUED_COMMANDS => incoming,
        };
        match incoming {
            Incoming::Closed => return Next::Gone,
            Incoming::Line(LineEvent::Line(line)) if is_abort(&line) => {
                let stopped = Reply::new(426, "Command aborted");
                return match control.send(&stopped).await {
                    Ok(()) => Next::Answer(Reply::new(226, "ABOR command successful")),
                    Err(_) => Next::Gone,
                };
            }
            Incoming::Line(event) => queue.push_back(event),
        }
    }
}

/// Work without a data connection that may take long: it ends with the server, the session or the
/// account's time, and at the latest with the deadline of a commit.
pub(super) async fn bounded<T, E: From<Failure>>(
    session: &Session,
    operation: &'static str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let shared = &session.shared;
    let work = timeout(shared.timeouts.commit, work);
    let done = tokio::select! {
        biased;
        reason = stopped(&shared.drain, &session.visit, session.term) => {
            return Err(Failure::Cancelled(reason).into());
        }
        done = work => done,
    };
    done.unwrap_or_else(|elapsed| {
        let error = StoreError::with_source(ErrorKind::Unavailable, operation, elapsed);
        Err(Failure::Store(error).into())
    })
}

/// Completes when long work is to end, whatever its client wants.
pub(super) async fn stopped(drain: &Drain, visit: &Visit, term: Option<Term>) -> CancelReason {
    tokio::select! {
        biased;
        () = drain.expired() => CancelReason::Shutdown,
        () = visit.kicked() => CancelReason::Kicked,
        () = Term::overstayed(term) => CancelReason::Overstayed,
    }
}

fn is_abort(line: &[u8]) -> bool {
    matches!(command::parse(line), Ok(Command::Abor))
}
