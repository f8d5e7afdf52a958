//! [`Quirk`]: which switch of the configuration a device would have needed.
//!
//! A listener with `learn: true` says so once per session and quirk, so that an operator can put a
//! fleet in front of it and read off the profile. Never changes what the client gets.

use std::sync::atomic::{AtomicU8, Ordering};

use super::command::{Command, ProtLevel, SiteCommand};

/// A switch that was off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quirk {
    /// Nobody came to the port of an EPSV.
    Epsv,
    /// A command was not UTF-8.
    NameCharset,
    /// An upload ended without `close_notify`.
    UploadEnd,
    /// The data connection of an upload ended before TLS began.
    EmptyUpload,
    /// A time could not be set.
    SetTime,
    /// A mode could not be set.
    Chmod,
    /// Login or data without TLS.
    ClearText,
}

/// What a session was seen to need.
#[derive(Debug, Default)]
pub(super) struct Learned(AtomicU8);

impl Quirk {
    /// Key and value that would help.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Epsv => "epsv",
            Self::NameCharset => "name_charset",
            Self::UploadEnd => "upload_end",
            Self::EmptyUpload => "empty_upload_without_handshake",
            Self::SetTime => "ignore_set_time",
            Self::Chmod => "ignore_chmod",
            Self::ClearText => "clear_text",
        }
    }

    /// What it means that `command` is refused.
    pub(super) fn behind(command: &Command) -> Option<Self> {
        match command {
            Command::Mfmt { .. }
            | Command::Mff { .. }
            | Command::Site(SiteCommand::Utime { .. }) => Some(Self::SetTime),
            Command::Site(SiteCommand::Chmod { .. }) => Some(Self::Chmod),
            Command::User(_) | Command::Prot(ProtLevel::Clear) => Some(Self::ClearText),
            _ => None,
        }
    }
}

impl Learned {
    /// Whether `quirk` is new.
    pub(super) fn insert(&self, quirk: Quirk) -> bool {
        let bit = 1 << quirk as u8;
        self.0.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }
}
