//! `causeway check`: everything that can be wrong before the first connection, without the network.

use std::{
    fmt::Write as _,
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use rustls::{
    crypto::aws_lc_rs,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    sign::CertifiedKey,
};

use super::Failure;
use crate::{
    auth::Users,
    config::{Backend, Config, Tls},
};

pub(super) fn run(file: &Path) -> Result<(), Failure> {
    let summary = check(file)?;
    write!(io::stdout(), "{}: ok\n{summary}", file.display())?;
    Ok(())
}

/// A short summary, or every mistake.
fn check(file: &Path) -> Result<String, Failure> {
    let config = Config::load(file)?;
    let mut mistakes = Vec::new();
    let users = match Users::load(&config.users_file) {
        Ok(users) => {
            let unknown = users.unknown_profiles(|name| config.profiles.contains_key(name));
            let file = config.users_file.display();
            mistakes.extend(unknown.iter().map(|mistake| format!("{file}: {mistake}")));
            users.len()
        }
        Err(errors) => {
            mistakes.extend(errors.to_string().lines().map(str::to_owned));
            0
        }
    };
    let mut seen = Vec::<&Tls>::new();
    for listener in &config.listeners {
        if seen.contains(&&listener.tls) {
            continue;
        }
        seen.push(&listener.tls);
        for mistake in certificate(&listener.tls) {
            mistakes.push(format!(
                "{}: listener {}: {mistake}",
                file.display(),
                listener.name
            ));
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
        Ok(summary(&config, users))
    } else {
        Err(Failure::Configuration(mistakes))
    }
}

/// What is wrong with a certificate and its key.
fn certificate(tls: &Tls) -> Vec<String> {
    let mut mistakes = Vec::new();
    let mut note = |key: &str, file: &PathBuf, problem: String| {
        mistakes.push(format!("tls.{key} {}: {problem}", file.display()));
    };
    let chain = CertificateDer::pem_file_iter(&tls.certificate_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = match chain {
        Ok(chain) if !chain.is_empty() => Some(chain),
        Ok(_) => {
            let problem = "no certificate found; expected PEM, the leaf first".to_owned();
            note("certificate_file", &tls.certificate_file, problem);
            None
        }
        Err(error) => {
            note(
                "certificate_file",
                &tls.certificate_file,
                pem_problem(&error, "certificate"),
            );
            None
        }
    };
    let key = match PrivateKeyDer::from_pem_file(&tls.key_file) {
        Ok(key) => Some(key),
        Err(error) => {
            note(
                "key_file",
                &tls.key_file,
                pem_problem(&error, "private key"),
            );
            None
        }
    };
    if let (Some(chain), Some(key)) = (chain, key)
        && let Err(error) = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
    {
        let problem = match error {
            rustls::Error::InconsistentKeys(_) => {
                format!(
                    "the key does not belong to {}",
                    tls.certificate_file.display()
                )
            }
            other => format!("not usable together with the certificate: {other}"),
        };
        note("key_file", &tls.key_file, problem);
    }
    mistakes
}

fn pem_problem(error: &pem::Error, wanted: &str) -> String {
    match error {
        pem::Error::NoItemsFound => format!("no {wanted} found; expected PEM"),
        pem::Error::Io(error) => format!("cannot read the file: {error}"),
        other => format!("not PEM: {other}"),
    }
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
    fn profile_that_only_the_users_file_knows_is_a_mistake() {
        let directory = directory_with_configuration();
        let hash = Users::hash("word").unwrap();
        let users = format!("users: [{{name: a, password_hash: {hash:?}, profile: old}}]");
        fs::write(directory.path().join("users.yaml"), users).unwrap();
        let file = directory.path().join("causeway.yaml");
        let failure = check(&file).unwrap_err().to_string();
        let expected = "user \"a\": no profile has the name \"old\"";
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
