//! Commands that move bytes over a data connection.
//!
//! Owns the order of things: every check that can fail runs before the `150`; the data connection is
//! made; the engine dispatches; exactly one final reply follows each `150`, in bounded time. While it
//! runs, the client is heard: ABOR stops it, STAT and NOOP are answered, the loss of the control
//! connection stops it too (RFC 959 §4.1.3, CONFORMANCE G15–G19, A17).

mod outcome;
mod prepare;
mod recursive;

use std::{sync::Arc, time::Instant};

use tokio::sync::mpsc;

use self::{
    outcome::{Ending, Summary, conclude, direction_label, security_event},
    prepare::{Prepared, Source, prepare},
};
use super::{
    QUEUED_COMMANDS,
    command::Command,
    control::Control,
    data::{DataError, DataPlan, establish},
    dialogue::check_protection,
    files::{Stop, lost_engine},
    hear::{Heard, hear, stopped},
    passive::PassivePort,
    registry::{Running, What as Failed},
    reply::Reply,
    session::{Next, Session},
    spans,
    tls::Flow,
    trace::{Tap, What},
};
use crate::{
    engine::{Engine, EngineError, Order},
    observe::metrics::{DirectionLabels, Metrics},
    shutdown::Drain,
    store::{
        exchange::{Exchange, Intent, Transport, Work},
        transfer::{CancelReason, Direction, Phase, Progress},
        upload::Deadlines,
    },
};

/// Runs one transfer command to its final reply.
pub(super) async fn run(
    session: &mut Session,
    control: &mut Control,
    command: Command,
    restart: u64,
) -> Next {
    let started = Instant::now();
    let Some(port) = session.passive.take() else {
        return Next::Answer(Reply::new(425, "Use PASV or EPSV first"));
    };
    port.claim();
    if let Err(reply) = check_protection(session) {
        return Next::Answer(reply);
    }
    let verb = command.verb();
    // Listings are short and tell a client what to do next: they have no bound.
    let is_file = !matches!(verb, "LIST" | "NLST" | "MLSD");
    let place = match is_file.then(|| session.begin_transfer()).transpose() {
        Ok(place) => place,
        Err(reply) => return Next::Answer(reply),
    };
    let prepared = match prepare(session, command, restart).await {
        Ok(prepared) => prepared,
        Err(Stop::Refused(reply)) => return Next::Answer(reply),
        Err(Stop::Engine(error)) => return lost_engine(&error),
    };
    let direction = prepared.source.direction();
    let path = prepared.path.clone();
    spans::about(path.as_str());
    let closing = prepared.closing.clone();
    let running = session.shared.metrics.transfers_running.clone();
    let label = DirectionLabels {
        direction: direction_label(direction),
    };
    running.get_or_create(&label).inc();
    let hashes = direction != Direction::Listing && session.visit.hashes();
    let progress = Arc::new(Progress::new(hashes).with_clearance());
    let expected = prepared.expected;
    // Until the outcome is in the log.
    let shown = session.visit.show(Running::new(
        verb,
        path.as_str(),
        direction,
        expected,
        &progress,
    ));
    let (ending, aborted, gone) = attend(session, control, port, prepared, &progress).await;
    running.get_or_create(&label).dec();
    let summary = Summary {
        verb,
        path: &path,
        direction,
        offset: restart,
        progress: &progress,
        started,
    };
    let mut reply = match conclude(session, &summary, ending, &closing) {
        Ok(reply) => reply,
        Err(farewell) => return farewell,
    };
    let kept = session.visit.settle().await;
    if let (Err(error), Direction::Upload, 226) = (kept, direction, reply.code()) {
        // The file is there, but nobody would ever be told: the client sends it again.
        let code = 451;
        let reference = session.visit.fail(&Failed {
            verb,
            path: path.as_str(),
            code,
            error: &error,
        });
        let text = format!("File stored, but not announced: send it again (ref {reference})");
        reply = Reply::new(code, text);
    }
    // Another session of the user may begin the next transfer with the reply.
    drop((place, shown));
    if gone || control.send(&reply).await.is_err() {
        return Next::Gone;
    }
    // "ABOR" in the text of the second reply is how lftp notices a missed 426 (G15).
    if aborted
        && control
            .send(&Reply::new(226, "ABOR command successful"))
            .await
            .is_err()
    {
        return Next::Gone;
    }
    Next::Answered(reply.code())
}

