//! A session of a trace as a dialogue: what `tests/dialogues/README.md` describes, to be played against
//! another server.
//!
//! Content is not recorded: a file of the same size stands for it. What differs from run to run (ports,
//! times, references, digests) is left open in the expected replies.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt::Write as _,
};

use super::{Entry, Found, What, redact::HIDDEN};

/// The dialogue of one session's entries.
pub(super) fn of<'a>(entries: impl Iterator<Item = &'a Entry>) -> String {
    let mut writer = Writer::default();
    for entry in entries {
        writer.take(entry);
    }
    writer.finish()
}

#[derive(Default)]
struct Writer {
    lines: String,
    /// What must be there before the first line.
    needed: Vec<String>,
    /// Paths that are there: because they are needed, or because the dialogue made them.
    known: BTreeSet<String>,
    is_implicit: bool,
    /// Why it cannot be played as it stands.
    gaps: Vec<&'static str>,
    peer: Option<String>,
    /// Verbs of the commands that are not answered yet: clients may send several ahead.
    waiting: VecDeque<String>,
}

impl Writer {
    fn take(&mut self, entry: &Entry) {
        match &entry.what {
            What::Connected { peer, implicit, .. } => {
                self.peer = Some(peer.to_string());
                self.is_implicit = *implicit;
            }
            What::Joined => self.gap("its beginning is missing: the trace found it under way"),
            What::Tls { handshake, .. } => {
                // On an implicit listener it comes before the greeting by itself.
                if !self.is_implicit {
                    self.line("@ tls", handshake.version);
                }
            }
            What::Said(said) => {
                let verb = said.text.split(' ').next().unwrap_or_default();
                let verb = verb.to_ascii_uppercase();
                if said.is_exact {
                    self.line(">", &said.text);
                } else if verb == "PASS" {
                    self.line(">", "PASS {password}");
                } else if said.text.contains(HIDDEN) {
                    self.gap("a line was hidden");
                    self.line("#", &said.text);
                } else {
                    self.gap("a line is no plain text");
                    self.line("#", &said.text);
                }
                self.waiting.push_back(verb);
            }
            What::Reply { code, lines } => {
                let verb = self.waiting.front().map_or("", String::as_str);
                let pattern = pattern(verb, *code, lines);
                // After a preliminary reply the command's final one follows.
                if *code >= 200 {
                    self.waiting.pop_front();
                }
                self.line(&format!("< {code}"), &pattern);
            }
            What::Transfer {
                direction,
                path,
                offset,
                bytes,
                outcome,
                ..
            } => self.transfer(direction, path, *offset, *bytes, outcome),
            What::Did {
                verb,
                path,
                from,
                found,
            } => self.did(verb, path, from.as_deref(), *found),
            What::Note(text) => self.line("#", text),
            What::Data(_) | What::Disconnected => {}
        }
    }

    fn transfer(&mut self, direction: &str, path: &str, offset: u64, bytes: u64, outcome: &str) {
        if outcome != "complete" {
            // Without a data connection the server waits as it did; nothing is to be done.
            if outcome != "no_connection" {
                self.gap("a transfer was not complete");
            }
            self.line("#", &format!("{direction} of {bytes} bytes: {outcome}"));
            return;
        }
        match direction {
            "upload" => {
                if offset > 0 {
                    self.need_file(path, offset);
                }
                self.known.insert(path.to_owned());
                self.line("@ upload-bytes", &bytes.to_string());
            }
            "download" => {
                self.need_file(path, offset + bytes);
                self.lines.push_str("@ receive\n");
                self.line("@ received-bytes", &bytes.to_string());
            }
            _ => self.lines.push_str("@ receive\n"),
        }
    }

    fn did(&mut self, verb: &str, path: &str, from: Option<&str>, found: Found) {
        match (verb, from, found) {
            ("MKD", ..) => {
                self.known.insert(path.to_owned());
            }
            ("RNTO", Some(from), _) => {
                self.known.remove(from);
                self.known.insert(path.to_owned());
            }
            ("DELE", ..) => {
                self.need_file(path, 0);
                self.known.remove(path);
            }
            ("RMD", ..) => {
                self.need_directory(path);
                self.known.remove(path);
            }
            (_, _, Found::File(size)) => self.need_file(path, size),
            (_, _, Found::Directory) => self.need_directory(path),
            (_, _, Found::Unsaid) => {}
        }
    }

    fn need_file(&mut self, path: &str, size: u64) {
        self.need(path, |name| format!("@ file-bytes {name} {size}"));
    }

    fn need_directory(&mut self, path: &str) {
        self.need(path, |name| format!("@ directory {name}"));
    }

    fn need(&mut self, path: &str, line: impl FnOnce(&str) -> String) {
        let name = path.trim_start_matches('/');
        if !name.is_empty() && self.known.insert(path.to_owned()) {
            self.needed.push(line(name));
        }
    }

    fn gap(&mut self, why: &'static str) {
        if !self.gaps.contains(&why) {
            self.gaps.push(why);
        }
    }

    fn line(&mut self, sign: &str, rest: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.lines, "{sign} {rest}");
    }

    fn finish(self) -> String {
        let mut text = String::from("# Saved from a protocol trace");
        if let Some(peer) = &self.peer {
            let _ = write!(text, " of {peer}");
        }
        text.push_str(". {password} stands for the password.\n");
        for gap in &self.gaps {
            let _ = writeln!(text, "# Not to be played as it stands: {gap}.");
        }
        if self.is_implicit {
            text.push_str("@ implicit\n");
        }
        for needed in &self.needed {
            text.push_str(needed);
            text.push('\n');
        }
        text + &self.lines
    }
}

/// What a reply must look like in another run.
fn pattern(verb: &str, code: u16, lines: &[String]) -> String {
    // What is there may be older or younger, lie elsewhere, and hold other bytes.
    const OPEN: [&str; 14] = [
        "MDTM", "MFMT", "MFF", "MLST", "STAT", "HASH", "XCRC", "XMD5", "XSHA1", "XSHA256",
        "XSHA512", "MD5", "AVBL", "STOU",
    ];
    match code {
        227 => return "*({n},{n},{n},{n},{n},{n})*".to_owned(),
        229 => return "*(|||{n}|)*".to_owned(),
        _ if code < 400 && OPEN.contains(&verb) => return "*".to_owned(),
        _ => {}
    }
    let last = lines.len().saturating_sub(1);
    let mut pattern = String::new();
    for (index, line) in lines.iter().enumerate() {
        // As the replayer sees it: inner lines begin with a blank, the last with its code.
        match index {
            0 => {}
            index if index == last => {
                let _ = write!(pattern, "\\n{code} ");
            }
            _ => pattern.push_str("\\n "),
        }
        let line = without_reference(line);
        pattern.push_str(&line.replace(['{', '}', '\\'], "*"));
    }
    // One blank of a pattern is as many as there are.
    while pattern.contains("  ") {
        pattern = pattern.replace("  ", " ");
    }
    pattern
}

/// Each failure has a reference of its own.
fn without_reference(line: &str) -> String {
    match line.split_once("(ref ") {
        Some((before, after)) => {
            let rest = after.split_once(')').map_or("", |(_, rest)| rest);
            format!("{before}(ref *){rest}")
        }
        None => line.to_owned(),
    }
}
