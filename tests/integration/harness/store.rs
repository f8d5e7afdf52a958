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
const S3_ROOT: &str = "test/root";

/// One test's own store. Paths are relative to the backend's root: `alice/file`.
pub(crate) enum Store {
    Local(TempDir),
    S3(Bucket),
}

/// A bucket of its own on the gateway that `tests/run` started.
pub(crate) struct Bucket {
    endpoint: String,
    access_key_id: String,
    secret_access_key: String,
    name: String,
    helper: Mutex<Helper>,
    downloads: TempDir,
}

impl Store {
    /// An empty directory.
    pub(crate) fn local() -> Self {
        Self::Local(TempDir::new().unwrap())
    }

    /// An empty bucket.
    ///
    /// # Panics
    /// When no S3 server was started: a test that cannot run is a failure, not a success.
    pub(crate) fn s3() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let gateway = env::var("CAUSEWAY_TEST_S3").unwrap_or_else(|_| {
            panic!("CAUSEWAY_TEST_S3 is not set: run the tests with ./tests/run, which starts an S3 server")
        });
        let [endpoint, id, secret] = gateway.split(',').collect::<Vec<_>>()[..] else {
            panic!("CAUSEWAY_TEST_S3 is not ENDPOINT,ACCESS_KEY_ID,SECRET_ACCESS_KEY");
        };
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("causeway-{}-{}-{count}", process::id(), now.as_millis());
        let bucket = Bucket {
            endpoint: endpoint.to_owned(),
            access_key_id: id.to_owned(),
            secret_access_key: secret.to_owned(),
            helper: Mutex::new(Helper::start(endpoint, id, secret, &name)),
            name,
            downloads: TempDir::new().unwrap(),
        };
        bucket.ask(&json!({"do": "create"}));
        Self::S3(bucket)
    }

    /// The backend's section of the configuration.
    pub(crate) fn backend(&self) -> Value {
        match self {
            Self::Local(root) => json!({"type": "fs", "root": root.path()}),
            Self::S3(bucket) => json!({
                "type": "s3", "bucket": bucket.name, "region": "us-east-1",
                "endpoint": bucket.endpoint, "root": S3_ROOT,
                "access_key_id": bucket.access_key_id,
                "secret_access_key": bucket.secret_access_key,
            }),
        }
    }

    /// Where the S3 server of a bucket answers.
    pub(crate) fn endpoint(&self) -> String {
        match self {
            Self::Local(_) => panic!("a directory has no endpoint"),
            Self::S3(bucket) => bucket.endpoint.clone(),
        }
    }

    /// The directory of a local store.
    pub(crate) fn local_root(&self) -> &Path {
        match self {
            Self::Local(root) => root.path(),
            Self::S3(_) => panic!("a bucket has no directory"),
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
            Self::S3(bucket) => {
                let file = bucket.downloads.path().join("put");
                fs::write(&file, content).unwrap();
                bucket.ask(&json!({"do": "put", "key": key(path), "file": file}));
            }
        }
    }

    /// Puts many empty files or objects there at once.
    pub(crate) fn put_empty(&self, paths: &[String]) {
        match self {
            Self::Local(_) => paths.iter().for_each(|path| self.put(path, b"")),
            Self::S3(bucket) => {
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
            Self::S3(bucket) => {
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
            Self::S3(bucket) => {
                let keys = bucket.ask(&json!({"do": "list"}));
                let keys = keys
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|key| key.as_str().unwrap());
                let (mut files, mut directories) = (BTreeSet::new(), BTreeSet::new());
                for key in keys {
                    let path = key
                        .strip_prefix(S3_ROOT)
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
            Self::S3(bucket) => {
                bucket.ask(&json!({"do": "leave_open", "key": key("alice/file")}));
            }
        }
    }

    /// Gives the bucket a rule that ends incomplete uploads after a week.
    pub(crate) fn end_incomplete_uploads_by_rule(&self) {
        match self {
            Self::Local(_) => panic!("a directory has no rules"),
            Self::S3(bucket) => {
                bucket.ask(&json!({"do": "end_incomplete_uploads_by_rule"}));
            }
        }
    }

    /// Multipart uploads that are neither completed nor aborted.
    pub(crate) fn open_uploads(&self) -> Vec<String> {
        match self {
            Self::Local(_) => Vec::new(),
            Self::S3(bucket) => {
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

fn key(path: &str) -> String {
    format!("{S3_ROOT}/{path}")
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

/// `tests/peers/s3.py`: boto3, so that what causeway's own S3 client gets wrong is not believed.
struct Helper {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Helper {
    fn start(endpoint: &str, id: &str, secret: &str, bucket: &str) -> Self {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let mut child = Command::new(tests.join(".venv/bin/python"))
            .arg(tests.join("peers/s3.py"))
            .args([endpoint, id, secret, bucket])
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
