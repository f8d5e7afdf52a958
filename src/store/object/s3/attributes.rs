//! What an object carries beside its bytes: headers, user metadata, storage class, encryption.

use std::collections::HashMap;

use aws_sdk_s3::{
    operation::{
        copy_object::builders::CopyObjectFluentBuilder,
        create_multipart_upload::builders::CreateMultipartUploadFluentBuilder,
        head_object::HeadObjectOutput, put_object::builders::PutObjectFluentBuilder,
    },
    types::{MetadataDirective, ServerSideEncryption, StorageClass, Tag, TaggingDirective},
};
use aws_smithy_types::base64;
use md5::{Digest, Md5};

use crate::{
    config::{Checksum, S3Backend, S3Encryption},
    store::Author,
};

/// User metadata that tells our own commit from somebody else's object of the same size.
pub(super) const NONCE: &str = "causeway-upload";
/// Seconds since 1970, as rclone keeps the time of a file.
pub(in super::super) const MTIME: &str = "mtime";
/// All that may stand there under their names, in lower-case hexadecimal digits.
const CHECKSUMS: [Checksum; 5] = [
    Checksum::Crc32,
    Checksum::Md5,
    Checksum::Sha1,
    Checksum::Sha256,
    Checksum::Sha512,
];
const UPLOADER: &str = "uploader";
const SESSION: &str = "session";

const ALGORITHM: &str = "AES256";

/// Sets everything but the bytes on a request that makes an object: the three have a builder each, with
/// the same setters and no trait in common.
macro_rules! describe {
    ($request:expr, $attributes:expr, $encryption:expr) => {
        $request
            .set_metadata(Some($attributes.metadata))
            .set_content_type($attributes.content_type)
            .set_cache_control($attributes.cache_control)
            .set_content_disposition($attributes.content_disposition)
            .set_content_encoding($attributes.content_encoding)
            .set_content_language($attributes.content_language)
            .set_storage_class($attributes.storage_class)
            .set_tagging($attributes.tagging)
            .set_server_side_encryption($encryption.server_side.clone())
            .set_ssekms_key_id($encryption.kms_key_id.clone())
            .set_sse_customer_algorithm($encryption.customer.algorithm())
            .set_sse_customer_key($encryption.customer.key())
            .set_sse_customer_key_md5($encryption.customer.key_md5())
    };
}

/// Everything but the bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Attributes {
    pub(super) metadata: HashMap<String, String>,
    content_type: Option<String>,
    cache_control: Option<String>,
    content_disposition: Option<String>,
    content_encoding: Option<String>,
    content_language: Option<String>,
    storage_class: Option<StorageClass>,
    /// Tags of the object that this one is made of.
    pub(super) tags: Vec<Tag>,
    /// The same as a query.
    tagging: Option<String>,
}

/// How a bucket encrypts what we put there.
#[derive(Debug)]
pub(super) struct Encryption {
    /// SSE-S3 or SSE-KMS.
    server_side: Option<ServerSideEncryption>,
    kms_key_id: Option<String>,
    customer: Customer,
}

/// The key of SSE-C, which every request on an object must repeat.
#[derive(Default)]
pub(super) struct Customer(Option<(String, String)>);

impl Attributes {
    /// Of a new file called `path`.
    pub(super) fn new(settings: &S3Backend, path: &str, author: Option<&Author>) -> Self {
        let mut attributes = Self {
            content_type: Some(content_type(settings, path)),
            storage_class: settings.storage_class.as_deref().map(StorageClass::from),
            ..Self::default()
        };
        attributes.sign(settings, author);
        attributes
    }

    /// Of the object that a new one is made of: nothing carries over by itself but by `CopyObject`.
    pub(super) fn of(head: &HeadObjectOutput) -> Self {
        let owned = |value: Option<&str>| value.map(str::to_owned);
        Self {
            metadata: head.metadata().cloned().unwrap_or_default(),
            content_type: owned(head.content_type()),
            cache_control: owned(head.cache_control()),
            content_disposition: owned(head.content_disposition()),
            content_encoding: owned(head.content_encoding()),
            content_language: owned(head.content_language()),
            storage_class: head.storage_class().cloned(),
            tags: Vec::new(),
            tagging: None,
        }
    }

    /// Takes off what is true of the old bytes only.
    pub(super) fn forget_content(&mut self) {
        self.metadata.remove(MTIME);
        for checksum in CHECKSUMS {
            self.metadata.remove(checksum.name());
        }
    }

    /// Carries these tags.
    pub(super) fn tag(&mut self, tags: Vec<Tag>) {
        let pairs = tags
            .iter()
            .map(|tag| format!("{}={}", in_query(tag.key()), in_query(tag.value())));
        let query = pairs.collect::<Vec<_>>().join("&");
        self.tagging = (!query.is_empty()).then_some(query);
        self.tags = tags;
    }

