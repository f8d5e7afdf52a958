//! Digests of content: computed while it passes, or by reading it again.
//!
//! None of them guards anything against an attacker.

use sha2::Digest as _;

use crate::config::Checksum;

/// A digest under way.
#[derive(Clone, Debug)]
pub enum Hasher {
    /// CRC-32 as in Ethernet and zip.
    Crc32(crc32fast::Hasher),
    /// MD5.
    Md5(md5::Md5),
    /// SHA-1.
    Sha1(sha1::Sha1),
    /// SHA-256.
    Sha256(sha2::Sha256),
    /// SHA-512.
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// Of no bytes yet.
    pub fn new(algorithm: Checksum) -> Self {
        match algorithm {
            Checksum::Crc32 => Self::Crc32(crc32fast::Hasher::new()),
            Checksum::Md5 => Self::Md5(md5::Md5::new()),
            Checksum::Sha1 => Self::Sha1(sha1::Sha1::new()),
            Checksum::Sha256 => Self::Sha256(sha2::Sha256::new()),
            Checksum::Sha512 => Self::Sha512(sha2::Sha512::new()),
        }
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc32(hasher) => hasher.update(bytes),
            Self::Md5(hasher) => hasher.update(bytes),
            Self::Sha1(hasher) => hasher.update(bytes),
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest in lower-case hexadecimal digits.
    pub fn finish(self) -> String {
        match self {
            Self::Crc32(hasher) => hex::encode(hasher.finalize().to_be_bytes()),
            Self::Md5(hasher) => hex::encode(hasher.finalize()),
            Self::Sha1(hasher) => hex::encode(hasher.finalize()),
            Self::Sha256(hasher) => hex::encode(hasher.finalize()),
            Self::Sha512(hasher) => hex::encode(hasher.finalize()),
        }
    }
}
