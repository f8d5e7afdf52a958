//! [`Budget`]: the bound on bytes that all running uploads together hold in memory.
//!
//! Owns the permits behind every chunk of upload data between the data connection and the store.
//! Knows nothing of files or connections. Called by [`super::upload`] only.

use std::{sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, buf::Limit};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// Permits are counted in units of 4 KiB: a semaphore counts to 2^29 on 32-bit machines.
const UNIT_BYTES: usize = 4 << 10;
/// First chunk of an upload: many files of small devices fit.
const FIRST_CHUNK_BYTES: usize = 16 << 10;
/// Largest chunk: one read of a fast connection.
const CHUNK_BYTES: usize = 256 << 10;
/// What one upload takes before it asks for a whole part: most files of small devices end here.
const SMALL_BYTES: usize = 240 << 10;
/// Chunks of a slow upload, which stay half empty for long.
const SLOW_CHUNK_BYTES: usize = 64 << 10;
/// How long an upload is given before its speed counts.
const PATIENCE: Duration = Duration::from_secs(5);
/// An upload that would take longer than this for one part is a slow one.
const PART_TIME: Duration = Duration::from_secs(20);

/// A process-wide bound on buffered upload bytes.
///
/// Stores such as S3 take no part below 5 MiB, so an upload holds bytes that only more bytes set
/// free. If all of the budget were given away chunk by chunk, every upload might sit on half a part
/// and none could go on. Therefore the budget has three pools, and whoever waits for one of them holds
/// nothing of it and nothing of those behind it:
///
/// 1. An eighth for first chunks: 16 KiB for every upload, kept to its end, and a little more while
///    half of the pool is free. A file that ends here never waits for others.
/// 2. Five eighths for parts. A fast upload pays for a whole part in advance and is certain to fill
///    it; it waits its turn part by part, so that uploads share the pool fairly. One that turns out
///    slow gives back what it has not filled and goes on chunk by chunk, in at most half of the pool:
///    slow uploads do not shut out fast ones.
/// 3. A quarter for lanes: where a slow upload finds no chunk, it takes a lane, the rest of its part
///    paid for at once. So somebody can always end a part. Fast uploads use what is free of it.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Pools>);

#[derive(Debug)]
struct Pools {
    first: Pool,
    parts: Pool,
    /// The share of `parts` that slow uploads may hold.
    slow: Pool,
    lanes: Pool,
}

#[derive(Debug)]
struct Pool {
    units: Arc<Semaphore>,
    total: usize,
}

/// One upload's claim on the [`Budget`].
#[derive(Debug)]
pub struct Allowance {
    budget: Budget,
    /// The store keeps back one part until the next one comes, so that a lane must last to the end.
    keeps_part_back: bool,
    /// Pays for first chunks, kept to the end of the upload.
    standing: Option<Arc<OwnedSemaphorePermit>>,
    /// What is paid for of the present part and not yet handed out.
    reserve: Option<OwnedSemaphorePermit>,
    /// A lane, shared by the chunks that it pays for.
    lane: Option<Arc<OwnedSemaphorePermit>>,
    /// Bytes handed out of the present part and since when.
    pace: Pace,
    slow: bool,
    /// Whether the present part is the first.
    beginning: bool,
    chunk_bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Pace {
    since: Instant,
    part_bytes: usize,
    filled: usize,
}

/// A buffer being filled, with what pays for it.
#[derive(Debug)]
pub struct Chunk {
    bytes: Vec<u8>,
    capacity: usize,
    /// Held for its `Drop`.
    _payment: Payment,
}

#[derive(Debug)]
enum Payment {
    Pool {
        _permit: Option<OwnedSemaphorePermit>,
        _slow: Option<OwnedSemaphorePermit>,
    },
    Shared {
        _permit: Option<Arc<OwnedSemaphorePermit>>,
    },
}

impl Pool {
    fn new(units: usize) -> Self {
        let total = units.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            units: Arc::new(Semaphore::new(total)),
            total,
        }
    }

    /// Waits for `bytes`, or for all there is if that is less. `None` is what a closed semaphore
    /// would give, and none is ever closed: a chunk that nobody paid for is the lesser evil.
    async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = self.units_of(bytes);
        Arc::clone(&self.units).acquire_many_owned(units).await.ok()
    }

    fn try_take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = self.units_of(bytes);
        Arc::clone(&self.units).try_acquire_many_owned(units).ok()
    }

    fn units_of(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT_BYTES).min(self.total)).unwrap_or(u32::MAX)
    }

    fn used(&self) -> usize {
        self.total.saturating_sub(self.units.available_permits())
    }
}

