//! Changed files: looked at every few seconds ([`crate::watch`]) and on SIGHUP, taken up only if all of
//! them fit together. What does not fit is logged once and the old certificates stay.

use std::{
    sync::{Arc, PoisonError},
    time::SystemTime,
};

use tokio::signal::unix::Signal;

use super::{
    Tls,
    certificates::Validity,
    files::{FileErrors, Files},
    policy::Configs,
};
use crate::{
    edge::Door,
    observe::metrics::{CertificateLabels, Metrics, ReloadLabels},
    shutdown::Drain,
    watch,
};

/// What a look at the files led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// Nothing to do, or not yet.
    Unchanged,
    /// New sessions get what the files hold now.
    Done,
}

impl Tls {
    /// Looks at the files and loads them if they have changed, or in any case `at_once`. Blocks for
    /// the disk.
    ///
    /// # Errors
    /// What is wrong with the files; what was served before still is.
    pub fn reload(&self, at_once: bool) -> Result<Reload, FileErrors> {
        let files = Files::read(&self.settings);
        let load = self
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .look(files.digest(), at_once);
        if !load {
            return Ok(Reload::Unchanged);
        }
        let configs = Configs::build(&self.settings, self.resumption.mode(), &files)?;
        self.current.store(Arc::new(configs));
        Ok(Reload::Done)
    }
}

/// Keeps the certificates of `doors` as their files are until the drain begins. `hangup` is SIGHUP.
pub async fn keep_current(
    doors: Vec<Arc<Door>>,
    metrics: Arc<Metrics>,
    drain: Drain,
    mut hangup: Option<Signal>,
) {
    for door in &doors {
        door.tls.announce(&door.config.name, &metrics);
    }
    loop {
        let at_once = tokio::select! {
            () = drain.begun() => return,
            () = tokio::time::sleep(watch::PERIOD) => false,
            () = watch::next(&mut hangup) => true,
        };
        for door in &doors {
            let looking = Arc::clone(door);
            // Off the async workers: a network disk may hang. Small files, few of them.
            let look = tokio::task::spawn_blocking(move || looking.tls.reload(at_once));
            tokio::select! {
                () = drain.begun() => return,
                Ok(outcome) = look => report(door, &metrics, outcome),
                else => {}
            }
        }
    }
}

fn report(door: &Door, metrics: &Metrics, outcome: Result<Reload, FileErrors>) {
    let listener = &*door.config.name;
    let outcome = match outcome {
        Ok(Reload::Unchanged) => return,
        Ok(Reload::Done) => {
            tracing::info!(listener, "certificates reloaded");
            door.tls.announce(listener, metrics);
            "reloaded"
        }
        Err(error) => {
            tracing::error!(
                listener,
                %error,
                "changed certificates are not usable, the old ones stay"
            );
            "failed"
        }
    };
    let listener = listener.to_owned();
    metrics
        .certificate_reloads
        .get_or_create(&ReloadLabels { listener, outcome })
        .inc();
}

impl Tls {
    /// Tells the metrics, and the log where an operator must act, when the certificates end.
    fn announce(&self, listener: &str, metrics: &Metrics) {
        let now = SystemTime::now();
        for certificate in self.certificates() {
            let file = certificate.file.display().to_string();
            match certificate.validity(now) {
                Validity::Expired => tracing::error!(listener, file, "certificate has expired"),
                Validity::Ending(days) => {
                    tracing::warn!(listener, file, days, "certificate expires soon");
                }
                Validity::Good => {}
            }
            let labels = CertificateLabels {
                listener: listener.to_owned(),
                certificate: file,
            };
            metrics
                .certificate_expiry
                .get_or_create(&labels)
                .set(certificate.not_after);
        }
    }
}
