//! [`Reply`]: what the client is told.
//!
//! Owns the wire form of replies (RFC 959 §4.2, CONFORMANCE A2, A14, S51). Must not know commands or
//! sessions. Called by everything in [`crate::edge`] that answers.

use std::borrow::Cow;

/// One complete reply: a code and at least one line of text.
///
/// Text is made safe on the way in: no control character survives, so nothing a client or a store
/// put into a name can end a line or begin another reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    /// All lines but the last; the first of them shares its line with `ddd-`.
    head: Vec<String>,
    last: String,
}

impl Reply {
    /// A reply of one line. Control characters in `text` are escaped.
    ///
    /// A code outside 100..=599 is a fault of the program; the client gets 451 instead of a line it
    /// cannot parse.
    pub fn new(code: u16, text: impl AsRef<str>) -> Self {
        Self::multi_line(code, [] as [&str; 0], text)
    }

    /// A reply of several lines: `ddd-` and the first of `head`, the others indented by one space,
    /// then `ddd` and `last`. With an empty `head` it is a reply of one line.
    pub fn multi_line(
        code: u16,
        head: impl IntoIterator<Item = impl AsRef<str>>,
        last: impl AsRef<str>,
    ) -> Self {
        Self {
            code: if (100..=599).contains(&code) {
                code
            } else {
                451
            },
            head: head
                .into_iter()
                .map(|line| sanitise(line.as_ref()).into_owned())
                .collect(),
            last: sanitise(last.as_ref()).into_owned(),
        }
    }

    /// Three digits, 100 to 599.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The text of the last line, which is the only one of most replies.
    pub fn text(&self) -> &str {
        &self.last
    }

    /// All lines of text, without codes and indentation.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.head.iter().chain([&self.last]).map(String::as_str)
    }

    /// The bytes for the control connection, each line ended by CRLF.
    pub fn render(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (index, line) in self.head.iter().enumerate() {
            // An inner line begins with a space, so that none ever looks like the end (A2).
            let start = if index == 0 {
                format!("{}-", self.code)
            } else {
                " ".to_owned()
            };
            bytes.extend_from_slice(start.as_bytes());
            bytes.extend_from_slice(line.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(format!("{} {}\r\n", self.code, self.last).as_bytes());
        bytes
    }
}

/// `text` with control characters (C0, DEL, C1) written as Rust writes them in a string: `\n`,
/// `\u{1b}`. For names inside replies, where a client must see one line whatever the store holds.
pub fn sanitise(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if character.is_control() {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

/// `path` as 257 replies carry it: in quotes, quotes inside doubled (RFC 959 appendix II, J1, J2).
pub fn quote(path: &str) -> String {
    format!("\"{}\"", path.replace('"', "\"\""))
}

#[cfg(test)]
mod tests;