/// Runs the transfer and hears the client meanwhile. Returns how it ended, whether ABOR came, and
/// whether the client is gone.
async fn attend(
    session: &mut Session,
    control: &mut Control,
    port: PassivePort,
    prepared: Prepared,
    progress: &Arc<Progress>,
) -> (Ending, bool, bool) {
    let opening = Reply::new(150, &prepared.opening);
    let direction = prepared.source.direction();
    let (plan, term) = (plan(session, direction), session.term);
    let Session {
        engine,
        exchange,
        shared,
        queue,
        visit,
        ..
    } = session;
    let deadlines = Deadlines {
        stall: shared.timeouts.data_stall,
        commit: shared.timeouts.commit,
    };
    let (announce, mut announced) = mpsc::channel(1);
    let work = carry(
        Carrier {
            engine,
            exchange,
            deadlines,
            drain: &shared.drain,
            metrics: &shared.metrics,
            tap: visit.tap(),
        },
        port,
        plan,
        prepared,
        progress,
        announce,
    );
    let stopped = stopped(&shared.drain, visit, term);
    tokio::pin!(work, stopped);
    let (mut aborted, mut gone, mut ended, mut cleared) = (false, false, false, false);
    let mut lines_behind_end = 0;
    let ending = loop {
        let listens = !gone && !aborted && queue.len() < QUEUED_COMMANDS;
        let incoming = tokio::select! {
            biased;
            ending = &mut work => break ending,
            Some(()) = announced.recv() => {
                progress.reach(Phase::Opened);
                if control.send(&opening).await.is_err() {
                    gone = true;
                    progress.cancel(CancelReason::ControlLost);
                }
                continue;
            }
            reason = &mut stopped, if !ended => {
                ended = true;
                progress.cancel(reason);
                continue;
            }
            // After ABOR the end is near: what comes then, a second ABOR too, gets its own reply later.
            incoming = control.next(), if listens => incoming,
            // Behind the lines: an upload whose end is here is committed when there are none before it.
            () = progress.clearance_asked(), if !cleared => {
                let before = if listens { control.next_if_here().await } else { None };
                let Some(incoming) = before else {
                    cleared = true;
                    progress.clear();
                    continue;
                };
                incoming
            }
        };
        match hear(
            incoming,
            queue.is_empty(),
            direction_label(direction),
            progress,
        ) {
            Heard::Answer(reply) => gone = control.send(&reply).await.is_err(),
            Heard::Later(event) => queue.push_back(event),
            Heard::Abort => {
                aborted = true;
                progress.cancel(CancelReason::Aborted);
            }
            Heard::Gone => gone = true,
        }
        if progress.reached(Phase::Received).is_none() {
            if gone {
                progress.cancel(CancelReason::ControlLost);
            }
            continue;
        }
        // Who leaves behind the proven end of a file has sent it whole, and who never stops talking must
        // not put off its commit.
        lines_behind_end += 1;
        if !aborted && (gone || lines_behind_end > QUEUED_COMMANDS) {
            cleared = true;
            progress.clear();
        }
    };
    // The work can announce and end between two looks at the channel.
    if !gone && announced.try_recv().is_ok() {
        progress.reach(Phase::Opened);
        gone = control.send(&opening).await.is_err();
    }
    (ending, aborted, gone)
}

fn plan(session: &Session, direction: Direction) -> DataPlan {
    let (profile, door) = (&session.profile, &session.door);
    let timeouts = &session.shared.timeouts;
    let private = session.protection.private;
    DataPlan {
        tls: session.tls.clone().filter(|_| private),
        flow: if direction == Direction::Upload {
            Flow::ToServer
        } else {
            Flow::ToClient
        },
        upload_end: profile.upload_end.unwrap_or(door.config.upload_end),
        empty_upload: profile.empty_upload,
        connect: timeouts.data_connect,
        handshake: timeouts.tls_handshake,
        stall: timeouts.data_stall,
        pacing: session.pacing(),
    }
}

/// What `carry` needs of the session.
struct Carrier<'a> {
    engine: &'a mut Option<Engine>,
    exchange: &'a Exchange,
    deadlines: Deadlines,
    drain: &'a Drain,
    metrics: &'a Metrics,
    tap: &'a Tap,
}

/// Data connection, then engine, then the outcome.
async fn carry(
    carrier: Carrier<'_>,
    port: PassivePort,
    plan: DataPlan,
    prepared: Prepared,
    progress: &Arc<Progress>,
    announce: mpsc::Sender<()>,
) -> Ending {
    let label = direction_label(prepared.source.direction());
    let count = |handshake| carrier.metrics.count_handshake(label, handshake);
    let announce = async || {
        // One message fits, and one is sent; the listener of the channel lives as long as this.
        let _ = announce.send(()).await;
    };
    let connected = tokio::select! {
        biased;
        stopped = progress.cancelled() => Err(Ending::Stopped(stopped)),
        connected = establish(port, &plan, announce) => connected.map_err(|error| {
            match &error {
                DataError::Handshake(error) => count(Err(error.label())),
                DataError::ClearText => count(Err("clear_text")),
                DataError::ClosedBeforeTls => count(Err("closed")),
                _ => {}
            }
            security_event(&error, carrier.metrics);
            Ending::NotConnected(error)
        }),
    };
    let (wire, handshake) = match connected {
        Ok(connected) => connected,
        Err(ending) => {
            prepared.source.give_up().await;
            return ending;
        }
    };
    if let Some(handshake) = handshake {
        count(Ok(handshake));
    }
    carrier.tap.note(|| What::Data(handshake));
    let Some(engine) = carrier.engine else {
        return Ending::Engine(EngineError::Closed);
    };
    let transport = Transport {
        wire,
        progress: Arc::clone(progress),
        deadlines: carrier.deadlines,
        tasks: carrier.drain.tasks().clone(),
    };
    let work = match prepared.source {
        Source::Upload(incoming) => Work::Upload(incoming, transport),
        Source::Download(outgoing) => Work::Download(outgoing, transport),
        Source::Listing(rows) => Work::Listing(rows, transport),
    };
    carrier.exchange.announce(Intent {
        path: prepared.path.clone(),
        work,
    });
    match engine
        .order(Order::Transfer(prepared.verb, &prepared.path))
        .await
    {
        Ok(_) => Ending::Concluded(carrier.exchange.conclude()),
        Err(error) => Ending::Engine(error),
    }
}
