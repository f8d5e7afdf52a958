//! What a Kubernetes Service says of the address that clients reach it by.
//!
//! Asks the API for one Service with the account of this pod: nothing is watched or listed, so a Role
//! with `get` on that one object is enough.

use std::{io, net::Ipv4Addr, path::Path, time::Duration};

use serde_json::Value;

use super::address::lookup;
use crate::config::KubernetesService;

/// One request, with its connection.
const DEADLINE: Duration = Duration::from_secs(10);
/// Objects in Kubernetes have 1.5 MiB at most, the limit of etcd.
const ANSWER_BYTES: usize = 2 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServiceError {
    /// The files of the service account.
    #[error(
        "{file} of the service account cannot be read ({source}); is this a pod whose account is mounted?"
    )]
    Account {
        file: &'static str,
        source: io::Error,
    },
    /// The API could not be asked.
    #[error("the Kubernetes API cannot be asked: {0}")]
    Request(String),
    /// The API refused.
    #[error("the Kubernetes API answers {0}; may the service account get this Service?")]
    Status(u16),
    /// The answer is no Service.
    #[error("the answer of the Kubernetes API is no Service: {0}")]
    Answer(&'static str),
    /// The host name of the load balancer.
    #[error("host name {name} cannot be looked up: {source}")]
    Lookup { name: String, source: io::Error },
}

/// The addresses that `service` has now; none while its load balancer is being made.
pub(super) async fn addresses(service: &KubernetesService) -> Result<Vec<Ipv4Addr>, ServiceError> {
    let object = get(service).await?;
    match announced(&object, service.annotation.as_deref()) {
        None => Ok(Vec::new()),
        Some(text) => match text.parse() {
            Ok(address) => Ok(vec![address]),
            Err(_) => lookup(text).await.map_err(|source| ServiceError::Lookup {
                name: text.to_owned(),
                source,
            }),
        },
    }
}

/// The address or host name that the Service announces.
fn announced<'a>(object: &'a Value, annotation: Option<&str>) -> Option<&'a str> {
    let text = if let Some(key) = annotation {
        object["metadata"]["annotations"][key].as_str()
    } else {
        let ingress = object["status"]["loadBalancer"]["ingress"].as_array()?;
        // A load balancer with two families has two entries.
        let address = |entry: &'a Value| {
            let ip = entry["ip"].as_str();
            ip.filter(|ip| ip.parse::<Ipv4Addr>().is_ok())
        };
        let name = |entry: &'a Value| entry["hostname"].as_str();
        let address = ingress.iter().find_map(address);
        address.or_else(|| ingress.iter().find_map(name))
    };
    text.map(str::trim).filter(|text| !text.is_empty())
}

async fn get(service: &KubernetesService) -> Result<Value, ServiceError> {
    // Read each time: tokens live for an hour, certificates are renewed too.
    let directory = &service.account_directory;
    let token = account_file(directory, "token").await?;
    let authority = account_file(directory, "ca.crt").await?;
    let namespace = match &service.namespace {
        Some(namespace) => namespace.clone(),
        None => account_file(directory, "namespace").await?,
    };
    let request = |error: reqwest::Error| ServiceError::Request(chain(&error));
    let authorities =
        reqwest::Certificate::from_pem_bundle(authority.as_bytes()).map_err(request)?;
    let client = reqwest::Client::builder()
        .tls_certs_only(authorities)
        .https_only(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(DEADLINE)
        .build()
        .map_err(request)?;
    let (api, namespace, name) = (&service.api, namespace.trim(), &service.name);
    let mut response = client
        .get(format!(
            "{api}/api/v1/namespaces/{namespace}/services/{name}"
        ))
        .bearer_auth(token.trim())
        .send()
        .await
        .map_err(request)?;
    if !response.status().is_success() {
        return Err(ServiceError::Status(response.status().as_u16()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(request)? {
        if body.len() + chunk.len() > ANSWER_BYTES {
            return Err(ServiceError::Answer("too large"));
        }
        body.extend_from_slice(&chunk);
    }
    let object: Value =
        serde_json::from_slice(&body).map_err(|_| ServiceError::Answer("no JSON"))?;
    if object["kind"] != "Service" {
        return Err(ServiceError::Answer("another kind"));
    }
    Ok(object)
}

async fn account_file(directory: &Path, file: &'static str) -> Result<String, ServiceError> {
    tokio::fs::read_to_string(directory.join(file))
        .await
        .map_err(|source| ServiceError::Account { file, source })
}

/// The error with its causes: the outermost one alone says "error sending request".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn address_is_that_of_the_status_or_of_the_annotation() {
        let status = |ingress: Value| json!({"status": {"loadBalancer": {"ingress": ingress}}});
        let v4 = json!({"ip": "203.0.113.7"});
        let v6 = json!({"ip": "2001:db8::7"});
        let name = json!({"hostname": "lb.example.com"});
        for (object, expected) in [
            (status(json!([v4])), Some("203.0.113.7")),
            (status(json!([v6, v4])), Some("203.0.113.7")),
            (status(json!([name])), Some("lb.example.com")),
            (status(json!([v6])), None),
            (status(json!([])), None),
            (json!({"status": {"loadBalancer": {}}}), None),
            (json!({}), None),
        ] {
            assert_eq!(announced(&object, None), expected, "{object}");
        }
        let annotated = json!({"metadata": {"annotations": {"a/b": " 203.0.113.8 ", "empty": ""}}});
        for (key, expected) in [("a/b", Some("203.0.113.8")), ("empty", None), ("c", None)] {
            assert_eq!(announced(&annotated, Some(key)), expected, "{key}");
        }
    }
}
