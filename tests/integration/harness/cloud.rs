//! A cloud's credential services and a gate before a store: `tests/peers/cloud.py`, on loopback, ended
//! with the test; and TLS before a store that has none.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use rustls::ServerConfig;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};
use tokio_rustls::TlsAcceptor;

use super::{Authority, Store};

/// A script of `tests/peers` that listens on a port it prints, and writes down what it was asked.
pub(crate) struct Peer {
    /// `host:port`.
    pub(crate) address: String,
    directory: TempDir,
    process: Child,
}

impl Peer {
    /// With these arguments, and the file of its record behind them.
    pub(crate) fn start(script: &str, arguments: &[&str]) -> Self {
        Self::start_in(TempDir::new().unwrap(), script, arguments)
    }

    fn start_in(directory: TempDir, script: &str, arguments: &[&str]) -> Self {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let record = directory.path().join("record");
        fs::write(&record, "").unwrap();
        let mut process = Command::new(tests.join(".venv/bin/python"))
            .arg(tests.join("peers").join(script))
            .args(arguments)
            .arg(record)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/.venv, which ./tests/run makes");
        let mut line = String::new();
        let stdout = process.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        Self {
            address: format!("127.0.0.1:{}", line.trim()),
            directory,
            process,
        }
    }

    /// `http://host:port`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it was asked so far.
    pub(crate) fn record(&self) -> String {
        fs::read_to_string(self.directory.path().join("record")).unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Gone already if it failed by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A cloud's services, and the store behind the gate.
pub(crate) struct Cloud(Peer);

impl Cloud {
    /// What the containers' service wants in `Authorization`.
    pub(crate) const CONTAINER_TOKEN: &str = "token of the container";
    /// What STS and Entra ID want as the pod's token.
    pub(crate) const WEB_IDENTITY: &str = "token of the service account";
    /// The role that STS gives.
    pub(crate) const ROLE: &str = "arn:aws:iam::123456789012:role/causeway";

    /// Before this store, a bucket of `kind` (`s3`, `gcs`, `azblob`).
    pub(crate) fn before(store: &Store, kind: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let authority = Authority::new();
        let sts = authority.server(&["sts.amazonaws.com"], &rcgen::PKCS_ECDSA_P256_SHA256);
        for (name, content) in [
            ("cert.pem", &sts.certificate),
            ("key.pem", &sts.key),
            ("ca.pem", &authority.pem()),
            ("token", &Self::WEB_IDENTITY.to_owned()),
        ] {
            fs::write(directory.path().join(name), content).unwrap();
        }
        let file = |name| directory.path().join(name).display().to_string();
        let (certificate, key) = (file("cert.pem"), file("key.pem"));
        let arguments = [kind, &store.credentials(), &certificate, &key];
        Self(Peer::start_in(directory, "cloud.py", &arguments))
    }

    /// `host:port` of services and gate.
    pub(crate) fn address(&self) -> &str {
        &self.0.address
    }

    /// `http://host:port` of services and gate.
    pub(crate) fn url(&self) -> String {
        self.0.url()
    }

    /// The pod's token.
    pub(crate) fn token_file(&self) -> PathBuf {
        self.0.directory.path().join("token")
    }

    /// Who signed the certificate of STS.
    pub(crate) fn authority_file(&self) -> PathBuf {
        self.0.directory.path().join("ca.pem")
    }

    /// What `take` makes of the lines of the record.
    fn noted<T: FromIterator<String>>(&self, take: impl Fn(&Value) -> Option<String>) -> T {
        let record = self.0.record();
        let lines = record.lines();
        lines
            .filter_map(|line| take(&serde_json::from_str(line).unwrap()))
            .collect()
    }

    /// The services that gave something out.
    pub(crate) fn services(&self) -> BTreeSet<String> {
        self.noted(|line| {
            let by = line["by"].as_str().filter(|_| line["issued"].is_string());
            by.map(str::to_owned)
        })
    }

    /// The credentials that requests were let in with whose first line holds `word`.
    pub(crate) fn used(&self, word: &str) -> BTreeSet<String> {
        self.noted(|line| {
            let request = line["request"].as_str().filter(|it| it.contains(word));
            let by = request.and(line["by"].as_str());
            by.map(str::to_owned)
        })
    }

    /// What was given out and must not be told.
    pub(crate) fn secrets(&self) -> Vec<String> {
        self.noted::<Vec<_>>(|line| line["secrets"][0].as_str().map(str::to_owned))
            .into_iter()
            .chain(self.noted::<Vec<_>>(|line| line["secrets"][1].as_str().map(str::to_owned)))
            .collect()
    }

    /// Requests that were not let in, and why.
    pub(crate) fn refused(&self) -> Vec<String> {
        self.noted(|line| line["refused"].is_string().then(|| line.to_string()))
    }
}

/// TLS before a store: what comes is decrypted and goes on as it is. Ends with the value.
pub(crate) struct TlsFront {
    /// `https://host:port`.
    pub(crate) endpoint: String,
    directory: TempDir,
    /// Dropped with its tasks.
    _runtime: Runtime,
}

impl TlsFront {
    /// Before a store's endpoint, with a certificate for 127.0.0.1.
    pub(crate) fn before(store: &Store) -> Self {
        let authority = Authority::new();
        let identity = authority.server(&["127.0.0.1"], &rcgen::PKCS_ECDSA_P256_SHA256);
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("ca.pem"), authority.pem()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(identity.chain(), identity.key())
        .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let upstream = store.endpoint().replace("http://", "");
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let endpoint = format!("https://{}", listener.local_addr().unwrap());
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (acceptor, upstream) = (acceptor.clone(), upstream.clone());
                tokio::spawn(async move {
                    // Who does not trust the certificate goes away: no matter here.
                    let Ok(mut client) = acceptor.accept(client).await else {
                        return;
                    };
                    let mut server = TcpStream::connect(upstream).await.unwrap();
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self {
            endpoint,
            directory,
            _runtime: runtime,
        }
    }

    /// Who signed its certificate.
    pub(crate) fn authority_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }
}
