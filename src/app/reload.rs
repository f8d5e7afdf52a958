//! [`Reloader`]: changed files while the server runs.
//!
//! Everything is read and checked first and taken up in one step, or not at all. A session keeps what
//! it began with; what only a restart can change is named and stays as it was. When a changed file is
//! looked at: [`crate::watch`].

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest::{SHA256, digest};
use futures_util::future::join_all;
use tokio::{signal::unix::Signal, sync::mpsc, time::sleep};

use super::{build, supervisor};
use crate::{
    admin::{ReloadOrder, Reloaded},
    auth,
    config::{Config, Log},
    edge::{Current, Reload, Serving, Tls, keep_current, report},
    observe::{
        logging::Logging,
        metrics::ConfigReloadLabels,
        record::{Kind, Outcome, Record},
    },
    watch::{self, Seen},
};

/// Looks at the files and takes up what changed.
#[derive(Debug)]
pub(super) struct Reloader {
    current: Current,
    /// `None`: there is no configuration file, only certificates are looked at.
    file: Option<PathBuf>,
    admin_tls: Option<Arc<Tls>>,
    logging: Logging,
    /// What the last look at the configuration file saw.
    seen: Option<Seen>,
    /// What the file said last was not taken up. The mistake may have been in another file.
    failed: bool,
}

/// A configuration file that is looked at while the server runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFile {
    path: PathBuf,
    /// What it held before it was loaded.
    digest: Option<[u8; 32]>,
}

impl ConfigFile {
    /// To be called before the file is loaded: a change in between is then seen as one.
    pub fn before_loading(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            digest: look(path),
        }
    }
}

fn look(file: &Path) -> Option<[u8; 32]> {
    let content = std::fs::read(file).ok()?;
    digest(&SHA256, &content).as_ref().try_into().ok()
}

impl Reloader {
    pub(super) fn new(
        current: Current,
        file: Option<ConfigFile>,
        admin_tls: Option<Arc<Tls>>,
        logging: Logging,
    ) -> Self {
        let (file, seen) = match file {
            Some(ConfigFile { path, digest }) => (Some(path), digest.map(Seen::first)),
            None => (None, None),
        };
        Self {
            current,
            file,
            admin_tls,
            logging,
            seen,
            failed: false,
        }
    }

    /// Runs until the drain begins.
    pub(super) async fn run(
        mut self,
        mut orders: mpsc::Receiver<ReloadOrder>,
        mut hangup: Option<Signal>,
    ) {
        let drain = self.current.load().shared.drain.clone();
        loop {
            let serving = self.current.load_full();
            let networks = serving
                .doors
                .iter()
                .map(|door| door.network.keep_resolved());
            let (answer, why) = tokio::select! {
                biased;
                () = drain.begun() => return,
                order = super::next(&mut orders) => (Some(order.answer), "api"),
                () = watch::next(&mut hangup) => (None, "signal"),
                () = self.watch(&serving) => (None, "file"),
                // Never ends; begun anew after each reload, which may bring other networks.
                _ = join_all(networks) => return,
            };
            supervisor::reloading();
            let outcome = tokio::select! {
                () = drain.begun() => return,
                outcome = self.reload(&serving, why) => outcome,
            };
            supervisor::ready();
            if let Some(answer) = answer {
                // Whoever asked may be gone.
                let _ = answer.send(outcome);
            }
        }
    }

    /// Keeps certificates and users as their files are until the configuration has changed and settled,
    /// or what was wrong with it may have been mended in one of these.
    async fn watch(&mut self, serving: &Serving) {
        loop {
            sleep(watch::PERIOD).await;
            let mut changed = false;
            for door in &serving.doors {
                changed |= keep_current(Arc::clone(door), &serving.shared.metrics).await;
            }
            self.look_at_admin(Tls::look).await;
            let users = Arc::clone(&serving.users);
            // What came of it is logged and counted.
            let users = tokio::task::spawn_blocking(move || users.reload(false)).await;
            changed |= matches!(users, Ok(Ok(true)));
            if self.note(false).await || self.failed && changed {
                return;
            }
        }
    }

