//! curl, lftp and Python's ftplib as programs, behind one trait.

use std::{
    fmt, fs,
    io::Read,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{PASSWORD, Server, Version};

/// How TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Explicit,
    Implicit,
}

/// What one program run is told: where to connect and how.
pub(crate) struct Link {
    address: SocketAddr,
    authority: PathBuf,
    mode: Mode,
    version: Version,
    user: String,
    scratch: PathBuf,
}

impl Link {
    /// `alice` on this server.
    pub(crate) fn new(server: &Server, mode: Mode, version: Version) -> Self {
        let address = match mode {
            Mode::Explicit => server.explicit,
            Mode::Implicit => server.implicit,
        };
        Self {
            address,
            authority: server.authority_file(),
            mode,
            version,
            user: "alice".to_owned(),
            scratch: server.scratch(),
        }
    }

    /// The same through a relay.
    pub(crate) fn through(mut self, relay: &super::Relay) -> Self {
        self.address = relay.address;
        self
    }

    /// The same over IPv6.
    pub(crate) fn on_ipv6(mut self, server: &Server) -> Self {
        self.address = match self.mode {
            Mode::Explicit => server.explicit6,
            Mode::Implicit => server.implicit6,
        };
        self
    }
}

/// The codes of the replies a program saw, in order.
#[derive(Debug)]
pub(crate) struct Replies(Vec<u16>, String);

impl Replies {
    /// Demands that the last reply of its kind came: 226, 250, 257, …
    #[track_caller]
    pub(crate) fn expect(&self, code: u16) {
        assert!(
            self.0.contains(&code),
            "{code} expected, got {:?}\n{}",
            self.0,
            self.1
        );
    }
}

impl fmt::Display for Replies {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.1)
    }
}

/// What every client can do, one process for each action. Names are relative to the home; every
/// action panics with the client's own words when the client fails.
pub(crate) trait Client {
    fn upload(&self, link: &Link, file: &Path, name: &str) -> Replies;
    fn download(&self, link: &Link, name: &str, file: &Path) -> Replies;
    fn names(&self, link: &Link, directory: &str) -> Vec<String>;
    fn rename(&self, link: &Link, from: &str, to: &str) -> Replies;
    fn delete(&self, link: &Link, name: &str) -> Replies;
    fn make_directory(&self, link: &Link, name: &str) -> Replies;
    fn remove_directory(&self, link: &Link, name: &str) -> Replies;
}

/// The command line `curl`.
pub(crate) struct Curl;

impl Curl {
    /// Everything but the action and the URL.
    pub(crate) fn command(link: &Link) -> Command {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--verbose", "--max-time", "540"]);
        command.args(["--user", &format!("{}:{PASSWORD}", link.user)]);
        command.arg("--cacert").arg(&link.authority);
        match link.version {
            Version::Tls12 => command.args(["--tlsv1.2", "--tls-max", "1.2"]),
            Version::Tls13 => command.args(["--tlsv1.3"]),
        };
        if link.mode == Mode::Explicit {
            command.arg("--ssl-reqd");
        }
        command
    }

    pub(crate) fn url(link: &Link, path: &str) -> String {
        let scheme = match link.mode {
            Mode::Explicit => "ftp",
            Mode::Implicit => "ftps",
        };
        let path: String = path.bytes().map(escaped).collect();
        format!("{scheme}://{}/{path}", link.address)
    }

    fn quote(link: &Link, lines: &[String]) -> Replies {
        let mut command = Self::command(link);
        for line in lines {
            command.args(["--quote", line]);
        }
        command
            .args(["--list-only", "--output", "/dev/null"])
            .arg(Self::url(link, ""));
        Self::run(command)
    }

    fn run(command: Command) -> Replies {
        let (output, _) = succeed(command);
        replies(&output, |line| line.strip_prefix("< "))
    }
}

fn escaped(byte: u8) -> String {
    match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    }
}

impl Client for Curl {
    fn upload(&self, link: &Link, file: &Path, name: &str) -> Replies {
        let mut command = Self::command(link);
        command
            .arg("--upload-file")
            .arg(file)
            .arg(Self::url(link, name));
        Self::run(command)
    }

    fn download(&self, link: &Link, name: &str, file: &Path) -> Replies {
        let mut command = Self::command(link);
        command.arg("--output").arg(file).arg(Self::url(link, name));
        let replies = Self::run(command);
        if !file.exists() {
            // curl makes no file for an empty download.
            fs::write(file, []).unwrap();
        }
        replies
    }

