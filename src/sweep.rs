//! Ends what crashes left behind: unfinished uploads of ours that are older than `uploads.keep_seconds`.
//!
//! Owns when stores are swept; what is ours and how it ends is each store's own business
//! ([`crate::store::Store::sweep`]). Called by [`crate::app`] in the background, and by `causeway sweep`.

use std::{sync::Arc, time::Duration};

use crate::{
    config::Uploads,
    observe::metrics::{BackendLabels, Metrics},
    shutdown::Drain,
    store::{Stores, Swept, Whose},
};

/// Sweeps every store at once and then regularly, until the server begins to stop. `present` says what
/// is to be swept, and how: a reload may change both.
pub async fn regularly(
    present: impl Fn() -> (Arc<Stores>, Uploads) + Send,
    metrics: Arc<Metrics>,
    drain: Drain,
) {
    loop {
        let (stores, uploads) = present();
        // A sweep that is dropped half way leaves the rest to the next one.
        tokio::select! {
            () = sweep_all(&stores, uploads.keep, &metrics) => {}
            () = drain.begun() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(uploads.sweep) => {}
            () = drain.begun() => return,
        }
    }
}

/// Looks at least so often for files that have waited long enough for their rename.
const COMMIT_LOOKS: Duration = Duration::from_secs(15);

/// Commits files that have waited too long for their rename, until the server begins to stop, also those
/// of processes that died.
pub async fn commit_held_regularly(
    stores: impl Fn() -> Arc<Stores> + Send,
    metrics: Arc<Metrics>,
    drain: Drain,
) {
    loop {
        let stores = stores();
        tokio::select! {
            () = commit_held(&stores, Whose::Due) => {}
            () = drain.begun() => return,
        }
        show_waiting(&stores, &metrics);
        let waits = stores.iter().filter_map(|(_, store)| store.commits_after());
        let pause = waits.min().map_or(COMMIT_LOOKS, |wait| wait / 4);
        tokio::select! {
            () = tokio::time::sleep(pause.min(COMMIT_LOOKS)) => {}
            () = drain.begun() => return,
        }
    }
}

fn show_waiting(stores: &Stores, metrics: &Metrics) {
    for (name, store) in stores.iter() {
        if store.commits_after().is_none() {
            continue;
        }
        let (waiting, backend) = (store.waiting(), name.to_string());
        let number = |number| i64::try_from(number).unwrap_or(i64::MAX);
        let labels = BackendLabels { backend };
        let files = metrics.uploads_deferred.get_or_create(&labels);
        files.set(number(waiting.files));
        drop(files);
        let bytes = metrics.uploads_deferred_size.get_or_create(&labels);
        bytes.set(number(waiting.bytes));
    }
}

/// Commits files that wait for their rename in every store where any does.
pub async fn commit_held(stores: &Stores, whose: Whose) {
    for (name, store) in stores.iter() {
        if store.commits_after().is_none() {
            continue;
        }
        match store.commit_held(whose).await {
            Ok(0) => {}
            Ok(files) => {
                tracing::info!(
                    backend = &**name,
                    files,
                    "files were committed under their temporary names"
                );
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(
                    backend = &**name,
                    error,
                    "files still wait for their rename"
                );
            }
        }
    }
}

async fn sweep_all(stores: &Stores, age: Duration, metrics: &Metrics) {
    for (name, store) in stores.iter() {
        let swept = match store.sweep(age).await {
            Ok(swept) => swept,
            Err(error) => {
                tracing::warn!(backend = &**name, %error, "cannot sweep unfinished uploads");
                continue;
            }
        };
        let Swept { removed, open } = swept;
        if removed > 0 {
            tracing::info!(backend = &**name, removed, open, "unfinished uploads ended");
        }
        let backend = BackendLabels {
            backend: name.to_string(),
        };
        let gauge = metrics.uploads_unfinished.get_or_create(&backend);
        gauge.set(i64::try_from(open).unwrap_or(i64::MAX));
        drop(gauge);
        metrics
            .uploads_swept
            .get_or_create(&backend)
            .inc_by(removed);
    }
}