    /// The certificates of the operator's side. A mistake there stops nothing else: it is logged.
    async fn look_at_admin(
        &self,
        look: impl FnOnce(&Tls) -> Result<Reload, crate::edge::FileErrors> + Send + 'static,
    ) {
        let Some(tls) = self.admin_tls.clone() else {
            return;
        };
        match tokio::task::spawn_blocking(move || look(&tls)).await {
            Ok(Ok(Reload::Done)) => tracing::info!("certificates of the admin side reloaded"),
            Ok(Err(error)) => {
                tracing::error!(%error, "changed certificates of the admin side are not usable");
            }
            Ok(Ok(Reload::Unchanged)) | Err(_) => {}
        }
    }

    /// What the configuration file holds now; `None` where it cannot be read, as in the middle of a
    /// replacement.
    async fn look(&self) -> Option<[u8; 32]> {
        let file = self.file.clone()?;
        let look = tokio::task::spawn_blocking(move || look(&file)).await;
        look.ok()?
    }

    /// Whether the configuration file is to be loaded.
    async fn note(&mut self, at_once: bool) -> bool {
        match (self.look().await, &mut self.seen) {
            (Some(digest), Some(seen)) => seen.look(digest, at_once),
            (Some(digest), none) => {
                *none = Some(Seen::first(digest));
                true
            }
            (None, _) => false,
        }
    }

    /// Reads, checks and takes up everything.
    async fn reload(&mut self, last: &Serving, why: &'static str) -> Result<Reloaded, Vec<String>> {
        self.note(true).await;
        let outcome = self.try_reload(last).await;
        self.failed = outcome.is_err();
        let label = match &outcome {
            Ok(reloaded) => {
                let (changed, restart) = (
                    reloaded.changed.join(", "),
                    reloaded.needs_restart.join(", "),
                );
                tracing::info!(why, changed, "configuration reloaded");
                if !restart.is_empty() {
                    tracing::warn!(keys = restart, "changed in the file, but needs a restart");
                }
                "reloaded"
            }
            Err(mistakes) => {
                for mistake in mistakes {
                    tracing::error!(why, mistake, "configuration not reloaded, nothing changed");
                }
                "failed"
            }
        };
        let labels = ConfigReloadLabels { outcome: label };
        let reloads = &last.shared.metrics.config_reloads;
        reloads.get_or_create(&labels).inc();
        // The admin side records what it is asked for itself.
        if why != "api" {
            let journal = last.shared.registry.journal();
            // No webhook hears of it.
            let _ = journal.keep(record(&outcome, why)).await;
        }
        outcome
    }

    async fn try_reload(&self, last: &Serving) -> Result<Reloaded, Vec<String>> {
        let mut reloaded = Reloaded::default();
        let config = match self.file.clone() {
            None => last.config.clone(),
            Some(file) => {
                // A slow disk must not hold up the sessions.
                let load = tokio::task::spawn_blocking(move || Config::load(&file));
                let mut config = load
                    .await
                    .map_err(|error| vec![error.to_string()])?
                    .map_err(|errors| {
                        errors
                            .to_string()
                            .lines()
                            .map(str::to_owned)
                            .collect::<Vec<_>>()
                    })?;
                keep_what_needs_a_restart(&mut config, &last.config, &mut reloaded.needs_restart);
                reloaded.changed = changes(&last.config, &config);
                reloaded.log = log_changes(&last.config.log, &config.log);
                config
            }
        };
        let prepared = build::renew(config, last).await?;
        let metrics = &last.shared.metrics;
        for (door, fresh) in prepared.fresh {
            door.tls.adopt(fresh);
            report(&door, metrics, &Ok(Reload::Done));
        }
        if let Some(users) = prepared.fresh_users {
            prepared.serving.users.adopt(users);
        }
        for door in &prepared.serving.doors {
            door.tls.announce(&door.config.name, metrics);
        }
        self.logging.configure(&prepared.serving.config.log);
        let config = prepared.serving.config.clone();
        // Up to here without a pause: a drain that begins now finds the old state or the new one.
        self.current.store(Arc::new(prepared.serving));
        let told = Arc::clone(metrics);
        // What became of it is in the log.
        let _ = tokio::task::spawn_blocking(move || {
            auth::announce_certificates(&config, &told);
        })
        .await;
        self.look_at_admin(|tls| {
            tls.prepare().map(|fresh| {
                tls.adopt(fresh);
                Reload::Done
            })
        })
        .await;
        Ok(reloaded)
    }
}

