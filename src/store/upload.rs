//! From a data connection into a store: [`Incoming`].
//!
//! Owns the pump between a [`Wire`] and an [`Upload`]. Two tasks share the work, because they fail
//! differently: the session's own future reads the wire and may stop at any await (ABOR, stall, lost
//! control connection); the writer task owns the [`Upload`], whose futures must be awaited to the
//! end, and ends by `commit`, `keep` or `abort`, never otherwise.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::task::TaskTracker;

use super::{
    ErrorKind, Result, Stat, StoreError, Upload,
    budget::{Budget, Chunk},
    transfer::{Failure, Progress, Wire},
};

/// First chunk of an upload: most files of small devices fit.
const FIRST_CHUNK_BYTES: usize = 16 << 10;
/// Largest chunk: one read of a fast connection, and what one upload takes from the budget at once.
const CHUNK_BYTES: usize = 256 << 10;

/// How long the reply to an interrupted upload waits for the writer to end.
const SETTLE: Duration = Duration::from_millis(500);

/// An upload that the store has accepted and whose bytes have not begun to arrive.
///
/// Dropping it aborts the upload.
#[derive(Debug)]
pub struct Incoming {
    feed: Feed,
    outcome: oneshot::Receiver<Result<Stat>>,
}

/// The reading side's end of the writer task.
#[derive(Debug)]
struct Feed {
    orders: mpsc::Sender<Order>,
    /// Size of the next part: the writer task raises it as the upload grows.
    part_bytes: Arc<AtomicUsize>,
    budget: Budget,
    leftover: Leftover,
}

/// What was received of a part that an interruption cut off.
type Leftover = Arc<Mutex<Vec<Bytes>>>;

/// The part that is being filled. Whatever ends the reading, what is here goes to the writer task.
#[derive(Debug)]
struct Gathered {
    part: Vec<Bytes>,
    chunk: Option<Chunk>,
    leftover: Leftover,
}

/// Deadlines of a transfer.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// Longest time without a byte on the data connection.
    pub stall: Duration,
    /// Longest wait for the commit.
    pub commit: Duration,
}

/// What the writer task is told. A channel that closes without [`Order::Commit`] means an interruption.
#[derive(Debug)]
enum Order {
    /// Write this part.
    Part(Vec<Bytes>),
    /// Make it visible.
    Commit,
}

impl Incoming {
    /// Starts the writer task for `upload` on `tasks`, which outlives the session.
    pub fn start(upload: Box<dyn Upload>, budget: Budget, tasks: &TaskTracker) -> Self {
        let part_bytes = Arc::new(AtomicUsize::new(upload.part_bytes()));
        let next_part_bytes = Arc::clone(&part_bytes);
        // One order waits while another is carried out: more would only hide back-pressure.
        let (orders, inbox) = mpsc::channel(1);
        let (report, outcome) = oneshot::channel();
        let leftover = Leftover::default();
        let rest = Arc::clone(&leftover);
        let span = tracing::Span::current();
        // The task outlives the session on purpose: an aborted upload is cleaned up even if the
        // client is gone. It ends when `orders` is dropped; the tracker makes shutdown wait for it.
        tasks.spawn(tracing::Instrument::instrument(
            async move {
                // A dropped receiver means that nobody waits for the answer any more.
                let _ = report.send(carry_out(upload, inbox, &next_part_bytes, &rest).await);
            },
            span,
        ));
        let feed = Feed {
            orders,
            part_bytes,
            budget,
            leftover,
        };
        Self { feed, outcome }
    }

    /// Receives the whole file and commits it.
    ///
    /// The object is visible if and only if this returns `Ok`, or [`Failure::CommitTimeout`] and the
    /// store finished later.
    ///
    /// # Cancel safety
    /// Dropping the future before the end of the file aborts the upload.
    pub async fn receive(
        self,
        wire: &mut dyn Wire,
        progress: &Arc<Progress>,
        deadlines: Deadlines,
    ) -> std::result::Result<Stat, Failure> {
        let Self { feed, mut outcome } = self;
        // Dropped before `feed`, whose end the writer takes for an interruption.
        let mut gathered = Gathered::new(&feed.leftover);
        let filled = tokio::select! {
            biased;
            cancelled = progress.cancelled() => Err(cancelled),
            // Before the commit there is only one way for the writer to end: a part failed. Said at
            // once, and not when the client happens to send more.
            failed = &mut outcome => return Err(early_end(failed)),
            filled = feed.fill(wire, &mut gathered, progress, deadlines.stall) => filled,
        };
        if let Err(failure) = filled {
            // A client that hears of the end goes on or begins again at once: by then the writer
            // should have put away or removed what there is. It does so in any case.
            drop(gathered);
            drop(feed);
            let _ = timeout(SETTLE, outcome).await;
            return Err(failure);
        }
        // Clients that wait for our close_notify before they read the reply (Python's ssl.unwrap)
        // get it now and not after a slow commit. The file is complete: an error here is theirs.
        let _ = timeout(deadlines.stall, wire.shutdown()).await;
        if feed.orders.send(Order::Commit).await.is_err() {
            return Err(early_end(outcome.await));
        }
        match timeout(deadlines.commit, outcome).await {
            Ok(outcome) => Ok(outcome.unwrap_or_else(|_| Err(lost_writer()))?),
            Err(_) => Err(Failure::CommitTimeout(deadlines.commit)),
        }
    }
}

