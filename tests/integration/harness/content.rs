//! File contents in which every truncation, repetition and swap of blocks shows.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use sha2::{Digest as _, Sha256};

/// Pseudo-random bytes; equal seeds give equal bytes.
pub(crate) fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// SHA-256 in hexadecimal digits.
pub(crate) fn sha256(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

/// A file of `count` blocks of 1 MiB: one random block, numbered at its head, so that gigabytes cost
/// no generator time.
pub(crate) struct Blocks {
    block: Vec<u8>,
    count: u64,
}

impl Blocks {
    const LENGTH: usize = 1 << 20;

    pub(crate) fn new(seed: u64, count: u64) -> Self {
        Self {
            block: bytes(seed, Self::LENGTH),
            count,
        }
    }

    /// Writes the whole file.
    pub(crate) fn write_to(&mut self, sink: &mut dyn Write) -> io::Result<()> {
        for number in 0..self.count {
            self.block[..8].copy_from_slice(&number.to_be_bytes());
            sink.write_all(&self.block)?;
        }
        sink.flush()
    }

    /// Says how `source` differs from this file, if it does.
    pub(crate) fn check(&mut self, source: &mut dyn Read) -> Result<(), String> {
        let mut found = vec![0; Self::LENGTH];
        for number in 0..self.count {
            source
                .read_exact(&mut found)
                .map_err(|error| format!("block {number}: {error}"))?;
            self.block[..8].copy_from_slice(&number.to_be_bytes());
            if found != self.block {
                return Err(format!("block {number} differs"));
            }
        }
        match source.read(&mut found[..1]) {
            Ok(0) => Ok(()),
            Ok(_) => Err("more bytes than the file has".to_owned()),
            Err(error) => Err(format!("after the last block: {error}")),
        }
    }
}

/// Compares two files without holding either in memory.
pub(crate) fn same_bytes(one: &Path, other: &Path) -> io::Result<bool> {
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let count = one.read(&mut left)?;
        if count == 0 {
            return Ok(true);
        }
        other.read_exact(&mut right[..count])?;
        if left[..count] != right[..count] {
            return Ok(false);
        }
    }
}