    fn names(&self, link: &Link, directory: &str) -> Vec<String> {
        let file = link.scratch.join("names");
        fs::write(&file, []).unwrap();
        let mut command = Self::command(link);
        command.args(["--list-only", "--output"]).arg(&file);
        let slash = if directory.is_empty() { "" } else { "/" };
        command.arg(Self::url(link, &format!("{directory}{slash}")));
        Self::run(command).expect(226);
        sorted_lines(&fs::read_to_string(file).unwrap())
    }

    fn rename(&self, link: &Link, from: &str, to: &str) -> Replies {
        Self::quote(link, &[format!("RNFR {from}"), format!("RNTO {to}")])
    }

    fn delete(&self, link: &Link, name: &str) -> Replies {
        Self::quote(link, &[format!("DELE {name}")])
    }

    fn make_directory(&self, link: &Link, name: &str) -> Replies {
        Self::quote(link, &[format!("MKD {name}")])
    }

    fn remove_directory(&self, link: &Link, name: &str) -> Replies {
        Self::quote(link, &[format!("RMD {name}")])
    }
}

/// The command line `lftp`, which is built on `GnuTLS`.
pub(crate) struct Lftp;

impl Lftp {
    /// Uploads a directory over four control connections at once.
    pub(crate) fn mirror(link: &Link, from: &Path, to: &str) {
        let from = quoted(from.to_str().unwrap());
        let action = format!("mirror --reverse --parallel=4 {from} {}", quoted(to));
        Self::run(link, &action);
    }

    fn run(link: &Link, action: &str) -> (Replies, String) {
        let (dialogue, output) = succeed(Self::command(link, action));
        (
            replies(&dialogue, |line| line.strip_prefix("<--- ")),
            output,
        )
    }

