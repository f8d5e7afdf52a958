//! Commands that move bytes over a data connection.
//!
//! Owns the order of things: every check that can fail runs before the `150`; the data connection is
//! made; the engine dispatches; exactly one final reply follows each `150`, in bounded time. While it
//! runs, the client is heard: ABOR stops it, STAT and NOOP are answered, the loss of the control
//! connection stops it too (RFC 959 §4.1.3, CONFORMANCE G15–G19, A17).

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use tokio::sync::mpsc;

use super::{
    QUEUED_COMMANDS, charset,
    command::{self, Command},
    control::{Control, Incoming},
    data::{DataError, DataPlan, establish},
    dialogue::check_protection,
    files::{Stop, log_failure, lost_engine, refusal, resolve, resolve_or_here, view},
    learn::Quirk,
    line::LineEvent,
    listing,
    passive::{PassiveError, PassivePort},
    reply::Reply,
    session::{Next, Session},
    tls::{Flow, HandshakeError},
};
use crate::{
    access::VirtualPath,
    engine::{Engine, EngineError, Order},
    observe::metrics::{DirectionLabels, Metrics, SecurityLabels, TransferLabels},
    shutdown::Drain,
    store::{
        AppendFrom, Entry, ErrorKind, StoreError, View,
        exchange::{Exchange, Intent, Outcome, Outgoing, Rows, Transport, Work},
        listing::{list_line, mlsx_line},
        transfer::{CancelReason, Direction, Failure, Progress},
        upload::{Deadlines, Incoming as IncomingFile},
    },
};

/// A transfer whose checks are done and whose store side is open.
struct Prepared {
    /// What the engine is told.
    verb: &'static str,
    path: VirtualPath,
    source: Source,
    /// Text of the 150.
    opening: String,
    /// Text of the 226.
    closing: String,
}

enum Source {
    Upload(IncomingFile),
    Download(Outgoing),
    Listing(Rows),
}

/// How a transfer ended.
enum Ending {
    /// There never was a data connection.
    NotConnected(DataError),
    /// Stopped while the data connection was being made.
    Stopped(Failure),
    /// The backend's own word.
    Concluded(Option<Outcome>),
    /// The engine is gone.
    Engine(EngineError),
}

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
    let prepared = match prepare(session, command, restart).await {
        Ok(prepared) => prepared,
        Err(Stop::Refused(reply)) => return Next::Answer(reply),
        Err(Stop::Engine(error)) => return lost_engine(&error),
    };
    let direction = prepared.source.direction();
    let path = prepared.path.clone();
    let closing = prepared.closing.clone();
    let running = session.shared.metrics.transfers_running.clone();
    let label = DirectionLabels {
        direction: direction_label(direction),
    };
    running.get_or_create(&label).inc();
    let progress = Arc::new(Progress::default());
    let (ending, aborted, gone) = attend(session, control, port, prepared, &progress).await;
    running.get_or_create(&label).dec();
    let summary = Summary {
        verb,
        path: &path,
        direction,
        progress: &progress,
        started,
    };
    let reply = match conclude(session, &summary, ending, &closing) {
        Ok(reply) => reply,
        Err(farewell) => return farewell,
    };
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

/// Everything that can fail before the `150`.
async fn prepare(session: &mut Session, command: Command, restart: u64) -> Result<Prepared, Stop> {
    let view = Arc::clone(view(session)?);
    match command {
        Command::Retr(argument) => {
            let path = resolve(session, &argument)?;
            let (stat, bytes) = view
                .read(&path, restart)
                .await
                .map_err(refused("RETR", &path))?;
            // curl and .NET read the size from here (G25).
            let name = path.name().unwrap_or_default();
            let opening = format!(
                "Opening BINARY mode data connection for {name} ({} bytes).",
                stat.size
            );
            let source = Source::Download(Outgoing(bytes));
            Ok(Prepared {
                verb: "RETR",
                path,
                source,
                opening,
                closing: complete(),
            })
        }
        Command::Stor(argument) => {
            let path = upload_path(session, &argument)?;
            let append = (restart > 0).then_some(AppendFrom::Offset(restart));
            prepare_upload(session, &view, path, append).await
        }
        Command::Appe(argument) => {
            let path = upload_path(session, &argument)?;
            prepare_upload(session, &view, path, Some(AppendFrom::End)).await
        }
        Command::Stou(wish) => {
            // Unique by 128 random bits, like the names of other servers; RFC 1123 §4.1.2.9 fixes
            // the form of the reply. A wished name is what the unique one begins with (G8).
            let unique = format!("{:032x}", rand::random::<u128>());
            let name = wish.map_or(unique.clone(), |wish| format!("{wish}.{unique}"));
            let path = resolve(session, &name)?;
            let mut prepared = prepare_upload(session, &view, path, None).await?;
            prepared.opening = format!("FILE: {name}");
            prepared.closing = format!("Transfer complete, unique file name: {name}");
            Ok(prepared)
        }
        Command::List { path } => {
            let (now, style) = (SystemTime::now(), session.profile.list);
            let argument = path.clone();
            prepare_listing(session, &view, "LIST", argument, move |entry, _| {
                list_line(entry, now, style)
            })
            .await
        }
        Command::Nlst { path } => {
            let prefix = listing::name_prefix(path.as_deref());
            let line = move |entry: &Entry, _: &VirtualPath| format!("{prefix}{}", entry.name);
            prepare_listing(session, &view, "NLST", path, line).await
        }
        Command::Mlsd(path) => {
            let facts = session.facts;
            let described = Arc::clone(&view);
            let line = move |entry: &Entry, directory: &VirtualPath| {
                let described = directory
                    .join(&entry.name)
                    .ok()
                    .and_then(|path| described.describe(&path));
                match described {
                    Some((key, permissions)) => {
                        mlsx_line(&entry.name, &entry.stat, &key, facts, permissions)
                    }
                    None => format!(" {}", entry.name),
                }
            };
            prepare_listing(session, &view, "MLSD", path, line).await
        }
        // `Command::is_transfer` knows no others.
        other => Err(Stop::Refused(Reply::new(
            502,
            format!("{} moves no bytes", other.verb()),
        ))),
    }
}

