//! [`Http`]: the AWS SDK over our own `reqwest` client, so that one set of deadlines, certificates and
//! connections serves every request of a backend.

use aws_smithy_runtime_api::client::{
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
    },
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use aws_smithy_types::body::SdkBody;
use http::header::{CONTENT_LENGTH, EXPECT, HeaderValue};

/// A `reqwest` client as the SDK wants it.
#[derive(Clone, Debug)]
pub(super) struct Http(pub(super) reqwest::Client);

impl HttpClient for Http {
    fn http_connector(
        &self,
        _settings: &HttpConnectorSettings,
        _components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Http {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.0.clone();
        HttpConnectorFuture::new(async move { send(&client, request).await })
    }
}

async fn send(
    client: &reqwest::Client,
    request: HttpRequest,
) -> Result<HttpResponse, ConnectorError> {
    let request = request
        .try_into_http1x()
        .map_err(|error| ConnectorError::user(error.into()))?;
    let (mut parts, body) = request.into_parts();
    // The HTTP client does not wait for the interim answer, so the header would only cost one.
    parts.headers.remove(EXPECT);
    let sends = matches!(parts.method, http::Method::PUT | http::Method::POST);
    let body = match body.bytes() {
        Some([]) => {
            // Ceph refuses an UploadPartCopy that does not say so: 411 MissingContentLength.
            if sends {
                let zero = HeaderValue::from_static("0");
                parts.headers.entry(CONTENT_LENGTH).or_insert(zero);
            }
            reqwest::Body::default()
        }
        Some(bytes) => reqwest::Body::from(bytes.to_vec()),
        None => reqwest::Body::wrap(body),
    };
    let request = http::Request::from_parts(parts, body);
    let request =
        reqwest::Request::try_from(request).map_err(|error| ConnectorError::user(error.into()))?;
    let response = client.execute(request).await.map_err(failed)?;
    let response = http::Response::<reqwest::Body>::from(response).map(SdkBody::from_body_1_x);
    HttpResponse::try_from(response).map_err(|error| ConnectorError::user(error.into()))
}

/// Everything that the network did is worth another try; the SDK decides by this kind.
fn failed(error: reqwest::Error) -> ConnectorError {
    if error.is_builder() {
        ConnectorError::user(error.into())
    } else if error.is_timeout() {
        ConnectorError::timeout(error.into())
    } else {
        ConnectorError::io(error.into())
    }
}
