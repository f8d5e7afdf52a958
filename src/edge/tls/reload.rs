//! Changed files: looked at every few seconds ([`crate::watch`]) and on demand, taken up only if all of
//! them fit together. What does not fit is logged once and the old certificates stay.

use std::{
    sync::{Arc, MutexGuard, PoisonError},
    time::SystemTime,
};

use super::{
    Tls,
    files::{FileErrors, Files},
    policy::Configs,
};
use crate::{
    config,
    edge::Door,
    observe::metrics::{Metrics, ReloadLabels},
    validity::Validity,
    watch::Seen,
};

/// What a look at the files led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// Nothing to do, or not yet.
    Unchanged,
    /// New sessions get what the files hold now.
    Done,
}

/// Files that were read and checked, and are not served yet.
#[derive(Debug)]
pub struct Fresh {
    configs: Configs,
    digest: [u8; 32],
}

impl Tls {
    /// Looks at the files and loads them if they have changed and settled. Blocks for the disk.
    ///
    /// # Errors
    /// What is wrong with the files; what was served before still is.
    pub fn look(&self) -> Result<Reload, FileErrors> {
        let files = Files::read(&self.settings);
        if !self.seen().look(files.digest(), false) {
            return Ok(Reload::Unchanged);
        }
        self.adopt(self.check(&files)?);
        Ok(Reload::Done)
    }

    /// Reads and checks the files now and changes nothing yet. Blocks for the disk.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub fn prepare(&self) -> Result<Fresh, FileErrors> {
        let files = Files::read(&self.settings);
        let fresh = self.check(&files);
        if fresh.is_err() {
            // Told once. What is good counts as seen when it is adopted: should something else be wrong,
            // the next look takes it up.
            self.took(files.digest());
        }
        fresh
    }

    /// New sessions get what was prepared.
    pub fn adopt(&self, fresh: Fresh) {
        self.current.store(Arc::new(fresh.configs));
        self.took(fresh.digest);
    }

    /// Whether it is made of these settings.
    pub fn is_of(&self, settings: &config::Tls, mode: config::Resumption) -> bool {
        self.settings == *settings && self.resumption.mode() == mode
    }

    fn took(&self, digest: [u8; 32]) {
        self.seen().took(digest);
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, files: &Files) -> Result<Fresh, FileErrors> {
        let configs = Configs::build(&self.settings, self.resumption.mode(), files)?;
        let digest = files.digest();
        Ok(Fresh { configs, digest })
    }
}

/// Looks at the files of one listener and says in log and metrics what came of it; whether others are in
/// force now.
pub async fn keep_current(door: Arc<Door>, metrics: &Metrics) -> bool {
    let looking = Arc::clone(&door.tls);
    // Off the async workers: a network disk may hang. Small files, few of them.
    let Ok(outcome) = tokio::task::spawn_blocking(move || looking.look()).await else {
        return false;
    };
    report(&door, metrics, &outcome);
    outcome == Ok(Reload::Done)
}

/// Says in log and metrics what came of a look at the files.
pub fn report(door: &Door, metrics: &Metrics, outcome: &Result<Reload, FileErrors>) {
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
    pub fn announce(&self, listener: &str, metrics: &Metrics) {
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
            metrics.certificate_ends(listener, file, certificate.not_after);
        }
    }
}