/// The line of the audit trail.
fn record(outcome: &Result<Reloaded, Vec<String>>, why: &'static str) -> Record {
    let mut record = match outcome {
        Ok(_) => Record::new(Kind::Reload, Outcome::Success),
        Err(_) => Record::new(Kind::Reload, Outcome::Failed),
    };
    record.target = Some(why.to_owned());
    record.detail = Some(match outcome {
        Ok(reloaded) => reloaded.summary(),
        Err(mistakes) => {
            record.reason = Some("mistakes");
            mistakes.join("; ")
        }
    });
    record
}

/// Puts the old values of everything that is bound at the start back into `new`, and names them.
fn keep_what_needs_a_restart(new: &mut Config, old: &Config, named: &mut Vec<String>) {
    keep(named, "admin", &mut new.admin, &old.admin);
    keep(named, "bans", &mut new.bans, &old.bans);
    keep(
        named,
        "shared_counters",
        &mut new.shared_counters,
        &old.shared_counters,
    );
    keep(named, "audit", &mut new.audit, &old.audit);
    keep(named, "events", &mut new.events, &old.events);
    keep(named, "telemetry", &mut new.otlp, &old.otlp);
    macro_rules! keep_limits {
        ($($limit:ident),* $(,)?) => {
            $(keep(
                named,
                concat!("limits.", stringify!($limit)),
                &mut new.limits.$limit,
                &old.limits.$limit,
            );)*
        };
    }
    keep_limits!(
        connections,
        connections_per_address,
        connections_per_network,
        connections_per_minute_per_address,
        connections_per_minute_per_network,
        upload_memory_bytes,
    );
    new.effective.keep(&old.effective, named);
    new.listeners.retain_mut(|listener| {
        let path = format!("listeners.{}.address", listener.name);
        let before = old.listeners.iter().find(|old| old.name == listener.name);
        match before {
            Some(before) => keep(named, path, &mut listener.address, &before.address),
            // A new one cannot be bound.
            None => named.push(path),
        }
        before.is_some()
    });
    for gone in &old.listeners {
        if new.listeners.iter().all(|one| one.name != gone.name) {
            named.push(format!("listeners.{}", gone.name));
            new.listeners.push(gone.clone());
        }
    }
    let bound = new.listeners.iter().map(|listener| &*listener.name);
    new.effective.keep_listeners(&old.effective, bound);
}

/// Puts `old` back over `new`, and names the key, if they differ.
fn keep<T: Clone + PartialEq>(
    named: &mut Vec<String>,
    path: impl Into<String>,
    new: &mut T,
    old: &T,
) {
    if new != old {
        named.push(path.into());
        new.clone_from(old);
    }
}

/// The YAML paths of what differs. Listeners by name: their numbers say less.
fn changes(old: &Config, new: &Config) -> Vec<String> {
    let mut changes = Vec::new();
    let mut note = |path: String, differs: bool| {
        if differs {
            changes.push(path);
        }
    };
    for listener in &new.listeners {
        let before = old.listeners.iter().find(|old| old.name == listener.name);
        note(
            format!("listeners.{}", listener.name),
            before != Some(listener),
        );
    }
    note("profiles".to_owned(), old.profiles != new.profiles);
    note("auth".to_owned(), old.auth != new.auth);
    for name in new.backends.keys().chain(old.backends.keys()) {
        let differs = old.backends.get(name) != new.backends.get(name);
        note(format!("backends.{name}"), differs);
    }
    note("mounts".to_owned(), old.mounts != new.mounts);
    note("limits".to_owned(), old.limits != new.limits);
    note("bandwidth".to_owned(), old.bandwidth != new.bandwidth);
    note("uploads".to_owned(), old.uploads != new.uploads);
    note("timeouts".to_owned(), old.timeouts != new.timeouts);
    note("log".to_owned(), old.log != new.log);
    changes.dedup();
    changes
}

