//! [`Retries`]: requests that a store did not answer and that are sent again, counted and logged.

use std::{fmt, sync::Arc};

use crate::observe::metrics::{Metrics, StoreRetryLabels};

/// Where the retries of one backend are written down. Cheap to share.
#[derive(Clone, Default)]
pub struct Retries(Option<(Arc<str>, Arc<Metrics>)>);

impl Retries {
    /// Of the backend of the name `backend`; without metrics they are only logged.
    pub fn new(backend: &Arc<str>, metrics: Option<Arc<Metrics>>) -> Self {
        Self(metrics.map(|metrics| (Arc::clone(backend), metrics)))
    }

    /// A request of `operation`, as its library calls it, goes out again.
    pub(super) fn count(&self, operation: &str) {
        if let Some((backend, metrics)) = &self.0 {
            tracing::info!(
                backend = &**backend,
                operation,
                "store request is sent again"
            );
            let labels = StoreRetryLabels {
                backend: backend.to_string(),
                operation: operation.to_owned(),
            };
            metrics.store_retries.get_or_create(&labels).inc();
        }
    }
}

impl fmt::Debug for Retries {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Retries")
    }
}
