//! [`Trust`]: whom causeway believes, and what it shows, where it is the client: of an authentication
//! hook, a directory, a Redis.
//!
//! Owns the PEM files that the configuration names for that. One TLS configuration for all three: what
//! is right for one is right for the others.

use std::{
    fmt,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::{config::CertificateFiles, validity::last_moment};

/// Largest PEM file: a bundle of all public authorities has a quarter of it.
const FILE_BYTES: u64 = 1 << 20;

/// What PEM files hold, checked, and the TLS that follows from it.
#[derive(Clone)]
pub(crate) struct Trust {
    /// `None`: the authorities of the system.
    authorities: Option<Vec<CertificateDer<'static>>>,
    shown: Option<Shown>,
    config: Arc<ClientConfig>,
    is_empty: bool,
}

/// A certificate with its chain, and its key.
#[derive(PartialEq, Eq)]
struct Shown {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Clone for Shown {
    fn clone(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
        }
    }
}

/// Everything that is wrong with the files of one section, a line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustErrors(pub Vec<String>);

impl Trust {
    /// Reads the files that the `section` of the configuration names. Blocks for the disk.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub(crate) fn open(
        section: &str,
        ca_file: Option<&PathBuf>,
        client_certificate: Option<&CertificateFiles>,
    ) -> Result<Self, TrustErrors> {
        let mut errors = Vec::new();
        let mut note = |key: &str, file: &Path, problem: String| {
            errors.push(format!("{section}.{key} {}: {problem}", file.display()));
        };
        let (mut roots, mut authorities) = (RootCertStore::empty(), None);
        if let Some(file) = ca_file {
            let read = certificates(file).and_then(|found| {
                for certificate in &found {
                    let added = roots.add(certificate.clone());
                    added
                        .map_err(|error| format!("not the certificate of an authority: {error}"))?;
                }
                Ok(found)
            });
            match read {
                Ok(found) => authorities = Some(found),
                Err(problem) => note("ca_file", file, problem),
            }
        } else {
            // Some of a system's may be of kinds that nobody uses any more.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        let is_empty = roots.is_empty();
        let shown = client_certificate.and_then(|files| {
            let chain = certificates(&files.certificate_file);
            let chain = chain.map_err(|problem| {
                note("client_certificate_file", &files.certificate_file, problem);
            });
            let key = key(&files.key_file);
            let key = key.map_err(|problem| note("client_key_file", &files.key_file, problem));
            let (chain, key) = (chain.ok()?, key.ok()?);
            Some((Shown { chain, key }, files))
        });
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let config = match &shown {
            None => builder.with_no_client_auth(),
            Some((Shown { chain, key }, files)) => {
                match builder.with_client_auth_cert(chain.clone(), key.clone_key()) {
                    Ok(config) => config,
                    Err(error) => {
                        let certificate = files.certificate_file.display();
                        let problem = format!("not the key of {certificate}: {error}");
                        note("client_key_file", &files.key_file, problem);
                        return Err(TrustErrors(errors));
                    }
                }
            }
        };
        if !errors.is_empty() {
            return Err(TrustErrors(errors));
        }
        Ok(Self {
            authorities,
            shown: shown.map(|(shown, _)| shown),
            config: Arc::new(config),
            is_empty,
        })
    }

    /// TLS for a client.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// Unix seconds of the last moment of the certificate that is shown, if there is one.
    pub(crate) fn shown_until(&self) -> Option<i64> {
        last_moment(self.shown.as_ref()?.chain.first()?)
    }

    /// Whether nobody is believed: no file is named, and the system has no authorities.
    pub(crate) fn is_empty(&self) -> bool {
        self.is_empty
    }
}

/// Whether the files hold the same. What the system trusts is looked at when the server starts.
impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        self.authorities == other.authorities && self.shown == other.shown
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Trust")
    }
}

impl fmt::Display for TrustErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for TrustErrors {}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let cannot = |error: std::io::Error| format!("cannot read: {error}");
    let mut pem = Vec::new();
    let opened = File::open(file).map_err(cannot)?;
    let mut bounded = opened.take(FILE_BYTES + 1);
    bounded.read_to_end(&mut pem).map_err(cannot)?;
    if pem.len() as u64 > FILE_BYTES {
        return Err(format!("more than {FILE_BYTES} bytes"));
    }
    Ok(pem)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err("no certificate found".to_owned()),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("not PEM: {error}")),
    }
}

fn key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(&read(file)?).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => "no private key found".to_owned(),
        error => format!("not PEM: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_mistake_is_told_and_equal_files_are_equal() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["one", "two"] {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            fs::write(at(&format!("{name}.pem")), made.cert.pem()).unwrap();
            let key = made.signing_key.serialize_pem();
            fs::write(at(&format!("{name}.key")), key).unwrap();
        }
        fs::write(at("text"), "text").unwrap();
        let open = |ca: &str, certificate: &str, key: &str| {
            let client = CertificateFiles {
                certificate_file: at(certificate),
                key_file: at(key),
            };
            Trust::open("x", Some(&at(ca)), Some(&client))
        };
        let good = open("one.pem", "one.pem", "one.key").unwrap();
        assert!(good == open("one.pem", "one.pem", "one.key").unwrap());
        assert!(good != open("two.pem", "one.pem", "one.key").unwrap());
        assert!(good != open("one.pem", "two.pem", "two.key").unwrap());
        assert!(good != Trust::open("x", Some(&at("one.pem")), None).unwrap());
        for (ca, certificate, key, expected) in [
            (
                "none",
                "none",
                "none",
                [
                    "x.ca_file",
                    "x.client_certificate_file",
                    "x.client_key_file",
                ],
            ),
            (
                "text",
                "text",
                "text",
                [
                    "no certificate found",
                    "no certificate found",
                    "no private key found",
                ],
            ),
            (
                "one.key",
                "one.pem",
                "two.key",
                ["no certificate found", "not the key of", ""],
            ),
        ] {
            let error = open(ca, certificate, key).unwrap_err().to_string();
            let lines: Vec<&str> = error.lines().collect();
            for (line, expected) in lines.iter().zip(expected) {
                assert!(line.contains(expected), "{expected}: {error}");
            }
            let count = expected.iter().filter(|text| !text.is_empty()).count();
            assert_eq!(lines.len(), count, "{error}");
        }
    }
}
