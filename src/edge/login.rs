//! USER and PASS: the way in.
//!
//! Owns what a client is told and when: bans before and after each try, the delay of a 530 that grows
//! with the failures (RFC 2577 §5), 421 after too many, the user's bound on sessions. Who a user is says
//! [`crate::auth`], through the engine's pipeline.

use std::{sync::Arc, time::SystemTime};

use super::{
    command::Password,
    files,
    reply::Reply,
    session::{Factor, Next, Session},
};
use crate::{
    auth::{Attempt, Outcome, Proof},
    config::{ClearText, WhenUnavailable},
    engine::{Engine, Evidence},
    observe::{
        metrics::LoginLabels,
        record::{Kind, Outcome as Deed},
    },
};

const BANNED_USER: &str = "Too many failed logins of this user, try again later";

/// Answers USER.
pub(super) async fn user(session: &mut Session, name: String) -> Next {
    session.visit.tap().name(&name, false);
    if session.view().is_some() {
        return answer(503, "Already logged in");
    }
    if !session.protection.encrypted && session.door.config.clear_text == ClearText::Refuse {
        return answer(530, "Use AUTH TLS first");
    }
    let attempt = attempt(session, name, Proof::Certificate);
    // Without a certificate there is nothing to ask: known or not, the same answer at once.
    if !attempt.identities.is_empty() {
        if let Err(next) = pass_bans(session, &attempt.user).await {
            return next;
        }
        let authentication = &session.shared.surroundings.authentication;
        let decision = authentication.log_in(&attempt, SystemTime::now()).await;
        match decision.outcome {
            Outcome::Welcome(_) => {
                let evidence = Evidence::Decided(decision);
                return match try_login(session, &attempt.user, evidence, Factor::Certificate).await
                {
                    Ok(()) => answer(232, "Logged in by certificate"),
                    Err(next) => next,
                };
            }
            Outcome::Unavailable => {
                return unavailable(session, (decision.source, Factor::Certificate));
            }
            Outcome::Refused { .. } => {}
        }
    }
    session.user = Some(attempt.user);
    // Known or not: the same answer at once (RFC 2577 §7).
    answer(331, "Password required")
}

/// Answers PASS.
pub(super) async fn password_for(session: &mut Session, password: Password) -> Next {
    if session.view().is_some() {
        // Some clients send PASS whatever USER was answered; after a 232 that is no mistake.
        return if session.logged_in_by == Some(Factor::Certificate) {
            answer(202, "Logged in by certificate already")
        } else {
            answer(503, "Already logged in")
        };
    }
    let Some(user) = session.user.take() else {
        return answer(503, "Send USER first");
    };
    if let Err(next) = pass_bans(session, &user).await {
        return next;
    }
    let proof = Proof::Password(password.expose().to_owned());
    let evidence = Evidence::Attempt(attempt(session, user.clone(), proof));
    match try_login(session, &user, evidence, Factor::Password).await {
        Ok(()) => answer(230, "Logged in"),
        Err(next) => next,
    }
}

/// What a session knows of who wants to log in.
fn attempt(session: &Session, user: String, proof: Proof) -> Attempt {
    Attempt {
        user,
        proof,
        identities: session.identities(),
        peer: session.peer,
        listener: Arc::clone(&session.door.config.name),
        encrypted: session.protection.encrypted,
    }
}

/// What a banned client is told instead of a try. Also asked on connections that were there before
/// the ban: they may be many.
async fn pass_bans(session: &mut Session, user: &str) -> Result<(), Next> {
    let (bans, peer) = (&session.shared.bans, session.peer.ip());
    if bans.of_peer(peer).is_some() {
        return Err(banned(session));
    }
    if bans.of_user(user, peer).is_some() {
        count(session, NOBODY, "banned");
        record(session, Login::Banned);
        return Err(refuse(session, 0, BANNED_USER).await);
    }
    Ok(())
}

