//! TLS: certificates, versions, suites, client certificates.

use super::super::{
    ClientCertificates, Tls,
    tls::{
        CIPHER_SUITES, CertificateFiles, ClientCertificateMode, MapBy, Resumption, Sni, TlsVersion,
    },
    typed::{Table, nearest},
    yaml::Node,
};

pub(super) const TLS: [&str; 7] = [
    "certificate_file",
    "key_file",
    "certificates",
    "sni",
    "minimum_version",
    "cipher_suites",
    "client_certificates",
];
pub(super) const CERTIFICATE: [&str; 2] = ["certificate_file", "key_file"];
pub(super) const CLIENT_CERTIFICATES: [&str; 4] = ["mode", "ca_file", "crl_file", "map"];
pub(super) const MAP: [&str; 1] = ["by"];

const PEM_FILE: &str = "the path of a PEM file";
const SNIS: [(&str, Sni); 2] = [("any", Sni::Any), ("strict", Sni::Strict)];
const VERSIONS: [(&str, TlsVersion); 2] = [("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)];
const MODES: [(&str, Option<ClientCertificateMode>); 3] = [
    ("off", None),
    ("request", Some(ClientCertificateMode::Request)),
    ("require", Some(ClientCertificateMode::Require)),
];
const MAPS: [(&str, MapBy); 3] = [
    ("san", MapBy::San),
    ("cn", MapBy::Cn),
    ("fingerprint", MapBy::Fingerprint),
];
pub(super) const RESUMPTIONS: [(&str, Resumption); 3] = [
    ("disabled", Resumption::Disabled),
    ("enabled", Resumption::Enabled),
    ("enforced", Resumption::Enforced),
];

pub(super) fn tls(table: &Table<'_>) -> Option<Tls> {
    let certificates = certificates(table);
    let sni = table.choice_or("sni", &SNIS, Sni::Any);
    let minimum_version = table.choice_or("minimum_version", &VERSIONS, TlsVersion::Tls12);
    let cipher_suites = cipher_suites(table);
    if let (Some(TlsVersion::Tls13), Some(suites)) = (minimum_version, &cipher_suites)
        && !suites
            .iter()
            .any(|suite| TlsVersion::Tls13.has_suite(suite))
    {
        let message = "holds no suite of TLS 1.3, which minimum_version asks for";
        table.error("cipher_suites", message);
    }
    let client_certificates = match table.table("client_certificates", &CLIENT_CERTIFICATES) {
        Some(table) => client_certificates(&table),
        None => Some(None),
    };
    Some(Tls {
        certificates: certificates?,
        sni: sni?,
        minimum_version: minimum_version?,
        cipher_suites: cipher_suites?,
        client_certificates: client_certificates?,
    })
}

/// The one of the table itself first, then those of the list.
fn certificates(table: &Table<'_>) -> Option<Vec<CertificateFiles>> {
    let mut broken = false;
    let mut certificates = Vec::new();
    let has_list = table.has("certificates");
    let files = (
        table.optional_file("certificate_file", PEM_FILE),
        table.optional_file("key_file", PEM_FILE),
    );
    match files {
        (Some(Some(certificate_file)), Some(Some(key_file))) => {
            certificates.push(CertificateFiles {
                certificate_file,
                key_file,
            });
        }
        (Some(None), Some(None)) if has_list => {}
        (certificate_file, key_file) => {
            for (key, found) in [
                ("certificate_file", certificate_file),
                ("key_file", key_file),
            ] {
                if found == Some(None) {
                    table.error(key, format!("missing: expected {PEM_FILE}"));
                }
            }
            broken = true;
        }
    }
    if let Some(items) = table.items("certificates", "a list of certificates")? {
        if items.is_empty() && certificates.is_empty() {
            table.error("certificates", "empty: TLS needs at least one certificate");
        }
        for item in items {
            match item
                .table(&CERTIFICATE)
                .and_then(|table| certificate(&table))
            {
                Some(files) => certificates.push(files),
                None => broken = true,
            }
        }
    }
    (!broken).then_some(certificates)
}

fn certificate(table: &Table<'_>) -> Option<CertificateFiles> {
    let certificate_file = table.file("certificate_file", PEM_FILE);
    let key_file = table.file("key_file", PEM_FILE);
    Some(CertificateFiles {
        certificate_file: certificate_file?,
        key_file: key_file?,
    })
}

fn cipher_suites(table: &Table<'_>) -> Option<Vec<&'static str>> {
    let all = CIPHER_SUITES.map(|suite| Node::String(suite.to_owned()));
    table.default("cipher_suites", Node::Sequence(all.to_vec()));
    let Some(items) = table.items("cipher_suites", "a list of cipher suites")? else {
        return Some(CIPHER_SUITES.to_vec());
    };
    if items.is_empty() {
        table.error("cipher_suites", "empty: leave the key out for all suites");
        return None;
    }
    let mut suites = Vec::new();
    for item in items {
        item.words(CIPHER_SUITES);
        let text = item.text("the name of a cipher suite")?;
        match CIPHER_SUITES.iter().find(|suite| **suite == text.value) {
            Some(suite) if suites.contains(suite) => item.error("given twice: keep one of them"),
            Some(suite) => suites.push(*suite),
            None => item.error(unknown_suite(&text.value, text.shown())),
        }
    }
    Some(suites)
}

fn unknown_suite(suite: &str, shown: &str) -> String {
    let lower_case = CIPHER_SUITES.map(str::to_lowercase);
    let known = lower_case.each_ref().map(String::as_str);
    let hint =
        nearest(suite, &known).map(|near| format!("; did you mean `{}`?", near.to_uppercase()));
    format!(
        "no cipher suite {shown}{}; there are {}",
        hint.unwrap_or_default(),
        CIPHER_SUITES.join(", ")
    )
}

#[allow(
    clippy::option_option,
    reason = "a mistake and an absence are different things"
)]
fn client_certificates(table: &Table<'_>) -> Option<Option<ClientCertificates>> {
    let mode = table.required_choice("mode", &MODES);
    let ca_file = table.optional_file("ca_file", PEM_FILE);
    if ca_file == Some(None) && mode != Some(None) {
        table.error("ca_file", format!("missing: expected {PEM_FILE}"));
    }
    let crl_file = table.optional_file("crl_file", PEM_FILE);
    let map_by = table.section("map", &MAP);
    let map_by = map_by.and_then(|map| map.choice_or("by", &MAPS, MapBy::San));
    let Some(mode) = mode? else {
        return Some(None);
    };
    Some(Some(ClientCertificates {
        mode,
        ca_file: ca_file??,
        crl_file: crl_file?,
        map_by: map_by?,
    }))
}
