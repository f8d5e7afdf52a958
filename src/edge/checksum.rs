//! HASH, XCRC, XMD5, XSHA1, XSHA256, XSHA512, MD5: digests of what is stored, as the store keeps them
//! with the file, or computed by reading it
//! (draft-bryan-ftpext-hash, draft-twine-ftpmd5, CONFORMANCE I11, I12).
//!
//! Bounded in bytes by `limits.checksum_bytes` and in time as all long work behind one command, during
//! which the client is heard (`hear`). None of these digests guards anything against an attacker.

use futures_util::StreamExt;

use super::{
    command::{ChecksumAlgorithm, ChecksumRange, Command},
    files::{Answer, Stop, report, resolve, view},
    hear::bounded,
    reply::Reply,
    session::{Next, Session},
};
use crate::{
    access::VirtualPath,
    store::{ErrorKind, Hasher, StoreError, View, transfer::Failure},
};

/// Bytes hashed between two looks at other tasks: well below a millisecond of work.
const SLICE_BYTES: usize = 64 << 10;

/// Carries out HASH, with the range of a RANG before it, or one of the older commands.
pub(super) async fn carry_out(
    session: &Session,
    command: Command,
    rang: Option<(u64, u64)>,
) -> Next {
    match command {
        Command::Hash(path) => hash(session, &path, rang).await,
        Command::Checksum {
            algorithm,
            path,
            range,
        } => checksum(session, algorithm, &path, range).await,
        // The dialogue sends nothing else here; an honest answer if it ever did.
        other => Next::Answer(Reply::new(502, format!("{} is no checksum", other.verb()))),
    }
}

/// HASH of a whole file, or of the bytes from the first to the last of a RANG.
async fn hash(session: &Session, argument: &str, range: Option<(u64, u64)>) -> Next {
    let algorithm = session.hash_algorithm;
    let span = range.map(|(first, last)| (first, Some(last.saturating_add(1))));
    next(
        digest(session, "HASH", algorithm, argument, span)
            .await
            .map(|found| {
                let last = range.map_or(found.end, |_| found.end.saturating_sub(1));
                let (name, start, hex) = (algorithm.name(), found.start, found.hex);
                Reply::new(213, format!("{name} {start}-{last} {hex} {argument}"))
            }),
    )
}

/// The older commands, one for each algorithm.
async fn checksum(
    session: &Session,
    algorithm: ChecksumAlgorithm,
    argument: &str,
    range: Option<ChecksumRange>,
) -> Next {
    let span = range.map(|range| (range.start, range.end));
    let found = digest(session, algorithm.verb(), algorithm, argument, span).await;
    next(found.map(|found| match algorithm {
        ChecksumAlgorithm::Md5WithName => Reply::new(251, format!("{argument} {}", found.hex)),
        _ => Reply::new(250, found.hex),
    }))
}

fn next(answer: Answer) -> Next {
    match answer {
        Ok(reply) | Err(Stop::Refused(reply)) => Next::Answer(reply),
        Err(Stop::Engine(error)) => super::files::lost_engine(&error),
    }
}

/// A digest and what it is of: `start` up to and without `end`.
struct Found {
    start: u64,
    end: u64,
    hex: String,
}

async fn digest(
    session: &Session,
    verb: &'static str,
    algorithm: ChecksumAlgorithm,
    argument: &str,
    span: Option<(u64, Option<u64>)>,
) -> Result<Found, Stop> {
    if let Some((start, Some(end))) = span
        && end < start
    {
        return Err(Stop::Refused(Reply::new(
            501,
            "The range ends before it starts",
        )));
    }
    let path = resolve(session, argument)?;
    let view = view(session)?;
    let most = session.shared.limits.checksum_bytes;
    let read = read(view, &path, algorithm, span, most);
    let found = bounded(session, "checksum", read).await;
    found.map_err(|trouble| match trouble {
        Trouble::TooLarge => Stop::Refused(Reply::new(550, "Too many bytes for a checksum")),
        Trouble::Failed(failure) => Stop::Refused(report(&session.visit, verb, &path, &failure)),
    })
}

/// Why there is no digest.
enum Trouble {
    /// More bytes than `limits.checksum_bytes`.
    TooLarge,
    Failed(Failure),
}

impl<F: Into<Failure>> From<F> for Trouble {
    fn from(failure: F) -> Self {
        Self::Failed(failure.into())
    }
}

async fn read(
    view: &View,
    path: &VirtualPath,
    algorithm: ChecksumAlgorithm,
    span: Option<(u64, Option<u64>)>,
    most: u64,
) -> Result<Found, Trouble> {
    if matches!(span, None | Some((0, None)))
        && let Some((size, hex)) = view.checksum(path, algorithm.digest()).await?
    {
        return Ok(Found {
            start: 0,
            end: size,
            hex,
        });
    }
    let (start, wished) = span.unwrap_or((0, None));
    let (found, mut chunks) = view.read(path, start).await?;
    let end = wished.map_or(found.size, |end| end.min(found.size));
    if end - start > most {
        return Err(Trouble::TooLarge);
    }
    let mut left = end - start;
    let mut hasher = Hasher::new(algorithm.digest());
    while left > 0 {
        let Some(chunk) = chunks.next().await else {
            return Err(StoreError::new(ErrorKind::Changed, "checksum").into());
        };
        let chunk = chunk?;
        let wanted = usize::try_from(left).map_or(chunk.len(), |left| chunk.len().min(left));
        for slice in chunk[..wanted].chunks(SLICE_BYTES) {
            hasher.update(slice);
            tokio::task::yield_now().await;
        }
        left -= wanted as u64;
    }
    Ok(Found {
        start,
        end,
        hex: hasher.finish(),
    })
}
