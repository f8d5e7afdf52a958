//! `causeway check` on real stores: what a key pair lacks is named, and nothing is left behind.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Store, run_to_end, users_file, write_certificates};

/// Rights that a store can withhold, with what fails then. The names are Amazon's.
const RIGHTS: [(&str, &[&str]); 7] = [
    ("s3:ListBucket", &["ListObjectsV2"]),
    ("s3:GetObject", &["GetObject"]),
    ("s3:PutObject", &["PutObject", "CreateMultipartUpload"]),
    ("s3:ListMultipartUploadParts", &["ListParts"]),
    ("s3:AbortMultipartUpload", &["AbortMultipartUpload"]),
    ("s3:GetObjectTagging", &["GetObjectTagging"]),
    ("s3:DeleteObject", &["DeleteObject"]),
];

/// A directory with certificates, users and a configuration of one backend.
pub(crate) struct Checked {
    directory: TempDir,
    config: Value,
}

impl Checked {
    #[expect(clippy::needless_pass_by_value, reason = "what `json!` makes")]
    pub(crate) fn new(backend: Value) -> Self {
        let directory = TempDir::new().unwrap();
        write_certificates(directory.path());
        fs::write(directory.path().join("users.yaml"), users_file()).unwrap();
        let config = json!({
            "listeners": [{"name": "explicit", "address": "127.0.0.1:0", "mode": "explicit", "passive": {"ports": 0}}],
            "tls": {"certificate_file": "cert.pem", "key_file": "key.pem"},
            "users": {"file": "users.yaml"},
            "backends": {"main": backend},
            "mounts": [{"path": "/", "backend": "main"}],
            "uploads": {"resume": "on"},
        });
        Self { directory, config }
    }

    /// Nothing is kept of interrupted uploads.
    pub(crate) fn without_resume(mut self) -> Self {
        self.config["uploads"] = json!({"resume": "off"});
        self
    }

