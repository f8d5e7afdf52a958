//! One client connection, from TLS to its last reply.
//!
//! Owns the whole conversation with the client: it parses every line against a white list, answers
//! what belongs to the edge and sends the engine only clean commands with absolute paths. Lockstep:
//! one command, its replies, then the next. While a transfer runs, ABOR, STAT and NOOP are answered
//! at once and everything else waits in a bounded queue.
//!
//! Called by [`crate::listen`] with an admitted connection; calls [`crate::engine`] and, for the
//! checks before a `150`, [`crate::store`].

mod charset;
mod checksum;
pub mod command;
mod control;
mod data;
mod dialogue;
mod files;
mod hear;
mod help;
mod learn;
pub mod line;
mod listing;
mod login;
mod metadata;
mod network;
mod pace;
mod passive;
mod proxy;
mod registry;
pub mod reply;
mod serving;
mod session;
mod spans;
mod term;
mod tls;
pub mod trace;
mod transfer;
mod usage;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{net::TcpStream, time::Instant};
use tracing::Instrument;

use self::{
    command::{Command, Rejection},
    control::{Control, Incoming, UpgradeError},
    learn::Quirk,
    line::LineEvent,
    registry::Visit,
    reply::Reply,
    session::{Next, Session},
    spans::Spans,
    trace::What,
};
pub use self::{
    network::Network,
    passive::PortPool,
    proxy::Arrival,
    registry::{
        Doing, Failed, Failures, Moved, Presence, Quantiles, Reference, Registry, Replies, Running,
    },
    serving::{Current, Serving},
    tls::{Certificate, FileError, FileErrors, Fresh, Reload, Tls, doubts, keep_current, report},
    usage::Usage,
};
pub(crate) use self::{
    network::canonical,
    pace::Buckets,
    passive::{accept_waiting, listen_with_backlog},
};
use crate::{
    auth::{SharedCounters, bans::Bans},
    config::{Bandwidth, Limits, Listener, Mode, Profile, Timeouts, WhenUnavailable},
    engine::Surroundings,
    observe::metrics::{CommandLabels, HandshakeFailureLabels, HandshakeLabels, Metrics},
    shutdown::Drain,
    store::Budget,
};

/// Pipelined commands that may wait while a transfer runs; then the edge stops reading (A4).
const QUEUED_COMMANDS: usize = 32;

/// Unknown commands before login: the third is the last. A browser or another protocol's client that
/// was lured here must not get far (ALPACA, S17).
const STRANGE_COMMANDS: u32 = 3;

/// While the server stops: a client that says nothing for so long has nothing more to say. Others wait
/// for an answer at most, then for a round trip.
const SILENCE: Duration = Duration::from_secs(3);

/// What all connections of the process share.
#[derive(Debug)]
pub struct Shared {
    /// Logins, mounts, stores.
    pub surroundings: Arc<Surroundings>,
    /// What devices need, by name, as users refer to it.
    pub profiles: BTreeMap<Arc<str>, Arc<Profile>>,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// Bounds on logins, sessions, transfers and checksums.
    pub limits: Limits,
    /// Bytes a second of sessions and users without rates of their own.
    pub bandwidth: Bandwidth,
    /// Who may not log in for now.
    pub bans: Arc<Bans>,
    /// What every user has in use.
    pub usage: Arc<Usage>,
    /// What replicas count together.
    pub counters: Option<Arc<SharedCounters>>,
    /// What a login is answered that no source can decide.
    pub when_unavailable: WhenUnavailable,
    /// Upload memory.
    pub budget: Budget,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Stopping.
    pub drain: Drain,
    /// Who is connected.
    pub registry: Arc<Registry>,
}

/// What the connections of one listener share.
#[derive(Debug)]
pub struct Door {
    /// The listener as configured.
    pub config: Listener,
    /// Its certificates and what comes of them. Outlives a reload that leaves its settings alone.
    pub tls: Arc<Tls>,
    /// Its passive ports, and what a balancer says of its clients. Outlives a reload likewise.
    pub network: Arc<Network>,
    /// Bytes a second of all its sessions. Outlives a reload likewise.
    pub(crate) buckets: Buckets,
}

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// QUIT was answered, or a 421 was sent.
    Said,
    /// The client is gone or does not take replies: nothing more to say.
    Gone,
}

