//! `causeway serve`: configuration → logging → runtime → bind → run → drain.

use std::{io, net::SocketAddr, path::Path, sync::Arc};

use anyhow::anyhow;
use tokio::sync::Mutex;

use super::Failure;
use crate::{
    app::{App, ConfigFile},
    config::Config,
    observe::{logging::Logging, panics, telemetry},
    shutdown::{Signals, hangups},
};

pub(super) fn run(file: &Path) -> Result<(), Failure> {
    let hangup = Hangup::Reloads(ConfigFile::before_loading(file));
    start(Config::load(file)?, hangup, |_| Ok(()))
}

/// What SIGHUP means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hangup {
    /// This configuration and everything it names is looked at, as is the custom of servers.
    Reloads(ConfigFile),
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
    let (layer, spans) = match config.otlp.as_ref().map(telemetry::open).transpose()? {
        Some((layer, spans)) => (Some(layer), Some(spans)),
        None => (None, None),
    };
    let logging = Logging::start(&config.log, layer)
        .map_err(|error| anyhow!("cannot start logging: {error}"))?;
    panics::log();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let served = runtime.block_on(async {
        // Before anything is bound: whoever sees an address may already send a signal.
        let signals = Mutex::new(Signals::new()?);
        // Both futures wait on one receiver, else the second would hear of the first signal too. The
        // app polls them one after the other, so neither waits for the lock.
        let signal = async || signals.lock().await.next().await;
        let (file, hangup) = match hangup {
            Hangup::Reloads(file) => (Some(file), Some(hangups()?)),
            Hangup::Ends => (None, None),
        };
        let app = App::bind(config, logging, spans)
            .await?
            .reload_from(file, hangup);
        bound(app.addresses())?;
        app.run(signal(), signal()).await
    });
    Ok(served?)
}
