//! What the demo keeps on disk: `DIR/files` for uploads, `DIR/config` for everything else.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::Context as _;
use rand::distr::{Alphanumeric, SampleString as _};

use super::{Ports, certificate};
use crate::{
    auth::{Names, Users, password::Hash},
    config::{Config, UsersFiles},
};

/// The demo's only user.
pub(super) const USER: &str = "demo";
/// About 119 bits, of letters and digits that no shell and no client treats specially.
const PASSWORD_CHARACTERS: usize = 20;

/// A prepared folder.
pub(super) struct Files {
    /// Absolute.
    directory: PathBuf,
    password: String,
}

impl Files {
    /// Creates what is missing in `data`, keeps the rest, and writes the configuration for `ports`.
    pub(super) fn prepare(data: &Path, ports: Ports, now: SystemTime) -> anyhow::Result<Self> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(data)?;
        // Without `.` and symbolic links: the path is printed to be pasted elsewhere.
        let directory = fs::canonicalize(data)?;
        builder.create(directory.join("files"))?;
        let config = directory.join("config");
        builder.create(&config)?;
        // A folder that was there before may be open to others; here lies a password.
        fs::set_permissions(&config, fs::Permissions::from_mode(0o700))?;

        let password = password(&config.join("password"))?;
        certificate::ensure(&config, now)?;
        let file = config.join("causeway.yaml");
        write(&file, &configuration(ports))?;
        users(&config.join("users.yaml"), &password, &Config::load(&file)?)?;
        Ok(Self {
            directory,
            password,
        })
    }

    /// The configuration to serve.
    pub(super) fn configuration(&self) -> PathBuf {
        self.directory.join("config/causeway.yaml")
    }

    /// The CA's certificate.
    pub(super) fn authority(&self) -> PathBuf {
        self.directory.join("config").join(certificate::AUTHORITY)
    }

    /// Where uploads land.
    pub(super) fn uploads(&self) -> PathBuf {
        self.directory.join("files")
    }

    /// The password of [`USER`].
    pub(super) fn password(&self) -> &str {
        &self.password
    }
}

/// Writes a file that only its owner can read, whole or not at all.
pub(super) fn write(path: &Path, content: &str) -> io::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    // Left by a crash, perhaps with other permissions.
    match fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&part)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(&part, path)
}

/// The kept password, or a new one.
fn password(path: &Path) -> anyhow::Result<String> {
    if let Ok(text) = fs::read_to_string(path) {
        let kept = text.trim();
        // Anything else could break the commands that are printed.
        if kept.len() >= 12 && kept.chars().all(|c| c.is_ascii_alphanumeric()) {
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
            return Ok(kept.to_owned());
        }
    }
    let password = Alphanumeric.sample_string(&mut rand::rng(), PASSWORD_CHARACTERS);
    write(path, &format!("{password}\n")).context("cannot write the password")?;
    Ok(password)
}

/// Keeps a users file in which the demo's user has this password; others may have been added.
fn users(path: &Path, password: &str, config: &Config) -> anyhow::Result<()> {
    let kept = Users::load(&UsersFiles::File(path.to_owned()), &Names::of(config));
    if kept.is_ok_and(|users| users.verify(USER, password, &[]).is_some()) {
        return Ok(());
    }
    let hash = Hash::make(password).map_err(|error| anyhow::anyhow!("cannot hash: {error}"))?;
    let text = format!("users:\n  - name: {USER}\n    password_hash: \"{hash}\"\n");
    write(path, &text).context("cannot write the users file")
}

/// The demo's configuration; paths are relative to its own folder.
fn configuration(ports: Ports) -> String {
    let Ports {
        explicit,
        implicit,
        admin,
    } = ports;
    format!(
        r#"# Written by `causeway demo` at each start: changes are lost. To keep them, copy the file and run
# `causeway serve -c COPY`. config.example.yaml explains every key.
listeners:
  - name: explicit
    address: "127.0.0.1:{explicit}"
    mode: explicit
    passive: {{ports: 0}}
  - name: implicit
    address: "127.0.0.1:{implicit}"
    mode: implicit
    passive: {{ports: 0}}
tls:
  certificate_file: {certificate}
  key_file: {key}
users:
  file: users.yaml
backends:
  local:
    type: fs
    root: ../files
mounts:
  - path: /
    backend: local
    prefix: ""
admin:
  address: "127.0.0.1:{admin}"
"#,
        certificate = certificate::LEAF,
        key = certificate::KEY,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: Ports = Ports {
        explicit: 0,
        implicit: 0,
        admin: 0,
    };

    #[test]
    fn folder_is_private_and_its_configuration_loads() {
        let parent = tempfile::tempdir().unwrap();
        let data = parent.path().join("new/causeway-data");
        let files = Files::prepare(&data, PORTS, SystemTime::now()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&data), 0o700);
        assert_eq!(mode(&data.join("config")), 0o700);
        for entry in fs::read_dir(data.join("config")).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
        let config = Config::load(&files.configuration()).unwrap();
        assert_eq!(config.listeners.len(), 2);
        let users = Users::load(config.auth.users.as_ref().unwrap(), &Names::of(&config)).unwrap();
        assert!(users.verify(USER, files.password(), &[]).is_some());
    }

    #[test]
    fn second_start_keeps_password_users_and_certificate() {
        let data = tempfile::tempdir().unwrap();
        let prepare = || Files::prepare(data.path(), PORTS, SystemTime::now()).unwrap();
        let read = || {
            [
                "password",
                "users.yaml",
                certificate::AUTHORITY,
                certificate::LEAF,
                certificate::KEY,
            ]
            .map(|name| fs::read_to_string(data.path().join("config").join(name)).unwrap())
        };
        let first = prepare().password().to_owned();
        let before = read();
        assert_eq!(prepare().password(), first);
        assert!(read() == before, "a second start must not change secrets");
        fs::remove_file(data.path().join("config/password")).unwrap();
        let files = prepare();
        assert_ne!(files.password(), first);
        let config = Config::load(&files.configuration()).unwrap();
        let users = Users::load(config.auth.users.as_ref().unwrap(), &Names::of(&config)).unwrap();
        assert!(users.verify(USER, files.password(), &[]).is_some());
        assert!(users.verify(USER, &first, &[]).is_none());
    }
}
