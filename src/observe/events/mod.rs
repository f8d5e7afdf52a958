//! [`Hooks`]: webhooks, told of what happened at least once each.
//!
//! An event is a file in the spool, synced to the disk before the client hears that its command is done;
//! it leaves the spool when the receiver has taken it, or for the dead letters when nobody did for too
//! long. So a restart or a crash loses none, and may deliver one twice: `id` says which.

mod deliver;
mod event;
mod filter;
mod spool;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::future::join_all;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use self::{deliver::Delivery, event::Event, filter::Filter, spool::Spool};
use super::{
    metrics::{EventLabels, Metrics, WebhookLabels},
    record::Record,
};
use crate::config::{EventKind, Events};

/// Every webhook.
#[derive(Debug)]
pub struct Hooks {
    hooks: Vec<Hook>,
    source: String,
}

/// One webhook: what it wants, what waits for it, who brings it.
#[derive(Debug)]
struct Hook {
    filter: Filter,
    spool: Arc<Spool>,
    delivery: Delivery,
    metrics: Arc<Metrics>,
    name: Arc<str>,
    most: usize,
    /// Being written: counted, so that the bound holds for those who ask meanwhile.
    arriving: AtomicUsize,
}

/// An event could not be put on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event could not be kept")]
pub struct Unkept;

impl Hooks {
    /// Opens the spool and finds what the last run left. Blocks for the disk.
    ///
    /// # Errors
    /// A directory cannot be made, read or written, or an authority's file not be read.
    pub fn open(settings: &Events, metrics: &Arc<Metrics>) -> io::Result<Self> {
        let open = |hook: &crate::config::Webhook| {
            let spool = Arc::new(Spool::open(&settings.spool.join(&*hook.name))?);
            let opened = Hook {
                filter: Filter::new(hook)?,
                delivery: Delivery::new(hook)?,
                spool,
                metrics: Arc::clone(metrics),
                name: Arc::clone(&hook.name),
                most: settings.spool_events,
                arriving: AtomicUsize::new(0),
            };
            opened.show();
            io::Result::Ok(opened)
        };
        let hooks = settings.webhooks.iter().map(open);
        Ok(Self {
            hooks: hooks.collect::<io::Result<_>>()?,
            source: settings.source.clone(),
        })
    }

    /// Whether every webhook that wants such events has room for one more.
    pub fn has_room(&self, kind: EventKind) -> bool {
        let full = self
            .hooks
            .iter()
            .find(|hook| hook.filter.wants(kind) && !hook.has_room());
        if let Some(full) = full {
            full.count("refused");
            tracing::error!(webhook = &*full.name, "spool is full: uploads are refused");
        }
        full.is_none()
    }

    /// Puts the event of a record, if it is one, on the disk of every webhook that wants it.
    ///
    /// # Errors
    /// The disk does not take it.
    pub(super) async fn keep(&self, record: &Record) -> Result<(), Unkept> {
        let Some(kind) = EventKind::of(record) else {
            return Ok(());
        };
        let mut kept = Ok(());
        for hook in &self.hooks {
            if hook.filter.matches(kind, record) {
                let event = Event::new(kind, &self.source, record);
                kept = hook.keep(kind, &event).await.and(kept);
            }
        }
        kept
    }

    /// Delivers until `stop`.
    pub(super) async fn deliver(&self, stop: CancellationToken) {
        join_all(self.hooks.iter().map(|hook| hook.run(&stop))).await;
    }
}

impl Hook {
    fn has_room(&self) -> bool {
        self.spool.waiting() + self.arriving.load(Ordering::Relaxed) < self.most
    }

    async fn keep(&self, kind: EventKind, event: &Event<'_>) -> Result<(), Unkept> {
        let failed = |error: &dyn std::fmt::Display| {
            self.count("failed");
            tracing::error!(webhook = &*self.name, event = kind.name(), %error, "an event cannot be kept");
            Unkept
        };
        let body = event.body().map_err(|error| failed(&error))?;
        let (spool, id) = (Arc::clone(&self.spool), event.id.to_owned());
        // That of an upload was given room before the upload began.
        let is_dead = kind != EventKind::FileUploaded && !self.has_room();
        self.arriving.fetch_add(1, Ordering::Relaxed);
        let written = spawn_blocking(move || {
            if is_dead {
                spool.bury(&body, "the spool was full")
            } else {
                spool.put(&id, &body)
            }
        })
        .await;
        self.arriving.fetch_sub(1, Ordering::Relaxed);
        match written {
            Ok(Ok(())) => {
                self.count(if is_dead { "dead" } else { "spooled" });
                self.show();
                Ok(())
            }
            Ok(Err(error)) => Err(failed(&error)),
            Err(error) => Err(failed(&error)),
        }
    }

    fn count(&self, outcome: &'static str) {
        let labels = EventLabels {
            webhook: self.name.to_string(),
            outcome,
        };
        self.metrics.events.get_or_create(&labels).inc();
    }

    /// Shows how many wait.
    fn show(&self) {
        let labels = WebhookLabels {
            webhook: self.name.to_string(),
        };
        let waiting = i64::try_from(self.spool.waiting()).unwrap_or(i64::MAX);
        self.metrics
            .events_spooled
            .get_or_create(&labels)
            .set(waiting);
    }
}
