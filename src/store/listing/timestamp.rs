//! The 14 digits of RFC 3659 §2.3, `YYYYMMDDHHMMSS` in UTC, written and read.

use std::time::{Duration, SystemTime};

use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

/// First and last second with a year of four digits.
const SECONDS: std::ops::RangeInclusive<i64> = -62_167_219_200..=253_402_300_799;

/// `modified` as MDTM and the `modify` fact print it: 14 digits, UTC, no fraction, so that the two
/// are equal (O29). Times before year 0 or after 9999 are shown as that year's bound.
pub fn mdtm(modified: SystemTime) -> String {
    let date = calendar(modified);
    format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}",
        date.year(),
        u8::from(date.month()),
        date.day(),
        date.hour(),
        date.minute(),
        date.second()
    )
}

/// Reads `YYYYMMDDHHMMSS` with an optional fraction `.s` to `.sssssssss`; `None` for anything else,
/// for dates the calendar does not have, and for the leap second :60.
pub fn parse_time(text: &str) -> Option<SystemTime> {
    let (digits, fraction) = match text.split_once('.') {
        Some((digits, fraction)) => (digits, Some(fraction)),
        None => (text, None),
    };
    if digits.len() != 14 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanoseconds = match fraction {
        None => 0,
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            // More digits than nine say nothing a clock could mean.
            format!("{digits:0<9}")
                .parse::<u32>()
                .ok()
                .filter(|_| digits.len() <= 9)?
        }
        Some(_) => return None,
    };
    let year = digits[..4].parse().ok()?;
    let mut pairs = digits.as_bytes()[4..]
        .chunks(2)
        .map(|pair| (pair[0] - b'0') * 10 + (pair[1] - b'0'));
    let month = Month::try_from(pairs.next()?).ok()?;
    let date = Date::from_calendar_date(year, month, pairs.next()?).ok()?;
    let time = Time::from_hms(pairs.next()?, pairs.next()?, pairs.next()?).ok()?;
    let seconds = PrimitiveDateTime::new(date, time)
        .assume_utc()
        .unix_timestamp();
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let instant = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(whole)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(whole)
    };
    instant?.checked_add(Duration::from_nanos(nanoseconds.into()))
}

/// The whole second at or before `instant`, held to the years of four digits.
pub(super) fn calendar(instant: SystemTime) -> OffsetDateTime {
    let seconds = match instant.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => {
            let before = before.duration();
            let whole = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            -whole - i64::from(before.subsec_nanos() > 0)
        }
    };
    let seconds = seconds.clamp(*SECONDS.start(), *SECONDS.end());
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
