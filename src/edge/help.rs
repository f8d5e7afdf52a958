//! HELP and SITE HELP: what this server knows, without a word on what it is (CONFORMANCE B13, S55).

use super::{reply::Reply, session::Session};
use crate::config::{ClearCommandChannel, SiteChmod};

/// Verbs and their arguments, `X` forms aside.
const SYNTAX: [(&str, &str); 59] = [
    ("ABOR", ""),
    ("ACCT", "account"),
    ("ALLO", "bytes"),
    ("APPE", "path"),
    ("AUTH", "TLS"),
    ("AVBL", "[directory]"),
    ("CCC", ""),
    ("CDUP", ""),
    ("CLNT", "name"),
    ("CWD", "directory"),
    ("DELE", "path"),
    ("EPSV", "[1 | 2 | ALL]"),
    ("FEAT", ""),
    ("HASH", "path"),
    ("HELP", "[verb]"),
    ("HOST", "name"),
    ("LIST", "[path | pattern]"),
    ("MD5", "path"),
    ("MDTM", "path"),
    ("MFF", "Modify=YYYYMMDDHHMMSS; path"),
    ("MFMT", "YYYYMMDDHHMMSS path"),
    ("MKD", "directory"),
    ("MLSD", "[directory]"),
    ("MLST", "[path]"),
    ("MODE", "S"),
    ("NLST", "[path | pattern]"),
    ("NOOP", ""),
    ("OPTS", "UTF8 ON | MLST facts | HASH algorithm"),
    ("PASS", "password"),
    ("PASV", ""),
    ("PBSZ", "0"),
    ("PROT", "P | C"),
    ("PWD", ""),
    ("QUIT", ""),
    ("RANG", "first last"),
    ("REST", "offset"),
    ("RETR", "path"),
    ("RMD", "directory"),
    ("RNFR", "path"),
    ("RNTO", "path"),
    ("SITE", "command"),
    ("SIZE", "path"),
    ("STAT", "[path]"),
    ("STOR", "path"),
    ("STOU", "[name]"),
    ("STRU", "F"),
    ("SYST", ""),
    ("TYPE", "A | I | L 8"),
    ("USER", "name"),
    ("XCRC", "path | \"path\" [start [end]]"),
    ("XCUP", ""),
    ("XCWD", "directory"),
    ("XMD5", "path | \"path\" [start [end]]"),
    ("XMKD", "directory"),
    ("XPWD", ""),
    ("XRMD", "directory"),
    ("XSHA1", "path | \"path\" [start [end]]"),
    ("XSHA256", "path | \"path\" [start [end]]"),
    ("XSHA512", "path | \"path\" [start [end]]"),
];
/// Verbs on one line of HELP.
const COLUMNS: usize = 12;

/// HELP; 502 for a verb that is not there.
pub(super) fn help(session: &Session, verb: Option<&str>) -> Reply {
    let known = SYNTAX.iter().filter(|(name, _)| is_there(session, name));
    match verb {
        Some("SITE") => site_help(session),
        Some(verb) => match known.into_iter().find(|(name, _)| *name == verb) {
            Some((name, "")) => Reply::new(214, format!("Syntax: {name}")),
            Some((name, syntax)) => Reply::new(214, format!("Syntax: {name} {syntax}")),
            None => Reply::new(502, "There is no such command"),
        },
        None => {
            let names: Vec<&str> = known.map(|(name, _)| *name).collect();
            let rows = names.chunks(COLUMNS).map(|row| row.join(" "));
            let lines: Vec<String> = std::iter::once("Commands:".to_owned())
                .chain(rows)
                .collect();
            Reply::multi_line(214, lines, "End")
        }
    }
}

/// SITE HELP.
pub(super) fn site_help(session: &Session) -> Reply {
    let mut lines = vec!["SITE commands:"];
    if session.door.config.site_chmod == SiteChmod::Ignore {
        lines.push("CHMOD mode path");
    }
    lines.extend(["HELP", "IDLE [seconds]"]);
    if session.abilities().set_modified {
        lines.push("UTIME YYYYMMDDhhmm[ss] path");
    }
    Reply::multi_line(214, lines, "End")
}

fn is_there(session: &Session, verb: &str) -> bool {
    match verb {
        "CCC" => session.door.config.ccc == ClearCommandChannel::Allow,
        "MFMT" | "MFF" => session.abilities().set_modified,
        "AVBL" => session.abilities().available,
        _ => true,
    }
}
