//! [`Command`]: what a client can ask for, and [`parse()`], the only way from a line to one.
//!
//! Owns the white list of the control dialogue (CONFORMANCE 1A, 1F, 5.5): the engine never sees a
//! byte of a client's line, only commands made from these values. Must not know sessions, paths
//! (arguments stay as sent until [`VirtualPath::parse`](crate::access::VirtualPath::parse)) or
//! sockets. Called by the control loop of [`crate::edge`].

mod parse;
mod telnet;

use std::{fmt, time::SystemTime};

pub use parse::{parse, parse_in};

use super::reply::Reply;
use crate::{config::Checksum, store::listing::Facts};

/// One command with its arguments. The `X` forms of RFC 775 are the same variants (I14), so that no
/// alias takes another path through the checks (S54).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// USER name, verbatim (B6).
    User(String),
    /// PASS, verbatim and possibly empty (B6).
    Pass(Password),
    /// ACCT; its argument is of no use here (B7).
    Acct,
    /// AUTH mechanism (RFC 4217 §4).
    Auth(AuthMechanism),
    /// PBSZ with any number; the answer is always 0 (D3).
    Pbsz(u64),
    /// PROT level.
    Prot(ProtLevel),
    /// CCC.
    Ccc,
    /// FEAT.
    Feat,
    /// OPTS.
    Opts(Opt),
    /// HOST: a host name or bracketed IPv6 address, in lower case (RFC 7151).
    Host(String),
    /// CLNT name: untrusted text for the log.
    Clnt(String),
    /// TYPE.
    Type(TransferType),
    /// MODE S; every other mode is refused by the parser (G23).
    Mode,
    /// STRU F; every other structure is refused by the parser (G24).
    Stru,
    /// SYST.
    Syst,
    /// NOOP.
    Noop,
    /// HELP, with the verb in upper case that it is about.
    Help(Option<String>),
    /// STAT of the session or of a path; leading options are dropped as for LIST.
    Stat(Option<String>),
    /// QUIT.
    Quit,
    /// ABOR.
    Abor,
    /// REST offset in bytes.
    Rest(u64),
    /// ALLO bytes; a record size is dropped (G9).
    Allo(u64),
    /// PASV.
    Pasv,
    /// EPSV.
    Epsv(EpsvArgument),
    /// CWD, XCWD.
    Cwd(String),
    /// CDUP, XCUP.
    Cdup,
    /// PWD, XPWD.
    Pwd,
    /// MKD, XMKD.
    Mkd(String),
    /// RMD, XRMD.
    Rmd(String),
    /// DELE.
    Dele(String),
    /// RNFR.
    Rnfr(String),
    /// RNTO.
    Rnto(String),
    /// SIZE.
    Size(String),
    /// MDTM of a path.
    Mdtm(String),
    /// MDTM with an argument that reads as a time and a path, and as a path with a time in it (I5):
    /// the second reading is RFC 3659's and wins where such a file exists.
    MdtmSet {
        /// Reading one: the time to set.
        time: SystemTime,
        /// Reading one: the path to set it on.
        path: String,
        /// Reading two: the whole argument.
        whole: String,
    },
    /// MFMT (I6).
    Mfmt {
        /// The time to set.
        time: SystemTime,
        /// The path to set it on.
        path: String,
    },
    /// MFF (I7).
    Mff {
        /// Facts in the order sent: name in lower case, value as sent.
        facts: Vec<(String, String)>,
        /// The path to set them on.
        path: String,
    },
    /// MLST.
    Mlst(Option<String>),
    /// MLSD.
    Mlsd(Option<String>),
    /// LIST without its option words (H3).
    List {
        /// What to list; the working directory when absent.
        path: Option<String>,
        /// An option word held `R`: what lies below as well.
        recursive: bool,
    },
    /// NLST without its option words (H5).
    Nlst {
        /// What to list; the working directory when absent.
        path: Option<String>,
    },
    /// RETR.
    Retr(String),
    /// STOR.
    Stor(String),
    /// APPE.
    Appe(String),
    /// STOU, with a wish for the name (G8).
    Stou(Option<String>),
    /// SITE.
    Site(SiteCommand),
    /// HASH of a path (draft-bryan-ftpext-hash), in the algorithm that OPTS HASH chose.
    Hash(String),
    /// XCRC, XMD5, XSHA1, XSHA256, XSHA512, MD5 (I12).
    Checksum {
        /// Which digest.
        algorithm: ChecksumAlgorithm,
        /// Of which file.
        path: String,
        /// Of which bytes; all when absent.
        range: Option<ChecksumRange>,
    },
    /// AVBL (I13).
    Avbl(Option<String>),
    /// RANG for the next HASH: first and last byte (draft-bryan-ftp-range).
    Rang {
        /// First byte, from 0.
        first: u64,
        /// Last byte, inclusive; below `first` to forget the range.
        last: u64,
    },
}

