//! Composition root: everything is opened and bound here, run, and drained.

mod build;
mod drain;
mod reload;
mod supervisor;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::{net::TcpListener, signal::unix::Signal, sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

pub use self::reload::ConfigFile;
use self::{build::Lasting, drain::Course, reload::Reloader};
use crate::{
    admin::{Admin, DrainOrder, Levers, Orders},
    config::Config,
    edge::{Current, Tls},
    listen::{Admission, Inherited, Listening},
    observe::{logging::Logging, telemetry::Exporter},
    store::Whose,
    sweep,
};

/// After the drain deadline: aborting uploads is a request or two to the store each.
const ABORT_GRACE: Duration = Duration::from_secs(30);

/// A server that has opened and bound everything and serves nobody yet.
#[derive(Debug)]
pub struct App {
    listeners: Vec<Listening>,
    hangup: Option<Signal>,
    /// Looked at when something asks for a reload.
    file: Option<ConfigFile>,
    admin: Option<(TcpListener, Admin)>,
    orders: Orders,
    addresses: Vec<(Arc<str>, SocketAddr)>,
    current: Current,
    admin_tls: Option<Arc<Tls>>,
    logging: Logging,
    spans: Option<Exporter>,
}

impl App {
    /// Opens stores, users and certificates and binds every address. `spans` sends what the logger's
    /// layer makes.
    ///
    /// # Errors
    /// The first thing that cannot be opened, with its name.
    pub async fn bind(
        config: Config,
        logging: Logging,
        spans: Option<Exporter>,
    ) -> anyhow::Result<Self> {
        let mut inherited = Inherited::from_environment()
            .context("a descriptor in LISTEN_FDS is no listening TCP socket")?;
        let lasting = Lasting::new(&config)?;
        let serving = build::open(config, &lasting).await?;
        let limits = &serving.config.limits;
        let admission = Admission::new(limits, Arc::clone(&serving.shared.bans));
        let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
        for listener in &serving.config.listeners {
            let (name, wanted) = (&listener.name, listener.address);
            let listening = Listening::bind(listener, Arc::clone(&admission), &mut inherited)
                .with_context(|| format!("listener {name} cannot listen on {wanted}"))?;
            addresses.push((Arc::clone(name), listening.address()?));
            listeners.push(listening);
        }
        let settings = serving.config.admin.clone();
        let current = Arc::new(ArcSwap::from_pointee(serving));
        let (levers, orders) = Levers::new();
        let (mut admin, mut admin_tls) = (None, None);
        if let Some(settings) = settings {
            let wanted = settings.address;
            let socket = match inherited.take(wanted) {
                Some(socket) => socket,
                None => TcpListener::bind(wanted).await,
            };
            let socket = socket.with_context(|| format!("admin cannot listen on {wanted}"))?;
            admin_tls = build::admin_tls(&settings)?;
            let side = Admin::new(
                Arc::clone(&current),
                levers,
                logging.clone(),
                addresses.clone(),
                settings,
                admin_tls.clone(),
            );
            addresses.push(("admin".into(), socket.local_addr()?));
            admin = Some((socket, side));
        }
        for address in inherited.left() {
            tracing::warn!(%address, "no listener has the address of a socket from systemd");
        }
        Ok(Self {
            listeners,
            hangup: None,
            file: None,
            admin,
            orders,
            addresses,
            current,
            admin_tls,
            logging,
            spans,
        })
    }

    /// Every bound address with its listener's name, `admin` for the admin side.
    pub fn addresses(&self) -> &[(Arc<str>, SocketAddr)] {
        &self.addresses
    }

    /// Looks at everything in and behind the configuration `file` when it changes and at once when
    /// `hangup` comes. Without a file only certificates are looked at.
    #[must_use]
    pub fn reload_from(self, file: Option<ConfigFile>, hangup: Option<Signal>) -> Self {
        Self {
            hangup,
            file,
            ..self
        }
    }

