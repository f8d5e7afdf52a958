//! `causeway check`: everything that can be wrong before the first connection.
//!
//! Owns what is looked at and in which order; [`report`] says it. Files are always looked at; stores, ports,
//! names and the bounds of this machine unless `--offline` says that it is not the one that will serve.

mod network;
mod report;
mod resources;
mod sources;
mod stores;
mod written;

use std::{fmt::Write as _, path::PathBuf, time::SystemTime};

use self::report::Format;
pub(super) use self::report::Report;
use super::Failure;
use crate::{
    auth::{Names, Users},
    config::{Backend, Config, Listener, PublicAddress, SourceKind},
    edge::{Tls, doubts},
};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The YAML configuration
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Look at files only: try no store, port or name, and do not ask how much memory this machine has.
    /// For a pipeline, and for a server that must start while its store is away
    #[arg(long)]
    offline: bool,
    /// How to print what was found
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let report = Report::new(&arguments.config, arguments.format);
    look(arguments, report)?.finish()
}

/// Everything that there is to say.
fn look(arguments: &Arguments, mut report: Report) -> Result<Report, Failure> {
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(errors) => {
            for line in errors.to_string().lines() {
                report.mistake("configuration", line);
            }
            return Ok(report);
        }
    };
    let users = users(&config, &mut report);
    certificates(arguments, &config, &mut report);
    sources::look(&config, !arguments.offline, &mut report)?;
    network::look(&config, &mut report);
    written::look(&config, &mut report);
    if !arguments.offline {
        written::try_all(&config, &mut report);
        network::try_all(&config, &mut report);
        resources::look(&config, &mut report);
    }
    stores::try_all(&config, !arguments.offline, &mut report)?;
    for line in summary(&config, users).lines() {
        report.line(line.to_owned());
    }
    Ok(report)
}

/// How many users there are in the users files, whose mistakes are told.
fn users(config: &Config, report: &mut Report) -> usize {
    let files = config.auth.users.as_ref();
    match files.map(|files| Users::load(files, &Names::of(config))) {
        None => {
            unknown_groups(config, &Users::nobody(), report);
            0
        }
        Some(Ok(users)) => {
            unknown_groups(config, &users, report);
            useless_certificates(config, &users, report);
            for name in users.with_weak_hashes() {
                report.warn(
                    "users",
                    format!(
                        "user {name:?} has an MD5 hash, which falls in minutes: give a new password"
                    ),
                );
            }
            users.len()
        }
        Some(Err(errors)) => {
            for line in errors.lines() {
                report.mistake("users", line);
            }
            0
        }
    }
}

/// Groups that other sources give their users, and that no users file has: nobody gets in with one.
fn unknown_groups(config: &Config, users: &Users, report: &mut Report) {
    let auth = &config.auth;
    let mut look = |key: &str, source, groups: &mut dyn Iterator<Item = &String>| {
        for group in groups.filter(|_| auth.sources.contains(&source)) {
            if !users.groups().contains_key(group) {
                report.problem(
                    "sources",
                    format!("{key}: no group of the users files has the name {group:?}, and nobody who is in it can log in"),
                );
            }
        }
    };
    if let Some(ldap) = &auth.ldap {
        let mut groups = ldap.groups.map.iter().map(|(_, group)| group);
        look("auth.ldap.groups.map", SourceKind::Ldap, &mut groups);
    }
    let mut groups = auth.anonymous.groups.iter();
    look("auth.anonymous.groups", SourceKind::Anonymous, &mut groups);
}

/// Users who need a certificate that no listener asks for.
fn useless_certificates(config: &Config, users: &Users, report: &mut Report) {
    let asks = |listener: &Listener| listener.tls.client_certificates.is_some();
    if config.listeners.iter().any(asks) {
        return;
    }
    for name in users.with_certificates() {
        report.warn(
            "users",
            format!(
                "user {name:?} needs a certificate, and no listener has tls.client_certificates"
            ),
        );
    }
}

