//! [`Backend`]: libunftp's `StorageBackend` over a session's [`Exchange`].
//!
//! Ignores the readers and writers that libunftp hands in: content goes between the client's data
//! connection and the store, never through the engine. libunftp learns the class of a failure, the
//! exchange keeps the reason.

use std::{
    fmt::{self, Debug},
    io::Cursor,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use unftp_core::{
    auth::UserDetail,
    storage::{self, Error, Fileinfo, Metadata, StorageBackend},
};

use super::{
    download,
    exchange::{Exchange, Outcome, Transport, Work},
    transfer::{Failure, Wire},
    view::View,
};

/// One session's storage, as libunftp sees it.
#[derive(Debug)]
pub struct Backend {
    exchange: Arc<Exchange>,
}

/// The logged-in user, as libunftp sees it. Rights live in the session's [`View`].
#[derive(Debug)]
pub struct EngineUser;

impl Backend {
    /// The backend of the session that owns `exchange`.
    pub fn new(exchange: Arc<Exchange>) -> Self {
        Self { exchange }
    }

    /// Carries out what the edge announced for `path` and keeps the true outcome.
    async fn carry_out(&self, path: &Path) -> storage::Result<()> {
        let outcome = match self.exchange.take(path) {
            Ok((work, here)) => match self.exchange.view() {
                Some(view) => here.carry(work_on(view, path, work)).await,
                None => Err(Failure::Intent("not logged in")),
            },
            Err(failure) => Err(failure),
        };
        match outcome {
            Ok(outcome) => {
                self.exchange.report(outcome);
                Ok(())
            }
            Err(failure) => {
                let kind = engine_kind(failure.reply().0);
                self.exchange.report(Outcome::Failed(failure));
                Err(kind.into())
            }
        }
    }
}

async fn work_on(view: &View, path: &Path, work: Work) -> Result<Outcome, Failure> {
    // The engine's path is the announced one, which was a virtual path.
    let path = path
        .to_str()
        .and_then(|path| {
            crate::access::VirtualPath::parse(&crate::access::VirtualPath::root(), path).ok()
        })
        .ok_or(Failure::Intent("not a path"))?;
    match work {
        Work::ChangeDirectory => Ok(Outcome::Found(view.enter(&path).await?)),
        Work::Stat => Ok(Outcome::Found(view.stat_or_kept(&path).await?)),
        Work::RenameSource => Ok(Outcome::Found(view.rename_source(&path).await?)),
        Work::Rename(to) => {
            let appeared = view.rename(&path, &to).await?;
            Ok(if appeared {
                Outcome::Appeared
            } else {
                Outcome::Done
            })
        }
        Work::RemoveFile => view.remove_file(&path).await.map(|()| Outcome::Done),
        Work::MakeDirectory => view.make_directory(&path).await.map(|()| Outcome::Done),
        Work::RemoveDirectory => view.remove_directory(&path).await.map(|()| Outcome::Done),
        Work::Upload(incoming, transport) => {
            let Transport {
                mut wire,
                progress,
                deadlines,
                ..
            } = transport;
            let stat = incoming
                .receive(&mut *wire as &mut dyn Wire, &progress, deadlines)
                .await?;
            view.uploaded(&path);
            Ok(Outcome::Found(stat))
        }
        Work::Download(outgoing, transport) => {
            let Transport {
                mut wire,
                progress,
                deadlines,
                tasks,
            } = transport;
            download::send_file(outgoing.0, &mut *wire, &progress, deadlines.stall).await?;
            download::linger(wire, &tasks);
            Ok(Outcome::Done)
        }
        Work::Listing(rows, transport) => {
            let Transport {
                mut wire,
                progress,
                deadlines,
                tasks,
            } = transport;
            download::send_listing(rows.0, &mut *wire, &progress, deadlines.stall).await?;
            download::linger(wire, &tasks);
            Ok(Outcome::Done)
        }
    }
}

/// The error class that makes libunftp answer with `code`, or one of its class.
fn engine_kind(code: u16) -> storage::ErrorKind {
    match code {
        426 => storage::ErrorKind::ConnectionClosed,
        450 => storage::ErrorKind::TransientFileNotAvailable,
        452 => storage::ErrorKind::InsufficientStorageSpaceError,
        502 | 504 => storage::ErrorKind::CommandNotImplemented,
        550 => storage::ErrorKind::PermanentFileNotAvailable,
        552 => storage::ErrorKind::ExceededStorageAllocationError,
        551 | 554 => storage::ErrorKind::PageTypeUnknown,
        553 => storage::ErrorKind::FileNameNotAllowedError,
        _ => storage::ErrorKind::LocalError,
    }
}

#[async_trait]
impl StorageBackend<EngineUser> for Backend {
    type Metadata = EngineMetadata;

    fn supported_features(&self) -> u32 {
        storage::FEATURE_RESTART
    }

    async fn metadata<P: AsRef<Path> + Send + Debug>(
        &self,
        _user: &EngineUser,
        path: P,
    ) -> storage::Result<EngineMetadata> {
        self.carry_out(path.as_ref()).await.map(|()| EngineMetadata)
    }

    /// MLSD: the rows went to the client already.
    async fn list<P: AsRef<Path> + Send + Debug>(
        &self,
        _user: &EngineUser,
        path: P,
    ) -> storage::Result<Vec<Fileinfo<PathBuf, EngineMetadata>>> {
        self.carry_out(path.as_ref()).await.map(|()| Vec::new())
    }

    async fn list_fmt<P: AsRef<Path> + Send + Debug>(
        &self,
        _user: &EngineUser,
        path: P,
    ) -> Result<Cursor<Vec<u8>>, Error> {
        self.carry_out(path.as_ref())
            .await
            .map(|()| Cursor::default())
    }

    async fn nlst<P: AsRef<Path> + Send + Debug>(
        &self,
        _user: &EngineUser,
        path: P,
    ) -> std::io::Result<Cursor<Vec<u8>>> {
        match self.carry_out(path.as_ref()).await {
            Ok(()) => Ok(Cursor::default()),
            Err(error) => Err(std::io::Error::other(error)),
        }
    }

    async fn get_into<'a, P, W: ?Sized>(
        &self,
        _user: &EngineUser,
        path: P,
        _start_pos: u64,
        _output: &'a mut W,
    ) -> storage::Result<u64>
    where
        W: AsyncWrite + Unpin + Sync + Send,
        P: AsRef<Path> + Send + Debug,
    {
        self.carry_out(path.as_ref()).await.map(|()| 0)
    }

    /// Only reached by `SITE MD5`, which the edge never sends.
    async fn get<P: AsRef<Path> + Send + Debug>(
        &self,
        _user: &EngineUser,
        _path: P,
        _start_pos: u64,
    ) -> storage::Result<Box<dyn AsyncRead + Send + Sync + Unpin>> {
        Err(storage::ErrorKind::CommandNotImplemented.into())
    }

    async fn put<P, R>(
        &self,
        _user: &EngineUser,
        _input: R,
        path: P,
        _start_pos: u64,
    ) -> storage::Result<u64>
    where
        P: AsRef<Path> + Send + Debug,
        R: AsyncRead + Send + Sync + Unpin + 'static,
    {
        self.carry_out(path.as_ref()).await.map(|()| 0)
    }

    async fn del<P: AsRef<Path> + Send + Debug>(
        &self,
        _user: &EngineUser,
        path: P,
    ) -> storage::Result<()> {
        self.carry_out(path.as_ref()).await
    }

    async fn mkd<P: AsRef<Path> + Send + Debug>(
        &self,
        _user: &EngineUser,
        path: P,
    ) -> storage::Result<()> {
        self.carry_out(path.as_ref()).await
    }

    /// The target is the announced one; libunftp's must be the same.
    async fn rename<P: AsRef<Path> + Send + Debug>(
        &self,
        _user: &EngineUser,
        from: P,
        _to: P,
    ) -> storage::Result<()> {
        self.carry_out(from.as_ref()).await
    }

    async fn rmd<P: AsRef<Path> + Send + Debug>(
        &self,
        _user: &EngineUser,
        path: P,
    ) -> storage::Result<()> {
        self.carry_out(path.as_ref()).await
    }

    async fn cwd<P: AsRef<Path> + Send + Debug>(
        &self,
        _user: &EngineUser,
        path: P,
    ) -> storage::Result<()> {
        self.carry_out(path.as_ref()).await
    }
}

/// What libunftp prints is never shown: the edge answers from the [`Exchange`].
#[derive(Debug)]
pub struct EngineMetadata;

impl Metadata for EngineMetadata {
    fn len(&self) -> u64 {
        0
    }
    fn is_dir(&self) -> bool {
        false
    }
    fn is_file(&self) -> bool {
        true
    }
    fn is_symlink(&self) -> bool {
        false
    }
    fn modified(&self) -> storage::Result<SystemTime> {
        Ok(SystemTime::UNIX_EPOCH)
    }
    fn gid(&self) -> u32 {
        0
    }
    fn uid(&self) -> u32 {
        0
    }
}

impl UserDetail for EngineUser {}

impl fmt::Display for EngineUser {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("user")
    }
}
