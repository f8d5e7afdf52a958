//! How a multipart upload is begun, and what becomes of one whose beginning was never answered.
//!
//! `CreateMultipartUpload` cannot be repeated without harm: when its answer is lost, the next try begins
//! another upload, and nobody knows the id of the first. So each try is our own here, not the SDK's, and one
//! that may have been carried out is remembered: the key, and when. The sweep looks there once any living
//! upload must have had its first part, and ends what was begun in that time and has none.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use aws_sdk_s3::config::retry::RetryConfig;

use super::{
    super::transport::{RETRIES, RETRY_DELAY},
    S3,
    attributes::Attributes,
    error::{failed, may_be_carried_out},
    within,
};
use crate::store::{ErrorKind, Result, StoreError};

/// Pause before the second try; it doubles up to [`RETRY_DELAY`].
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Beginnings that are remembered: in a worse hour the bucket's life-cycle rule has more to do.
const REMEMBERED: usize = 1000;
/// How far the store's clock may be from ours.
const SKEW: Duration = Duration::from_mins(2);

/// Beginnings whose answer was lost, oldest first.
#[derive(Debug, Default)]
pub(super) struct Lost(Mutex<VecDeque<Beginning>>);

#[derive(Debug)]
struct Beginning {
    path: String,
    from: SystemTime,
    to: SystemTime,
}

impl Lost {
    fn note(&self, path: &str, from: SystemTime) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < REMEMBERED {
            all.push_back(Beginning {
                path: path.to_owned(),
                from,
                to: SystemTime::now(),
            });
        }
    }

    /// Takes out one that is older than `age`.
    fn take(&self, age: Duration) -> Option<Beginning> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = all.front()?.to.elapsed().unwrap_or_default();
        (passed > age).then(|| all.pop_front()).flatten()
    }

    fn put_back(&self, beginning: Beginning) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push_front(beginning);
    }
}

impl S3 {
    /// Begins a multipart upload; its id.
    pub(super) async fn create_upload(&self, path: &str, attributes: Attributes) -> Result<String> {
        let from = SystemTime::now();
        let (mut doubtful, mut pause) = (false, FIRST_PAUSE);
        let mut tries = RETRIES;
        let created = loop {
            let request = self
                .client
                .create_multipart_upload()
                .bucket(&self.bucket)
                .key(path);
            let request = attributes.clone().create(request, &self.encryption);
            let once = within(self.step).retry_config(RetryConfig::disabled());
            let error = match request.customize().config_override(once).send().await {
                Ok(created) => break Ok(created),
                Err(error) => error,
            };
            doubtful |= may_be_carried_out(&error);
            let error = failed("write", error);
            if tries == 0 || !matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Busy) {
                break Err(error);
            }
            tries -= 1;
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
            pause = (pause * 2).min(RETRY_DELAY);
            self.retries.count("CreateMultipartUpload");
        };
        if doubtful {
            self.lost.note(path, from);
        }
        created?
            .upload_id
            .ok_or_else(|| StoreError::new(ErrorKind::Internal, "write"))
    }

    /// Ends uploads of ours whose beginning was never answered; how many.
    pub(super) async fn end_lost(&self) -> Result<u64> {
        let mut ended = 0;
        // Every try of a first part is over by then.
        while let Some(beginning) = self.lost.take(self.long_step) {
            match self.end_begun(&beginning).await {
                Ok(found) => ended += found,
                Err(error) => {
                    self.lost.put_back(beginning);
                    return Err(error);
                }
            }
        }
        Ok(ended)
    }

    async fn end_begun(&self, beginning: &Beginning) -> Result<u64> {
        let Beginning { path, from, to } = beginning;
        let request = self
            .client
            .list_multipart_uploads()
            .bucket(&self.bucket)
            .prefix(path);
        // Uploads of one key come first, and there are not a thousand of them.
        let page = request.send().await;
        let page = page.map_err(|error| failed("sweep", error))?;
        let mut ended = 0;
        for upload in page.uploads() {
            let (Some(key), Some(id)) = (upload.key(), upload.upload_id()) else {
                continue;
            };
            let begun = upload.initiated();
            let begun = begun.and_then(|time| SystemTime::try_from(*time).ok());
            let in_time = begun.is_some_and(|begun| *from - SKEW <= begun && begun <= *to + SKEW);
            if key != path || !in_time {
                continue;
            }
            let parts = self.landed_parts(path, id).await?;
            if parts.is_some_and(|parts| parts.is_empty()) && self.abort(path, id).await? {
                ended += 1;
            }
        }
        Ok(ended)
    }
}