/// One attempt through the engine's pipeline; counted and, where it succeeds, logged. What the client
/// is told where it does not.
async fn try_login(
    session: &mut Session,
    user: &str,
    evidence: Evidence,
    factor: Factor,
) -> Result<(), Next> {
    let engine = match &mut session.engine {
        Some(engine) => engine,
        none => {
            let patience = session.shared.timeouts.commit;
            let tasks = session.shared.drain.tasks();
            let login = session.login.clone();
            match Engine::start(session.exchange.clone(), login, patience, tasks).await {
                Ok(engine) => none.insert(engine),
                Err(error) => {
                    tracing::error!(%error, "no engine for a session");
                    return Err(farewell("Service not available, try again later"));
                }
            }
        }
    };
    session.login.prepare(evidence);
    let welcome = engine.log_in().await;
    let welcome = welcome.map_err(|error| files::lost_engine(&error))?;
    // A guess that waited for its turn while others led to a ban counts for nothing.
    if session.shared.bans.of_peer(session.peer.ip()).is_some() {
        return Err(banned(session));
    }
    let decision = session.login.decision();
    let decided = (decision.as_ref().map_or("none", |one| one.source), factor);
    let Some(view) = session.exchange.view().filter(|_| welcome) else {
        let known = match decision.map(|one| one.outcome) {
            Some(Outcome::Unavailable) => return Err(unavailable(session, decided)),
            Some(Outcome::Refused { known }) => known,
            Some(Outcome::Welcome(_)) | None => false,
        };
        return Err(failed(session, user, known, decided).await);
    };
    let view = Arc::clone(view);
    let account = view.account();
    // A source may know the user by another name than was sent.
    if account.name != user
        && session
            .shared
            .bans
            .of_user(&account.name, session.peer.ip())
            .is_some()
    {
        count(session, decided, "banned");
        record(session, Login::Banned);
        return Err(farewell(BANNED_USER));
    }
    if !session.sit(account).await {
        count(session, decided, "sessions_full");
        record(session, Login::Failed("sessions_full"));
        tracing::warn!(name = user, "the user has its share of sessions");
        return Err(farewell("Too many sessions of this user, try again later"));
    }
    count(session, decided, "success");
    session.logged_in_by = Some(factor);
    session.note_term(account);
    session.claim_tls();
    session.spans.name(&account.name);
    session.visit.note_login(&view);
    record(session, Login::Success(factor));
    let tls = session.protection.encrypted;
    tracing::info!(tls, by = ?factor, "logged in");
    Ok(())
}

/// Counts and answers a failed login; `known` if some source has a user of this name.
async fn failed(session: &mut Session, user: &str, known: bool, decided: Decided) -> Next {
    count(session, decided, "refused");
    // A name nobody has may be a password typed in the wrong place (S50).
    let name = if known { user } else { "(unknown)" };
    let bans = &session.shared.bans;
    let recent = bans.count_failure(user, known, session.peer.ip());
    tracing::warn!(name, recent, "login refused");
    record(session, Login::Refused(known.then_some(user)));
    refuse(session, recent, "Login incorrect").await
}

/// 530 after a while that grows with the failures, of this connection or, as `recent`, of its
/// address; 421 when there were too many. Only this session waits.
async fn refuse(session: &mut Session, recent: u32, text: &str) -> Next {
    session.login_failures += 1;
    let (limits, failures) = (&session.shared.limits, session.login_failures);
    let delay = limits.login_delay.saturating_mul(failures.max(recent));
    tokio::select! {
        () = session.shared.drain.settled() => {}
        () = tokio::time::sleep(delay.min(limits.longest_login_delay)) => {}
    }
    if failures >= limits.login_failures {
        return farewell("Too many failed logins");
    }
    answer(530, text)
}

/// No source could decide. 421 unless configured otherwise: clients come back after it, and the session
/// does not go on as after a failed login. Not counted as a failure of the client's.
fn unavailable(session: &Session, decided: Decided) -> Next {
    count(session, decided, "unavailable");
    record(session, Login::Failed("unavailable"));
    let text = "Login is not available now, try again later";
    match session.shared.when_unavailable {
        WhenUnavailable::TryLater => farewell(text),
        WhenUnavailable::Refuse => answer(530, text),
    }
}

/// The end of a connection whose address is banned.
fn banned(session: &Session) -> Next {
    count(session, NOBODY, "banned");
    record(session, Login::Banned);
    tracing::info!("connection closed, its address is banned");
    farewell("Too many failed logins from your side, try again later")
}

/// How a login went.
#[derive(Clone, Copy)]
enum Login<'a> {
    Success(Factor),
    /// With the user, if there is one.
    Refused(Option<&'a str>),
    Banned,
    Failed(&'static str),
}

/// For the audit trail.
fn record(session: &Session, login: Login<'_>) {
    let outcome = match login {
        Login::Success(_) => Deed::Success,
        Login::Refused(_) | Login::Banned => Deed::Refused,
        Login::Failed(_) => Deed::Failed,
    };
    let Some(mut record) = session.visit.record(Kind::Login, outcome) else {
        return;
    };
    match login {
        Login::Success(Factor::Password) => record.factor = Some("password"),
        Login::Success(Factor::Certificate) => record.factor = Some("certificate"),
        Login::Refused(Some(user)) => {
            record.user = Some(user.to_owned());
            record.reason = Some("wrong_proof");
        }
        Login::Refused(None) => record.reason = Some("unknown_user"),
        Login::Banned => record.reason = Some("banned"),
        Login::Failed(reason) => record.reason = Some(reason),
    }
    session.visit.note(record);
}

/// Who decided about a login, and by what.
type Decided = (&'static str, Factor);

/// Of a login that came to no decision.
const NOBODY: Decided = ("none", Factor::Password);

fn count(session: &Session, (source, factor): Decided, outcome: &'static str) {
    let labels = LoginLabels {
        source,
        factor: match factor {
            Factor::Password => "password",
            Factor::Certificate => "certificate",
        },
        outcome,
    };
    session.shared.metrics.logins.get_or_create(&labels).inc();
}

fn answer(code: u16, text: &str) -> Next {
    Next::Answer(Reply::new(code, text))
}

fn farewell(text: &str) -> Next {
    Next::Farewell(Reply::new(421, text))
}
