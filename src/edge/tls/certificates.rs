//! [`CertificateSet`]: the server's certificates, and which one a client gets.
//!
//! By the server name the client sends (SNI) among the names in the certificates, then by the
//! signatures it knows: RSA and ECDSA stand side by side. No SNI (basic-ftp, PHP, devices): the first
//! certificate, or the first one the client can verify (CONFORMANCE C12, C13, C17).

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

use super::files::{FileError, FileErrors, Files};
use crate::{
    config::{CertificateFiles, Sni},
    validity::Validity,
};

/// A certificate, for the log, the metrics and the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Where it was read from.
    pub file: PathBuf,
    /// The DNS names it is for, lower case; `*.example.com` as it stands.
    pub names: Vec<String>,
    /// Unix seconds of its last moment.
    pub not_after: i64,
}

/// Certificates with their keys, the default one first.
#[derive(Debug)]
pub(super) struct CertificateSet {
    /// At least one.
    entries: Vec<Entry>,
    sni: Sni,
}

#[derive(Debug)]
struct Entry {
    key: Arc<CertifiedKey>,
    described: Certificate,
}

impl CertificateSet {
    /// Loads every certificate with its key.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub(super) fn load(
        certificates: &[CertificateFiles],
        sni: Sni,
        files: &Files,
        provider: &CryptoProvider,
    ) -> Result<Self, FileErrors> {
        let (mut entries, mut errors) = (Vec::new(), Vec::new());
        for certificate in certificates {
            match Entry::load(certificate, files, provider) {
                Ok(entry) => entries.push(entry),
                Err(problems) => errors.extend(problems),
            }
        }
        if errors.is_empty() {
            Ok(Self { entries, sni })
        } else {
            Err(FileErrors(errors))
        }
    }

    pub(super) fn described(&self) -> Vec<Certificate> {
        self.entries
            .iter()
            .map(|entry| entry.described.clone())
            .collect()
    }

    pub(super) fn has_virtual_hosts(&self) -> bool {
        let names = |entry: &Entry| {
            let mut names = entry.described.names.clone();
            names.sort();
            names
        };
        self.entries
            .windows(2)
            .any(|pair| names(&pair[0]) != names(&pair[1]))
    }

    pub(super) fn has_name(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.is_for(name))
    }

    /// The certificate for a server name and for signatures that the client can verify.
    fn choose(&self, name: Option<&str>, signs: impl Fn(&Entry) -> bool) -> Option<&Entry> {
        if let Some(name) = name {
            let mut named = self.entries.iter().filter(|entry| entry.is_for(name));
            let first = named.clone().next();
            match (named.find(|entry| signs(entry)), first, self.sni) {
                (Some(entry), ..) => return Some(entry),
                // rustls says in its alert what is missing.
                (None, Some(first), _) => return Some(first),
                (None, None, Sni::Strict) => return None,
                (None, None, Sni::Any) => {}
            }
        }
        let fits = self.entries.iter().find(|entry| signs(entry));
        fits.or(self.entries.first())
    }
}

impl ResolvesServerCert for CertificateSet {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        let signs = |entry: &Entry| entry.key.key.choose_scheme(schemes).is_some();
        let entry = self.choose(hello.server_name(), signs)?;
        Some(Arc::clone(&entry.key))
    }
}

impl Entry {
    fn load(
        certificate: &CertificateFiles,
        files: &Files,
        provider: &CryptoProvider,
    ) -> Result<Self, Vec<FileError>> {
        let (chain_file, key_file) = (&certificate.certificate_file, &certificate.key_file);
        let chain =
            files.items::<CertificateDer<'static>>("certificate_file", chain_file, "certificate");
        let key = files.items::<PrivateKeyDer<'static>>("key_file", key_file, "private key");
        let (chain, mut keys) = match (chain, key) {
            (Ok(chain), Ok(keys)) => (chain, keys),
            (chain, key) => return Err([chain.err(), key.err()].into_iter().flatten().collect()),
        };
        let (names, not_after) = names_and_end(&chain[0]).map_err(|problem| {
            vec![FileError {
                key: "certificate_file",
                file: Some(chain_file.clone()),
                problem,
            }]
        })?;
        let key = CertifiedKey::from_der(chain, keys.swap_remove(0), provider)
            .map_err(|error| vec![pair_error(chain_file, key_file, &error)])?;
        Ok(Self {
            key: Arc::new(key),
            described: Certificate {
                file: chain_file.clone(),
                names,
                not_after,
            },
        })
    }

    /// RFC 6125 §6.4.3: a wildcard stands for exactly one label, the leftmost.
    fn is_for(&self, name: &str) -> bool {
        let parent = name.split_once('.').map(|(_, parent)| parent);
        self.described.names.iter().any(|known| {
            known.eq_ignore_ascii_case(name)
                || known
                    .strip_prefix("*.")
                    .zip(parent)
                    .is_some_and(|(known, parent)| known.eq_ignore_ascii_case(parent))
        })
    }
}

fn pair_error(chain_file: &Path, key_file: &Path, error: &rustls::Error) -> FileError {
    let problem = match error {
        rustls::Error::InconsistentKeys(_) => {
            format!("the key does not belong to {}", chain_file.display())
        }
        other => format!("not usable together with the certificate: {other}"),
    };
    FileError {
        key: "key_file",
        file: Some(key_file.to_owned()),
        problem,
    }
}

fn names_and_end(leaf: &CertificateDer<'_>) -> Result<(Vec<String>, i64), String> {
    let unusable = |error: &dyn std::fmt::Display| format!("not a usable certificate: {error}");
    let (_, certificate) = parse_x509_certificate(leaf).map_err(|error| unusable(&error))?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| unusable(&error))?;
    let names = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_lowercase()),
            _ => None,
        });
    let not_after = certificate.validity().not_after.timestamp();
    Ok((names.collect(), not_after))
}

impl Certificate {
    /// What an operator should know at `now`.
    pub fn validity(&self, now: SystemTime) -> Validity {
        Validity::of(self.not_after, now)
    }
}
