//! What each command is answered: everything that needs neither file nor data connection, and the
//! way to [`super::files`] and [`super::transfer`] for what does.

use std::{net::Ipv4Addr, sync::Arc, time::SystemTime};

use encoding_rs::UTF_8;

use super::{
    checksum,
    command::{
        AuthMechanism, ChecksumAlgorithm, Command, EpsvArgument, Opt, Password, ProtLevel,
        SiteCommand,
    },
    control::Control,
    files,
    hear::while_heard,
    help::help,
    metadata,
    passive::{PassiveError, PassivePort},
    reply::{Reply, quote},
    session::{Factor, Next, Session},
    transfer,
};
use crate::{
    auth::{Attempt, Outcome, Proof},
    config::{ClearCommandChannel, ClearText, Mode},
    engine::{Engine, Evidence},
    observe::metrics::LoginLabels,
};

/// A failed login is answered after this much times the number of failures (RFC 2577 §5).
const LOGIN_PENALTY: std::time::Duration = std::time::Duration::from_millis(500);

/// Carries out one command.
pub(super) async fn carry_out(
    session: &mut Session,
    control: &mut Control,
    command: Command,
) -> Next {
    let logged_in = session.view().is_some();
    if !logged_in && !command.allowed_before_login() {
        return answer(530, "Log in with USER and PASS first");
    }
    let markers = session.apply_markers(command.restart_marker(), command.rename_source());
    let range = session.apply_range(command.range_marker());
    if command.is_transfer() {
        if range.is_some() {
            return answer(504, "RANG works with HASH only");
        }
        return transfer::run(session, control, command, markers.restart).await;
    }
    if let Some(reply) = ignored(session, &command) {
        return Next::Answer(reply);
    }
    match command {
        Command::User(name) => user(session, name).await,
        Command::Pass(password) => password_for(session, password).await,
        Command::Acct if logged_in => answer(202, "Account not needed"),
        Command::Acct => answer(503, "Log in with USER and PASS"),
        Command::Auth(mechanism) => auth(session, mechanism),
        Command::Pbsz(_) => protection_buffer_size(session),
        Command::Prot(level) => protection_level(session, level),
        Command::Ccc => clear_command_channel(session),
        Command::Feat => Next::Answer(features(session)),
        Command::Opts(Opt::Utf8On) => {
            session.charset_said = Some(UTF_8);
            answer(200, "UTF-8 is on")
        }
        Command::Opts(Opt::Utf8Off) if session.profile.name_charset != UTF_8 => {
            session.charset_said = None;
            answer(200, "UTF-8 is off")
        }
        Command::Opts(Opt::Utf8Off) => answer(504, "UTF-8 is always on"),
        Command::Opts(Opt::Mlst(facts)) => {
            session.facts = facts;
            answer(200, format!("MLST OPTS {facts}"))
        }
        Command::Opts(Opt::Hash(algorithm)) => {
            session.hash_algorithm = algorithm.unwrap_or(session.hash_algorithm);
            answer(200, session.hash_algorithm.name())
        }
        Command::Host(name) => host(session, &name),
        Command::Clnt(client) => {
            tracing::info!(client = client.as_str(), "client names itself");
            answer(200, "Noted")
        }
        Command::Type(_) => answer(200, "Type is binary, files are never converted"),
        Command::Mode => answer(200, "Mode is stream"),
        Command::Stru => answer(200, "Structure is file"),
        Command::Syst => answer(215, "UNIX Type: L8"),
        Command::Noop => answer(200, "NOOP ok"),
        Command::Help(verb) => Next::Answer(help(session, verb.as_deref())),
        Command::Stat(None) => Next::Answer(status(session)),
        Command::Quit => Next::Farewell(Reply::new(221, "Goodbye")),
        Command::Abor => answer(226, "ABOR: no transfer is running"),
        Command::Rest(offset) => {
            session.restart = offset;
            answer(350, format!("Restarting at {offset}"))
        }
        Command::Allo(_) => answer(202, "No storage allocation needed"),
        Command::Pasv => passive(session).await,
        Command::Epsv(argument) => extended_passive(session, argument).await,
        Command::Pwd => {
            let path = quote(session.working_directory.as_str());
            answer(257, format!("{path} is the current directory"))
        }
        Command::Rang { first, last } => {
            // A range that ends before it begins takes the last one back.
            session.range = (first <= last).then_some((first, last));
            answer(350, "Range noted for HASH")
        }
        // Reads up to `limits.checksum_bytes`: the client is heard meanwhile.
        Command::Hash(_) | Command::Checksum { .. } => {
            let mut queue = std::mem::take(&mut session.queue);
            let work = checksum::carry_out(session, command, range);
            let next = while_heard(control, &mut queue, work).await;
            session.queue = queue;
            next
        }
        Command::Site(_) | Command::Avbl(_) | Command::Mfmt { .. } | Command::Mff { .. } => {
            metadata::carry_out(session, command).await
        }
        file => files::carry_out(session, file, markers.rename_source).await,
    }
}

