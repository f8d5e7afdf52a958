"""The servers that are compared, each started with a certificate, one user and a place for files of its own."""

import json
import os
import pathlib
import socket
import subprocess
import time

import boto3

from group import Group

USER, PASSWORD = "device", "secret123"
# Of the user of those that have system users.
UID = 1000
UNPACKED = pathlib.Path(__file__).resolve().parents[1] / ".clients" / "rivals"


class Lab:
    """What all of them share: the certificate and the S3 server."""

    def __init__(self, directory):
        self.directory = directory
        os.chmod(directory, 0o755)
        self.endpoint, self.key, self.secret = os.environ["CAUSEWAY_TEST_S3"].split(",")
        self.s3 = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            region_name="us-east-1",
        )
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        authority = ["-keyout", directory / "ca.key", "-out", directory / "ca.crt", "-subj", "/CN=comparison"]
        subprocess.run([*command, *authority], check=True, capture_output=True)
        leaf = ["-keyout", directory / "tls.key", "-out", directory / "leaf.crt", "-subj", "/CN=server"]
        leaf += ["-CA", directory / "ca.crt", "-CAkey", directory / "ca.key", "-addext", "subjectAltName=IP:127.0.0.1"]
        subprocess.run([*command, *leaf, "-addext", "basicConstraints=critical,CA:FALSE"], check=True, capture_output=True)
        chain = (directory / "leaf.crt").read_text() + (directory / "ca.crt").read_text()
        (directory / "tls.crt").write_text(chain)
        (directory / "both.pem").write_text((directory / "tls.key").read_text() + chain)


