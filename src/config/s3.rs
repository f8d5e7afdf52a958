//! An S3 bucket, and what the provider behind it can do.

use std::path::PathBuf;

use super::{Deferred, Secret, SetTime};

/// An S3 bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Backend {
    /// Bucket name.
    pub bucket: String,
    /// Region, for example `eu-central-1`; `us-east-1` for most S3-compatible stores.
    pub region: String,
    /// `None` for AWS.
    pub endpoint: Option<String>,
    /// PEM of authorities that the endpoint's certificate may come from, besides the system's.
    pub ca_file: Option<PathBuf>,
    /// What the provider is known to do, with the operator's corrections.
    pub switches: S3Switches,
    /// Key prefix that everything lies below, without leading or trailing slash; may be empty.
    pub root: String,
    /// `None` uses the provider chain (environment, profile, web identity, ECS, IMDSv2).
    pub credentials: Option<S3Credentials>,
    /// `https://bucket.host/key` instead of `https://host/bucket/key`.
    pub virtual_host_style: bool,
    /// Bytes of one part of a multipart upload, at least 5 MiB; default 8 MiB.
    pub part_bytes: usize,
    /// Parts under way at once per upload; default 2.
    pub parts_in_flight: usize,
    /// Two uploads of one name at once.
    pub concurrent_uploads: ConcurrentUploads,
    /// Storage class of new objects; `None` is the bucket's own.
    pub storage_class: Option<String>,
    /// Encryption of new objects.
    pub encryption: S3Encryption,
    /// What new objects carry as user metadata.
    pub keep: S3Metadata,
    /// Content type by the name's ending instead of `application/octet-stream`; default true.
    pub content_type_by_name: bool,
    /// Largest object that a rename copies, in bytes; default 5 TiB, the largest there is.
    pub rename_bytes: u64,
    /// Times set by clients; [`SetTime::Store`] copies the object onto itself.
    pub set_time: SetTime,
    /// Largest object that is copied for a time, in bytes, at most 5 GiB; default 64 MiB.
    pub set_time_bytes: u64,
    /// Whether listings show the times that clients set, which costs a request for each file; default
    /// false.
    pub list_set_times: bool,
    /// Uploads that wait for their rename.
    pub deferred: Deferred,
}

/// A key pair for S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Credentials {
    /// Access key id.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: Secret,
    /// Session token of temporary credentials.
    pub session_token: Option<Secret>,
}

/// Whose S3 it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum S3Provider {
    /// Amazon S3; default without an endpoint.
    Aws,
    /// `MinIO`.
    Minio,
    /// The Ceph object gateway.
    Ceph,
    /// Cloudflare R2.
    R2,
    /// Garage.
    Garage,
    /// Unknown: nothing is taken for granted; default with an endpoint.
    Generic,
}

/// What differs between stores that speak S3. `docs/storage.md` has the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "switches, each of its own, as an operator sets them"
)]
pub struct S3Switches {
    /// `If-Match` and `If-None-Match` of PUT and `CompleteMultipartUpload` are obeyed.
    pub conditional_writes: bool,
    /// `If-Match` of DELETE is obeyed.
    pub delete_if_match: bool,
    /// All parts but the last must have the same size.
    pub exact_parts: bool,
    /// `x-amz-checksum-crc32` of PUT and `UploadPart` is checked.
    pub integrity: bool,
    /// Objects have tags, which keep what is known only after an upload has begun.
    pub object_tags: bool,
}

/// What becomes of two uploads of one name at once, within this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConcurrentUploads {
    /// Both end whole, the last commit wins (default).
    LastWins,
    /// The second gets 450.
    Refuse,
}

/// Encryption of new objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum S3Encryption {
    /// As the bucket has it (default).
    None,
    /// SSE-S3: keys of the store.
    S3,
    /// SSE-KMS.
    Kms {
        /// `None` is the account's default key.
        key_id: Option<String>,
    },
    /// SSE-C: our own key with every request.
    Customer {
        /// The key.
        key: CustomerKey,
    },
}

/// A key of SSE-C, never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct CustomerKey([u8; 32]);

/// A digest of a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// CRC-32 as in Ethernet and zip.
    Crc32,
    /// MD5.
    Md5,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Checksum {
    /// Its name in the configuration and in metadata.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "crc32",
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }
}

/// What new objects carry as user metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Metadata {
    /// Digests of the content, computed while it arrives, which HASH and its kin answer with; default
    /// SHA-256.
    pub checksums: Vec<Checksum>,
    /// Login name; default false.
    pub uploader: bool,
    /// Session as the log calls it; default false.
    pub session: bool,
}

impl S3Provider {
    /// What this provider is known to do.
    pub fn switches(self) -> S3Switches {
        let all = S3Switches {
            conditional_writes: true,
            delete_if_match: true,
            exact_parts: false,
            integrity: true,
            object_tags: true,
        };
        let none = S3Switches {
            conditional_writes: false,
            delete_if_match: false,
            exact_parts: false,
            integrity: false,
            object_tags: false,
        };
        match self {
            Self::Aws => all,
            Self::Minio => S3Switches {
                delete_if_match: false,
                ..all
            },
            // Ceph 16 compares a quoted ETag with a bare one in PUT, and ignores the condition of
            // Complete and of DELETE.
            Self::Ceph => S3Switches {
                object_tags: true,
                ..none
            },
            Self::R2 => S3Switches {
                conditional_writes: true,
                exact_parts: true,
                ..none
            },
            Self::Garage | Self::Generic => none,
        }
    }
}

impl CustomerKey {
    /// Wraps a key of 256 bits.
    pub fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// The key itself, for the library that needs it.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for CustomerKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("***")
    }
}
