//! Answers as text for a terminal.

use std::{borrow::Cow, fmt::Write as _};

use crate::{
    admin::{
        BanView, FailureView, LogView, Reloaded, SessionView, Status, TraceContent, TraceView,
        TransferView,
    },
    text::{bytes, rate},
};

/// `text` with everything escaped that a terminal acts on: control characters, and those that turn the
/// direction of writing around and so can make one name look like another.
pub(super) fn safe(text: &str) -> Cow<'_, str> {
    let acts = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if acts(character) {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

pub(super) fn status(status: &Status) -> String {
    format!(
        "causeway {}: {}, {} sessions, {} transfers, {} of upload memory\n",
        safe(&status.version),
        safe(&status.state),
        status.sessions,
        status.transfers,
        bytes(status.upload_memory_bytes as u64),
    )
}

pub(super) fn sessions(sessions: &[SessionView]) -> String {
    let rows = sessions.iter().map(|session| {
        vec![
            session.id.clone(),
            or_dash(session.user.as_deref()),
            session.peer.clone(),
            session.listener.clone(),
            or_dash(session.tls.as_deref()),
            format!("{} s", session.idle_seconds),
            or_dash(session.last_command.as_deref()),
            session.transfer.as_ref().map_or_else(dash, |transfer| {
                format!("{} {}", transfer.path, progress(transfer))
            }),
        ]
    });
    table(
        &[
            "SESSION", "USER", "PEER", "LISTENER", "TLS", "IDLE", "LAST", "TRANSFER",
        ],
        rows,
        "nobody is connected",
    )
}

pub(super) fn transfers(transfers: &[TransferView]) -> String {
    let rows = transfers.iter().map(|transfer| {
        vec![
            transfer.session.clone(),
            or_dash(transfer.user.as_deref()),
            transfer.verb.clone(),
            progress(transfer),
            format!("{}/s", rate(transfer.bytes_per_second)),
            format!("{:.0} s", transfer.seconds),
            transfer.path.clone(),
        ]
    });
    table(
        &["SESSION", "USER", "VERB", "MOVED", "RATE", "SINCE", "PATH"],
        rows,
        "no transfer is running",
    )
}

pub(super) fn failures(failures: &[FailureView]) -> String {
    let rows = failures.iter().map(|failure| {
        vec![
            failure.reference.clone(),
            failure.at.clone(),
            or_dash(failure.user.as_deref()),
            failure.peer.clone(),
            failure.verb.clone(),
            failure.code.to_string(),
            failure.path.clone(),
            failure.reason.clone(),
        ]
    });
    table(
        &[
            "REF", "AT", "USER", "PEER", "VERB", "CODE", "PATH", "REASON",
        ],
        rows,
        "nothing failed lately",
    )
}

pub(super) fn bans(bans: &[BanView]) -> String {
    let rows = bans.iter().map(|ban| {
        vec![
            ban.subject.clone(),
            or_dash(ban.name.as_deref()),
            ban.by.clone(),
            ban.count.to_string(),
            format!("{} s", ban.seconds_left),
            ban.until.clone(),
        ]
    });
    table(
        &["SUBJECT", "NAME", "BY", "COUNT", "LEFT", "UNTIL"],
        rows,
        "nobody is banned",
    )
}

pub(super) fn log(log: &LogView) -> String {
    let how_long = match (&log.until, log.configured) {
        (_, true) => "as configured".to_owned(),
        (Some(until), false) => format!("until {}", safe(until)),
        (None, false) => "until it is reset".to_owned(),
    };
    format!(
        "{} as {}, {how_long}\n",
        safe(&log.filter),
        safe(&log.format)
    )
}

pub(super) fn traces(traces: &[TraceView]) -> String {
    let rows = traces.iter().map(|trace| {
        vec![
            trace.id.clone(),
            trace.subject.clone(),
            trace.state.clone(),
            format!("{} s", trace.seconds_left),
            trace.lines.to_string(),
            trace.sessions.len().to_string(),
        ]
    });
    table(
        &["TRACE", "SUBJECT", "STATE", "LEFT", "LINES", "SESSIONS"],
        rows,
        "nobody is followed",
    )
}

/// One line each: time, session, who, and what.
pub(super) fn trace(content: &TraceContent) -> String {
    let mut text = String::new();
    for entry in &content.entries {
        let sign = match entry.side.as_str() {
            "client" => '>',
            "server" => '<',
            _ => '*',
        };
        for line in entry.text.lines() {
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "{} {} {sign} {}",
                safe(&entry.at),
                safe(&entry.session),
                safe(line)
            );
        }
    }
    if text.is_empty() {
        text.push_str("nothing was heard yet\n");
    }
    text
}

pub(super) fn kicked(session: &SessionView) -> String {
    format!(
        "{}: session of {} at {} is being ended\n",
        safe(&session.id),
        safe(session.user.as_deref().unwrap_or("nobody")),
        safe(&session.peer)
    )
}

pub(super) fn reloaded(reloaded: &Reloaded) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    if reloaded.changed.is_empty() {
        text.push_str("reloaded users and certificates; the configuration is as before\n");
    }
    for path in &reloaded.changed {
        let _ = writeln!(text, "changed: {}", safe(path));
    }
    for change in &reloaded.log {
        let _ = writeln!(text, "{}", safe(change));
    }
    for path in &reloaded.needs_restart {
        let _ = writeln!(text, "needs a restart: {}", safe(path));
    }
    text
}

/// Moved bytes, with their share where the whole is known.
pub(super) fn progress(transfer: &TransferView) -> String {
    match transfer.expected_bytes {
        Some(expected) if expected > 0 => {
            let percent = transfer.bytes.saturating_mul(100) / expected;
            format!(
                "{} of {} ({percent} %)",
                bytes(transfer.bytes),
                bytes(expected)
            )
        }
        _ => bytes(transfer.bytes),
    }
}

fn dash() -> String {
    "-".to_owned()
}

pub(super) fn or_dash(text: Option<&str>) -> String {
    text.map_or_else(dash, str::to_owned)
}

/// Columns as wide as their widest cell; the last one ends where it ends.
pub(super) fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>, empty: &str) -> String {
    let rows: Vec<Vec<String>> = rows
        .map(|row| row.iter().map(|cell| safe(cell).into_owned()).collect())
        .collect();
    if rows.is_empty() {
        return format!("{empty}\n");
    }
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|cell| cell.chars().count()).max();
        widest.unwrap_or(0).max(head[column].len())
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    let head = head.iter().map(|word| (*word).to_owned()).collect();
    for row in std::iter::once(&head).chain(&rows) {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_acts_on_is_escaped() {
        assert_eq!(safe("ordinary ä 中"), "ordinary ä 中");
        assert_eq!(safe("\u{1b}[2Jx\r\n"), "\\u{1b}[2Jx\\r\\n");
        assert_eq!(safe("gpj.\u{202e}exe"), "gpj.\\u{202e}exe");
        assert_eq!(safe("\u{9b}31m"), "\\u{9b}31m");
    }

    #[test]
    fn table_keeps_its_columns() {
        let rows = vec![
            vec!["1".to_owned(), "a\nb".to_owned()],
            vec!["22222".to_owned(), "c".to_owned()],
        ];
        assert_eq!(
            table(&["ID", "NAME"], rows.into_iter(), "none"),
            "ID     NAME\n1      a\\nb\n22222  c\n"
        );
        assert_eq!(table(&["ID"], std::iter::empty(), "none"), "none\n");
    }
}
