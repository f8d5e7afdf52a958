//! The real binary on free ports, with its own directory, certificates and users.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher, Version as Argon2Version, password_hash::SaltString,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Store, Tls, Version, until};

/// Of every user.
pub(crate) const PASSWORD: &str = "secret123";

/// Groups for users from other sources: `uploaders` may write and not delete, `readers` may read.
pub(crate) const GROUPS: &str = "groups:
  uploaders:
    grants: [{path: '/**', allow: [list, read, write, mkdir]}]
  readers:
    grants: [{path: '/**', allow: [list, read]}]
";

/// A running server; dropped, it is killed and waited for.
pub(crate) struct Server {
    /// Explicit TLS on IPv4.
    pub(crate) explicit: SocketAddr,
    /// Implicit TLS on IPv4.
    pub(crate) implicit: SocketAddr,
    /// Explicit TLS on IPv6.
    pub(crate) explicit6: SocketAddr,
    /// Implicit TLS on IPv6.
    pub(crate) implicit6: SocketAddr,
    /// Health and metrics.
    pub(crate) admin: SocketAddr,
    authority: CertificateDer<'static>,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
    directory: TempDir,
}

/// A configuration on its way to a server.
#[must_use]
pub(crate) struct Builder {
    config: Value,
    /// Written beside the configuration, by name.
    files: Vec<(String, String)>,
    /// Appended to the users file.
    users: String,
    environment: Vec<(String, String)>,
    /// What starts the binary in the end, with its arguments; empty: nothing in between.
    launcher: Vec<String>,
    user_profiles: Vec<(String, String)>,
    /// The groups of the users file, as its text.
    groups: String,
}

impl Server {
    /// Starts with the defaults of [`Server::with`].
    pub(crate) fn start(store: &Store) -> Self {
        Self::with(store).start()
    }

    /// Users `alice` (may write) and `reader` (may not) on this store, short deadlines, JSON log.
    pub(crate) fn with(store: &Store) -> Builder {
        store.make_home("alice");
        store.make_home("reader");
        let listener = |name: &str, address: &str, mode: &str| {
            json!({
                "name": name, "address": address, "mode": mode, "clear_text": "refuse",
                "passive": {"ports": "0"}, "upload_end": "close_notify",
            })
        };
        Builder {
            user_profiles: Vec::new(),
            config: json!({
                "listeners": [
                    listener("explicit", "127.0.0.1:0", "explicit"),
                    listener("implicit", "127.0.0.1:0", "implicit"),
                    listener("explicit6", "[::1]:0", "explicit"),
                    listener("implicit6", "[::1]:0", "implicit"),
                ],
                "backends": {"main": store.backend()},
                "mounts": [{"path": "/", "backend": "main", "prefix": "{home}"}],
                // Every client of a test comes from the same address.
                "bans": {"safe_networks": ["127.0.0.0/8", "::1"]},
                "bandwidth": {},
                "limits": {"connections": 1000, "connections_per_address": 1000},
                "timeouts": {
                    "login_seconds": 60, "tls_handshake_seconds": 20, "data_connect_seconds": 20,
                    "data_stall_seconds": 60, "idle_seconds": 300, "reply_seconds": 20,
                    "store_seconds": 120, "commit_seconds": 300, "drain_seconds": 60,
                },
                "admin": {"address": "127.0.0.1:0"},
                "log": {"level": "debug", "format": "json"},
                "tls": {},
            }),
            files: Vec::new(),
            users: String::new(),
            groups: String::new(),
            environment: Vec::new(),
            launcher: Vec::new(),
        }
    }

    /// TLS that trusts this server's authority.
    pub(crate) fn tls(&self, version: Version) -> Tls {
        Tls::new(version, &self.authority)
    }

    /// PEM file of the authority, for clients that verify.
    pub(crate) fn authority_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// A directory that goes away with the server, for files of the test.
    pub(crate) fn scratch(&self) -> PathBuf {
        let scratch = self.directory.path().join("scratch");
        fs::create_dir_all(&scratch).unwrap();
        scratch
    }

