//! [`Paced`]: a data connection that moves no more bytes a second than it may.
//!
//! Owns the waiting; [`bucket`] owns the rates, which sessions of one user and of one listener share.
//! Nothing is buffered here: whoever may not read yet lets TCP hold the client back.

mod bucket;

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

pub(in crate::edge) use self::bucket::Bucket;
pub(crate) use self::bucket::Buckets;
use crate::store::transfer::Wire;

/// What a data connection is held to: of its session, user and listener, as there are.
#[derive(Clone, Debug, Default)]
pub(super) struct Pacing {
    upload: Vec<Arc<Bucket>>,
    download: Vec<Arc<Bucket>>,
}

/// A wire held to a [`Pacing`].
#[derive(Debug)]
struct Paced {
    wire: Box<dyn Wire>,
    reads: Pace,
    writes: Pace,
}

/// One direction.
#[derive(Debug)]
struct Pace {
    buckets: Vec<Arc<Bucket>>,
    /// Bytes that may move now.
    allowed: u64,
    /// Bytes that may move when the time has come.
    reserved: u64,
    waiting: Option<Pin<Box<Sleep>>>,
    /// When the last wait ended.
    released: Option<Instant>,
}

impl Pacing {
    /// All these at once.
    pub(super) fn new<'a>(scopes: impl IntoIterator<Item = &'a Buckets>) -> Self {
        let mut pacing = Self::default();
        for buckets in scopes {
            pacing.upload.extend(buckets.upload.clone());
            pacing.download.extend(buckets.download.clone());
        }
        pacing
    }

    /// The wire, held back where there is something to hold it to.
    pub(super) fn hold(&self, wire: Box<dyn Wire>) -> Box<dyn Wire> {
        if self.upload.is_empty() && self.download.is_empty() {
            return wire;
        }
        Box::new(Paced {
            wire,
            reads: Pace::new(self.upload.clone()),
            writes: Pace::new(self.download.clone()),
        })
    }
}

impl Pace {
    fn new(buckets: Vec<Arc<Bucket>>) -> Self {
        Self {
            buckets,
            allowed: 0,
            reserved: 0,
            waiting: None,
            released: None,
        }
    }

    /// Waits until some bytes may move, and says how many.
    fn poll_allowed(&mut self, context: &mut Context<'_>) -> Poll<usize> {
        let Some(turn) = self.buckets.iter().map(|bucket| bucket.turn()).min() else {
            return Poll::Ready(usize::MAX);
        };
        while self.allowed == 0 {
            if let Some(waiting) = &mut self.waiting {
                ready!(waiting.as_mut().poll(context));
                self.waiting = None;
                self.released = Some(Instant::now());
                self.allowed = std::mem::take(&mut self.reserved);
                continue;
            }
            let now = Instant::now();
            let starts = self.buckets.iter().map(|bucket| bucket.reserve(turn, now));
            let start = starts.max().unwrap_or(now);
            if start <= now {
                self.allowed = turn;
            } else {
                self.reserved = turn;
                self.waiting = Some(Box::pin(sleep_until(start)));
            }
        }
        Poll::Ready(usize::try_from(self.allowed).unwrap_or(usize::MAX))
    }

    fn held_until(&self) -> Option<Instant> {
        match self.waiting {
            Some(_) => Some(Instant::now()),
            None => self.released,
        }
    }

    fn moved(&mut self, bytes: usize) {
        self.allowed = self.allowed.saturating_sub(bytes as u64);
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        // Small files use little of their last turn.
        for bucket in &self.buckets {
            bucket.give_back(self.allowed + self.reserved);
        }
    }
}

impl AsyncRead for Paced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.reads.buckets.is_empty() {
            return Pin::new(&mut this.wire).poll_read(context, buffer);
        }
        let allowed = ready!(this.reads.poll_allowed(context));
        let room = buffer.remaining().min(allowed);
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(room));
        ready!(Pin::new(&mut this.wire).poll_read(context, &mut part))?;
        let moved = part.filled().len();
        buffer.advance(moved);
        this.reads.moved(moved);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Paced {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let allowed = ready!(this.writes.poll_allowed(context));
        let part = &bytes[..bytes.len().min(allowed)];
        let moved = ready!(Pin::new(&mut this.wire).poll_write(context, part))?;
        this.writes.moved(moved);
        Poll::Ready(Ok(moved))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(context)
    }
}

impl Wire for Paced {
    fn held_until(&self) -> Option<std::time::Instant> {
        let held = self.reads.held_until().max(self.writes.held_until());
        held.map(Instant::into_std)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::config::Rates;

    impl Wire for tokio::io::DuplexStream {}

    fn rates(rate: u64) -> Rates {
        Rates {
            upload: NonZeroU64::new(rate),
            download: NonZeroU64::new(rate),
        }
    }

    /// Reads `bytes` through `pacing` and says how long it took.
    async fn upload(pacing: Pacing, bytes: usize) -> f64 {
        let (mut client, server) = duplex(1 << 16);
        let mut wire = pacing.hold(Box::new(server));
        let feed = async move { client.write_all(&vec![7; bytes]).await.unwrap() };
        let start = Instant::now();
        let drain = async {
            let mut content = Vec::new();
            wire.read_to_end(&mut content).await.unwrap();
            assert_eq!(content.len(), bytes);
            start.elapsed().as_secs_f64()
        };
        tokio::join!(feed, drain).1
    }

    // Never faster than the rate and its credit of 0.1 s; a busy machine may be slower.

    #[tokio::test]
    async fn a_transfer_takes_as_long_as_its_tightest_rate_allows() {
        let (session, user) = (
            Buckets::new(rates(1_000_000)),
            Buckets::new(rates(10_000_000)),
        );
        let took = upload(Pacing::new([&session, &user]), 500_000).await;
        assert!((0.35..2.0).contains(&took), "{took}");
    }

    #[tokio::test]
    async fn three_sessions_share_fairly() {
        let user = Buckets::new(rates(3_000_000));
        let one = || upload(Pacing::new([&user]), 500_000);
        let (first, second, third) = tokio::join!(one(), one(), one());
        for took in [first, second, third] {
            assert!((0.33..2.0).contains(&took), "{first} {second} {third}");
        }
    }

    #[tokio::test]
    async fn small_files_pay_for_their_bytes_only() {
        let user = Buckets::new(rates(1_000_000));
        let start = Instant::now();
        for _ in 0..500 {
            upload(Pacing::new([&user]), 1000).await;
        }
        // Whole turns would be twenty-five seconds.
        let took = start.elapsed().as_secs_f64();
        assert!((0.3..5.0).contains(&took), "{took}");
    }

    #[tokio::test]
    async fn writing_is_held_back_too() {
        let (mut client, server) = duplex(1 << 16);
        let pacing = Pacing::new([&Buckets::new(rates(1_000_000))]);
        let mut wire = pacing.hold(Box::new(server));
        let start = Instant::now();
        let send = async {
            wire.write_all(&vec![7; 500_000]).await.unwrap();
            wire.shutdown().await.unwrap();
        };
        let receive = async {
            let mut content = Vec::new();
            client.read_to_end(&mut content).await.unwrap();
            content.len()
        };
        let ((), received) = tokio::join!(send, receive);
        assert_eq!(received, 500_000);
        let took = start.elapsed().as_secs_f64();
        assert!((0.35..2.0).contains(&took), "{took}");
    }
}
