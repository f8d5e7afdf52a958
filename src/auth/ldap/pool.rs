//! [`Pool`]: connections to the directory, a bounded number, made when needed and used again.

use std::{
    io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, StdStream};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use super::gate::{Allowance, Gate};
use crate::{auth::trust::Trust, config, loopback, shutdown::Drain};

/// What the library is told of the server: it speaks to our end of a loopback pair.
const INSIDE: &str = "ldap://127.0.0.1";

/// Connections to the directory. Outlives a reload that leaves its settings and files alone.
pub(super) struct Pool {
    settings: config::Ldap,
    trust: Trust,
    /// Where the last connection was made: a server that is down is not tried first every time.
    preferred: AtomicUsize,
    /// Connections at once, idle ones included.
    places: Semaphore,
    idle: Mutex<Vec<(Ldap, Allowance)>>,
    drain: Drain,
}

/// A connection in use. Dropped, it is closed: only [`Lease::give_back`] keeps it for the next, so that
/// what was cut off in the middle of an operation is never used again.
pub(super) struct Lease<'a> {
    pub(super) ldap: Ldap,
    allowance: Allowance,
    /// It was idle before, and the server may have closed it meanwhile.
    pub(super) reused: bool,
    pool: &'a Pool,
    _place: SemaphorePermit<'a>,
}

impl Pool {
    /// Asks nobody yet.
    pub(super) fn new(settings: config::Ldap, trust: Trust, drain: Drain) -> Self {
        Self {
            preferred: AtomicUsize::new(0),
            places: Semaphore::new(settings.connections),
            idle: Mutex::default(),
            trust,
            settings,
            drain,
        }
    }

    /// Whether it is made of these settings and files.
    pub(super) fn is_of(&self, settings: &config::Ldap, trust: &Trust) -> bool {
        self.settings == *settings && self.trust == *trust
    }

    /// An idle connection, or a new one. Waits for a place; the caller sets the deadline.
    pub(super) async fn lease(&self) -> Result<Lease<'_>, LdapError> {
        let place = self.places.acquire().await;
        // Never closed.
        let place = place.map_err(|error| LdapError::from(io::Error::other(error)))?;
        loop {
            let idle = self
                .idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop();
            let Some((mut ldap, allowance)) = idle else {
                break;
            };
            if !ldap.is_closed() {
                allowance.renew();
                return Ok(Lease {
                    ldap,
                    allowance,
                    reused: true,
                    pool: self,
                    _place: place,
                });
            }
        }
        let (ldap, allowance) = self.connect().await?;
        Ok(Lease {
            ldap,
            allowance,
            reused: false,
            pool: self,
            _place: place,
        })
    }

    /// A new connection to the first server that answers.
    async fn connect(&self) -> Result<(Ldap, Allowance), LdapError> {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut last = LdapError::from(io::Error::other("no server is configured"));
        let urls = &self.settings.urls;
        for step in 0..urls.len() {
            let index = (first + step) % urls.len();
            let url = &urls[index];
            match self.connect_to(url).await {
                Ok((ldap, allowance, driver)) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    let drain = self.drain.clone();
                    // Ends with the last handle, with the connection, or when the server stops: nobody
                    // logs in then.
                    self.drain.tasks().spawn(async move {
                        tokio::select! {
                            () = drain.settled() => {}
                            ended = driver => if let Err(error) = ended {
                                tracing::info!(%error, "LDAP connection ended");
                            }
                        }
                    });
                    return Ok((ldap, allowance));
                }
                Err(error) => {
                    tracing::warn!(url, %error, "LDAP server cannot be reached");
                    last = error;
                }
            }
        }
        Err(last)
    }

    /// A new connection to this server, which lives while its driver runs.
    pub(super) async fn connect_to(
        &self,
        url: &str,
    ) -> Result<
        (
            Ldap,
            Allowance,
            impl Future<Output = Result<(), LdapError>> + use<>,
        ),
        LdapError,
    > {
        let open = Gate::open(url, self.settings.start_tls, &self.trust);
        let opened = timeout(self.settings.connect, open).await;
        let gate = opened.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let (ours, theirs) = loopback::pair().await?;
        let stream = StdStream::Tcp(theirs.into_std()?);
        let settings = LdapConnSettings::new().set_std_stream(stream);
        let (connection, ldap) = LdapConnAsync::with_settings(settings, INSIDE).await?;
        let allowance = gate.allowance();
        let driver = async {
            tokio::select! {
                ended = connection.drive() => ended,
                ended = gate.relay(ours) => ended.map_err(LdapError::from),
            }
        };
        Ok((ldap, allowance, driver))
    }
}

impl Lease<'_> {
    /// Keeps the connection for the next.
    pub(super) fn give_back(self) {
        let mut idle = self
            .pool
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        idle.push((self.ldap, self.allowance));
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Pool")
            .field("urls", &self.settings.urls)
            .finish_non_exhaustive()
    }
}