    /// Everything logged so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Where configuration, users and certificates lie.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A file beside the configuration.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.directory.path().join(name)).unwrap()
    }

    /// A request to the API that must be answered with this status; its JSON.
    #[track_caller]
    pub(crate) fn api(&self, method: &str, path: &str, body: &str, status: u16) -> Value {
        let headers = [("x-causeway-request", "test")];
        let path = format!("/api/v1{path}");
        let (found, body) = http(self.admin, method, &path, &headers, body);
        assert_eq!(found, status, "{method} {path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
    }

    /// Changes the configuration file, in one step as an operator's tool does. The server is not told.
    pub(crate) fn configure(&self, change: impl FnOnce(&mut Value)) {
        let mut config = serde_json::from_str(&self.read("causeway.yaml")).unwrap();
        change(&mut config);
        let file = self.directory.path().join("causeway.yaml");
        let new = file.with_extension("new");
        fs::write(&new, serde_json::to_string_pretty(&config).unwrap()).unwrap();
        fs::rename(new, file).unwrap();
    }

    pub(crate) fn hang_up(&self) {
        kill_process(Pid::from_child(&self.child), Signal::HUP).unwrap();
    }

    /// Sum of the samples of a metric whose labels hold all these texts.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let (status, page) = http_get(self.admin, "/metrics");
        assert_eq!(status, 200, "{page}");
        page.lines()
            .filter(|line| {
                let rest = line.strip_prefix(name);
                rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
                    && labels.iter().all(|label| line.contains(label))
            })
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// Ends the process without a warning.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The same, and starts it again with the same configuration.
    pub(crate) fn crash_and_restart(&mut self) {
        self.kill();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        let (child, reader, arriving) = spawn(
            Command::new(env!("CARGO_BIN_EXE_causeway")),
            self.directory.path(),
            &self.log,
        );
        self.child = child;
        self.reader = Some(reader);
        self.learn_addresses(&arriving);
    }

    pub(crate) fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// Stops the process where it is; the kernel goes on to take connections for it.
    pub(crate) fn freeze(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).unwrap();
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).unwrap();
    }

    /// Waits for the process to end by itself.
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        let child = &mut self.child;
        until(limit, "the server ends", || {
            child
                .try_wait()
                .unwrap()
                .ok_or_else(|| "still running".to_owned())
        })
    }

    /// A range of ten ports that were free a moment ago, below those the system gives out itself.
    pub(crate) fn free_ports() -> RangeInclusive<u16> {
        (0..200_u16)
            .map(|step| {
                20_000 + (u16::try_from(std::process::id() % 1_000).unwrap() + step) % 1_000 * 10
            })
            .map(|first| first..=first + 9)
            .find(|range| {
                range
                    .clone()
                    .all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
            })
            .expect("ten free ports in a row")
    }

    /// The most memory that was ever resident, in KiB.
    pub(crate) fn peak_memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM:"))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// CPU time of the process so far, in user and kernel.
    pub(crate) fn cpu_time(&self) -> Duration {
        // In hundredths of a second on every Linux (sysconf(_SC_CLK_TCK)).
        const TICK: Duration = Duration::from_millis(10);
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The name in parentheses may hold blanks.
        let (_, rest) = stat.rsplit_once(')').unwrap();
        let ticks = |index: usize| -> u32 {
            let field = rest.split_whitespace().nth(index).unwrap();
            field.parse().unwrap()
        };
        TICK * (ticks(11) + ticks(12))
    }

    /// Open file descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id()))
            .unwrap()
            .count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone in tests of the shutdown; the wait below is what matters.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if thread::panicking() {
            let log = self.log();
            let tail = log.len().saturating_sub(200);
            println!(
                "--- the server's log, from line {tail} on ---\n{}",
                log[tail..].join("\n")
            );
        }
    }
}

impl Builder {
    /// Sets the value at a JSON pointer, for example `/timeouts/idle_seconds`.
    pub(crate) fn set(mut self, pointer: &str, value: impl Into<Value>) -> Self {
        let (parent, key) = pointer.rsplit_once('/').expect("a JSON pointer");
        let parent = self
            .config
            .pointer_mut(parent)
            .expect("a section of the configuration");
        parent[key] = value.into();
        self
    }

    /// Sets a key of every listener.
    pub(crate) fn set_listeners(mut self, key: &str, value: &Value) -> Self {
        for listener in self.config["listeners"].as_array_mut().unwrap() {
            listener[key] = value.clone();
        }
        self
    }

