//! Uploads: what becomes of interrupted ones.

use std::time::Duration;

/// What becomes of interrupted uploads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploads {
    /// Whether what was received stays, for its user alone, and can be continued; default: no.
    pub resume: bool,
    /// How long it stays, and how long an upload of ours that nobody continues may lie in a store
    /// before the sweep ends it; default 24 h.
    pub keep: Duration,
    /// Time between two sweeps; default 1 h.
    pub sweep: Duration,
}

impl Default for Uploads {
    fn default() -> Self {
        Self {
            resume: false,
            keep: Duration::from_hours(24),
            sweep: Duration::from_hours(1),
        }
    }
}
