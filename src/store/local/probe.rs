//! What a directory lets us do (`causeway check`).

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
};

use super::LocalStore;
use crate::{
    config::FsBackend,
    store::probe::{Steps, Trouble, TroubleKind},
};

const READ: &[&str] = &["read and search the directory"];
const WRITE: &[&str] = &["write to the directory"];

impl LocalStore {
    /// Tries what the server does to a directory. Permission bits tell little on network mounts, on
    /// read-only ones and for root, so it is done.
    pub(in super::super) async fn probe(backend: &FsBackend, steps: &mut Steps<'_>) {
        let root = backend.root.clone();
        let list = blocking(move || match fs::read_dir(root)?.next() {
            Some(Err(error)) => Err(error),
            _ => Ok(()),
        });
        if steps.take("list", READ, list).await.is_none() || !steps.writes() {
            return;
        }
        let name = format!(".causeway-check-{:032x}", rand::random::<u128>());
        let (begun, target) = (
            backend.root.join(format!("{name}.part")),
            backend.root.join(name),
        );
        let file = begun.clone();
        if steps
            .take("write and sync", WRITE, blocking(move || write(file)))
            .await
            .is_none()
        {
            return;
        }
        let (from, to) = (begun.clone(), target.clone());
        let renamed = blocking(move || fs::rename(from, to));
        let renamed = steps.take("rename", WRITE, renamed).await;
        let left = if renamed.is_some() { target } else { begun };
        let delete = blocking(move || fs::remove_file(left));
        steps.take("delete", WRITE, delete).await;
    }
}

fn write(path: PathBuf) -> io::Result<()> {
    let mut file = fs::File::create_new(path)?;
    file.write_all(b"causeway check\n")?;
    file.sync_all()
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<(), Trouble> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|error| Trouble {
        kind: match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                TroubleKind::Denied
            }
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => TroubleKind::Hopeless,
            _ => TroubleKind::Other,
        },
        message: error.to_string(),
    })
}
