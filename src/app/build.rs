//! From a configuration to what sessions begin with: [`Serving`]. For the start, and for a reload,
//! which keeps whatever its settings leave alone.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context as _;

use crate::{
    auth::{
        self, Authentication, FreshUsers, Hashing, Names, SharedCounters, UserStore, bans::Bans,
    },
    config::{self, Config, Listener, Resumption},
    edge::{Buckets, Door, Fresh, Network, Registry, Serving, Shared, Tls, Usage},
    engine::Surroundings,
    observe::{journal::Journal, metrics::Metrics},
    shutdown::Drain,
    store::{self, Budget, Kept, Quotas, Stores},
};

/// How long a login waits at most until its home directory is made.
const HOME: Duration = Duration::from_secs(10);

/// What outlives every reload.
#[derive(Clone, Debug)]
pub(super) struct Lasting {
    budget: Budget,
    metrics: Arc<Metrics>,
    drain: Drain,
    registry: Arc<Registry>,
    /// As many hashes at once as there are cores, whatever is reloaded.
    hashing: Arc<Hashing>,
    bans: Arc<Bans>,
    usage: Arc<Usage>,
    counters: Option<Arc<SharedCounters>>,
}

/// A new state that is checked whole and serves nobody yet.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) serving: Serving,
    /// Certificates read anew for those that are kept, with their doors' listeners.
    pub(super) fresh: Vec<(Arc<Door>, Fresh)>,
    /// Users read anew, where their store is kept.
    pub(super) fresh_users: Option<FreshUsers>,
}

impl Lasting {
    /// Opens the audit trail and the spool.
    ///
    /// # Errors
    /// These cannot be written; or an address that the configuration should not have let through.
    pub(super) fn new(config: &Config) -> anyhow::Result<Self> {
        let metrics = Metrics::new();
        let (audit, events) = (config.audit.as_ref(), config.events.as_ref());
        let journal = Journal::open(audit, events, &metrics)?;
        let bans = Bans::open(config.bans.clone(), Arc::clone(&metrics));
        let counters = match &config.shared_counters {
            None => None,
            Some(settings) => {
                let counters = SharedCounters::new(settings, Arc::clone(&metrics))?;
                bans.share(counters.notes());
                Some(counters)
            }
        };
        let journal = Arc::new(journal);
        bans.record_to(Arc::clone(&journal));
        Ok(Self {
            budget: Budget::new(config.limits.upload_memory_bytes),
            metrics,
            drain: Drain::default(),
            registry: Arc::new(Registry::new(journal)),
            hashing: Arc::default(),
            bans: Arc::new(bans),
            usage: Arc::default(),
            counters,
        })
    }

    /// What outlives `last`.
    fn of(last: &Serving) -> Self {
        let shared = &last.shared;
        Self {
            budget: shared.budget.clone(),
            metrics: Arc::clone(&shared.metrics),
            drain: shared.drain.clone(),
            registry: Arc::clone(&shared.registry),
            hashing: last.users.hashing(),
            bans: Arc::clone(&shared.bans),
            usage: Arc::clone(&shared.usage),
            counters: shared.counters.clone(),
        }
    }
}

/// The first state.
pub(super) async fn open(config: Config, lasting: &Lasting) -> anyhow::Result<Serving> {
    let users = open_users(&config, lasting)?;
    let shared = share(&config, lasting, &users, None)?;
    let mut doors = Vec::new();
    for listener in &config.listeners {
        let tls = open_tls(listener)?;
        let network = Arc::new(Network::new(listener, &lasting.metrics));
        network.resolve().await;
        doors.push(door(listener, tls, network, None));
    }
    for door in &doors {
        door.tls.announce(&door.config.name, &lasting.metrics);
    }
    auth::announce_certificates(&config, &lasting.metrics);
    Ok(Serving {
        shared,
        doors,
        users,
        config,
    })
}

