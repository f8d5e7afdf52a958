//! The commands as an operator runs them.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::harness::{run_to_end, users_file, write_certificates};
use tempfile::TempDir;

fn causeway() -> Command {
    Command::new(env!("CARGO_BIN_EXE_causeway"))
}

fn check(directory: &Path, config: &str) -> (Option<i32>, String) {
    let file = directory.join("causeway.yaml");
    fs::write(&file, config).unwrap();
    let mut command = causeway();
    command.args(["check", "-c"]).arg(&file);
    let (status, stdout, stderr) = run_to_end(command, Duration::from_secs(30));
    (status.code(), format!("{stdout}{stderr}"))
}

const GOOD: &str = "\
listeners:
  - name: explicit
    address: 127.0.0.1:0
    mode: explicit
    passive: {ports: 50000-50100}
tls:
  certificate_file: cert.pem
  key_file: key.pem
users:
  file: users.yaml
backends:
  disk:
    type: fs
    root: data
mounts:
  - path: /
    backend: disk
    prefix: \"{home}\"
";

fn prepared() -> TempDir {
    let directory = TempDir::new().unwrap();
    write_certificates(directory.path());
    fs::write(directory.path().join("users.yaml"), users_file()).unwrap();
    fs::create_dir(directory.path().join("data")).unwrap();
    directory
}

#[test]
fn check_accepts_a_good_file() {
    let directory = prepared();
    let (code, output) = check(directory.path(), GOOD);
    assert_eq!(code, Some(0), "{output}");
}

#[test]
fn check_reports_every_error_at_once() {
    let directory = prepared();
    let config = GOOD
        .replace("mode: explicit", "mode: explicite\n    colour: blue")
        .replace("50000-50100", "50100-50000")
        .replace("backend: disk", "backend: dsk")
        + "limits:\n  conections: 5\ntimeouts:\n  idle_seconds: soon\n";
    let (code, output) = check(directory.path(), &config);
    assert_eq!(code, Some(3), "{output}");
    for words in [
        &["listeners[0].mode", "explicite", "explicit"][..],
        &["listeners[0].colour"],
        &["listeners[0].passive.ports"],
        &["mounts[0].backend", "dsk", "disk"],
        &["limits.conections", "connections"],
        &["timeouts.idle_seconds"],
    ] {
        let found = output
            .lines()
            .any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "no line with all of {words:?} in:\n{output}");
    }
}

#[test]
fn check_tries_what_the_files_hold() {
    for (from, to, words) in [
        (
            "key_file: key.pem",
            "key_file: missing.pem",
            ["key", "missing.pem"],
        ),
        ("key_file: key.pem", "key_file: ca.pem", ["key", "ca.pem"]),
        (
            "certificate_file: cert.pem",
            "certificate_file: key.pem",
            ["certificate", "key.pem"],
        ),
        (
            "file: users.yaml",
            "file: cert.pem",
            ["expected", "cert.pem"],
        ),
        ("root: data", "root: nowhere", ["root", "nowhere"]),
    ] {
        let directory = prepared();
        let (code, output) = check(directory.path(), &GOOD.replace(from, to));
        assert_eq!(code, Some(3), "{to}: {output}");
        assert!(
            words.iter().all(|word| output.contains(word)),
            "{to}: {output}"
        );
    }
}

#[test]
fn check_names_a_file_that_is_missing_or_no_yaml() {
    let directory = prepared();
    let (code, output) = check(directory.path(), "listeners: [");
    assert_eq!(code, Some(3), "{output}");
    let mut command = causeway();
    command.args(["check", "-c", "/nonexistent/causeway.yaml"]);
    let (status, _, stderr) = run_to_end(command, Duration::from_secs(30));
    assert_eq!(status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("/nonexistent/causeway.yaml"), "{stderr}");
}