/// Serves one admitted connection to its end.
pub async fn serve(stream: TcpStream, arrival: Arrival, door: Arc<Door>, shared: Arc<Shared>) {
    let id = format!("{:08x}", rand::random::<u32>());
    let listener = &*door.config.name;
    let visit = shared.registry.enter(&id, arrival.peer, &door.config.name);
    let tap = Arc::clone(visit.tap());
    tap.note(|| What::Connected {
        peer: arrival.peer,
        listener: Arc::clone(&door.config.name),
        implicit: door.config.mode == Mode::Implicit,
    });
    let spans = Spans::new(&id, arrival.peer, listener);
    let mine = spans.clone();
    spans
        .hold(async {
            tracing::debug!("connected");
            if let Some((control, session)) = open(stream, arrival, door, shared, visit, mine).await
            {
                converse(control, session).await;
            }
            tracing::debug!("disconnected");
        })
        .await;
    tap.note(|| What::Disconnected);
}

/// TLS on implicit listeners, and the greeting.
async fn open(
    stream: TcpStream,
    arrival: Arrival,
    door: Arc<Door>,
    shared: Arc<Shared>,
    visit: Visit,
    spans: Spans,
) -> Option<(Control, Session)> {
    let local = stream.local_addr().ok()?;
    let timeouts = &shared.timeouts;
    let tap = Arc::clone(visit.tap());
    let (mut control, tls) = match door.config.mode {
        Mode::Explicit => (Control::clear(stream, timeouts.reply, tap), None),
        Mode::Implicit => match door
            .tls
            .accept_control(stream, timeouts.tls_handshake)
            .await
        {
            Ok((stream, tls, handshake)) => {
                shared.metrics.count_handshake("control", Ok(handshake));
                visit.note_tls(Some(handshake.version), tls.identities());
                spans.secure(handshake.version);
                tap.note(|| tls_began(handshake, &tls));
                (Control::encrypted(stream, timeouts.reply, tap), Some(tls))
            }
            Err(error) => {
                shared
                    .metrics
                    .count_handshake("control", Err(error.label()));
                tap.note(|| What::Note(error.to_string()));
                tracing::info!(%error, "no session");
                return None;
            }
        },
    };
    let profile = &door.config.profile;
    control.speak(profile.name_charset);
    let greeting = profile.greeting.as_deref().unwrap_or("FTP server ready");
    control.send(&Reply::new(220, greeting)).await.ok()?;
    let session = Session::new(arrival, local, door, shared, tls, visit, spans);
    Some((control, session))
}

/// The dialogue, until somebody ends it.
async fn converse(mut control: Control, mut session: Session) {
    let ended = loop {
        // Before what is queued: a client that sends commands ahead must not stay for them.
        if session.visit.is_kicked() {
            break bid_farewell(&mut session, &mut control, &kicked()).await;
        }
        let incoming = match session.queue.pop_front() {
            Some(event) => Incoming::Line(event),
            None => match wait(&mut control, &session).await {
                Ok(incoming) => incoming,
                Err(farewell) => break bid_farewell(&mut session, &mut control, &farewell).await,
            },
        };
        let line = match incoming {
            Incoming::Closed => break End::Gone,
            Incoming::Line(LineEvent::Line(line)) => line,
            Incoming::Line(LineEvent::TooLong) => {
                // What it was meant for is not known: no other command may take it.
                session.forget_pending();
                if control
                    .send(&Reply::new(500, "Line too long"))
                    .await
                    .is_err()
                {
                    break End::Gone;
                }
                continue;
            }
            Incoming::Line(LineEvent::Close) => {
                let farewell = Reply::new(421, "Line too long, closing");
                break bid_farewell(&mut session, &mut control, &farewell).await;
            }
        };
        if session.is_over() {
            break bid_farewell(&mut session, &mut control, &term::over()).await;
        }
        match take(&mut session, control, &line).await {
            Ok(same) => control = same,
            Err(end) => {
                // `take` kept the connection only if there is something left to close in order.
                match end {
                    (End::Said, Some(rest)) => rest.close().await,
                    (_, rest) => drop(rest),
                }
                return;
            }
        }
    };
    match ended {
        End::Said => control.close().await,
        End::Gone => drop(control),
    }
}

