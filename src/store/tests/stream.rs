//! Streams through the pump: sizes of parts and memory, with stores that discard and wires that come
//! from nowhere.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::task::TaskTracker;

use super::*;
use crate::store::{
    Budget, PartSizes,
    transfer::{CancelReason, Progress, Wire},
    upload::{Deadlines, Incoming},
};

/// As S3 uploads have them.
const SIZES: PartSizes = PartSizes {
    bytes: 8 << 20,
    first_less: 0,
    doubling: Some(1000),
};

/// Counts parts and throws them away.
#[derive(Debug)]
struct Discard {
    sizes: PartSizes,
    seen: Arc<Mutex<Seen>>,
    budget: Budget,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    parts: usize,
    bytes: u64,
    largest: usize,
    most_used: usize,
}

#[async_trait]
impl Upload for Discard {
    fn part_sizes(&self) -> PartSizes {
        self.sizes
    }

    async fn write(&mut self, part: Vec<Bytes>) -> Result<()> {
        let bytes = part.iter().map(Bytes::len).sum();
        let mut seen = self.seen.lock().unwrap();
        seen.parts += 1;
        seen.bytes += bytes as u64;
        seen.largest = seen.largest.max(bytes);
        seen.most_used = seen.most_used.max(self.budget.used_bytes());
        Ok(())
    }

    async fn commit(mut self: Box<Self>, last: Vec<Bytes>) -> Result<Stat> {
        self.write(last).await?;
        Ok(Stat {
            kind: Kind::File,
            size: self.seen.lock().unwrap().bytes,
            modified: None,
            version: None,
            waits: false,
        })
    }

    async fn abort(self: Box<Self>) {}
}

