//! [`TrailFile`]: a file of lines that is rotated by size and age.
//!
//! Lines are whole: one that a crash cut is ended before the next is written, and a write that fails
//! half way is taken back. A file that somebody else moves or removes (logrotate) is made anew.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use time::{OffsetDateTime, format_description::FormatItem, macros::format_description};

use crate::config::{AuditFile, AuditSync};

/// In the names of rotated files; sorts as text.
const STAMP: &[FormatItem<'_>] =
    format_description!("[year][month][day]T[hour][minute][second].[subsecond digits:6]Z");

/// The file that is written now.
pub(super) struct TrailFile {
    settings: AuditFile,
    open: Option<Open>,
}

struct Open {
    file: File,
    length: u64,
    born: SystemTime,
    /// Device and inode.
    identity: (u64, u64),
}

impl TrailFile {
    /// Opens or makes the file; only its owner may read it.
    pub(super) fn open(settings: AuditFile) -> io::Result<Self> {
        let open = Some(open(&settings.path)?);
        Ok(Self { settings, open })
    }

    pub(super) fn path(&self) -> &Path {
        &self.settings.path
    }

    /// Appends whole lines.
    ///
    /// # Errors
    /// Nothing of them is in the file; it is opened anew at the next try.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let settings = &self.settings;
        let mut current = match self.open.take() {
            Some(current) if is_at(&settings.path, current.identity) => current,
            _ => open(&settings.path)?,
        };
        let age = current.born.elapsed().unwrap_or_default();
        let grown = current.length + lines.len() as u64 > settings.rotate_bytes;
        if current.length > 0 && (grown || age >= settings.rotate_age) {
            current.file.sync_all()?;
            rotate(&settings.path, settings.keep_files)?;
            current = open(&settings.path)?;
        }
        let before = current.length;
        let written = current.file.write_all(lines).and_then(|()| {
            current.length += lines.len() as u64;
            match settings.sync {
                AuditSync::Batch => current.file.sync_data(),
                AuditSync::System => Ok(()),
            }
        });
        if let Err(error) = written {
            // A full disk takes a part of a line; should this fail too, the next open ends the line.
            let _ = current.file.set_len(before);
            return Err(error);
        }
        self.open = Some(current);
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<Open> {
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    let facts = file.metadata()?;
    let mut length = facts.len();
    if length > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            length += 1;
        }
    }
    Ok(Open {
        file,
        length,
        // Not every file system knows; then the age begins with the last change.
        born: facts.created().or_else(|_| facts.modified())?,
        identity: (facts.dev(), facts.ino()),
    })
}

fn is_at(path: &Path, identity: (u64, u64)) -> bool {
    fs::metadata(path).is_ok_and(|facts| (facts.dev(), facts.ino()) == identity)
}

/// Moves the file aside and removes the oldest of those that were.
fn rotate(path: &Path, keep: usize) -> io::Result<()> {
    let now = OffsetDateTime::from(SystemTime::now());
    let stamp = now.format(STAMP).map_err(io::Error::other)?;
    let mut aside = path.as_os_str().to_owned();
    aside.push(".");
    aside.push(&stamp);
    fs::rename(path, &aside)?;
    let mut rotated = rotated(path)?;
    rotated.sort();
    let surplus = rotated.len().saturating_sub(keep);
    for old in &rotated[..surplus] {
        fs::remove_file(old)?;
    }
    Ok(())
}

/// The rotated files beside `path`: its name, a dot and a time.
fn rotated(path: &Path) -> io::Result<Vec<PathBuf>> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_stamp = |text: &str| {
        text.len() == 23
            && text.ends_with('Z')
            && text
                .chars()
                .all(|c| c.is_ascii_digit() || "TZ.".contains(c))
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let other = entry.file_name();
        let other = other.to_string_lossy();
        let stamp = other
            .strip_prefix(&*name)
            .and_then(|rest| rest.strip_prefix('.'));
        if stamp.is_some_and(is_stamp) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn settings(directory: &Path) -> AuditFile {
        AuditFile {
            path: directory.join("audit.jsonl"),
            rotate_bytes: 100,
            rotate_age: Duration::from_hours(1),
            keep_files: 2,
            sync: AuditSync::Batch,
        }
    }

    #[test]
    fn file_is_rotated_by_size_and_the_oldest_go() {
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(directory.path());
        let mut file = TrailFile::open(settings.clone()).unwrap();
        for number in 0..10 {
            let line = format!("{number}{}\n", "x".repeat(48));
            file.write(line.as_bytes()).unwrap();
        }
        let mut rotated = rotated(&settings.path).unwrap();
        rotated.sort();
        assert_eq!(rotated.len(), 2, "{rotated:?}");
        let kept: String = rotated
            .iter()
            .chain([&settings.path])
            .map(|path| fs::read_to_string(path).unwrap())
            .collect();
        let numbers: Vec<_> = kept.lines().map(|line| &line[..1]).collect();
        assert_eq!(numbers, ["4", "5", "6", "7", "8", "9"]);
        let mode = fs::metadata(&settings.path).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn old_file_is_rotated() {
        let directory = tempfile::tempdir().unwrap();
        let settings = AuditFile {
            rotate_age: Duration::ZERO,
            ..settings(directory.path())
        };
        let mut file = TrailFile::open(settings.clone()).unwrap();
        file.write(b"one\n").unwrap();
        file.write(b"two\n").unwrap();
        assert_eq!(rotated(&settings.path).unwrap().len(), 1);
        assert_eq!(fs::read(&settings.path).unwrap(), b"two\n");
    }

    #[test]
    fn cut_line_is_ended_and_a_moved_file_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(directory.path());
        fs::write(&settings.path, "half a li").unwrap();
        let mut file = TrailFile::open(settings.clone()).unwrap();
        file.write(b"whole\n").unwrap();
        assert_eq!(fs::read(&settings.path).unwrap(), b"half a li\nwhole\n");
        fs::rename(&settings.path, directory.path().join("elsewhere")).unwrap();
        file.write(b"next\n").unwrap();
        assert_eq!(fs::read(&settings.path).unwrap(), b"next\n");
    }
}