/// Success for what the profile says to ignore.
fn ignored(session: &Session, command: &Command) -> Option<Reply> {
    let profile = &session.profile;
    match command {
        Command::Mfmt { time, path } if profile.ignore_set_time => {
            Some(metadata::time_set(*time, path))
        }
        Command::Site(SiteCommand::Utime { .. }) if profile.ignore_set_time => {
            Some(Reply::new(200, "SITE UTIME ok"))
        }
        _ => None,
    }
}

fn answer(code: u16, text: impl AsRef<str>) -> Next {
    Next::Answer(Reply::new(code, text))
}

async fn user(session: &mut Session, name: String) -> Next {
    if session.view().is_some() {
        return answer(503, "Already logged in");
    }
    if !session.protection.encrypted && session.door.config.clear_text == ClearText::Refuse {
        return answer(530, "Use AUTH TLS first");
    }
    let attempt = attempt(session, name, Proof::Certificate);
    // Without a certificate there is nothing to ask: known or not, the same answer at once.
    if !attempt.identities.is_empty() {
        let authentication = &session.shared.surroundings.authentication;
        match authentication.log_in(&attempt, SystemTime::now()).await {
            Outcome::Welcome(account) => {
                let evidence = Evidence::Accepted(account);
                return match try_login(session, evidence, Factor::Certificate).await {
                    Ok(()) => answer(232, "Logged in by certificate"),
                    Err(NotLoggedIn::Refused) => answer(530, "Login incorrect"),
                    Err(NotLoggedIn::Ended(next)) => next,
                };
            }
            Outcome::Unavailable => return unavailable(session),
            Outcome::Refused => {}
        }
    }
    let name = attempt.user;
    session.user = Some(name);
    // Known or not: the same answer at once (RFC 2577 §7).
    answer(331, "Password required")
}

async fn password_for(session: &mut Session, password: Password) -> Next {
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
    let proof = Proof::Password(password.expose().to_owned());
    let evidence = Evidence::Attempt(attempt(session, user.clone(), proof));
    match try_login(session, evidence, Factor::Password).await {
        Ok(()) => return answer(230, "Logged in"),
        Err(NotLoggedIn::Refused) => {}
        Err(NotLoggedIn::Ended(next)) => return next,
    }
    session.login_failures += 1;
    // A name nobody has may be a password typed in the wrong place (S50).
    let known = session.shared.surroundings.authentication.knows(&user);
    let name = if known { user.as_str() } else { "(unknown)" };
    tracing::warn!(name, failures = session.login_failures, "login refused");
    tokio::time::sleep(LOGIN_PENALTY * session.login_failures).await;
    if session.login_failures >= session.shared.login_failures {
        return Next::Farewell(Reply::new(421, "Too many failed logins"));
    }
    answer(530, "Login incorrect")
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

/// Why nobody is logged in.
enum NotLoggedIn {
    /// 530.
    Refused,
    /// The session ends.
    Ended(Next),
}

/// 421: clients come back after it, and the session must not go on as a failed login would.
fn unavailable(session: &Session) -> Next {
    count_login(session, "unavailable");
    Next::Farewell(Reply::new(
        421,
        "Login is not available now, try again later",
    ))
}

fn count_login(session: &Session, outcome: &'static str) {
    let labels = LoginLabels { outcome };
    session.shared.metrics.logins.get_or_create(&labels).inc();
}

/// One attempt through the engine's pipeline; counted and, where it succeeds, logged.
async fn try_login(
    session: &mut Session,
    evidence: Evidence,
    factor: Factor,
) -> Result<(), NotLoggedIn> {
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
                    return Err(NotLoggedIn::Ended(Next::Farewell(Reply::new(
                        421,
                        "Service not available, try again later",
                    ))));
                }
            }
        }
    };
    session.login.prepare(evidence);
    let welcome = engine.log_in().await;
    let welcome = welcome.map_err(|error| NotLoggedIn::Ended(files::lost_engine(&error)))?;
    let Some(view) = session.exchange.view().filter(|_| welcome) else {
        if let Some(Outcome::Unavailable) = session.login.outcome() {
            return Err(NotLoggedIn::Ended(unavailable(session)));
        }
        count_login(session, "refused");
        return Err(NotLoggedIn::Refused);
    };
    count_login(session, "success");
    tracing::Span::current().record("user", view.account().name.as_str());
    session.visit.note_login(&view.account().name);
    session.logged_in_by = Some(factor);
    session.claim_tls();
    let tls = session.protection.encrypted;
    tracing::info!(tls, by = ?factor, "logged in");
    Ok(())
}

