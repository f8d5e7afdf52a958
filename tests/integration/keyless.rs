//! Credentials that no configuration holds: given out by a cloud's own services, for a short time.
//!
//! The services are doubles, what they give out is checked by a gate before a real store or a stand-in,
//! signatures and ends included (`tests/peers/cloud.py`).

use serde_json::Value;

use crate::harness::{Builder, Cloud, Raw, Server, Store, bytes};

/// A server on this store behind the gate, without the store's own credentials, and without whatever the
/// environment of the tests has.
fn behind(cloud: &Cloud, store: &Store, endpoint: &str, add: &[(&str, &str)]) -> Builder {
    let mut backend = store.backend();
    let keys = backend.as_object_mut().unwrap();
    for key in [
        "access_key_id",
        "secret_access_key",
        "anonymous",
        "account_key",
    ] {
        keys.remove(key);
    }
    keys.insert("endpoint".to_owned(), endpoint.into());
    for (key, value) in add {
        keys.insert((*key).to_owned(), Value::from(*value));
    }
    Server::with(store)
        .set("/backends/main", backend)
        .environment("HOME", "/nonexistent")
        // Nobody asks a real service by mistake.
        .environment("HTTPS_PROXY", &cloud.url())
        .environment("HTTP_PROXY", &cloud.url())
        .environment("NO_PROXY", "127.0.0.1")
}

/// Puts, reads, lists and deletes; only `service` was asked, and nobody was refused.
#[track_caller]
fn works(server: &Server, cloud: &Cloud, store: &Store, service: &str) {
    let mut raw = Raw::explicit(server);
    let (small, large) = (bytes(1, 1000), bytes(2, 11 << 20));
    raw.expect("MKD d", 257);
    raw.store("STOR d/small", &small);
    raw.store("STOR d/large", &large);
    assert!(raw.retrieve("RETR d/large") == large);
    assert_eq!(raw.names("NLST d"), ["d/large", "d/small"]);
    raw.expect("DELE d/large", 250);
    raw.expect("RNFR d/small", 350);
    raw.expect("RNTO d/moved", 250);
    assert!(raw.retrieve("RETR d/moved") == small);
    raw.expect("RNFR d/moved", 350);
    raw.expect("RNTO d/small", 250);
    let stored = store.bytes("alice/d/small");
    assert_eq!(stored.as_deref(), Some(&small[..]));
    let services: Vec<_> = cloud.services().into_iter().collect();
    assert_eq!(services, [service]);
    assert_eq!(cloud.refused(), [""; 0]);
    let log = server.log();
    for secret in cloud.secrets() {
        let told = log.iter().find(|line| line.contains(&secret));
        assert_eq!(told, None);
    }
}

fn container(store: &Store) -> (Cloud, Builder) {
    let cloud = Cloud::before(store, "s3");
    let builder = behind(&cloud, store, &cloud.url(), &[])
        .environment(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            &format!("{}/container", cloud.url()),
        )
        .environment("AWS_CONTAINER_AUTHORIZATION_TOKEN", Cloud::CONTAINER_TOKEN)
        // The next link of the chain is never asked.
        .environment("AWS_EC2_METADATA_SERVICE_ENDPOINT", &cloud.url());
    (cloud, builder)
}

/// ECS, Fargate and EKS Pod Identity.
#[test]
fn aws_gives_a_container_credentials() {
    let store = Store::s3();
    let (cloud, builder) = container(&store);
    works(&builder.start(), &cloud, &store, "container");
}

/// EC2: IMDSv2.
#[test]
fn aws_gives_an_instance_credentials() {
    let store = Store::s3();
    let cloud = Cloud::before(&store, "s3");
    let server = behind(&cloud, &store, &cloud.url(), &[])
        .environment("AWS_EC2_METADATA_SERVICE_ENDPOINT", &cloud.url())
        .start();
    works(&server, &cloud, &store, "instance");
}

