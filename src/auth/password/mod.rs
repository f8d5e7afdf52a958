//! [`enum@Hash`]: a password hash as operators have them, from argon2id down to what old machines hold.
//!
//! Owns parsing, the bounds of what one check may cost, and the check. Errors never repeat a hash.

mod md5_crypt;
#[cfg(test)]
pub(crate) mod tests;

use argon2::{
    Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version,
    password_hash::{self, PasswordHashString, SaltString},
};
use base64ct::{Base64Unpadded, Encoding};
use pbkdf2::pbkdf2_hmac;
use sha_crypt::PasswordVerifier as _;
use subtle::ConstantTimeEq;

use self::md5_crypt::Md5Crypt;

/// Most memory one check may take, in bytes: a hash with a slip in its costs would stop the server.
const MAX_MEMORY: u64 = 1 << 30;
/// Most passes of argon2 over that memory; more over less. Pure-FTPd's `pure-pw` makes 127 over 8 MiB.
const MAX_PASSES: u64 = 64;
/// Largest cost of bcrypt: about four seconds.
const MAX_BCRYPT_COST: u32 = 16;
/// Largest N·r·p of scrypt and yescrypt.
const MAX_SCRYPT_WORK: u64 = 1 << 24;
/// Most iterations of PBKDF2.
const MAX_PBKDF2_ROUNDS: u32 = 10_000_000;
/// Most rounds of SHA-crypt.
const MAX_SHA_CRYPT_ROUNDS: u32 = 5_000_000;
/// Longest password that is checked. SHA-crypt's work grows with the square of it.
pub const PASSWORD_BYTES: usize = 1024;

/// What is expected, in errors.
pub const EXPECTED: &str = "a password hash: argon2id as `causeway hash-password` prints it, bcrypt, \
                            scrypt, PBKDF2, or a crypt(3) hash ($1$, $5$, $6$, $y$)";

/// A checked password hash.
#[derive(Clone)]
pub enum Hash {
    /// `$argon2id$…`
    Argon2id(PasswordHashString),
    /// `$2a$`, `$2b$`, `$2y$`
    Bcrypt(String),
    /// `$scrypt$ln=16,r=8,p=1$…`
    Scrypt(scrypt::Params, Derived),
    /// `$pbkdf2-sha256$…`, as PHC string or as passlib writes it
    Pbkdf2(Prf, u32, Derived),
    /// `$5$`, `$6$`
    ShaCrypt(String),
    /// `$y$`
    Yescrypt(String),
    /// `$1$`, `$apr1$`
    Md5Crypt(Md5Crypt),
}

/// Salt and output of a key derivation.
#[derive(Clone)]
pub struct Derived {
    salt: Vec<u8>,
    output: Vec<u8>,
}

/// The hash function inside PBKDF2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prf {
    /// `$pbkdf2$`
    Sha1,
    /// `$pbkdf2-sha256$`
    Sha256,
    /// `$pbkdf2-sha512$`
    Sha512,
}