/// `script` gives it a terminal of its own.
#[test]
fn sweep_shows_on_a_terminal_that_it_works() {
    let directory = prepared();
    let file = directory.path().join("causeway.yaml");
    fs::write(&file, GOOD).unwrap();
    let line = format!(
        "{} sweep -c {}",
        env!("CARGO_BIN_EXE_causeway"),
        file.display()
    );
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]);
    let (status, output, errors) = run_to_end(command, Duration::from_secs(30));
    assert!(status.success(), "{output}{errors}");
    assert!(output.contains("backend disk: 0 s"), "{output:?}");
    assert!(
        output.contains("backend disk: 0 unfinished uploads ended"),
        "{output:?}"
    );
    let mut command = causeway();
    command.args(["sweep", "-c"]).arg(&file);
    let (_, output, errors) = run_to_end(command, Duration::from_secs(30));
    assert!(
        !format!("{output}{errors}").contains('\r'),
        "no terminal, no progress"
    );
}

#[test]
fn hash_password_prints_a_new_argon2id_hash_each_time() {
    let hash = || {
        let mut child = causeway()
            .arg("hash-password")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(b"correct horse\n")
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let (one, two) = (hash(), hash());
    assert!(
        one.starts_with("$argon2id$v=19$") && one.ends_with('\n'),
        "{one}"
    );
    assert_ne!(one, two, "without a salt");
}

/// The demo, ended with the test.
struct Demo {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Demo {
    fn start(directory: &Path, data: &Path) -> Self {
        let mut child = causeway()
            .args(["demo", "--port", "0", "--data"])
            .arg(data)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// Lines up to the one that completes what is to be pasted.
    fn printed(&self) -> Vec<String> {
        let end = Instant::now() + Duration::from_mins(1);
        let mut printed = Vec::new();
        let complete = |printed: &[String]| {
            let starting = |word: &str| {
                printed
                    .iter()
                    .filter(|line| line.trim().starts_with(word))
                    .count()
            };
            starting("curl ") >= 2
                && starting("lftp ") >= 2
                && printed
                    .iter()
                    .any(|line| line.contains("http://127.0.0.1:"))
        };
        while !complete(&printed) {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => printed.push(line),
                Err(why) => panic!(
                    "the demo did not print all it must ({why}):\n{}",
                    printed.join("\n")
                ),
            }
        }
        printed
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn lines_printed_by_the_demo_upload_the_readme() {
    let directory = TempDir::new().unwrap();
    let data = directory.path().join("data with a space");
    let readme = crate::harness::bytes(2, 5_000);
    fs::write(directory.path().join("README.md"), &readme).unwrap();
    let demo = Demo::start(directory.path(), &data);
    let printed = demo.printed();
    let mut modes = Vec::new();
    for line in &printed {
        let line = line.trim();
        if !line.starts_with("curl ") && !line.starts_with("lftp ") {
            continue;
        }
        modes.push((line.starts_with("curl "), line.contains("ftps://")));
        for word in [
            "--insecure",
            " -k ",
            "verify-certificate no",
            "verify-certificate false",
        ] {
            assert!(!line.contains(word), "{line} does not verify");
        }
        let mut shell = Command::new("sh");
        shell
            .args(["-c", line])
            .current_dir(directory.path())
            .env("HOME", directory.path());
        let (status, stdout, stderr) = run_to_end(shell, Duration::from_mins(1));
        assert!(status.success(), "{line}: {status}\n{stdout}\n{stderr}");
        let stored = find(&data, "README.md");
        assert_eq!(stored.len(), 1, "{line}: stored as {stored:?}");
        assert_eq!(fs::read(&stored[0]).unwrap(), readme, "{line}");
        fs::remove_file(&stored[0]).unwrap();
    }
    modes.sort_unstable();
    modes.dedup();
    assert_eq!(
        modes.len(),
        4,
        "curl and lftp, explicit and implicit, in:\n{}",
        printed.join("\n")
    );
}

fn find(directory: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(find(&path, name));
        } else if path.file_name().is_some_and(|file| file == name) {
            found.push(path);
        }
    }
    found
}
