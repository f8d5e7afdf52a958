//! From a data connection into a store: [`Incoming`].
//!
//! Owns the pump between a [`Wire`] and an [`Upload`]. Two tasks share the work, because they fail
//! differently: the session's own future reads the wire and may stop at any await (ABOR, stall, lost
//! control connection); the writer task owns the [`Upload`], whose futures must be awaited to the
//! end, and ends by `commit`, `keep` or `abort`, never otherwise.

use std::{
    sync::{Arc, Mutex, PoisonError},
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
    ErrorKind, PartSizes, Result, Stat, StoreError, Upload,
    budget::{Allowance, Budget, Chunk},
    transfer::{Failure, Phase, Progress, Wire},
};
use crate::observe::telemetry::Here;

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
    sizes: PartSizes,
    keeps_part_back: bool,
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
    /// Longest time without a byte on the data connection, while nobody but the client holds it up.
    pub stall: Duration,
    /// Longest wait for the commit.
    pub commit: Duration,
}

/// What the writer task is told. A channel that closes without [`Order::Commit`] means an interruption.
#[derive(Debug)]
enum Order {
    /// The reading side hashes what comes.
    Hashed(Arc<Progress>),
    /// Write this part; more bytes follow.
    Part(Vec<Bytes>),
    /// Write what is left, which may be nothing, and make it visible.
    Commit(Vec<Bytes>),
}

impl Incoming {
    /// Starts the writer task for `upload` on `tasks`, which outlives the session.
    pub fn start(upload: Box<dyn Upload>, budget: Budget, tasks: &TaskTracker) -> Self {
        let (sizes, keeps_part_back) = (upload.part_sizes(), upload.keeps_part_back());
        // One order waits while another is carried out: more would only hide back-pressure.
        let (orders, inbox) = mpsc::channel(1);
        let (report, outcome) = oneshot::channel();
        let leftover = Leftover::default();
        let rest = Arc::clone(&leftover);
        // The task outlives the session on purpose: an aborted upload is cleaned up even if the
        // client is gone. It ends when `orders` is dropped; the tracker makes shutdown wait for it.
        tasks.spawn(Here::now().carry(async move {
            // A dropped receiver means that nobody waits for the answer any more.
            let _ = report.send(carry_out(upload, inbox, &rest).await);
        }));
        let feed = Feed {
            orders,
            sizes,
            keeps_part_back,
            budget,
            leftover,
        };
        Self { feed, outcome }
    }

    /// Ends an upload of which nothing has arrived. Waits a moment for the store to be done with it: who
    /// hears of it tries again at once, and must not be a second session on the same file.
    pub async fn give_up(self) {
        drop(self.feed);
        let _ = timeout(SETTLE, self.outcome).await;
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
        if progress.hashes() {
            // The first order of all; a writer that has ended already says why in its outcome.
            let _ = feed.orders.send(Order::Hashed(Arc::clone(progress))).await;
        }
        let filled = tokio::select! {
            biased;
            cancelled = progress.cancelled() => Err(cancelled),
            // Before the commit there is only one way for the writer to end: a part failed. Said at
            // once, and not when the client happens to send more.
            failed = &mut outcome => return Err(early_end(failed)),
            filled = feed.fill(wire, &mut gathered, progress, deadlines.stall) => filled,
        };
        let received = match filled {
            Ok(last) => {
                progress.reach(Phase::Received);
                // Clients that wait for our close_notify before they read the reply (Python's
                // ssl.unwrap) get it now and not after a slow commit. The file is complete: an error
                // here is theirs.
                let _ = timeout(deadlines.stall, wire.shutdown()).await;
                // An ABOR that was sent before the end may be read after it.
                match progress.cleared().await {
                    Ok(()) => Ok(last),
                    Err(taken_back) => {
                        gathered.part = last;
                        Err(taken_back)
                    }
                }
            }
            Err(failure) => Err(failure),
        };
        let last = match received {
            Ok(last) => last,
            Err(failure) => {
                // A client that hears of the end goes on or begins again at once: by then the writer
                // should have put away or removed what there is. It does so in any case.
                drop(gathered);
                drop(feed);
                let _ = timeout(SETTLE, outcome).await;
                return Err(failure);
            }
        };
        if feed.orders.send(Order::Commit(last)).await.is_err() {
            return Err(early_end(outcome.await));
        }
        match timeout(deadlines.commit, outcome).await {
            Ok(outcome) => Ok(outcome.unwrap_or_else(|_| Err(lost_writer()))?),
            Err(_) => Err(Failure::CommitTimeout(deadlines.commit)),
        }
    }
}

