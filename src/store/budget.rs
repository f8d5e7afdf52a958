//! [`Budget`]: the bound on bytes that all running uploads together hold in memory.
//!
//! Owns the permits behind every chunk of upload data between the data connection and the store.
//! Knows nothing of files or connections. Called by [`super::upload`] only.

use std::sync::Arc;

use bytes::{BufMut, Bytes, buf::Limit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Permits are counted in units of 4 KiB: a semaphore counts to 2^29 on 32-bit machines.
const UNIT_BYTES: usize = 4 << 10;
/// One upload for so many bytes of budget may go on beyond it, see [`Budget`].
const BYTES_PER_LANE: usize = 64 << 20;

/// A process-wide bound on buffered upload bytes.
///
/// An upload takes its memory chunk by chunk, so that a thousand slow devices hold a thousand small
/// chunks and not a thousand parts. When the budget is used up, every upload may hold bytes that only
/// more bytes would set free: S3 takes no part below 5 MiB, and OpenDAL keeps back one part of each
/// upload until the next one comes. Therefore a few uploads (one for each 64 MiB, at least one, at
/// most four) go on beyond the budget to their end, one after the other. The bound is `bytes` plus
/// what that many uploads hold: five parts each.
#[derive(Clone, Debug)]
pub struct Budget {
    units: Arc<Semaphore>,
    express: Arc<Semaphore>,
    total_units: usize,
}

/// Leave to go on beyond the budget. An upload keeps it to its end, and every chunk taken with it
/// holds a share, so that the lane is free only when the store is done with all of them.
#[derive(Clone, Debug)]
pub struct Express {
    /// Held for its `Drop`, by as many as need the lane.
    _lane: Arc<OwnedSemaphorePermit>,
}

/// A buffer being filled, with the permit that pays for it.
#[derive(Debug)]
pub struct Chunk {
    bytes: Vec<u8>,
    capacity: usize,
    /// What pays for it. Held for its `Drop`.
    _payment: Payment,
}

#[derive(Debug)]
enum Payment {
    Budget {
        _permit: OwnedSemaphorePermit,
    },
    Lane {
        _lane: Express,
    },
    /// The semaphores are never closed; a chunk that nobody paid for is the lesser evil.
    None,
}

impl Budget {
    /// A budget of `bytes`, rounded down to whole units, at least one chunk.
    pub fn new(bytes: usize) -> Self {
        let total_units = (bytes / UNIT_BYTES).clamp(256, Semaphore::MAX_PERMITS);
        Self {
            units: Arc::new(Semaphore::new(total_units)),
            express: Arc::new(Semaphore::new((bytes / BYTES_PER_LANE).clamp(1, 4))),
            total_units,
        }
    }

    /// Bytes in use, for the metric.
    pub fn used_bytes(&self) -> usize {
        (self.total_units - self.units.available_permits()) * UNIT_BYTES
    }

    /// Waits for a chunk of `bytes`. `express` is the upload's lane, kept to its end.
    ///
    /// # Cancel safety
    /// Dropping the future gives everything back.
    pub async fn chunk(&self, bytes: usize, express: &mut Option<Express>) -> Chunk {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        if let Some(lane) = express {
            return Chunk::new(
                bytes,
                Payment::Lane {
                    _lane: lane.clone(),
                },
            );
        }
        let payment = tokio::select! {
            biased;
            permit = Arc::clone(&self.units).acquire_many_owned(units) => {
                permit.map_or(Payment::None, |permit| Payment::Budget { _permit: permit })
            }
            lane = Arc::clone(&self.express).acquire_owned() => match lane {
                Ok(lane) => {
                    let lane = Express { _lane: Arc::new(lane) };
                    *express = Some(lane.clone());
                    Payment::Lane { _lane: lane }
                }
                Err(_) => Payment::None,
            },
        };
        Chunk::new(bytes, payment)
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
    async fn exhausted_budget_lets_only_the_express_lane_go_on() {
        let budget = Budget::new(1 << 20);
        let mut express: Vec<Option<Express>> = (0..5).map(|_| None).collect();
        let mut held = Vec::new();
        for lane in &mut express[..4] {
            held.push(budget.chunk(256 << 10, lane).await);
            assert!(lane.is_none(), "the budget itself pays while it lasts");
        }
        held.push(budget.chunk(256 << 10, &mut express[4]).await);
        assert!(express[4].is_some());
        held.push(budget.chunk(256 << 10, &mut express[4]).await);
        let mut late = None;
        {
            let waits = budget.chunk(4096, &mut late);
            tokio::pin!(waits);
            assert!(futures_util::poll!(&mut waits).is_pending());
            // The upload ended, but the store still has one of its chunks.
            express[4] = None;
            held.pop();
            assert!(futures_util::poll!(&mut waits).is_pending());
            held.pop();
            assert!(waits.await.is_empty());
        }
        assert!(late.is_some());
    }
}
