//! A CA and one leaf certificate for this machine's own names.
//!
//! The CA's key is thrown away once it has signed the leaf: nobody can make another certificate that a
//! client with the demo's `ca.pem` would trust. So both are renewed together.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    sign::CertifiedKey,
};
use time::OffsetDateTime;

use super::files;

/// The CA's certificate, for clients.
pub(super) const AUTHORITY: &str = "ca.pem";
/// The server's certificate.
pub(super) const LEAF: &str = "server.pem";
/// The server's key.
pub(super) const KEY: &str = "server.key";

/// What clients may call this machine; all three are in the certificate.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
const DAY: Duration = Duration::from_hours(24);
const LIFETIME: Duration = Duration::from_hours(365 * 24);
/// A certificate is renewed this long before it ends, so that it outlives the demo that uses it.
const RENEWAL: Duration = Duration::from_hours(7 * 24);

/// Keeps the certificate in `directory` if it is good for another week, else makes a new one.
pub(super) fn ensure(directory: &Path, now: SystemTime) -> anyhow::Result<()> {
    if is_good(directory, now + RENEWAL) {
        return Ok(());
    }
    create(directory, now).context("cannot make a certificate")
}

/// Whether a client that trusts `ca.pem` accepts the server at `time`, and the key belongs to it.
fn is_good(directory: &Path, time: SystemTime) -> bool {
    let verify = || -> anyhow::Result<()> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(directory.join(AUTHORITY))?)?;
        let leaf = CertificateDer::from_pem_file(directory.join(LEAF))?;
        let key = PrivateKeyDer::from_pem_file(directory.join(KEY))?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()?;
        let time = UnixTime::since_unix_epoch(time.duration_since(UNIX_EPOCH)?);
        for name in NAMES {
            verifier.verify_server_cert(&leaf, &[], &ServerName::try_from(name)?, &[], time)?;
        }
        CertifiedKey::from_der(vec![leaf], key, &provider)?;
        Ok(())
    };
    verify().is_ok()
}

fn create(directory: &Path, now: SystemTime) -> anyhow::Result<()> {
    // A day back: clients with a slow clock.
    let (start, end) = (
        OffsetDateTime::from(now - DAY),
        OffsetDateTime::from(now + LIFETIME),
    );

    let mut authority = CertificateParams::default();
    authority
        .distinguished_name
        .push(DnType::CommonName, "causeway demo CA");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (authority.not_before, authority.not_after) = (start, end);
    let authority_key = KeyPair::generate()?;
    let authority_certificate = authority.self_signed(&authority_key)?;
    let issuer = Issuer::new(authority, authority_key);

    let mut leaf = CertificateParams::new(NAMES.map(str::to_owned))?;
    leaf.distinguished_name
        .push(DnType::CommonName, "localhost");
    leaf.is_ca = IsCa::ExplicitNoCa;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    (leaf.not_before, leaf.not_after) = (start, end);
    let key = KeyPair::generate()?;
    let certificate = leaf.signed_by(&key, &issuer)?;

    // The CA last: a crash in between leaves a pair that does not verify, and the next start renews it.
    files::write(&directory.join(KEY), &key.serialize_pem())?;
    files::write(&directory.join(LEAF), &certificate.pem())?;
    files::write(&directory.join(AUTHORITY), &authority_certificate.pem())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn certificate_verifies_for_all_names_and_is_renewed_a_week_before_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let now = SystemTime::now();
        let read = || fs::read_to_string(directory.join(LEAF)).unwrap();
        ensure(directory, now).unwrap();
        assert!(is_good(directory, now));
        let first = read();
        ensure(directory, now + LIFETIME - RENEWAL - DAY).unwrap();
        assert_eq!(read(), first);
        ensure(directory, now + LIFETIME - RENEWAL + DAY).unwrap();
        assert_ne!(read(), first);
    }

    #[test]
    fn missing_or_foreign_file_means_a_new_certificate() {
        for name in [AUTHORITY, LEAF, KEY] {
            let directory = tempfile::tempdir().unwrap();
            let directory = directory.path();
            let now = SystemTime::now();
            ensure(directory, now).unwrap();
            fs::remove_file(directory.join(name)).unwrap();
            ensure(directory, now).unwrap();
            assert!(is_good(directory, now), "{name} missing");
            let other = tempfile::tempdir().unwrap();
            ensure(other.path(), now).unwrap();
            fs::copy(other.path().join(name), directory.join(name)).unwrap();
            assert!(!is_good(directory, now), "{name} of another demo");
        }
    }
}
