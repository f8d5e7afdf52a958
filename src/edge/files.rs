//! File commands that need no data connection: through the engine, answered from what the storage
//! backend really saw.

use futures_util::StreamExt;

use super::{
    command::Command,
    hear::bounded,
    listing, metadata,
    registry::{Presence, Reference, What},
    reply::{Reply, quote},
    session::{Next, Session},
    spans,
    trace::{Found, What as Heard},
};
use crate::{
    access::{PathError, VirtualPath},
    config::ListStyle,
    engine::{EngineError, Order},
    observe::record::{Kind as DeedKind, Outcome as Deed},
    store::{
        Kind, Stat, View,
        exchange::{Intent, Outcome, Work},
        listing::{Pattern, mdtm, mlsx_line},
        transfer::Failure,
    },
};

/// Rows of `STAT path`: the control connection is no place for more (H15).
const STATUS_ROWS: usize = 1000;

/// Carries out one file command.
pub(super) async fn carry_out(
    session: &mut Session,
    command: Command,
    rename_source: Option<VirtualPath>,
) -> Next {
    next(try_carry_out(session, command, rename_source).await)
}

fn next(answer: Answer) -> Next {
    match answer {
        Ok(reply) | Err(Stop::Refused(reply)) => Next::Answer(reply),
        Err(Stop::Engine(error)) => lost_engine(&error),
    }
}

/// Why there is no ordinary answer.
pub(super) enum Stop {
    Refused(Reply),
    Engine(EngineError),
}

pub(super) type Answer = Result<Reply, Stop>;

async fn try_carry_out(
    session: &mut Session,
    command: Command,
    rename_source: Option<VirtualPath>,
) -> Answer {
    match command {
        Command::Cwd(argument) => change_directory(session, &argument).await,
        Command::Cdup => change_directory(session, "..").await,
        Command::Mkd(argument) => {
            let path = resolve(session, &argument)?;
            ask(session, "MKD", &path, Work::MakeDirectory).await?;
            session.visit.did("MKD", 257, &path);
            tracing::info!(path = path.as_str(), "directory made");
            Ok(Reply::new(257, format!("{} created", quote(path.as_str()))))
        }
        Command::Rmd(argument) => {
            let path = resolve(session, &argument)?;
            ask(session, "RMD", &path, Work::RemoveDirectory).await?;
            session.visit.did("RMD", 250, &path);
            tracing::info!(path = path.as_str(), "directory removed");
            Ok(Reply::new(250, "Directory removed"))
        }
        Command::Dele(argument) => {
            let path = resolve(session, &argument)?;
            ask(session, "DELE", &path, Work::RemoveFile).await?;
            session.visit.did("DELE", 250, &path);
            tracing::info!(path = path.as_str(), "file deleted");
            Ok(Reply::new(250, "File deleted"))
        }
        Command::Rnfr(argument) => {
            // A source that is refused must not leave the one before it to RNTO (J10).
            session.rename_source = None;
            let path = resolve(session, &argument)?;
            ask(session, "RNFR", &path, Work::RenameSource).await?;
            session.rename_source = Some(path);
            Ok(Reply::new(350, "Ready for RNTO"))
        }
        Command::Rnto(argument) => {
            let Some(from) = rename_source else {
                return Ok(Reply::new(503, "Send RNFR first"));
            };
            let to = resolve(session, &argument)?;
            rename(session, &from, &to).await
        }
        Command::Size(argument) => {
            let path = resolve(session, &argument)?;
            let stat = stat(session, "SIZE", &path).await?;
            Ok(match stat.kind {
                Kind::File => Reply::new(213, stat.size.to_string()),
                Kind::Directory => Reply::new(550, "Is a directory"),
            })
        }
        Command::Mdtm(argument) => modified(session, &argument).await,
        Command::MdtmSet { time, path, whole } => {
            match modified(session, &whole).await {
                // RFC 3659 §3.1 reads a path with digits in it; where there is no such file, the
                // argument is what other servers read: a time to set (I5).
                Err(Stop::Refused(_)) if session.profile.ignore_set_time => {
                    Ok(metadata::time_set(time, &path))
                }
                Err(Stop::Refused(_)) if session.abilities().set_modified => {
                    metadata::set_modified(session, "MDTM", time, &path).await
                }
                answer => answer,
            }
        }
        Command::Mlst(argument) => {
            let path = resolve_or_here(session, argument)?;
            let stat = stat(session, "MLST", &path).await?;
            let row = facts_row(session, &path, path.as_str(), &stat)?;
            Ok(Reply::multi_line(250, ["Listing", &row], "End"))
        }
        // The dialogue sends nothing else here; an honest answer if it ever did.
        other => Ok(Reply::new(
            502,
            format!("{} is not implemented", other.verb()),
        )),
    }
}

