//! Certificates of clients: how they are verified, and whom they name.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

use super::files::{FileError, FileErrors, Files};
use crate::config::{ClientCertificateMode, ClientCertificates, MapBy};

/// The verifier that the settings ask for. Revocation is checked for the whole chain, and a list that
/// is missing is a refusal: who configures lists wants to know.
pub(super) fn verifier(
    settings: &ClientCertificates,
    files: &Files,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, FileErrors> {
    let file_error = |key, file: &std::path::Path, problem: String| FileError {
        key,
        file: Some(file.to_owned()),
        problem,
    };
    let authorities = files.items::<CertificateDer<'static>>(
        "client_certificates.ca_file",
        &settings.ca_file,
        "certificate",
    )?;
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority).map_err(|error| {
            let problem = format!("holds a certificate that is no authority: {error}");
            file_error("client_certificates.ca_file", &settings.ca_file, problem)
        })?;
    }
    let lists = match &settings.crl_file {
        None => Vec::new(),
        Some(file) => files.items::<CertificateRevocationListDer<'static>>(
            "client_certificates.crl_file",
            file,
            "revocation list",
        )?,
    };
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .with_crls(lists);
    let builder = match settings.mode {
        ClientCertificateMode::Request => builder.allow_unauthenticated(),
        ClientCertificateMode::Require => builder,
    };
    builder.build().map_err(|error| {
        let file = settings.crl_file.as_ref().unwrap_or(&settings.ca_file);
        let problem = format!("client certificates cannot be verified: {error}");
        file_error("client_certificates", file, problem).into()
    })
}

/// What the users file may name of a verified certificate. Empty when it has nothing of the kind.
pub(super) fn identities(leaf: &CertificateDer<'_>, map_by: MapBy) -> Vec<String> {
    if map_by == MapBy::Fingerprint {
        let hash = digest(&SHA256, leaf);
        let hex = hash.as_ref().iter().map(|byte| format!("{byte:02x}"));
        return vec![hex.collect()];
    }
    // The verifier has parsed it already: it is well formed.
    let Ok((_, certificate)) = parse_x509_certificate(leaf) else {
        return Vec::new();
    };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
            Some((*name).to_owned())
        }
        _ => None,
    };
    match map_by {
        MapBy::San => match certificate.subject_alternative_name() {
            Ok(Some(names)) => names.value.general_names.iter().filter_map(text).collect(),
            _ => Vec::new(),
        },
        MapBy::Cn | MapBy::Fingerprint => certificate
            .subject()
            .iter_common_name()
            .filter_map(|name| name.as_str().ok())
            .map(str::to_owned)
            .collect(),
    }
}
