//! [`Serving`]: what a new session begins with, replaced as a whole by a reload.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{Door, Shared};
use crate::{auth::UserStore, config::Config};

/// One state of the configuration with everything made of it. A session keeps the one it began with,
/// so that a reload disturbs nobody.
#[derive(Debug)]
pub struct Serving {
    /// What all connections share.
    pub shared: Arc<Shared>,
    /// One for each listener, in the order of the configuration.
    pub doors: Vec<Arc<Door>>,
    /// The users files behind the logins.
    pub users: Arc<UserStore>,
    /// What they were made of.
    pub config: Config,
}

/// The present state; whoever needs it for longer than a moment takes a copy of the `Arc`.
pub type Current = Arc<ArcSwap<Serving>>;

impl Serving {
    /// The door of a listener.
    pub fn door(&self, listener: &str) -> Option<&Arc<Door>> {
        self.doors
            .iter()
            .find(|door| &*door.config.name == listener)
    }
}
