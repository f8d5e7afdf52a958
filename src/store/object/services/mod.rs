//! The services behind OpenDAL, one file each: their builders and credentials, nothing else.

mod azblob;
mod gcs;
mod other;

#[cfg(feature = "unftp-sbe-gcs")]
pub(in super::super) use self::gcs::check as check_gcs_credentials;
pub(super) use self::{azblob::azblob, gcs::gcs, other::other};