    /// The exit code and the report.
    pub(crate) fn run(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let file = self.directory.path().join("causeway.yaml");
        fs::write(&file, self.config.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
        command.args(["check", "--format", "json", "-c"]).arg(&file);
        command.args(arguments);
        // The test's own authority is none of this machine's.
        command.env("SSL_CERT_FILE", self.directory.path().join("ca.pem"));
        let (status, output, errors) = run_to_end(command, Duration::from_mins(1));
        let report =
            serde_json::from_str(&output).unwrap_or_else(|why| panic!("{why}: {output}{errors}"));
        (status.code(), report)
    }
}

/// The steps that did not succeed, with what they lack.
pub(crate) fn refused(report: &Value) -> Vec<(String, Vec<String>)> {
    let steps = report["steps"].as_array().unwrap().iter();
    steps
        .filter(|step| step["outcome"] == "refused")
        .map(|step| {
            let missing = step["permissions"].as_array().unwrap().iter();
            let missing = missing.map(|one| one.as_str().unwrap().to_owned());
            (step["step"].as_str().unwrap().to_owned(), missing.collect())
        })
        .collect()
}

pub(crate) fn outcomes(report: &Value) -> Vec<(String, String)> {
    let steps = report["steps"].as_array().unwrap().iter();
    steps
        .map(|step| {
            let text = |key: &str| step[key].as_str().unwrap().to_owned();
            (text("step"), text("outcome"))
        })
        .collect()
}

#[test]
fn bucket_with_all_rights_is_good_and_stays_empty() {
    let store = Store::s3();
    let mut backend = store.backend();
    backend["provider"] = json!("ceph");
    let (code, report) = Checked::new(backend).run(&[]);
    assert_eq!(code, Some(0), "{report:#}");
    let outcomes = outcomes(&report);
    for (_, steps) in RIGHTS {
        for step in steps {
            assert!(
                outcomes.contains(&((*step).to_owned(), "done".to_owned())),
                "{step}: {outcomes:?}"
            );
        }
    }
    assert!(store.files().is_empty() && store.open_uploads().is_empty());
    // The bucket's own settings are looked at, too.
    let advice = report["findings"].to_string();
    assert!(
        advice.contains("AbortIncompleteMultipartUpload"),
        "{advice}"
    );
}

#[test]
fn missing_right_is_named_and_everything_taken_away() {
    let store = Store::s3();
    let mut backend = store.backend();
    backend["provider"] = json!("ceph");
    backend["access_key_id"] = json!("RESTRICTED");
    let checked = Checked::new(backend);
    for (right, steps) in RIGHTS {
        store.allow_all_but("restricted", right);
        let (code, report) = checked.run(&[]);
        assert_eq!(code, Some(1), "{right}: {report:#}");
        let refused = refused(&report);
        for step in steps {
            let expected = ((*step).to_owned(), vec![right.to_owned()]);
            assert!(refused.contains(&expected), "{right}: {step}: {refused:?}");
        }
        assert!(
            refused.iter().all(|(_, missing)| missing == &[right]),
            "{right}: {refused:?}"
        );
        assert!(store.open_uploads().is_empty(), "{right}");
        let left = store.files();
        if right == "s3:DeleteObject" {
            // Nothing can take them away; each is named.
            let said = report["findings"].to_string();
            assert!(!left.is_empty());
            for name in &left {
                assert!(said.contains(name), "{name} of {left:?}: {said}");
                assert!(name.starts_with(".causeway-uploads/check."), "{name}");
            }
        } else {
            assert!(left.is_empty(), "{right}: {left:?}");
        }
        store.allow_all_but("restricted", "");
        store.remove_all();
    }
    // The server can do without this one.
    store.allow_all_but("restricted", "s3:PutObjectTagging");
    let (code, report) = checked.run(&[]);
    assert_eq!(code, Some(0), "{report:#}");
    let said = report["findings"].to_string();
    assert!(said.contains("missing: s3:PutObjectTagging"), "{said}");
    store.allow_all_but("restricted", "");
    // And with all of them it is good, for this user too.
    let (code, report) = checked.run(&[]);
    assert_eq!(code, Some(0), "{report:#}");
}

#[test]
fn read_only_mounts_are_only_read() {
    let store = Store::s3();
    store.put("alice/file", b"content");
    let mut backend = store.backend();
    backend["access_key_id"] = json!("RESTRICTED");
    let mut checked = Checked::new(backend);
    checked.config["mounts"][0]["read_only"] = json!(true);
    store.allow_all_but("restricted", "s3:PutObject");
    let (code, report) = checked.run(&[]);
    assert_eq!(code, Some(0), "{report:#}");
    let done = |step: &str| (step.to_owned(), "done".to_owned());
    assert_eq!(
        outcomes(&report),
        [done("ListObjectsV2"), done("GetObject")]
    );
    store.allow_all_but("restricted", "s3:GetObject");
    let (code, report) = checked.run(&[]);
    assert_eq!(code, Some(1), "{report:#}");
    let lacks = vec!["s3:GetObject".to_owned()];
    assert_eq!(refused(&report), [("GetObject".to_owned(), lacks)]);
    store.assert_holds(&[("alice/file", b"content")]);
}

#[test]
fn conditions_that_a_store_ignores_are_found_out() {
    let store = Store::s3();
    let mut backend = store.backend();
    // Ceph 16 takes them and does not obey those of Complete and DELETE.
    backend["provider"] = json!("aws");
    let (code, report) = Checked::new(backend).run(&[]);
    assert_eq!(code, Some(1), "{report:#}");
    let said = report["findings"].to_string();
    for expected in [
        "CompleteMultipartUpload with If-None-Match failed: the store ignores the condition",
        "DeleteObject with If-Match failed: the store ignores the condition",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert!(store.files().is_empty() && store.open_uploads().is_empty());
}

#[test]
fn mounts_with_prefixes_are_tried_where_they_lead() {
    let store = Store::s3();
    let mut checked = Checked::new(store.backend());
    checked.config["mounts"] = json!([
        {"path": "/", "backend": "main", "prefix": "homes/{user}"},
        {"path": "/patches", "backend": "main", "prefix": "patches", "read_only": true},
    ]);
    let (code, report) = checked.run(&[]);
    assert_eq!(code, Some(0), "{report:#}");
    let places: Vec<_> = report["steps"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|step| step["step"] == "ListObjectsV2")
        .map(|step| step["prefix"].as_str().unwrap())
        .collect();
    assert_eq!(places, ["homes", "patches"]);
    assert!(store.files().is_empty() && store.open_uploads().is_empty());
}

/// One line says why, and soon: nothing else is tried behind it.
#[test]
fn store_that_cannot_work_at_all_is_said_once() {
    let store = Store::s3();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    for (key, value, word) in [
        ("bucket", json!("causeway-no-such-bucket"), "NoSuchBucket"),
        ("secret_access_key", json!("wrong"), "SignatureDoesNotMatch"),
        ("access_key_id", json!("NOBODY"), "InvalidAccessKeyId"),
        ("endpoint", json!(nobody), "onnect"),
    ] {
        let mut backend = store.backend();
        backend[key] = value;
        let begin = Instant::now();
        let (code, report) = Checked::new(backend).run(&[]);
        assert_eq!(code, Some(1), "{key}: {report:#}");
        let outcomes = outcomes(&report);
        assert_eq!(outcomes.len(), 1, "{key}: {outcomes:?}");
        let said = report["findings"].to_string();
        assert!(said.contains(word), "{key}: {said}");
        assert!(begin.elapsed() < Duration::from_mins(2), "{key}");
    }
}

#[test]
fn offline_looks_at_files_only() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut checked = Checked::new(json!({
        "type": "s3", "bucket": "b", "endpoint": "http://127.0.0.1:1",
        "access_key_id": "a", "secret_access_key": "b",
    }));
    checked.config["listeners"][0]["address"] = json!(taken.local_addr().unwrap());
    checked.config["listeners"][0]["passive"] = json!({"address": {"dns": "causeway.invalid"}});
    let (code, report) = checked.run(&["--offline"]);
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(report["steps"], json!([]));
    let said = report["findings"].to_string();
    assert!(said.contains("not for causeway.invalid"), "{said}");
    let (code, report) = checked.run(&[]);
    assert_eq!(code, Some(1), "{report:#}");
    let said = report["findings"].to_string();
    for expected in [
        "is in use",
        "causeway.invalid does not resolve",
        "backend main",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn what_this_machine_lacks_is_said() {
    let directory = TempDir::new().unwrap();
    let mut checked = Checked::new(json!({"type": "fs", "root": directory.path()}));
    // Few enough for any limit on open files.
    checked.config["limits"] = json!({"connections": 50});
    let (code, report) = checked.run(&[]);
    assert_eq!(
        (code, &report["findings"]),
        (Some(0), &json!([])),
        "{report:#}"
    );
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    let first = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = first.local_addr().unwrap().port();
    checked.config["listeners"][0]["passive"] =
        json!({"ports": format!("{port}"), "address": "10.0.0.1"});
    checked.config["limits"] = json!({"upload_memory_bytes": 1_u64 << 49, "connections": 900_000});
    checked.config["admin"] =
        json!({"address": "0.0.0.0:0", "token": "0123456789abcdef", "metrics": "open"});
    let (code, report) = checked.run(&[]);
    assert_eq!(code, Some(1), "{report:#}");
    let found: Vec<_> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| {
            let text = |key: &str| finding[key].as_str().unwrap();
            format!("{} {}: {}", text("severity"), text("area"), text("message"))
        })
        .collect();
    for expected in [
        "warning network: listener explicit: passive.address 10.0.0.1 is a private address",
        "problem network: listener explicit: 1 of the 1 passive.ports",
        "problem memory: limits.upload_memory_bytes is",
        "warning descriptors: limits.connections 900000",
        "warning admin: admin.address 0.0.0.0:0 is reached from other machines",
        "warning admin: admin.metrics: open",
    ] {
        let there = found.iter().any(|found| found.starts_with(expected));
        assert!(there, "{expected}: {found:#?}");
    }
    read_only_directory(directory.path(), &checked);
}

/// What only a running system shows: a directory that cannot be written.
fn read_only_directory(directory: &Path, checked: &Checked) {
    fs::remove_dir(directory).unwrap();
    let (code, report) = checked.run(&["--offline"]);
    assert_eq!(code, Some(3), "{report:#}");
    let said = report["findings"].to_string();
    assert!(said.contains("list failed"), "{said}");
}
