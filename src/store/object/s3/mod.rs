//! What OpenDAL does not reach of S3: uploads whose parts we own, copies, and what objects carry.
//!
//! Owns every use of `aws-sdk-s3`. Looks, listings and reads of an S3 bucket go through OpenDAL like
//! those of every other object store; what makes or changes an object goes through here.

mod announce;
mod attributes;
mod body;
mod claim;
mod copy;
mod credentials;
mod digests;
mod error;
pub(super) mod held;
mod http;
pub(super) mod kept;
mod lost;
mod probe;
mod record;
mod touch;
mod twin;
mod upload;

use std::{sync::Arc, time::Duration};

use aws_sdk_s3::{
    Client, Config,
    config::{
        BehaviorVersion, Builder, IdentityCache, Region, RequestChecksumCalculation,
        ResponseChecksumValidation, SharedCredentialsProvider, StalledStreamProtectionConfig,
        retry::{RetryConfig, RetryPartition, TokenBucket},
        timeout::TimeoutConfig,
    },
    operation::head_object::HeadObjectOutput,
};
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{Intercept, context::BeforeTransmitInterceptorContextRef},
        orchestrator::Metadata,
        retries::RequestAttempts,
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::config_bag::ConfigBag;
use tokio::sync::Semaphore;

use self::{
    attributes::Encryption, error::failed, http::Http, lost::Lost, record::Claims, twin::Waiting,
};
pub(super) use self::{
    attributes::MTIME, copy::rename, record::AREA, touch::time_of, upload::S3Upload,
};
use super::{
    super::{ErrorKind, Result},
    retries::Retries,
    transport::{RETRIES, RETRY_DELAY, Transport},
};
use crate::{
    config::{S3Backend, S3Switches, Timeouts},
    observe::journal::Journal,
};

/// Least size of a part that is not the last (S3).
const LEAST_PART_BYTES: usize = 5 << 20;
/// Most bytes of one part (S3).
const MOST_PART_BYTES: usize = 5 << 30;
/// Most parts of one upload (S3).
const MOST_PARTS: usize = 10_000;
/// Parts before their size doubles: 10,000 parts of a first size of 8 MiB hold 8 TiB, more than an
/// object may have, and no upload below 8 GB holds more memory than its configuration says.
const PARTS_PER_SIZE: usize = 1000;
/// Uploads that read the first bytes of an old object at once: these are not in the budget.
const OLD_BYTES_AT_ONCE: usize = 4;

/// Credentials that end within this are replaced before a request is signed with them. The SDK takes up to
/// half of it off by chance, so that what is left is what OpenDAL demands: two minutes.
const FRESH: Duration = Duration::from_mins(4);

/// A bucket, through the SDK.
#[derive(Debug)]
pub(super) struct S3 {
    client: Client,
    bucket: String,
    settings: S3Backend,
    encryption: Encryption,
    /// One try of an ordinary request.
    step: Duration,
    /// One try of a request that makes the store move bytes.
    long_step: Duration,
    /// One try of a request that may fail without harm.
    short_step: Duration,
    old_bytes: Arc<Semaphore>,
    /// Prefix of records and tails.
    area: String,
    /// Records that sessions of this process hold.
    claims: Arc<Claims>,
    /// Where it is told that a file has appeared which waited for its rename.
    journal: Option<Arc<Journal>>,
    /// Uploads that were begun without an answer.
    lost: Lost,
    /// Where tries of our own are counted.
    retries: Retries,
    /// Uploads of this process that wait for their rename.
    waiting: Arc<Waiting>,
    /// Keys that this process writes, where only one upload of a name is let in.
    names: claim::Names,
}

