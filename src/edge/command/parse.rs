//! [`parse()`]: one line to one [`Command`], or to the reply that says why not.
//!
//! Two rules hold for every verb. Keywords are matched without regard to case (A6). A path argument
//! is everything behind the first space, verbatim, since names may begin and end with spaces (H14).

use std::time::SystemTime;

use encoding_rs::{Encoding, UTF_8};

use super::{
    AuthMechanism, ChecksumAlgorithm, ChecksumRange, Command, EpsvArgument, Opt, Password,
    ProtLevel, Rejection, SiteCommand, TransferType, telnet,
};
use crate::{
    edge::{charset, reply::Reply},
    store::listing::{Facts, parse_time},
};

type Parsed<T = Command> = Result<T, Rejection>;

/// Parses `line`, which is without its LF.
///
/// Never reflects the line in a reply (S17). Verbs that are known but absent for good get 502 (A8),
/// among them PORT and its kin: there is no active mode, so no bounce (E7, S20).
pub fn parse(line: &[u8]) -> Result<Command, Rejection> {
    parse_in(line, UTF_8)
}

/// As [`parse()`], for a client whose names are in `charset`.
pub fn parse_in(line: &[u8], charset: &'static Encoding) -> Result<Command, Rejection> {
    let line = telnet::strip(line);
    let line = line.strip_suffix(b"\r").unwrap_or(&line);
    if line.is_empty() {
        return Err(Rejection::Ignore);
    }
    if line.iter().any(|byte| matches!(byte, 0 | b'\r')) {
        return Err(syntax("Line holds NUL or CR"));
    }
    let line = charset::decode(line, charset).ok_or_else(|| {
        syntax(if charset == UTF_8 {
            "Name must be UTF-8"
        } else {
            "Name is not in the configured charset"
        })
    })?;
    let (verb, argument) = match line.split_once(' ') {
        Some((verb, argument)) => (verb, Argument(argument)),
        None => (&*line, Argument("")),
    };
    if is_http(verb, argument) {
        return Err(Rejection::Http);
    }
    command(&verb.to_ascii_uppercase(), argument)
}

/// The white list.
fn command(verb: &str, argument: Argument<'_>) -> Parsed {
    Ok(match verb {
        "USER" => Command::User(argument.required()?),
        "PASS" => Command::Pass(Password::new(argument.0)),
        "ACCT" => Command::Acct,
        "AUTH" => Command::Auth(auth(argument)?),
        "PBSZ" => Command::Pbsz(argument.number()?),
        "PROT" => Command::Prot(prot(argument)?),
        "CCC" => Command::Ccc,
        "FEAT" if argument.word().is_empty() => Command::Feat,
        // The one verb without argument that must not ignore one (RFC 2389 §3, F1).
        "FEAT" => return Err(syntax("FEAT takes no argument")),
        "OPTS" => Command::Opts(opts(argument)?),
        "HOST" => Command::Host(host(argument)?),
        "CLNT" => Command::Clnt(argument.required()?),
        "TYPE" => Command::Type(transfer_type(argument)?),
        "MODE" => argument.only("S").map(|()| Command::Mode)?,
        "STRU" => argument.only("F").map(|()| Command::Stru)?,
        "SYST" => Command::Syst,
        "NOOP" => Command::Noop,
        "HELP" => Command::Help(argument.word_if_any()),
        "STAT" => Command::Stat(argument.without_options()),
        "QUIT" => Command::Quit,
        "ABOR" => Command::Abor,
        "REST" => Command::Rest(argument.number()?),
        "ALLO" => Command::Allo(allo(argument)?),
        "PASV" => Command::Pasv,
        "EPSV" => Command::Epsv(epsv(argument)?),
        "CWD" | "XCWD" => Command::Cwd(argument.required()?),
        "CDUP" | "XCUP" => Command::Cdup,
        "PWD" | "XPWD" => Command::Pwd,
        "MKD" | "XMKD" => Command::Mkd(argument.required()?),
        "RMD" | "XRMD" => Command::Rmd(argument.required()?),
        "DELE" => Command::Dele(argument.required()?),
        "RNFR" => Command::Rnfr(argument.required()?),
        "RNTO" => Command::Rnto(argument.required()?),
        "SIZE" => Command::Size(argument.required()?),
        "MDTM" => mdtm(argument)?,
        "MFMT" => mfmt(argument)?,
        "MFF" => mff(argument)?,
        "MLST" => Command::Mlst(argument.optional()),
        "MLSD" => Command::Mlsd(argument.optional()),
        "LIST" => {
            let (options, path) = argument.options();
            Command::List {
                path,
                recursive: options.contains('R'),
            }
        }
        "NLST" => Command::Nlst {
            path: argument.without_options(),
        },
        "RETR" => Command::Retr(argument.required()?),
        "STOR" => Command::Stor(argument.required()?),
        "APPE" => Command::Appe(argument.required()?),
        "STOU" => Command::Stou(argument.optional()),
        "SITE" => Command::Site(site(argument)?),
        "HASH" => Command::Hash(argument.required()?),
        "XCRC" => checksum(ChecksumAlgorithm::Crc32, argument)?,
        "XMD5" => checksum(ChecksumAlgorithm::Md5, argument)?,
        "MD5" => checksum(ChecksumAlgorithm::Md5WithName, argument)?,
        "XSHA1" => checksum(ChecksumAlgorithm::Sha1, argument)?,
        "XSHA256" => checksum(ChecksumAlgorithm::Sha256, argument)?,
        "XSHA512" => checksum(ChecksumAlgorithm::Sha512, argument)?,
        "AVBL" => Command::Avbl(argument.optional()),
        "RANG" => rang(argument)?,
        "ADAT" => return Err(answer(503, "No security exchange is under way")),
        "MIC" | "CONF" | "ENC" => return Err(answer(533, "Use TLS to protect commands")),
        "PORT" | "EPRT" | "LPRT" => return Err(answer(502, "No active mode, use PASV or EPSV")),
        "LPSV" | "SPSV" | "SMNT" | "REIN" | "CPSV" | "SSCN" | "PRET" | "LANG" | "MFCT" | "CSID" => {
            return Err(answer(502, "Command not implemented"));
        }
        _ => return Err(answer(500, "Unknown command")),
    })
}