/// A client that sends zeroes: so many, and after each so many bytes a pause.
#[derive(Debug)]
struct Zeroes {
    left: u64,
    pause: Option<(u64, Duration)>,
    until_pause: u64,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Zeroes {
    fn fast(bytes: u64) -> Self {
        Self {
            left: bytes,
            pause: None,
            until_pause: u64::MAX,
            sleep: None,
        }
    }

    fn slow(bytes: u64, step: u64, pause: Duration) -> Self {
        Self {
            pause: Some((step, pause)),
            until_pause: step,
            ..Self::fast(bytes)
        }
    }
}

impl Wire for Zeroes {}

impl AsyncRead for Zeroes {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(sleep) = &mut self.sleep {
            std::task::ready!(sleep.as_mut().poll(context));
            self.sleep = None;
        }
        let most = self.left.min(self.until_pause);
        let count = usize::try_from(most).unwrap_or(usize::MAX);
        let count = count.min(buffer.remaining());
        buffer.initialize_unfilled_to(count);
        buffer.advance(count);
        self.left -= count as u64;
        self.until_pause -= count as u64;
        if let Some((step, pause)) = self.pause
            && self.until_pause == 0
        {
            self.until_pause = step;
            self.sleep = Some(Box::pin(tokio::time::sleep(pause)));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Zeroes {
    fn poll_write(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

async fn receive(mut wire: Zeroes, budget: &Budget, sizes: PartSizes) -> Seen {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let upload = Discard {
        sizes,
        seen: Arc::clone(&seen),
        budget: budget.clone(),
    };
    let bytes = wire.left;
    let tasks = TaskTracker::new();
    let incoming = Incoming::start(Box::new(upload), budget.clone(), &tasks);
    let deadlines = Deadlines {
        stall: Duration::from_mins(1),
        commit: Duration::from_mins(1),
    };
    let progress = Arc::new(Progress::default());
    let stored = incoming.receive(&mut wire, &progress, deadlines).await;
    assert_eq!(stored.unwrap().size, bytes);
    seen.lock().unwrap().clone()
}

/// Takes no part until it is let, and notes what it is left with.
#[derive(Debug)]
struct Stuck {
    let_go: Arc<Semaphore>,
    received: Arc<Mutex<Vec<Bytes>>>,
}

#[async_trait]
impl Upload for Stuck {
    fn part_sizes(&self) -> PartSizes {
        PartSizes::equal(1 << 20)
    }

    async fn write(&mut self, part: Vec<Bytes>) -> Result<()> {
        drop(self.let_go.acquire().await.unwrap());
        self.received.lock().unwrap().extend(part);
        Ok(())
    }

    async fn commit(self: Box<Self>, _last: Vec<Bytes>) -> Result<Stat> {
        panic!("the file has not ended");
    }

    async fn abort(self: Box<Self>) {}

    async fn keep(self: Box<Self>, rest: Vec<Bytes>) -> bool {
        self.received.lock().unwrap().extend(rest);
        true
    }
}

/// A store that is behind holds the client back. What an interruption then keeps has no gap.
#[tokio::test]
async fn nothing_is_missing_in_what_a_slow_store_keeps() {
    let (let_go, received) = (Arc::new(Semaphore::new(0)), Arc::default());
    let upload = Stuck {
        let_go: Arc::clone(&let_go),
        received: Arc::clone(&received),
    };
    let budget = Budget::new(64 << 20);
    let tasks = TaskTracker::new();
    let incoming = Incoming::start(Box::new(upload), budget.clone(), &tasks);
    let (mut client, mut wire) = tokio::io::duplex(64 << 10);
    let content = bytes(6 << 20);
    let sent = content.clone();
    // Ends when the other side is dropped.
    let sending = tokio::spawn(async move { client.write_all(&sent).await });
    let progress = Arc::new(Progress::default());
    let watched = Arc::clone(&progress);
    let deadlines = Deadlines {
        stall: Duration::from_mins(1),
        commit: Duration::from_mins(1),
    };
    let receiving =
        tokio::spawn(async move { incoming.receive(&mut wire, &progress, deadlines).await });
    // One part is with the store, one waits behind it, and the third has no place.
    while watched.bytes() <= 3 << 20 {
        tokio::task::yield_now().await;
    }
    watched.cancel(CancelReason::ControlLost);
    let_go.add_permits(10);
    receiving.await.unwrap().unwrap_err();
    drop(sending.await);
    tasks.close();
    tasks.wait().await;
    let kept = received.lock().unwrap().concat();
    assert!(kept.len() > 3 << 20, "{}", kept.len());
    assert!(content.starts_with(&kept), "there is a gap");
    received.lock().unwrap().clear();
    assert_eq!(budget.used_bytes(), 0);
}

fn peak_resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib: u64 = line
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    kib >> 10
}

async fn stream(gibibytes: u64) -> Seen {
    let budget = Budget::new(256 << 20);
    let started = Instant::now();
    let seen = receive(Zeroes::fast(gibibytes << 30), &budget, SIZES).await;
    println!(
        "{gibibytes} GiB in {} parts of at most {} MiB, {} MiB of the budget used at most, {} MiB resident at most, {:?}",
        seen.parts,
        seen.largest >> 20,
        seen.most_used >> 20,
        peak_resident_mib(),
        started.elapsed()
    );
    assert!(seen.parts <= 10_000);
    assert!(seen.most_used <= 256 << 20);
    assert!(peak_resident_mib() < 300);
    assert_eq!(budget.used_bytes(), 0);
    seen
}

#[tokio::test]
async fn a_stream_of_nine_gibibytes_takes_larger_parts_in_the_end() {
    let seen = stream(9).await;
    assert_eq!((seen.parts, seen.largest), (1_076, 16 << 20));
}

#[tokio::test]
#[ignore = "a minute long: ./tests/soak"]
async fn a_stream_of_a_hundred_gibibytes_stays_in_ten_thousand_parts() {
    stream(100).await;
}

#[test]
fn ten_thousand_parts_hold_the_largest_object() {
    let reach = |most: usize| -> u64 {
        (0..10_000)
            .map(|index| SIZES.of(index).min(most) as u64)
            .sum()
    };
    assert!(reach(usize::MAX) >= 5 << 40);
    // What the documents say of memory.
    let most = |budget| Budget::new(budget).largest_part_bytes();
    assert_eq!(reach(most(256 << 20)) >> 30, 492);
    assert!(reach(most(8 << 30)) >= 5 << 40);
}

/// Slow clients fill what slow clients may fill; a fast one passes them.
#[tokio::test]
async fn slow_uploads_do_not_shut_out_fast_ones() {
    let sizes = PartSizes::equal(1 << 20);
    let budget = Budget::new(8 << 20);
    let mut slow = JoinSet::new();
    for _ in 0..7 {
        let budget = budget.clone();
        // 20 KiB a second. Were their parts reserved to the end, nothing would be left.
        slow.spawn(async move {
            let wire = Zeroes::slow(2 << 20, 2 << 10, Duration::from_millis(100));
            receive(wire, &budget, sizes).await
        });
    }
    // Long enough for all to be found slow: each has paid for a whole part until then.
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert!(budget.used_bytes() > 1 << 20, "{}", budget.used_bytes());
    let started = Instant::now();
    for _ in 0..3 {
        receive(Zeroes::fast(10 << 20), &budget, sizes).await;
    }
    let taken = started.elapsed();
    assert!(taken < Duration::from_secs(5), "{taken:?}");
    assert_eq!(slow.len(), 7, "the slow ones are still at it");
    assert!(slow.try_join_next().is_none());
    slow.shutdown().await;
}
