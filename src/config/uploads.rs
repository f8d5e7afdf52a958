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
    /// How much stays at most; beyond, the oldest is given up.
    pub kept: KeptBounds,
}

/// How much interrupted uploads may leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptBounds {
    /// Of one user; default 100 uploads and 100 GiB.
    pub user: KeptLimit,
    /// Of all together, of this process; default 10,000 uploads and 1 TiB.
    pub all: KeptLimit,
}

/// A number of uploads and their bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptLimit {
    /// Uploads.
    pub uploads: u64,
    /// Bytes of them together.
    pub bytes: u64,
}

impl Default for Uploads {
    fn default() -> Self {
        Self {
            resume: false,
            keep: Duration::from_hours(24),
            sweep: Duration::from_hours(1),
            kept: KeptBounds {
                user: KeptLimit {
                    uploads: 100,
                    bytes: 100 << 30,
                },
                all: KeptLimit {
                    uploads: 10_000,
                    bytes: 1 << 40,
                },
            },
        }
    }
}