impl S3 {
    /// Prepares a client over `transport`; sends nothing yet.
    pub(super) fn new(
        backend: &S3Backend,
        timeouts: &Timeouts,
        transport: &Transport,
        retries: &Retries,
        journal: Option<Arc<Journal>>,
    ) -> Self {
        let step = (timeouts.commit / (RETRIES + 1)).min(timeouts.store);
        let credentials = match &backend.credentials {
            Some(credentials) => SharedCredentialsProvider::new(credentials::fixed(credentials)),
            None => SharedCredentialsProvider::new(credentials::Chain::new(
                transport.for_opendal.clone(),
            )),
        };
        // The SDK's own quota of retries is shared by all requests and used up by one bad minute; what
        // bounds ours is their number and the deadline of each.
        let partition = RetryPartition::custom("causeway")
            .token_bucket(TokenBucket::unlimited())
            .build();
        let mut config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(backend.region.clone()))
            .credentials_provider(credentials)
            .identity_cache(
                IdentityCache::lazy()
                    .load_timeout(timeouts.store / 4)
                    .buffer_time(FRESH)
                    .build(),
            )
            .http_client(Http(transport.for_moves.clone()))
            .force_path_style(!backend.virtual_host_style)
            // Ours are set where the store is known to check them.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .retry_partition(partition)
            .retry_config(
                RetryConfig::standard()
                    .with_max_attempts(RETRIES + 1)
                    .with_initial_backoff(Duration::from_millis(200))
                    .with_max_backoff(RETRY_DELAY),
            )
            .interceptor(Recount(retries.clone()))
            .timeout_config(one_try(step));
        if let Some(endpoint) = &backend.endpoint {
            config = config.endpoint_url(endpoint);
        }
        Self {
            client: Client::from_conf(config.build()),
            bucket: backend.bucket.clone(),
            encryption: Encryption::new(&backend.encryption),
            settings: backend.clone(),
            step,
            long_step: timeouts.commit,
            short_step: timeouts.store / 4,
            old_bytes: Arc::new(Semaphore::new(OLD_BYTES_AT_ONCE)),
            area: match backend.root.as_str() {
                "" => format!("{AREA}/"),
                root => format!("{root}/{AREA}/"),
            },
            claims: Arc::default(),
            journal,
            lost: Lost::default(),
            retries: retries.clone(),
            waiting: Arc::default(),
            names: claim::Names::default(),
        }
    }

    /// The object at `path`, with all that it carries.
    async fn head(&self, operation: &'static str, path: &str) -> Result<Option<HeadObjectOutput>> {
        let customer = self.encryption.customer();
        let request = self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(path)
            .set_sse_customer_algorithm(customer.algorithm())
            .set_sse_customer_key(customer.key())
            .set_sse_customer_key_md5(customer.key_md5());
        match request.send().await {
            Ok(found) => Ok(Some(found)),
            Err(error) => {
                let error = failed(operation, error);
                if error.kind() == ErrorKind::NotFound {
                    return Ok(None);
                }
                Err(error)
            }
        }
    }

    /// `x-amz-copy-source`, which the SDK does not encode.
    fn copy_source(&self, path: &str) -> String {
        format!(
            "{}/{}",
            self.bucket,
            opendal::raw::percent_encode_path(path)
        )
    }

    /// The deadline of one try that sends `bytes`: at least 1 MiB a second.
    fn patience(&self, bytes: u64) -> Builder {
        within(self.step.max(Duration::from_secs(bytes >> 20)))
    }

    /// The deadline of one try that makes the store move bytes by itself.
    fn long_patience(&self) -> Builder {
        within(self.long_step)
    }

    /// Few tries, for what may fail without harm.
    fn short_patience(&self) -> Builder {
        within(self.short_step).retry_config(RetryConfig::standard().with_max_attempts(3))
    }

    fn switches(&self) -> S3Switches {
        self.settings.switches
    }
}

/// Counts each try after the first.
#[derive(Debug)]
struct Recount(Retries);

impl Intercept for Recount {
    fn name(&self) -> &'static str {
        "Recount"
    }

    fn read_before_attempt(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        let attempts = bag
            .load::<RequestAttempts>()
            .map_or(1, RequestAttempts::attempts);
        if attempts > 1 {
            self.0
                .count(bag.load::<Metadata>().map_or("unknown", Metadata::name));
        }
        Ok(())
    }
}

fn within(time: Duration) -> Builder {
    Config::builder().timeout_config(one_try(time))
}

fn one_try(time: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .operation_attempt_timeout(time)
        .build()
}
