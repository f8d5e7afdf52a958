//! Times of files: S3 stamps an object when it is written, so another time is metadata, as rclone keeps
//! it, and setting it a copy of the object onto itself.

use std::time::{Duration, SystemTime};

use super::{
    S3,
    attributes::{Attributes, MTIME},
    upload::size_of,
};
use crate::store::{ErrorKind, Result, StoreError};

impl S3 {
    /// Gives an object the time `time`; larger ones than configured are [`ErrorKind::TooLarge`].
    pub(in super::super) async fn touch(&self, path: &str, time: SystemTime) -> Result<()> {
        let operation = "set_modified";
        let head = self.head(operation, path).await?;
        let head = head.ok_or_else(|| StoreError::new(ErrorKind::NotFound, operation))?;
        if size_of(&head) > self.settings.set_time_bytes {
            return Err(StoreError::new(ErrorKind::TooLarge, operation));
        }
        let mut attributes = Attributes::of(&head);
        self.carry_tags(operation, path, &head, &mut attributes)
            .await?;
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        let seconds = since.map_or(0, |since| since.as_secs());
        attributes
            .metadata
            .insert(MTIME.to_owned(), seconds.to_string());
        self.copy_object(path, path, head.e_tag(), attributes).await
    }
}

/// The time in metadata: seconds since 1970, with or without a fraction. Whole seconds, since that is
/// all that MDTM of other objects has.
pub(in super::super) fn time_of(text: &str) -> Option<SystemTime> {
    let seconds = text.split('.').next()?.parse().ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_rclone_are_read() {
        let time = |seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        assert_eq!(time_of("1700000000"), time(1_700_000_000));
        assert_eq!(time_of("1700000000.123456789"), time(1_700_000_000));
        for text in ["", "x", "-1", "99999999999999999999", "1e9"] {
            assert_eq!(time_of(text), None, "{text}");
        }
    }
}