impl Budget {
    /// A budget of `bytes`, rounded down to whole units, at least 1 MiB.
    pub fn new(bytes: usize) -> Self {
        let units = (bytes / UNIT_BYTES).max(256);
        let (first, lanes) = (units / 8, units / 4);
        let parts = units - first - lanes;
        Self(Arc::new(Pools {
            first: Pool::new(first),
            parts: Pool::new(parts),
            slow: Pool::new(parts / 2),
            lanes: Pool::new(lanes),
        }))
    }

    /// Bytes that are given away, for the metric.
    pub fn used_bytes(&self) -> usize {
        let Pools {
            first,
            parts,
            lanes,
            ..
        } = &*self.0;
        (first.used() + parts.used() + lanes.used()) * UNIT_BYTES
    }

    /// The largest part that an upload can be certain to fill: a quarter of the budget.
    pub fn largest_part_bytes(&self) -> usize {
        self.0.lanes.total * UNIT_BYTES
    }

    /// The claim of one upload.
    pub fn allowance(&self, keeps_part_back: bool) -> Allowance {
        Allowance {
            budget: self.clone(),
            keeps_part_back,
            standing: None,
            reserve: None,
            lane: None,
            pace: Pace {
                since: Instant::now(),
                part_bytes: 0,
                filled: 0,
            },
            slow: false,
            beginning: true,
            chunk_bytes: FIRST_CHUNK_BYTES,
        }
    }
}

impl Allowance {
    /// Begins a part of `bytes` with its first chunk. The first one of an upload waits until there
    /// are fewer uploads; the others are paid for by the same permit.
    pub async fn first(&mut self, bytes: usize) -> Chunk {
        if self.standing.is_none() {
            let permit = self.budget.0.first.take(FIRST_CHUNK_BYTES).await;
            self.standing = permit.map(Arc::new);
        }
        self.pace = Pace {
            since: Instant::now(),
            part_bytes: bytes,
            filled: 0,
        };
        let payment = Payment::Shared {
            _permit: self.standing.clone(),
        };
        Chunk::new(FIRST_CHUNK_BYTES.min(bytes), payment)
    }

    /// Waits for the next chunk of a part that takes `left` bytes more.
    ///
    /// # Cancel safety
    /// Dropping the future gives everything back.
    pub async fn chunk(&mut self, left: usize) -> Chunk {
        let pools = Arc::clone(&self.budget.0);
        self.chunk_bytes = (self.chunk_bytes * 2).min(CHUNK_BYTES);
        let bytes = self.chunk_bytes.min(left);
        if self.lane.is_some() {
            return self.of_lane(bytes);
        }
        if let Some(chunk) = self.of_reserve(bytes) {
            return chunk;
        }
        if self.beginning
            && self.pace.filled + bytes <= SMALL_BYTES
            && pools.first.used() * 2 < pools.first.total
            && let Some(permit) = pools.first.try_take(bytes)
        {
            return Chunk::new(bytes, Payment::pool(Some(permit)));
        }
        if !self.slow {
            self.reserve_part(&pools, left).await;
            if let Some(chunk) = self.of_reserve(bytes) {
                return chunk;
            }
            if self.lane.is_some() {
                return self.of_lane(bytes);
            }
        }
        let bytes = SLOW_CHUNK_BYTES.min(left);
        let chunk = async {
            let slow = pools.slow.take(bytes).await;
            let permit = pools.parts.take(bytes).await;
            Payment::Pool {
                _permit: permit,
                _slow: slow,
            }
        };
        tokio::select! {
            biased;
            payment = chunk => Chunk::new(bytes, payment),
            lane = pools.lanes.take(self.lane_bytes(left)) => {
                self.lane = lane.map(Arc::new);
                self.of_lane(bytes)
            }
        }
    }

    /// Says how much of the present part has arrived, and sees whether the upload is a slow one.
    pub fn filled(&mut self, bytes: usize) {
        self.pace.filled += bytes;
        if self.reserve.is_some() && self.pace.is_slow(Instant::now()) {
            self.slow_down();
        }
    }

