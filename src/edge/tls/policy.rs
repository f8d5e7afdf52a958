//! [`Configs`]: certificates, versions, suites, ALPN and tickets as `rustls::ServerConfig`s.

use std::sync::Arc;

use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs},
    version::{TLS12, TLS13},
};

use super::{
    Flow, HandshakeError,
    certificates::CertificateSet,
    client,
    files::{FileErrors, Files},
};
use crate::config::{self, MapBy, Resumption, TlsVersion};

/// ALPN protocol of a control connection (IANA registry; the only answer to ALPACA).
const ALPN_CONTROL: &[u8] = b"ftp";
/// What FileZilla offers on data connections.
const ALPN_DATA: &[u8] = b"ftp-data";
/// Protocols whose content must never be served from a data connection (ALPACA, S18).
const ALPN_FOREIGN: [&[u8]; 3] = [b"http/1.1", b"http/1.0", b"h2"];
/// Tickets on control connections. Clients that use a ticket once spend one on each upload, which
/// brings none: eight are as many as rustls clients keep, those of OpenSSL keep the newest only.
const CONTROL_TICKETS: usize = 8;
/// Tickets on downloads and listings.
const DOWNLOAD_TICKETS: usize = 2;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
const ONLY_TLS13: [&SupportedProtocolVersion; 1] = [&TLS13];

/// Everything made of one state of the files. None of them can resume: each connection gets a copy
/// with its own tags ([`super::resumption::Tags::apply`]).
#[derive(Debug)]
pub(super) struct Configs {
    pub(super) certificates: Arc<CertificateSet>,
    pub(super) control: ServerConfig,
    to_server: DataConfigs,
    to_client: DataConfigs,
    /// `None` where clients are not asked for certificates.
    pub(super) map_by: Option<MapBy>,
}

#[derive(Debug)]
struct DataConfigs {
    /// For clients that offer ALPN with one of our protocols.
    negotiated: ServerConfig,
    /// For clients that offer none, or only names we do not know.
    silent: ServerConfig,
}

impl Configs {
    /// Checks and combines everything.
    ///
    /// # Errors
    /// Everything that is wrong with the files.
    pub(super) fn build(
        settings: &config::Tls,
        mode: Resumption,
        files: &Files,
    ) -> Result<Self, FileErrors> {
        let provider = Arc::new(provider(&settings.cipher_suites));
        let certificates =
            CertificateSet::load(&settings.certificates, settings.sni, files, &provider);
        let clients = settings.client_certificates.as_ref();
        let verifier = clients
            .map(|clients| client::verifier(clients, files, &provider))
            .transpose();
        let (certificates, verifier) = match (certificates, verifier) {
            (Ok(certificates), Ok(verifier)) => (Arc::new(certificates), verifier),
            (certificates, verifier) => {
                let errors = [certificates.err(), verifier.err()];
                let errors = errors.into_iter().flatten().flat_map(|errors| errors.0);
                return Err(FileErrors(errors.collect()));
            }
        };
        let versions = match settings.minimum_version {
            TlsVersion::Tls12 => VERSIONS.as_slice(),
            TlsVersion::Tls13 => ONLY_TLS13.as_slice(),
        };
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(FileErrors::of_settings)?;
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let base = builder.with_cert_resolver(Arc::clone(&certificates) as _);
        let with = |tickets: usize, protocols: &[&[u8]]| {
            let mut config = base.clone();
            config.send_tls13_tickets = if mode == Resumption::Disabled {
                0
            } else {
                tickets
            };
            config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            config
        };
        let data = |tickets| DataConfigs {
            negotiated: with(tickets, &[ALPN_DATA, ALPN_CONTROL]),
            silent: with(tickets, &[]),
        };
        Ok(Self {
            certificates,
            control: with(CONTROL_TICKETS, &[ALPN_CONTROL]),
            to_server: data(0),
            to_client: data(DOWNLOAD_TICKETS),
            map_by: clients.map(|clients| clients.map_by),
        })
    }

    /// Whether clients are asked for certificates.
    pub(super) fn asks_for_certificates(&self) -> bool {
        self.map_by.is_some()
    }

    /// The configuration of a data connection on which the client offers these protocols.
    pub(super) fn for_data<'a>(
        &self,
        flow: Flow,
        offer: Option<impl Iterator<Item = &'a [u8]>>,
    ) -> Result<&ServerConfig, HandshakeError> {
        let configs = match flow {
            Flow::ToServer => &self.to_server,
            Flow::ToClient => &self.to_client,
        };
        let mut foreign = false;
        for name in offer.into_iter().flatten() {
            if name == ALPN_DATA || name == ALPN_CONTROL {
                return Ok(&configs.negotiated);
            }
            foreign |= ALPN_FOREIGN.contains(&name);
        }
        if foreign {
            Err(HandshakeError::ForeignProtocol)
        } else {
            Ok(&configs.silent)
        }
    }
}

/// aws-lc with these suites, in this order.
fn provider(suites: &[&str]) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    let known = std::mem::take(&mut provider.cipher_suites);
    provider.cipher_suites = suites
        .iter()
        .filter_map(|name| known.iter().find(|suite| iana_name(suite) == *name))
        .copied()
        .collect();
    provider
}

/// rustls calls `TLS_AES_…` `TLS13_AES_…`.
fn iana_name(suite: &rustls::SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replace("TLS13_", "TLS_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_knows_exactly_the_suites_of_the_provider_in_its_order() {
        let suites = aws_lc_rs::default_provider().cipher_suites;
        let names: Vec<String> = suites.iter().map(iana_name).collect();
        assert_eq!(names, config::CIPHER_SUITES);
        for (suite, name) in suites.iter().zip(config::CIPHER_SUITES) {
            let is_13 = suite.tls13().is_some();
            assert_eq!(TlsVersion::Tls13.has_suite(name), is_13, "{name}");
            assert_eq!(TlsVersion::Tls12.has_suite(name), !is_13, "{name}");
        }
    }

    #[test]
    fn provider_has_the_configured_suites_in_the_configured_order() {
        let names = ["TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"];
        let suites = provider(&names).cipher_suites;
        let found: Vec<String> = suites.iter().map(iana_name).collect();
        assert_eq!(found, names);
    }
}