fn auth(session: &Session, mechanism: AuthMechanism) -> Next {
    if session.protection.encrypted {
        return answer(503, "TLS is already on");
    }
    if session.view().is_some() {
        return answer(503, "Already logged in without TLS");
    }
    let private = match mechanism {
        AuthMechanism::Tls | AuthMechanism::TlsC => false,
        // What IBM i and old curl mean by them (CONFORMANCE C3).
        AuthMechanism::Ssl | AuthMechanism::TlsP => true,
        AuthMechanism::Unsupported => return answer(504, "Use AUTH TLS"),
    };
    Next::Upgrade(Reply::new(234, "Begin TLS"), private)
}

fn protection_buffer_size(session: &mut Session) -> Next {
    if !session.protection.encrypted {
        return answer(503, "Use AUTH TLS first");
    }
    session.protection.buffer_size_set = true;
    answer(200, "PBSZ=0")
}

fn protection_level(session: &mut Session, level: ProtLevel) -> Next {
    if !session.protection.encrypted {
        return answer(503, "Use AUTH TLS first");
    }
    if !session.protection.buffer_size_set {
        return answer(503, "Send PBSZ 0 first");
    }
    match level {
        ProtLevel::Private => {
            session.protection.private = true;
            answer(200, "Data connections are private")
        }
        ProtLevel::Clear if session.door.config.clear_text == ClearText::Allow => {
            session.protection.private = false;
            answer(200, "Data connections are clear")
        }
        ProtLevel::Clear => answer(534, "Data connections must be private: PROT P"),
        ProtLevel::Safe | ProtLevel::Confidential => answer(536, "Use PROT P"),
    }
}

/// CCC after login only: a password in the clear is what TLS is there to prevent.
fn clear_command_channel(session: &Session) -> Next {
    if !session.protection.encrypted {
        return answer(533, "Control connection is not protected");
    }
    if session.door.config.ccc == ClearCommandChannel::Refuse || session.view().is_none() {
        return answer(534, "Control connection stays protected");
    }
    Next::Downgrade(Reply::new(200, "Control connection goes on in the clear"))
}

/// HOST names the certificate the client expects; nothing else depends on it here. Under TLS the name
/// has been said in SNI, and another one is refused (RFC 7151 §4, CONFORMANCE C13, F7).
fn host(session: &Session, name: &str) -> Next {
    if session.view().is_some() {
        return answer(503, "Send HOST before USER");
    }
    let said = session.tls.as_ref().and_then(|tls| tls.server_name());
    let agrees = said.is_none_or(|said| said.eq_ignore_ascii_case(name));
    if agrees && session.door.tls.has_name(name) {
        answer(220, "Host accepted")
    } else {
        answer(504, "No such host here")
    }
}

/// Exactly what works (CONFORMANCE F1): clients change their ways for each line. RANG is not among
/// them, since it would promise parts of downloads.
fn features(session: &Session) -> Reply {
    let abilities = session.abilities();
    let facts = session.facts.feature();
    let hashes = ChecksumAlgorithm::HASHES.map(|algorithm| {
        let chosen = algorithm.name() == session.hash_algorithm.name();
        format!("{}{}", algorithm.name(), if chosen { "*" } else { "" })
    });
    let hashes = format!("HASH {}", hashes.join(";"));
    let mut lines = vec!["Features:", "AUTH TLS", "PBSZ", "PROT"];
    if session.door.config.ccc == ClearCommandChannel::Allow {
        lines.push("CCC");
    }
    if session.offers_epsv() {
        lines.push("EPSV");
    }
    if session.charset() == UTF_8 {
        lines.push("UTF8");
    }
    lines.extend(["TVFS", "SIZE", "MDTM"]);
    if abilities.set_modified {
        lines.extend(["MFMT", "MFF Modify;"]);
    }
    lines.extend(["REST STREAM", &facts, "CLNT"]);
    // Where there is something to choose (RFC 7151 §3.3): WinSCP sends it to whoever lists it.
    if session.door.tls.has_virtual_hosts() {
        lines.push("HOST");
    }
    if abilities.available {
        lines.push("AVBL");
    }
    lines.push(&hashes);
    lines.extend(["XCRC", "XMD5", "XSHA1", "XSHA256", "XSHA512", "MD5"]);
    Reply::multi_line(211, lines, "End")
}