impl Feed {
    /// Reads until the proven end of the file, hands over every part that more bytes follow, and
    /// returns the last one.
    ///
    /// A part goes out only when the first byte behind it is there: a store must know whether the
    /// first part is the whole file.
    async fn fill(
        &self,
        wire: &mut dyn Wire,
        gathered: &mut Gathered,
        progress: &Progress,
        stall: Duration,
    ) -> std::result::Result<Vec<Bytes>, Failure> {
        let mut reading = Reading {
            wire,
            allowance: self.budget.allowance(self.keeps_part_back),
            progress,
            stall,
        };
        let most = self.budget.largest_part_bytes();
        let mut part_bytes = self.sizes.of(0).min(most);
        let mut first = reading.allowance.first(part_bytes).await;
        let mut ended = reading.some(gathered.chunk.insert(first)).await?;
        for index in 1.. {
            let mut left = part_bytes;
            loop {
                while let Some(chunk) = gathered.chunk.as_mut()
                    && !ended
                    && !chunk.is_full()
                {
                    ended = reading.some(chunk).await?;
                }
                left -= gathered.put_chunk();
                if ended {
                    return Ok(std::mem::take(&mut gathered.part));
                }
                if left == 0 {
                    break;
                }
                gathered.chunk = Some(reading.allowance.chunk(left).await);
            }
            reading.allowance.end_part();
            part_bytes = self.sizes.of(index).min(most);
            first = reading.allowance.first(part_bytes).await;
            let chunk = gathered.chunk.insert(first);
            ended = reading.some(chunk).await?;
            let nothing_follows = ended && chunk.is_empty();
            if nothing_follows {
                return Ok(std::mem::take(&mut gathered.part));
            }
            // Whoever stops the reading in this wait must not take the part with it: what comes behind it
            // is kept, and would be taken for what follows the part before.
            let Ok(room) = self.orders.reserve().await else {
                // The writer has ended and says why in its outcome, which `receive` waits for too.
                std::future::pending::<()>().await;
                break;
            };
            room.send(Order::Part(std::mem::take(&mut gathered.part)));
        }
        Ok(Vec::new())
    }
}

/// The wire and who pays for what it brings.
struct Reading<'a> {
    wire: &'a mut dyn Wire,
    allowance: Allowance,
    progress: &'a Progress,
    stall: Duration,
}

impl Reading<'_> {
    /// Reads once into `chunk`; says whether the file ended.
    async fn some(&mut self, chunk: &mut Chunk) -> std::result::Result<bool, Failure> {
        let mut room = chunk.room();
        let patience = self.allowance.patience().filter(|time| *time < self.stall);
        let mut read = None;
        if let Some(patience) = patience {
            read = timeout(patience, self.wire.read_buf(&mut room)).await.ok();
            if read.is_none() {
                self.allowance.slow_down();
            }
        }
        let mut left = self.stall.saturating_sub(patience.unwrap_or_default());
        let read = loop {
            if let Some(read) = read {
                break read;
            }
            read = timeout(left, self.wire.read_buf(&mut room)).await.ok();
            if read.is_none() {
                // The wait for its turn is no stall of the client's.
                let held = self.wire.held_until();
                let silent = held.map_or(self.stall, |moment| moment.elapsed());
                left = self.stall.saturating_sub(silent);
                if left.is_zero() {
                    return Err(Failure::Stalled(self.stall));
                }
            }
        };
        let read = read.map_err(Failure::from_wire)?;
        self.progress.moved(chunk.newest(read));
        self.allowance.filled(read);
        Ok(read == 0)
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

    /// The chunk at hand belongs to the part; how much it holds.
    fn put_chunk(&mut self) -> usize {
        let Some(chunk) = self.chunk.take() else {
            return 0;
        };
        let length = chunk.len();
        if length > 0 {
            self.part.push(chunk.freeze());
        }
        length
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
    leftover: &Mutex<Vec<Bytes>>,
) -> Result<Stat> {
    while let Some(order) = inbox.recv().await {
        match order {
            Order::Hashed(progress) => upload.hashed_by(progress),
            Order::Part(part) => {
                if let Err(error) = upload.write(part).await {
                    // What follows the missing part is of no use.
                    upload.keep(Vec::new()).await;
                    return Err(error);
                }
            }
            Order::Commit(last) => return upload.commit(last).await,
        }
    }
    let rest = std::mem::take(&mut *leftover.lock().unwrap_or_else(PoisonError::into_inner));
    upload.keep(rest).await;
    Err(StoreError::new(ErrorKind::Internal, "write"))
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