    /// How long to wait for bytes before calling [`Self::slow_down`]; `None` if there is nothing
    /// more to give back.
    pub fn patience(&self) -> Option<Duration> {
        self.reserve.as_ref().map(|_| PATIENCE)
    }

    /// Gives back what was paid for in advance.
    pub fn slow_down(&mut self) {
        self.reserve = None;
        self.slow = true;
    }

    /// Ends a part: the next one begins anew.
    pub fn end_part(&mut self) {
        self.reserve = None;
        self.beginning = false;
        self.slow = self.slow && self.pace.since.elapsed() > PART_TIME;
        if !self.keeps_part_back {
            self.lane = None;
        }
    }

    /// Pays for the rest of a part; a store that keeps parts back may need a lane for it.
    async fn reserve_part(&mut self, pools: &Pools, left: usize) {
        if let Some(permit) = pools.lanes.try_take(left).filter(|_| !self.keeps_part_back) {
            self.reserve = Some(permit);
        } else if self.keeps_part_back && !self.beginning {
            tokio::select! {
                biased;
                permit = pools.parts.take(left) => self.reserve = permit,
                lane = pools.lanes.take(self.lane_bytes(left)) => self.lane = lane.map(Arc::new),
            }
        } else {
            self.reserve = pools.parts.take(left).await;
        }
        // The wait was ours and not the client's.
        self.pace.since = Instant::now();
    }

    /// A lane ends with its part, or with the upload where parts are kept back: then it pays for the
    /// part that is kept, those on their way and the one being filled.
    fn lane_bytes(&self, left: usize) -> usize {
        if self.keeps_part_back {
            left.saturating_mul(4)
        } else {
            left
        }
    }

    fn of_reserve(&mut self, bytes: usize) -> Option<Chunk> {
        let reserve = self.reserve.as_mut()?;
        let permit = reserve.split(bytes.div_ceil(UNIT_BYTES).min(reserve.num_permits()))?;
        Some(Chunk::new(bytes, Payment::pool(Some(permit))))
    }

    fn of_lane(&self, bytes: usize) -> Chunk {
        let payment = Payment::Shared {
            _permit: self.lane.clone(),
        };
        Chunk::new(bytes, payment)
    }
}

impl Pace {
    /// Whether the part would take longer than it should at the speed so far.
    fn is_slow(&self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.since);
        // filled / elapsed < part / time, without division.
        let due = self.part_bytes as u128 * elapsed.as_millis();
        elapsed > PATIENCE && (self.filled as u128 * PART_TIME.as_millis()) < due
    }
}

impl Payment {
    fn pool(permit: Option<OwnedSemaphorePermit>) -> Self {
        Self::Pool {
            _permit: permit,
            _slow: None,
        }
    }
}

impl Chunk {
    fn new(capacity: usize, payment: Payment) -> Self {
        Self {
            bytes: Vec::with_capacity(capacity),
            capacity,
            _payment: payment,
        }
    }

    /// Room that is left, to read into; never grows beyond what was paid for.
    pub fn room(&mut self) -> Limit<&mut Vec<u8>> {
        let left = self.capacity - self.bytes.len();
        (&mut self.bytes).limit(left)
    }

    /// The last `count` bytes that were read into it.
    pub fn newest(&self, count: usize) -> &[u8] {
        &self.bytes[self.bytes.len().saturating_sub(count)..]
    }

    /// Whether nothing more fits.
    pub fn is_full(&self) -> bool {
        self.bytes.len() == self.capacity
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes, which keep the permit until the last clone of them is dropped.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, poll};

    use super::*;

    const PART: usize = 1 << 20;

    /// Fills one part and keeps what pays for it.
    async fn fill(allowance: &mut Allowance) -> Vec<Chunk> {
        let mut chunks = vec![allowance.first(PART).await];
        let mut left = PART - FIRST_CHUNK_BYTES;
        allowance.filled(FIRST_CHUNK_BYTES);
        while left > 0 {
            let chunk = allowance.chunk(left).await;
            left -= chunk.capacity;
            allowance.filled(chunk.capacity);
            chunks.push(chunk);
        }
        allowance.end_part();
        chunks
    }

