//! [`Spool`]: events on the disk that one webhook has not taken yet.
//!
//! One file each, written beside its place, synced and then renamed, so a crash leaves a whole event or
//! none. Names begin with the time in milliseconds: their order is the order of the events.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::sync::Notify;

const DEAD_LETTERS: &str = "dead-letters.jsonl";
/// Then the file takes the place of `dead-letters.1.jsonl`.
const DEAD_BYTES: u64 = 64 << 20;
const SUFFIX: &str = ".json";
const UNFINISHED: &str = ".tmp";

/// What waits for one webhook.
#[derive(Debug)]
pub(super) struct Spool {
    directory: PathBuf,
    /// By file name. Bounded by `events.spool_events` and the number of running transfers.
    waiting: Mutex<BTreeMap<String, Attempts>>,
    /// Something came.
    pub(super) arrived: Notify,
    /// One writer at a time.
    dead: Mutex<()>,
}

/// How often an event was tried, and when it is its turn again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attempts {
    pub(super) count: u32,
    due: Option<Instant>,
    /// It is on its way just now.
    running: bool,
}

/// What is to be done next.
#[derive(Debug)]
pub(super) enum Turn {
    /// Deliver this one.
    Deliver(String, Attempts),
    /// Nothing before this moment; `None`: nothing waits.
    Rest(Option<Instant>),
}

