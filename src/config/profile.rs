//! Profiles: what a device that cannot be changed needs of the server.

use encoding_rs::{Encoding, UTF_8};
use time::UtcOffset;

use super::UploadEnd;

/// Deviations for one listener or one user. The default is what RFC and current clients want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Whether EPSV works on IPv4; off: 502, so that the client falls back to PASV.
    pub epsv: bool,
    /// How LIST prints dates.
    pub list: ListStyle,
    /// Charset of names on the control connection and in listings; ASCII is part of it.
    pub name_charset: &'static Encoding,
    /// What ends an upload; `None` leaves it to the listener.
    pub upload_end: Option<UploadEnd>,
    /// An upload whose data connection ends before TLS begins.
    pub empty_upload: EmptyUpload,
    /// MFMT and SITE UTIME succeed and change nothing.
    pub ignore_set_time: bool,
    /// SITE CHMOD succeeds and changes nothing.
    pub ignore_chmod: bool,
    /// Text of the 220.
    pub greeting: Option<String>,
}

/// How LIST prints dates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListStyle {
    /// The zone of times in LIST, as distance from UTC (default 0). MLSD and MDTM are always UTC.
    pub offset: UtcOffset,
    /// Their form.
    pub date: ListDate,
}

/// Form of a date in LIST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListDate {
    /// As `ls`: the time of day for half a year, then the year (default).
    Unix,
    /// Always the year, for parsers that know only one form.
    YearOnly,
}

/// What an upload is whose data connection ends before its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmptyUpload {
    /// A failed one (default): nobody proved that the file is empty.
    Refuse,
    /// An empty file.
    Accept,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            epsv: true,
            list: ListStyle::default(),
            name_charset: UTF_8,
            upload_end: None,
            empty_upload: EmptyUpload::Refuse,
            ignore_set_time: false,
            ignore_chmod: false,
            greeting: None,
        }
    }
}

impl Default for ListStyle {
    fn default() -> Self {
        Self {
            offset: UtcOffset::UTC,
            date: ListDate::Unix,
        }
    }
}
