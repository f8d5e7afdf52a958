//! [`Said`]: a client's line without its secrets.
//!
//! The parser of the commands says what a line is, so that nothing hides a password from here that the
//! server itself would see: an odd case, Telnet codes, blanks. What it does not know keeps its verb at
//! most; a password that was cut by a line end is such a line.

use encoding_rs::Encoding;

use crate::edge::command::{self, AuthMechanism, Command, SiteCommand};

/// In the place of a secret.
pub(in crate::edge) const HIDDEN: &str = "***";

/// Verbs whose arguments are shown even where they make no sense. What may follow others, unknown ones
/// too, is hidden.
const SHOWN: [&str; 47] = [
    "PBSZ", "PROT", "CCC", "FEAT", "OPTS", "HOST", "CLNT", "TYPE", "MODE", "STRU", "SYST", "NOOP",
    "HELP", "STAT", "QUIT", "ABOR", "REST", "ALLO", "PASV", "EPSV", "CWD", "XCWD", "CDUP", "XCUP",
    "PWD", "XPWD", "MKD", "XMKD", "RMD", "XRMD", "DELE", "RNFR", "RNTO", "SIZE", "MDTM", "MFMT",
    "MLST", "MLSD", "LIST", "NLST", "RETR", "STOR", "APPE", "STOU", "HASH", "PORT", "EPRT",
];
/// Longest verb that is shown though nobody knows it.
const VERB: usize = 8;

/// A line as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Without line end; with [`HIDDEN`] in it, or escapes, where it could not stay as it was.
    pub text: String,
    /// Whether the text is what the client sent.
    pub is_exact: bool,
}

impl Said {
    /// What is kept of a line without its LF.
    pub(in crate::edge) fn new(line: &[u8], charset: &'static Encoding) -> Self {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let verb = verb(line);
        let hidden = |shown: &str| Self {
            text: if shown.is_empty() {
                HIDDEN.to_owned()
            } else {
                format!("{shown} {HIDDEN}")
            },
            is_exact: false,
        };
        match command::parse_in(line, charset) {
            Ok(Command::Pass(_)) => hidden("PASS"),
            Ok(Command::Acct) => hidden("ACCT"),
            Ok(Command::Auth(AuthMechanism::Unsupported)) if !is_word(&line[verb.len()..]) => {
                hidden("AUTH")
            }
            Ok(Command::Site(SiteCommand::Unknown)) => {
                let rest = String::from_utf8_lossy(line).into_owned();
                let word = rest.split(' ').nth(1);
                let word = word.filter(|word| is_word(word.as_bytes()));
                match word {
                    Some(word) => hidden(&format!("SITE {word}")),
                    None => hidden("SITE"),
                }
            }
            Ok(_) => Self::plain(line),
            Err(_) if SHOWN.contains(&verb.to_ascii_uppercase().as_str()) => Self::plain(line),
            // Nothing but a word of letters: no argument to hide.
            Err(_) if verb.len() == line.len() && verb.len() <= VERB => Self::plain(line),
            Err(_) if verb.len() <= VERB => hidden(&verb),
            Err(_) => hidden(""),
        }
    }

    fn plain(line: &[u8]) -> Self {
        match std::str::from_utf8(line) {
            Ok(text) if !text.chars().any(char::is_control) => Self {
                text: text.to_owned(),
                is_exact: true,
            },
            _ => Self {
                text: line.escape_ascii().to_string(),
                is_exact: false,
            },
        }
    }
}

/// The letters at the beginning.
fn verb(line: &[u8]) -> String {
    let letters = line.iter().take_while(|byte| byte.is_ascii_alphabetic());
    let letters: Vec<u8> = letters.copied().collect();
    // Also the digits of what no standard knows, such as XSHA256, are no secret; they end the verb here.
    String::from_utf8(letters).unwrap_or_default()
}

fn is_word(bytes: &[u8]) -> bool {
    let word = bytes.strip_prefix(b" ").unwrap_or(bytes);
    word.len() <= 16
        && word
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

#[cfg(test)]
mod tests {
    use encoding_rs::UTF_8;

    use super::*;

    #[test]
    fn secrets_are_hidden_however_they_are_written() {
        for line in [
            &b"PASS s3cr3t"[..],
            b"pass s3cr3t\r",
            b"PaSs  s3cr3t",
            b"\xff\xf4\xf2PASS s3cr3t",
            b"\xff\xfb\x01pass s3cr3t",
            b"PASS s3cr3t\xff",
            b"PASS s3\0cr3t s3cr3t",
            b"PASS\ts3cr3t",
            b"PASS: s3cr3t",
            b" PASS s3cr3t",
            b"ACCT s3cr3t",
            b"ADAT s3cr3t",
            b"AUTH GSSAPI s3cr3t",
            b"AUTH czNjcjN0+s3cr3t",
            b"MIC s3cr3t",
            b"SITE PSWD s3cr3t s3cr3t",
            b"SITE s3cr3t!x",
            b"XPASS s3cr3t",
            b"authorization: basic s3cr3t",
            b"s3cr3t",
            b"the s3cr3t of others",
        ] {
            let said = Said::new(line, UTF_8);
            assert!(!said.text.contains("cr3t"), "{said:?}");
            assert!(said.text.contains(HIDDEN), "{said:?}");
            assert!(!said.is_exact, "{said:?}");
        }
    }

    #[test]
    fn ordinary_lines_stay_as_they_are() {
        for line in [
            "USER alice",
            "AUTH TLS",
            "AUTH GSSAPI",
            "STOR  a b ",
            "REST abc",
            "SITE IDLE 60",
            "CWD /ünï",
            "MLSD",
            "XSHA256 a",
            "FOO",
            "EPSV",
        ] {
            let said = Said::new(line.as_bytes(), UTF_8);
            assert_eq!(said.text, line);
            assert!(said.is_exact, "{line}");
        }
        let said = Said::new(b"STOR a\xe4\x07", UTF_8);
        assert_eq!(
            (said.text.as_str(), said.is_exact),
            ("STOR a\\xe4\\x07", false)
        );
    }
}
