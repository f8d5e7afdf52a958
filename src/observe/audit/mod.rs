//! [`Trail`]: the audit trail, written by a thread of its own behind a bounded queue.
//!
//! A slow disk makes the queue long, not the sessions slow; when the queue is full, the configuration
//! says whether a session waits (a bounded time) or the line is lost. Every lost line is counted.

mod file;

use std::{
    io::{self, Write as _},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use self::file::TrailFile;
use super::{
    metrics::{AuditLabels, Metrics},
    record::Record,
};
use crate::config::{Audit, WhenFull};

/// Longest wait of a session for room in the queue.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest wait for the last lines when the server ends.
const FAREWELL: Duration = Duration::from_secs(10);
/// Lines that are written and synced together.
const BATCH: usize = 1000;
/// After a failed write.
const PAUSE: Duration = Duration::from_secs(1);

/// The sessions' end of the queue.
#[derive(Debug)]
pub struct Trail {
    queue: mpsc::Sender<Order>,
    when_full: WhenFull,
    metrics: Arc<Metrics>,
    /// Completes when the thread has ended.
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

#[derive(Debug)]
enum Order {
    Line(String),
    End,
}

/// The thread's end.
struct Writer {
    queue: mpsc::Receiver<Order>,
    file: Option<TrailFile>,
    stdout: bool,
    metrics: Arc<Metrics>,
}

impl Trail {
    /// Opens the file and starts the thread, which ends with [`Trail::close`] or with the last sender.
    ///
    /// # Errors
    /// The file cannot be opened for writing, or there is no thread.
    pub fn open(settings: &Audit, metrics: &Arc<Metrics>) -> io::Result<Self> {
        let (queue, orders) = mpsc::channel(settings.queue_lines);
        let (report, ended) = oneshot::channel();
        let file = settings.file.clone().map(TrailFile::open).transpose()?;
        let writer = Writer {
            queue: orders,
            file,
            stdout: settings.stdout,
            metrics: Arc::clone(metrics),
        };
        // Not one of the runtime's: its end would wait for a disk that hangs.
        thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || {
                writer.run();
                // Nobody may be waiting.
                let _ = report.send(());
            })?;
        Ok(Self {
            queue,
            when_full: settings.when_full,
            metrics: Arc::clone(metrics),
            ended: Mutex::new(Some(ended)),
        })
    }

    /// Queues the line of a record.
    pub(super) async fn write(&self, record: &Record) {
        let line = match record.line() {
            Ok(line) => line,
            Err(error) => {
                tracing::error!(%error, "a record cannot be written as JSON");
                return self.lose(&record.id);
            }
        };
        let order = Order::Line(line);
        let sent = match self.when_full {
            WhenFull::Drop => self.queue.try_send(order).is_ok(),
            WhenFull::Wait => self.queue.send_timeout(order, PATIENCE).await.is_ok(),
        };
        if !sent {
            self.lose(&record.id);
        }
    }

    fn lose(&self, id: &str) {
        tracing::error!(
            record = id,
            "an audit line is lost: the disk does not keep up"
        );
        self.metrics.count_audit("dropped", 1);
    }

    /// Writes what waits and ends the thread.
    pub(super) async fn close(&self) {
        let ended = self
            .ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(ended) = ended else { return };
        let farewell = async {
            // A thread that has ended takes nothing.
            let _ = self.queue.send(Order::End).await;
            let _ = ended.await;
        };
        if timeout(FAREWELL, farewell).await.is_err() {
            tracing::error!("the last audit lines are not written: the disk does not answer");
        }
    }
}

impl Writer {
    fn run(mut self) {
        let mut ends = false;
        while !ends {
            let mut batch = Vec::new();
            let mut next = self.queue.blocking_recv();
            loop {
                match next {
                    Some(Order::Line(line)) => batch.push(line),
                    Some(Order::End) => ends = true,
                    // Every sender is gone.
                    None => return,
                }
                if batch.len() >= BATCH {
                    break;
                }
                next = match self.queue.try_recv() {
                    Ok(order) => Some(order),
                    Err(_) => break,
                };
            }
            if !batch.is_empty() {
                self.write(&batch, ends);
            }
        }
    }

    /// Writes a batch, again and again until it is on the disk: meanwhile the queue fills up, and the
    /// configuration says what that means.
    fn write(&mut self, batch: &[String], ends: bool) {
        let text = batch.join("\n") + "\n";
        if self.stdout
            && let Err(error) = io::stdout().lock().write_all(text.as_bytes())
        {
            tracing::error!(%error, "audit lines cannot be written to standard output");
        }
        if let Some(file) = &mut self.file {
            let mut complained = false;
            while let Err(error) = file.write(text.as_bytes()) {
                if !complained {
                    let path = file.path().display().to_string();
                    tracing::error!(path, %error, "audit lines cannot be written");
                    complained = true;
                }
                self.metrics.count_audit("retried", 1);
                if ends {
                    return self.metrics.count_audit("dropped", batch.len());
                }
                thread::sleep(PAUSE);
            }
        }
        self.metrics.count_audit("written", batch.len());
    }
}

impl Metrics {
    fn count_audit(&self, outcome: &'static str, lines: usize) {
        self.audit_records
            .get_or_create(&AuditLabels { outcome })
            .inc_by(lines as u64);
    }
}