impl Hash {
    /// Reads a hash and checks what it costs.
    ///
    /// # Errors
    /// What is wrong with it, without a character of it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('$') else {
            return Err("this is no hash; a password is never stored in the clear".to_owned());
        };
        let (kind, rest) = rest.split_once('$').ok_or("without salt or hash")?;
        match kind {
            "argon2id" => argon2id(text),
            "2a" | "2b" | "2y" => bcrypt(text),
            "scrypt" => scrypt(rest),
            "pbkdf2" | "pbkdf2-sha1" => pbkdf2(Prf::Sha1, rest),
            "pbkdf2-sha256" => pbkdf2(Prf::Sha256, rest),
            "pbkdf2-sha512" => pbkdf2(Prf::Sha512, rest),
            "5" | "6" => sha_crypt(text, rest),
            "y" => yescrypt(text, rest),
            "1" => Md5Crypt::parse("$1$", rest).map(Self::Md5Crypt),
            "apr1" => Md5Crypt::parse("$apr1$", rest).map(Self::Md5Crypt),
            other if other.len() <= 16 && other.bytes().all(|b| b.is_ascii_alphanumeric()) => {
                Err(format!("a hash of the kind {other}"))
            }
            _ => Err("a hash of an unknown kind".to_owned()),
        }
    }

    /// The argon2id hash of `password`, with a new salt and the parameters that OWASP and RFC 9106's
    /// authors recommend where memory is shared (m=19456, t=2, p=1).
    ///
    /// # Errors
    /// The library's, for a password of more than 4 GiB.
    pub fn make(password: &str) -> Result<String, password_hash::Error> {
        let salt = SaltString::encode_b64(&rand::random::<[u8; 16]>())?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT);
        Ok(argon2
            .hash_password(password.as_bytes(), &salt)?
            .to_string())
    }

    /// A hash with the parameters of new ones that matches no password: all its output is zero.
    pub fn decoy() -> Self {
        let params = Params::DEFAULT;
        let (m, t, p) = (params.m_cost(), params.t_cost(), params.p_cost());
        let (salt, output) = ("A".repeat(22), "A".repeat(43));
        let text = format!("$argon2id$v=19$m={m},t={t},p={p}${salt}${output}");
        match PasswordHashString::new(&text) {
            Ok(hash) => Self::Argon2id(hash),
            // Unreachable: a test parses it. What stands here matches nothing either.
            Err(_) => Self::ShaCrypt(String::new()),
        }
    }

    /// Whether `password` is the one. Blocks for what the hash costs.
    pub fn matches(&self, password: &str) -> bool {
        // The work is done for a password that cannot be one, too.
        let (password, short) = match password.len() {
            0..=PASSWORD_BYTES => (password.as_bytes(), true),
            _ => (&b""[..], false),
        };
        short & self.check(password)
    }

    fn check(&self, password: &[u8]) -> bool {
        match self {
            // The parameters are those of the hash; the `default()` ones are for new hashes only.
            Self::Argon2id(hash) => Argon2::default()
                .verify_password(password, &hash.password_hash())
                .is_ok(),
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Scrypt(params, derived) => {
                derived.is(|salt, output| scrypt::scrypt(password, salt, params, output).is_ok())
            }
            Self::Pbkdf2(prf, rounds, derived) => derived.is(|salt, output| {
                match prf {
                    Prf::Sha1 => pbkdf2_hmac::<sha1::Sha1>(password, salt, *rounds, output),
                    Prf::Sha256 => pbkdf2_hmac::<sha2::Sha256>(password, salt, *rounds, output),
                    Prf::Sha512 => pbkdf2_hmac::<sha2::Sha512>(password, salt, *rounds, output),
                }
                true
            }),
            Self::ShaCrypt(hash) => sha_crypt::ShaCrypt::default()
                .verify_password(password, hash.as_str())
                .is_ok(),
            Self::Yescrypt(hash) => yescrypt::Yescrypt::default()
                .verify_password(password, hash.as_str())
                .is_ok(),
            Self::Md5Crypt(hash) => hash.matches(password),
        }
    }

    /// Whether the hash is of a kind that falls to any graphics card.
    pub fn is_weak(&self) -> bool {
        matches!(self, Self::Md5Crypt(_))
    }

    /// Of which kind it is, for operators: nothing of the hash itself.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Argon2id(_) => "argon2id",
            Self::Bcrypt(_) => "bcrypt",
            Self::Scrypt(..) => "scrypt",
            Self::Pbkdf2(..) => "pbkdf2",
            Self::ShaCrypt(_) => "sha-crypt",
            Self::Yescrypt(_) => "yescrypt",
            Self::Md5Crypt(_) => "md5-crypt",
        }
    }

    /// Bytes that only this hash has, for the key of a cache.
    pub fn identity(&self) -> &[u8] {
        match self {
            Self::Argon2id(hash) => hash.as_str().as_bytes(),
            Self::Bcrypt(hash) | Self::ShaCrypt(hash) | Self::Yescrypt(hash) => hash.as_bytes(),
            Self::Scrypt(_, derived) | Self::Pbkdf2(_, _, derived) => &derived.output,
            Self::Md5Crypt(hash) => hash.output(),
        }
    }
}

/// The kind only: hashes stay out of logs.
impl std::fmt::Debug for Hash {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("***")
    }
}

impl Derived {
    /// Derives an output of the same length and compares.
    fn is(&self, derive: impl FnOnce(&[u8], &mut [u8]) -> bool) -> bool {
        let mut output = vec![0; self.output.len()];
        let done = derive(&self.salt, &mut output);
        done & bool::from(output.ct_eq(&self.output))
    }

    /// From base64 in any of its spellings: with padding or without, `.` for `+` as passlib has it.
    fn decode(salt: &str, output: &str) -> Result<Self, String> {
        let decode = |text: &str| {
            let text = text.trim_end_matches('=').replace('.', "+");
            Base64Unpadded::decode_vec(&text).map_err(|_| "salt or hash is no base64".to_owned())
        };
        let (salt, output) = (decode(salt)?, decode(output)?);
        if !(16..=64).contains(&output.len()) {
            return Err("a hash of an unusual length".to_owned());
        }
        Ok(Self { salt, output })
    }
}

fn argon2id(text: &str) -> Result<Hash, String> {
    let hash = PasswordHash::new(text).map_err(|error| format!("not a PHC string ({error})"))?;
    let params =
        Params::try_from(&hash).map_err(|error| format!("unusable parameters ({error})"))?;
    let memory = u64::from(params.m_cost()) << 10;
    if memory > MAX_MEMORY || memory * u64::from(params.t_cost()) > MAX_MEMORY * MAX_PASSES {
        let memory = MAX_MEMORY >> 10;
        return Err(too_costly(&format!(
            "m={memory}, t={MAX_PASSES}, or more passes over less memory"
        )));
    }
    if hash.salt.is_none() || hash.hash.is_none() {
        return Err("without salt or hash".to_owned());
    }
    Ok(Hash::Argon2id(hash.serialize()))
}

