//! What systemd is told (`sd_notify(3)`), where it is the one who started us; otherwise nothing
//! happens here.

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

/// Everything is bound and served.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The drain has begun.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// A reload has begun; it ends with [`ready`].
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "no monotonic clock"),
    }
}

/// Says that the runtime is alive, twice in each period of `WatchdogSec=`, until `stop`.
pub(super) async fn watchdog(stop: CancellationToken) {
    let Some(period) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut ticks = tokio::time::interval(period / 2);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => tell(&[NotifyState::Watchdog]),
        }
    }
}

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