/// Whether the line belongs to an HTTP request: a method in upper case with a target, as HTTP spells
/// it, or a header. No FTP verb has a colon in it.
fn is_http(verb: &str, argument: Argument<'_>) -> bool {
    const METHODS: [&str; 10] = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE", "PATCH", "PRI",
    ];
    let header = verb.split_once(':').is_some_and(|(name, _)| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    });
    header || (!argument.0.is_empty() && METHODS.contains(&verb))
}

/// What follows the first space of a line, verbatim.
#[derive(Clone, Copy)]
struct Argument<'a>(&'a str);

impl<'a> Argument<'a> {
    /// Verbatim; 501 when missing.
    fn required(self) -> Parsed<String> {
        if self.0.is_empty() {
            Err(syntax("Argument missing"))
        } else {
            Ok(self.0.to_owned())
        }
    }

    /// Verbatim.
    fn optional(self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.0.to_owned())
    }

    /// For arguments that are keywords or numbers: without spaces around, in upper case.
    fn word(self) -> String {
        self.0.trim_matches(' ').to_ascii_uppercase()
    }

    fn word_if_any(self) -> Option<String> {
        Some(self.word()).filter(|word| !word.is_empty())
    }

    /// Digits only, within 64 bits: a sign or an overflow is 501 (G14).
    fn number(self) -> Parsed<u64> {
        number(self.0.trim_matches(' ')).ok_or_else(|| syntax("Argument must be a number"))
    }

    /// One keyword that is accepted: 504 for another, 501 for none.
    fn only(self, keyword: &str) -> Parsed<()> {
        match self.word().as_str() {
            "" => Err(syntax("Argument missing")),
            word if word == keyword => Ok(()),
            _ => Err(parameter()),
        }
    }

    /// The path behind leading option words: `-la dir` is `dir`, `-- -x` is `-x` (H3, H5). A lone `-`
    /// is a name.
    fn without_options(self) -> Option<String> {
        self.options().1
    }

    /// The leading option words, and the path behind them.
    fn options(self) -> (&'a str, Option<String>) {
        let mut rest = self.0;
        while rest.starts_with('-') && rest != "-" && !rest.starts_with("- ") {
            let (option, behind) = rest.split_once(' ').unwrap_or((rest, ""));
            rest = behind;
            if option == "--" {
                break;
            }
        }
        let options = &self.0[..self.0.len() - rest.len()];
        (options, Argument(rest).optional())
    }

    /// The first word and what follows one space behind it, verbatim; 501 when either is missing.
    fn word_and_path(self) -> Parsed<(&'a str, String)> {
        let (word, path) = self
            .0
            .split_once(' ')
            .ok_or_else(|| syntax("Argument missing"))?;
        Ok((word, Argument(path).required()?))
    }
}

fn auth(argument: Argument<'_>) -> Parsed<AuthMechanism> {
    Ok(match argument.word().as_str() {
        "" => return Err(syntax("Argument missing")),
        "TLS" => AuthMechanism::Tls,
        "TLS-C" => AuthMechanism::TlsC,
        "SSL" => AuthMechanism::Ssl,
        "TLS-P" => AuthMechanism::TlsP,
        _ => AuthMechanism::Unsupported,
    })
}