    #[tokio::test]
    async fn memory_comes_back_with_the_last_clone_of_its_bytes() {
        let budget = Budget::new(8 << 20);
        let mut allowance = budget.allowance(false);
        let chunk = allowance.first(PART).await;
        let bytes = chunk.freeze();
        let clone = bytes.clone();
        drop((allowance, bytes));
        assert_eq!(budget.used_bytes(), FIRST_CHUNK_BYTES);
        drop(clone);
        assert_eq!(budget.used_bytes(), 0);
        let mut allowance = budget.allowance(false);
        let part = fill(&mut allowance).await;
        assert_eq!(budget.used_bytes(), PART);
        drop((part, allowance));
        assert_eq!(budget.used_bytes(), 0);
    }

    #[tokio::test]
    async fn a_reserved_part_is_filled_without_waiting() {
        let budget = Budget::new(8 << 20);
        let mut uploads: Vec<_> = (0..20).map(|_| budget.allowance(false)).collect();
        let mut filled = Vec::new();
        let mut waiting = 0;
        for upload in &mut uploads {
            let part = fill(upload);
            tokio::pin!(part);
            // Every await but the one for the whole part is ready at once.
            match poll!(&mut part) {
                std::task::Poll::Ready(part) => filled.push(part),
                std::task::Poll::Pending => waiting += 1,
            }
        }
        assert!(filled.len() >= 6, "{} of 20", filled.len());
        assert!(waiting > 0 && budget.used_bytes() <= 8 << 20);
        drop(uploads);
        // What ended its part goes on as soon as the store has taken it.
        filled.clear();
        let mut one = budget.allowance(false);
        fill(&mut one).await;
        fill(&mut one).await;
    }

    #[tokio::test]
    async fn slow_uploads_leave_half_of_the_parts_to_fast_ones() {
        let budget = Budget::new(8 << 20);
        let mut held = Vec::new();
        let mut slow: Vec<_> = (0..200).map(|_| budget.allowance(false)).collect();
        for upload in &mut slow {
            held.push(upload.first(PART).await);
            upload.beginning = false;
            upload.slow_down();
            while upload.lane.is_none()
                && let Some(chunk) = upload.chunk(PART - FIRST_CHUNK_BYTES).now_or_never()
            {
                held.push(chunk);
            }
            if budget.0.first.units.available_permits() < 8 {
                break;
            }
        }
        let mut fast = budget.allowance(false);
        fast.standing = slow[0].standing.clone();
        drop(fill(&mut fast).await);
        drop(fill(&mut fast).await);
    }

    #[tokio::test]
    async fn lanes_let_one_upload_after_the_other_end() {
        // Everybody is slow and holds half a part, of all there is.
        let budget = Budget::new(8 << 20);
        let pools = Arc::clone(&budget.0);
        let _parts = pools.parts.try_take(pools.parts.total * UNIT_BYTES);
        for keeps_part_back in [false, true] {
            let mut one = budget.allowance(keeps_part_back);
            let mut two = budget.allowance(keeps_part_back);
            for upload in [&mut one, &mut two] {
                upload.first(PART).await;
                upload.beginning = false;
                upload.slow_down();
            }
            let chunk = one.chunk(PART - FIRST_CHUNK_BYTES).await;
            let others = pools
                .lanes
                .try_take(pools.lanes.units.available_permits() * UNIT_BYTES);
            {
                let waits = two.chunk(PART - FIRST_CHUNK_BYTES);
                tokio::pin!(waits);
                assert!(poll!(&mut waits).is_pending());
                one.end_part();
                assert!(
                    poll!(&mut waits).is_pending(),
                    "the store still has a chunk"
                );
            }
            drop((chunk, one, others));
            two.chunk(PART - FIRST_CHUNK_BYTES).await;
        }
    }

    #[test]
    fn speed_counts_after_a_while_only() {
        let since = Instant::now();
        let pace = |filled| Pace {
            since,
            part_bytes: 8 << 20,
            filled,
        };
        for (seconds, filled, slow) in [
            (1, 0, false),
            (6, 1 << 20, true),
            (6, 3 << 20, false),
            (19, 7 << 20, true),
            (30, 7 << 20, true),
        ] {
            let now = since + Duration::from_secs(seconds);
            assert_eq!(
                pace(filled).is_slow(now),
                slow,
                "{filled} after {seconds} s"
            );
        }
    }
}