/// `STOR dir/` would name a directory, not a file (O25).
fn upload_path(session: &Session, argument: &str) -> Result<VirtualPath, Stop> {
    if argument.ends_with('/') {
        return Err(Stop::Refused(Reply::new(
            553,
            "A file name cannot end with a slash",
        )));
    }
    resolve(session, argument)
}

async fn prepare_upload(
    session: &Session,
    view: &View,
    path: VirtualPath,
    append: Option<AppendFrom>,
) -> Result<Prepared, Stop> {
    let upload = view
        .write(&path, append)
        .await
        .map_err(refused("STOR", &path))?;
    let tasks = session.shared.drain.tasks();
    let incoming = IncomingFile::start(upload, session.shared.budget.clone(), tasks);
    let name = path.name().unwrap_or_default();
    let opening = format!("Opening BINARY mode data connection for {name}.");
    // APPE and STOU are STOR to the engine: where the bytes go is settled.
    let source = Source::Upload(incoming);
    Ok(Prepared {
        verb: "STOR",
        path,
        source,
        opening,
        closing: complete(),
    })
}

/// LIST, NLST and MLSD.
async fn prepare_listing(
    session: &Session,
    view: &View,
    verb: &'static str,
    argument: Option<String>,
    line: impl Fn(&Entry, &VirtualPath) -> String + Send + Sync + 'static,
) -> Result<Prepared, Stop> {
    // MLSD lists directories only, and its argument is a name (RFC 3659 §7.1).
    let directories_only = verb == "MLSD";
    let pattern = listing::pattern(argument.as_deref()).filter(|_| !directories_only);
    let path = resolve_or_here(session, argument)?;
    let selection = listing::select(view, &path, pattern)
        .await
        .map_err(refused(verb, &path))?;
    if directories_only && selection.is_file {
        return Err(Stop::Refused(Reply::new(501, "Not a directory")));
    }
    let directory = selection.directory;
    let charset = session.charset();
    let line = Box::new(move |entry: &Entry| charset::encode(line(entry, &directory), charset));
    let source = Source::Listing(Rows {
        entries: selection.entries,
        line,
    });
    Ok(Prepared {
        verb,
        path,
        source,
        opening: "Opening data connection for the listing.".to_owned(),
        closing: complete(),
    })
}

fn complete() -> String {
    "Transfer complete".to_owned()
}