    /// Writes a file beside the configuration, which may name it by `name`.
    pub(crate) fn file(mut self, name: &str, content: &str) -> Self {
        self.files.push((name.to_owned(), content.to_owned()));
        self
    }

    /// One more user, as a flow mapping of the users file.
    pub(crate) fn user(mut self, user: &str) -> Self {
        writeln!(self.users, "  - {user}").unwrap();
        self
    }

    /// The groups of the users file, as they stand there.
    pub(crate) fn groups(mut self, groups: &str) -> Self {
        groups.clone_into(&mut self.groups);
        self
    }

    /// A variable of the server's environment.
    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A program that becomes the server: the server's command line is appended to its arguments.
    pub(crate) fn launched_by(mut self, command: &[&str]) -> Self {
        self.launcher = command.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// What systemd does with a socket unit: binds, listens, hands over descriptor 3. `::` serves both families.
    pub(crate) fn handed_a_socket(self, host: &str, port: u16) -> Self {
        const HAND_OVER: &str = "
import os, socket, sys
handed = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET)
handed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if handed.family == socket.AF_INET6:
    handed.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
handed.bind((sys.argv[1], int(sys.argv[2])))
handed.listen()
if handed.fileno() != 3:
    os.dup2(handed.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[3], sys.argv[3:])
";
        self.launched_by(&["python3", "-c", HAND_OVER, host, &port.to_string()])
    }

    /// Gives a user a profile.
    pub(crate) fn user_profile(mut self, user: &str, profile: &str) -> Self {
        self.user_profiles
            .push((user.to_owned(), profile.to_owned()));
        self
    }

    /// Writes the files, starts the binary and waits until it is ready.
    ///
    /// # Panics
    /// With the log, when it does not come up.
    pub(crate) fn start(mut self) -> Server {
        let directory = TempDir::new().unwrap();
        let authority = write_certificates(directory.path());
        let mut users = users_file() + &self.users + &self.groups;
        for (user, profile) in &self.user_profiles {
            let name = format!("name: {user}\n");
            users = users.replace(&name, &format!("{name}    profile: {profile}\n"));
        }
        fs::write(directory.path().join("users.yaml"), users).unwrap();
        for (name, content) in &self.files {
            fs::write(directory.path().join(name), content).unwrap();
        }
        let tls = &mut self.config["tls"];
        if tls.get("certificates").is_none() && tls.get("certificate_file").is_none() {
            tls["certificate_file"] = "cert.pem".into();
            tls["key_file"] = "key.pem".into();
        }
        self.config["users"] = json!({"file": directory.path().join("users.yaml")});
        // JSON is YAML; the block style is tested by the command line's tests.
        let file = directory.path().join("causeway.yaml");
        fs::write(&file, serde_json::to_string_pretty(&self.config).unwrap()).unwrap();

        let log = Arc::new(Mutex::new(Vec::new()));
        let binary = env!("CARGO_BIN_EXE_causeway");
        let mut command = match self.launcher.split_first() {
            None => Command::new(binary),
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binary);
                command
            }
        };
        command.envs(self.environment);
        let (child, reader, arriving) = spawn(command, directory.path(), &log);

        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Server {
            explicit: nowhere,
            implicit: nowhere,
            explicit6: nowhere,
            implicit6: nowhere,
            admin: nowhere,
            authority,
            child,
            log,
            reader: Some(reader),
            directory,
        };
        server.learn_addresses(&arriving);
        server
    }
}

