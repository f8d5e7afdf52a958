//! [`Validity`]: how long a certificate is still good, be it a listener's or what causeway shows elsewhere.

use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use x509_parser::parse_x509_certificate;

/// What an operator should know of the end of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// Whoever verifies it refuses it.
    Expired,
    /// So many days are left, fewer than a renewal should leave.
    Ending(u64),
    /// Nothing to do.
    Good,
}

impl Validity {
    /// Of a certificate with this last moment in Unix seconds, at `now`. Thirty days is when ACME clients
    /// renew 90-day certificates; two weeks left means that a renewal failed.
    pub fn of(not_after: i64, now: SystemTime) -> Self {
        const WARNING: Duration = Duration::from_hours(14 * 24);
        let end = u64::try_from(not_after).unwrap_or(0);
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(end);
        match end.duration_since(now) {
            Err(_) => Self::Expired,
            Ok(left) if left < WARNING => Self::Ending(left.as_secs() / (24 * 3600)),
            Ok(_) => Self::Good,
        }
    }

    /// In words, after the name of the file; `None` where there is nothing to do.
    pub fn words(self) -> Option<String> {
        match self {
            Self::Expired => Some("has expired".to_owned()),
            Self::Ending(days) => Some(format!("expires in {days} days")),
            Self::Good => None,
        }
    }
}

/// Unix seconds of the last moment of a certificate; `None` where it is none.
pub fn last_moment(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, certificate) = parse_x509_certificate(certificate).ok()?;
    Some(certificate.validity().not_after.timestamp())
}
