//! The place where the server keeps files, seen without the server.

use std::{
    collections::BTreeSet,
    env, fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{self, Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::until;

/// Prefix inside the bucket, so that a server that forgets its root is seen.
const ROOT: &str = "test/root";

/// One test's own store. Paths are relative to the backend's root: `alice/file`.
pub(crate) enum Store {
    Local(TempDir),
    Bucket(Bucket),
    /// Seen by nobody but the server.
    Memory,
}

/// A bucket of its own on one of the servers that `tests/run` started.
pub(crate) struct Bucket {
    /// The backend's section of the configuration.
    backend: Value,
    /// What the environment says of its server.
    peer: String,
    helper: Mutex<Helper>,
    downloads: TempDir,
}

impl Store {
    /// An empty directory.
    pub(crate) fn local() -> Self {
        Self::Local(TempDir::new().unwrap())
    }

    /// An empty bucket of the Ceph gateway.
    ///
    /// # Panics
    /// When no such server was started: a test that cannot run is a failure, not a success.
    pub(crate) fn s3() -> Self {
        Self::s3_on("CAUSEWAY_TEST_S3")
    }

    /// An empty bucket of moto.
    pub(crate) fn moto() -> Self {
        Self::s3_on("CAUSEWAY_TEST_MOTO")
    }

    fn s3_on(variable: &str) -> Self {
        let [endpoint, id, secret] = &peer(variable)[..] else {
            panic!("{variable} is not ENDPOINT,ACCESS_KEY_ID,SECRET_ACCESS_KEY");
        };
        let name = bucket_name();
        Self::bucket(
            "s3.py",
            &[endpoint, id, secret, &name],
            json!({
                "type": "s3", "bucket": name, "region": "us-east-1", "endpoint": endpoint,
                "root": ROOT, "access_key_id": id, "secret_access_key": secret,
            }),
        )
    }

    /// An empty bucket of the stand-in for Google Cloud Storage.
    pub(crate) fn gcs(driver: &str) -> Self {
        let [endpoint] = &peer("CAUSEWAY_TEST_GCS")[..] else {
            panic!("CAUSEWAY_TEST_GCS is not ENDPOINT");
        };
        let name = bucket_name();
        Self::bucket(
            "gcs.py",
            &[endpoint, &name],
            json!({
                "type": "gcs", "driver": driver, "bucket": name, "endpoint": endpoint,
                "root": ROOT, "anonymous": true,
            }),
        )
    }

    /// An empty container of Azurite.
    pub(crate) fn azblob() -> Self {
        let [endpoint, account, key] = &peer("CAUSEWAY_TEST_AZBLOB")[..] else {
            panic!("CAUSEWAY_TEST_AZBLOB is not ENDPOINT,ACCOUNT,KEY");
        };
        let name = bucket_name();
        Self::bucket(
            "azblob.py",
            &[endpoint, account, key, &name],
            json!({
                "type": "azblob", "container": name, "endpoint": endpoint, "account": account,
                "account_key": key, "root": ROOT,
            }),
        )
    }

    /// `arguments` of the helper: what is known of the server, and the bucket's name.
    fn bucket(helper: &str, arguments: &[&str], backend: Value) -> Self {
        let bucket = Bucket {
            backend,
            peer: arguments[..arguments.len() - 1].join(","),
            helper: Mutex::new(Helper::start(helper, arguments)),
            downloads: TempDir::new().unwrap(),
        };
        bucket.ask(&json!({"do": "create"}));
        Self::Bucket(bucket)
    }

    /// The backend's section of the configuration.
    pub(crate) fn backend(&self) -> Value {
        match self {
            Self::Local(root) => json!({"type": "fs", "root": root.path()}),
            Self::Bucket(bucket) => bucket.backend.clone(),
            Self::Memory => json!({"type": "memory"}),
        }
    }

    /// Where the server of a bucket answers.
    pub(crate) fn endpoint(&self) -> String {
        let endpoint = &self.only_bucket().backend["endpoint"];
        endpoint.as_str().unwrap().to_owned()
    }

    /// The directory of a local store.
    pub(crate) fn local_root(&self) -> &Path {
        match self {
            Self::Local(root) => root.path(),
            Self::Bucket(_) | Self::Memory => panic!("only a local store has a directory"),
        }
    }

    /// Makes a user's home where the store needs one.
    pub(crate) fn make_home(&self, user: &str) {
        if let Self::Local(root) = self {
            fs::create_dir_all(root.path().join(user)).unwrap();
        }
    }

    /// Puts a file or object there.
    pub(crate) fn put(&self, path: &str, content: &[u8]) {
        match self {
            Self::Local(root) => {
                let file = root.path().join(path);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, content).unwrap();
            }
            Self::Memory => panic!("files in memory are seen by the server only"),
            Self::Bucket(bucket) => {
                let file = bucket.downloads.path().join("put");
                fs::write(&file, content).unwrap();
                bucket.ask(&json!({"do": "put", "key": key(path), "file": file}));
            }
        }
    }

    /// Puts an object of a storage class there.
    pub(crate) fn put_in_class(&self, path: &str, content: &[u8], class: &str) {
        let bucket = self.only_bucket();
        let file = bucket.downloads.path().join("put");
        fs::write(&file, content).unwrap();
        bucket.ask(&json!({"do": "put", "key": key(path), "file": file, "storage_class": class}));
    }

    /// What S3 says of an object beside its content, asked with the customer's key of SSE-C or without.
    pub(crate) fn head(&self, path: &str, customer_key: Option<&str>) -> Value {
        self.try_head(path, customer_key)
            .unwrap_or_else(|why| panic!("{path}: {why}"))
    }

    /// The same, or the error that S3 answers.
    pub(crate) fn try_head(&self, path: &str, customer_key: Option<&str>) -> Result<Value, String> {
        let request = json!({"do": "head", "key": key(path), "customer_key": customer_key});
        let mut helper = self.only_bucket().helper.lock().unwrap();
        let mut answer = helper.send(&request).unwrap();
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer["ok"].take()),
        }
    }

    /// What the script of its server in `tests/lab` printed.
    pub(crate) fn credentials(&self) -> String {
        self.only_bucket().peer.clone()
    }

    fn only_bucket(&self) -> &Bucket {
        match self {
            Self::Local(_) | Self::Memory => panic!("only a bucket has this"),
            Self::Bucket(bucket) => bucket,
        }
    }

    /// Puts many empty files or objects there at once.
    pub(crate) fn put_empty(&self, paths: &[String]) {
        match self {
            Self::Local(_) => paths.iter().for_each(|path| self.put(path, b"")),
            Self::Memory => panic!("files in memory are seen by the server only"),
            Self::Bucket(bucket) => {
                let keys: Vec<String> = paths.iter().map(|path| key(path)).collect();
                bucket.ask(&json!({"do": "put_empty", "keys": keys}));
            }
        }
    }

    /// A file that holds what is stored under `path`.
    pub(crate) fn fetch(&self, path: &str) -> Option<PathBuf> {
        match self {
            Self::Local(root) => {
                let file = root.path().join(path);
                file.is_file().then_some(file)
            }
            Self::Memory => panic!("files in memory are seen by the server only"),
            Self::Bucket(bucket) => {
                let file = bucket.downloads.path().join("get");
                let found = bucket.ask(&json!({"do": "get", "key": key(path), "file": file}));
                found.as_bool().unwrap().then_some(file)
            }
        }
    }

    /// What is stored under `path`.
    pub(crate) fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        self.fetch(path).map(|file| fs::read(file).unwrap())
    }

    /// Every file or object, whoever made it and whatever its name: temporary files too.
    pub(crate) fn files(&self) -> BTreeSet<String> {
        let (files, _) = self.everything();
        files
    }

    /// Files or objects that anybody but causeway may take for one: without those that it hides.
    pub(crate) fn visible(&self) -> BTreeSet<String> {
        let mut files = self.files();
        files.retain(|name| !name.starts_with(".causeway-uploads/"));
        files
    }

    /// Directories on a disk, marker objects in a bucket, both without the slash; homes left out,
    /// and the area for uploads under way, whose content counts as files.
    pub(crate) fn directories(&self) -> BTreeSet<String> {
        let (_, mut directories) = self.everything();
        directories
            .retain(|name| !["alice", "reader", ".causeway-uploads"].contains(&name.as_str()));
        directories
    }

    fn everything(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        match self {
            Self::Local(root) => {
                let mut found = (BTreeSet::new(), BTreeSet::new());
                walk(root.path(), root.path(), &mut found);
                found
            }
            Self::Memory => panic!("files in memory are seen by the server only"),
            Self::Bucket(bucket) => {
                let keys = bucket.ask(&json!({"do": "list"}));
                let keys = keys
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|key| key.as_str().unwrap());
                let (mut files, mut directories) = (BTreeSet::new(), BTreeSet::new());
                for key in keys {
                    let path = key
                        .strip_prefix(ROOT)
                        .and_then(|rest| rest.strip_prefix('/'));
                    let path = path.unwrap_or_else(|| panic!("{key:?} lies outside the root"));
                    match path.strip_suffix('/') {
                        Some(directory) => directories.insert(directory.to_owned()),
                        None => files.insert(path.to_owned()),
                    };
                }
                (files, directories)
            }
        }
    }

    /// Leaves behind what a server would that forgets to clean up: an open multipart upload, or a
    /// temporary file.
    pub(crate) fn leave_litter(&self) {
        match self {
            Self::Local(root) => fs::write(root.path().join("alice/.upload.tmp"), "half").unwrap(),
            Self::Memory => panic!("files in memory are seen by the server only"),
            Self::Bucket(bucket) => {
                bucket.ask(&json!({"do": "leave_open", "key": key("alice/file")}));
            }
        }
    }

    /// Lets another user of the gateway do everything in the bucket, but for one action, if any.
    pub(crate) fn allow_all_but(&self, user: &str, action: &str) {
        let Self::Bucket(bucket) = self else {
            panic!("only a bucket has a policy");
        };
        bucket.ask(&json!({"do": "allow_all_but", "user": user, "action": action}));
    }

    /// Deletes all objects of a bucket.
    pub(crate) fn remove_all(&self) {
        let Self::Bucket(bucket) = self else {
            panic!("only a bucket is emptied so");
        };
        bucket.ask(&json!({"do": "remove_all"}));
    }

    /// Gives the bucket a rule that ends incomplete uploads after a week.
    pub(crate) fn end_incomplete_uploads_by_rule(&self) {
        match self {
            Self::Local(_) => panic!("a directory has no rules"),
            Self::Memory => panic!("files in memory are seen by the server only"),
            Self::Bucket(bucket) => {
                bucket.ask(&json!({"do": "end_incomplete_uploads_by_rule"}));
            }
        }
    }

    /// Multipart uploads that are neither completed nor aborted.
    pub(crate) fn open_uploads(&self) -> Vec<String> {
        match self {
            Self::Local(_) | Self::Memory => Vec::new(),
            Self::Bucket(bucket) => {
                let uploads = bucket.ask(&json!({"do": "uploads"}));
                uploads
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(ToString::to_string)
                    .collect()
            }
        }
    }

    /// Waits until exactly these files are stored, with these bytes, and no upload is open.
    ///
    /// Waits, because a client that is gone gets no reply to wait for.
    #[track_caller]
    pub(crate) fn assert_holds(&self, expected: &[(&str, &[u8])]) {
        let names: BTreeSet<String> = expected
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect();
        until(
            Duration::from_secs(20),
            "the store holds what it must and nothing else",
            || {
                let (files, uploads) = (self.files(), self.open_uploads());
                if files == names && uploads.is_empty() {
                    Ok(())
                } else {
                    Err(format!(
                        "files {files:?}, open uploads {uploads:?}, expected {names:?}"
                    ))
                }
            },
        );
        for (name, content) in expected {
            let found = self.bytes(name).unwrap_or_else(|| panic!("{name} is gone"));
            assert!(
                found == *content,
                "{name}: {} bytes, not the {} expected",
                found.len(),
                content.len()
            );
        }
    }
}