/// What is wrong with the certificates of every listener and of the admin side, or soon will be.
fn certificates(arguments: &Arguments, config: &Config, report: &mut Report) {
    let mut seen = Vec::new();
    for listener in &config.listeners {
        if seen.contains(&&listener.tls) {
            continue;
        }
        seen.push(&listener.tls);
        let sharing = config
            .listeners
            .iter()
            .filter(|other| other.tls == listener.tls);
        let hosts = sharing.filter_map(|listener| match &listener.passive.address {
            PublicAddress::Dns(name) => Some(name.clone()),
            _ => None,
        });
        let hosts: Vec<String> = hosts.collect();
        let what = format!("listener {}", listener.name);
        certificates_of(arguments, &what, &listener.tls, &hosts, report);
    }
    if let Some(tls) = config.admin.as_ref().and_then(|admin| admin.tls.as_ref())
        && !seen.contains(&tls)
    {
        certificates_of(arguments, "admin", tls, &[], report);
    }
}

fn certificates_of(
    arguments: &Arguments,
    what: &str,
    tls: &crate::config::Tls,
    hosts: &[String],
    report: &mut Report,
) {
    let file = arguments.config.display();
    let found = match Tls::open(tls, crate::config::Resumption::Enabled) {
        Ok(tls) => tls.certificates(),
        Err(errors) => {
            for error in errors.0 {
                report.mistake("certificates", format!("{file}: {what}: {error}"));
            }
            return;
        }
    };
    let now = SystemTime::now();
    for certificate in found {
        let file = certificate.file.display();
        if let Some(words) = certificate.validity(now).words() {
            report.warn("certificates", format!("{what}: {file} {words}"));
        }
        for doubt in doubts(&certificate.file, hosts) {
            report.warn("certificates", format!("{what}: {file}: {doubt}"));
        }
        let end = time::OffsetDateTime::from_unix_timestamp(certificate.not_after);
        if let Ok(end) = end {
            let days = (end - time::OffsetDateTime::from(now)).whole_days();
            let names = certificate.names.join(", ");
            report.line(format!(
                "certificate {file} of {what}: for {names}, until {}, {days} days",
                end.date()
            ));
        }
    }
}

