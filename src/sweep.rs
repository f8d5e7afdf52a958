//! Ends what crashes left behind: unfinished uploads of ours that are older than `uploads.keep_seconds`.
//!
//! Owns when stores are swept; what is ours and how it ends is each store's own business
//! ([`crate::store::Store::sweep`]). Called by [`crate::app`] in the background, and by `causeway sweep`.

use std::{sync::Arc, time::Duration};

use crate::{
    config::Uploads,
    observe::metrics::{BackendLabels, Metrics},
    shutdown::Drain,
    store::{Stores, Swept},
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
