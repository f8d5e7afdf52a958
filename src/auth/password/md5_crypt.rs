//! MD5-crypt, `$1$` of FreeBSD and old Linux, and Apache's `$apr1$`: the same with another name in it.
//!
//! Written here because no kept crate has it. Broken as a hash for new passwords; here so that users
//! can move, and `check` warns about each.

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;

use super::is_crypt_digit;

/// Its fixed number of rounds.
const ROUNDS: usize = 1000;
/// What is used of a salt.
const SALT_BYTES: usize = 8;
/// In the order of their values.
const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A checked hash.
#[derive(Clone)]
pub struct Md5Crypt {
    magic: &'static str,
    salt: Vec<u8>,
    /// In crypt's own digits.
    output: Vec<u8>,
}

impl Md5Crypt {
    /// From `salt$hash`.
    pub(super) fn parse(magic: &'static str, rest: &str) -> Result<Self, String> {
        let (salt, output) = rest.split_once('$').ok_or("without salt or hash")?;
        let good = |text: &str| text.bytes().all(is_crypt_digit);
        if salt.len() > SALT_BYTES || output.len() != 22 || !good(salt) || !good(output) {
            return Err(format!("not a complete hash of the form {magic}salt$hash"));
        }
        Ok(Self {
            magic,
            salt: salt.as_bytes().to_vec(),
            output: output.as_bytes().to_vec(),
        })
    }

    pub(super) fn matches(&self, password: &[u8]) -> bool {
        let digits = digits(&digest(self.magic, &self.salt, password));
        digits.as_slice().ct_eq(&self.output).into()
    }

    pub(super) fn output(&self) -> &[u8] {
        &self.output
    }
}

/// FreeBSD's `crypt_md5`, step by step.
fn digest(magic: &str, salt: &[u8], password: &[u8]) -> [u8; 16] {
    let inner: [u8; 16] = Md5::new()
        .chain_update(password)
        .chain_update(salt)
        .chain_update(password)
        .finalize()
        .into();
    let mut first = Md5::new()
        .chain_update(password)
        .chain_update(magic)
        .chain_update(salt);
    for part in password.chunks(16) {
        first.update(&inner[..part.len()]);
    }
    let mut bits = password.len();
    while bits > 0 {
        let byte = if bits & 1 == 1 { 0 } else { password[0] };
        first.update([byte]);
        bits >>= 1;
    }
    let mut state: [u8; 16] = first.finalize().into();
    for round in 0..ROUNDS {
        let odd = round % 2 == 1;
        let mut next = Md5::new();
        next.update(if odd { password } else { &state[..] });
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        next.update(if odd { &state[..] } else { password });
        state = next.finalize().into();
    }
    state
}

/// Sixteen bytes as crypt's digits: groups of three, the last byte alone, least significant first.
fn digits(state: &[u8; 16]) -> Vec<u8> {
    const GROUPS: [[usize; 3]; 5] = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];
    let mut digits = Vec::with_capacity(22);
    let mut put = |mut value: u32, count: usize| {
        for _ in 0..count {
            digits.push(DIGITS[value as usize & 0x3F]);
            value >>= 6;
        }
    };
    for [high, middle, low] in GROUPS {
        let byte = |index: usize| u32::from(state[index]);
        put(byte(high) << 16 | byte(middle) << 8 | byte(low), 4);
    }
    put(u32::from(state[11]), 2);
    digits
}
