//! STUB of the shutdown signal; discarded at the merge.

/// Stub: SIGINT only.
pub async fn signal() {
    let _ = tokio::signal::ctrl_c().await;
}