class Server:
    """One of them, running. `stored` gives the names of the user's files and their sizes, as others see them."""

    name = None

    def __init__(self, lab):
        self.lab = lab
        self.slug = self.name.replace(" ", "-").lower()
        self.home = lab.directory / self.slug
        self.home.mkdir()
        self.files = self.home / "files"
        self.files.mkdir(mode=0o755)
        os.chown(self.files, UID, UID)
        self.port, self.passive = _free_port(), _free_range()
        self.group = Group(self.slug)
        try:
            self._processes = []
            self.prepare()
            self._start(self.command(), self.environment())
            self._wait()
        except BaseException:
            self.stop()
            raise

    def prepare(self):
        pass

    def environment(self):
        return {"LD_LIBRARY_PATH": str(UNPACKED / "usr/lib/x86_64-linux-gnu")}

    def command(self):
        raise NotImplementedError

    def stored(self):
        return {each.name: each.stat().st_size for each in self.files.iterdir() if each.is_file() and not each.name.startswith(".")}

    def content(self, name):
        return (self.files / name).read_bytes()

    def stop(self):
        self.group.stop()
        for process in self._processes:
            process.wait()

    def _start(self, command, environment):
        log = (self.home / "log").open("a")
        environment = {**os.environ, **environment}
        self._processes.append(
            subprocess.Popen(self.group.command(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        )

    def _wait(self):
        end = time.monotonic() + 30
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
                    assert connection.recv(3) == b"220"
                    return
            except (OSError, AssertionError):
                log = (self.home / "log").read_text()
                assert time.monotonic() < end and self._processes[-1].poll() is None, f"{self.name} does not start: {log}"
                time.sleep(0.1)


class Causeway(Server):
    name = "causeway"

    def prepare(self):
        binary = os.environ["CAUSEWAY_BIN"]
        hash_ = subprocess.run([binary, "hash-password"], input=PASSWORD + "\n", capture_output=True, text=True, check=True)
        users = {"users": [{"name": USER, "password_hash": hash_.stdout.strip()}]}
        (self.home / "users.yaml").write_text(json.dumps(users))
        first, last = self.passive
        listener = {"name": "explicit", "address": f"127.0.0.1:{self.port}", "mode": "explicit", "passive": {"ports": f"{first}-{last}"}}
        configuration = {
            "listeners": [listener],
            "tls": {"certificate_file": str(self.lab.directory / "tls.crt"), "key_file": str(self.lab.directory / "tls.key")},
            "users": {"file": "users.yaml"},
            "backends": {"store": self.store()},
            "mounts": [{"path": "/", "backend": "store"}],
        }
        (self.home / "causeway.yaml").write_text(json.dumps(configuration))

    def store(self):
        store = {"type": "fs", "root": str(self.files)}
        # The user's home.
        self.files /= USER
        self.files.mkdir()
        return store

    def command(self):
        return [os.environ["CAUSEWAY_BIN"], "serve", "--config", self.home / "causeway.yaml"]

    def environment(self):
        return {"S3_KEY": self.lab.key, "S3_SECRET": self.lab.secret}


class OnS3:
    """Files are objects of a bucket."""

    def make_bucket(self):
        self.bucket = f"compare-{self.slug}-{os.getpid()}"
        self.lab.s3.create_bucket(Bucket=self.bucket)

    def stored(self):
        pages = self.lab.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        objects = [each for page in pages for each in page.get("Contents", [])]
        return {each["Key"].rsplit("/", 1)[-1]: each["Size"] for each in objects if not each["Key"].endswith("/")}

    def content(self, name):
        pages = self.lab.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        [key] = [each["Key"] for page in pages for each in page["Contents"] if each["Key"].rsplit("/", 1)[-1] == name]
        return self.lab.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()


class CausewayS3(OnS3, Causeway):
    name = "causeway on S3"

    def store(self):
        self.make_bucket()
        keys = {"access_key_id": {"env": "S3_KEY"}, "secret_access_key": {"env": "S3_SECRET"}}
        return {"type": "s3", "endpoint": self.lab.endpoint, "bucket": self.bucket, **keys}


class Vsftpd(Server):
    name = "vsftpd"
    options = {}

    def prepare(self):
        etc = self.home / "etc"
        (etc / "pam.d").mkdir(parents=True)
        (self.home / "empty").mkdir()
        line = f"{USER}:x:{UID}:{UID}::{self.files}:/bin/sh\n"
        (etc / "passwd").write_text(f"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/nonexistent:/bin/false\n{line}")
        (etc / "shadow").write_text(f"root:*:19000:0:99999:7:::\n{USER}:{_crypt()}:19000:0:99999:7:::\n")
        (etc / "pam.d/vsftpd").write_text("auth required pam_unix.so\naccount required pam_unix.so\n")
        first, last = self.passive
        settings = {
            "listen": "YES",
            "listen_address": "127.0.0.1",
            "listen_port": self.port,
            "background": "NO",
            "anonymous_enable": "NO",
            "local_enable": "YES",
            "write_enable": "YES",
            "chroot_local_user": "YES",
            "allow_writeable_chroot": "YES",
            "secure_chroot_dir": self.home / "empty",
            "pam_service_name": "vsftpd",
            "check_shell": "NO",
            "seccomp_sandbox": "NO",
            "pasv_min_port": first,
            "pasv_max_port": last,
            "ssl_enable": "YES",
            "ssl_ciphers": "HIGH",
            # Not every client of the comparison resumes.
            "require_ssl_reuse": "NO",
            "rsa_cert_file": self.lab.directory / "tls.crt",
            "rsa_private_key_file": self.lab.directory / "tls.key",
            "xferlog_enable": "NO",
            **self.options,
        }
        (self.home / "vsftpd.conf").write_text("".join(f"{key}={value}\n" for key, value in settings.items()))

    def command(self):
        etc = self.home / "etc"
        mounts = "".join(f"mount --bind {etc}/{name} /etc/{name}; " for name in ("passwd", "shadow", "pam.d"))
        return ["unshare", "--mount", "sh", "-c", f"{mounts} exec {UNPACKED}/usr/sbin/vsftpd {self.home}/vsftpd.conf"]


class VsftpdStrict(Vsftpd):
    """With what it has against cut uploads."""

    name = "vsftpd strict"
    options = {"delete_failed_uploads": "YES", "strict_ssl_read_eof": "YES"}


class VsftpdS3fs(OnS3, VsftpdStrict):
    """On a bucket that s3fs mounts."""

    name = "vsftpd strict on s3fs"

    def prepare(self):
        self.make_bucket()
        keys = self.home / "keys"
        keys.write_text(f"{self.lab.key}:{self.lab.secret}")
        keys.chmod(0o600)
        options = [f"url={self.lab.endpoint}", "use_path_request_style", f"passwd_file={keys}", "allow_other"]
        options += [f"uid={UID}", f"gid={UID}", "umask=0022", f"tmpdir={self.home}"]
        self._start(["s3fs", self.bucket, self.files, "-f", *(word for each in options for word in ("-o", each))], {})
        end = time.monotonic() + 30
        while not os.path.ismount(self.files):
            assert time.monotonic() < end, (self.home / "log").read_text()
            time.sleep(0.1)
        super().prepare()

    def stop(self):
        # s3fs unmounts when it is asked to end; what was begun is still sent.
        super().stop()
        subprocess.run(["umount", "--lazy", self.files], capture_output=True, check=False)


class Proftpd(Server):
    name = "ProFTPD"
    options = ""

    def prepare(self):
        (self.home / "passwd").write_text(f"{USER}:{_crypt()}:{UID}:{UID}::{self.files}:/bin/sh\n")
        (self.home / "passwd").chmod(0o600)
        first, last = self.passive
        (self.home / "proftpd.conf").write_text(
            f"""ModulePath {UNPACKED}/usr/lib/proftpd
LoadModule mod_tls.c
ServerType standalone
DefaultAddress 127.0.0.1
SocketBindTight on
Port {self.port}
UseReverseDNS off
UseIPv6 off
User nobody
Group nogroup
MaxInstances 200
PidFile {self.home}/pid
ScoreboardFile {self.home}/score
DelayEngine off
DelayTable none
WtmpLog off
TransferLog none
SystemLog {self.home}/system.log
AuthPAM off
AuthOrder mod_auth_file.c
AuthUserFile {self.home}/passwd
RequireValidShell off
DefaultRoot ~
PassivePorts {first} {last}
AllowOverwrite on
TLSEngine on
TLSProtocol TLSv1.2 TLSv1.3
TLSRequired on
TLSECCertificateFile {self.lab.directory}/tls.crt
TLSECCertificateKeyFile {self.lab.directory}/tls.key
TLSOptions NoSessionReuseRequired
{self.options}
"""
        )

    def command(self):
        return [UNPACKED / "usr/sbin/proftpd", "--nodaemon", "--config", self.home / "proftpd.conf"]


class ProftpdStrict(Proftpd):
    """With what it has against cut uploads."""

    name = "ProFTPD strict"
    options = "HiddenStores on\nDeleteAbortedStores on"


class Pureftpd(Server):
    name = "Pure-FTPd"
    options = ()

    def prepare(self):
        # pure-pw itself would take a hash that costs a second of CPU time per login.
        passwords = self.home / "passwd"
        passwords.write_text(f"{USER}:{_crypt()}:{UID}:{UID}::{self.files}/./::::::::::::\n")
        command = [UNPACKED / "usr/bin/pure-pw", "mkdb", self.home / "pdb", "-f", passwords]
        environment = {**os.environ, **self.environment()}
        subprocess.run(list(map(str, command)), env=environment, check=True, capture_output=True)

    def command(self):
        command = [UNPACKED / "usr/sbin/pure-ftpd", "--bind", f"127.0.0.1,{self.port}", "--ipv4only", "--chrooteveryone"]
        command += ["--noanonymous", "--dontresolve", "--login", f"puredb:{self.home}/pdb", "--tls", 2, "--maxclientsnumber", 200]
        command += ["--certfile", self.lab.directory / "both.pem", "--passiveportrange", "{}:{}".format(*self.passive)]
        return [*command, "--maxclientsperip", 200, "--pidfile", self.home / "pid", *self.options]


class PureftpdStrict(Pureftpd):
    """With what it has against cut uploads."""

    name = "Pure-FTPd strict"
    options = ("--notruncate",)


class Unftp(Server):
    name = "unFTP"

    def prepare(self):
        (self.home / "users.json").write_text(json.dumps([{"username": USER, "password": PASSWORD}]))

    def command(self):
        command = [os.environ["UNFTP"], "--bind-address", f"127.0.0.1:{self.port}", "--bind-address-http", f"127.0.0.1:{_free_port()}"]
        command += ["--auth-type", "json", "--auth-json-path", self.home / "users.json", "--sbe-type", "filesystem"]
        command += ["--root-dir", self.files, "--passive-host", "127.0.0.1", "--passive-ports", "{}-{}".format(*self.passive)]
        command += ["--ftps-certs-file", self.lab.directory / "tls.crt", "--ftps-key-file", self.lab.directory / "tls.key"]
        return [*command, "--ftps-required-on-control-channel", "all", "--ftps-required-on-data-channel", "all"]


ON_DISK = [Causeway, Vsftpd, VsftpdStrict, Proftpd, ProftpdStrict, Pureftpd, PureftpdStrict]
if os.environ.get("UNFTP"):
    ON_DISK.append(Unftp)
ON_S3 = [CausewayS3, VsftpdS3fs]


def _crypt():
    command = ["openssl", "passwd", "-6", PASSWORD]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def _free_range(count=100):
    """Ports below those that the kernel gives to clients."""
    lowest = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    global _next_range
    _next_range -= count
    assert 10_000 < _next_range < lowest, _next_range
    return _next_range, _next_range + count - 1


_next_range = 30_000
