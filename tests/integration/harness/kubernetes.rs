//! A Kubernetes API that knows one Service and one account.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use rustls::{ServerConfig, crypto::aws_lc_rs};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};
use tokio_rustls::TlsAcceptor;

use super::Authority;

const TOKEN: &str = "token-of-the-account";
const PATH: &str = "/api/v1/namespaces/files/services/causeway-0";

/// Serves on loopback until it is dropped.
pub(crate) struct Kubernetes {
    address: SocketAddr,
    answer: Arc<Mutex<(u16, Value)>>,
    account: TempDir,
    /// Ends the server.
    _runtime: Runtime,
}

impl Kubernetes {
    /// Serves a Service whose load balancer has no address yet.
    pub(crate) fn start() -> Self {
        let authority = Authority::new();
        let identity = authority.server(&["localhost"], &rcgen::PKCS_ECDSA_P256_SHA256);
        let config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(identity.chain(), identity.key())
            .unwrap();
        let account = TempDir::new().unwrap();
        for (name, content) in [
            ("token", TOKEN),
            ("namespace", "files\n"),
            ("ca.crt", &authority.pem()),
        ] {
            fs::write(account.path().join(name), content).unwrap();
        }
        let runtime = Runtime::new().unwrap();
        let socket = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = socket.local_addr().unwrap();
        let answer = Arc::new(Mutex::new((200, service(&json!({}), &json!({})))));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        runtime.spawn(serve(socket, acceptor, Arc::clone(&answer)));
        Self {
            address,
            answer,
            account,
            _runtime: runtime,
        }
    }

    /// What the configuration of the server says.
    pub(crate) fn address(&self, annotation: Option<&str>) -> Value {
        let mut service = json!({
            "name": "causeway-0",
            "api": format!("https://localhost:{}", self.address.port()),
            "account_directory": self.directory(),
        });
        if let Some(annotation) = annotation {
            service["annotation"] = annotation.into();
        }
        json!({ "service": service })
    }

    /// Where the account's files lie.
    pub(crate) fn directory(&self) -> PathBuf {
        self.account.path().to_owned()
    }

    /// Gives the load balancer addresses, and the Service annotations.
    pub(crate) fn announce(&self, ingress: &Value, annotations: &Value) {
        let balancer = json!({"loadBalancer": {"ingress": ingress}});
        *self.answer.lock().unwrap() = (200, service(&balancer, annotations));
    }

    /// Answers everything with an error.
    pub(crate) fn fail(&self, status: u16) {
        *self.answer.lock().unwrap() = (status, json!({"kind": "Status", "code": status}));
    }
}

fn service(status: &Value, annotations: &Value) -> Value {
    let metadata = json!({"name": "causeway-0", "namespace": "files", "annotations": annotations});
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "status": status})
}

async fn serve(socket: TcpListener, acceptor: TlsAcceptor, answer: Arc<Mutex<(u16, Value)>>) {
    while let Ok((stream, _)) = socket.accept().await {
        let (acceptor, answer) = (acceptor.clone(), Arc::clone(&answer));
        // A client that does not trust the certificate leaves in the handshake.
        tokio::spawn(async move {
            let _ = respond(stream, acceptor, answer).await;
        });
    }
}

async fn respond(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    answer: Arc<Mutex<(u16, Value)>>,
) -> std::io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await?);
    }
    let request = String::from_utf8_lossy(&request).to_ascii_lowercase();
    let (status, body) = if !request.contains(&format!("authorization: bearer {TOKEN}\r\n")) {
        (401, json!({"kind": "Status"}))
    } else if request.starts_with(&format!("get {PATH} ")) {
        answer.lock().unwrap().clone()
    } else {
        (404, json!({"kind": "Status"}))
    };
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} Answer\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len(),
    );
    stream.write_all((head + &body).as_bytes()).await?;
    stream.shutdown().await
}
