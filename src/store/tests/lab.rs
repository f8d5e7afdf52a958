//! The stores that the suite runs over, and what each can do.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::{
    super::{LocalStore, ObjectStore, Retries, Store},
    bytes, put,
};
use crate::{
    access::StoreKey,
    config::{
        Checksum, ConcurrentUploads, Deferred, FsBackend, S3Backend, S3Credentials, S3Encryption,
        S3Metadata, S3Provider, Secret, SetTime, Timeouts,
    },
};

/// What not every store can do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Need {
    /// A condition on what is read.
    Conditions,
    /// Directories that exist while they are empty.
    Directories,
    /// Renaming a directory.
    RenameDirectory,
}

/// One store under test and what is needed to look behind it.
pub(super) struct Lab {
    name: &'static str,
    store: Arc<dyn Store>,
    directory: PathBuf,
    s3: Option<S3Backend>,
    _files: TempDir,
    server: Option<JoinHandle<()>>,
}

pub(super) fn key(name: &str) -> StoreKey {
    StoreKey::for_test("lab", name)
}

/// Defines one test per store for each behaviour.
macro_rules! on_every_store {
    ($(async fn $test:ident($lab:ident) $body:block)*) => {$(
        mod $test {
            #[allow(unused_imports, reason = "not every behaviour needs every name")]
            use super::*;

            async fn behaviour($lab: &Lab) $body

            #[tokio::test]
            async fn local() {
                behaviour(&Lab::local()).await;
            }

            #[tokio::test]
            async fn stand_in() {
                behaviour(&Lab::stand_in().await).await;
            }

            #[tokio::test]
            async fn gateway() {
                if let Some(lab) = Lab::gateway().await {
                    behaviour(&lab).await;
                }
            }
        }
    )*};
}
pub(super) use on_every_store;

impl Lab {
    pub(super) fn local() -> Self {
        let files = TempDir::new().unwrap();
        let root = files.path().to_owned();
        let store = LocalStore::open(&FsBackend {
            durability: crate::config::Durability::Full,
            free_space_bytes: 0,
            root: root.clone(),
            set_time: SetTime::Store,
        })
        .unwrap();
        Self {
            name: "local",
            store: Arc::new(store),
            directory: root,
            s3: None,
            _files: files,
            server: None,
        }
    }

    /// `s3s-fs` over a temporary directory, served on a free port by a task that ends with the lab.
    pub(super) async fn stand_in() -> Self {
        let files = TempDir::new().unwrap();
        let directory = files.path().join("bucket");
        std::fs::create_dir(&directory).unwrap();
        let (address, server) = serve(files.path()).await;
        let s3 = s3_backend(&format!("http://{address}"), "key", "secret", "bucket", "");
        let store =
            ObjectStore::open_s3(&s3, &Timeouts::default(), &Retries::default(), None).unwrap();
        Self {
            name: "stand-in",
            store: Arc::new(store),
            directory,
            s3: Some(s3),
            _files: files,
            server: Some(server),
        }
    }

    /// A fresh bucket of the gateway that the environment names.
    pub(super) async fn gateway() -> Option<Self> {
        Self::gateway_below("").await
    }

    /// The same, everything below a prefix of the bucket.
    pub(super) async fn gateway_below(root: &str) -> Option<Self> {
        Self::gateway_with(|s3| root.clone_into(&mut s3.root)).await
    }

    /// The same, with other settings.
    pub(super) async fn gateway_with(change: impl FnOnce(&mut S3Backend)) -> Option<Self> {
        static BUCKETS: AtomicU32 = AtomicU32::new(0);
        let Ok(gateway) = std::env::var("CAUSEWAY_TEST_S3") else {
            println!("skipped: CAUSEWAY_TEST_S3 (endpoint,access,secret) is not set");
            assert!(
                std::env::var("REQUIRE_PEERS").is_err(),
                "a gateway is required here"
            );
            return None;
        };
        let [endpoint, access, secret] = gateway
            .split(',')
            .collect::<Vec<_>>()
            .try_into()
            .expect("endpoint,access,secret");
        let bucket = format!(
            "t{}-{}",
            std::process::id(),
            BUCKETS.fetch_add(1, Ordering::Relaxed)
        );
        let mut s3 = s3_backend(endpoint, access, secret, &bucket, "");
        change(&mut s3);
        python(&s3, "s3.create_bucket(Bucket=bucket)").await;
        let store =
            ObjectStore::open_s3(&s3, &Timeouts::default(), &Retries::default(), None).unwrap();
        Some(Self {
            name: "gateway",
            store: Arc::new(store),
            directory: PathBuf::new(),
            s3: Some(s3),
            _files: TempDir::new().unwrap(),
            server: None,
        })
    }

    /// The same bucket with other settings.
    pub(super) fn changed(&self, change: impl FnOnce(&mut S3Backend)) -> Self {
        let mut s3 = self.s3.clone().expect("an S3 store");
        change(&mut s3);
        Self {
            name: self.name,
            store: Arc::new(
                ObjectStore::open_s3(&s3, &Timeouts::default(), &Retries::default(), None).unwrap(),
            ),
            directory: self.directory.clone(),
            s3: Some(s3),
            _files: TempDir::new().unwrap(),
            server: None,
        }
    }

