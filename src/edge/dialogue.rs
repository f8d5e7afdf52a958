//! What each command is answered: everything that needs neither file nor data connection, and the
//! way to [`super::files`] and [`super::transfer`] for what does.

use std::net::Ipv4Addr;

use encoding_rs::UTF_8;

use super::{
    checksum,
    command::{
        AuthMechanism, ChecksumAlgorithm, Command, EpsvArgument, Opt, ProtLevel, SiteCommand,
    },
    control::Control,
    files,
    hear::while_heard,
    help::help,
    login, metadata,
    passive::{PassiveError, PassivePort},
    reply::{Reply, quote},
    session::{Next, Session},
    transfer,
};
use crate::config::{ClearCommandChannel, ClearText, Mode};

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
        Command::User(name) => login::user(session, name).await,
        Command::Pass(password) => login::password_for(session, password).await,
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
        Command::Allo(bytes) => {
            session.allocation = Some(bytes);
            answer(202, "No storage allocation needed")
        }
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
        // Reads up to `limits.checksum_bytes`, or all the names that a pattern does not match: the client
        // is heard meanwhile.
        Command::Hash(_) | Command::Checksum { .. } | Command::Stat(_) => {
            let mut queue = std::mem::take(&mut session.queue);
            let work = long(session, command, range);
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

/// What takes long without a data connection.
async fn long(session: &Session, command: Command, range: Option<(u64, u64)>) -> Next {
    match command {
        Command::Stat(argument) => files::status(session, argument).await,
        checksum => checksum::carry_out(session, checksum, range).await,
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
