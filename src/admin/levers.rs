//! [`Levers`]: what an operator can move, and [`Orders`]: where whoever owns it hears of that.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use utoipa::ToSchema;

/// Orders that may wait: whoever gives one waits for the answer, so more would only pile up.
const WAITING: usize = 4;

/// The operator's end.
#[derive(Clone, Debug)]
pub struct Levers {
    drain: mpsc::Sender<DrainOrder>,
    reload: mpsc::Sender<ReloadOrder>,
}

/// The other end, which the server's own loop holds.
#[derive(Debug)]
pub struct Orders {
    /// Stop, or stop sooner.
    pub drain: mpsc::Receiver<DrainOrder>,
    /// Look at all files now.
    pub reload: mpsc::Receiver<ReloadOrder>,
}

/// Stop: nobody new gets in, running transfers may end until the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainOrder {
    /// From now; `None` is the configured `timeouts.drain_seconds`.
    pub deadline: Option<Duration>,
}

/// Look at all files now, and say what came of it.
#[derive(Debug)]
pub struct ReloadOrder {
    /// Where the answer goes; nobody may be waiting any more.
    pub answer: oneshot::Sender<Result<Reloaded, Vec<String>>>,
}

/// What a reload changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reloaded {
    /// What new sessions get from now on, by YAML path.
    pub changed: Vec<String>,
    /// What was changed in the file and needs a restart, by YAML path; the old values stay.
    pub needs_restart: Vec<String>,
    /// What is logged otherwise from now on: each key of `log` with its old and its new value.
    #[serde(default)]
    pub log: Vec<String>,
}

impl Reloaded {
    /// All of it in a line, for the audit trail.
    pub fn summary(&self) -> String {
        let list = |keys: &[String]| match keys {
            [] => "nothing".to_owned(),
            keys => keys.join(", "),
        };
        let mut text = format!(
            "changed: {}; needs a restart: {}",
            list(&self.changed),
            list(&self.needs_restart)
        );
        for change in &self.log {
            text.push_str("; ");
            text.push_str(change);
        }
        text
    }
}

/// Nobody carries orders out any more: the server is ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server is ending")]
pub struct Ending;

impl Levers {
    /// Both ends.
    pub fn new() -> (Self, Orders) {
        let (drain, drain_orders) = mpsc::channel(WAITING);
        let (reload, reload_orders) = mpsc::channel(WAITING);
        let orders = Orders {
            drain: drain_orders,
            reload: reload_orders,
        };
        (Self { drain, reload }, orders)
    }

    /// Stops the server.
    ///
    /// # Errors
    /// It is ending already and takes no orders.
    pub fn drain(&self, order: DrainOrder) -> Result<(), Ending> {
        self.drain.try_send(order).map_err(|_| Ending)
    }

    /// Looks at all files: what changed, or every mistake in them.
    ///
    /// # Errors
    /// The server is ending.
    pub async fn reload(&self) -> Result<Result<Reloaded, Vec<String>>, Ending> {
        let (answer, answered) = oneshot::channel();
        self.reload
            .send(ReloadOrder { answer })
            .await
            .map_err(|_| Ending)?;
        answered.await.map_err(|_| Ending)
    }
}