fn bcrypt(text: &str) -> Result<Hash, String> {
    let parts: bcrypt::HashParts = text.parse().map_err(|_| "not a bcrypt hash".to_owned())?;
    if parts.get_cost() > MAX_BCRYPT_COST {
        return Err(too_costly(&format!("a cost of {MAX_BCRYPT_COST}")));
    }
    Ok(Hash::Bcrypt(text.to_owned()))
}

fn scrypt(rest: &str) -> Result<Hash, String> {
    let fields: Vec<&str> = rest.split('$').collect();
    let [params, salt, output] = fields.as_slice() else {
        return Err("not a scrypt hash of the form $scrypt$ln=16,r=8,p=1$salt$hash".to_owned());
    };
    let parameter = |name| named(params, name).ok_or(format!("without the parameter {name}"));
    let (log_n, r, p) = (parameter("ln")?, parameter("r")?, parameter("p")?);
    let n = 1_u64.checked_shl(log_n).unwrap_or(u64::MAX);
    check_scrypt(n, r, p)?;
    let log_n = u8::try_from(log_n).unwrap_or(u8::MAX);
    let params = scrypt::Params::new(log_n, r, p).map_err(|_| "unusable parameters".to_owned())?;
    Ok(Hash::Scrypt(params, Derived::decode(salt, output)?))
}

fn check_scrypt(n: u64, r: u32, p: u32) -> Result<(), String> {
    let memory = n.saturating_mul(u64::from(r)).saturating_mul(128);
    let work = n.saturating_mul(u64::from(r)).saturating_mul(u64::from(p));
    if memory > MAX_MEMORY || work > MAX_SCRYPT_WORK {
        return Err(too_costly("1 GiB, and 2^24 for N·r·p"));
    }
    Ok(())
}

fn pbkdf2(prf: Prf, rest: &str) -> Result<Hash, String> {
    let fields: Vec<&str> = rest.split('$').collect();
    let [params, salt, output] = fields.as_slice() else {
        return Err("not a PBKDF2 hash of the form $pbkdf2-sha256$i=600000$salt$hash".to_owned());
    };
    // passlib writes the bare number.
    let rounds = params.parse().ok().or_else(|| named(params, "i"));
    let rounds = rounds.ok_or("without the number of iterations")?;
    if !(1..=MAX_PBKDF2_ROUNDS).contains(&rounds) {
        return Err(too_costly(&format!("{MAX_PBKDF2_ROUNDS} iterations")));
    }
    Ok(Hash::Pbkdf2(prf, rounds, Derived::decode(salt, output)?))
}

fn sha_crypt(text: &str, rest: &str) -> Result<Hash, String> {
    let fields: Vec<&str> = rest.split('$').collect();
    let (rounds, salt, output) = match fields.as_slice() {
        [salt, output] => ("rounds=5000", *salt, *output),
        [rounds, salt, output] => (*rounds, *salt, *output),
        _ => return Err("not a hash of the form $6$salt$hash".to_owned()),
    };
    let rounds = named(rounds, "rounds").ok_or("unusable number of rounds")?;
    if !(1_000..=MAX_SHA_CRYPT_ROUNDS).contains(&rounds) {
        return Err(too_costly(&format!(
            "{MAX_SHA_CRYPT_ROUNDS} rounds, at least 1000"
        )));
    }
    let length = if text.starts_with("$5$") { 43 } else { 86 };
    let odd = |text: &str| text.bytes().any(|b| !is_crypt_digit(b));
    if output.len() != length || odd(output) || odd(salt) || salt.len() > 16 {
        return Err("not a complete hash of the form $6$salt$hash".to_owned());
    }
    Ok(Hash::ShaCrypt(text.to_owned()))
}

fn yescrypt(text: &str, rest: &str) -> Result<Hash, String> {
    let fields: Vec<&str> = rest.split('$').collect();
    let [params, _, output] = fields.as_slice() else {
        return Err("not a hash of the form $y$j9T$salt$hash".to_owned());
    };
    let unusable = |_| "unusable parameters".to_owned();
    let params: yescrypt::Params = params.parse().map_err(unusable)?;
    check_scrypt(params.n(), params.r(), params.p())?;
    // Time beyond N·r·p would pass the bound above.
    let plain = yescrypt::Params::new(
        yescrypt::Mode::default(),
        params.n(),
        params.r(),
        params.p(),
    );
    if plain.ok() != Some(params) {
        return Err("unusual parameters".to_owned());
    }
    if output.len() != 43 {
        return Err("not a complete hash of the form $y$j9T$salt$hash".to_owned());
    }
    Ok(Hash::Yescrypt(text.to_owned()))
}

/// The number behind `name=` in `a=1,b=2`.
fn named(list: &str, name: &str) -> Option<u32> {
    list.split(',')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.parse().ok())
}

/// The alphabet of crypt(3).
fn is_crypt_digit(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/')
}

fn too_costly(most: &str) -> String {
    format!("costs too much, or too little (at most {most})")
}