impl Bucket {
    fn ask(&self, request: &Value) -> Value {
        self.helper.lock().unwrap().ask(request)
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        // The gateway keeps objects in memory; a failure here only costs some of it.
        if let Ok(mut helper) = self.helper.lock() {
            let _ = helper.send(&json!({"do": "destroy"}));
        }
    }
}

/// What an environment variable says of a server that `tests/run` started.
fn peer(variable: &str) -> Vec<String> {
    let peer = env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: run the tests with ./tests/run, which starts the stores")
    });
    peer.split(',').map(str::to_owned).collect()
}

fn bucket_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("causeway-{}-{}-{count}", process::id(), now.as_millis())
}

fn key(path: &str) -> String {
    format!("{ROOT}/{path}")
}

fn walk(root: &Path, directory: &Path, found: &mut (BTreeSet<String>, BTreeSet<String>)) {
    for entry in fs::read_dir(directory).unwrap() {
        // Gone between listing and looking: a temporary file, and the caller asks again.
        let Ok(entry) = entry else { continue };
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        let path = entry.path();
        let name = path
            .strip_prefix(root)
            .unwrap()
            .to_str()
            .expect("a UTF-8 name")
            .to_owned();
        if kind.is_dir() {
            found.1.insert(name);
            walk(root, &path, found);
        } else {
            found.0.insert(name);
        }
    }
}

/// A script of `tests/peers`: its own client, so that what causeway's gets wrong is not believed.
struct Helper {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Helper {
    fn start(script: &str, arguments: &[&str]) -> Self {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let mut child = Command::new(tests.join(".venv/bin/python"))
            .arg(tests.join("peers").join(script))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/.venv, which ./tests/run makes");
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            requests,
            answers,
        }
    }

    fn send(&mut self, request: &Value) -> std::io::Result<Value> {
        let requests = self.requests.as_mut().expect("open until dropped");
        writeln!(requests, "{request}")?;
        requests.flush()?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        serde_json::from_str(&answer).map_err(std::io::Error::other)
    }

    fn ask(&mut self, request: &Value) -> Value {
        let mut answer = self
            .send(request)
            .unwrap_or_else(|why| panic!("{request}: {why}"));
        assert!(answer["error"].is_null(), "{request}: {answer}");
        answer["ok"].take()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // End of input ends the helper.
        drop(self.requests.take());
        let _ = self.child.wait();
    }
}
