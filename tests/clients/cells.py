"""The clients, the steps they take, and one cell of the matrix. Knows nothing of servers and processes."""

from dataclasses import dataclass, field

PASSWORD = "secret123"
MIB = 1 << 20
SET_TIME = "20200102030405"
MODES = ("explicit", "implicit")

# Explicit on a listener with `upload_end: fin`, for clients that never send close_notify.
LENIENT = "explicit, upload_end fin"
VERSIONS = ("1.2", "1.3")

# Every cell takes these steps; the programs know them by these names.
STEPS = {
    "login": "login",
    "mkdir": "MKD `made`",
    "small": "upload of 70,001 bytes",
    "zero": "upload of an empty file",
    "large": "upload of 50 MiB",
    "two": "two uploads in one session",
    "get": "download of 50 MiB",
    "list": "LIST",
    "nlst": "NLST",
    "mlsd": "MLSD",
    "resume-get": "download from an offset (REST, RETR)",
    "resume-put": "upload continued at an offset (REST, STOR)",
    "append": "upload continued with APPE",
    "rename": "RNFR, RNTO into a directory",
    "time": "modification time set (MFMT or what the client has)",
    "delete": "DELE",
    "rmdir": "RMD",
    "abort": "download cut short; the session, or the next one, goes on",
}

# Names in the directory `listed`.
LISTED = {"first.bin", "second.txt", "third", "fourth.tar.gz", "fifth-file"}


@dataclass(frozen=True)
class Client:
    name: str
    title: str
    command: tuple
    modes: tuple = MODES
    versions: tuple = VERSIONS
    quick: bool = False
    # One of the ten of --uploads.
    uploads: bool = False
    seconds: int = 120
    # Listings whose names the program cannot show: its word counts.
    unseen: tuple = ()


def python(name):
    return (".venv/python", f"{name}.py")


CLIENTS = (
    Client("curl", "curl", ("bash", "curl.sh"), uploads=True),
    Client("pycurl", "libcurl (pycurl)", python("pycurl_client"), uploads=True),
    Client("lftp", "lftp", ("bash", "lftp.sh"), uploads=True),
    Client("ftplib", "Python ftplib", python("ftplib_client"), uploads=True),
    Client("aioftp", "Python aioftp", python("aioftp_client"), quick=True),
    Client("rclone", "rclone (Go)", ("bash", "rclone.sh"), quick=True, uploads=True),
    Client("basic-ftp", "Node basic-ftp", ("node", "basic_ftp.cjs"), quick=True, uploads=True),
    Client("php", "PHP", ("php", "client.php"), modes=("explicit",), quick=True, uploads=True),
    Client("ruby", "Ruby Net::FTP", ("ruby", "client.rb"), modes=("explicit",), quick=True, uploads=True),
    Client("perl", "Perl Net::FTP", ("perl", "client.pl"), quick=True, uploads=True),
    Client("commons-net", "Java commons-net", ("bash", "commons_net.sh"), quick=True, uploads=True),
    Client("suppaftp", "Rust suppaftp", ("bash", "suppaftp.sh")),
    Client("gio", "gio (gvfs)", ("bash", "gio.sh")),
    Client("ftp-ssl", "ftp-ssl", ("bash", "ftp_ssl.sh"), modes=("explicit", LENIENT)),
    Client("gftp", "gftp-text", ("bash", "gftp.sh"), modes=("explicit",)),
    Client("wget", "wget", ("bash", "wget.sh")),
    Client("filezilla", "FileZilla", python("filezilla_client"), unseen=("mlsd",)),
)


@dataclass
class Cell:
    client: Client
    mode: str
    tls: str
    resumption: str
    # Step -> (ok | fail | none, why).
    results: dict = field(default_factory=dict)
    resumed: int = 0
    handshakes: int = 0
    seconds: float = 0.0
    # TLS version -> handshakes; outcome -> handshakes on uploads; uploads that ended with 226.
    versions: dict = field(default_factory=dict)
    upload: dict = field(default_factory=dict)
    uploads_complete: int = 0
    output: str = ""

    @property
    def user(self):
        mode = "lenient" if self.mode == LENIENT else self.mode
        return f"{self.client.name}-{mode}-{self.tls.replace('.', '')}"

    def name(self):
        return f"{self.client.name} {self.mode} TLS {self.tls}" + (f" {self.resumption}" if self.resumption else "")
