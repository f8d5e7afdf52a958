//! What clients may dislike about a certificate that rustls serves all the same: the order and end of its
//! chain, its names, its purpose. For `causeway check`; nothing of a serving process calls this.

use std::{collections::HashSet, fs, path::Path, time::SystemTime};

use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, parse_x509_certificate};

/// Where systems keep the authorities that they trust; the first that is there counts.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What may be wrong with the chain in `file`, one sentence each; `hosts` are names that clients are known to
/// use. A file that cannot be read says nothing here: opening the TLS of its listener does.
pub fn doubts(file: &Path, hosts: &[String]) -> Vec<String> {
    let chain = CertificateDer::pem_file_iter(file).map(|items| items.flatten().collect());
    let chain: Vec<CertificateDer<'static>> = chain.unwrap_or_default();
    let parsed = chain.iter().map(|der| parse_x509_certificate(der));
    let parsed: Vec<X509Certificate<'_>> = parsed.flatten().map(|(_, found)| found).collect();
    let trusted = trusted();
    of_chain(&parsed, hosts, trusted.as_ref(), SystemTime::now())
}

/// Names of the authorities that this machine trusts; `None` where there is no list of them.
fn trusted() -> Option<HashSet<Vec<u8>>> {
    let configured = std::env::var_os("SSL_CERT_FILE");
    let configured = configured.as_ref().map(Path::new);
    let file = configured
        .into_iter()
        .chain(BUNDLES.iter().map(Path::new))
        .find(|file| file.is_file())?;
    let text = fs::read(file).ok()?;
    let names = CertificateDer::pem_slice_iter(&text)
        .flatten()
        .filter_map(|der| {
            let (_, certificate) = parse_x509_certificate(&der).ok()?;
            Some(certificate.subject().as_raw().to_vec())
        });
    Some(names.collect())
}