/// EKS, IRSA: the pod's token for a role, by STS over TLS.
#[test]
fn aws_gives_a_service_account_credentials() {
    let store = Store::s3();
    let cloud = Cloud::before(&store, "s3");
    let authority = cloud.authority_file();
    let ca_file = ("ca_file", authority.to_str().unwrap());
    let server = behind(&cloud, &store, &cloud.url(), &[ca_file])
        .environment("AWS_ROLE_ARN", Cloud::ROLE)
        .environment(
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            cloud.token_file().to_str().unwrap(),
        )
        .environment("AWS_EC2_METADATA_SERVICE_ENDPOINT", &cloud.url())
        .start();
    works(&server, &cloud, &store, "sts");
}

/// One upload that is longer than the life of the credentials it began with.
#[test]
fn credentials_that_end_in_mid_upload_are_replaced() {
    const PART: usize = 5 << 20;
    let store = Store::s3();
    let (cloud, builder) = container(&store);
    let server = builder.set("/backends/main/part_size_bytes", PART).start();
    let mut raw = Raw::explicit(&server);
    let part = bytes(3, PART);
    let mut data = raw.begin_transfer("STOR file");
    let mut parts = 0;
    while cloud.used("partNumber=").len() < 3 {
        data.write(&part).unwrap();
        parts += 1;
        assert!(parts < 400, "{:?}", cloud.used("partNumber="));
    }
    data.finish();
    raw.reply().expect(226);
    let stored = store.bytes("alice/file").unwrap();
    assert!(stored == part.repeat(parts), "{} bytes", stored.len());
    assert_eq!(cloud.refused(), [""; 0]);
}

/// Without any source of credentials, or with one that refuses, a client hears of it and does not hang.
#[test]
fn a_service_that_refuses_is_an_error_in_words() {
    let store = Store::s3();
    let (cloud, builder) = container(&store);
    let server = builder
        .environment("AWS_CONTAINER_AUTHORIZATION_TOKEN", "another")
        .environment("AWS_EC2_METADATA_DISABLED", "true")
        .set("/timeouts/store_seconds", 4)
        .set("/timeouts/commit_seconds", 4)
        .start();
    let mut raw = Raw::explicit(&server);
    raw.be_patient();
    let reply = raw.failing_transfer_with_data("STOR file");
    assert!([451, 550].contains(&reply.code), "{reply}");
    assert_eq!(store.files().len(), 0);
    assert!(!cloud.refused().is_empty());
}

/// GKE with Workload Identity, GCE, Cloud Run: tokens of the metadata server.
#[test]
#[ignore = "needs the stand-ins: run by ./tests/behaviour"]
fn google_gives_a_pod_tokens() {
    let store = Store::gcs("opendal");
    let cloud = Cloud::before(&store, "gcs");
    let server = behind(&cloud, &store, &cloud.url(), &[])
        .environment("GCE_METADATA_HOST", cloud.address())
        .start();
    works(&server, &cloud, &store, "metadata");
}

fn azure(cloud: &Cloud, store: &Store, identity: &str) -> Builder {
    let account = store.endpoint();
    let account = account.rsplit('/').next().unwrap();
    let endpoint = format!("{}/{account}", cloud.url());
    behind(cloud, store, &endpoint, &[("identity", identity)])
}

/// A virtual machine's managed identity.
#[test]
#[ignore = "needs the stand-ins: run by ./tests/behaviour"]
fn azure_gives_a_machine_tokens() {
    let store = Store::azblob();
    let cloud = Cloud::before(&store, "azblob");
    let tokens = format!("{}/metadata/identity/oauth2/token", cloud.url());
    let server = azure(&cloud, &store, "managed")
        .environment("AZURE_IMDS_ENDPOINT", &tokens)
        .start();
    works(&server, &cloud, &store, "instance");
}

/// AKS: the pod's federated token for one of Entra ID.
#[test]
#[ignore = "needs the stand-ins: run by ./tests/behaviour"]
fn azure_gives_a_service_account_tokens() {
    let store = Store::azblob();
    let cloud = Cloud::before(&store, "azblob");
    let server = azure(&cloud, &store, "workload")
        .environment("AZURE_TENANT_ID", "tenant")
        .environment("AZURE_CLIENT_ID", "client")
        .environment("AZURE_AUTHORITY_HOST", &cloud.url())
        .environment(
            "AZURE_FEDERATED_TOKEN_FILE",
            cloud.token_file().to_str().unwrap(),
        )
        .start();
    works(&server, &cloud, &store, "entra");
}
