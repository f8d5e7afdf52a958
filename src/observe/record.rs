//! [`Record`]: one thing that happened, as the audit trail writes it and as events carry it.
//!
//! Owns the schema, version 1, which `docs/audit.md` and `docs/audit.schema.json` describe. Fields may be
//! added within a version; none changes its meaning.

use std::time::SystemTime;

use serde::Serialize;
use time::{OffsetDateTime, format_description::FormatItem, macros::format_description};

/// Version of the schema.
pub const SCHEMA: u32 = 1;

/// Always three digits of a second, so that lines sort as text.
const TIME: &[FormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// USER and PASS.
    Login,
    /// STOR, STOU, APPE.
    Upload,
    /// RETR.
    Download,
    /// RNFR and RNTO.
    Rename,
    /// DELE.
    Delete,
    /// MKD.
    MakeDirectory,
    /// RMD.
    RemoveDirectory,
    /// A command that the account's rights do not cover.
    Denied,
    /// Somebody may not come or log in for a while.
    Ban,
    /// An operator changed something.
    Admin,
    /// The files were taken up, or not, after a signal or a change of theirs.
    Reload,
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// As asked.
    Success,
    /// The server said no.
    Refused,
    /// It did not work.
    Failed,
}

/// One line of the audit trail. What does not apply is left out.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Unique; 32 hexadecimal digits.
    pub id: String,
    /// When it was over, in UTC.
    pub time: String,
    /// What happened.
    pub kind: Kind,
    /// How it went.
    pub outcome: Outcome,
    /// Why not, as one of a few words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Why not, in full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// As in the client's reply, the log and the admin API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// FTP code of the reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// Id of the session, as in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Address and port of the client, or of the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Name of the listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
    /// The account. At a failed login only if such a user is known: a name nobody has may be a password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// `1.2` or `1.3`, of the control connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_version: Option<&'static str>,
    /// What the client's certificate says about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tls_certificate: Vec<String>,
    /// `password` or `certificate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factor: Option<&'static str>,
    /// Verb of the command; what an operator did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verb: Option<&'static str>,
    /// Absolute, as the user sees it; of a rename, the old one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Of a rename, the new path; of an operator's act and of a ban, what it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Where `path` lies.
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    pub place: Option<Place>,
    /// Key of `target` in the same or another backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_key: Option<String>,
    /// First byte of the transfer in the file, where that is not 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Content bytes that crossed the data connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Of those bytes, in hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Of an upload: received and safe, and to appear by a rename or after a while, which is told by a
    /// record of its own. Of a rename: the one that made such a file appear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deferred: Option<bool>,
    /// From the command to the end of its work; how long a ban lasts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

/// Where a path lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Path of the mount.
    pub mount: String,
    /// Name of the backend.
    pub backend: String,
    /// Key inside the backend.
    pub key: String,
}

impl Record {
    /// A record of this moment.
    pub fn new(kind: Kind, outcome: Outcome) -> Self {
        let now = OffsetDateTime::from(SystemTime::now());
        Self {
            schema: SCHEMA,
            id: format!("{:032x}", rand::random::<u128>()),
            // Years beyond 9999 have no such form.
            time: now.format(TIME).unwrap_or_default(),
            kind,
            outcome,
            reason: None,
            detail: None,
            reference: None,
            code: None,
            session: None,
            peer: None,
            listener: None,
            user: None,
            tls_version: None,
            tls_certificate: Vec::new(),
            factor: None,
            verb: None,
            path: None,
            target: None,
            place: None,
            target_key: None,
            offset: None,
            bytes: None,
            sha256: None,
            deferred: None,
            seconds: None,
        }
    }

    /// One line of JSON without its end. Characters that a terminal or a log reader might obey are
    /// escaped: C0 and C1 controls, DEL, and those that turn the direction of writing or end a line.
    pub fn line(&self) -> serde_json::Result<String> {
        serde_json::to_string(self).map(|text| escape(&text))
    }
}

/// JSON in which nothing invisible is left. Such characters occur within strings only.
pub fn escape(json: &str) -> String {
    use std::fmt::Write as _;

    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    if !json.contains(hidden) {
        return json.to_owned();
    }
    let mut text = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if hidden(c) {
            // Writing to a string cannot fail; none of these is beyond U+FFFF.
            let _ = write!(text, "\\u{:04x}", u32::from(c));
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_hidden_is_left_and_the_value_is_the_same() {
        let mut record = Record::new(Kind::Upload, Outcome::Success);
        let name = "/a\u{1b}[2J\u{7f}\u{9b}31m\u{202e}gpj.exe\r\n\u{2028}\u{feff}ü\"\\";
        record.path = Some(name.to_owned());
        let line = record.line().unwrap();
        assert!(line.is_ascii() || line.contains('ü'), "{line}");
        assert!(line.chars().all(|c| !c.is_control()), "{line:?}");
        assert!(line.contains("\\u202egpj.exe"), "{line}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["path"], name);
        assert_eq!(value["schema"], SCHEMA);
        assert_eq!(value["kind"], "upload");
        assert_eq!(value.get("reason"), None);
        assert_eq!(value["time"].as_str().unwrap().len(), 24);
    }
}