/// Sends the last reply.
async fn bid_farewell(session: &mut Session, control: &mut Control, reply: &Reply) -> End {
    session.leave();
    match control.send(reply).await {
        Ok(()) => End::Said,
        Err(_) => End::Gone,
    }
}

/// Waits for a line; the farewell if a deadline or the drain comes first.
async fn wait(control: &mut Control, session: &Session) -> Result<Incoming, Reply> {
    let (deadline, farewell) = session.deadline();
    tokio::select! {
        biased;
        () = dismissed(session) => Err(shutting_down()),
        // Before the lines: a flood of commands must not put off the login deadline.
        () = tokio::time::sleep_until(deadline) => Err(if session.is_over() {
            term::over()
        } else {
            tracing::info!(why = farewell, "session ends");
            Reply::new(421, farewell)
        }),
        () = session.visit.kicked() => Err(kicked()),
        incoming = control.next() => Ok(incoming),
    }
}

/// Completes when the server stops and this session, which waits for a command, has to go: it says
/// nothing any more. Who has just come to upload a file does so, and who has just been told that a file
/// is stored hears nothing else before its next command.
async fn dismissed(session: &Session) {
    let drain = &session.shared.drain;
    drain.closed().await;
    tokio::select! {
        () = tokio::time::sleep_until(session.last_command + SILENCE) => {}
        () = drain.expired() => {}
    }
}

/// Whether the time is over for this command too: nobody begins anything any more but what needs the
/// data connection that it was promised.
fn comes_too_late(session: &Session, command: &Command) -> bool {
    let over = session.shared.drain.has_settled();
    over && session.passive.is_none() && !matches!(command, Command::Quit)
}

fn shutting_down() -> Reply {
    Reply::new(421, "Server is shutting down")
}

fn kicked() -> Reply {
    Reply::new(421, "Session closed by the operator")
}

type Ended = (End, Option<Control>);

/// Parses and carries out one line; gives the connection back while the session goes on.
async fn take(session: &mut Session, mut control: Control, line: &[u8]) -> Result<Control, Ended> {
    let parsed = command::parse_in(line, session.charset());
    let command = match parsed {
        Ok(command) => command,
        Err(Rejection::Ignore) => return Ok(control),
        Err(Rejection::Http) => {
            tracing::warn!("HTTP request on an FTP port, closed");
            return Err((End::Gone, None));
        }
        Err(Rejection::Answer(reply)) => {
            session.learn_charset(line);
            session.forget_pending();
            session.count("unknown", reply.code());
            if session.view().is_none() && reply.code() == 500 {
                session.strange_commands += 1;
                if session.strange_commands >= STRANGE_COMMANDS {
                    tracing::warn!("no FTP client: closed after unknown commands before login");
                    let farewell = Reply::new(421, "Too many unknown commands");
                    let end = bid_farewell(session, &mut control, &farewell).await;
                    return Err((end, Some(control)));
                }
            }
            return match control.send(&reply).await {
                Ok(()) => Ok(control),
                Err(_) => Err((End::Gone, None)),
            };
        }
    };
    let verb = command.verb();
    let quirk = Quirk::behind(&command);
    let asked = Instant::now();
    session.last_command = asked;
    session.visit.note_command(verb);
    if comes_too_late(session, &command) {
        session.count(verb, 421);
        let end = bid_farewell(session, &mut control, &shutting_down()).await;
        return Err((end, Some(control)));
    }
    let span = session.spans.command(verb);
    let outcome = dialogue::carry_out(session, &mut control, command)
        .instrument(span.span())
        .await;
    if let Some(code) = outcome.code() {
        span.answered(code);
    }
    // It ends here, and not with the reply's way to the client.
    drop(span);
    // An event that is not kept is in the log; what it tells of has happened.
    let _ = session.visit.settle().await;
    session.adopt_profile();
    control.speak(session.charset());
    let reply = match outcome {
        Next::Answer(reply) => reply,
        // A transfer has sent its replies itself.
        Next::Answered(code) => {
            session.last_command = Instant::now();
            session.count(verb, code);
            return Ok(control);
        }
        Next::Upgrade(reply, private) => {
            session.count(verb, reply.code());
            return upgrade(session, control, &reply, private).await;
        }
        Next::Downgrade(reply) => {
            session.count(verb, reply.code());
            return downgrade(session, control, &reply).await;
        }
        Next::Farewell(reply) => {
            session.count(verb, reply.code());
            let end = bid_farewell(session, &mut control, &reply).await;
            return Err((end, Some(control)));
        }
        Next::Gone => return Err((End::Gone, None)),
    };
    session.last_command = Instant::now();
    if session.view().is_some() {
        session.visit.note_reply(asked.elapsed());
    }
    session.count(verb, reply.code());
    if let Some(quirk) = quirk
        && quirk.is_told_by(reply.code())
    {
        session.learn(quirk);
    }
    match control.send(&reply).await {
        Ok(()) => Ok(control),
        Err(_) => Err((End::Gone, None)),
    }
}

