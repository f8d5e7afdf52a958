//! [`Budget`]: the bound on bytes that all running uploads together hold in memory.
//!
//! Owns the permits behind every chunk of upload data between the data connection and the store.
//! Knows nothing of files or connections. Called by [`super::upload`] only.

use std::sync::Arc;

use bytes::{BufMut, Bytes, buf::Limit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Permits are counted in units of 4 KiB: a semaphore counts to 2^29 on 32-bit machines.
const UNIT_BYTES: usize = 4 << 10;
/// Uploads that may finish their part beyond the budget at once, see [`Budget::chunk`].
const EXPRESS_LANES: usize = 4;

/// A process-wide bound on buffered upload bytes.
///
/// An upload takes its memory chunk by chunk, so that a thousand slow devices hold a thousand small
/// chunks and not a thousand parts. When the budget is used up by parts that are all incomplete,
/// nobody could finish; therefore [`EXPRESS_LANES`] uploads at a time may complete the part they are
/// in beyond the budget. The bound is `bytes` plus that many parts.
#[derive(Clone, Debug)]
pub struct Budget {
    units: Arc<Semaphore>,
    express: Arc<Semaphore>,
    total_units: usize,
}

/// Leave to complete one part beyond the budget. Dropped when the part is handed to the store.
#[derive(Debug)]
pub struct Express {
    _lane: OwnedSemaphorePermit,
}

/// A buffer being filled, with the permit that pays for it.
#[derive(Debug)]
pub struct Chunk {
    bytes: Vec<u8>,
    capacity: usize,
    /// `None` for a chunk taken on an express lane. Held for its `Drop`.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// A budget of `bytes`, rounded down to whole units, at least one chunk.
    pub fn new(bytes: usize) -> Self {
        let total_units = (bytes / UNIT_BYTES).clamp(256, Semaphore::MAX_PERMITS);
        Self {
            units: Arc::new(Semaphore::new(total_units)),
            express: Arc::new(Semaphore::new(EXPRESS_LANES)),
            total_units,
        }
    }

    /// Bytes in use, for the metric.
    pub fn used_bytes(&self) -> usize {
        (self.total_units - self.units.available_permits()) * UNIT_BYTES
    }

    /// Waits for a chunk of `bytes`. `express` is the upload's lane, kept until its part is complete.
    ///
    /// # Cancel safety
    /// Dropping the future gives everything back.
    pub async fn chunk(&self, bytes: usize, express: &mut Option<Express>) -> Chunk {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        if express.is_some() {
            return Chunk::new(bytes, None);
        }
        let permit = tokio::select! {
            biased;
            permit = Arc::clone(&self.units).acquire_many_owned(units) => permit.ok(),
            lane = Arc::clone(&self.express).acquire_owned() => {
                *express = lane.ok().map(|lane| Express { _lane: lane });
                None
            }
        };
        Chunk::new(bytes, permit)
    }
}

impl Chunk {
    fn new(capacity: usize, permit: Option<OwnedSemaphorePermit>) -> Self {
        Self {
            bytes: Vec::with_capacity(capacity),
            capacity,
            _permit: permit,
        }
    }

    /// Room that is left, to read into; never grows beyond what was paid for.
    pub fn room(&mut self) -> Limit<&mut Vec<u8>> {
        let left = self.capacity - self.bytes.len();
        (&mut self.bytes).limit(left)
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
    use super::*;

    #[tokio::test]
    async fn chunk_returns_its_memory_with_the_last_clone_of_its_bytes() {
        let budget = Budget::new(1 << 20);
        let bytes = budget.chunk(256 << 10, &mut None).await.freeze();
        let clone = bytes.clone();
        drop(bytes);
        assert_eq!(budget.used_bytes(), 256 << 10);
        drop(clone);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[tokio::test]
    async fn exhausted_budget_lets_only_the_express_lanes_go_on() {
        let budget = Budget::new(1 << 20);
        let mut express: Vec<Option<Express>> = (0..8).map(|_| None).collect();
        let mut held = Vec::new();
        for lane in &mut express[..4] {
            held.push(budget.chunk(256 << 10, lane).await);
            assert!(lane.is_none(), "the budget itself pays while it lasts");
        }
        for lane in &mut express[..EXPRESS_LANES] {
            held.push(budget.chunk(256 << 10, lane).await);
            assert!(lane.is_some());
        }
        let mut nobody = None;
        let waits = budget.chunk(4096, &mut nobody);
        tokio::pin!(waits);
        assert!(futures_util::poll!(&mut waits).is_pending());
        express[0] = None;
        assert!(waits.await.is_empty());
        assert!(nobody.is_some());
    }
}
