//! Composition root: everything is opened and bound here, run, and drained.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{net::TcpListener, signal::unix::Signal, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::Admin,
    auth::{self, Authentication, Hashing, Names, Source, UserStore},
    config::{Config, SourceKind, Uploads},
    edge::{Door, Network, Shared, Tls, keep_current},
    engine::Surroundings,
    listen::{Admission, Listening},
    observe::metrics::Metrics,
    shutdown::Drain,
    store::{self, Budget, Stores},
    sweep,
};

/// After the drain deadline: aborting uploads is a request or two to the store each.
const ABORT_GRACE: Duration = Duration::from_secs(30);

/// A server that has opened and bound everything and serves nobody yet.
#[derive(Debug)]
pub struct App {
    listeners: Vec<Listening>,
    /// Of the listeners, for their certificates.
    doors: Vec<Arc<Door>>,
    users: Arc<UserStore>,
    hangups: [Option<Signal>; 2],
    admin: Option<TcpListener>,
    addresses: Vec<(Arc<str>, SocketAddr)>,
    shared: Arc<Shared>,
    uploads: Uploads,
}

impl App {
    /// Opens stores, users and certificates and binds every address.
    ///
    /// # Errors
    /// The first thing that cannot be opened, with its name.
    pub async fn bind(config: Config) -> anyhow::Result<Self> {
        let metrics = Metrics::new();
        let hashing = Arc::new(Hashing::default());
        let names = Names::of(&config);
        let users = UserStore::open(&config.auth, names, hashing, Arc::clone(&metrics))?;
        let users = Arc::new(users);
        let sources = config.auth.sources.iter().map(|source| match source {
            SourceKind::Users => Arc::clone(&users) as Arc<dyn Source>,
        });
        let authentication = Authentication::new(sources.collect());
        let mut stores = Stores::new();
        for (name, backend) in &config.backends {
            let opened = store::open(backend, &config.timeouts)
                .with_context(|| format!("backends.{name} cannot be opened"))?;
            stores.insert(Arc::clone(name), opened);
        }
        let shared = Arc::new(Shared {
            surroundings: Arc::new(Surroundings {
                authentication,
                mounts: config.mounts,
                stores: Arc::new(stores),
                resume: config.uploads.resume,
            }),
            profiles: config.profiles,
            timeouts: config.timeouts,
            login_failures: config.limits.login_failures,
            checksum_bytes: config.limits.checksum_bytes,
            budget: Budget::new(config.limits.upload_memory_bytes),
            metrics,
            drain: Drain::default(),
        });
        let admission = Admission::new(
            config.limits.connections,
            config.limits.connections_per_address,
        );
        let mut listeners = Vec::new();
        let mut doors = Vec::new();
        let mut addresses = Vec::new();
        for listener in config.listeners {
            let name = Arc::clone(&listener.name);
            let door = Door {
                tls: Tls::open(&listener.tls, listener.resumption)
                    .with_context(|| format!("listener {name}"))?,
                network: Network::new(&listener, &shared.metrics),
                config: listener,
            };
            door.network.resolve().await;
            let wanted = door.config.address;
            let door = Arc::new(door);
            doors.push(Arc::clone(&door));
            let listening = Listening::bind(door, Arc::clone(&admission))
                .with_context(|| format!("listener {name} cannot listen on {wanted}"))?;
            addresses.push((name, listening.address()?));
            listeners.push(listening);
        }
        let admin = match config.admin {
            None => None,
            Some(address) => {
                let socket = TcpListener::bind(address)
                    .await
                    .with_context(|| format!("admin cannot listen on {address}"))?;
                addresses.push(("admin".into(), socket.local_addr()?));
                Some(socket)
            }
        };
        Ok(Self {
            listeners,
            doors,
            users,
            hangups: [None, None],
            admin,
            addresses,
            shared,
            uploads: config.uploads,
        })
    }

    /// Every bound address with its listener's name, `admin` for the admin side.
    pub fn addresses(&self) -> &[(Arc<str>, SocketAddr)] {
        &self.addresses
    }

    /// Looks at the certificate files and the users files at once when their hangup comes, besides every
    /// few seconds.
    #[must_use]
    pub fn reload_on(self, hangups: [Option<Signal>; 2]) -> Self {
        Self { hangups, ..self }
    }

    /// Serves until `stop` completes, then drains: no new connections, running transfers finish until
    /// the drain deadline, idle sessions get 421. When `hurry` completes the deadline is now.
    pub async fn run(
        self,
        stop: impl Future<Output = ()> + Send,
        hurry: impl Future<Output = ()> + Send,
    ) -> anyhow::Result<()> {
        let shared = self.shared;
        let deadline = shared.timeouts.drain;
        for (listener, address) in &self.addresses {
            tracing::info!(listener = &**listener, %address, "listening");
        }
        let mut loops = JoinSet::new();
        for listener in self.listeners {
            loops.spawn(listener.run(Arc::clone(&shared)));
        }
        // Both end when the drain begins.
        let [certificates_hangup, users_hangup] = self.hangups;
        loops.spawn(keep_current(
            self.doors,
            Arc::clone(&shared.metrics),
            shared.drain.clone(),
            certificates_hangup,
        ));
        loops.spawn(auth::keep_current(
            self.users,
            shared.drain.clone(),
            users_hangup,
        ));
        // Likewise.
        loops.spawn(sweep::regularly(
            Arc::clone(&shared.surroundings.stores),
            self.uploads,
            Arc::clone(&shared.metrics),
            shared.drain.clone(),
        ));
        // The admin side stays until the last session is gone: an operator watches the drain.
        let finished = CancellationToken::new();
        let admin = self.admin.map(|socket| {
            let admin = Admin {
                metrics: Arc::clone(&shared.metrics),
                drain: shared.drain.clone(),
                budget: shared.budget.clone(),
            };
            tokio::spawn(admin.serve(socket, finished.clone().cancelled_owned()))
        });
        shared.metrics.ready.set(1.0);
        tracing::info!("ready");

        stop.await;
        shared.metrics.ready.set(0.0);
        tracing::info!(deadline_seconds = deadline.as_secs(), "draining");
        shared.drain.begin();
        loops.join_all().await;
        shared.drain.tasks().close();
        tokio::select! {
            () = shared.drain.tasks().wait() => {}
            () = async {
                tokio::select! {
                    () = tokio::time::sleep(deadline) => {}
                    () = hurry => {}
                }
            } => {
                tracing::warn!(sessions = shared.metrics.sessions.get(), "drain ends, transfers are aborted");
                shared.drain.expire();
                if tokio::time::timeout(ABORT_GRACE, shared.drain.tasks().wait()).await.is_err() {
                    tracing::error!("some sessions did not end in time");
                }
            }
        }
        finished.cancel();
        if let Some(admin) = admin {
            admin.await.context("admin")??;
        }
        tracing::info!("stopped");
        Ok(())
    }
}
