//! What an answer of S3, or its absence, means.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::store::{ErrorKind, StoreError};

type Failed<E> = SdkError<E, HttpResponse>;

/// The error of a request, after all its tries.
pub(super) fn failed<E>(operation: &'static str, error: Failed<E>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    StoreError::with_source(kind(&error), operation, error)
}

/// Whether the store said that there is no such multipart upload.
pub(super) fn is_no_such_upload<E: ProvideErrorMetadata>(error: &Failed<E>) -> bool {
    error.code() == Some("NoSuchUpload")
        || status(error) == Some(404) && error.code().is_none_or(|code| code == "NotFound")
}

/// Whether the store may have done what it was asked although it did not say so.
pub(super) fn may_be_carried_out<E: ProvideErrorMetadata>(error: &Failed<E>) -> bool {
    match error {
        SdkError::ConstructionFailure(_) => false,
        SdkError::ServiceError(_) => kind(error) == ErrorKind::Unavailable,
        // No answer, or none that can be read.
        _ => true,
    }
}

fn status<E>(error: &Failed<E>) -> Option<u16> {
    error
        .raw_response()
        .map(|response| response.status().as_u16())
}

fn kind<E: ProvideErrorMetadata>(error: &Failed<E>) -> ErrorKind {
    match error {
        SdkError::ConstructionFailure(_) => ErrorKind::Internal,
        SdkError::ServiceError(_) => of_answer(status(error).unwrap_or_default(), error.code()),
        // No answer, or none that can be read.
        _ => ErrorKind::Unavailable,
    }
}

/// Codes first: stores agree on them more than on statuses. HEAD has no body and so no code.
fn of_answer(status: u16, code: Option<&str>) -> ErrorKind {
    match code.unwrap_or_default() {
        "NoSuchKey" | "NotFound" => ErrorKind::NotFound,
        "QuotaExceeded" | "XMinioStorageFull" | "InsufficientStorage" | "EntityTooLarge" => {
            ErrorKind::StorageFull
        }
        "PreconditionFailed" | "ConditionalRequestConflict" | "OperationAborted" => {
            ErrorKind::Changed
        }
        "SlowDown" | "TooManyRequests" | "Throttling" | "ThrottlingException" => ErrorKind::Busy,
        "RequestTimeout" | "InternalError" | "ServiceUnavailable" => ErrorKind::Unavailable,
        "NotImplemented" => ErrorKind::Unsupported,
        "KeyTooLongError" => ErrorKind::NameNotAllowed,
        // A bucket that is not there is a mistake of the operator, not of the client.
        "NoSuchBucket" | "NoSuchUpload" => ErrorKind::Internal,
        _ => match status {
            404 => ErrorKind::NotFound,
            401 | 403 => ErrorKind::PermissionDenied,
            409 | 412 => ErrorKind::Changed,
            416 => ErrorKind::OffsetBeyondEnd,
            429 => ErrorKind::Busy,
            501 => ErrorKind::Unsupported,
            507 => ErrorKind::StorageFull,
            499 | 500.. => ErrorKind::Unavailable,
            _ => ErrorKind::Internal,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_map_to_kinds() {
        for (status, code, kind) in [
            (404, None, ErrorKind::NotFound),
            (404, Some("NoSuchKey"), ErrorKind::NotFound),
            (404, Some("NoSuchBucket"), ErrorKind::Internal),
            (403, Some("AccessDenied"), ErrorKind::PermissionDenied),
            (403, Some("QuotaExceeded"), ErrorKind::StorageFull),
            (412, None, ErrorKind::Changed),
            (416, Some("InvalidRange"), ErrorKind::OffsetBeyondEnd),
            (503, Some("SlowDown"), ErrorKind::Busy),
            (503, None, ErrorKind::Unavailable),
            (500, Some("UnknownError"), ErrorKind::Unavailable),
            (501, Some("NotImplemented"), ErrorKind::Unsupported),
            (400, Some("InvalidPart"), ErrorKind::Internal),
        ] {
            assert_eq!(of_answer(status, code), kind, "{status} {code:?}");
        }
    }
}
