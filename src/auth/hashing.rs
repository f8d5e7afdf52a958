//! [`Hashing`]: password checks off the async workers, as many at once as there are cores.

use std::time::Duration;

use tokio::{sync::Semaphore, time::timeout};

/// Who waits longer than this is told to come back: the client's own patience ends about then.
const PATIENCE: Duration = Duration::from_secs(20);
/// Checks that may wait, for each that runs. At 50 ms a check, about three seconds of work.
const WAITING_PER_CORE: usize = 64;

/// A bounded queue in front of the blocking threads. A check takes tens of milliseconds and
/// megabytes.
#[derive(Debug)]
pub struct Hashing {
    running: Semaphore,
    waiting: Semaphore,
}

/// Too many checks wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords wait for their check")]
pub struct Busy;

impl Default for Hashing {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self {
            running: Semaphore::new(cores),
            waiting: Semaphore::new(cores * (WAITING_PER_CORE + 1)),
        }
    }
}

impl Hashing {
    /// Runs `check` on a blocking thread when its turn comes. `None` if it panicked, which is a failed
    /// login.
    ///
    /// # Errors
    /// [`Busy`], at once or after [`PATIENCE`].
    pub async fn run<T: Send + 'static>(
        &self,
        check: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Option<T>, Busy> {
        // Neither semaphore is ever closed.
        let _place = self.waiting.try_acquire().map_err(|_| Busy)?;
        let turn = timeout(PATIENCE, self.running.acquire()).await;
        let _turn = turn.map_err(|_| Busy)?.map_err(|_| Busy)?;
        Ok(tokio::task::spawn_blocking(check).await.ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn queue_is_bounded_and_empties() {
        let hashing = Hashing {
            running: Semaphore::new(1),
            waiting: Semaphore::new(2),
        };
        let (release, held) = std::sync::mpsc::channel::<()>();
        let slow = hashing.run(move || held.recv().is_ok());
        let queued = hashing.run(|| 7);
        tokio::pin!(slow, queued);
        // Polled once each: the first runs, the second waits, a third has no place.
        assert!(futures_util::poll!(&mut slow).is_pending());
        assert!(futures_util::poll!(&mut queued).is_pending());
        assert_eq!(hashing.run(|| 8).await, Err(Busy));
        release.send(()).unwrap();
        assert_eq!(slow.await, Ok(Some(true)));
        assert_eq!(queued.await, Ok(Some(7)));
        assert_eq!(hashing.run(|| 9).await, Ok(Some(9)));
    }
}
