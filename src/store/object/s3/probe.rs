//! What a bucket lets us do, tried with a few small objects (`causeway check`).

use std::time::Duration;

use aws_sdk_s3::{
    config::{Builder, retry::RetryConfig},
    error::{DisplayErrorContext, ProvideErrorMetadata, SdkError},
    operation::get_object::builders::GetObjectFluentBuilder,
    types::{CompletedMultipartUpload, CompletedPart, Tag, Tagging},
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use bytes::Bytes;

use super::{S3, attributes::Attributes, body::body, within};
use crate::store::probe::{Outcome, Steps, Trouble, TroubleKind};

const LIST: &[&str] = &["s3:ListBucket"];
const GET: &[&str] = &["s3:GetObject"];
const PUT: &[&str] = &["s3:PutObject"];
const PARTS: &[&str] = &["s3:ListMultipartUploadParts"];
const ABORT: &[&str] = &["s3:AbortMultipartUpload"];
const COPY: &[&str] = &["s3:GetObject", "s3:PutObject"];
const PUT_TAGS: &[&str] = &["s3:PutObjectTagging"];
const GET_TAGS: &[&str] = &["s3:GetObjectTagging"];
const DELETE: &[&str] = &["s3:DeleteObject"];

/// One try of a step.
const TRY: Duration = Duration::from_secs(8);
/// An `ETag` that no object has.
const NOBODYS: &str = "\"00000000000000000000000000000000\"";

/// What a probe has made and must take away again.
#[derive(Default)]
struct Made {
    keys: Vec<String>,
    /// Multipart uploads that are neither completed nor aborted.
    uploads: Vec<(String, String)>,
}

impl S3 {
    /// Tries everything that the server does to this bucket. `root` ends with a slash where it is not empty.
    pub(in super::super) async fn probe(&self, steps: &mut Steps<'_>, root: &str, resume: bool) {
        let prefix = format!("{root}{}", steps.prefix());
        let list = async {
            let request = self.client.list_objects_v2().bucket(&self.bucket);
            let request = request.prefix(&prefix).max_keys(10);
            let listed = Box::pin(request.customize().config_override(patience()).send()).await;
            Ok(listed.map_err(trouble)?.contents.unwrap_or_default())
        };
        let listed = steps.take("ListObjectsV2", LIST, list).await;
        if steps.writes() {
            let mut made = Made::default();
            // Below the root, what is left behind by a killed probe is taken away by the sweep, which
            // knows a name with a dot for a tail without a record.
            let area = if steps.prefix().is_empty() {
                format!("{}check.", self.area)
            } else {
                format!("{prefix}.causeway-check.")
            };
            let base = format!("{area}{:032x}", rand::random::<u128>());
            self.write(steps, &base, resume, &mut made).await;
            self.clean(steps, made).await;
        } else {
            // Directories have nothing to read.
            let objects = listed.into_iter().flatten();
            let first = objects
                .filter_map(|object| object.key)
                .find(|key| !key.ends_with('/'));
            match first {
                Some(key) => drop(steps.take("GetObject", GET, self.get(&key)).await),
                None => steps.leave_out("GetObject", "nothing lies there yet"),
            }
        }
    }

    async fn write(&self, steps: &mut Steps<'_>, base: &str, resume: bool, made: &mut Made) {
        let (first, second, third) = (
            format!("{base}-1"),
            format!("{base}-2"),
            format!("{base}-3"),
        );
        let put = self.put_probe(&first, None, None);
        if steps.take("PutObject", PUT, put).await.is_some() {
            made.keys.push(first.clone());
            let get = self.get(&first);
            if steps.take("GetObject", GET, get).await.is_some() {
                made.keys.push(third.clone());
                let copy = self.copy_probe(&first, &third);
                steps.take("CopyObject", COPY, copy).await;
            }
            self.conditions(steps, &first).await;
        }
        self.multipart(steps, &second, resume, made).await;
        if self.switches().object_tags && made.keys.contains(&first) {
            let (tag, cost) = (self.tag(&first), "digests of large files are not kept");
            if steps
                .take_or_warn("PutObjectTagging", PUT_TAGS, cost, tag)
                .await
                .is_some()
            {
                let tags = async {
                    let request = self.client.get_object_tagging().bucket(&self.bucket);
                    let request = request.key(&first).customize();
                    let tags = Box::pin(request.config_override(patience()).send()).await;
                    tags.map(drop).map_err(trouble)
                };
                steps.take("GetObjectTagging", GET_TAGS, tags).await;
            }
        }
        if self.switches().delete_if_match && made.keys.contains(&first) {
            self.conditional_delete(steps, &first, made).await;
        }
    }

    /// Whether the store obeys the conditions that the configuration relies on.
    async fn conditions(&self, steps: &mut Steps<'_>, key: &str) {
        let configured = self.switches().conditional_writes;
        let name = "PutObject with If-None-Match";
        let again = self.put_probe(key, Some("*"), None);
        let created = self.condition(steps, name, again, configured).await;
        let name = "PutObject with If-Match";
        let over = self.put_probe(key, None, Some(NOBODYS));
        let replaced = self.condition(steps, name, over, configured).await;
        if !configured && created == Some(true) && replaced == Some(true) {
            let could = "the store obeys conditions: with `conditional_writes: true` two uploads of one name at the same moment cannot lose one";
            steps.tell(
                "conditional writes",
                Duration::ZERO,
                Outcome::Doubtful(could.to_owned()),
            );
        }
    }

    /// One write that its condition must stop; reported here. `None`: it could not be told.
    async fn condition<T>(
        &self,
        steps: &mut Steps<'_>,
        name: &'static str,
        work: impl Future<Output = Result<T, Trouble>>,
        configured: bool,
    ) -> Option<bool> {
        if !configured {
            // What the server does not send cannot fail a transfer: only worth a look.
            let quiet = async {
                match work.await {
                    Err(trouble) if trouble.kind == TroubleKind::Condition => Ok(true),
                    Err(trouble) if trouble.kind == TroubleKind::Hopeless => Err(trouble),
                    _ => Ok(false),
                }
            };
            return steps.quietly(quiet).await;
        }
        let (stopped, took) = steps.stopped(name, PUT, work).await?;
        let outcome = if stopped {
            Outcome::Done
        } else {
            Outcome::Failed(
                "the store ignores the condition and wrote all the same: two uploads of one name can replace each other unnoticed; set `conditional_writes: false`, or the provider that it is".to_owned(),
            )
        };
        steps.tell(name, took, outcome);
        Some(stopped)
    }

    async fn multipart(&self, steps: &mut Steps<'_>, key: &str, resume: bool, made: &mut Made) {
        let Some(id) = steps
            .take("CreateMultipartUpload", PUT, self.create_probe(key))
            .await
        else {
            return;
        };
        made.uploads.push((key.to_owned(), id.clone()));
        let part = steps
            .take("UploadPart", PUT, self.part_probe(key, &id))
            .await;
        if resume {
            let parts = async {
                let request = self.client.list_parts().bucket(&self.bucket).key(key);
                let request = self.with_customer_key_of_parts(request.upload_id(&id));
                let parts = Box::pin(request.customize().config_override(patience()).send()).await;
                parts.map(drop).map_err(trouble)
            };
            steps.take("ListParts", PARTS, parts).await;
        } else {
            steps.leave_out("ListParts", "needed by `uploads.resume` only");
        }
        if let Some(part) = part {
            let complete = self.complete_probe(key, &id, part, None);
            if steps
                .take("CompleteMultipartUpload", PUT, complete)
                .await
                .is_some()
            {
                made.uploads.clear();
                made.keys.push(key.to_owned());
            }
        }
        if self.switches().conditional_writes && made.uploads.is_empty() {
            self.conditional_complete(steps, key, made).await;
        }
        if made.uploads.is_empty() {
            // Made for this alone: an upload that a client breaks off ends so.
            if let Some(Ok(id)) = steps
                .quietly(async { Ok(self.create_probe(key).await) })
                .await
            {
                made.uploads.push((key.to_owned(), id));
            }
        }
        if let Some((key, id)) = made.uploads.last().cloned() {
            let abort = self.abort_probe(&key, &id);
            if steps
                .take("AbortMultipartUpload", ABORT, abort)
                .await
                .is_some()
            {
                made.uploads.pop();
            }
        }
    }

    /// Completes over an object that is there, which the condition must stop.
    async fn conditional_complete(&self, steps: &mut Steps<'_>, key: &str, made: &mut Made) {
        let ready = async {
            let id = self.create_probe(key).await?;
            let part = self.part_probe(key, &id).await;
            Ok((id, part))
        };
        let Some((id, part)) = steps.quietly(ready).await else {
            return;
        };
        made.uploads.push((key.to_owned(), id.clone()));
        if let Ok(part) = part {
            let name = "CompleteMultipartUpload with If-None-Match";
            let complete = self.complete_probe(key, &id, part, Some("*"));
            if self.condition(steps, name, complete, true).await == Some(false) {
                made.uploads.pop();
            }
        }
    }

    async fn conditional_delete(&self, steps: &mut Steps<'_>, key: &str, made: &mut Made) {
        let name = "DeleteObject with If-Match";
        let work = self.delete_probe(key, Some(NOBODYS));
        if let Some((stopped, took)) = steps.stopped(name, DELETE, work).await {
            let outcome = if stopped {
                Outcome::Done
            } else {
                made.keys.retain(|made| made != key);
                Outcome::Failed(
                    "the store ignores the condition and deleted all the same: a rename can delete what somebody just wrote; set `delete_if_match: false`".to_owned(),
                )
            };
            steps.tell(name, took, outcome);
        }
    }

    /// Takes away everything that was made; what cannot be is named.
    async fn clean(&self, steps: &mut Steps<'_>, mut made: Made) {
        steps.try_again();
        for (key, id) in made.uploads {
            // Where aborting is forbidden, completing and deleting is what is left.
            let complete = async {
                let part = self.part_probe(&key, &id).await?;
                self.complete_probe(&key, &id, part, None).await
            };
            match steps.quietly(complete).await {
                Some(()) => made.keys.push(key),
                None => left_behind(steps, &format!("an unfinished multipart upload of {key:?}")),
            }
        }
        made.keys.sort();
        made.keys.dedup();
        let mut told = false;
        for key in made.keys {
            let delete = self.delete_probe(&key, None);
            let gone = if told {
                steps.quietly(delete).await
            } else {
                told = true;
                steps.take("DeleteObject", DELETE, delete).await
            };
            if gone.is_none() {
                left_behind(steps, &format!("the object {key:?}"));
            }
        }
    }

    async fn put_probe(
        &self,
        key: &str,
        none: Option<&str>,
        only: Option<&str>,
    ) -> Result<Option<String>, Trouble> {
        let content = content();
        let request = self.client.put_object().bucket(&self.bucket).key(key);
        let request = Attributes::new(&self.settings, key, None).put(request, &self.encryption);
        let request = request
            .set_checksum_crc32(self.checksum(&content))
            .set_if_none_match(none.map(str::to_owned))
            .set_if_match(only.map(str::to_owned))
            .body(body(content));
        let put = Box::pin(request.customize().config_override(patience()).send()).await;
        Ok(put.map_err(trouble)?.e_tag)
    }

    async fn get(&self, key: &str) -> Result<(), Trouble> {
        let customer = self.encryption.customer();
        let request: GetObjectFluentBuilder =
            self.client.get_object().bucket(&self.bucket).key(key);
        let request = request
            .range("bytes=0-0")
            .set_sse_customer_algorithm(customer.algorithm())
            .set_sse_customer_key(customer.key())
            .set_sse_customer_key_md5(customer.key_md5());
        match Box::pin(request.customize().config_override(patience()).send()).await {
            Ok(_) => Ok(()),
            // An empty object has no first byte, and may be read.
            Err(error) if status(&error) == Some(416) => Ok(()),
            Err(error) => Err(trouble(error)),
        }
    }

    async fn copy_probe(&self, source: &str, target: &str) -> Result<(), Trouble> {
        let request = self.client.copy_object().bucket(&self.bucket).key(target);
        let request = request.copy_source(self.copy_source(source));
        let attributes = Attributes::new(&self.settings, target, None);
        let request = attributes.replace(request, &self.encryption);
        let copied = Box::pin(request.customize().config_override(patience()).send()).await;
        copied.map(drop).map_err(trouble)
    }

    async fn create_probe(&self, key: &str) -> Result<String, Trouble> {
        let request = self.client.create_multipart_upload().bucket(&self.bucket);
        let attributes = Attributes::new(&self.settings, key, None);
        let request = attributes.create(request.key(key), &self.encryption);
        let created = Box::pin(request.customize().config_override(patience()).send()).await;
        created.map_err(trouble)?.upload_id.ok_or_else(|| Trouble {
            kind: TroubleKind::Other,
            message: "the answer names no upload".to_owned(),
        })
    }

    async fn part_probe(&self, key: &str, id: &str) -> Result<CompletedPart, Trouble> {
        let (content, customer) = (content(), self.encryption.customer());
        let request = self.client.upload_part().bucket(&self.bucket).key(key);
        let request = request
            .upload_id(id)
            .part_number(1)
            .set_checksum_crc32(self.checksum(&content))
            .set_sse_customer_algorithm(customer.algorithm())
            .set_sse_customer_key(customer.key())
            .set_sse_customer_key_md5(customer.key_md5())
            .body(body(content));
        let sent = Box::pin(request.customize().config_override(patience()).send()).await;
        let sent = sent.map_err(trouble)?;
        Ok(CompletedPart::builder()
            .part_number(1)
            .set_e_tag(sent.e_tag)
            .set_checksum_crc32(sent.checksum_crc32)
            .build())
    }

    async fn complete_probe(
        &self,
        key: &str,
        id: &str,
        part: CompletedPart,
        none: Option<&str>,
    ) -> Result<(), Trouble> {
        let customer = self.encryption.customer();
        let parts = CompletedMultipartUpload::builder().parts(part).build();
        let request = self.client.complete_multipart_upload().bucket(&self.bucket);
        let request = request
            .key(key)
            .upload_id(id)
            .multipart_upload(parts)
            .set_if_none_match(none.map(str::to_owned))
            .set_sse_customer_algorithm(customer.algorithm())
            .set_sse_customer_key(customer.key())
            .set_sse_customer_key_md5(customer.key_md5());
        let done = Box::pin(request.customize().config_override(patience()).send()).await;
        done.map(drop).map_err(trouble)
    }

    async fn abort_probe(&self, key: &str, id: &str) -> Result<(), Trouble> {
        let request = self.client.abort_multipart_upload().bucket(&self.bucket);
        let request = request.key(key).upload_id(id);
        let aborted = Box::pin(request.customize().config_override(patience()).send()).await;
        aborted.map(drop).map_err(trouble)
    }

    async fn delete_probe(&self, key: &str, only: Option<&str>) -> Result<(), Trouble> {
        let request = self.client.delete_object().bucket(&self.bucket).key(key);
        let request = request.set_if_match(only.map(str::to_owned));
        let deleted = Box::pin(request.customize().config_override(patience()).send()).await;
        deleted.map(drop).map_err(trouble)
    }

    async fn tag(&self, key: &str) -> Result<(), Trouble> {
        let tag = Tag::builder().key("causeway-check").value("1").build();
        let tagging = tag.and_then(|tag| Tagging::builder().tag_set(tag).build());
        let tagging = tagging.map_err(|error| Trouble {
            kind: TroubleKind::Other,
            message: error.to_string(),
        })?;
        let request = self.client.put_object_tagging().bucket(&self.bucket);
        let request = request.key(key).tagging(tagging).customize();
        let tagged = Box::pin(request.config_override(patience()).send()).await;
        tagged.map(drop).map_err(trouble)
    }

    fn with_customer_key_of_parts(
        &self,
        request: aws_sdk_s3::operation::list_parts::builders::ListPartsFluentBuilder,
    ) -> aws_sdk_s3::operation::list_parts::builders::ListPartsFluentBuilder {
        let customer = self.encryption.customer();
        request
            .set_sse_customer_algorithm(customer.algorithm())
            .set_sse_customer_key(customer.key())
            .set_sse_customer_key_md5(customer.key_md5())
    }
}

fn left_behind(steps: &mut Steps<'_>, what: &str) {
    let message = format!("{what} could not be taken away again: delete it by hand");
    steps.tell("clean up", Duration::ZERO, Outcome::Failed(message));
}

fn content() -> Vec<Bytes> {
    vec![Bytes::from_static(b"causeway check\n")]
}

/// Two tries: a probe says what is there now.
fn patience() -> Builder {
    within(TRY).retry_config(RetryConfig::standard().with_max_attempts(2))
}

fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    let response = error.raw_response()?;
    Some(response.status().as_u16())
}

