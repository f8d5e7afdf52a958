//! [`Files`]: users files as they lie on the disk at one moment.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{Context, SHA256};

use crate::config::UsersFiles;

/// Largest file, about a hundred thousand users: a device file or a wrong name must not fill the memory.
const FILE_BYTES: u64 = 64 << 20;
/// Most files of a directory.
const FILES: usize = 10_000;

/// The content of every file, or why it cannot be read.
pub(super) struct Files {
    files: Vec<(PathBuf, Result<Vec<u8>, String>)>,
    is_one: bool,
}

impl Files {
    /// Reads them all. Blocks for the disk.
    pub(super) fn read(files: &UsersFiles) -> Self {
        let one = |path: PathBuf| {
            let content = read(&path).map_err(|error| format!("cannot read the file: {error}"));
            (path, content)
        };
        match files {
            UsersFiles::File(file) => Self {
                files: vec![one(file.clone())],
                is_one: true,
            },
            UsersFiles::Directory(directory) => Self {
                files: match paths(directory) {
                    Ok(paths) => paths.into_iter().map(one).collect(),
                    Err(error) => {
                        let message = format!("cannot read the directory: {error}");
                        vec![(directory.clone(), Err(message))]
                    }
                },
                is_one: false,
            },
        }
    }

    /// Whether there is one file by configuration, which then must hold users.
    pub(super) fn is_one(&self) -> bool {
        self.is_one
    }

    /// Each file as text.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&Path, Result<String, String>)> {
        self.files.iter().map(|(path, content)| {
            let text = content
                .clone()
                .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned()));
            (path.as_path(), text)
        })
    }

    /// The same for the same files with the same content.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        for (path, content) in &self.files {
            let (mark, bytes) = match content {
                Ok(bytes) => (b'+', bytes.as_slice()),
                Err(message) => (b'-', message.as_bytes()),
            };
            let name = path.as_os_str().as_encoded_bytes();
            for part in [name, &[mark], bytes] {
                context.update(&part.len().to_le_bytes());
                context.update(part);
            }
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        digest
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let length = fs::metadata(path)?.len();
    if length > FILE_BYTES {
        let message = format!("it has {length} bytes, more than {FILE_BYTES}");
        return Err(io::Error::other(message));
    }
    fs::read(path)
}

/// The files of a directory in the order of their names. Kubernetes keeps the content in `..data`,
/// which is left out, and links each file to it.
fn paths(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let extension = path.extension().and_then(|extension| extension.to_str());
        let hidden = name.is_none_or(|name| name.starts_with('.'));
        if hidden || !matches!(extension, Some("yaml" | "yml")) {
            continue;
        }
        paths.push(path);
        if paths.len() > FILES {
            return Err(io::Error::other(format!("more than {FILES} files")));
        }
    }
    paths.sort();
    Ok(paths)
}