fn prot(argument: Argument<'_>) -> Parsed<ProtLevel> {
    Ok(match argument.word().as_str() {
        "" => return Err(syntax("Argument missing")),
        "C" => ProtLevel::Clear,
        "S" => ProtLevel::Safe,
        "E" => ProtLevel::Confidential,
        "P" => ProtLevel::Private,
        _ => return Err(parameter()),
    })
}

fn opts(argument: Argument<'_>) -> Parsed<Opt> {
    let argument = argument.word();
    let (option, value) = argument.split_once(' ').unwrap_or((&argument, ""));
    match (option, value.trim_matches(' ')) {
        ("UTF8", "" | "ON") => Ok(Opt::Utf8On),
        ("UTF8", "OFF") => Ok(Opt::Utf8Off),
        ("MLST", facts) => Ok(Opt::Mlst(Facts::parse(facts))),
        ("HASH", "") => Ok(Opt::Hash(None)),
        ("HASH", name) => ChecksumAlgorithm::HASHES
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
            .map(|algorithm| Opt::Hash(Some(algorithm)))
            .ok_or_else(|| syntax("Algorithm not known")),
        // RFC 2389 §4: 501 for an option that is not understood, whatever follows it (F5).
        _ => Err(syntax("Option not understood")),
    }
}

/// A host name or a bracketed IPv6 address, without port (RFC 7151 §3.1, F7).
fn host(argument: Argument<'_>) -> Parsed<String> {
    let name = argument.0.trim_matches(' ').to_ascii_lowercase();
    let valid = match name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(literal) => literal.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            (1..=253).contains(&name.len())
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        }
    };
    if valid {
        Ok(name)
    } else {
        Err(syntax("Host name without port expected"))
    }
}

fn transfer_type(argument: Argument<'_>) -> Parsed<TransferType> {
    let argument = argument.word();
    let words: Vec<&str> = argument
        .split(' ')
        .filter(|word| !word.is_empty())
        .collect();
    match words.as_slice() {
        [] | ["L"] => Err(syntax("Argument missing")),
        ["A"] | ["A", "N"] => Ok(TransferType::Ascii),
        ["I"] | ["L", "8"] => Ok(TransferType::Image),
        _ => Err(parameter()),
    }
}

/// `n` or `n R m`; the record size means nothing here (G9).
fn allo(argument: Argument<'_>) -> Parsed<u64> {
    let argument = argument.word();
    let words: Vec<&str> = argument
        .split(' ')
        .filter(|word| !word.is_empty())
        .collect();
    match words.as_slice() {
        [bytes] => number(bytes),
        [bytes, "R", record] => number(record).and(number(bytes)),
        _ => None,
    }
    .ok_or_else(|| syntax("Argument must be a number"))
}

fn epsv(argument: Argument<'_>) -> Parsed<EpsvArgument> {
    Ok(match argument.word().as_str() {
        "" => EpsvArgument::None,
        "ALL" => EpsvArgument::All,
        "1" => EpsvArgument::Ipv4,
        "2" => EpsvArgument::Ipv6,
        other if other.bytes().all(|byte| byte.is_ascii_digit()) => EpsvArgument::OtherProtocol,
        _ => return Err(syntax("Argument must be a protocol or ALL")),
    })
}

/// A time in front of the path makes it both readings of [`Command::MdtmSet`] (I5).
fn mdtm(argument: Argument<'_>) -> Parsed {
    let whole = argument.required()?;
    let set = argument
        .0
        .split_once(' ')
        .filter(|(_, path)| !path.is_empty());
    Ok(
        match set.and_then(|(time, path)| Some((parse_time(time)?, path))) {
            Some((time, path)) => Command::MdtmSet {
                time,
                path: path.to_owned(),
                whole,
            },
            None => Command::Mdtm(whole),
        },
    )
}

fn mfmt(argument: Argument<'_>) -> Parsed {
    let (time, path) = argument.word_and_path()?;
    let time = parse_time(time).ok_or_else(|| syntax("Time must be YYYYMMDDHHMMSS"))?;
    Ok(Command::Mfmt { time, path })
}

/// `name=value;name=value; path` (draft-somers-ftp-mfxx §3).
fn mff(argument: Argument<'_>) -> Parsed {
    let (list, path) = argument.word_and_path()?;
    let facts = list.strip_suffix(';').and_then(|facts| {
        let pair = |fact: &str| {
            let (name, value) = fact.split_once('=')?;
            (!name.is_empty()).then(|| (name.to_ascii_lowercase(), value.to_owned()))
        };
        facts.split(';').map(pair).collect::<Option<Vec<_>>>()
    });
    match facts {
        Some(facts) => Ok(Command::Mff { facts, path }),
        None => Err(syntax("Facts must be name=value;")),
    }
}

