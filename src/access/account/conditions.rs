//! [`Conditions`]: when, from where and how an account may log in.

// Data types only; nothing here speaks to a network.
use core::net::IpAddr;
use std::{collections::BTreeSet, fmt, sync::Arc, time::SystemTime};

use ipnet::IpNet;
use time::{OffsetDateTime, UtcOffset};

/// What must hold at the moment of a login. Of each list of lists (a user's and those of its groups)
/// every one must be satisfied; an empty list asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// `false`: nobody logs in as this user.
    pub disabled: bool,
    /// The first moment at which the account is no longer valid.
    pub expires: Option<SystemTime>,
    /// Where clients may come from.
    pub networks: Vec<Vec<IpNet>>,
    /// Listeners by name.
    pub listeners: Vec<BTreeSet<Arc<str>>>,
    /// Times of the week.
    pub hours: Vec<Hours>,
    /// The control connection must be under TLS.
    pub tls: bool,
}

/// Times of the week.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hours {
    /// The zone of the windows, as distance from UTC.
    pub offset: UtcOffset,
    /// One of them must hold the moment.
    pub windows: Vec<Window>,
}

/// A span of time on certain days: `mon-fri 06:00-20:00`. One that ends before it begins ends on the
/// next day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Bit 0 is Monday.
    days: u8,
    /// Minutes of the day; the last one does not belong to it. At most 24:00.
    from: u16,
    to: u16,
}

/// A login as far as conditions look at it.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// Of the login.
    pub now: SystemTime,
    /// The client's.
    pub address: IpAddr,
    /// Its name.
    pub listener: &'a str,
    /// The control connection is under TLS.
    pub encrypted: bool,
}

/// A login of which not everything is known.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Of the login.
    pub now: SystemTime,
    /// The client's; `None`: networks are not looked at.
    pub address: Option<IpAddr>,
    /// Its name; `None`: listeners are not looked at.
    pub listener: Option<&'a str>,
    /// The control connection is under TLS.
    pub encrypted: bool,
}

/// Which condition does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// `enabled: false`.
    #[error("the account is disabled")]
    Disabled,
    /// `expires`.
    #[error("the account has expired")]
    Expired,
    /// `allowed_networks`.
    #[error("not from this network")]
    Network,
    /// `allowed_listeners`.
    #[error("not on this listener")]
    Listener,
    /// `hours`.
    #[error("not at this time")]
    Hours,
    /// `require_tls`.
    #[error("not without TLS")]
    ClearText,
}

impl Conditions {
    /// Whether a login may go on.
    ///
    /// # Errors
    /// The first condition that does not hold.
    pub fn admit(&self, login: &Circumstances<'_>) -> Result<(), NotAdmitted> {
        if self.disabled {
            return Err(NotAdmitted::Disabled);
        }
        if self.expires.is_some_and(|expires| login.now >= expires) {
            return Err(NotAdmitted::Expired);
        }
        // ::ffff:a.b.c.d is the IPv4 address it carries.
        let address = login.address.to_canonical();
        let within = |networks: &Vec<IpNet>| networks.iter().any(|net| net.contains(&address));
        if !self.networks.iter().all(within) {
            return Err(NotAdmitted::Network);
        }
        let named = |listeners: &BTreeSet<Arc<str>>| listeners.contains(login.listener);
        if !self.listeners.iter().all(named) {
            return Err(NotAdmitted::Listener);
        }
        if !self.hours.iter().all(|hours| hours.hold(login.now)) {
            return Err(NotAdmitted::Hours);
        }
        if self.tls && !login.encrypted {
            return Err(NotAdmitted::ClearText);
        }
        Ok(())
    }

    /// Whether a login may go on as far as can be said.
    ///
    /// # Errors
    /// The first condition that does not hold.
    pub fn admit_as_known(&self, login: &Known<'_>) -> Result<(), NotAdmitted> {
        let mut conditions = self.clone();
        if login.address.is_none() {
            conditions.networks.clear();
        }
        if login.listener.is_none() {
            conditions.listeners.clear();
        }
        conditions.admit(&Circumstances {
            now: login.now,
            address: login.address.unwrap_or(IpAddr::from([0, 0, 0, 0])),
            listener: login.listener.unwrap_or_default(),
            encrypted: login.encrypted,
        })
    }