async fn change_directory(session: &mut Session, argument: &str) -> Answer {
    let path = resolve(session, argument)?;
    ask(session, "CWD", &path, Work::ChangeDirectory).await?;
    session.working_directory = path;
    Ok(Reply::new(250, "Directory changed"))
}

async fn rename(session: &mut Session, from: &VirtualPath, to: &VirtualPath) -> Answer {
    // libunftp remembers the source from the RNFR just before; the intent is about the source, and
    // the backend takes the target from it.
    session.exchange.announce(Intent {
        path: from.clone(),
        work: Work::Rename(to.clone()),
    });
    let outcome = order(session, "RNTO", Some(from), to).await?;
    if let Some(mut record) = session.visit.record(DeedKind::Rename, Deed::Success) {
        (record.verb, record.code) = (Some("RNTO"), Some(250));
        record.deferred = matches!(outcome, Outcome::Appeared).then_some(true);
        session.visit.locate(&mut record, from);
        session.visit.locate_target(&mut record, to);
        session.visit.note(record);
    }
    tracing::info!(from = from.as_str(), to = to.as_str(), "renamed");
    Ok(Reply::new(250, "Renamed"))
}

async fn modified(session: &mut Session, argument: &str) -> Answer {
    let path = resolve(session, argument)?;
    let stat = stat(session, "MDTM", &path).await?;
    Ok(match stat.modified {
        Some(time) => Reply::new(213, mdtm(time)),
        None => Reply::new(550, "The storage knows no time for it"),
    })
}

/// Answers `STAT path`: the LIST lines over the control connection.
pub(super) async fn status(session: &Session, argument: Option<String>) -> Next {
    next(status_of(session, argument).await)
}

async fn status_of(session: &Session, argument: Option<String>) -> Answer {
    let pattern = listing::pattern(argument.as_deref());
    let path = resolve_or_here(session, argument)?;
    let rows = status_rows(view(session)?, &path, pattern, session.profile.list);
    let listed = bounded(session, "list", rows).await;
    listed.map_err(|failure| Stop::Refused(report(&session.visit, "STAT", &path, &failure)))
}

async fn status_rows(
    view: &View,
    path: &VirtualPath,
    pattern: Option<Pattern>,
    style: ListStyle,
) -> Result<Reply, Failure> {
    let now = std::time::SystemTime::now();
    let mut selection = listing::select(view, path, pattern).await?;
    let code = if selection.is_file { 213 } else { 212 };
    let mut rows = vec!["Status:".to_owned()];
    while let Some(entry) = selection.entries.next().await {
        let entry = entry?;
        rows.push(crate::store::listing::list_line(&entry, now, style));
        if rows.len() > STATUS_ROWS {
            return Ok(Reply::multi_line(
                212,
                rows,
                "More entries follow: use LIST",
            ));
        }
    }
    Ok(Reply::multi_line(code, rows, "End"))
}

fn facts_row(
    session: &Session,
    path: &VirtualPath,
    name: &str,
    stat: &Stat,
) -> Result<String, Stop> {
    let (key, permissions) = view(session)?
        .describe(path)
        .ok_or_else(|| Stop::Refused(Reply::new(550, "No such file or directory")))?;
    Ok(mlsx_line(name, stat, &key, session.facts, permissions))
}

/// Asks the engine for `verb` on `path` and returns what the backend reported.
async fn ask(
    session: &mut Session,
    verb: &'static str,
    path: &VirtualPath,
    work: Work,
) -> Result<Outcome, Stop> {
    session.exchange.announce(Intent {
        path: path.clone(),
        work,
    });
    order(session, verb, None, path).await
}

