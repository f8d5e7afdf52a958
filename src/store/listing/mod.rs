//! Formats of LIST, MLSD and MLST lines, of MDTM times, and the glob of `LIST *.txt`.
//!
//! Owns how an [`Entry`] looks to a client (CONFORMANCE 1H, I3, I5, I15, O16).
//! Must not know where entries come from, who asks, nor what time it is: that is an argument. Lines
//! carry no CRLF; names are printed as they are, since a store yields no name with a control
//! character ([`Store::list`](crate::store::Store::list)). Called by the engine's storage backend
//! while it streams a listing, and by [`crate::edge`] for MLST, STAT, MDTM, MFMT and OPTS MLST.

mod facts;
mod glob;
mod timestamp;

use std::time::{Duration, SystemTime};

pub use facts::{Fact, Facts, Permissions, mlsx_line};
pub use glob::Pattern;
pub use timestamp::{mdtm, parse_time};

use self::timestamp::calendar;
use super::{Entry, Kind};
use crate::config::{ListDate, ListStyle};

/// Entries older than this show their year instead of the time of day, as `ls` does.
const RECENT: Duration = Duration::from_hours(180 * 24);

/// How far in the future a change still counts as recent: clocks of stores differ from ours.
const SKEW: Duration = Duration::from_hours(24);

/// English whatever the locale: clients match on these (H1).
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// One line of LIST as Unix `ls -l` prints it (H1): times in the style's zone and form (UTC
/// by default), the name after exactly one space.
///
/// Owner and group are always `ftp`: the store knows none, and account names may hold spaces, which
/// would shift the columns that clients count. The mode says what is usual, not what is allowed;
/// that is the `perm` fact's work. A change the store does not know is shown as 1970.
pub fn list_line(entry: &Entry, now: SystemTime, style: ListStyle) -> String {
    let (mode, size) = match entry.stat.kind {
        Kind::File => ("-rw-r--r--", entry.stat.size),
        Kind::Directory => ("drwxr-xr-x", 0),
    };
    let modified = entry.stat.modified.unwrap_or(SystemTime::UNIX_EPOCH);
    let recent = style.date == ListDate::Unix
        && match now.duration_since(modified) {
            Ok(age) => age < RECENT,
            Err(ahead) => ahead.duration() <= SKEW,
        };
    let date = calendar(modified);
    // The bounds of the calendar stay in UTC: nobody reads the hour of those.
    let date = date.checked_to_offset(style.offset).unwrap_or(date);
    let month = MONTHS[usize::from(u8::from(date.month())) - 1];
    let day = date.day();
    let clock = if recent {
        format!("{:02}:{:02}", date.hour(), date.minute())
    } else {
        format!("{:>5}", date.year())
    };
    format!(
        "{mode}   1 ftp      ftp      {size:>12} {month} {day:>2} {clock} {}",
        entry.name
    )
}

#[cfg(test)]
mod tests;
