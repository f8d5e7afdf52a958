//! `causeway check`: everything that can be wrong before the first connection, without the network
//! unless `--online` asks for it.

use std::{fmt::Write as _, fs, io, io::Write as _, path::Path, time::SystemTime};

use super::Failure;
use crate::{
    auth::{Names, Users},
    config::{Backend, Config, Listener},
    edge::{Tls, Validity},
};

pub(super) fn run(file: &Path, online: bool) -> Result<(), Failure> {
    let summary = check(file)?;
    write!(io::stdout(), "{}: ok\n{summary}", file.display())?;
    if online {
        super::sweep::advice(&Config::load(file)?)?;
    }
    Ok(())
}

/// A short summary, or every mistake.
fn check(file: &Path) -> Result<String, Failure> {
    let config = Config::load(file)?;
    let mut mistakes = Vec::new();
    let mut warnings = Vec::new();
    let names = Names::of(&config);
    let loaded = config
        .auth
        .users
        .as_ref()
        .map(|files| Users::load(files, &names));
    let users = match loaded {
        None => 0,
        Some(Ok(users)) => {
            warnings.extend(useless_certificates(&config, &users));
            warnings.extend(users.with_weak_hashes().map(|name| {
                format!("warning: user {name:?} has an MD5 hash, which falls in minutes: give a new password\n")
            }));
            users.len()
        }
        Some(Err(errors)) => {
            mistakes.extend(errors.lines());
            0
        }
    };
    let mut seen = Vec::new();
    for listener in &config.listeners {
        if seen.contains(&&listener.tls) {
            continue;
        }
        seen.push(&listener.tls);
        match certificates(listener) {
            Ok(found) => warnings.extend(found),
            Err(found) => mistakes.extend(found.into_iter().map(|mistake| {
                format!("{}: listener {}: {mistake}", file.display(), listener.name)
            })),
        }
    }
    for (name, backend) in &config.backends {
        if let Backend::Fs(fs) = backend
            && let Err(mistake) = directory(&fs.root)
        {
            let root = fs.root.display();
            mistakes.push(format!(
                "{}: backends.{name}.root {root}: {mistake}",
                file.display()
            ));
        }
    }
    if mistakes.is_empty() {
        Ok(summary(&config, users) + &warnings.concat())
    } else {
        Err(Failure::Configuration(mistakes))
    }
}

/// Users who need a certificate that no listener asks for.
fn useless_certificates(config: &Config, users: &Users) -> Vec<String> {
    let asks = |listener: &Listener| listener.tls.client_certificates.is_some();
    if config.listeners.iter().any(asks) {
        return Vec::new();
    }
    let warning = |name| {
        format!(
            "warning: user {name:?} needs a certificate, and no listener has tls.client_certificates\n"
        )
    };
    users.with_certificates().map(warning).collect()
}

/// What is wrong with the TLS of a listener, or what soon will be.
fn certificates(listener: &Listener) -> Result<Vec<String>, Vec<String>> {
    let tls = Tls::open(&listener.tls, listener.resumption)
        .map_err(|errors| errors.0.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let now = SystemTime::now();
    let warning = |certificate: crate::edge::Certificate| {
        let problem = match certificate.validity(now) {
            Validity::Expired => "has expired".to_owned(),
            Validity::Ending(days) => format!("expires in {days} days"),
            Validity::Good => return None,
        };
        let (name, file) = (&listener.name, certificate.file.display());
        Some(format!("warning: listener {name}: {file} {problem}\n"))
    };
    Ok(tls.certificates().into_iter().filter_map(warning).collect())
}

/// Whether a backend can keep its files in `root`. Tries it: permission bits tell little on network
/// mounts, read-only mounts and for root.
fn directory(root: &Path) -> Result<(), String> {
    let metadata = fs::metadata(root).map_err(|error| format!("cannot open: {error}"))?;
    if !metadata.is_dir() {
        return Err("not a directory".to_owned());
    }
    let probe = root.join(format!(".causeway-check-{}", std::process::id()));
    fs::File::create_new(&probe).map_err(|error| format!("not writable: {error}"))?;
    fs::remove_file(&probe)
        .map_err(|error| format!("cannot remove the probe {}: {error}", probe.display()))
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
                    None => "credentials of the provider chain, looked up when the server starts",
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
    use super::*;

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
        let listed = failure.to_string();
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
        assert!(!check(&file).unwrap().contains("warning"));
        let now = time::OffsetDateTime::now_utc();
        for (days, expected) in [(-1, "has expired"), (5, "expires in 4 days")] {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.not_after = now + time::Duration::days(days);
            let certificate = params.self_signed(&key).unwrap();
            fs::write(path.join("c.pem"), certificate.pem()).unwrap();
            fs::write(path.join("k.pem"), key.serialize_pem()).unwrap();
            let summary = check(&file).unwrap();
            let warned = summary
                .lines()
                .any(|line| line.starts_with("warning: listener a: ") && line.ends_with(expected));
            assert!(warned, "{expected}: {summary}");
        }
    }

    #[test]
    fn user_who_can_never_log_in_is_a_warning() {
        let directory = directory_with_configuration();
        let users = "users: [{name: plc, login: certificate, certificates: [plc]}]";
        fs::write(directory.path().join("users.yaml"), users).unwrap();
        let summary = check(&directory.path().join("causeway.yaml")).unwrap();
        let expected = "warning: user \"plc\" needs a certificate, and no listener";
        assert!(summary.contains(expected), "{summary}");
    }

    #[test]
    fn profile_that_only_the_users_file_knows_is_a_mistake() {
        let directory = directory_with_configuration();
        let hash = crate::auth::password::Hash::make("word").unwrap();
        let users = format!("users: [{{name: a, password_hash: {hash:?}, profile: old}}]");
        fs::write(directory.path().join("users.yaml"), users).unwrap();
        let file = directory.path().join("causeway.yaml");
        let failure = check(&file).unwrap_err().to_string();
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
        assert!(
            failure.to_string().contains("the key does not belong to"),
            "{failure}"
        );
    }
}