/// What differs in `log`, with both values: who reads the log later wants to know what it could not say.
fn log_changes(old: &Log, new: &Log) -> Vec<String> {
    let level = |log: &Log| log.level.as_str().to_ascii_lowercase();
    [
        ("level", level(old), level(new)),
        ("filter", old.filter.clone(), new.filter.clone()),
        (
            "format",
            old.format.name().to_owned(),
            new.format.name().to_owned(),
        ),
    ]
    .into_iter()
    .filter(|(_, old, new)| old != new)
    .map(|(key, old, new)| format!("log.{key}: {old:?} to {new:?}"))
    .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const TEXT: &str = r#"
listeners: [{name: one, address: "127.0.0.1:2121", mode: explicit}, {name: two, address: "127.0.0.1:2990", mode: implicit}]
tls: {certificate_file: c.pem, key_file: k.pem}
users: {file: users.yaml}
backends: {disk: {type: fs, root: data}}
mounts: [{path: /, backend: disk}]
timeouts: {idle_seconds: 60}
limits: {connections: 10}
"#;

    fn config(from: &str, to: &str) -> Config {
        assert!(TEXT.contains(from), "{from}");
        let text = TEXT.replacen(from, to, 1);
        Config::parse(&text, Path::new("/etc/c.yaml"), &|_| None).unwrap()
    }

    #[test]
    fn what_needs_a_restart_is_named_and_kept() {
        let old = config("", "");
        for (from, to, changed, restart) in [
            ("", "", "", ""),
            ("idle_seconds: 60", "idle_seconds: 90", "timeouts", ""),
            (
                "connections: 10",
                "connections: 11",
                // What a listener may have follows at once.
                "listeners.one listeners.two",
                "limits.connections limits.connections_per_network",
            ),
            ("2121", "2122", "", "listeners.one.address"),
            (
                "name: one",
                "name: other",
                "",
                "listeners.other.address listeners.one",
            ),
            (
                "2990\", mode: implicit",
                "2990\", mode: implicit, learn: true",
                "listeners.two",
                "",
            ),
            ("root: data", "root: other", "backends.disk", ""),
            ("path: /,", "path: /, prefix: x,", "mounts", ""),
            ("limits:", "log: {level: debug}\nlimits:", "log", ""),
            (
                "limits:",
                "telemetry: {otlp: {endpoint: \"http://127.0.0.1:1\"}}\nlimits:",
                "",
                "telemetry",
            ),
            (
                "limits:",
                "admin: {address: \"127.0.0.1:0\"}\nlimits:",
                "",
                "admin",
            ),
        ] {
            let mut new = config(from, to);
            let mut named = Vec::new();
            keep_what_needs_a_restart(&mut new, &old, &mut named);
            assert_eq!(named.join(" "), restart, "{to}");
            assert_eq!(changes(&old, &new).join(" "), changed, "{to}");
            assert_eq!(new.listeners.len(), 2, "{to}");
            // What is shown is what counts.
            let shown = new.effective.to_yaml().unwrap();
            let again = Config::parse(&shown, Path::new("/etc/c.yaml"), &|_| None).unwrap();
            assert_eq!(again, new, "{to}");
            if changed.is_empty() {
                let mut sorted = new.clone();
                sorted.listeners.sort_by_key(|listener| listener.address);
                sorted.effective = old.effective.clone();
                assert_eq!(sorted, old, "{to}: everything is as it was");
            }
        }
    }
}