/// A password. `Debug` shows nothing of it, not even its length.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

/// Argument of AUTH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMechanism {
    /// TLS (C1).
    Tls,
    /// TLS-C: as TLS (C2).
    TlsC,
    /// SSL: data level starts at P (C3).
    Ssl,
    /// TLS-P: data level starts at P (C3).
    TlsP,
    /// Anything else: 504 (C4).
    Unsupported,
}

/// Argument of PROT (RFC 2228).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtLevel {
    /// C.
    Clear,
    /// S: 536 (D8).
    Safe,
    /// E: 536 (D8).
    Confidential,
    /// P.
    Private,
}

/// Argument of OPTS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opt {
    /// UTF8 or UTF8 ON (F3).
    Utf8On,
    /// UTF8 OFF (F3).
    Utf8Off,
    /// MLST with the facts that are known (F4).
    Mlst(Facts),
    /// HASH: the algorithm to use from now on; `None` asks which one it is.
    Hash(Option<ChecksumAlgorithm>),
}

/// Argument of TYPE (G20).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferType {
    /// A, A N.
    Ascii,
    /// I, L 8.
    Image,
}

/// Argument of EPSV (RFC 2428).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpsvArgument {
    /// None: the family of the control connection.
    None,
    /// 1.
    Ipv4,
    /// 2.
    Ipv6,
    /// A number of no family we know: 522 (E5).
    OtherProtocol,
    /// ALL (E6).
    All,
}

/// Argument of SITE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SiteCommand {
    /// HELP.
    Help,
    /// CHMOD (I8).
    Chmod {
        /// Permission bits, at most `0o7777`.
        mode: u32,
        /// Of which path.
        path: String,
    },
    /// UTIME in either form: `YYYYMMDDhhmm[ss] path`, or `path atime mtime ctime UTC` (I9).
    Utime {
        /// The modification time.
        modified: SystemTime,
        /// Of which path.
        path: String,
    },
    /// IDLE, with the seconds to set.
    Idle(Option<u64>),
    /// Anything else, for good: EXEC, CPFR, CPTO, SYMLINK … (I10, S53).
    Unknown,
}

/// Which digest a checksum command asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumAlgorithm {
    /// XCRC.
    Crc32,
    /// XMD5: answered 250 with the digest.
    Md5,
    /// MD5 (draft-twine-ftpmd5): answered 251 with the name and the digest.
    Md5WithName,
    /// XSHA1.
    Sha1,
    /// XSHA256.
    Sha256,
    /// XSHA512.
    Sha512,
}

/// The bytes of a file that a checksum covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChecksumRange {
    /// First byte, from 0.
    pub start: u64,
    /// End as sent; to the end of the file when absent. Servers disagree on whether it is inclusive.
    pub end: Option<u64>,
}

/// What becomes of a pending REST marker when a command arrives (G12, G13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkerEffect {
    /// The marker stays; REST itself overwrites it.
    Keep,
    /// The command takes the marker, whether it succeeds or not.
    Take,
    /// The marker is forgotten.
    Clear,
}

/// Why a line is no [`Command`]. None of them carries bytes of the line (S17).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// An empty line: no answer (A9).
    Ignore,
    /// Answer this; the session goes on. It counts as a command: REST and RNFR are forgotten.
    Answer(Reply),
    /// A line of an HTTP request: close without an answer (S17, ALPACA).
    Http,
}

