//! TLS as the raw client speaks it, with the certificate always verified.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustls::{
    ClientConfig, ClientConnection, NamedGroup, RootCertStore,
    client::{
        ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
        Tls12Resumption, Tls13ClientSessionValue,
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName},
    version::{TLS12, TLS13},
};

use super::Identity;

/// The TLS version a client is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Tls12,
    Tls13,
}

/// One client's TLS: its version, its offers and the sessions it remembers. The control connection
/// and the data connections of one client share it, as in the clients people use.
#[derive(Clone)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    sessions: Arc<Sessions>,
    name: String,
    version: Version,
    authority: CertificateDer<'static>,
}

impl Tls {
    /// Trusts `authority` only.
    pub(crate) fn new(version: Version, authority: &CertificateDer<'static>) -> Self {
        Self::with(version, authority, aws_lc_rs::default_provider(), None)
    }

    fn with(
        version: Version,
        authority: &CertificateDer<'static>,
        provider: CryptoProvider,
        identity: Option<&Identity>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone()).unwrap();
        let spoken = match version {
            Version::Tls12 => &TLS12,
            Version::Tls13 => &TLS13,
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[spoken])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_auth_cert(identity.chain(), identity.key())
                .unwrap(),
        };
        let sessions = Arc::new(Sessions::default());
        config.resumption = Resumption::store(sessions.clone());
        Self {
            config: Arc::new(config),
            sessions,
            name: "localhost".to_owned(),
            version,
            authority: authority.clone(),
        }
    }

    /// Offers these application protocols.
    pub(crate) fn offering(mut self, protocols: &[&str]) -> Self {
        Arc::make_mut(&mut self.config).alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        self
    }

    /// Resumes TLS 1.2 by session id, without the ticket extension, as curl 7.88 does.
    pub(crate) fn by_session_id(mut self) -> Self {
        Arc::make_mut(&mut self.config).resumption = Resumption::store(self.sessions.clone())
            .tls12_resumption(Tls12Resumption::SessionIdOnly);
        self
    }

    /// Remembers nothing: every handshake is a full one.
    pub(crate) fn forgetful(mut self) -> Self {
        Arc::make_mut(&mut self.config).resumption = Resumption::disabled();
        self
    }

    /// Calls the server by this name, and demands a certificate for it.
    pub(crate) fn calling(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Sends no server name.
    pub(crate) fn without_sni(mut self) -> Self {
        Arc::make_mut(&mut self.config).enable_sni = false;
        self
    }

    /// Offers only these cipher suites and verifies only what they sign.
    pub(crate) fn with_provider(self, change: impl FnOnce(&mut CryptoProvider)) -> Self {
        let mut provider = aws_lc_rs::default_provider();
        change(&mut provider);
        Self::with(self.version, &self.authority, provider, None).calling(&self.name)
    }

    /// Presents a certificate when it is asked for one.
    pub(crate) fn presenting(self, identity: &Identity) -> Self {
        let provider = aws_lc_rs::default_provider();
        Self::with(self.version, &self.authority, provider, Some(identity)).calling(&self.name)
    }

    /// A connection that has not said anything yet.
    pub(crate) fn connection(&self) -> ClientConnection {
        let name = ServerName::try_from(self.name.clone()).unwrap();
        ClientConnection::new(self.config.clone(), name).unwrap()
    }

    /// TLS 1.3 tickets taken so far, on all connections together.
    pub(crate) fn tickets(&self) -> usize {
        self.sessions.tickets.load(Ordering::SeqCst)
    }
}

/// Counts the tickets on their way into the ordinary cache.
struct Sessions {
    cache: ClientSessionMemoryCache,
    tickets: AtomicUsize,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            cache: ClientSessionMemoryCache::new(64),
            tickets: AtomicUsize::new(0),
        }
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Sessions")
            .field("tickets", &self.tickets)
            .finish_non_exhaustive()
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, server: ServerName<'static>, group: NamedGroup) {
        self.cache.set_kx_hint(server, group);
    }

    fn kx_hint(&self, server: &ServerName<'_>) -> Option<NamedGroup> {
        self.cache.kx_hint(server)
    }

    fn set_tls12_session(&self, server: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.cache.set_tls12_session(server, value);
    }

    fn tls12_session(&self, server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.cache.tls12_session(server)
    }

    fn remove_tls12_session(&self, server: &ServerName<'static>) {
        self.cache.remove_tls12_session(server);
    }

    fn insert_tls13_ticket(&self, server: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.tickets.fetch_add(1, Ordering::SeqCst);
        self.cache.insert_tls13_ticket(server, value);
    }

    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.cache.take_tls13_ticket(server)
    }
}
