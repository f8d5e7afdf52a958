//! Reading one generation of a file, one chunk ahead of the client.

use std::{
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use bytes::{Bytes, BytesMut};
use cap_std::fs::{Dir, File, Metadata, MetadataExt, OpenOptions, OpenOptionsExt};
use futures_util::{StreamExt, stream, stream::BoxStream};
use tokio::task::JoinHandle;

use super::{super::Result, ErrorKind, StoreError, blocking, special_file, stat_of};

const CHUNK_BYTES: usize = 256 << 10;

/// An opened file: a rename over its name does not touch what is read here.
pub(super) struct Reader {
    file: File,
    generation: Generation,
}

/// What changes when somebody writes into the file in place. Not the time of the last status change:
/// an atomic replacement unlinks the opened file and so sets that, while the bytes stay.
#[derive(PartialEq, Eq)]
struct Generation {
    size: u64,
    modified: (i64, i64),
}

impl Generation {
    fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

impl Reader {
    pub(super) fn open(
        root: &Dir,
        path: &Path,
        offset: u64,
        version: Option<&str>,
    ) -> Result<Self> {
        let failed = |error| StoreError::from_io("read", error);
        let (mut file, metadata) = open_regular(root, path)?;
        let stat = stat_of(&metadata).ok_or_else(|| special_file("read"))?;
        if version.is_some() && version != stat.version.as_deref() {
            return Err(StoreError::new(ErrorKind::Changed, "read"));
        }
        if offset > stat.size {
            return Err(StoreError::new(ErrorKind::OffsetBeyondEnd, "read"));
        }
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        Ok(Self {
            file,
            generation: Generation::of(&metadata),
        })
    }

    pub(super) fn into_stream(self) -> BoxStream<'static, Result<Bytes>> {
        // The next chunk is read while the client takes the present one. The read that is under way
        // when the stream is dropped ends by itself with one chunk.
        stream::try_unfold(Some(self.ahead()), |ahead| async move {
            let Some(ahead) = ahead else { return Ok(None) };
            let (chunk, reader) = ahead
                .await
                .map_err(|error| StoreError::with_source(ErrorKind::Internal, "read", error))??;
            if chunk.is_empty() {
                return Ok(None);
            }
            Ok(Some((chunk, Some(reader.ahead()))))
        })
        .boxed()
    }

    fn ahead(self) -> JoinHandle<Result<(Bytes, Self)>> {
        tokio::spawn(blocking("read", move || self.next()))
    }

    fn next(mut self) -> Result<(Bytes, Self)> {
        let failed = |error| StoreError::from_io("read", error);
        let mut chunk = BytesMut::zeroed(CHUNK_BYTES);
        let mut filled = 0;
        while filled < CHUNK_BYTES {
            match self.file.read(&mut chunk[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        if filled < CHUNK_BYTES {
            // The end: everything before it belonged to one generation, or the client must not
            // take it for the file.
            let metadata = self.file.metadata().map_err(failed)?;
            if Generation::of(&metadata) != self.generation {
                return Err(StoreError::new(ErrorKind::Changed, "read"));
            }
        }
        chunk.truncate(filled);
        Ok((chunk.freeze(), self))
    }
}

/// Opens a file for reading, whatever stands there at that moment, without blocking on a FIFO.
pub(super) fn open_regular(root: &Dir, path: &Path) -> Result<(File, Metadata)> {
    let failed = |error| StoreError::from_io("read", error);
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    let file = root.open_with(path, &options).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(StoreError::new(ErrorKind::IsADirectory, "read"));
    }
    if !metadata.is_file() {
        return Err(special_file("read"));
    }
    Ok((file, metadata))
}
