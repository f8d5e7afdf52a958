//! [`Files`]: the bytes of every file that the TLS of a listener is made of.
//!
//! Certificate and key are read together and checked together, so that a reload never joins the halves
//! of two pairs; everything else in [`super`] works on the snapshot and touches no disk.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{Context, SHA256};
use rustls::pki_types::pem::{self, PemObject};

use crate::config;

/// Longest file that is read: bundles of authorities and revocation lists are a few MiB at most.
const MAX_BYTES: u64 = 16 << 20;

/// Files as they were at one moment, with what kept them from being read.
pub(super) struct Files(BTreeMap<PathBuf, Result<Vec<u8>, String>>);

/// What is wrong with one file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tls.{key}{}: {problem}", .file.as_ref().map(|file| format!(" {}", file.display())).unwrap_or_default())]
pub struct FileError {
    /// The configuration key that names it.
    pub key: &'static str,
    /// The file; `None` where the problem is not one file's.
    pub file: Option<PathBuf>,
    /// What is wrong and, where that helps, what was expected.
    pub problem: String,
}

/// Everything that is wrong with the files of a listener; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileErrors(pub Vec<FileError>);

impl Files {
    /// Reads all of them. Blocks for the disk.
    pub(super) fn read(settings: &config::Tls) -> Self {
        let certificates = settings
            .certificates
            .iter()
            .flat_map(|files| [&files.certificate_file, &files.key_file]);
        let clients = settings
            .client_certificates
            .iter()
            .flat_map(|clients| [Some(&clients.ca_file), clients.crl_file.as_ref()])
            .flatten();
        let paths = certificates.chain(clients).cloned();
        Self(paths.map(|path| (path.clone(), read(&path))).collect())
    }

    /// Differs whenever a byte of them does, and says nothing about the keys among them.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        for content in self.0.values() {
            let (kind, bytes) = match content {
                Ok(bytes) => (0, bytes.as_slice()),
                Err(problem) => (1, problem.as_bytes()),
            };
            context.update(&[kind]);
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(bytes);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        digest
    }

    /// Every PEM item of a kind in a file, at least one; `wanted` names it in errors.
    pub(super) fn items<T: PemObject>(
        &self,
        key: &'static str,
        file: &Path,
        wanted: &str,
    ) -> Result<Vec<T>, FileError> {
        let error = |problem: String| FileError {
            key,
            file: Some(file.to_owned()),
            problem,
        };
        let content = match self.0.get(file) {
            Some(Ok(content)) => content,
            Some(Err(problem)) => return Err(error(format!("cannot read the file: {problem}"))),
            None => return Err(error("not read".to_owned())),
        };
        let items = T::pem_slice_iter(content).collect::<Result<Vec<T>, _>>();
        match items {
            Ok(items) if !items.is_empty() => Ok(items),
            Ok(_) | Err(pem::Error::NoItemsFound) => {
                Err(error(format!("no {wanted} found; expected PEM")))
            }
            Err(other) => Err(error(format!("not PEM: {other}"))),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let length = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > MAX_BYTES {
        return Err(format!("it has {length} bytes, more than {MAX_BYTES}"));
    }
    fs::read(path).map_err(|error| error.to_string())
}

impl FileErrors {
    /// A problem of no single file.
    pub(super) fn of_settings(error: impl fmt::Display) -> Self {
        Self(vec![FileError {
            key: "cipher_suites",
            file: None,
            problem: error.to_string(),
        }])
    }
}

impl From<FileError> for FileErrors {
    fn from(error: FileError) -> Self {
        Self(vec![error])
    }
}

impl fmt::Display for FileErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = self.0.iter().map(ToString::to_string).collect::<Vec<_>>();
        formatter.write_str(&errors.join("; "))
    }
}

impl std::error::Error for FileErrors {}
