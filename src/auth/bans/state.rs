//! The state file of the bans: JSON, replaced as a whole.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::table::{Ban, BannedBy};

/// A file of all bans a table can hold has about 10 MiB.
const LONGEST_FILE_BYTES: u64 = 32 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct State {
    version: u32,
    bans: Vec<SavedBan>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedBan {
    subject: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    name: Option<String>,
    /// Unix seconds.
    since: u64,
    until: u64,
    count: u32,
    by: String,
}

/// What the file holds; nothing if there is none yet.
pub(super) fn load(file: &Path) -> io::Result<Vec<Ban>> {
    let length = match fs::metadata(file) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    if length > LONGEST_FILE_BYTES {
        return Err(io::Error::other(format!("too long: {length} bytes")));
    }
    let state: State = serde_json::from_slice(&fs::read(file)?)?;
    if state.version != 1 {
        let version = state.version;
        return Err(io::Error::other(format!("of version {version}, not 1")));
    }
    state.bans.into_iter().map(SavedBan::restore).collect()
}

/// Writes a new file beside the old one and puts it in its place. Blocks for the disk.
pub(super) fn save(file: &Path, bans: Vec<Ban>) -> io::Result<()> {
    let state = State {
        version: 1,
        bans: bans.into_iter().map(SavedBan::of).collect(),
    };
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    let mut new = File::create(&beside)?;
    new.write_all(&serde_json::to_vec_pretty(&state)?)?;
    new.sync_all()?;
    fs::rename(&beside, file)
}

impl SavedBan {
    fn of(ban: Ban) -> Self {
        Self {
            subject: ban.subject.to_string(),
            name: ban.name,
            since: seconds(ban.since),
            until: seconds(ban.until),
            count: ban.count,
            by: ban.by.label().to_owned(),
        }
    }

    fn restore(self) -> io::Result<Ban> {
        let by = match &*self.by {
            "operator" => BannedBy::Operator,
            "replica" => BannedBy::Replica,
            _ => BannedBy::Failures,
        };
        Ok(Ban {
            subject: self.subject.parse().map_err(io::Error::other)?,
            name: self.name,
            since: time(self.since)?,
            until: time(self.until)?,
            count: self.count,
            by,
        })
    }
}

/// Whole seconds since 1970, rounded up.
fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() + u64::from(since.subsec_nanos() > 0)
}

fn time(seconds: u64) -> io::Result<SystemTime> {
    UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .ok_or_else(|| io::Error::other("a time beyond all bounds"))
}
