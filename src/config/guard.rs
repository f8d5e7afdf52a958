//! What keeps guessers and crowds out: bans and bandwidth.

use std::{num::NonZeroU64, path::PathBuf, time::Duration};

use ipnet::IpNet;

/// Who is shut out after failed logins, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bans {
    /// Failed logins within `window` that ban an address; 0: addresses are never banned. Default 20.
    pub failures_per_address: u32,
    /// The same of a network: /24 of IPv4, /64 of IPv6; default 200.
    pub failures_per_network: u32,
    /// The same of a user name, known or not; default 0, since a stranger could lock a user out.
    pub failures_per_user: u32,
    /// Time over which failures are counted; default 10 minutes.
    pub window: Duration,
    /// Length of the first ban; each further one is twice as long. Default 5 minutes.
    pub first: Duration,
    /// No ban is longer, and after as long without one the length starts anew; default a day.
    pub longest: Duration,
    /// Never counted and never banned, and logins from here get past the ban of a user.
    pub safe_networks: Vec<IpNet>,
    /// Users who are never banned by name.
    pub safe_users: Vec<String>,
    /// Where bans survive a restart.
    pub state_file: Option<PathBuf>,
}

/// Most bytes a second each way; `None` is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// From the client.
    pub upload: Option<NonZeroU64>,
    /// To the client, listings included.
    pub download: Option<NonZeroU64>,
}

/// Bandwidth for everybody; listeners have their own [`Rates`] besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// Of one session.
    pub session: Rates,
    /// Of all sessions of one user together.
    pub user: Rates,
}

impl Default for Bans {
    fn default() -> Self {
        Self {
            failures_per_address: 20,
            failures_per_network: 200,
            failures_per_user: 0,
            window: Duration::from_mins(10),
            first: Duration::from_mins(5),
            longest: Duration::from_hours(24),
            safe_networks: Vec::new(),
            safe_users: Vec::new(),
            state_file: None,
        }
    }
}