    pub(super) fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    /// The same, to be held.
    pub(super) fn shared(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether this store can do it; a printed word where not.
    pub(super) fn can(&self, need: Need) -> bool {
        let can = match (self.name, need) {
            ("local", _) => true,
            // s3s-fs: GET ignores `If-Match`; a marker becomes a directory of the disk, which no
            // listing shows and HEAD answers with 500.
            ("stand-in", _) => false,
            (_, need) => !matches!(need, Need::RenameDirectory),
        };
        if !can {
            println!("{}: cannot {need:?}", self.name);
        }
        can
    }

    /// Enough entries for more than one page or batch.
    pub(super) fn many(&self) -> usize {
        if self.name == "stand-in" {
            1_050
        } else {
            2_345
        }
    }

    pub(super) async fn fill(&self, directory: &str, count: usize) {
        if self.name == "gateway" {
            let script = format!(
                "from concurrent.futures import ThreadPoolExecutor as P\n\
                 list(P(16).map(lambda n: s3.put_object(Bucket=bucket, Key=f'{directory}/{{n:06}}', Body=b'x'), range({count})))"
            );
            python(self.s3.as_ref().unwrap(), &script).await;
        } else {
            for number in 0..count {
                let path = self.directory.join(directory).join(format!("{number:06}"));
                std::fs::write(path, b"x").unwrap();
            }
        }
        put(self.store(), &format!("{directory}/000000"), &bytes(1)).await;
    }

    /// The same bucket, reached through a proxy on a loopback port.
    pub(super) async fn behind_proxy<Proxy, Started>(
        &self,
        proxy: impl FnOnce(String) -> Started,
    ) -> (Box<dyn Store>, Proxy)
    where
        Started: Future<Output = (u16, Proxy)>,
    {
        let mut s3 = self.s3.clone().expect("an S3 store");
        let endpoint = s3.endpoint.take().unwrap();
        let (port, proxy) = proxy(endpoint.replace("http://", "")).await;
        s3.endpoint = Some(format!("http://127.0.0.1:{port}"));
        (
            Box::new(
                ObjectStore::open_s3(&s3, &Timeouts::default(), &Retries::default(), None).unwrap(),
            ),
            proxy,
        )
    }

    /// Runs a script with `s3` (boto3) and `bucket`; its last line of output is the answer.
    pub(super) async fn script(&self, script: &str) -> String {
        python(self.s3.as_ref().expect("an S3 store"), script).await
    }

    /// No unfinished upload and no temporary file.
    pub(super) async fn assert_nothing_left(&self) {
        match self.name {
            "local" => {
                let left = std::fs::read_dir(self.directory.join(".causeway-uploads")).unwrap();
                assert_eq!(left.count(), 0);
            }
            "gateway" => {
                let left = self
                    .script(
                        "print(len(s3.list_multipart_uploads(Bucket=bucket).get('Uploads', [])))",
                    )
                    .await;
                assert_eq!(left, "0", "open multipart uploads");
            }
            _ => println!("{}: cannot list unfinished uploads", self.name),
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

fn s3_backend(endpoint: &str, access: &str, secret: &str, bucket: &str, root: &str) -> S3Backend {
    S3Backend {
        bucket: bucket.to_owned(),
        region: "us-east-1".to_owned(),
        endpoint: Some(endpoint.to_owned()),
        ca_file: None,
        switches: S3Provider::Generic.switches(),
        root: root.to_owned(),
        credentials: Some(S3Credentials {
            access_key_id: access.to_owned(),
            secret_access_key: Secret::new(secret),
            session_token: None,
        }),
        virtual_host_style: false,
        part_bytes: 5 << 20,
        parts_in_flight: 2,
        concurrent_uploads: ConcurrentUploads::LastWins,
        storage_class: None,
        encryption: S3Encryption::None,
        keep: S3Metadata {
            checksums: vec![Checksum::Sha256, Checksum::Crc32],
            uploader: true,
            session: true,
        },
        content_type_by_name: true,
        rename_bytes: 5 << 40,
        set_time: SetTime::Refuse,
        set_time_bytes: 5 << 30,
        list_set_times: false,
        deferred: Deferred::default(),
    }
}

async fn serve(directory: &Path) -> (SocketAddr, JoinHandle<()>) {
    let files = s3s_fs::FileSystem::new(directory).unwrap();
    let mut builder = s3s::service::S3ServiceBuilder::new(files);
    builder.set_auth(s3s::auth::SimpleAuth::from_single("key", "secret"));
    let service = builder.build();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        // The connections belong to this task and end with it.
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            let service = service.clone();
            connections.spawn(async move {
                let http = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = http.serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    (address, server)
}

/// boto3 sees what OpenDAL does not: open uploads, raw keys, metadata.
async fn python(s3: &S3Backend, script: &str) -> String {
    let credentials = s3.credentials.as_ref().unwrap();
    let prelude = format!(
        "import boto3, botocore\n\
         s3 = boto3.client('s3', endpoint_url={:?}, aws_access_key_id={:?}, aws_secret_access_key={:?}, region_name='us-east-1', \
         config=botocore.config.Config(s3={{'addressing_style': 'path'}}, max_pool_connections=16))\n\
         bucket = {:?}\n",
        s3.endpoint.as_deref().unwrap(),
        credentials.access_key_id,
        credentials.secret_access_key.expose(),
        s3.bucket,
    );
    let output = tokio::process::Command::new("python3")
        .args(["-c", &(prelude + script)])
        .output()
        .await
        .expect("python3 with boto3");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let answer = String::from_utf8(output.stdout).unwrap();
    answer.lines().last().unwrap_or_default().to_owned()
}