impl Command {
    /// The verb as RFC 959 spells it, of a bounded set: a label for logs and metrics.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::User(_) => "USER",
            Self::Pass(_) => "PASS",
            Self::Acct => "ACCT",
            Self::Auth(_) => "AUTH",
            Self::Pbsz(_) => "PBSZ",
            Self::Prot(_) => "PROT",
            Self::Ccc => "CCC",
            Self::Feat => "FEAT",
            Self::Opts(_) => "OPTS",
            Self::Host(_) => "HOST",
            Self::Clnt(_) => "CLNT",
            Self::Type(_) => "TYPE",
            Self::Mode => "MODE",
            Self::Stru => "STRU",
            Self::Syst => "SYST",
            Self::Noop => "NOOP",
            Self::Help(_) => "HELP",
            Self::Stat(_) => "STAT",
            Self::Quit => "QUIT",
            Self::Abor => "ABOR",
            Self::Rest(_) => "REST",
            Self::Allo(_) => "ALLO",
            Self::Pasv => "PASV",
            Self::Epsv(_) => "EPSV",
            Self::Cwd(_) => "CWD",
            Self::Cdup => "CDUP",
            Self::Pwd => "PWD",
            Self::Mkd(_) => "MKD",
            Self::Rmd(_) => "RMD",
            Self::Dele(_) => "DELE",
            Self::Rnfr(_) => "RNFR",
            Self::Rnto(_) => "RNTO",
            Self::Size(_) => "SIZE",
            Self::Mdtm(_) | Self::MdtmSet { .. } => "MDTM",
            Self::Mfmt { .. } => "MFMT",
            Self::Mff { .. } => "MFF",
            Self::Mlst(_) => "MLST",
            Self::Mlsd(_) => "MLSD",
            Self::List { .. } => "LIST",
            Self::Nlst { .. } => "NLST",
            Self::Retr(_) => "RETR",
            Self::Stor(_) => "STOR",
            Self::Appe(_) => "APPE",
            Self::Stou(_) => "STOU",
            Self::Site(_) => "SITE",
            Self::Hash(_) => "HASH",
            Self::Checksum { algorithm, .. } => algorithm.verb(),
            Self::Avbl(_) => "AVBL",
            Self::Rang { .. } => "RANG",
        }
    }

    /// Whether the command is answered before login (B10), be it with 503 or 534; all others get 530.
    pub fn allowed_before_login(&self) -> bool {
        matches!(
            self,
            Self::User(_)
                | Self::Pass(_)
                | Self::Acct
                | Self::Auth(_)
                | Self::Pbsz(_)
                | Self::Prot(_)
                | Self::Ccc
                | Self::Feat
                | Self::Opts(_)
                | Self::Host(_)
                | Self::Clnt(_)
                | Self::Syst
                | Self::Noop
                | Self::Help(_)
                | Self::Quit
        )
    }

    /// Whether the command uses the data connection.
    pub fn is_transfer(&self) -> bool {
        matches!(
            self,
            Self::Retr(_)
                | Self::Stor(_)
                | Self::Appe(_)
                | Self::Stou(_)
                | Self::List { .. }
                | Self::Nlst { .. }
                | Self::Mlsd(_)
        )
    }

    /// What becomes of a pending REST marker.
    ///
    /// ALLO joins the list of G13: like NOOP it does nothing, it belongs to the upload that follows
    /// it, and forgetting the marker there would put the tail of a file in the place of the file.
    pub fn restart_marker(&self) -> MarkerEffect {
        match self {
            Self::Rest(_)
            | Self::Pasv
            | Self::Epsv(_)
            | Self::Type(_)
            | Self::Size(_)
            | Self::Mdtm(_)
            | Self::MdtmSet { .. }
            | Self::Allo(_)
            | Self::Noop => MarkerEffect::Keep,
            Self::Retr(_) | Self::Stor(_) | Self::Appe(_) | Self::Stou(_) => MarkerEffect::Take,
            _ => MarkerEffect::Clear,
        }
    }

    /// What becomes of a pending RANG: HASH takes it, what comes between the two in good dialogues
    /// leaves it.
    pub fn range_marker(&self) -> MarkerEffect {
        match self {
            // Data connections are opened before the transfer that has to be refused.
            Self::Rang { .. }
            | Self::Opts(_)
            | Self::Type(_)
            | Self::Noop
            | Self::Pasv
            | Self::Epsv(_) => MarkerEffect::Keep,
            Self::Hash(_) => MarkerEffect::Take,
            command if command.is_transfer() => MarkerEffect::Take,
            _ => MarkerEffect::Clear,
        }
    }

    /// What becomes of a pending RNFR: RNTO takes it, RNFR overwrites it, everything else forgets it
    /// ("must be immediately followed", RFC 959 §4.1.3, J10).
    pub fn rename_source(&self) -> MarkerEffect {
        match self {
            Self::Rnfr(_) => MarkerEffect::Keep,
            Self::Rnto(_) => MarkerEffect::Take,
            _ => MarkerEffect::Clear,
        }
    }
}

impl ChecksumAlgorithm {
    /// What HASH can compute, the default first.
    pub const HASHES: [Self; 5] = [
        Self::Sha256,
        Self::Sha512,
        Self::Sha1,
        Self::Md5,
        Self::Crc32,
    ];

    /// The digest behind it.
    pub fn digest(self) -> Checksum {
        match self {
            Self::Crc32 => Checksum::Crc32,
            Self::Md5 | Self::Md5WithName => Checksum::Md5,
            Self::Sha1 => Checksum::Sha1,
            Self::Sha256 => Checksum::Sha256,
            Self::Sha512 => Checksum::Sha512,
        }
    }

    /// The name of the algorithm in HASH and OPTS HASH (draft-bryan-ftpext-hash §3).
    pub fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Md5 | Self::Md5WithName => "MD5",
            Self::Sha1 => "SHA-1",
            Self::Sha256 => "SHA-256",
            Self::Sha512 => "SHA-512",
        }
    }

    /// The verb that asks for it.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Crc32 => "XCRC",
            Self::Md5 => "XMD5",
            Self::Md5WithName => "MD5",
            Self::Sha1 => "XSHA1",
            Self::Sha256 => "XSHA256",
            Self::Sha512 => "XSHA512",
        }
    }
}

impl Password {
    /// A password as sent.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The password, for the authenticator only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

#[cfg(test)]
mod tests;