fn status(session: &Session) -> Reply {
    let user = match session.view() {
        Some(view) => format!("Logged in as {}", view.account().name),
        None => "Not logged in".to_owned(),
    };
    let control = if session.protection.encrypted {
        "Control connection: TLS"
    } else {
        "Control connection: clear"
    };
    let data = if session.protection.private {
        "Data connections: private"
    } else {
        "Data connections: clear"
    };
    Reply::multi_line(
        211,
        ["Status:", &user, control, data, "No transfer is running"],
        "End",
    )
}

async fn passive(session: &mut Session) -> Next {
    if session.extended_only {
        return answer(503, "EPSV ALL was sent: use EPSV");
    }
    if !session.is_ipv4() {
        return answer(425, "PASV works over IPv4 only: use EPSV");
    }
    let network = &session.door.network;
    let Some(address) = network.public.choose(session.reached()) else {
        network.count_refusal("address");
        tracing::warn!("no public address for PASV");
        return answer(425, "No public address is known: use EPSV");
    };
    match open_passive(session).await {
        Ok(port) => answer(
            227,
            format!("Entering Passive Mode ({}).", host_and_port(address, port)),
        ),
        Err(reply) => Next::Answer(reply),
    }
}

async fn extended_passive(session: &mut Session, argument: EpsvArgument) -> Next {
    if !session.offers_epsv() {
        return answer(502, "EPSV is off here: use PASV");
    }
    let is_ipv4 = session.is_ipv4();
    match argument {
        EpsvArgument::All => {
            session.extended_only = true;
            return answer(200, "EPSV ALL ok");
        }
        EpsvArgument::Ipv4 if !is_ipv4 => return answer(522, "Protocol not supported, use (2)"),
        EpsvArgument::Ipv6 if is_ipv4 => return answer(522, "Protocol not supported, use (1)"),
        EpsvArgument::OtherProtocol => return answer(522, "Protocol not supported, use (1,2)"),
        EpsvArgument::None | EpsvArgument::Ipv4 | EpsvArgument::Ipv6 => {}
    }
    match open_passive(session).await {
        Ok(port) => {
            session.extended = true;
            answer(229, format!("Entering Extended Passive Mode (|||{port}|)"))
        }
        Err(reply) => Next::Answer(reply),
    }
}

/// Closes the session's last passive port and opens a new one (E8).
async fn open_passive(session: &mut Session) -> Result<u16, Reply> {
    if let Some(last) = session.passive.take() {
        last.close().await;
    }
    session.extended = false;
    let network = &session.door.network;
    let opened = PassivePort::open(
        &network.ports,
        session.holder(),
        session.passive_address(),
        network.gate(session.peer.ip()),
        session.early_tls(),
        session.shared.drain.tasks(),
    );
    match opened {
        Ok(port) => {
            let number = port.address().port();
            session.passive = Some(port);
            Ok(number)
        }
        Err(PassiveError::Exhausted) => {
            network.count_refusal("empty");
            tracing::warn!("no passive port is free");
            Err(Reply::new(425, "No passive port is free, try again later"))
        }
        Err(PassiveError::ShareUsed) => {
            network.count_refusal("share");
            tracing::warn!("the user has its share of passive ports");
            Err(Reply::new(
                425,
                "Too many passive ports for one user, try again later",
            ))
        }
        Err(error) => {
            network.count_refusal("error");
            tracing::error!(%error, "no passive port");
            Err(Reply::new(425, "Cannot open a passive port"))
        }
    }
}

/// `h1,h2,h3,h4,p1,p2` of RFC 959 §3.2.
fn host_and_port(address: Ipv4Addr, port: u16) -> String {
    let [a, b, c, d] = address.octets();
    let [high, low] = port.to_be_bytes();
    format!("{a},{b},{c},{d},{high},{low}")
}

/// Whether data must be private before it may move (E10, D10–D12): 521 otherwise.
pub(super) fn check_protection(session: &Session) -> Result<(), Reply> {
    let clear_is_fine = session.door.config.clear_text == ClearText::Allow
        && session.door.config.mode == Mode::Explicit;
    if session.protection.private || clear_is_fine {
        Ok(())
    } else {
        Err(Reply::new(
            521,
            "Data connections must be private: send PBSZ 0 and PROT P",
        ))
    }
}
