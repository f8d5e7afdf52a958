//! Backends beyond the local disk and S3: what each needs to be reached.

use std::{collections::BTreeMap, path::PathBuf};

use super::{Secret, SetTime};

/// What every bucket but S3 has in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketSettings {
    /// Key prefix that everything lies below, without leading or trailing slash; may be empty.
    pub root: String,
    /// Bytes of one part of an upload; default 8 MiB.
    pub part_bytes: usize,
    /// Parts under way at once per upload; default 2.
    pub parts_in_flight: usize,
    /// Most bytes of a present object that are read and written again for one command, where the
    /// store cannot do it by itself (append, restart, rename); default 1 GiB, 0 refuses all.
    pub rewrite_bytes: u64,
    /// Times set by clients; never [`SetTime::Store`].
    pub set_time: SetTime,
    /// PEM of authorities that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
}

/// A bucket of Google Cloud Storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GcsBackend {
    /// Bucket name.
    pub bucket: String,
    /// `None` for Google; an emulator's URL otherwise.
    pub endpoint: Option<String>,
    /// How requests are authorised.
    pub credentials: GcsCredentials,
    /// Which library speaks to the store.
    pub driver: GcsDriver,
    /// `STANDARD`, `NEARLINE`, `COLDLINE`, `ARCHIVE`; `None` for the bucket's own.
    pub storage_class: Option<String>,
    /// What all buckets have.
    pub settings: BucketSettings,
}

/// How requests to Google Cloud Storage are authorised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GcsCredentials {
    /// Application Default Credentials: environment, well-known file, metadata server (which is what
    /// GKE workload identity answers on).
    Default,
    /// A key or external-account file.
    File(PathBuf),
    /// Not at all: emulators and public buckets.
    Anonymous,
}

/// Which library speaks to Google Cloud Storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GcsDriver {
    /// All there is.
    OpenDal,
    /// The backend of unFTP, for those who trust it already: no rename, no append, no restart of
    /// uploads, no retries.
    Unftp,
}

/// A container of Azure Blob Storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AzblobBackend {
    /// Container name.
    pub container: String,
    /// Storage account.
    pub account: String,
    /// URL of the account's blob service.
    pub endpoint: String,
    /// How requests are authorised.
    pub credentials: AzblobCredentials,
    /// What all buckets have.
    pub settings: BucketSettings,
}

/// How requests to Azure are authorised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AzblobCredentials {
    /// The provider chain: environment, Azure CLI, service principal, workload and managed identity.
    Default,
    /// The account's key.
    AccountKey(Secret),
    /// A shared access signature.
    SasToken(Secret),
    /// A service principal.
    ClientSecret {
        /// Directory (tenant) id.
        tenant_id: String,
        /// Application (client) id.
        client_id: String,
        /// Its secret.
        client_secret: Secret,
    },
    /// Federated token of a Kubernetes service account.
    WorkloadIdentity,
    /// Managed identity of the machine.
    ManagedIdentity,
}

/// Files in memory, gone with the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryBackend {
    /// Most bytes of all files together, uploads under way included; default 256 MiB.
    pub size_bytes: usize,
    /// Times set by clients.
    pub set_time: SetTime,
}

/// Any other service of OpenDAL that is compiled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenDalBackend {
    /// One of [`OPENDAL_SCHEMES`].
    pub scheme: String,
    /// Its options by OpenDAL's names; may hold secrets.
    pub options: BTreeMap<String, Secret>,
    /// What all buckets have.
    pub settings: BucketSettings,
}

/// Services that have a cargo feature of their name, compiled in or not.
pub const OPENDAL_FEATURES: [&str; 5] = ["b2", "cos", "obs", "oss", "webhdfs"];

/// Services of OpenDAL that this binary holds besides those with a type of their own, each with its
/// options. Versioning, presigning and anonymous access are of no use here and left out.
pub const OPENDAL_SCHEMES: &[(&str, &[&str])] = &[
    #[cfg(feature = "b2")]
    (
        "b2",
        &[
            "bucket",
            "bucket_id",
            "application_key_id",
            "application_key",
        ],
    ),
    #[cfg(feature = "cos")]
    (
        "cos",
        &[
            "bucket",
            "endpoint",
            "secret_id",
            "secret_key",
            "security_token",
        ],
    ),
    #[cfg(feature = "obs")]
    (
        "obs",
        &["bucket", "endpoint", "access_key_id", "secret_access_key"],
    ),
    #[cfg(feature = "oss")]
    (
        "oss",
        &[
            "bucket",
            "endpoint",
            "addressing_style",
            "access_key_id",
            "access_key_secret",
            "security_token",
            "server_side_encryption",
            "server_side_encryption_key_id",
            "role_arn",
            "role_session_name",
            "oidc_provider_arn",
            "oidc_token_file",
            "sts_endpoint",
            "external_id",
        ],
    ),
    #[cfg(feature = "webhdfs")]
    (
        "webhdfs",
        &["endpoint", "user_name", "delegation", "atomic_write_dir"],
    ),
];