impl Feed {
    /// Reads until the proven end of the file and hands over every part.
    async fn fill(
        &self,
        wire: &mut dyn Wire,
        gathered: &mut Gathered,
        progress: &Progress,
        stall: Duration,
    ) -> std::result::Result<(), Failure> {
        let mut chunk_bytes = FIRST_CHUNK_BYTES;
        let mut express = None;
        loop {
            let mut left = self.part_bytes.load(Ordering::Relaxed);
            let mut ended = false;
            while left > 0 && !ended {
                let chunk = self.budget.chunk(chunk_bytes.min(left), &mut express).await;
                let chunk = gathered.chunk.insert(chunk);
                ended = fill_chunk(wire, chunk, progress, stall).await?;
                left -= chunk.len();
                gathered.put_chunk();
                chunk_bytes = (chunk_bytes * 2).min(CHUNK_BYTES);
            }
            let part = std::mem::take(&mut gathered.part);
            if !part.is_empty() && self.orders.send(Order::Part(part)).await.is_err() {
                // The writer has ended and says why in its outcome, which `receive` waits for too.
                std::future::pending::<()>().await;
            }
            if ended {
                return Ok(());
            }
        }
    }
}

impl Gathered {
    fn new(leftover: &Leftover) -> Self {
        Self {
            part: Vec::new(),
            chunk: None,
            leftover: Arc::clone(leftover),
        }
    }

    /// The chunk at hand belongs to the part.
    fn put_chunk(&mut self) {
        if let Some(chunk) = self.chunk.take()
            && !chunk.is_empty()
        {
            self.part.push(chunk.freeze());
        }
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        self.put_chunk();
        // The lock is held for one move here and one in the writer task.
        let mut leftover = self.leftover.lock().unwrap_or_else(PoisonError::into_inner);
        *leftover = std::mem::take(&mut self.part);
    }
}

/// The writer task: the only owner of the upload, from its first part to `commit` or `keep`, which is
/// `abort` unless interrupted uploads are kept.
async fn carry_out(
    mut upload: Box<dyn Upload>,
    mut inbox: mpsc::Receiver<Order>,
    next_part_bytes: &AtomicUsize,
    leftover: &Mutex<Vec<Bytes>>,
) -> Result<Stat> {
    while let Some(order) = inbox.recv().await {
        match order {
            Order::Part(part) => {
                if let Err(error) = upload.write(part).await {
                    // What follows the missing part is of no use.
                    upload.keep(Vec::new()).await;
                    return Err(error);
                }
                next_part_bytes.store(upload.part_bytes(), Ordering::Relaxed);
            }
            Order::Commit => return upload.commit().await,
        }
    }
    let rest = std::mem::take(&mut *leftover.lock().unwrap_or_else(PoisonError::into_inner));
    upload.keep(rest).await;
    Err(StoreError::new(ErrorKind::Internal, "write"))
}

/// Reads until `chunk` is full; says whether the file ended.
async fn fill_chunk(
    wire: &mut dyn Wire,
    chunk: &mut Chunk,
    progress: &Progress,
    stall: Duration,
) -> std::result::Result<bool, Failure> {
    while !chunk.is_full() {
        let read = timeout(stall, wire.read_buf(&mut chunk.room()))
            .await
            .map_err(|_| Failure::Stalled(stall))?
            .map_err(Failure::from_wire)?;
        if read == 0 {
            return Ok(true);
        }
        progress.add(read);
    }
    Ok(false)
}

/// Why the writer task ended before the commit.
fn early_end(outcome: std::result::Result<Result<Stat>, oneshot::error::RecvError>) -> Failure {
    match outcome {
        Ok(Err(error)) => Failure::Store(error),
        Ok(Ok(_)) | Err(_) => Failure::Store(lost_writer()),
    }
}

fn lost_writer() -> StoreError {
    StoreError::with_source(ErrorKind::Internal, "write", "the writer task is gone")
}
