"""Runs every FTPS client through the same tour against a running causeway and judges what is stored.

    driver.py [--quick] [--only NAME,...] [--mode MODE] [--tls VERSION] [--resumption MODE,...]
              [--write-docs] [--uploads] [--jobs N] [--keep]

Called by ./tests/matrix, which installs the clients and sets CAUSEWAY_BIN. One cell is one client in
one mode with one TLS version: one process, `programs/<client>`, that walks the steps below and prints a
line `STEP ok`, `STEP fail WHY` or `STEP none WHY` (the client cannot do it) for each. The program is not
believed: content, names and times are read from the server's local directory. Every result that is not
`ok` must be in `expected.toml` with its reason, and every line there must still be true.
"""

import argparse
import calendar
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
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
    "mkdir": "MKD `work`",
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
    Client("aioftp", "Python aioftp", python("aioftp_client")),
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


def content(name, size):
    """Bytes that no compression and no block boundary can hide, the same in every run."""
    return hashlib.shake_256(name.encode()).digest(size)


class Files:
    """What the clients upload, made once."""

    def __init__(self, directory):
        self.directory = directory
        directory.mkdir()
        self.content = {
            "small.bin": content("small", 70_001),
            "zero.bin": b"",
            "medium.bin": content("medium", 5 * MIB),
            "large.bin": content("large", 50 * MIB),
        }
        self.digest = {}
        for name, data in self.content.items():
            (directory / name).write_bytes(data)
            self.digest[name] = hashlib.sha256(data).hexdigest()
        self.part = self.content["medium.bin"][: 2 * MIB + 17]


def digest_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Server:
    """One causeway on free loopback ports with its own certificate authority and users."""

    def __init__(self, binary, directory, users, password_hash, resumption):
        directory.mkdir()
        self.directory, self.store = directory, directory / "store"
        self.store.mkdir()
        make_certificates(directory)
        rows = "".join(
            f'  - name: {user}\n    password_hash: "{password_hash}"\n    home: {user}\n' for user in users
        )
        (directory / "users.yaml").write_text("users:\n" + rows)
        self.config = directory / "causeway.yaml"
        self.config.write_text(json.dumps(configuration(directory, resumption), indent=1))
        self.log = open(directory / "log", "w+b")
        self.child = subprocess.Popen(
            [binary, "serve", "-c", self.config], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=self.log, cwd=directory,
        )
        self.ports = {}
        self.await_ready()

    def await_ready(self):
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if self.child.poll() is not None:
                break
            text = (self.directory / "log").read_text(errors="replace")
            for line in text.splitlines():
                fields = json.loads(line).get("fields", {})
                if fields.get("message") == "listening":
                    self.ports[fields["listener"]] = int(fields["address"].rsplit(":", 1)[1])
                if fields.get("message") == "ready":
                    return
            time.sleep(0.05)
        sys.exit("causeway did not become ready:\n" + (self.directory / "log").read_text(errors="replace"))

    def metrics(self):
        """Every sample of /metrics, by its name with labels."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["admin"], timeout=20)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        samples = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def features(self):
        """The words of FEAT."""
        import ftplib

        ftp = ftplib.FTP()
        ftp.connect("127.0.0.1", self.ports["explicit"], timeout=20)
        lines = ftp.sendcmd("FEAT").splitlines()[1:-1]
        ftp.close()
        return {line.split()[0].upper() for line in lines if line.strip()}

    def stop(self):
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(20)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        self.log.close()


def configuration(directory, resumption):
    def listener(mode):
        entry = {"name": mode, "address": "127.0.0.1:0", "mode": mode.split(",")[0], "passive": {"ports": "0"},
                 "clear_text": "refuse", "upload_end": "fin" if mode == LENIENT else "close_notify"}
        if resumption:
            entry["resumption"] = resumption
        return entry

    return {
        "listeners": [listener(mode) for mode in (*MODES, LENIENT)],
        "tls": {"certificate_file": str(directory / "cert.pem"), "key_file": str(directory / "key.pem")},
        "users": {"file": str(directory / "users.yaml")},
        "backends": {"main": {"type": "fs", "root": str(directory / "store")}},
        "mounts": [{"path": "/", "backend": "main", "prefix": "{home}"}],
        "limits": {"connections": 1000, "connections_per_address": 1000},
        "timeouts": {"data_connect_seconds": 20, "data_stall_seconds": 60},
        "admin": {"address": "127.0.0.1:0"},
        "log": {"level": "debug", "format": "json"},
    }


def make_certificates(directory):
    """An authority and a leaf: rustls clients refuse an authority as a server's certificate."""

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "30",
            "-subj", "/CN=causeway matrix authority")
    openssl("req", *key, "-keyout", "key.pem", "-out", "leaf.csr", "-subj", "/CN=localhost")
    (directory / "leaf.ext").write_text(
        "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n"
        "authorityKeyIdentifier=keyid\nextendedKeyUsage=serverAuth\n"
    )
    openssl("x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", "30", "-extfile", "leaf.ext", "-out", "cert.pem")