    /// What must hold besides `enabled` and `expires`, a line each.
    pub fn words(&self) -> Vec<String> {
        let join = |words: Vec<String>| words.join(", ");
        let mut lines = Vec::new();
        for networks in &self.networks {
            let networks = networks.iter().map(ToString::to_string).collect();
            lines.push(format!("from {}", join(networks)));
        }
        for listeners in &self.listeners {
            let listeners = listeners.iter().map(ToString::to_string).collect();
            lines.push(format!("on {}", join(listeners)));
        }
        for hours in &self.hours {
            let windows = hours.windows.iter().map(ToString::to_string).collect();
            lines.push(format!("{}, time zone {}", join(windows), hours.offset));
        }
        if self.tls {
            lines.push("under TLS".to_owned());
        }
        lines
    }

    /// The first moment from `now` on at which `expires` or `hours` no longer hold; `None` if that
    /// never comes. The others cannot change while a session lasts.
    pub fn end(&self, now: SystemTime) -> Option<SystemTime> {
        let hours = self.hours.iter().filter_map(|hours| hours.end(now));
        self.expires.into_iter().chain(hours).min()
    }

    /// Adds the conditions of `other`: afterwards both must hold.
    pub fn extend(&mut self, other: &Self) {
        self.disabled |= other.disabled;
        self.expires = [self.expires, other.expires].into_iter().flatten().min();
        self.networks.extend(other.networks.iter().cloned());
        self.listeners.extend(other.listeners.iter().cloned());
        self.hours.extend(other.hours.iter().cloned());
        self.tls |= other.tls;
    }
}

impl Hours {
    fn hold(&self, now: SystemTime) -> bool {
        let now = OffsetDateTime::from(now).to_offset(self.offset);
        let day = now.weekday().number_days_from_monday();
        let minute = u16::from(now.hour()) * 60 + u16::from(now.minute());
        self.windows.iter().any(|window| window.holds(day, minute))
    }

    /// The first full minute at which no window holds, or `now` itself. What holds for a week holds
    /// for ever.
    fn end(&self, now: SystemTime) -> Option<SystemTime> {
        const WEEK: i64 = 7 * 24 * 60;
        if !self.hold(now) {
            return Some(now);
        }
        let local = OffsetDateTime::from(now).to_offset(self.offset);
        let minute = local.replace_nanosecond(0).ok()?.replace_second(0).ok()?;
        let mut minutes = (1..=WEEK).map(|count| minute + time::Duration::minutes(count));
        let end = minutes.find(|minute| !self.hold((*minute).into()))?;
        Some(end.into())
    }
}

impl Window {
    /// Reads `mon-fri 06:00-20:00`, `sat,sun 00:00-24:00` or, for every day, `22:00-06:00`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let (days, span) = match (words.next(), words.next(), words.next()) {
            (Some(span), None, _) => (0x7F, span),
            (Some(days), Some(span), None) => (parse_days(days)?, span),
            _ => return None,
        };
        let (from, to) = span.split_once('-')?;
        let (from, to) = (parse_minute(from)?, parse_minute(to)?);
        (from != to && from < 24 * 60).then_some(Self { days, from, to })
    }

    fn holds(self, day: u8, minute: u16) -> bool {
        let on = |day: u8| self.days & (1 << day) != 0;
        if self.from < self.to {
            return on(day) && (self.from..self.to).contains(&minute);
        }
        let yesterday = (day + 6) % 7;
        (on(day) && minute >= self.from) || (on(yesterday) && minute < self.to)
    }
}

/// `mon,tue,wed 06:00-20:00`.
impl fmt::Display for Window {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != 0x7F {
            let on = |day: &usize| self.days & (1 << day) != 0;
            let days: Vec<&str> = (0..DAYS.len()).filter(on).map(|day| DAYS[day]).collect();
            write!(formatter, "{} ", days.join(","))?;
        }
        let (from, to) = (self.from, self.to);
        let (from, of_from, to, of_to) = (from / 60, from % 60, to / 60, to % 60);
        write!(formatter, "{from:02}:{of_from:02}-{to:02}:{of_to:02}")
    }
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