fn site(argument: Argument<'_>) -> Parsed<SiteCommand> {
    let (verb, rest) = argument.0.split_once(' ').unwrap_or((argument.0, ""));
    let rest = Argument(rest);
    Ok(match verb.to_ascii_uppercase().as_str() {
        "" => return Err(syntax("Argument missing")),
        "HELP" => SiteCommand::Help,
        "CHMOD" => {
            let (mode, path) = rest.word_and_path()?;
            let octal = mode.len() <= 4 && mode.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
            match u32::from_str_radix(mode, 8) {
                Ok(mode) if octal => SiteCommand::Chmod { mode, path },
                _ => return Err(syntax("Mode must be octal")),
            }
        }
        "UTIME" => {
            let (modified, path) = utime(rest.0).ok_or_else(|| {
                syntax("UTIME takes YYYYMMDDhhmm[ss] path, or path and times UTC")
            })?;
            SiteCommand::Utime {
                modified,
                path: path.to_owned(),
            }
        }
        "IDLE" if rest.word().is_empty() => SiteCommand::Idle(None),
        "IDLE" => SiteCommand::Idle(Some(rest.number()?)),
        _ => SiteCommand::Unknown,
    })
}

/// The longer form first: its tail of three times and `UTC` is no file name anybody has.
fn utime(argument: &str) -> Option<(SystemTime, &str)> {
    let mut words = argument.rsplitn(5, ' ');
    let tail = [
        words.next(),
        words.next(),
        words.next(),
        words.next(),
        words.next(),
    ];
    if let [
        Some(utc),
        Some(changed),
        Some(modified),
        Some(accessed),
        Some(path),
    ] = tail
        && utc.eq_ignore_ascii_case("UTC")
        && parse_time(changed).is_some()
        && parse_time(accessed).is_some()
        && !path.is_empty()
    {
        return Some((parse_time(modified)?, path));
    }
    let (time, path) = argument
        .split_once(' ')
        .filter(|(_, path)| !path.is_empty())?;
    let modified = match time.len() {
        12 => parse_time(&format!("{time}00"))?,
        14 => parse_time(time)?,
        _ => return None,
    };
    Some((modified, path))
}

/// `path`, verbatim, or `"path"[ start[ end]]`. A range only follows a quoted path: without quotes
/// a name that ends with a number could not be told from one.
fn checksum(algorithm: ChecksumAlgorithm, argument: Argument<'_>) -> Parsed {
    let (path, range) = match quoted(argument.0) {
        Some((path, rest)) => (path, range(rest)?),
        None => (argument.required()?, None),
    };
    Ok(Command::Checksum {
        algorithm,
        path,
        range,
    })
}

/// The text in quotes, doubled ones undone, and what follows; `None` when it is not quoted as a whole
/// word, so that a name with quotes in it can still be sent without.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('"')?;
    let mut path = String::new();
    loop {
        let (piece, behind) = rest.split_once('"')?;
        path.push_str(piece);
        let Some(doubled) = behind.strip_prefix('"') else {
            let whole = !path.is_empty() && (behind.is_empty() || behind.starts_with(' '));
            return whole.then_some((path, behind));
        };
        path.push('"');
        rest = doubled;
    }
}

fn range(text: &str) -> Parsed<Option<ChecksumRange>> {
    let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
    match words.as_slice() {
        [] => Some(None),
        [start] => number(start).map(|start| Some(ChecksumRange { start, end: None })),
        [start, end] => number(start).zip(number(end)).map(|(start, end)| {
            Some(ChecksumRange {
                start,
                end: Some(end),
            })
        }),
        _ => None,
    }
    .ok_or_else(|| syntax("Range must be two numbers"))
}

fn rang(argument: Argument<'_>) -> Parsed {
    let words: Vec<&str> = argument
        .0
        .split(' ')
        .filter(|word| !word.is_empty())
        .collect();
    let range = match words.as_slice() {
        [first, last] => number(first).zip(number(last)),
        _ => None,
    };
    let (first, last) = range.ok_or_else(|| syntax("Range must be two numbers"))?;
    Ok(Command::Rang { first, last })
}

/// Digits only: `str::parse` alone would take a plus sign.
fn number(text: &str) -> Option<u64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

fn answer(code: u16, text: &str) -> Rejection {
    Rejection::Answer(Reply::new(code, text))
}

/// 501: the argument is missing or malformed.
fn syntax(text: &str) -> Rejection {
    answer(501, text)
}

/// 504: the argument is well formed, but there is no such mode here.
fn parameter() -> Rejection {
    answer(504, "Parameter not supported")
}
