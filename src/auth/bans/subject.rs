//! [`Subject`]: who can be banned, and its name for operators.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sha2::{Digest, Sha256};

use crate::config::plain_network;

/// Neighbours of an address that count as its network.
const NETWORK_BITS_V4: u8 = 24;
const NETWORK_BITS_V6: u8 = 64;

/// Who is banned. Written as `address:192.0.2.1`, `network:192.0.2.0/24`, `user:NAME`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// One address, IPv4 never as a mapped IPv6 one.
    Address(IpAddr),
    /// A network without host bits.
    Network(IpNet),
    /// A login name.
    User(NameDigest),
}

/// A login name that cannot be read: a name nobody has may be a password typed in the wrong place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameDigest([u8; 16]);

/// Why a text names no [`Subject`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected address:192.0.2.1, network:192.0.2.0/24, user:NAME or user-digest:HEX, found {0:?}"
)]
pub struct SubjectError(String);

impl Subject {
    /// The address.
    pub fn address(address: IpAddr) -> Self {
        Self::Address(address.to_canonical())
    }

    /// The network.
    pub fn network(network: IpNet) -> Self {
        Self::Network(plain_network(network).trunc())
    }

    /// The /24 or /64 of an address.
    pub fn network_of(address: IpAddr) -> Self {
        Self::network_of_length(address, None)
    }

    /// The user of this name, in whatever case: a directory takes `ALICE` for `alice`, and each way to
    /// write a name must not be a count of its own.
    pub fn user(name: &str) -> Self {
        Self::User(NameDigest::of(&name.to_lowercase()))
    }

    /// `address`, `network` or `user`: a bounded label.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Address(_) => "address",
            Self::Network(_) => "network",
            Self::User(_) => "user",
        }
    }

    /// Every network that holds an address, from the smallest.
    pub(super) fn networks_of(address: IpAddr) -> impl Iterator<Item = Self> {
        let address = address.to_canonical();
        let bits = if address.is_ipv4() { 32 } else { 128 };
        (0..=bits)
            .rev()
            .map(move |length| Self::network_of_length(address, Some(length)))
    }

    /// Lengths are at most those of the family, so `new` never fails; an address of its own if it did.
    fn network_of_length(address: IpAddr, length: Option<u8>) -> Self {
        let network = match address.to_canonical() {
            IpAddr::V4(v4) => Ipv4Net::new(v4, length.unwrap_or(NETWORK_BITS_V4)).map(IpNet::V4),
            IpAddr::V6(v6) => Ipv6Net::new(v6, length.unwrap_or(NETWORK_BITS_V6)).map(IpNet::V6),
        };
        network.map_or(Self::Address(address), |network| {
            Self::Network(network.trunc())
        })
    }
}

impl NameDigest {
    /// Of a login name.
    pub fn of(name: &str) -> Self {
        let digest = Sha256::digest(name.as_bytes());
        let mut short = [0; 16];
        short.copy_from_slice(&digest[..16]);
        Self(short)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(formatter, "address:{address}"),
            Self::Network(network) => write!(formatter, "network:{network}"),
            Self::User(digest) => write!(formatter, "user-digest:{digest}"),
        }
    }
}

impl FromStr for Subject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        let subject = text.split_once(':').and_then(|(kind, value)| match kind {
            "address" => value.parse().ok().map(Self::address),
            "network" => value.parse().ok().map(Self::network),
            "user" if !value.is_empty() => Some(Self::user(value)),
            "user-digest" => {
                let mut digest = [0; 16];
                hex::decode_to_slice(value, &mut digest).ok()?;
                Some(Self::User(NameDigest(digest)))
            }
            _ => None,
        });
        subject.ok_or_else(|| SubjectError(text.chars().take(80).collect()))
    }
}

impl fmt::Display for NameDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for NameDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}