/// What an answer means for the rest of the probe, and what the store said.
#[expect(clippy::needless_pass_by_value, reason = "what `map_err` calls")]
fn trouble<E>(error: SdkError<E, HttpResponse>) -> Trouble
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let (code, status) = (error.code().unwrap_or_default().to_owned(), status(&error));
    let kind = match (code.as_str(), status) {
        // An answer that cannot be read says nothing of the next one.
        _ if matches!(error, SdkError::ResponseError(_)) => TroubleKind::Other,
        _ if !matches!(error, SdkError::ServiceError(_)) => TroubleKind::Hopeless,
        (
            "NoSuchBucket"
            | "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "InvalidToken"
            | "ExpiredToken"
            | "RequestTimeTooSkewed"
            | "AuthorizationHeaderMalformed"
            | "PermanentRedirect",
            _,
        ) => TroubleKind::Hopeless,
        ("PreconditionFailed" | "ConditionalRequestConflict", _) | (_, Some(412)) => {
            TroubleKind::Condition
        }
        ("NotImplemented", _) | (_, Some(501)) => TroubleKind::Unsupported,
        (_, Some(401 | 403)) => TroubleKind::Denied,
        _ => TroubleKind::Other,
    };
    let message = match (error.message(), status) {
        (Some(text), _) if !text.is_empty() => format!("{code}: {text}"),
        (_, Some(status)) if !code.is_empty() => format!("{code} (HTTP {status})"),
        (_, Some(status)) => format!("HTTP {status}"),
        (_, None) => DisplayErrorContext(&error).to_string(),
    };
    Trouble { kind, message }
}
