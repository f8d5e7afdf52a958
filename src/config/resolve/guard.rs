//! Bans and bandwidth.

use std::{num::NonZeroU64, time::Duration};

use super::{
    super::{Bandwidth, Bans, Rates, typed::Table, yaml::Node},
    SECONDS,
    passive::networks,
};

pub(super) const BANS: [&str; 9] = [
    "failures_per_address",
    "failures_per_network",
    "failures_per_user",
    "window_seconds",
    "first_seconds",
    "longest_seconds",
    "safe_networks",
    "safe_users",
    "state_file",
];

pub(super) const BANDWIDTH: [&str; 4] = [
    "session_upload_bytes_per_second",
    "session_download_bytes_per_second",
    "user_upload_bytes_per_second",
    "user_download_bytes_per_second",
];

/// Below, a transfer would hardly outlive its own deadlines.
const LEAST_RATE: u64 = 1 << 10;
/// A year: longer bans are for the operator to set.
const LONGEST_BAN_SECONDS: u64 = 366 * 24 * 3600;

pub(super) fn bans(table: &Table<'_>) -> Option<Bans> {
    let default = Bans::default();
    let failures = |key, default| table.integer(key, default, 0..=1_000_000);
    let failures_per_address = failures("failures_per_address", default.failures_per_address);
    let failures_per_network = failures("failures_per_network", default.failures_per_network);
    let failures_per_user = failures("failures_per_user", default.failures_per_user);
    let seconds = |key, default: Duration, range| {
        table
            .integer(key, default.as_secs(), range)
            .map(Duration::from_secs)
    };
    let window = seconds("window_seconds", default.window, SECONDS);
    let first = seconds("first_seconds", default.first, 1..=LONGEST_BAN_SECONDS);
    let longest = seconds("longest_seconds", default.longest, 1..=LONGEST_BAN_SECONDS);
    if let (Some(first), Some(longest)) = (first, longest)
        && longest < first
    {
        let message = format!(
            "shorter than first_seconds: {} < {}",
            longest.as_secs(),
            first.as_secs()
        );
        table.error("longest_seconds", message);
    }
    let safe_networks = networks(table, "safe_networks");
    table.default("safe_users", Node::Sequence(Vec::new()));
    let safe_users = table.optional_list("safe_users", "a list of login names");
    let safe_users = safe_users.and_then(|items| {
        let names: Vec<_> = items.iter().map(|item| item.text("a login name")).collect();
        let names = names.into_iter().map(|name| Some(name?.value));
        names.collect::<Option<Vec<_>>>()
    });
    let state_file = table.optional_file("state_file", "the path of a file");
    Some(Bans {
        failures_per_address: failures_per_address?,
        failures_per_network: failures_per_network?,
        failures_per_user: failures_per_user?,
        window: window?,
        first: first?,
        longest: longest?,
        safe_networks: safe_networks?,
        safe_users: safe_users?,
        state_file: state_file?,
    })
}

pub(super) fn bandwidth_of(table: &Table<'_>) -> Option<Bandwidth> {
    let session = rates(
        table,
        "session_upload_bytes_per_second",
        "session_download_bytes_per_second",
    );
    let user = rates(
        table,
        "user_upload_bytes_per_second",
        "user_download_bytes_per_second",
    );
    Some(Bandwidth {
        session: session?,
        user: user?,
    })
}

/// The two rates at these keys; 0 is unlimited.
pub(super) fn rates(table: &Table<'_>, upload: &str, download: &str) -> Option<Rates> {
    let read = |key| {
        let rate = table.integer(key, 0, 0..=1 << 40)?;
        if (1..LEAST_RATE).contains(&rate) {
            let message =
                format!("expected 0 (unlimited) or at least {LEAST_RATE}, found the number {rate}");
            table.error(key, message);
            return None;
        }
        Some(NonZeroU64::new(rate))
    };
    let (upload, download) = (read(upload), read(download));
    Some(Rates {
        upload: upload?,
        download: download?,
    })
}