    /// Serves until `stop` completes or the admin side says so, then drains as [`drain`] says. When
    /// `hurry` completes the deadline is now.
    pub async fn run(
        self,
        stop: impl Future<Output = ()> + Send,
        hurry: impl Future<Output = ()> + Send,
    ) -> anyhow::Result<()> {
        let current = self.current;
        let shared = Arc::clone(&current.load().shared);
        for (listener, address) in &self.addresses {
            tracing::info!(listener = &**listener, %address, "listening");
        }
        let mut doors = JoinSet::new();
        for listener in self.listeners {
            doors.spawn(listener.run(Arc::clone(&current)));
        }
        let mut loops = JoinSet::new();
        let reloader = Reloader::new(
            Arc::clone(&current),
            self.file,
            self.admin_tls,
            self.logging.clone(),
        );
        // Ends when the drain begins.
        loops.spawn(reloader.run(self.orders.reload, self.hangup));
        // When nobody logs in any more, with everything saved.
        loops.spawn(Arc::clone(&shared.bans).keep(shared.drain.clone()));
        // Likewise.
        if let Some(counters) = &shared.counters {
            let (bans, drain) = (Arc::clone(&shared.bans), shared.drain.clone());
            loops.spawn(Arc::clone(counters).run(bans, drain));
        }
        let served = Arc::clone(&current);
        // When the drain begins.
        loops.spawn(sweep::regularly(
            move || {
                let serving = served.load();
                let stores = Arc::clone(&serving.shared.surroundings.stores);
                (stores, serving.config.uploads.clone())
            },
            Arc::clone(&shared.metrics),
            shared.drain.clone(),
        ));
        let served = Arc::clone(&current);
        // Likewise.
        loops.spawn(sweep::commit_held_regularly(
            move || Arc::clone(&served.load().shared.surroundings.stores),
            Arc::clone(&shared.metrics),
            shared.drain.clone(),
        ));
        // The admin side stays until the last session is gone: an operator watches the drain.
        let finished = CancellationToken::new();
        let mut watching = JoinSet::new();
        if let Some((socket, admin)) = self.admin {
            watching.spawn(admin.serve(socket, finished.clone()));
        }
        watching.spawn(supervisor::watchdog(finished.clone()));
        watching.spawn(self.logging.keep(finished.clone()));
        if let Some(spans) = self.spans {
            watching.spawn(spans.run(Arc::clone(&shared.metrics), finished.clone()));
        }
        let journal = Arc::clone(shared.registry.journal());
        let (deliveries, ended) = (Arc::clone(&journal), finished.clone());
        watching.spawn(async move { deliveries.deliver(ended).await });
        shared.metrics.ready.set(1.0);
        tracing::info!("ready");
        supervisor::ready();

        let mut orders = self.orders.drain;
        let order = tokio::select! {
            () = stop => DrainOrder { deadline: None },
            order = next(&mut orders) => order,
        };
        shared.metrics.ready.set(0.0);
        supervisor::stopping();
        shared.drain.begin();
        // Those of the configuration in force now: it may have been reloaded.
        let course = Course::new(&current.load().shared.timeouts, &order);
        if !course.run(&shared.drain, doors, &mut orders, hurry).await {
            tracing::warn!(
                sessions = shared.metrics.sessions.get(),
                "drain ends, transfers are aborted"
            );
            shared.drain.expire();
            let gone = shared.drain.gone();
            if tokio::time::timeout(ABORT_GRACE, gone).await.is_err() {
                tracing::error!("some sessions did not end in time");
            }
        }
        loops.join_all().await;
        // Nobody would be here to commit these when their time is up; the next start does what is left.
        let stores = Arc::clone(&current.load().shared.surroundings.stores);
        let committed = sweep::commit_held(&stores, Whose::Ours);
        if tokio::time::timeout(ABORT_GRACE, committed).await.is_err() {
            tracing::warn!("some files still wait for their rename: the next start commits them");
        }
        finished.cancel();
        watching.join_all().await;
        journal.close().await;
        tracing::info!("stopped");
        Ok(())
    }
}

/// The next order; never, where nobody can give one.
async fn next<T>(orders: &mut mpsc::Receiver<T>) -> T {
    match orders.recv().await {
        Some(order) => order,
        None => std::future::pending().await,
    }
}