impl Spool {
    /// Makes the directory, removes what a crash left half written and finds what waits.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        let mut waiting = BTreeMap::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.ends_with(UNFINISHED) {
                fs::remove_file(entry.path())?;
            } else if name.ends_with(SUFFIX) {
                waiting.insert(name, Attempts::default());
            }
        }
        // Now, and not at the first event.
        let probe = directory.join("probe.tmp");
        File::create(&probe)?;
        fs::remove_file(&probe)?;
        Ok(Self {
            directory: directory.to_owned(),
            waiting: Mutex::new(waiting),
            arrived: Notify::new(),
            dead: Mutex::new(()),
        })
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.table().len()
    }

    /// Puts an event on the disk for good. Blocks.
    pub(super) fn put(&self, id: &str, body: &str) -> io::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let millis = now.unwrap_or_default().as_millis();
        let name = format!("{millis:015}-{id}{SUFFIX}");
        let unfinished = self.directory.join(format!("{id}{UNFINISHED}"));
        let written = (|| {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&unfinished)?;
            file.write_all(body.as_bytes())?;
            file.sync_all()?;
            fs::rename(&unfinished, self.directory.join(&name))?;
            // The name, too, must outlive a crash of the machine.
            File::open(&self.directory)?.sync_all()
        })();
        if let Err(error) = written {
            // It is reported as not kept: it must not be delivered after all.
            let _ = fs::remove_file(&unfinished);
            let _ = fs::remove_file(self.directory.join(&name));
            return Err(error);
        }
        self.table().insert(name, Attempts::default());
        self.arrived.notify_one();
        Ok(())
    }

    /// The oldest event whose turn it is; it is marked as on its way.
    pub(super) fn next(&self, now: Instant) -> Turn {
        let mut table = self.table();
        let mut soonest = None;
        for (name, attempts) in table.iter_mut().filter(|(_, attempts)| !attempts.running) {
            match attempts.due {
                Some(due) if due > now => {
                    soonest = Some(soonest.map_or(due, |soonest: Instant| soonest.min(due)));
                }
                _ => {
                    attempts.running = true;
                    attempts.count += 1;
                    return Turn::Deliver(name.clone(), *attempts);
                }
            }
        }
        Turn::Rest(soonest)
    }

    /// It was not taken: again after `pause`.
    pub(super) fn postpone(&self, name: &str, pause: Duration) {
        if let Some(attempts) = self.table().get_mut(name) {
            attempts.running = false;
            attempts.due = Some(Instant::now() + pause);
        }
    }

    /// What an event says. Blocks.
    pub(super) fn read(&self, name: &str) -> io::Result<String> {
        fs::read_to_string(self.directory.join(name))
    }

    /// It was taken, or is no more. Blocks.
    pub(super) fn remove(&self, name: &str) {
        if let Err(error) = fs::remove_file(self.directory.join(name))
            && error.kind() != io::ErrorKind::NotFound
        {
            // It is delivered once more after a restart.
            tracing::warn!(event = name, %error, "a delivered event stays in the spool");
        }
        self.table().remove(name);
    }

    /// Puts an event among the dead letters, for people. Blocks.
    pub(super) fn bury(&self, body: &str, reason: &str) -> io::Result<()> {
        let _one = self.dead.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.directory.join(DEAD_LETTERS);
        if fs::metadata(&path).is_ok_and(|facts| facts.len() > DEAD_BYTES) {
            fs::rename(&path, self.directory.join("dead-letters.1.jsonl"))?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        let before = file.seek(SeekFrom::End(0))?;
        let reason = serde_json::Value::from(reason);
        let mut line = format!("{{\"reason\":{reason},\"event\":{body}}}\n");
        if before > 0 {
            // A crash may have cut the last line.
            let mut last = [0];
            file.read_exact_at(&mut last, before - 1)?;
            if last != *b"\n" {
                line.insert(0, '\n');
            }
        }
        let written = file
            .write_all(line.as_bytes())
            .and_then(|()| file.sync_data());
        if written.is_err() {
            // A full disk takes a part of a line, and the event is buried again later.
            let _ = file.set_len(before);
        }
        written
    }

    /// Held for a few moves at a time.
    fn table(&self) -> MutexGuard<'_, BTreeMap<String, Attempts>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How old an event is, by its name.
pub(super) fn age(name: &str) -> Duration {
    let millis = name.split('-').next().and_then(|text| text.parse().ok());
    let born = UNIX_EPOCH + Duration::from_millis(millis.unwrap_or_default());
    SystemTime::now().duration_since(born).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_order_and_outlive_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::open(directory.path()).unwrap();
        spool.put("0a", "{\"n\":1}").unwrap();
        std::thread::sleep(Duration::from_millis(2));
        spool.put("0b", "{\"n\":2}").unwrap();
        fs::write(directory.path().join("0c.tmp"), "{\"n\":").unwrap();
        drop(spool);

        let spool = Spool::open(directory.path()).unwrap();
        assert_eq!(spool.waiting(), 2);
        let now = Instant::now();
        let Turn::Deliver(first, attempts) = spool.next(now) else {
            panic!("one must be due")
        };
        assert!(first.ends_with("-0a.json"), "{first}");
        assert_eq!(attempts.count, 1);
        assert_eq!(spool.read(&first).unwrap(), "{\"n\":1}");
        assert!(age(&first) < Duration::from_mins(1));
        let Turn::Deliver(second, _) = spool.next(now) else {
            panic!("both may be on their way")
        };
        assert!(matches!(spool.next(now), Turn::Rest(None)));
        spool.postpone(&first, Duration::from_mins(1));
        spool.remove(&second);
        assert!(matches!(spool.next(now), Turn::Rest(Some(_))));
        spool.bury("{\"n\":1}", "nobody \"there\"").unwrap();
        spool.remove(&first);
        let dead = fs::read_to_string(directory.path().join(DEAD_LETTERS)).unwrap();
        let dead: serde_json::Value = serde_json::from_str(&dead).unwrap();
        assert_eq!(dead["event"]["n"], 1);
        assert_eq!(Spool::open(directory.path()).unwrap().waiting(), 0);
    }

    #[test]
    fn a_cut_dead_letter_spoils_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::open(directory.path()).unwrap();
        let file = directory.path().join(DEAD_LETTERS);
        fs::write(&file, "{\"reason\":\"gone\",\"ev").unwrap();
        spool.bury("{\"n\":1}", "gone").unwrap();
        spool.bury("{\"n\":2}", "gone").unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let whole: Vec<serde_json::Value> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        assert_eq!(whole.len(), 2, "{text}");
        assert_eq!(whole[1]["event"]["n"], 2);
    }
}