    /// One try, no second one by itself.
    pub(crate) fn command(link: &Link, action: &str) -> Command {
        let scheme = match link.mode {
            Mode::Explicit => "ftp",
            Mode::Implicit => "ftps",
        };
        let version = match link.version {
            Version::Tls12 => "1.2",
            Version::Tls13 => "1.3",
        };
        let script = format!(
            "set net:max-retries 1; set net:reconnect-interval-base 1; set net:timeout 60; set cmd:fail-exit yes; \
             set cmd:interactive no; set xfer:use-temp-file no; set xfer:clobber yes; \
             set ssl:ca-file {ca}; set ssl:verify-certificate yes; \
             set ssl:priority \"NORMAL:-VERS-ALL:+VERS-TLS{version}\"; \
             set ftp:ssl-force yes; set ftp:ssl-protect-data yes; set ftp:ssl-protect-list yes; \
             debug 9; open -u {user},{PASSWORD} {scheme}://{address}; {action}",
            ca = quoted(link.authority.to_str().unwrap()),
            user = link.user,
            address = link.address,
        );
        let mut command = Command::new("lftp");
        // Without the user's and the machine's settings.
        command
            .args(["--norc", "-c", &script])
            .env("LC_ALL", "C.UTF-8");
        command.env("HOME", &link.scratch);
        command
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

impl Client for Lftp {
    fn upload(&self, link: &Link, file: &Path, name: &str) -> Replies {
        let file = quoted(file.to_str().unwrap());
        Self::run(link, &format!("put {file} -o {}", quoted(name))).0
    }

    fn download(&self, link: &Link, name: &str, file: &Path) -> Replies {
        let file = quoted(file.to_str().unwrap());
        Self::run(link, &format!("get {} -o {file}", quoted(name))).0
    }

    fn names(&self, link: &Link, directory: &str) -> Vec<String> {
        let directory = if directory.is_empty() { "." } else { directory };
        let (replies, output) = Self::run(link, &format!("cd {}; cls -1", quoted(directory)));
        replies.expect(226);
        sorted_lines(&output)
    }

    fn rename(&self, link: &Link, from: &str, to: &str) -> Replies {
        Self::run(link, &format!("mv {} {}", quoted(from), quoted(to))).0
    }

    fn delete(&self, link: &Link, name: &str) -> Replies {
        Self::run(link, &format!("rm {}", quoted(name))).0
    }

    fn make_directory(&self, link: &Link, name: &str) -> Replies {
        Self::run(link, &format!("mkdir {}", quoted(name))).0
    }

    fn remove_directory(&self, link: &Link, name: &str) -> Replies {
        Self::run(link, &format!("rmdir {}", quoted(name))).0
    }
}

/// `tests/peers/ftplib_peer.py`: Python's `ftplib`, which never resumes TLS sessions.
pub(crate) struct Ftplib;

impl Ftplib {
    fn run(link: &Link, action: &[&str]) -> (Replies, String) {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let mut command = Command::new(tests.join(".venv/bin/python"));
        command.arg(tests.join("peers/ftplib_peer.py"));
        command.arg("--host").arg(link.address.ip().to_string());
        command.arg("--port").arg(link.address.port().to_string());
        command.arg("--authority").arg(&link.authority);
        command.args(["--user", &link.user, "--password", PASSWORD]);
        command.args([
            "--tls",
            if link.version == Version::Tls12 {
                "1.2"
            } else {
                "1.3"
            },
        ]);
        if link.mode == Mode::Implicit {
            command.arg("--implicit");
        }
        command
            .arg("--")
            .args(action)
            .env("PYTHONIOENCODING", "utf-8");
        let (dialogue, output) = succeed(command);
        (
            replies(&dialogue, |line| line.strip_prefix("*reply* ")),
            output,
        )
    }
}

impl Client for Ftplib {
    fn upload(&self, link: &Link, file: &Path, name: &str) -> Replies {
        Self::run(link, &["upload", file.to_str().unwrap(), name]).0
    }

    fn download(&self, link: &Link, name: &str, file: &Path) -> Replies {
        Self::run(link, &["download", name, file.to_str().unwrap()]).0
    }

    fn names(&self, link: &Link, directory: &str) -> Vec<String> {
        let (replies, output) = Self::run(link, &["names", directory]);
        replies.expect(226);
        sorted_lines(&output)
    }

    fn rename(&self, link: &Link, from: &str, to: &str) -> Replies {
        Self::run(link, &["rename", from, to]).0
    }

    fn delete(&self, link: &Link, name: &str) -> Replies {
        Self::run(link, &["delete", name]).0
    }

    fn make_directory(&self, link: &Link, name: &str) -> Replies {
        Self::run(link, &["make-directory", name]).0
    }

    fn remove_directory(&self, link: &Link, name: &str) -> Replies {
        Self::run(link, &["remove-directory", name]).0
    }
}

/// Runs a program to its end with nothing on its input.
///
/// # Panics
/// When it does not end within `limit`; it is killed first.
pub(crate) fn run_to_end(command: Command, limit: Duration) -> (ExitStatus, String, String) {
    run_with_input(command, Stdio::null(), limit)
}

/// As [`run_to_end`], with something on its input.
pub(crate) fn run_with_input(
    mut command: Command,
    input: Stdio,
    limit: Duration,
) -> (ExitStatus, String, String) {
    command
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|why| panic!("{command:?}: {why}"));
    let mut stdout = child.stdout.take().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let stdout = thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout
            .read_to_end(&mut bytes)
            .map(|_| String::from_utf8_lossy(&bytes).into_owned())
    });
    let stderr = thread::spawn(move || {
        let mut bytes = Vec::new();
        stderr
            .read_to_end(&mut bytes)
            .map(|_| String::from_utf8_lossy(&bytes).into_owned())
    });
    let end = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if Instant::now() >= end {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        thread::sleep(Duration::from_millis(5));
    };
    let stdout = stdout.join().unwrap().unwrap();
    let stderr = stderr.join().unwrap().unwrap();
    let Some(status) = status else {
        panic!("{command:?} did not end within {limit:?}\n{stdout}\n{stderr}");
    };
    (status, stdout, stderr)
}

/// Runs a client that must succeed: its dialogue (standard error) and its output.
#[track_caller]
fn succeed(command: Command) -> (String, String) {
    let name = format!("{command:?}");
    let (status, stdout, stderr) = run_to_end(command, Duration::from_secs(560));
    assert!(status.success(), "{name}: {status}\n{stdout}\n{stderr}");
    (stderr, stdout)
}

fn replies(dialogue: &str, reply: impl Fn(&str) -> Option<&str>) -> Replies {
    let codes = dialogue
        .lines()
        .filter_map(|line| reply(line.trim_end()))
        .filter(|line| line.as_bytes().get(3).is_none_or(|&byte| byte == b' '))
        .filter_map(|line| line.get(..3)?.parse().ok())
        .collect();
    Replies(codes, dialogue.to_owned())
}

fn sorted_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}
