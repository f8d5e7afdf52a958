//! [`Pool`]: connections to the directory, a bounded number, made when needed and used again.

use std::{
    fs, io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{config, shutdown::Drain};

/// Why there can be no pool.
#[derive(Debug, thiserror::Error)]
#[error("auth.ldap.ca_file {}: {problem}", .file.display())]
pub struct OpenError {
    file: PathBuf,
    problem: String,
}

pub(super) struct Pool {
    urls: Vec<String>,
    /// Where the last connection was made: a server that is down is not tried first every time.
    preferred: AtomicUsize,
    settings: LdapConnSettings,
    connect: Duration,
    /// Connections at once, idle ones included.
    places: Semaphore,
    idle: Mutex<Vec<Ldap>>,
    drain: Drain,
}

/// A connection in use. Dropped, it is closed: only [`Lease::give_back`] keeps it for the next, so that
/// what was cut off in the middle of an operation is never used again.
pub(super) struct Lease<'a> {
    pub(super) ldap: Ldap,
    /// It was idle before, and the server may have closed it meanwhile.
    pub(super) reused: bool,
    pool: &'a Pool,
    _place: SemaphorePermit<'a>,
}

impl Pool {
    pub(super) fn open(settings: &config::Ldap, drain: Drain) -> Result<Self, OpenError> {
        let mut connection = LdapConnSettings::new().set_starttls(settings.start_tls);
        if let Some(file) = &settings.ca_file {
            let config = trusting(file).map_err(|problem| OpenError {
                file: file.clone(),
                problem,
            })?;
            connection = connection.set_config(Arc::new(config));
        }
        Ok(Self {
            urls: settings.urls.clone(),
            preferred: AtomicUsize::new(0),
            settings: connection,
            connect: settings.connect,
            places: Semaphore::new(settings.connections),
            idle: Mutex::default(),
            drain,
        })
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
            let Some(mut ldap) = idle else { break };
            if !ldap.is_closed() {
                return Ok(Lease {
                    ldap,
                    reused: true,
                    pool: self,
                    _place: place,
                });
            }
        }
        Ok(Lease {
            ldap: self.connect().await?,
            reused: false,
            pool: self,
            _place: place,
        })
    }

    /// A new connection to the first server that answers.
    async fn connect(&self) -> Result<Ldap, LdapError> {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut last = LdapError::from(io::Error::other("no server is configured"));
        for step in 0..self.urls.len() {
            let index = (first + step) % self.urls.len();
            let url = &self.urls[index];
            let settings = self.settings.clone().set_conn_timeout(self.connect);
            match LdapConnAsync::with_settings(settings, url).await {
                Ok((connection, ldap)) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    let drain = self.drain.clone();
                    // Ends with the last handle, with the connection, or when the server stops: nobody
                    // logs in then.
                    self.drain.tasks().spawn(async move {
                        tokio::select! {
                            () = drain.settled() => {}
                            ended = connection.drive() => if let Err(error) = ended {
                                tracing::debug!(%error, "LDAP connection ended");
                            }
                        }
                    });
                    return Ok(ldap);
                }
                Err(error) => {
                    tracing::warn!(url, %error, "LDAP server cannot be reached");
                    last = error;
                }
            }
        }
        Err(last)
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
        idle.push(self.ldap);
    }
}

/// TLS that trusts the authorities in a PEM file and nobody else.
fn trusting(file: &PathBuf) -> Result<ClientConfig, String> {
    let pem = fs::read(file).map_err(|error| error.to_string())?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("no certificate found".to_owned());
    }
    Ok(ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth())
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Pool")
            .field("urls", &self.urls)
            .finish_non_exhaustive()
    }
}
