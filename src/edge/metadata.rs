//! What clients set and ask beside content: times, modes, free space (draft-somers-ftp-mfxx,
//! draft-peterson-streamlined-ftp-command-extensions, CONFORMANCE I5–I9, I13).

use std::time::{Duration, SystemTime};

use super::{
    command::{Command, SiteCommand},
    files::{Answer, Stop, report, resolve, resolve_or_here, view},
    help::site_help,
    reply::Reply,
    session::{Next, Session},
};
use crate::{
    access::VirtualPath,
    store::{
        ErrorKind,
        listing::{mdtm, parse_time},
        transfer::Failure,
    },
};

/// Carries out MFMT, MFF, AVBL or SITE.
pub(super) async fn carry_out(session: &mut Session, command: Command) -> Next {
    let answer = match command {
        Command::Mfmt { time, path } => set_modified(session, "MFMT", time, &path).await,
        Command::Mff { facts, path } => set_facts(session, &facts, &path).await,
        Command::Avbl(path) => available(session, path).await,
        Command::Site(command) => site(session, command).await,
        other => Ok(absent(other.verb())),
    };
    match answer {
        Ok(reply) | Err(Stop::Refused(reply)) => Next::Answer(reply),
        Err(Stop::Engine(error)) => super::files::lost_engine(&error),
    }
}

/// MDTM, MFMT and MFF with a time: `213 Modify=…; path`, the path as it was sent (mfxx §3).
pub(super) async fn set_modified(
    session: &Session,
    verb: &'static str,
    time: SystemTime,
    argument: &str,
) -> Answer {
    if !session.abilities().set_modified {
        return Ok(absent(verb));
    }
    let path = resolve(session, argument)?;
    match view(session)?.set_modified(&path, time).await {
        Ok(()) => {}
        // Another mount can, this one cannot: what a client gets for a name it may not change.
        Err(Failure::Store(error)) if error.kind() == ErrorKind::Unsupported => {
            return Ok(Reply::new(550, "This storage keeps no times"));
        }
        Err(failure) => return Err(refused(session, verb, &path, &failure)),
    }
    tracing::info!(verb, path = path.as_str(), "time set");
    Ok(time_set(time, argument))
}

/// What a client is told whose time was set, or ignored.
pub(super) fn time_set(time: SystemTime, argument: &str) -> Reply {
    Reply::new(213, format!("Modify={}; {argument}", mdtm(time)))
}

/// All or nothing: one fact that cannot be set leaves the others alone.
async fn set_facts(session: &Session, facts: &[(String, String)], argument: &str) -> Answer {
    if !session.abilities().set_modified {
        return Ok(absent("MFF"));
    }
    let [(name, value)] = facts else {
        return Ok(Reply::new(504, "The only fact that can be set is Modify"));
    };
    if name != "modify" {
        return Ok(Reply::new(504, "The only fact that can be set is Modify"));
    }
    match parse_time(value) {
        Some(time) => set_modified(session, "MFF", time, argument).await,
        None => Ok(Reply::new(501, "Time must be YYYYMMDDHHMMSS")),
    }
}

async fn available(session: &Session, argument: Option<String>) -> Answer {
    if !session.abilities().available {
        return Ok(absent("AVBL"));
    }
    let path = resolve_or_here(session, argument)?;
    match view(session)?.available(&path).await {
        Ok(Some(bytes)) => Ok(Reply::new(213, bytes.to_string())),
        Ok(None) => Ok(Reply::new(550, "This storage does not say")),
        Err(failure) => Err(refused(session, "AVBL", &path, &failure)),
    }
}

async fn site(session: &mut Session, command: SiteCommand) -> Answer {
    match command {
        SiteCommand::Help => Ok(site_help(session)),
        SiteCommand::Chmod { path, .. } => change_mode(session, &path).await,
        SiteCommand::Utime { modified, path } => {
            let reply = set_modified(session, "SITE", modified, &path).await?;
            Ok(match reply.code() {
                213 => Reply::new(200, "Time set"),
                _ => reply,
            })
        }
        SiteCommand::Idle(None) => {
            let limit = session.idle.as_secs();
            Ok(Reply::new(200, format!("Idle limit is {limit} seconds")))
        }
        SiteCommand::Idle(Some(seconds)) => Ok(idle(session, seconds)),
        SiteCommand::Unknown => Ok(Reply::new(502, "SITE command not implemented")),
    }
}

/// No store has modes: refused, or accepted for clients that take a refusal for a failed upload.
async fn change_mode(session: &Session, argument: &str) -> Answer {
    if !session.profile.ignore_chmod {
        return Ok(Reply::new(502, "SITE command not implemented"));
    }
    let path = resolve(session, argument)?;
    match view(session)?.changeable(&path).await {
        Ok(_) => Ok(Reply::new(200, "Accepted, modes have no meaning here")),
        Err(failure) => Err(refused(session, "SITE", &path, &failure)),
    }
}

/// Shorter than the server's own limit, never longer.
fn idle(session: &mut Session, seconds: u64) -> Reply {
    let most = session.shared.timeouts.idle.as_secs();
    if !(1..=most).contains(&seconds) {
        return Reply::new(501, format!("Idle limit must be 1 to {most} seconds"));
    }
    session.idle = Duration::from_secs(seconds);
    Reply::new(200, format!("Idle limit is {seconds} seconds"))
}

fn absent(verb: &str) -> Reply {
    Reply::new(502, format!("{verb} is not possible here"))
}

fn refused(session: &Session, verb: &'static str, path: &VirtualPath, failure: &Failure) -> Stop {
    Stop::Refused(report(&session.visit, verb, path, failure))
}
