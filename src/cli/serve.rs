//! `causeway serve`: configuration → logging → runtime → bind → run → drain.

use std::{io, net::SocketAddr, path::Path, sync::Arc};

use anyhow::anyhow;
use tokio::sync::Mutex;

use super::Failure;
use crate::{
    app::App,
    config::Config,
    observe,
    shutdown::{Signals, hangups},
};

pub(super) fn run(file: &Path) -> Result<(), Failure> {
    start(Config::load(file)?, Hangup::Reloads, |_| Ok(()))
}

/// What SIGHUP means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hangup {
    /// Certificate and users files are looked at, as is the custom of servers.
    Reloads,
    /// The terminal is gone, and the process with it.
    Ends,
}

/// Runs the server until a signal, drains until the deadline or a second signal; `bound` learns the
/// addresses once all of them are bound.
pub(super) fn start(
    config: Config,
    hangup: Hangup,
    bound: impl FnOnce(&[(Arc<str>, SocketAddr)]) -> io::Result<()>,
) -> Result<(), Failure> {
    observe::logging::init(&config.log)
        .map_err(|error| anyhow!("cannot start logging: {error}"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let served = runtime.block_on(async {
        // Before anything is bound: whoever sees an address may already send a signal.
        let signals = Mutex::new(Signals::new()?);
        // Both futures wait on one receiver, else the second would hear of the first signal too. The
        // app polls them one after the other, so neither waits for the lock.
        let signal = async || signals.lock().await.next().await;
        let hangups = match hangup {
            Hangup::Reloads => [Some(hangups()?), Some(hangups()?)],
            Hangup::Ends => [None, None],
        };
        let app = App::bind(config).await?.reload_on(hangups);
        bound(app.addresses())?;
        app.run(signal(), signal()).await
    });
    Ok(served?)
}
