//! What `causeway check` finds about the sources of users and the shared counters: their files, and,
//! if that is wished, whether somebody is there who answers as a login needs it.

use std::{path::PathBuf, time::SystemTime};

use rand::random;

use super::{hook, ldap, shared, trust::Trust, trust::TrustErrors};
use crate::{
    config::{CertificateFiles, Config, HttpHook, Ldap, RedisServer, SharedCounters, SourceKind},
    observe::metrics::Metrics,
    validity::Validity,
};

/// What was found of one thing that was asked: all is well, or what is wrong.
pub type Finding = Result<String, String>;

/// What is wrong with the certificates, keys and authorities that the sources in use name. Blocks for
/// the disk, asks nobody.
pub fn check_files(config: &Config) -> Vec<String> {
    let sources = Sources::of(config);
    let mut mistakes = Vec::new();
    let mut look = |section: &str, encrypted: bool, trust: Result<Trust, TrustErrors>| {
        match trust {
        Err(errors) => mistakes.extend(errors.0),
        Ok(trust) if encrypted && trust.is_empty() => mistakes.push(format!(
            "{section}.ca_file: missing, and this system has no authorities of its own: expected a PEM file"
        )),
        Ok(_) => {}
    }
    };
    if let Some(settings) = sources.hook {
        let encrypted = settings.url.expose().starts_with("https");
        look("auth.http", encrypted, hook::trust(settings));
    }
    if let Some(settings) = sources.directory {
        let is_tls = |url: &String| settings.start_tls || url.starts_with("ldaps");
        let encrypted = settings.urls.iter().any(is_tls);
        look("auth.ldap", encrypted, ldap::trust(settings));
    }
    if let Some(settings) = sources.counters {
        let server = RedisServer::parse(settings.url.expose());
        if server.is_some_and(|server| server.tls) {
            look("shared_counters", true, shared::trust(settings));
        }
    }
    mistakes
}

/// A certificate that causeway shows to a source or to the shared counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownCertificate {
    /// Section of the configuration.
    pub section: &'static str,
    /// Where it was read from.
    pub file: PathBuf,
    /// Unix seconds of its last moment.
    pub not_after: i64,
}

/// What causeway shows to those in use, as far as it can be read. Blocks for the disk, asks nobody.
pub fn shown_certificates(config: &Config) -> Vec<ShownCertificate> {
    let sources = Sources::of(config);
    let mut found = Vec::new();
    let mut look =
        |section, files: Option<&CertificateFiles>, trust: Result<Trust, TrustErrors>| {
            let not_after = trust.ok().and_then(|trust| trust.shown_until());
            if let (Some(files), Some(not_after)) = (files, not_after) {
                let file = files.certificate_file.clone();
                found.push(ShownCertificate {
                    section,
                    file,
                    not_after,
                });
            }
        };
    if let Some(settings) = sources.hook {
        let files = settings.client_certificate.as_ref();
        look("auth.http", files, hook::trust(settings));
    }
    if let Some(settings) = sources.counters {
        let files = settings.client_certificate.as_ref();
        look("shared_counters", files, shared::trust(settings));
    }
    found
}

/// Tells the metrics, and the log where an operator must act, when they end. Blocks for the disk.
pub fn announce_certificates(config: &Config, metrics: &Metrics) {
    let now = SystemTime::now();
    for certificate in shown_certificates(config) {
        let (section, file) = (certificate.section, certificate.file.display().to_string());
        match Validity::of(certificate.not_after, now) {
            Validity::Expired => {
                tracing::error!(section, file, "client certificate has expired");
            }
            Validity::Ending(days) => {
                tracing::warn!(section, file, days, "client certificate expires soon");
            }
            Validity::Good => {}
        }
        metrics.certificate_ends(section, file, certificate.not_after);
    }
}

/// Asks every source in use and the shared counters, as a login would; each within its own deadline.
/// The hook gets a name that nobody has.
pub async fn check_online(config: &Config) -> Vec<Finding> {
    let sources = Sources::of(config);
    let mut findings = Vec::new();
    if let Some(settings) = sources.hook {
        findings.push(labelled("auth.http", hook::probe(settings).await));
    }
    if let Some(settings) = sources.directory {
        for (url, finding) in ldap::probe(settings).await {
            findings.push(labelled(&format!("auth.ldap {url}"), finding));
        }
    }
    if let Some(settings) = sources.counters {
        findings.push(labelled("shared_counters", shared::probe(settings).await));
    }
    findings
}

/// A name that no user has.
pub(super) fn nobody() -> String {
    format!("causeway-check-{:016x}", random::<u64>())
}

fn labelled(what: &str, finding: Finding) -> Finding {
    match finding {
        Ok(text) => Ok(format!("{what}: {text}")),
        Err(text) => Err(format!("{what}: {text}")),
    }
}

/// The settings that are in use.
struct Sources<'a> {
    hook: Option<&'a HttpHook>,
    directory: Option<&'a Ldap>,
    counters: Option<&'a SharedCounters>,
}

impl<'a> Sources<'a> {
    fn of(config: &'a Config) -> Self {
        let auth = &config.auth;
        let used = |kind| auth.sources.contains(&kind);
        Self {
            hook: auth.http.as_ref().filter(|_| used(SourceKind::Http)),
            directory: auth.ldap.as_ref().filter(|_| used(SourceKind::Ldap)),
            counters: config.shared_counters.as_ref(),
        }
    }
}