/// `from`: the source of a rename to `path`.
async fn order(
    session: &mut Session,
    verb: &'static str,
    from: Option<&VirtualPath>,
    path: &VirtualPath,
) -> Result<Outcome, Stop> {
    spans::about(path.as_str());
    let Some(engine) = &mut session.engine else {
        return Err(Stop::Engine(EngineError::Closed));
    };
    let code = engine
        .order(Order::File(verb, path))
        .await
        .map_err(Stop::Engine)?;
    match session.exchange.conclude() {
        Some(Outcome::Failed(failure)) => {
            let (reply, reference) = explain(&session.visit, verb, path, &failure);
            let paths = (from, path);
            session
                .visit
                .failed(verb, paths, &failure, reference.as_ref());
            Err(Stop::Refused(reply))
        }
        Some(outcome) => {
            session.visit.tap().note(|| Heard::Did {
                verb,
                path: path.as_str().to_owned(),
                from: from.map(|from| from.as_str().to_owned()),
                found: match &outcome {
                    Outcome::Found(stat) if stat.kind == Kind::File => Found::File(stat.size),
                    Outcome::Found(_) => Found::Directory,
                    _ => Found::Unsaid,
                },
            });
            Ok(outcome)
        }
        None => {
            tracing::error!(verb, code, "engine did not ask the storage");
            Err(Stop::Refused(Reply::new(451, "Internal error")))
        }
    }
}

async fn stat(session: &mut Session, verb: &'static str, path: &VirtualPath) -> Result<Stat, Stop> {
    match ask(session, verb, path, Work::Stat).await? {
        Outcome::Found(stat) => Ok(stat),
        Outcome::Done | Outcome::Appeared | Outcome::Failed(_) => {
            Err(Stop::Refused(Reply::new(451, "Internal error")))
        }
    }
}

/// The view of the logged-in account; the dialogue checked the login.
pub(super) fn view(session: &Session) -> Result<&std::sync::Arc<View>, Stop> {
    session
        .view()
        .ok_or_else(|| Stop::Refused(Reply::new(530, "Log in with USER and PASS first")))
}

/// The absolute path behind an argument.
pub(super) fn resolve(session: &Session, argument: &str) -> Result<VirtualPath, Stop> {
    VirtualPath::parse(&session.working_directory, argument).map_err(|error| {
        let code = match error {
            PathError::Empty | PathError::ControlCharacter(_) => 501,
            PathError::SegmentTooLong | PathError::TooLong | PathError::NotOneName => 553,
        };
        Stop::Refused(Reply::new(code, format!("Not allowed: {error}")))
    })
}

pub(super) fn resolve_or_here(
    session: &Session,
    argument: Option<String>,
) -> Result<VirtualPath, Stop> {
    match argument {
        Some(argument) => resolve(session, &argument),
        None => Ok(session.working_directory.clone()),
    }
}

/// Logs and records a failure, and words the reply.
pub(super) fn report(
    presence: &Presence,
    verb: &'static str,
    path: &VirtualPath,
    failure: &Failure,
) -> Reply {
    let (reply, reference) = explain(presence, verb, path, failure);
    presence.failed(verb, (None, path), failure, reference.as_ref());
    reply
}

/// Logs a failure at the level its kind deserves, and words the reply.
///
/// What an operator may be asked about carries a reference, in the reply, the log and the registry.
/// An ordinary answer such as "No such file or directory" has none: clients compare those.
pub(super) fn explain(
    presence: &Presence,
    verb: &'static str,
    path: &VirtualPath,
    failure: &Failure,
) -> (Reply, Option<Reference>) {
    let (code, text) = failure.reply();
    let (level, path) = (failure.log_level(), path.as_str());
    let error: &(dyn std::error::Error + 'static) = failure;
    if level > tracing::Level::INFO {
        tracing::debug!(verb, path, error, "refused");
        return (Reply::new(code, text), None);
    }
    let reference = presence.fail(&What {
        verb,
        path,
        code,
        error,
    });
    match level {
        tracing::Level::ERROR => tracing::error!(verb, path, error, %reference, "failed"),
        tracing::Level::WARN => tracing::warn!(verb, path, error, %reference, "failed"),
        _ => tracing::info!(verb, path, error, %reference, "refused"),
    }
    let reply = Reply::new(code, format!("{text} (ref {reference})"));
    (reply, Some(reference))
}

/// Without its engine a session cannot go on.
pub(super) fn lost_engine(error: &EngineError) -> Next {
    tracing::error!(%error, "session ends");
    Next::Farewell(Reply::new(
        421,
        "Service not available, closing control connection",
    ))
}
