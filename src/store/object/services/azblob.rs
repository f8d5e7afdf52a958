//! Azure Blob Storage.

use opendal::{Operator, services::Azblob};
use reqsign_azure_storage::{
    ClientSecretCredentialProvider, Credential, DefaultCredentialProvider, ImdsCredentialProvider,
    StaticCredentialProvider, WorkloadIdentityCredentialProvider,
};
use reqsign_core::ProvideCredentialChain;

use crate::config::{AzblobBackend, AzblobCredentials};

/// No root: [`super::super::keys`] says why. What the operator wrote is the only source of credentials;
/// only `Default` looks around.
pub(in super::super) fn azblob(backend: &AzblobBackend) -> opendal::Result<Operator> {
    let chain = ProvideCredentialChain::<Credential>::new();
    let chain = match &backend.credentials {
        AzblobCredentials::Default => chain.push(DefaultCredentialProvider::new()),
        AzblobCredentials::AccountKey(key) => chain.push(StaticCredentialProvider::new_shared_key(
            &backend.account,
            key.expose(),
        )),
        AzblobCredentials::SasToken(token) => {
            // As the portal shows it, with the question mark of a query, or without.
            let token = token.expose().trim_start_matches('?');
            chain.push(StaticCredentialProvider::new_sas_token(token))
        }
        AzblobCredentials::ClientSecret {
            tenant_id,
            client_id,
            client_secret,
        } => chain.push(
            ClientSecretCredentialProvider::new()
                .with_tenant_id(tenant_id)
                .with_client_id(client_id)
                .with_client_secret(client_secret.expose()),
        ),
        AzblobCredentials::WorkloadIdentity => {
            chain.push(WorkloadIdentityCredentialProvider::new())
        }
        AzblobCredentials::ManagedIdentity => chain.push(ImdsCredentialProvider::new()),
    };
    let mut builder = Azblob::default()
        .container(&backend.container)
        .endpoint(&backend.endpoint)
        .account_name(&backend.account)
        .credential_provider_chain(chain);
    if let AzblobCredentials::AccountKey(key) = &backend.credentials {
        // Besides the chain: OpenDAL checks its encoding.
        builder = builder.account_key(key.expose());
    }
    Operator::new(builder)
}