fn of_chain(
    chain: &[X509Certificate<'_>],
    hosts: &[String],
    trusted: Option<&HashSet<Vec<u8>>>,
    now: SystemTime,
) -> Vec<String> {
    let (Some(leaf), Some(last)) = (chain.first(), chain.last()) else {
        return Vec::new();
    };
    let mut doubts = Vec::new();
    if leaf.is_ca() && chain.len() > 1 {
        doubts.push(
            "the first certificate is an authority's: the server's own must come first".to_owned(),
        );
    }
    for (index, pair) in chain.windows(2).enumerate() {
        if pair[0].issuer().as_raw() != pair[1].subject().as_raw() {
            doubts.push(format!(
                "certificate {} is issued by \"{}\", and the next one is of \"{}\": each must be followed by its issuer",
                index + 1,
                pair[0].issuer(),
                pair[1].subject()
            ));
        }
    }
    let ends_itself = last.issuer().as_raw() == last.subject().as_raw();
    if let Some(trusted) = trusted
        && !ends_itself
        && !trusted.contains(last.issuer().as_raw())
    {
        doubts.push(format!(
            "the chain ends below \"{}\", which is no authority that this machine trusts: clients must know it, or an intermediate certificate is missing",
            last.issuer()
        ));
    }
    let now = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    for (index, certificate) in chain.iter().enumerate() {
        let validity = certificate.validity();
        if validity.not_before.timestamp() > now {
            doubts.push(format!("certificate {} is not valid yet", index + 1));
        }
        // That of the leaf is said elsewhere, with its days.
        if index > 0 && validity.not_after.timestamp() <= now {
            doubts.push(format!(
                "certificate {}, of \"{}\", has expired",
                index + 1,
                certificate.subject()
            ));
        }
    }
    doubts.extend(of_leaf(leaf, hosts));
    doubts
}

fn of_leaf(leaf: &X509Certificate<'_>, hosts: &[String]) -> Vec<String> {
    let mut doubts = Vec::new();
    if let Ok(Some(usage)) = leaf.extended_key_usage()
        && !usage.value.server_auth
        && !usage.value.any
    {
        doubts.push(
            "the certificate is not meant for servers (extended key usage lacks serverAuth)"
                .to_owned(),
        );
    }
    let names = leaf.subject_alternative_name().ok().flatten();
    let names = names.map_or(&[][..], |names| &names.value.general_names);
    if names.is_empty() {
        doubts.push("the certificate has no subject alternative name: clients that check names refuse it (RFC 6125)".to_owned());
        return doubts;
    }
    let is_for = |host: &str| {
        let parent = host.split_once('.').map(|(_, parent)| parent);
        names.iter().any(|name| match name {
            GeneralName::DNSName(name) => {
                name.eq_ignore_ascii_case(host)
                    || name
                        .strip_prefix("*.")
                        .zip(parent)
                        .is_some_and(|(name, parent)| name.eq_ignore_ascii_case(parent))
            }
            _ => false,
        })
    };
    for host in hosts.iter().filter(|host| !is_for(host)) {
        doubts.push(format!(
            "the certificate is not for {host}, the name in passive.address: right if clients connect to another name"
        ));
    }
    doubts
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose,
        IsCa, KeyPair,
    };

    use super::*;

    fn params(name: &str, names: &[&str]) -> CertificateParams {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }

    fn authority(name: &str) -> CertificateParams {
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    #[test]
    fn what_clients_may_dislike_is_named() {
        let key = || KeyPair::generate().unwrap();
        let root = CertifiedIssuer::self_signed(authority("root"), key()).unwrap();
        let middle = CertifiedIssuer::signed_by(authority("middle"), key(), &root).unwrap();
        let good = params("leaf", &["ftp.example.com", "*.example.org"]);
        let good = good.signed_by(&key(), &middle).unwrap().der().to_vec();
        let mut client = params("client", &["ftp.example.com"]);
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let client = client.signed_by(&key(), &middle).unwrap().der().to_vec();
        let nameless = params("nameless", &[]);
        let nameless = nameless.signed_by(&key(), &middle).unwrap().der().to_vec();
        let mut old = authority("middle");
        old.not_after = time::OffsetDateTime::now_utc() - time::Duration::days(1);
        let old = CertifiedIssuer::signed_by(old, key(), &root).unwrap();
        let (root, middle, old) = (
            root.der().to_vec(),
            middle.der().to_vec(),
            old.der().to_vec(),
        );
        let host = || vec!["ftp.example.com".to_owned()];
        for (chain, hosts, words) in [
            (vec![&good, &middle], host(), vec![]),
            (vec![&good, &middle, &root], host(), vec![]),
            (
                vec![&good, &middle],
                vec!["a.example.org".to_owned()],
                vec![],
            ),
            (
                vec![&good, &middle],
                vec!["a.b.example.org".to_owned()],
                vec!["not for a.b.example.org"],
            ),
            (vec![&good], host(), vec!["ends below \"CN=middle\""]),
            (
                vec![&good, &root],
                host(),
                vec!["is issued by \"CN=middle\""],
            ),
            (
                vec![&middle, &good],
                vec![],
                vec![
                    "must come first",
                    "is issued by",
                    "ends below",
                    "no subject alternative name",
                ],
            ),
            (
                vec![&client, &middle],
                host(),
                vec!["not meant for servers"],
            ),
            (
                vec![&nameless, &middle],
                host(),
                vec!["no subject alternative name"],
            ),
            (vec![&good, &old], host(), vec!["has expired"]),
        ] {
            let parsed: Vec<_> = chain
                .iter()
                .map(|der| parse_x509_certificate(der).unwrap().1)
                .collect();
            let (_, root) = parse_x509_certificate(&root).unwrap();
            let trusted = HashSet::from([root.subject().as_raw().to_vec()]);
            let found = of_chain(&parsed, &hosts, Some(&trusted), SystemTime::now());
            assert_eq!(found.len(), words.len(), "{found:?} for {words:?}");
            for (found, word) in found.iter().zip(&words) {
                assert!(found.contains(word), "{found:?} lacks {word:?}");
            }
        }
    }
}