def knows_resumption(binary, directory):
    """Whether this binary takes the key `resumption` of a listener."""
    probe = directory / "probe"
    (probe / "store").mkdir(parents=True)
    make_certificates(probe)
    password_hash = hash_password(binary)
    (probe / "users.yaml").write_text(
        f'users:\n  - name: probe\n    password_hash: "{password_hash}"\n    home: probe\n'
    )
    file = probe / "causeway.yaml"
    file.write_text(json.dumps(configuration(probe, "enforced")))
    answer = subprocess.run([binary, "check", "-c", file], capture_output=True, text=True)
    return answer.returncode == 0


def hash_password(binary):
    answer = subprocess.run([binary, "hash-password"], input=PASSWORD + "\n", capture_output=True,
                            text=True, check=True)
    return answer.stdout.strip().splitlines()[-1]


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
    output: str = ""

    @property
    def user(self):
        mode = "lenient" if self.mode == LENIENT else self.mode
        return f"{self.client.name}-{mode}-{self.tls.replace('.', '')}"

    def name(self):
        return f"{self.client.name} {self.mode} TLS {self.tls}" + (
            f" {self.resumption}" if self.resumption else ""
        )


class Runner:
    def __init__(self, files, python, task):
        self.files, self.python, self.task = files, python, task

    def run(self, cell, server):
        """One client's tour, then the verdict from the stored files."""
        home, scratch = server.store / cell.user, server.directory / f"out-{cell.user}"
        for path in (home, scratch):
            path.mkdir()
        self.prepare(home, scratch)
        before, started = server.metrics(), time.monotonic()
        cell.output = self.program(cell, server, scratch)
        cell.seconds = time.monotonic() - started
        self.count_handshakes(cell, before, server.metrics())
        if self.task == "tour":
            self.read_results(cell)
            self.judge(cell, home, scratch)
        else:
            self.judge_uploads(cell, home)
        for path in (home, scratch):
            shutil.rmtree(path, ignore_errors=True)

    def prepare(self, home, scratch):
        if self.task != "tour":
            return
        (home / "resume.bin").write_bytes(self.files.part)
        (home / "append.bin").write_bytes(self.files.part)
        (home / "medium.bin").write_bytes(self.files.content["medium.bin"])
        (home / "rename-me").write_bytes(b"renamed")
        (home / "delete-me").write_bytes(b"deleted")
        (home / "remove-me").mkdir()
        os.link(self.files.directory / "large.bin", home / "large.bin")
        (home / "listed").mkdir()
        for name in LISTED:
            (home / "listed" / name).write_bytes(b"listed")
        # What the resumed download starts with.
        (scratch / "medium.bin").write_bytes(self.files.part)

    def program(self, cell, server, scratch):
        first, *rest = cell.client.command
        command = [self.python if first == ".venv/python" else first, *rest]
        environment = os.environ | {
            "MATRIX_TASK": self.task,
            "MATRIX_HOST": "127.0.0.1",
            "MATRIX_PORT": str(server.ports[cell.mode]),
            "MATRIX_MODE": cell.mode.split(",")[0],
            "MATRIX_TLS": cell.tls,
            "MATRIX_CA": str(server.directory / "ca.pem"),
            "MATRIX_USER": cell.user,
            "MATRIX_PASSWORD": PASSWORD,
            "MATRIX_IN": str(self.files.directory),
            "MATRIX_OUT": str(scratch),
            "MATRIX_TIME": SET_TIME,
            "PYTHONDONTWRITEBYTECODE": "1",
            "LC_ALL": "C.UTF-8",
            # Nothing of the account's own settings.
            "HOME": str(scratch),
        } | tls_environment(scratch, cell.tls, server)
        with open(scratch / "program.log", "w+b") as log:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                     stderr=subprocess.STDOUT, cwd=HERE / "programs", env=environment,
                                     start_new_session=True)
            try:
                child.wait(cell.client.seconds)
            except subprocess.TimeoutExpired:
                log.write(b"\nout of time\n")
            # Its own session: the client and everything it started.
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            child.wait()
            log.seek(0)
            return log.read().decode(errors="replace")

    def read_results(self, cell):
        for line in cell.output.splitlines():
            step, _, rest = line.partition(" ")
            state, _, why = rest.partition(" ")
            if step in STEPS and state in ("ok", "fail", "none"):
                # The first failure stands.
                if cell.results.get(step, ("ok",))[0] == "ok":
                    cell.results[step] = (state, why.strip())
        for step in STEPS:
            cell.results.setdefault(step, ("fail", "the program said nothing"))

    def judge(self, cell, home, scratch):
        """Turns every `ok` that the stored bytes deny into a failure."""
        work = home / "work"

        def demand(step, *checks):
            if cell.results[step][0] != "ok":
                return
            for path, wanted in checks:
                if not path.is_file():
                    cell.results[step] = ("fail", f"no file {path.name}")
                elif digest_of(path) != wanted:
                    cell.results[step] = ("fail", f"{path.name} has other bytes ({path.stat().st_size})")

        digest = self.files.digest
        for step in ("small", "zero", "large"):
            demand(step, (work / f"{step}.bin", digest[f"{step}.bin"]))
        demand("two", (work / "one.bin", digest["medium.bin"]), (work / "two.bin", digest["small.bin"]))
        demand("get", (scratch / "large.bin", digest["large.bin"]))
        demand("resume-get", (scratch / "medium.bin", digest["medium.bin"]))
        demand("resume-put", (home / "resume.bin", digest["medium.bin"]))
        demand("append", (home / "append.bin", digest["medium.bin"]))
        demand("rename", (work / "renamed", hashlib.sha256(b"renamed").hexdigest()))
        gone = {"rename": "rename-me", "delete": "delete-me", "rmdir": "remove-me"}
        for step, name in gone.items():
            if cell.results[step][0] == "ok" and (home / name).exists():
                cell.results[step] = ("fail", f"{name} is still there")
        if cell.results["mkdir"][0] == "ok" and not work.is_dir():
            cell.results["mkdir"] = ("fail", "no directory")
        self.judge_time(cell, work / "small.bin")
        for step in {"list", "nlst", "mlsd"} - set(cell.client.unseen):
            self.judge_names(cell, step, scratch / f"{step}.txt")
        other = "1.2" if cell.tls == "1.3" else "1.3"
        if cell.versions.get(other):
            cell.results["login"] = ("fail", f"{cell.versions[other]} handshakes with TLS {other}")

    def judge_time(self, cell, path):
        if cell.results["time"][0] != "ok":
            return
        wanted = calendar.timegm(time.strptime(SET_TIME, "%Y%m%d%H%M%S"))
        found = path.stat().st_mtime if path.exists() else 0
        if abs(found - wanted) > 1:
            cell.results["time"] = ("fail", f"the file's time is {int(found)}, not {wanted}")

    def judge_names(self, cell, step, path):
        if cell.results[step][0] != "ok":
            return
        text = path.read_text(errors="replace") if path.exists() else ""
        # A name of its own, a path's last part, or the last word of a line of LIST.
        names = {re.split(r"[/\s]", line.rstrip())[-1] for line in text.splitlines() if line.strip()}
        missing = LISTED - names
        if missing:
            cell.results[step] = ("fail", f"not listed: {' '.join(sorted(missing))}")

    def judge_uploads(self, cell, home):
        wanted = self.files.digest["medium.bin"]
        names = [f"up-{number:02}.bin" for number in range(1, 21)]
        whole = sum((home / name).is_file() and digest_of(home / name) == wanted for name in names)
        cell.results["uploads"] = ("ok" if whole == len(names) else "fail", f"{whole} of {len(names)} whole")

    @staticmethod
    def count_handshakes(cell, before, after):
        cell.versions, cell.upload = {}, {}
        for name, value in after.items():
            if not name.startswith("causeway_tls_handshakes_total{"):
                continue
            labels = dict(re.findall(r'(\w+)="([^"]*)"', name))
            count = int(value - before.get(name, 0))
            if labels["outcome"] == "failed":
                continue
            cell.versions[labels["version"]] = cell.versions.get(labels["version"], 0) + count
            if labels["channel"] != "control":
                cell.handshakes += count
                cell.resumed += count if labels["outcome"] == "resumed" else 0
            if labels["channel"] == "upload":
                cell.upload[labels["outcome"]] = cell.upload.get(labels["outcome"], 0) + count
        cell.uploads_complete = int(sum(
            value - before.get(name, 0) for name, value in after.items()
            if name.startswith("causeway_transfers_total{") and 'direction="upload"' in name
            and 'outcome="complete"' in name
        ))


