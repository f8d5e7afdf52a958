//! `causeway serve`: configuration → logging → runtime → bind → run → drain.

use std::{io, net::SocketAddr, path::Path, sync::Arc};

use super::Failure;
use crate::{app::App, config::Config, observe, shutdown};

pub(super) fn run(file: &Path) -> Result<(), Failure> {
    start(Config::load(file)?, |_| Ok(()))
}

/// Runs the server until a signal; `bound` learns the addresses once all of them are bound.
pub(super) fn start(
    config: Config,
    bound: impl FnOnce(&[(Arc<str>, SocketAddr)]) -> io::Result<()>,
) -> Result<(), Failure> {
    observe::logging::init(&config.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let served = runtime.block_on(async {
        let app = App::bind(config).await?;
        bound(app.addresses())?;
        app.run(shutdown::signal()).await
    });
    Ok(served?)
}
