//! `causeway sweep`: what the server's background task does, once and now; and what the stores' own
//! settings leave to be wished.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::Path,
    time::Duration,
};

use tokio::time::Instant;

use super::Failure;
use crate::{
    config::Config,
    store::{self, Store, Swept},
};

/// Ends unfinished uploads of every backend that nobody has gone on with for `age`, by default
/// `uploads.keep_seconds`.
pub(super) fn run(file: &Path, age: Option<u64>) -> Result<(), Failure> {
    let config = Config::load(file)?;
    let age = age.map_or(config.uploads.keep, Duration::from_secs);
    on_every_store(&config, &async |name, store| {
        let swept = store.sweep(age).await;
        let Swept { removed, open } = swept.map_err(|error| format!("backend {name}: {error}"))?;
        Ok(vec![format!(
            "backend {name}: {removed} unfinished uploads ended, {open} left"
        )])
    })?;
    advice(&config)
}

/// Prints what an operator should change in the stores.
fn advice(config: &Config) -> Result<(), Failure> {
    on_every_store(config, &async |name, store| {
        let advice = store.advice().await;
        let advice = advice.map_err(|error| format!("backend {name}: {error}"))?;
        let warnings = advice.into_iter();
        Ok(warnings
            .map(|advice| format!("warning: backend {name}: {advice}"))
            .collect())
    })
}

/// Shows on a terminal that something is still going on.
async fn shown<T>(name: &str, work: impl Future<Output = T>) -> T {
    if !io::stderr().is_terminal() {
        return work.await;
    }
    let begin = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    tokio::pin!(work);
    // Before it begins, which may block.
    let _ = write!(io::stderr(), "backend {name}: 0 s …");
    loop {
        tokio::select! {
            done = &mut work => {
                // The line of the result takes its place.
                let _ = write!(io::stderr(), "\r\x1b[K");
                return done;
            }
            _ = ticks.tick() => {
                let seconds = begin.elapsed().as_secs();
                let _ = write!(io::stderr(), "\rbackend {name}: {seconds} s …");
            }
        }
    }
}

/// Opens every backend and prints what `work` says of it; the failures of all of them come together.
fn on_every_store(
    config: &Config,
    work: &impl AsyncFn(&str, &dyn Store) -> Result<Vec<String>, String>,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut failures = Vec::new();
    for (name, backend) in &config.backends {
        let done = match store::open(name, backend, &config.timeouts, None, None) {
            Ok(store) => runtime.block_on(shown(name, work(name, &*store))),
            Err(error) => Err(format!("backend {name} cannot be opened: {error}")),
        };
        match done {
            Ok(lines) => {
                for line in lines {
                    writeln!(io::stdout(), "{line}")?;
                }
            }
            Err(failure) => failures.push(failure),
        }
    }
    if failures.is_empty() {
        return Ok(());
    }
    Err(anyhow::anyhow!(failures.join("\n")).into())
}