def tls_environment(scratch, tls, server):
    """Holds clients to one version and one authority that have no option of their own for it."""
    openssl, gnutls = scratch / "openssl.cnf", scratch / "gnutls.conf"
    openssl.write_text(
        "openssl_conf = conf\n[conf]\nssl_conf = ssl\n[ssl]\nsystem_default = versions\n[versions]\n"
        f"MinProtocol = TLSv{tls}\nMaxProtocol = TLSv{tls}\n"
    )
    # GnuTLS takes 1.3 by itself; without 1.2 in its offer gvfs and causeway have no group in common.
    gnutls.write_text("[overrides]\ndisabled-version = tls1.3\n" if tls == "1.2" else "")
    return {
        "OPENSSL_CONF": str(openssl),
        "SSL_CERT_FILE": str(server.directory / "ca.pem"),
        "GNUTLS_SYSTEM_PRIORITY_FILE": str(gnutls),
    }


class Expected:
    """`expected.toml`: which cells are not `ok`, and why."""

    def __init__(self, path, features):
        with open(path, "rb") as file:
            entries = tomllib.load(file)["exception"]
        self.entries = [entry for entry in entries if entry.get("unless_feature") not in features]
        self.used = set()

    def find(self, cell, step):
        for number, entry in enumerate(self.entries):
            steps = entry["step"] if isinstance(entry["step"], list) else [entry["step"]]
            clients = entry.get("client", cell.client.name)
            clients = clients if isinstance(clients, list) else [clients]
            if (
                cell.client.name in clients
                and (step in steps or "*" in steps)
                and entry.get("mode", cell.mode) == cell.mode
                and entry.get("tls", cell.tls) == cell.tls
                and entry.get("resumption", cell.resumption) == cell.resumption
            ):
                self.used.add(number)
                return entry
        return None

    def surprises(self, cell):
        for step, (state, why) in cell.results.items():
            entry = self.find(cell, step)
            wanted = entry["result"] if entry else "ok"
            allowed = (wanted, "ok") if entry and entry.get("sometimes") else (wanted,)
            if state not in allowed:
                yield f"{cell.name()}: {step}: {state} {why}".rstrip() + f" (expected: {wanted})"