/// A later state: everything of `last` whose settings are the same is kept.
pub(super) async fn renew(config: Config, last: &Serving) -> Result<Prepared, Vec<String>> {
    let lasting = Lasting::of(last);
    let mut mistakes = Vec::new();
    let mut note = |error: anyhow::Error| {
        mistakes.extend(format!("{error:#}").lines().map(str::to_owned));
    };
    let (mut fresh_users, mut users) = (None, Some(Arc::clone(&last.users)));
    if last.users.is_of(&config.auth) {
        let (store, names) = (Arc::clone(&last.users), Names::of(&config));
        // Thousands of users take a while: the sessions need the async workers.
        match tokio::task::spawn_blocking(move || store.prepare(names)).await {
            Ok(Ok(fresh)) => fresh_users = Some(fresh),
            Ok(Err(error)) => note(error.into()),
            Err(error) => note(error.into()),
        }
    } else {
        users = open_users(&config, &lasting).map_err(&mut note).ok();
    }
    let shared = users.and_then(|users| {
        let shared = share(&config, &lasting, &users, Some(last));
        shared.map_err(&mut note).ok().zip(Some(users))
    });
    let (mut doors, mut fresh) = (Vec::new(), Vec::new());
    for listener in &config.listeners {
        let old = last.door(&listener.name);
        let kept = old.filter(|old| old.tls.is_of(&listener.tls, listener.resumption));
        let tls = match kept {
            None => open_tls(listener).map_err(|error| format!("{error:#}")),
            Some(old) => match old.tls.prepare() {
                Ok(files) => {
                    fresh.push((Arc::clone(old), files));
                    Ok(Arc::clone(&old.tls))
                }
                Err(errors) => {
                    let failed = format!("listener {}: {errors}", listener.name);
                    crate::edge::report(old, &lasting.metrics, &Err(errors));
                    Err(failed)
                }
            },
        };
        let same_network = |old: &&Arc<Door>| {
            old.config.passive == listener.passive
                && old.config.proxy_protocol == listener.proxy_protocol
        };
        let network = if let Some(old) = old.filter(same_network) {
            Arc::clone(&old.network)
        } else {
            let network = Arc::new(Network::new(listener, &lasting.metrics));
            network.resolve().await;
            network
        };
        match tls {
            Ok(tls) => doors.push(door(listener, tls, network, old)),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    match shared {
        Some((shared, users)) if mistakes.is_empty() => Ok(Prepared {
            serving: Serving {
                shared,
                doors,
                users,
                config,
            },
            fresh,
            fresh_users,
        }),
        _ => Err(mistakes),
    }
}

/// TLS of the operator's side.
pub(super) fn admin_tls(settings: &config::Admin) -> anyhow::Result<Option<Arc<Tls>>> {
    let open = |tls| Tls::open(tls, Resumption::Disabled).context("admin");
    settings
        .tls
        .as_ref()
        .map(|tls| open(tls).map(Arc::new))
        .transpose()
}

fn share(
    config: &Config,
    lasting: &Lasting,
    users: &Arc<UserStore>,
    last: Option<&Serving>,
) -> anyhow::Result<Arc<Shared>> {
    let before = last.map(|last| &last.shared.surroundings.authentication);
    let authentication = Authentication::open(&config.auth, before, users, &lasting.drain)?;
    let mut stores = BTreeMap::new();
    for (name, backend) in &config.backends {
        let kept = last
            .filter(|last| last.config.backends.get(name) == Some(backend))
            .and_then(|last| last.shared.surroundings.stores.get(name));
        let opened = if let Some(store) = kept {
            Arc::clone(store)
        } else {
            let metrics = Some(Arc::clone(&lasting.metrics));
            let journal = Some(Arc::clone(lasting.registry.journal()));
            store::open(name, backend, &config.timeouts, metrics, journal)
                .with_context(|| format!("backends.{name} cannot be opened"))?
        };
        stores.insert(Arc::clone(name), opened);
    }
    Ok(Arc::new(Shared {
        surroundings: Arc::new(Surroundings {
            authentication,
            mounts: config.mounts.clone(),
            quotas: quotas(config, lasting, last),
            stores: Arc::new(Stores::new(stores, config.limits.rename_bytes)),
            kept: kept(config, lasting, last),
            home: (config.timeouts.store.min(config.timeouts.reply) / 2).min(HOME),
        }),
        profiles: config.profiles.clone(),
        timeouts: config.timeouts.clone(),
        limits: config.limits.clone(),
        bandwidth: config.bandwidth,
        bans: Arc::clone(&lasting.bans),
        usage: Arc::clone(&lasting.usage),
        counters: lasting.counters.clone(),
        when_unavailable: config.auth.unavailable,
        budget: lasting.budget.clone(),
        metrics: Arc::clone(&lasting.metrics),
        drain: lasting.drain.clone(),
        registry: Arc::clone(&lasting.registry),
    }))
}

/// What interrupted uploads leave, where they are kept; the numbers go on as long as the bounds stay.
fn kept(config: &Config, lasting: &Lasting, last: Option<&Serving>) -> Option<Arc<Kept>> {
    let bounds = &config.uploads.kept;
    let new = || Arc::new(Kept::new(bounds.clone(), Arc::clone(&lasting.metrics)));
    let known = last.and_then(|last| last.shared.surroundings.kept.as_ref());
    let known = known.filter(|kept| kept.bounds() == bounds);
    config
        .uploads
        .resume
        .then(|| known.map_or_else(new, Arc::clone))
}

/// The numbers of quotas; they begin anew where they are about other stores.
fn quotas(config: &Config, lasting: &Lasting, last: Option<&Serving>) -> Arc<Quotas> {
    let recount = config.limits.quota_recount;
    let kept = last
        .filter(|last| last.config.backends == config.backends)
        .map(|last| &last.shared.surroundings.quotas)
        .filter(|quotas| quotas.recount() == recount);
    match kept {
        Some(quotas) => Arc::clone(quotas),
        None => Arc::new(Quotas::new(recount, lasting.drain.clone())),
    }
}

fn open_users(config: &Config, lasting: &Lasting) -> anyhow::Result<Arc<UserStore>> {
    let (hashing, metrics) = (Arc::clone(&lasting.hashing), Arc::clone(&lasting.metrics));
    let store = UserStore::open(&config.auth, Names::of(config), hashing, metrics)?;
    Ok(Arc::new(store))
}

fn open_tls(listener: &Listener) -> anyhow::Result<Arc<Tls>> {
    Tls::open(&listener.tls, listener.resumption)
        .map(Arc::new)
        .with_context(|| format!("listener {}", listener.name))
}

fn door(
    listener: &Listener,
    tls: Arc<Tls>,
    network: Arc<Network>,
    old: Option<&Arc<Door>>,
) -> Arc<Door> {
    // Running transfers are held to the buckets they began with, and new ones share them.
    let kept = old.filter(|old| old.config.rates == listener.rates);
    let buckets = kept.map(|old| old.buckets.clone());
    Arc::new(Door {
        config: listener.clone(),
        tls,
        network,
        buckets: buckets.unwrap_or_else(|| Buckets::new(listener.rates)),
    })
}