impl Server {
    fn learn_addresses(&mut self, lines: &mpsc::Receiver<String>) {
        loop {
            let line = lines
                .recv_timeout(Duration::from_mins(1))
                .unwrap_or_else(|why| {
                    panic!(
                        "the server did not become ready: {why}\n{}",
                        self.log().join("\n")
                    )
                });
            let Ok(line) = serde_json::from_str::<Value>(&line) else {
                panic!(
                    "a log line that is not JSON: {line}\n{}",
                    self.log().join("\n")
                );
            };
            let fields = &line["fields"];
            match fields["message"].as_str() {
                Some("listening") => {
                    let address = fields["address"].as_str().expect("the field `address`");
                    let address = address.parse().expect("an address and a port");
                    match fields["listener"].as_str().expect("the field `listener`") {
                        "explicit" => self.explicit = address,
                        "implicit" => self.implicit = address,
                        "explicit6" => self.explicit6 = address,
                        "implicit6" => self.implicit6 = address,
                        "admin" => self.admin = address,
                        other => panic!("a listener named {other:?}"),
                    }
                }
                Some("ready") => break,
                _ => {}
            }
        }
        let bound = [
            self.explicit,
            self.implicit,
            self.explicit6,
            self.implicit6,
            self.admin,
        ];
        assert!(
            bound.iter().all(|address| address.port() != 0),
            "not all announced: {bound:?}"
        );
    }
}

/// Runs the binary, or what becomes it, on the configuration in `directory`; its log goes to `log` and, until it is ready,
/// to the receiver.
fn spawn(
    mut command: Command,
    directory: &Path,
    log: &Arc<Mutex<Vec<String>>>,
) -> (Child, JoinHandle<()>, mpsc::Receiver<String>) {
    let mut child = command
        .args(["serve", "-c", "causeway.yaml"])
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = child.stderr.take().unwrap();
    let (lines, arriving) = mpsc::channel();
    let sink = Arc::clone(log);
    let reader = thread::spawn(move || {
        for line in BufReader::new(stderr).lines() {
            let Ok(line) = line else { break };
            sink.lock().unwrap().push(line.clone());
            // Nobody listens once the server is ready.
            let _ = lines.send(line);
        }
    });
    (child, reader, arriving)
}

/// Writes `ca.pem`, `cert.pem` and `key.pem`; gives the authority. The leaf is not its own
/// authority: rustls clients refuse that.
pub(crate) fn write_certificates(directory: &Path) -> CertificateDer<'static> {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority
        .distinguished_name
        .push(rcgen::DnType::CommonName, "causeway test authority");
    let certificate = authority.self_signed(&authority_key).unwrap();
    let issuer = Issuer::from_params(&authority, &authority_key);

    let key = KeyPair::generate().unwrap();
    let names = ["localhost", "127.0.0.1", "::1"]
        .map(str::to_owned)
        .to_vec();
    let mut leaf = CertificateParams::new(names).unwrap();
    leaf.distinguished_name
        .push(rcgen::DnType::CommonName, "localhost");
    leaf.use_authority_key_identifier_extension = true;
    let leaf = leaf.signed_by(&key, &issuer).unwrap();

    fs::write(directory.join("ca.pem"), certificate.pem()).unwrap();
    fs::write(directory.join("cert.pem"), leaf.pem()).unwrap();
    fs::write(directory.join("key.pem"), key.serialize_pem()).unwrap();
    certificate.der().clone()
}

/// The hash of [`PASSWORD`].
pub(crate) fn password_hash() -> String {
    // The cheapest parameters there are: what is tested is FTP, and the machine is small.
    let argon2 = Argon2::new(
        Algorithm::Argon2id,
        Argon2Version::V0x13,
        Params::new(8, 1, 1, None).unwrap(),
    );
    let salt = SaltString::encode_b64(b"0123456789abcdef").unwrap();
    let hash = argon2.hash_password(PASSWORD.as_bytes(), &salt).unwrap();
    hash.to_string()
}

/// The users file: `alice` may write, `reader` may not.
pub(crate) fn users_file() -> String {
    let hash = password_hash();
    let mut file = "users:\n".to_owned();
    for (name, read_only) in [("alice", false), ("reader", true)] {
        writeln!(
            file,
            "  - name: {name}\n    password_hash: \"{hash}\"\n    home: {name}\n    read_only: {read_only}"
        )
        .unwrap();
    }
    file
}

/// Status and body of `GET path`.
pub(crate) fn http_get(address: SocketAddr, path: &str) -> (u16, String) {
    http(address, "GET", path, &[], "")
}

/// One request, without TLS, with these headers besides the necessary ones.
pub(crate) fn http(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        write!(request, "Host: {address}\r\n").unwrap();
    }
    for (name, value) in headers {
        write!(request, "{name}: {value}\r\n").unwrap();
    }
    write!(request, "Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a complete answer");
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (status.expect("a status line"), body.to_owned())
}