fn summary(config: &Config, users: usize) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    for listener in &config.listeners {
        let _ = writeln!(
            text,
            "listener {} on {} ({:?})",
            listener.name, listener.address, listener.mode
        );
    }
    for (name, backend) in &config.backends {
        let _ = match backend {
            Backend::Fs(fs) => writeln!(text, "backend {name}: directory {}", fs.root.display()),
            Backend::Gcs(gcs) => writeln!(
                text,
                "backend {name}: bucket {} at {}, driver {:?}",
                gcs.bucket,
                gcs.endpoint.as_deref().unwrap_or("Google"),
                gcs.driver
            ),
            Backend::Azblob(azblob) => writeln!(
                text,
                "backend {name}: container {} at {}",
                azblob.container, azblob.endpoint
            ),
            Backend::Memory(memory) => writeln!(
                text,
                "backend {name}: at most {} bytes in memory, gone when the server stops",
                memory.size_bytes
            ),
            Backend::OpenDal(opendal) => {
                writeln!(text, "backend {name}: {}", opendal.scheme)
            }
            Backend::S3(s3) => {
                let endpoint = s3.endpoint.as_deref().unwrap_or("AWS");
                let keys = match s3.credentials {
                    Some(_) => "credentials of the configuration",
                    None => "credentials of the provider chain",
                };
                writeln!(
                    text,
                    "backend {name}: bucket {} at {endpoint}, {keys}",
                    s3.bucket
                )
            }
        };
    }
    let _ = writeln!(text, "mounts: {}, users: {users}", config.mounts.len());
    text
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// The summary and the warnings, or the mistakes.
    fn check(file: &Path) -> Result<String, String> {
        let arguments = Arguments {
            config: file.to_owned(),
            offline: true,
            format: Format::Json,
        };
        let report = look(&arguments, Report::new(file, Format::Json)).unwrap();
        let found = report.found().join("\n");
        if found.contains("Mistake ") {
            return Err(found);
        }
        Ok(format!("{}\n{found}", report.summary()))
    }

    /// A directory with a good configuration.
    fn directory_with_configuration() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(path.join("c.pem"), certificate.cert.pem()).unwrap();
        fs::write(path.join("k.pem"), certificate.signing_key.serialize_pem()).unwrap();
        fs::write(path.join("users.yaml"), "users: []").unwrap();
        fs::create_dir(path.join("data")).unwrap();
        let text = "listeners: [{name: a, address: \"127.0.0.1:0\", mode: explicit}]\n\
                    tls: {certificate_file: c.pem, key_file: k.pem}\n\
                    users: {file: users.yaml}\n\
                    backends: {disk: {type: fs, root: data}}\n\
                    mounts: [{path: /, backend: disk}]\n";
        fs::write(path.join("causeway.yaml"), text).unwrap();
        directory
    }

    #[test]
    fn good_configuration_is_summed_up_and_leaves_no_probe() {
        let directory = directory_with_configuration();
        let summary = check(&directory.path().join("causeway.yaml")).unwrap();
        assert!(
            summary.contains("listener a on 127.0.0.1:0 (Explicit)"),
            "{summary}"
        );
        assert!(summary.contains("mounts: 1, users: 0"), "{summary}");
        assert_eq!(
            fs::read_dir(directory.path().join("data")).unwrap().count(),
            0
        );
    }

    #[test]
    fn mistakes_of_all_files_are_reported_together() {
        let directory = directory_with_configuration();
        let path = directory.path();
        fs::write(path.join("users.yaml"), "users: [{name: a}]").unwrap();
        fs::write(path.join("c.pem"), "nothing").unwrap();
        fs::remove_file(path.join("k.pem")).unwrap();
        fs::remove_dir(path.join("data")).unwrap();
        let failure = check(&path.join("causeway.yaml")).unwrap_err();
        let listed = failure;
        for expected in [
            "users[0].password_hash: missing",
            "c.pem: no certificate found",
            "k.pem: cannot read the file",
            "backends.disk.root",
        ] {
            assert!(listed.contains(expected), "{expected}\n{listed}");
        }
        assert_eq!(listed.lines().count(), 4, "{listed}");
    }

    #[test]
    fn certificates_that_end_are_warnings() {
        let directory = directory_with_configuration();
        let path = directory.path();
        let file = path.join("causeway.yaml");
        assert!(!check(&file).unwrap().contains("Warning"));
        let now = time::OffsetDateTime::now_utc();
        for (days, expected) in [(-1, "has expired"), (5, "expires in 4 days")] {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.not_after = now + time::Duration::days(days);
            let certificate = params.self_signed(&key).unwrap();
            fs::write(path.join("c.pem"), certificate.pem()).unwrap();
            fs::write(path.join("k.pem"), key.serialize_pem()).unwrap();
            let summary = check(&file).unwrap();
            let warned = summary.lines().any(|line| {
                line.starts_with("Warning certificates listener a: ") && line.ends_with(expected)
            });
            assert!(warned, "{expected}: {summary}");
        }
    }

    #[test]
    fn user_who_can_never_log_in_is_a_warning() {
        let directory = directory_with_configuration();
        let users = "users: [{name: plc, login: certificate, certificates: [plc]}]";
        fs::write(directory.path().join("users.yaml"), users).unwrap();
        let summary = check(&directory.path().join("causeway.yaml")).unwrap();
        let expected = "Warning users user \"plc\" needs a certificate, and no listener";
        assert!(summary.contains(expected), "{summary}");
    }

    #[test]
    fn profile_that_only_the_users_file_knows_is_a_mistake() {
        let directory = directory_with_configuration();
        let hash = crate::auth::password::Hash::make("word").unwrap();
        let users = format!("users: [{{name: a, password_hash: {hash:?}, profile: old}}]");
        fs::write(directory.path().join("users.yaml"), users).unwrap();
        let file = directory.path().join("causeway.yaml");
        let failure = check(&file).unwrap_err();
        let expected = "users[0].profile: no profile has the name \"old\"";
        assert!(failure.contains(expected), "{failure}");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{text}profiles: {{old: {{}}}}\n")).unwrap();
        check(&file).unwrap();
    }

    #[test]
    fn key_of_another_certificate_is_refused() {
        let directory = directory_with_configuration();
        let key = rcgen::KeyPair::generate().unwrap();
        fs::write(directory.path().join("k.pem"), key.serialize_pem()).unwrap();
        let failure = check(&directory.path().join("causeway.yaml")).unwrap_err();
        assert!(failure.contains("the key does not belong to"), "{failure}");
    }
}
