"""One causeway on free ports: configuration, certificates, users, metrics. Knows nothing of clients."""

import http.client
import json
import subprocess
import sys
import time

from cells import LENIENT, MODES, PASSWORD


class Server:
    """One causeway on free loopback ports with its own certificate authority and users."""

    def __init__(self, binary, directory, users, password_hash, resumption):
        directory.mkdir()
        self.directory, self.store = directory, directory / "store"
        self.store.mkdir()
        make_certificates(directory)
        rows = "".join(f'  - name: {user}\n    password_hash: "{password_hash}"\n    home: {user}\n' for user in users)
        (directory / "users.yaml").write_text("users:\n" + rows)
        self.config = directory / "causeway.yaml"
        self.config.write_text(json.dumps(configuration(directory, resumption), indent=1))
        self.log = open(directory / "log", "w+b")
        self.child = subprocess.Popen(
            [binary, "serve", "-c", self.config],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.log,
            cwd=directory,
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
        entry = {
            "name": mode,
            "address": "127.0.0.1:0",
            "mode": mode.split(",")[0],
            "passive": {"ports": "0"},
            "clear_text": "refuse",
            "upload_end": "fin" if mode == LENIENT else "close_notify",
        }
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
    openssl(
        "req",
        "-x509",
        *key,
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-days",
        "30",
        "-subj",
        "/CN=causeway matrix authority",
    )
    openssl("req", *key, "-keyout", "key.pem", "-out", "leaf.csr", "-subj", "/CN=localhost")
    (directory / "leaf.ext").write_text(
        "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n"
        "authorityKeyIdentifier=keyid\nextendedKeyUsage=serverAuth\n"
    )
    openssl(
        "x509",
        "-req",
        "-in",
        "leaf.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "30",
        "-extfile",
        "leaf.ext",
        "-out",
        "cert.pem",
    )


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
    answer = subprocess.run([binary, "check", "--offline", "-c", file], capture_output=True, text=True)
    return answer.returncode == 0


def hash_password(binary):
    answer = subprocess.run(
        [binary, "hash-password"], input=PASSWORD + "\n", capture_output=True, text=True, check=True
    )
    return answer.stdout.strip().splitlines()[-1]
