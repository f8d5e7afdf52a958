//! Services that causeway asks: an authentication hook, an LDAP directory, a Redis. Real ones, on
//! loopback, ended with the test.

use std::{
    fs,
    io::{BufRead, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{until, write_certificates};

const SOON: Duration = Duration::from_secs(20);

/// A process that is killed and waited for when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone where a test has ended it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

#[track_caller]
fn wait_for_port(what: &str, port: u16) {
    until(SOON, what, || {
        TcpStream::connect(("127.0.0.1", port))
            .map(drop)
            .map_err(|error| error.to_string())
    });
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// `tests/peers/hook.py`.
pub(crate) struct Hook {
    /// Its `auth.http` section.
    pub(crate) config: Value,
    directory: TempDir,
    _process: Process,
}

impl Hook {
    /// The password of everybody it knows.
    pub(crate) const PASSWORD: &str = "from the hook";

    /// A hook on plain HTTP, which is loopback's privilege.
    pub(crate) fn plain() -> Self {
        Self::start(false)
    }

    /// A hook on HTTPS that asks for a client certificate.
    pub(crate) fn with_certificates() -> Self {
        Self::start(true)
    }

    fn start(tls: bool) -> Self {
        const SECRET: &str = "the secret that signs requests";
        const BEARER: &str = "a token";
        let directory = TempDir::new().unwrap();
        write_certificates(directory.path());
        let file = |name: &str| directory.path().join(name).display().to_string();
        let of_tls = |name: &str| if tls { file(name) } else { String::new() };
        let mut child = Command::new(tests().join(".venv/bin/python"))
            .arg(tests().join("peers/hook.py"))
            .args([of_tls("cert.pem"), of_tls("key.pem"), of_tls("ca.pem")])
            .args([SECRET, BEARER, &file("record")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/.venv, which ./tests/run makes");
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        let process = Process(child);
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let port: u16 = line.trim().parse().expect("the port of the hook");
        let scheme = if tls { "https" } else { "http" };
        let mut config = json!({
            "url": format!("{scheme}://127.0.0.1:{port}/login"),
            "signing_secret": SECRET, "bearer_token": BEARER,
            "connect_seconds": 2, "total_seconds": 3,
        });
        if tls {
            // The leaf of the hook stands for a client's as well: it has no usage that forbids it.
            config["ca_file"] = file("ca.pem").into();
            config["client_certificate_file"] = file("cert.pem").into();
            config["client_key_file"] = file("key.pem").into();
        }
        Self {
            config,
            directory,
            _process: process,
        }
    }

    /// What it was asked so far.
    pub(crate) fn requests(&self) -> Vec<Value> {
        let record = fs::read_to_string(self.directory.path().join("record")).unwrap_or_default();
        let lines = record.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// slapd with a few users and groups.
pub(crate) struct Slapd {
    port: u16,
    tls_port: u16,
    directory: TempDir,
    process: Option<Process>,
}

impl Slapd {
    /// The password of every user.
    pub(crate) const PASSWORD: &str = "from the directory";

    /// Below `dc=example,dc=com`: `carol` in the group `up`, `dave` in `down`, `erin` in none, all in
    /// `ou=people`; and `cn=service`, who may read.
    pub(crate) fn start() -> Self {
        Self::configured("")
    }

    /// The same with more lines of `slapd.conf`.
    pub(crate) fn configured(lines: &str) -> Self {
        let directory = TempDir::new().unwrap();
        write_certificates(directory.path());
        let at = |name: &str| directory.path().join(name).display().to_string();
        fs::create_dir(directory.path().join("db")).unwrap();
        let schemas = ["core", "cosine", "inetorgperson"]
            .map(|name| format!("include /etc/ldap/schema/{name}.schema\n"))
            .concat();
        let config = format!(
            "{schemas}{lines}\
             pidfile {}\nargsfile {}\n\
             modulepath /usr/lib/ldap\nmoduleload back_mdb\n\
             TLSCertificateFile {}\nTLSCertificateKeyFile {}\nTLSCACertificateFile {}\n\
             database mdb\nsuffix \"dc=example,dc=com\"\ndirectory {}\nmaxsize 16777216\n\
             access to attrs=userPassword by anonymous auth by * none\n\
             access to * by users read by * none\n",
            at("pid"),
            at("args"),
            at("cert.pem"),
            at("key.pem"),
            at("ca.pem"),
            at("db"),
        );
        fs::write(directory.path().join("slapd.conf"), config).unwrap();
        fs::write(directory.path().join("people.ldif"), people()).unwrap();
        let added = Command::new("/usr/sbin/slapadd")
            .args(["-f", &at("slapd.conf"), "-l", &at("people.ldif")])
            .output()
            .expect("slapd, which ./tests/run installs");
        let said = String::from_utf8_lossy(&added.stderr).into_owned();
        assert!(added.status.success(), "slapadd: {said}");
        let mut slapd = Self {
            port: free_port(),
            tls_port: free_port(),
            directory,
            process: None,
        };
        slapd.resume();
        slapd
    }

    /// Ends the server.
    pub(crate) fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it again, on the same ports.
    pub(crate) fn resume(&mut self) {
        let (port, tls_port) = (self.port, self.tls_port);
        let urls = format!("ldap://127.0.0.1:{port} ldaps://127.0.0.1:{tls_port}");
        // `-d` keeps it in the foreground.
        let child = Command::new("/usr/sbin/slapd")
            .args(["-d", "0", "-h", &urls, "-f"])
            .arg(self.directory.path().join("slapd.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.process = Some(Process(child));
        wait_for_port("slapd listens", port);
        wait_for_port("slapd listens for TLS", tls_port);
    }

    /// `ldap://`, for `StartTLS`.
    pub(crate) fn url(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.port)
    }

    /// `ldaps://`.
    pub(crate) fn tls_url(&self) -> String {
        format!("ldaps://127.0.0.1:{}", self.tls_port)
    }

    /// The authority of its certificate.
    pub(crate) fn authority_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// An `auth.ldap` section that searches and binds, by `StartTLS`.
    pub(crate) fn config(&self) -> Value {
        json!({
            "urls": [self.url()], "ca_file": self.authority_file(),
            "bind_dn": "cn=service,dc=example,dc=com", "bind_password": Self::PASSWORD,
            "user_base": "ou=people,dc=example,dc=com",
            "user_filter": "(&(objectClass=inetOrgPerson)(uid={user}))",
            "groups": {
                "base": "ou=groups,dc=example,dc=com",
                "map": {
                    "up": "uploaders",
                    "CN=down, OU=groups, DC=example, DC=com": "readers",
                },
            },
            "connect_seconds": 2, "total_seconds": 5,
        })
    }
}

fn people() -> String {
    use std::fmt::Write as _;
    let password = Slapd::PASSWORD;
    let mut ldif = format!(
        "dn: dc=example,dc=com\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: example\n\n\
         dn: cn=service,dc=example,dc=com\nobjectClass: person\ncn: service\nsn: service\n\
         userPassword: {password}\n\n\
         dn: ou=people,dc=example,dc=com\nobjectClass: organizationalUnit\nou: people\n\n\
         dn: ou=groups,dc=example,dc=com\nobjectClass: organizationalUnit\nou: groups\n\n"
    );
    for (user, room) in [("carol", "c1"), ("dave", "d2"), ("erin", "e3")] {
        writeln!(
            ldif,
            "dn: uid={user},ou=people,dc=example,dc=com\nobjectClass: inetOrgPerson\nuid: {user}\n\
             cn: {user}\nsn: {user}\nroomNumber: {room}\nuserPassword: {password}\n"
        )
        .unwrap();
    }
    for (group, member) in [("up", "carol"), ("down", "dave")] {
        writeln!(
            ldif,
            "dn: cn={group},ou=groups,dc=example,dc=com\nobjectClass: groupOfNames\ncn: {group}\n\
             member: uid={member},ou=people,dc=example,dc=com\n"
        )
        .unwrap();
    }
    ldif
}

/// redis-server without persistence.
pub(crate) struct Redis {
    port: u16,
    /// Asks for a client certificate, and for an account that may do what is needed and no more.
    tls: bool,
    directory: TempDir,
    process: Option<Process>,
}

impl Redis {
    /// Of the account `causeway`, where there is TLS.
    pub(crate) const PASSWORD: &str = "of-the-counters";

    pub(crate) fn start() -> Self {
        Self::new(false)
    }

    /// Over TLS, for `causeway` alone.
    pub(crate) fn with_tls() -> Self {
        Self::new(true)
    }

    fn new(tls: bool) -> Self {
        let directory = TempDir::new().unwrap();
        write_certificates(directory.path());
        // As in docs/authentication.md.
        let account = format!(
            "user default off\nuser causeway on >{} ~causeway:* -@all +eval +time +incr +pexpire \
             +zadd +zrem +zrange +zcard +zremrangebyscore +del\n",
            Self::PASSWORD
        );
        fs::write(directory.path().join("users.acl"), account).unwrap();
        let mut redis = Self {
            port: free_port(),
            tls,
            directory,
            process: None,
        };
        redis.resume();
        redis
    }

    /// Ends the server; what it knew is lost.
    pub(crate) fn stop(&mut self) {
        self.process = None;
    }

    /// Stops it where it is, with all it knows; or lets it go on.
    pub(crate) fn freeze(&self, frozen: bool) {
        let Process(child) = self.process.as_ref().expect("a running redis");
        let signal = if frozen { Signal::STOP } else { Signal::CONT };
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    /// Starts it again, on the same port, empty.
    pub(crate) fn resume(&mut self) {
        let port = self.port.to_string();
        let mut command = Command::new("redis-server");
        command
            .args([
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
                "--dir",
            ])
            .arg(self.directory.path());
        if self.tls {
            command
                .args([
                    "--port",
                    "0",
                    "--tls-port",
                    &port,
                    "--tls-auth-clients",
                    "yes",
                ])
                .args(["--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem"])
                .args(["--tls-ca-cert-file", "ca.pem", "--aclfile", "users.acl"])
                .current_dir(self.directory.path());
        } else {
            command.args(["--port", &port]);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server, which ./tests/run installs");
        self.process = Some(Process(child));
        wait_for_port("redis listens", self.port);
    }

    /// The first line of the answer to a command.
    pub(crate) fn ask(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream
            .write_all(format!("{command}\r\n").as_bytes())
            .unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    pub(crate) fn url(&self) -> String {
        if self.tls {
            let password = Self::PASSWORD;
            format!("rediss://causeway:{password}@127.0.0.1:{}/0", self.port)
        } else {
            format!("redis://127.0.0.1:{}/0", self.port)
        }
    }

    /// A `shared_counters` section.
    pub(crate) fn config(&self) -> Value {
        let mut config = json!({"url": self.url()});
        if self.tls {
            config["ca_file"] = self.file("ca.pem");
            config["client_certificate_file"] = self.file("cert.pem");
            config["client_key_file"] = self.file("key.pem");
        }
        config
    }

    fn file(&self, name: &str) -> Value {
        self.directory
            .path()
            .join(name)
            .display()
            .to_string()
            .into()
    }
}
