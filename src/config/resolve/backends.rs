//! Backends: local directories and S3 buckets.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    super::{
        Backend, FsBackend, SetTime,
        typed::{Item, Table},
    },
    s3::{S3, s3},
};

const LOCAL_TIMES: [(&str, SetTime); 3] = [
    ("store", SetTime::Store),
    ("ignore", SetTime::Ignore),
    ("refuse", SetTime::Refuse),
];
pub(super) const FS: [&str; 3] = ["type", "root", "set_time"];
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
}

fn backend(item: &Item<'_>) -> Option<Backend> {
    // The type decides which keys the table may hold, so it is looked up before the table is read.
    match item.tag("type", &[("fs", Kind::Fs), ("s3", Kind::S3)])? {
        Kind::Fs => {
            let table = item.table(&FS)?;
            let root = table.file("root", "the path of a directory");
            let set_time = table.choice("set_time", &LOCAL_TIMES);
            Some(Backend::Fs(FsBackend {
                root: root?,
                set_time: set_time?.unwrap_or(SetTime::Store),
            }))
        }
        Kind::S3 => Some(Backend::S3(Box::new(s3(&item.table(&S3)?)?))),
    }
}
