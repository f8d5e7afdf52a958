//! [`read`]: whom the receivers of events and spans are believed by, beside the system's authorities.

use std::{fs, io, path::Path};

/// The certificates in a PEM file. Blocks for the disk.
///
/// # Errors
/// It cannot be read, or holds none.
pub fn read(file: &Path) -> io::Result<Vec<reqwest::Certificate>> {
    let found = reqwest::Certificate::from_pem_bundle(&fs::read(file)?);
    let found = found.map_err(io::Error::other)?;
    if found.is_empty() {
        return Err(io::Error::other("no certificate found"));
    }
    Ok(found)
}