    /// Carries the word by which an upload knows its own object.
    pub(super) fn sign_with(&mut self, nonce: &str) {
        self.metadata.insert(NONCE.to_owned(), nonce.to_owned());
    }

    /// Says who wrote, where the configuration wants it.
    pub(super) fn sign(&mut self, settings: &S3Backend, author: Option<&Author>) {
        let Some(author) = author else { return };
        if settings.keep.uploader {
            self.metadata
                .insert(UPLOADER.to_owned(), header_text(&author.user));
        }
        if settings.keep.session {
            self.metadata
                .insert(SESSION.to_owned(), header_text(&author.session));
        }
    }

    pub(super) fn put(
        self,
        request: PutObjectFluentBuilder,
        encryption: &Encryption,
    ) -> PutObjectFluentBuilder {
        describe!(request, self, encryption)
    }

    pub(super) fn create(
        self,
        request: CreateMultipartUploadFluentBuilder,
        encryption: &Encryption,
    ) -> CreateMultipartUploadFluentBuilder {
        describe!(request, self, encryption)
    }

    /// A copy that carries these instead of what the source has.
    pub(super) fn replace(
        self,
        request: CopyObjectFluentBuilder,
        encryption: &Encryption,
    ) -> CopyObjectFluentBuilder {
        let customer = &encryption.customer;
        // Without tags of others the store carries over what there is.
        let tags = self.tagging.is_some().then_some(TaggingDirective::Replace);
        describe!(request, self, encryption)
            .metadata_directive(MetadataDirective::Replace)
            .set_tagging_directive(tags)
            .set_copy_source_sse_customer_algorithm(customer.algorithm())
            .set_copy_source_sse_customer_key(customer.key())
            .set_copy_source_sse_customer_key_md5(customer.key_md5())
    }
}

impl Encryption {
    pub(super) fn new(configured: &S3Encryption) -> Self {
        let mut encryption = Self {
            server_side: None,
            kms_key_id: None,
            customer: Customer::default(),
        };
        match configured {
            S3Encryption::None => {}
            S3Encryption::S3 => encryption.server_side = Some(ServerSideEncryption::Aes256),
            S3Encryption::Kms { key_id } => {
                encryption.server_side = Some(ServerSideEncryption::AwsKms);
                encryption.kms_key_id.clone_from(key_id);
            }
            S3Encryption::Customer { key } => {
                let digest = base64::encode(Md5::digest(key.bytes()));
                encryption.customer = Customer(Some((base64::encode(key.bytes()), digest)));
            }
        }
        encryption
    }

    pub(super) fn customer(&self) -> &Customer {
        &self.customer
    }
}

impl Customer {
    pub(super) fn algorithm(&self) -> Option<String> {
        self.0.as_ref().map(|_| ALGORITHM.to_owned())
    }

    pub(super) fn key(&self) -> Option<String> {
        self.0.as_ref().map(|(key, _)| key.clone())
    }

    pub(super) fn key_md5(&self) -> Option<String> {
        self.0.as_ref().map(|(_, digest)| digest.clone())
    }
}

impl std::fmt::Debug for Customer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(if self.0.is_some() { "***" } else { "none" })
    }
}

fn content_type(settings: &S3Backend, path: &str) -> String {
    let guess = settings
        .content_type_by_name
        .then(|| mime_guess::from_path(path).first_raw())
        .flatten();
    guess.unwrap_or("application/octet-stream").to_owned()
}

/// User metadata travels in headers: printable ASCII goes as it is, the rest percent-encoded.
fn header_text(text: &str) -> String {
    percent_encode(text, |byte| byte.is_ascii_graphic() && byte != b'%')
}

/// Tags travel as the query of a URL (RFC 3986 §2.3: unreserved characters go as they are).
fn in_query(text: &str) -> String {
    percent_encode(text, |byte| {
        byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
    })
}

fn percent_encode(text: &str, plain: impl Fn(u8) -> bool) -> String {
    text.bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_fit_into_headers() {
        assert_eq!(header_text("bob@example.com"), "bob@example.com");
        assert_eq!(header_text("j\u{f6}rg 1%\r\n"), "j%C3%B6rg%201%25%0D%0A");
    }

    #[test]
    fn tags_travel_as_a_query() {
        let mut attributes = Attributes::default();
        attributes.tag(Vec::new());
        assert_eq!(attributes.tagging, None);
        let tag = |key, value| Tag::builder().key(key).value(value).build().unwrap();
        attributes.tag(vec![tag("project", "a&b=c"), tag("\u{fc}", "1 2/3+")]);
        let expected = "project=a%26b%3Dc&%C3%BC=1%202%2F3%2B";
        assert_eq!(attributes.tagging.as_deref(), Some(expected));
    }
}
