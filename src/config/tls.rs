//! What a listener says about TLS, as values. What they do is [`crate::edge`]'s.

use std::path::PathBuf;

/// The TLS of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// At least one; the first is served where nothing chooses another.
    pub certificates: Vec<CertificateFiles>,
    /// What a server name that no certificate holds leads to.
    pub sni: Sni,
    /// Oldest version that is spoken; default 1.2.
    pub minimum_version: TlsVersion,
    /// In order of preference; default: all that exist, in the order of [`CIPHER_SUITES`].
    pub cipher_suites: Vec<&'static str>,
    /// `None`: clients are not asked for a certificate (default).
    pub client_certificates: Option<ClientCertificates>,
}

/// PEM files of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// Leaf first, then intermediates.
    pub certificate_file: PathBuf,
    /// PKCS#8, PKCS#1 or SEC1 key.
    pub key_file: PathBuf,
}

/// What a server name that no certificate holds leads to (CONFORMANCE C13, S16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sni {
    /// The default certificate (default).
    Any,
    /// A failed handshake. A client that sends no name gets the default certificate here too.
    Strict,
}

/// A version of TLS; older ones are not spoken at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// Asking clients for certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// Whether a client may come without one.
    pub mode: ClientCertificateMode,
    /// PEM of the authorities that may issue them.
    pub ca_file: PathBuf,
    /// PEM of their revocation lists: one of every authority in a chain, if there is any.
    pub crl_file: Option<PathBuf>,
    /// What of a certificate the users file names; default SAN.
    pub map_by: MapBy,
}

/// Whether a client may come without a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificateMode {
    /// It may.
    Request,
    /// It may not: the handshake fails, on control and on data connections.
    Require,
}

/// What of a client's certificate says who the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapBy {
    /// Its DNS names, mail addresses and URIs.
    San,
    /// The common name of its subject.
    Cn,
    /// The SHA-256 of the whole certificate.
    Fingerprint,
}

/// Whether data connections resume the TLS session of their control connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumption {
    /// Nobody can resume: no tickets, no cache.
    Disabled,
    /// Who offers a session of this control connection resumes it, everybody else makes a full
    /// handshake (default).
    Enabled,
    /// A data connection that does not resume is refused with 522.
    Enforced,
}

/// Every cipher suite there is, by its IANA name, in the server's order of preference.
pub const CIPHER_SUITES: [&str; 9] = [
    "TLS_AES_256_GCM_SHA384",
    "TLS_AES_128_GCM_SHA256",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];

impl TlsVersion {
    /// Whether a suite of [`CIPHER_SUITES`] belongs to the version: those of 1.3 name no key exchange.
    pub fn has_suite(self, suite: &str) -> bool {
        suite.starts_with("TLS_ECDHE_") == (self == Self::Tls12)
    }
}