fn parse_days(text: &str) -> Option<u8> {
    let day = |word: &str| DAYS.iter().position(|day| word.eq_ignore_ascii_case(day));
    let mut days = 0;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut at, last) = (day(first)?, day(last)?);
        days |= 1 << at;
        // `fri-mon` goes over the weekend.
        while at != last {
            at = (at + 1) % 7;
            days |= 1 << at;
        }
    }
    Some(days)
}

fn parse_minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let two = |digits: &str| digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit());
    if !two(hour) || !two(minute) {
        return None;
    }
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    let minutes = hour * 60 + minute;
    (minute < 60 && minutes <= 24 * 60).then_some(minutes)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    /// 2026-11-23 is a Monday.
    fn at(moment: OffsetDateTime) -> Circumstances<'static> {
        Circumstances {
            now: moment.into(),
            address: "192.0.2.7".parse().unwrap(),
            listener: "public",
            encrypted: true,
        }
    }

    #[test]
    fn windows_hold_their_days_and_hours() {
        let monday = datetime!(2026-11-23 00:00 UTC);
        for (window, hour, expected) in [
            ("mon-fri 06:00-20:00", 5, false),
            ("mon-fri 06:00-20:00", 6, true),
            ("mon-fri 06:00-20:00", 19, true),
            ("mon-fri 06:00-20:00", 20, false),
            ("mon-fri 06:00-20:00", 4 * 24 + 12, true),
            ("mon-fri 06:00-20:00", 5 * 24 + 12, false),
            ("06:00-20:00", 6 * 24 + 12, true),
            ("22:00-06:00", 23, true),
            ("22:00-06:00", 3, true),
            ("22:00-06:00", 12, false),
            ("sun 22:00-06:00", 3, true),
            ("sun 22:00-06:00", 23, false),
            ("MON 22:00-06:00", 27, true),
            ("fri-mon 00:00-24:00", 23, true),
            ("fri-mon 00:00-24:00", 24, false),
            ("tue,sun 00:00-24:00", 24, true),
        ] {
            let hours = Hours {
                offset: UtcOffset::UTC,
                windows: vec![Window::parse(window).unwrap()],
            };
            let moment = monday + time::Duration::hours(hour);
            assert_eq!(hours.hold(moment.into()), expected, "{window} {hour}");
            // As shown, it is the same.
            let parsed = Window::parse(&hours.windows[0].to_string());
            assert_eq!(parsed, Some(hours.windows[0]), "{window}");
        }
        let hours = Hours {
            offset: UtcOffset::from_hms(2, 0, 0).unwrap(),
            windows: vec![Window::parse("tue 00:00-01:00").unwrap()],
        };
        assert!(hours.hold((monday + time::Duration::hours(22)).into()));
    }

    #[test]
    fn time_of_an_account_ends_with_its_first_condition() {
        let monday = datetime!(2026-11-23 12:30:15 UTC);
        let hours = |windows: &[&str]| Hours {
            offset: UtcOffset::from_hms(1, 0, 0).unwrap(),
            windows: windows
                .iter()
                .map(|window| Window::parse(window).unwrap())
                .collect(),
        };
        for (windows, expires, expected) in [
            (&[][..], None, None),
            (&[], Some(monday), Some(monday)),
            (
                &[&["06:00-20:00"][..]],
                None,
                Some(datetime!(2026-11-23 19:00 UTC)),
            ),
            // One follows the other, over midnight.
            (
                &[&["mon 06:00-20:00", "20:00-24:00", "tue 00:00-01:30"]],
                None,
                Some(datetime!(2026-11-24 00:30 UTC)),
            ),
            (
                &[&["mon-fri 00:00-24:00"], &["mon-wed 00:00-24:00"]],
                None,
                Some(datetime!(2026-11-25 23:00 UTC)),
            ),
            (&[&["00:00-24:00"]], None, None),
            (&[&["tue 00:00-24:00"]], None, Some(monday)),
            (
                &[&["06:00-20:00"]],
                Some(datetime!(2026-11-23 18:59:59 UTC)),
                Some(datetime!(2026-11-23 18:59:59 UTC)),
            ),
        ] {
            let conditions = Conditions {
                hours: windows.iter().map(|windows| hours(windows)).collect(),
                expires: expires.map(Into::into),
                ..Conditions::default()
            };
            let end = conditions.end(monday.into());
            assert_eq!(end.map(OffsetDateTime::from), expected, "{windows:?}");
            // At the end nobody logs in any more, and a moment before somebody could.
            if let Some(end) = end.filter(|end| *end > SystemTime::from(monday)) {
                let circumstances = |now| Circumstances { now, ..at(monday) };
                let before = end - std::time::Duration::from_secs(1);
                assert!(
                    conditions.admit(&circumstances(end)).is_err(),
                    "{windows:?}"
                );
                assert_eq!(conditions.admit(&circumstances(before)), Ok(()));
            }
        }
    }

    #[test]
    fn odd_windows_are_refused() {
        for text in [
            "",
            "mon",
            "mon-fri",
            "06:00",
            "6:00-20:00",
            "06:00-25:00",
            "06:60-07:00",
            "mo 06:00-07:00",
            "06:00-06:00",
            "24:00-06:00",
            "mon 06:00-07:00 x",
            "mon- 06:00-07:00",
        ] {
            assert_eq!(Window::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn every_condition_must_hold() {
        let now = datetime!(2026-11-23 12:00 UTC);
        let good = at(now);
        let nets = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect();
        let conditions = |change: &dyn Fn(&mut Conditions)| {
            let mut conditions = Conditions::default();
            change(&mut conditions);
            conditions
        };
        for (conditions, expected) in [
            (Conditions::default(), Ok(())),
            (
                conditions(&|c| c.disabled = true),
                Err(NotAdmitted::Disabled),
            ),
            (
                conditions(&|c| c.expires = Some(now.into())),
                Err(NotAdmitted::Expired),
            ),
            (
                conditions(&|c| c.expires = Some((now + time::Duration::SECOND).into())),
                Ok(()),
            ),
            (
                conditions(&|c| c.networks = vec![nets(&["10.0.0.0/8", "192.0.2.0/24"])]),
                Ok(()),
            ),
            (
                conditions(&|c| {
                    c.networks = vec![nets(&["192.0.2.0/24"]), nets(&["192.0.2.8/32"])];
                }),
                Err(NotAdmitted::Network),
            ),
            (
                conditions(&|c| c.listeners = vec![["inside".into()].into()]),
                Err(NotAdmitted::Listener),
            ),
            (
                conditions(&|c| c.listeners = vec![["inside".into(), "public".into()].into()]),
                Ok(()),
            ),
            (
                conditions(&|c| {
                    c.hours = vec![Hours {
                        offset: UtcOffset::UTC,
                        windows: vec![Window::parse("tue 00:00-24:00").unwrap()],
                    }];
                }),
                Err(NotAdmitted::Hours),
            ),
            (conditions(&|c| c.tls = true), Ok(())),
        ] {
            assert_eq!(conditions.admit(&good), expected, "{conditions:?}");
            // Adding no condition, or the same one, changes nothing.
            let mut twice = conditions.clone();
            twice.extend(&Conditions::default());
            twice.extend(&conditions);
            assert_eq!(twice.admit(&good), expected, "{conditions:?}");
        }
        let clear = Circumstances {
            encrypted: false,
            ..good
        };
        let tls = conditions(&|c| c.tls = true);
        assert_eq!(tls.admit(&clear), Err(NotAdmitted::ClearText));
        let mapped = Circumstances {
            address: "::ffff:192.0.2.7".parse().unwrap(),
            ..good
        };
        let network = conditions(&|c| c.networks = vec![nets(&["192.0.2.0/24"])]);
        assert_eq!(network.admit(&mapped), Ok(()));
    }
}
