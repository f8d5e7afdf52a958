//! Uploads: what becomes of interrupted ones.

use std::{ops::RangeInclusive, time::Duration};

use super::super::{KeptBounds, KeptLimit, Uploads, typed::Table};

/// A month: what is kept longer is forgotten, not interrupted.
const KEEP_SECONDS: RangeInclusive<u64> = 1..=30 * 24 * 3600;
const SWEEP_SECONDS: RangeInclusive<u64> = 1..=7 * 24 * 3600;

const SWITCH: [(&str, bool); 2] = [("on", true), ("off", false)];

pub(super) const UPLOADS: [&str; 7] = [
    "resume",
    "keep_seconds",
    "sweep_seconds",
    "kept_per_user",
    "kept_per_user_bytes",
    "kept",
    "kept_bytes",
];

pub(super) fn uploads(root: &Table<'_>) -> Option<Uploads> {
    let table = root.section("uploads", &UPLOADS)?;
    let default = Uploads::default();
    let resume = table.choice_or("resume", &SWITCH, default.resume);
    let keep = table.integer("keep_seconds", default.keep.as_secs(), KEEP_SECONDS);
    let sweep = table.integer("sweep_seconds", default.sweep.as_secs(), SWEEP_SECONDS);
    let limit = |uploads: &str, bytes: &str, default: &KeptLimit| {
        let uploads = table.integer(uploads, default.uploads, 1..=1_000_000);
        let bytes = table.integer(bytes, default.bytes, 1..=u64::MAX);
        Some(KeptLimit {
            uploads: uploads?,
            bytes: bytes?,
        })
    };
    let user = limit("kept_per_user", "kept_per_user_bytes", &default.kept.user);
    let all = limit("kept", "kept_bytes", &default.kept.all);
    Some(Uploads {
        kept: KeptBounds {
            user: user?,
            all: all?,
        },
        resume: resume?,
        keep: Duration::from_secs(keep?),
        sweep: Duration::from_secs(sweep?),
    })
}
