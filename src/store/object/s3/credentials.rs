//! Where the keys come from: the configuration, or the chain that OpenDAL uses too (environment,
//! profile, web identity, ECS, EC2 metadata), so that one setting serves both clients.

use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, error::CredentialsError, future},
};
use opendal::HttpTransporter;
use reqsign_aws_v4::DefaultCredentialProvider;
use reqsign_core::{Context, OsEnv, ProvideCredential, time::Timestamp};
use reqsign_file_read_tokio::TokioFileRead;

use crate::config::S3Credentials;

/// The key pair of the configuration.
pub(super) fn fixed(credentials: &S3Credentials) -> Credentials {
    Credentials::new(
        &credentials.access_key_id,
        credentials.secret_access_key.expose(),
        credentials
            .session_token
            .as_ref()
            .map(|token| token.expose().to_owned()),
        None,
        "configuration",
    )
}

/// The provider chain. The SDK keeps what it gives until shortly before it expires.
#[derive(Debug)]
pub(super) struct Chain {
    provider: DefaultCredentialProvider,
    context: Context,
}

impl Chain {
    pub(super) fn new(transport: HttpTransporter) -> Self {
        Self {
            provider: DefaultCredentialProvider::new(),
            context: Context::new()
                .with_file_read(TokioFileRead)
                .with_env(OsEnv)
                .with_http_send(transport),
        }
    }

    async fn find(&self) -> Result<Credentials, CredentialsError> {
        let found = self.provider.provide_credential(&self.context).await;
        let found = found
            .map_err(CredentialsError::provider_error)?
            .ok_or_else(|| {
                CredentialsError::not_loaded("no link of the provider chain has credentials")
            })?;
        Ok(Credentials::new(
            found.access_key_id,
            found.secret_access_key,
            found.session_token,
            found.expires_in.map(Timestamp::as_system_time),
            "chain",
        ))
    }
}

impl ProvideCredentials for Chain {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.find())
    }
}