fn refused(verb: &'static str, path: &VirtualPath) -> impl Fn(Failure) -> Stop + use<> {
    let path = path.clone();
    move |failure| {
        log_failure(verb, &path, &failure);
        Stop::Refused(refusal(&failure))
    }
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
    let Session {
        engine,
        exchange,
        shared,
        door,
        queue,
        protection,
        tls,
        profile,
        ..
    } = session;
    let opening = Reply::new(150, &prepared.opening);
    let direction = prepared.source.direction();
    let plan = DataPlan {
        tls: tls.clone().filter(|_| protection.private),
        flow: if direction == Direction::Upload {
            Flow::ToServer
        } else {
            Flow::ToClient
        },
        upload_end: profile.upload_end.unwrap_or(door.config.upload_end),
        empty_upload: profile.empty_upload,
        connect: shared.timeouts.data_connect,
        handshake: shared.timeouts.tls_handshake,
    };
    let deadlines = Deadlines {
        stall: shared.timeouts.data_stall,
        commit: shared.timeouts.commit,
    };
    let (announce, mut announced) = mpsc::channel(1);
    let handshakes = |handshake| {
        shared
            .metrics
            .count_handshake(direction_label(direction), handshake);
    };
    let work = carry(
        Carrier {
            engine,
            exchange,
            deadlines,
            drain: &shared.drain,
            metrics: &shared.metrics,
        },
        port,
        plan,
        prepared,
        progress,
        announce,
        &handshakes,
    );
    tokio::pin!(work);
    let (mut aborted, mut gone, mut expired) = (false, false, false);
    let ending = loop {
        tokio::select! {
            biased;
            ending = &mut work => break ending,
            Some(()) = announced.recv() => {
                if control.send(&opening).await.is_err() {
                    gone = true;
                    progress.cancel(CancelReason::ControlLost);
                }
            }
            () = shared.drain.expired(), if !expired => {
                expired = true;
                progress.cancel(CancelReason::Shutdown);
            }
            incoming = control.next(), if !gone && queue.len() < QUEUED_COMMANDS => {
                match hear(incoming, queue.is_empty(), direction, progress) {
                    Heard::Answer(reply) => gone = control.send(&reply).await.is_err(),
                    Heard::Later(event) => queue.push_back(event),
                    Heard::Abort => {
                        aborted = true;
                        progress.cancel(CancelReason::Aborted);
                    }
                    Heard::Gone => gone = true,
                }
                if gone {
                    progress.cancel(CancelReason::ControlLost);
                }
            }
        }
    };
    // The work can announce and end between two looks at the channel.
    if !gone && announced.try_recv().is_ok() {
        gone = control.send(&opening).await.is_err();
    }
    (ending, aborted, gone)
}

/// What the client said during a transfer.
enum Heard {
    Answer(Reply),
    Later(LineEvent),
    Abort,
    Gone,
}

fn hear(
    incoming: Incoming,
    nothing_queued: bool,
    direction: Direction,
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
            let moved = format!(
                "{} of {} bytes moved",
                direction_label(direction),
                progress.bytes()
            );
            Heard::Answer(Reply::multi_line(213, ["Status:", &moved], "End"))
        }
        _ => Heard::Later(event),
    }
}

/// What `carry` needs of the session.
struct Carrier<'a> {
    engine: &'a mut Option<Engine>,
    exchange: &'a Exchange,
    deadlines: Deadlines,
    drain: &'a Drain,
    metrics: &'a Metrics,
}

/// Data connection, then engine, then the outcome.
async fn carry(
    carrier: Carrier<'_>,
    port: PassivePort,
    plan: DataPlan,
    prepared: Prepared,
    progress: &Arc<Progress>,
    announce: mpsc::Sender<()>,
    count: &(dyn Fn(Option<super::tls::Handshake>) + Sync),
) -> Ending {
    let announce = async || {
        // One message fits, and one is sent; the listener of the channel lives as long as this.
        let _ = announce.send(()).await;
    };
    let connected = tokio::select! {
        biased;
        stopped = progress.cancelled() => return Ending::Stopped(stopped),
        connected = establish(port, &plan, announce) => connected,
    };
    let (wire, handshake) = match connected {
        Ok(connected) => connected,
        Err(error) => {
            if matches!(
                error,
                DataError::Handshake(_) | DataError::ClearText | DataError::ClosedBeforeTls
            ) {
                count(None);
            }
            security_event(&error, carrier.metrics);
            return Ending::NotConnected(error);
        }
    };
    if handshake.is_some() {
        count(handshake);
    }
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

/// Logs and counts a data connection that somebody else may have made.
fn security_event(error: &DataError, metrics: &Metrics) {
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
struct Summary<'a> {
    verb: &'static str,
    path: &'a VirtualPath,
    direction: Direction,
    progress: &'a Progress,
    started: Instant,
}

/// Logs, counts and words the final reply.
fn conclude(
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
            log_failure(verb, path, &failure);
            tracing::info!(
                verb,
                path = path.as_str(),
                bytes,
                seconds,
                reason = failure.label(),
                "transfer failed"
            );
            (refusal(&failure), failure.label())
        }
        Ending::NotConnected(error) => {
            match error {
                DataError::ClosedBeforeTls => session.learn(Quirk::EmptyUpload),
                DataError::Passive(PassiveError::Timeout(_)) if session.extended => {
                    session.learn(Quirk::Epsv);
                }
                _ => {}
            }
            tracing::warn!(verb, path = path.as_str(), %error, "no data connection");
            let (code, text) = error.reply();
            (Reply::new(code, text), "no_connection")
        }
        Ending::Concluded(None) => {
            tracing::error!(verb, "engine did not ask the storage");
            let failure = Failure::Store(StoreError::new(ErrorKind::Internal, "transfer"));
            (refusal(&failure), "internal")
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

impl Source {
    fn direction(&self) -> Direction {
        match self {
            Self::Upload(_) => Direction::Upload,
            Self::Download(_) => Direction::Download,
            Self::Listing(_) => Direction::Listing,
        }
    }
}

fn direction_label(direction: Direction) -> &'static str {
    match direction {
        Direction::Upload => "upload",
        Direction::Download => "download",
        Direction::Listing => "listing",
    }
}