/// 234 and the handshake, as one step; nothing said before survives it (S2).
async fn upgrade(
    session: &mut Session,
    mut control: Control,
    reply: &Reply,
    private: bool,
) -> Result<Control, Ended> {
    control.send(reply).await.map_err(|_| (End::Gone, None))?;
    let deadline = session.shared.timeouts.tls_handshake;
    match control.upgrade(&session.door.tls, deadline).await {
        Ok((control, tls, handshake)) => {
            session
                .shared
                .metrics
                .count_handshake("control", Ok(handshake));
            tracing::debug!(
                version = handshake.version,
                resumed = handshake.resumed,
                "TLS"
            );
            session
                .visit
                .note_tls(Some(handshake.version), tls.identities());
            session.spans.secure(handshake.version);
            session.visit.tap().note(|| tls_began(handshake, &tls));
            session.begin_tls(tls, private);
            Ok(control)
        }
        Err(error) => {
            let reason = match &error {
                UpgradeError::Handshake(error) => error.label(),
                UpgradeError::Injected => "clear_text",
                UpgradeError::Io(_) => "gone",
            };
            session
                .shared
                .metrics
                .count_handshake("control", Err(reason));
            session.visit.tap().note(|| What::Note(error.to_string()));
            tracing::info!(%error, "session ended");
            Err((End::Gone, None))
        }
    }
}

/// What a trace hears of a handshake.
fn tls_began(handshake: tls::Handshake, tls: &tls::SessionTls) -> What {
    What::Tls {
        handshake,
        server_name: tls.server_name().map(str::to_owned),
    }
}

/// 200 inside TLS, `close_notify` both ways, and on in the clear (D14).
async fn downgrade(
    session: &mut Session,
    mut control: Control,
    reply: &Reply,
) -> Result<Control, Ended> {
    control.send(reply).await.map_err(|_| (End::Gone, None))?;
    session.last_command = Instant::now();
    // As those that were not read yet: they were meant to be secret.
    if !session.queue.is_empty() {
        tracing::info!("session ended, commands came under TLS behind CCC");
        return Err((End::Gone, None));
    }
    match control.leave_tls(session.shared.timeouts.reply).await {
        Ok(control) => {
            session.end_tls();
            session.visit.note_tls(None, session.identities());
            tracing::info!("control connection goes on in the clear");
            Ok(control)
        }
        Err(error) => {
            tracing::info!(%error, "session ended, the client did not end TLS after CCC");
            Err((End::Gone, None))
        }
    }
}

impl Metrics {
    /// Counts a handshake, or why it failed.
    fn count_handshake(
        &self,
        channel: &'static str,
        handshake: Result<tls::Handshake, &'static str>,
    ) {
        if let Err(reason) = handshake {
            let labels = HandshakeFailureLabels { channel, reason };
            self.handshake_failures.get_or_create(&labels).inc();
        }
        let (version, suite, outcome) = match handshake {
            Err(_) => ("none", "none", "failed"),
            Ok(made) if made.resumed => (made.version, made.suite, "resumed"),
            Ok(made) => (made.version, made.suite, "full"),
        };
        self.handshakes
            .get_or_create(&HandshakeLabels {
                channel,
                version,
                suite,
                outcome,
            })
            .inc();
    }

    fn count_command(&self, verb: &'static str, code: u16) {
        let class = match code / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.commands
            .get_or_create(&CommandLabels { verb, class })
            .inc();
    }
}
