"""Runs one client's program and judges it by what the server has stored."""

import calendar
import hashlib
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

from cells import LISTED, MIB, PASSWORD, SET_TIME, STEPS

HERE = Path(__file__).resolve().parent


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
        environment = (
            os.environ
            | {
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
            }
            | tls_environment(scratch, cell.tls, server)
        )
        with open(scratch / "program.log", "w+b") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=HERE / "programs",
                env=environment,
                start_new_session=True,
            )
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
        made = home / "made"

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
            demand(step, (made / f"{step}.bin", digest[f"{step}.bin"]))
        demand("two", (made / "one.bin", digest["medium.bin"]), (made / "two.bin", digest["small.bin"]))
        demand("get", (scratch / "large.bin", digest["large.bin"]))
        demand("resume-get", (scratch / "medium.bin", digest["medium.bin"]))
        demand("resume-put", (home / "resume.bin", digest["medium.bin"]))
        demand("append", (home / "append.bin", digest["medium.bin"]))
        demand("rename", (made / "renamed", hashlib.sha256(b"renamed").hexdigest()))
        gone = {"rename": "rename-me", "delete": "delete-me", "rmdir": "remove-me"}
        for step, name in gone.items():
            if cell.results[step][0] == "ok" and (home / name).exists():
                cell.results[step] = ("fail", f"{name} is still there")
        if cell.results["mkdir"][0] == "ok" and not made.is_dir():
            cell.results["mkdir"] = ("fail", "no directory")
        self.judge_time(cell, made / "small.bin")
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
        cell.uploads_complete = int(
            sum(
                value - before.get(name, 0)
                for name, value in after.items()
                if name.startswith("causeway_transfers_total{")
                and 'direction="upload"' in name
                and 'outcome="complete"' in name
            )
        )


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