SIGNS = {"ok": "✓", "fail": "✗", "none": "–"}


def table(cells, expected):
    """Markdown: one row per client and mode; versions with the same results share it."""
    head = ["client", "mode", "TLS", *STEPS, "resumes"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    reasons = []

    def sign(cell, step):
        state = cell.results[step][0]
        entry = expected.find(cell, step) if state != "ok" else None
        if not entry:
            return SIGNS[state]
        if entry["reason"] not in reasons:
            reasons.append(entry["reason"])
        return f"{SIGNS[state]}{reasons.index(entry['reason']) + 1}"

    rows = {}
    for cell in cells:
        resumes = "yes" if cell.resumed else "no"
        row = (cell.client.title, cell.mode, cell.resumption, tuple(sign(cell, step) for step in STEPS), resumes)
        rows.setdefault(row, []).append(cell.tls)
    for (title, mode, resumption, signs, resumes), versions in rows.items():
        mode += f", resumption {resumption}" if resumption not in ("", "enabled") else ""
        lines.append("| " + " | ".join([title, mode, ", ".join(versions), *signs, resumes]) + " |")
    notes = [f"{number}. {reason}" for number, reason in enumerate(reasons, 1)]
    return "\n".join([*lines, "", *notes])


def write_docs(path, text):
    begin, end = "<!-- matrix: begin -->", "<!-- matrix: end -->"
    document = path.read_text()
    head, rest = document.split(begin)
    _, tail = rest.split(end)
    path.write_text(f"{head}{begin}\n{text}\n{end}{tail}")


def arguments():
    parser = argparse.ArgumentParser(prog="tests/matrix")
    parser.add_argument("--quick", action="store_true",
                        help="a few clients that no Rust test drives, one TLS version for each mode")
    parser.add_argument("--uploads", action="store_true",
                        help="ten clients × 20 uploads of 5 MiB over TLS 1.3 instead of the tour")
    parser.add_argument("--only", help="names of clients, with commas")
    parser.add_argument("--mode", choices=(*MODES, LENIENT))
    parser.add_argument("--tls", choices=VERSIONS)
    parser.add_argument("--resumption", help="enabled, disabled, enforced, with commas; default: enabled and "
                        "enforced where the binary knows them")
    parser.add_argument("--write-docs", action="store_true", help="put the table into docs/clients.md")
    parser.add_argument("--jobs", type=int, default=2, help="cells at once")
    parser.add_argument("--keep", action="store_true", help="print what the programs and the server said")
    return parser.parse_args()


def choose(options, resumptions):
    only = options.only.split(",") if options.only else None
    unknown = set(only or ()) - {client.name for client in CLIENTS}
    if unknown:
        sys.exit(f"no client named {', '.join(sorted(unknown))}")
    for client in CLIENTS:
        if only is not None and client.name not in only:
            continue
        if only is None and options.quick and not client.quick:
            continue
        if options.uploads and not client.uploads:
            continue
        for resumption in resumptions:
            for mode in client.modes:
                for tls in client.versions:
                    if options.mode not in (None, mode) or options.tls not in (None, tls):
                        continue
                    if options.uploads and (mode, tls) != ("explicit", "1.3"):
                        continue
                    # Both modes and both versions, in half the cells.
                    if options.quick and (mode, tls) not in (("explicit", "1.3"), ("implicit", "1.2")):
                        continue
                    yield Cell(client, mode, tls, resumption)


def main():
    options = arguments()
    binary = os.environ["CAUSEWAY_BIN"]
    python = os.environ.get("MATRIX_PYTHON", sys.executable)
    with tempfile.TemporaryDirectory(prefix="causeway-matrix-") as directory:
        directory = Path(directory)
        known = knows_resumption(binary, directory)
        if options.resumption:
            resumptions = options.resumption.split(",")
            if not known:
                sys.exit("this causeway does not know the key `resumption`")
        elif known and not (options.quick or options.uploads):
            resumptions = ["enabled", "enforced"]
        else:
            resumptions = ["enabled" if known else ""]
        cells = list(choose(options, resumptions))
        if not cells:
            sys.exit("nothing to run")
        started = time.monotonic()
        features = run_cells(options, binary, python, directory, cells)
    print(f"{len(cells)} cells in {time.monotonic() - started:.0f} s")
    if options.uploads:
        sys.exit(report_uploads(cells))
    expected = Expected(HERE / "expected.toml", features)
    surprises = [line for cell in cells for line in expected.surprises(cell)]
    text = table(cells, expected)
    print(text)
    whole = not (options.only or options.quick or options.mode or options.tls or options.resumption)
    if whole:
        for number, entry in enumerate(expected.entries):
            if number not in expected.used and not entry.get("resumption"):
                surprises.append(f"expected.toml: never met: {entry}")
    if options.write_docs:
        if not whole:
            sys.exit("--write-docs needs the whole matrix")
        write_docs(ROOT / "docs/clients.md", text)
    for line in surprises:
        print("NOT AS EXPECTED:", line)
    print("matrix:", "failed" if surprises else "as expected")
    sys.exit(1 if surprises else 0)


def run_cells(options, binary, python, directory, cells):
    """Runs all cells, a server of its own for each job: its metrics then belong to one client."""
    files = Files(directory / "in")
    runner = Runner(files, python, "uploads" if options.uploads else "tour")
    password_hash = hash_password(binary)
    features, lock = set(), threading.Lock()
    for resumption in dict.fromkeys(cell.resumption for cell in cells):
        group = [cell for cell in cells if cell.resumption == resumption]
        users = [cell.user for cell in group]
        servers = [
            Server(binary, directory / f"server-{resumption or 'default'}-{number}", users, password_hash, resumption)
            for number in range(min(options.jobs, len(group)))
        ]
        idle = Queue()
        for server in servers:
            idle.put(server)
        features |= servers[0].features()

        def one(cell):
            server = idle.get()
            try:
                runner.run(cell, server)
            except Exception as error:  # A broken cell is a result, not the end of the others.
                cell.results = {step: ("fail", f"driver: {error!r}") for step in STEPS}
            finally:
                idle.put(server)
            bad = [step for step, (state, _) in cell.results.items() if state == "fail"]
            with lock:
                print(f"{cell.name()}: {cell.seconds:.0f} s, data resumed {cell.resumed}/{cell.handshakes}"
                      + (f", not ok: {' '.join(bad)}" if bad else ""), flush=True)
                if options.keep:
                    print(cell.output, flush=True)

        try:
            with ThreadPoolExecutor(options.jobs) as pool:
                list(pool.map(one, group))
        finally:
            for server in servers:
                server.stop()
                if options.keep:
                    print((server.directory / "log").read_text(errors="replace"))
    return features


def report_uploads(cells):
    print("| client | whole | ended with close_notify (226) | resumed |\n| --- | --- | --- | --- |")
    for cell in cells:
        print(f"| {cell.client.title} | {cell.results['uploads'][1]} | {cell.uploads_complete} "
              f"| {cell.upload.get('resumed', 0)} of {sum(cell.upload.values())} |")
    bad = [cell for cell in cells if cell.results["uploads"][0] != "ok" or cell.uploads_complete != 20]
    resuming = sum(cell.upload.get("resumed", 0) > 0 for cell in cells)
    print(f"{len(cells) - len(bad)} of {len(cells)} clients lost nothing; {resuming} resumed")
    return 1 if bad or resuming < min(7, len(cells)) else 0


if __name__ == "__main__":
    main()
