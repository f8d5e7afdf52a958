//! [`explain()`]: what a command needs, and what becomes of it, in the order in which it is asked for.

use std::fmt;

use super::{Action, Denied, Grounds, StoreKey, Tree, VirtualPath};

/// What a command asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// One action.
    May(Action),
    /// To go into a directory.
    Enter,
}

/// One decision on the way of a command.
#[derive(Debug)]
pub struct Step {
    /// What is asked for.
    pub question: Question,
    /// In which case it is asked for: empty for always, or "if it exists".
    pub when: &'static str,
    /// Yes with the key and the grounds, or why not.
    pub decision: Result<(StoreKey, Grounds), Denied>,
}

impl Question {
    /// `write`, `list` …, or `enter`.
    pub fn word(self) -> &'static str {
        match self {
            Self::May(action) => action.word(),
            Self::Enter => "enter",
        }
    }
}

impl Step {
    /// Whether the command may go on after it: it is allowed, or asked for in some cases only.
    pub fn lets_go_on(&self) -> bool {
        self.decision.is_ok() || !self.when.is_empty()
    }

    /// The decision with the grant, mount or condition behind it, for people.
    pub fn reason(&self) -> String {
        match &self.decision {
            Ok((key, grounds)) => {
                let by = match grounds {
                    Grounds::NoGrants => "no grant allows or denies anything here".to_owned(),
                    Grounds::Rule(rule) => {
                        let (pattern, allow) = (rule.pattern.as_str(), rule.allow);
                        format!("{} ({pattern}: allow {allow})", rule.origin)
                    }
                };
                format!("allowed: {by}; {}:{:?}", key.backend(), key.as_str())
            }
            Err(Denied::ReadOnlyMount(path)) => format!("denied: the mount {path} is read-only"),
            Err(denied) => format!("denied: {denied}"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let comma = if self.when.is_empty() { "" } else { ", " };
        let (needs, when) = (self.question.word(), self.when);
        write!(formatter, "{needs}{comma}{when}: {}", self.reason())
    }
}

/// The decisions that the command `verb` (as on the control connection, in any case; its `X` forms
/// too) needs at `path`; `None` for a verb that touches no path.
pub fn explain(tree: &Tree, verb: &str, path: &VirtualPath) -> Option<Vec<Step>> {
    let step = |(question, when): &(Question, &'static str)| Step {
        question: *question,
        when,
        decision: decide(tree, *question, path),
    };
    Some(questions(verb)?.iter().map(step).collect())
}

/// Must say what [`crate::store`]'s view does; a test through the real server compares.
fn questions(verb: &str) -> Option<&'static [(Question, &'static str)]> {
    use Question::{Enter, May};
    const PRESENT: &str = "if the file exists";
    Some(match verb.to_ascii_uppercase().as_str() {
        "CWD" | "XCWD" | "CDUP" | "XCUP" => &[(Enter, "")],
        "LIST" | "NLST" | "MLSD" | "MLST" | "STAT" | "SIZE" | "MDTM" | "AVBL" => {
            &[(May(Action::List), "")]
        }
        "RETR" | "HASH" | "XCRC" | "XMD5" | "XSHA1" | "XSHA256" | "XSHA512" | "MD5" => {
            &[(May(Action::Read), "")]
        }
        "STOR" => &[(May(Action::Write), ""), (May(Action::Overwrite), PRESENT)],
        "STOU" => &[(May(Action::Write), "")],
        "APPE" | "REST" => &[(May(Action::Write), ""), (May(Action::Append), PRESENT)],
        "DELE" => &[(May(Action::Delete), "")],
        "MKD" | "XMKD" => &[(May(Action::MakeDirectory), "")],
        "RMD" | "XRMD" => &[(May(Action::RemoveDirectory), "")],
        "RNFR" => &[(May(Action::Rename), "")],
        "RNTO" => &[(May(Action::Rename), ""), (May(Action::Overwrite), PRESENT)],
        "MFMT" | "MFF" | "SITE" => &[(May(Action::SetTime), "")],
        _ => return None,
    })
}

fn decide(
    tree: &Tree,
    question: Question,
    path: &VirtualPath,
) -> Result<(StoreKey, Grounds), Denied> {
    match question {
        Question::Enter => {
            let key = tree.enter(path)?;
            // It may be entered for the sake of another right, or to pass through.
            let grounds = tree.grounds(Action::List, path);
            Ok((key, grounds.unwrap_or(Grounds::NoGrants)))
        }
        Question::May(action) => {
            let key = tree.authorise(action, path)?;
            Ok((key, tree.grounds(action, path)?))
        }
    }
}
