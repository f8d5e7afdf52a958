//! Backends: their types, and local directories.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    super::{
        Backend, Durability, FsBackend, SetTime,
        typed::{Item, Table},
    },
    buckets::{self, AZBLOB, GCS, MEMORY, OPENDAL},
    s3::{S3, s3},
};

/// Bytes that a disk keeps free.
const FREE_SPACE_BYTES: u64 = 64 << 20;

pub(super) const LOCAL_TIMES: [(&str, SetTime); 3] = [
    ("store", SetTime::Store),
    ("ignore", SetTime::Ignore),
    ("refuse", SetTime::Refuse),
];
const DURABILITY: [(&str, Durability); 2] =
    [("full", Durability::Full), ("fast", Durability::Fast)];

pub(super) const FS: [&str; 5] = ["type", "root", "set_time", "durability", "free_space_bytes"];
/// Every name, also of backends with mistakes, and the backends without any.
pub(super) type Backends<'a> = (Vec<&'a str>, BTreeMap<Arc<str>, Backend>);

pub(super) fn backends<'a>(root: &Table<'a>) -> Option<Backends<'a>> {
    let items = root
        .required("backends", "a table of at least one backend")?
        .names()?;
    if items.is_empty() {
        root.error("backends", "empty: the server needs at least one backend");
    }
    let mut names = Vec::new();
    let mut backends = BTreeMap::new();
    for (name, item) in items {
        names.push(name);
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric())
            || !name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        {
            item.error("a backend's name starts with a letter or digit and holds letters, digits, `_`, `-`");
        }
        if let Some(backend) = backend(&item) {
            backends.insert(name.into(), backend);
        }
    }
    Some((names, backends))
}

/// Which store a backend is.
#[derive(Clone, Copy)]
enum Kind {
    Fs,
    S3,
    Gcs,
    Azblob,
    Memory,
    OpenDal,
}

const KINDS: [(&str, Kind); 6] = [
    ("fs", Kind::Fs),
    ("s3", Kind::S3),
    ("gcs", Kind::Gcs),
    ("azblob", Kind::Azblob),
    ("memory", Kind::Memory),
    ("opendal", Kind::OpenDal),
];

fn backend(item: &Item<'_>) -> Option<Backend> {
    // The type decides which keys the table may hold, so it is looked up before the table is read.
    let (kind, item) = item.tagged("type", &KINDS)?;
    match kind {
        Kind::Fs => {
            let table = item.table(&FS)?;
            let root = table.file("root", "the path of a directory");
            let set_time = table.choice_or("set_time", &LOCAL_TIMES, SetTime::Store);
            let durability = table.choice_or("durability", &DURABILITY, Durability::Full);
            let free_space = table.integer("free_space_bytes", FREE_SPACE_BYTES, 0..=1 << 50);
            Some(Backend::Fs(FsBackend {
                root: root?,
                set_time: set_time?,
                durability: durability?,
                free_space_bytes: free_space?,
            }))
        }
        Kind::S3 => Some(Backend::S3(Box::new(s3(&item.table(&S3)?)?))),
        Kind::Gcs => {
            let gcs = buckets::gcs(&item.table(GCS)?)?;
            Some(Backend::Gcs(Box::new(gcs)))
        }
        Kind::Azblob => {
            let azblob = buckets::azblob(&item.table(AZBLOB)?)?;
            Some(Backend::Azblob(Box::new(azblob)))
        }
        Kind::Memory => Some(Backend::Memory(buckets::memory(&item.table(MEMORY)?)?)),
        Kind::OpenDal => {
            let opendal = buckets::opendal(&item.table(OPENDAL)?)?;
            Some(Backend::OpenDal(Box::new(opendal)))
        }
    }
}
