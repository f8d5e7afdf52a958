//! [`Spool`]: events on the disk that one webhook has not taken yet.
//!
//! One file each, written beside its place, synced and then renamed, so a crash leaves a whole event or
//! none. Names begin with the time in milliseconds: their order is the order of the events.

use std::{
    collections::{BTreeMap, BTreeSet},
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
    waiting: Mutex<Waiting>,
    /// Something came.
    pub(super) arrived: Notify,
    /// One writer at a time.
    dead: Mutex<()>,
}

/// Events by file name. Bounded by `events.spool_events` and the number of running transfers. Each is in one
/// of `ready` and `later` as well, or on its way: a hundred thousand that wait for a receiver which is away
/// must not be walked through for each try.
#[derive(Debug, Default)]
struct Waiting {
    all: BTreeMap<String, Attempts>,
    ready: BTreeSet<String>,
    later: BTreeSet<(Instant, String)>,
}

/// How often an event was tried.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attempts {
    pub(super) count: u32,
    /// When it is its turn again, once it was refused.
    due: Option<Instant>,
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
        let mut waiting = Waiting::default();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.ends_with(UNFINISHED) {
                fs::remove_file(entry.path())?;
            } else if name.ends_with(SUFFIX) {
                waiting.add(name);
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
        self.table().all.len()
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
        self.table().add(name);
        self.arrived.notify_one();
        Ok(())
    }

    /// The oldest event whose turn it is; it is marked as on its way.
    pub(super) fn next(&self, now: Instant) -> Turn {
        let mut table = self.table();
        let Waiting { all, ready, later } = &mut *table;
        while let Some((due, name)) = later.pop_first() {
            if due > now {
                later.insert((due, name));
                break;
            }
            ready.insert(name);
        }
        while let Some(name) = ready.pop_first() {
            if let Some(attempts) = all.get_mut(&name) {
                attempts.count += 1;
                attempts.due = None;
                return Turn::Deliver(name, *attempts);
            }
        }
        Turn::Rest(later.first().map(|(due, _)| *due))
    }

    /// It was not taken: again after `pause`.
    pub(super) fn postpone(&self, name: &str, pause: Duration) {
        let (mut table, due) = (self.table(), Instant::now() + pause);
        let Waiting { all, later, .. } = &mut *table;
        if let Some(attempts) = all.get_mut(name) {
            attempts.due = Some(due);
            later.insert((due, name.to_owned()));
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
        self.table().forget(name);
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
    fn table(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn add(&mut self, name: String) {
        self.ready.insert(name.clone());
        self.all.insert(name, Attempts::default());
    }

    fn forget(&mut self, name: &str) {
        if let Some(due) = self.all.remove(name).and_then(|attempts| attempts.due) {
            self.later.remove(&(due, name.to_owned()));
        }
        self.ready.remove(name);
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

    /// A receiver that is away for hours: the more wait, the less each try may cost.
    #[test]
    fn next_of_a_hundred_thousand_is_found_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::open(directory.path()).unwrap();
        for number in 0..100_000 {
            spool.table().add(format!("{number:015}-x.json"));
        }
        let start = Instant::now();
        for number in 0..100_000 {
            let Turn::Deliver(name, attempts) = spool.next(start) else {
                panic!("{number} must be due")
            };
            assert_eq!(
                (attempts.count, &name[..15]),
                (1, &*format!("{number:015}"))
            );
            spool.postpone(&name, Duration::from_mins(1 + number % 5));
        }
        let Turn::Rest(Some(due)) = spool.next(Instant::now()) else {
            panic!("all were refused")
        };
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{:?}",
            start.elapsed()
        );
        let Turn::Deliver(first, attempts) = spool.next(due) else {
            panic!("one is due again")
        };
        assert_eq!((attempts.count, &first[..15]), (2, "000000000000000"));
        spool.remove(&first);
        spool.remove("000000000000001-x.json");
        assert_eq!(spool.waiting(), 99_998);
        assert_eq!(spool.table().later.len(), 99_998);
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
