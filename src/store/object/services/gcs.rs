//! Google Cloud Storage through OpenDAL.

use std::{fs, path::Path};

use opendal::{Operator, services::Gcs};
use serde_json::Value;

use super::super::super::{ErrorKind, Result, StoreError};
use crate::config::{GcsBackend, GcsCredentials};

/// Largest credentials file; the real ones have 2 to 3 KiB.
const FILE_BYTES: u64 = 64 << 10;

/// No root: [`super::super::keys`] says why.
pub(in super::super) fn gcs(backend: &GcsBackend) -> Result<Operator> {
    let mut builder = Gcs::default().bucket(&backend.bucket);
    if let Some(endpoint) = &backend.endpoint {
        builder = builder.endpoint(endpoint);
    }
    if let Some(class) = &backend.storage_class {
        builder = builder.default_storage_class(class);
    }
    builder = match &backend.credentials {
        GcsCredentials::Default => builder,
        GcsCredentials::Anonymous => builder.skip_signature(),
        GcsCredentials::File(file) => {
            check(file)?;
            // Nothing else is looked at, so that a wrong file is an error and not another account.
            builder
                .disable_config_load()
                .disable_vm_metadata()
                .credential_path(&file.display().to_string())
        }
    };
    Operator::new(builder).map_err(|error| StoreError::from_opendal("open", error))
}

/// Reads a file with credentials and demands what its kind must have: OpenDAL ignores a broken one in
/// silence and looks for others, so the mistake would come up as a 403 of the store.
pub(in super::super::super) fn check(file: &Path) -> Result<Vec<u8>> {
    let wrong = |problem: String| {
        StoreError::with_source(
            ErrorKind::Internal,
            "open",
            format!("credentials_file {}: {problem}", file.display()),
        )
    };
    let length = fs::metadata(file)
        .map_err(|error| wrong(format!("cannot read: {error}")))?
        .len();
    if length > FILE_BYTES {
        return Err(wrong(format!(
            "{length} bytes are too many for a credentials file"
        )));
    }
    let text = fs::read(file).map_err(|error| wrong(format!("cannot read: {error}")))?;
    // The parser's message tells line and column and repeats nothing.
    let json: Value =
        serde_json::from_slice(&text).map_err(|error| wrong(format!("no JSON: {error}")))?;
    let needed: &[&str] = match json["type"].as_str() {
        Some("service_account") => &["client_email", "private_key"],
        Some("authorized_user") => &["client_id", "client_secret", "refresh_token"],
        Some("external_account") => &["audience", "subject_token_type", "credential_source"],
        Some("impersonated_service_account") => {
            &["service_account_impersonation_url", "source_credentials"]
        }
        _ => {
            return Err(wrong(
                "expected `type` service_account, external_account, authorized_user or \
                 impersonated_service_account"
                    .to_owned(),
            ));
        }
    };
    if let Some(key) = needed.iter().find(|key| json[**key].is_null()) {
        return Err(wrong(format!("lacks the key {key}")));
    }
    if json["type"] == "service_account"
        && !json["private_key"]
            .as_str()
            .is_some_and(|key| key.contains("-----BEGIN") && key.contains("PRIVATE KEY-----"))
    {
        return Err(wrong("private_key is no PEM key".to_owned()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_credentials_are_refused_in_words() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key.json");
        let said = |text: &str| {
            fs::write(&file, text).unwrap();
            check(&file).map_err(|error| {
                std::error::Error::source(&error).map_or(String::new(), ToString::to_string)
            })
        };
        for (text, word) in [
            (
                "ZXlKMGVYQmxJam9pYzJWeWRtbGpaVjloWTJOdmRXNTBJbjA=",
                "no JSON",
            ),
            ("{}", "expected `type`"),
            (
                r#"{"type": "service_account"}"#,
                "lacks the key client_email",
            ),
            (
                r#"{"type": "service_account", "client_email": "a@b", "private_key": "c2VjcmV0"}"#,
                "private_key is no PEM key",
            ),
            (
                r#"{"type": "external_account", "audience": "a"}"#,
                "lacks the key subject_token_type",
            ),
        ] {
            let message = said(text).unwrap_err();
            assert!(message.contains(word), "{message}");
            assert!(!message.contains("c2VjcmV0"), "{message}");
        }
        let good = r#"{"type": "service_account", "client_email": "a@b",
            "private_key": "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n"}"#;
        assert!(said(good).is_ok());
        assert!(check(Path::new("/nonexistent")).is_err());
    }
}
