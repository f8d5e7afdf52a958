"""curl and lftp in the clients' namespace, and the bytes that they send and must get back."""

import hashlib
import random
import subprocess
import threading
import time

from network import SHARED, inside, own_address

PASSWORD = "secret123"
# Of the addresses of all pods, where each has its own.
NAME = "ftp.example.com"
PODS = 3
# Most files are small, some take as long as a pod needs to go.
SIZES = (0, 1, 1000, 60_000, 300_000, 2_000_000)
LARGE = 6_000_000
LARGE_RATE = 750_000


class Load:
    """Workers that transfer file after file until they are told to stop."""

    def __init__(self, namespace, directory, authority, workers, entry):
        self.failures, self.uploads, self.downloads = [], {}, 0
        self.running = 0
        self._namespace, self._directory, self._authority = namespace, directory, authority
        self._entry = entry
        self._lock, self._enough = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(workers)]
        for thread in self._threads:
            thread.start()

    def done(self):
        with self._lock:
            return len(self.uploads) + self.downloads

    def finish(self):
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def _work(self, worker):
        chance = random.Random(worker)
        number = 0
        while not self._enough.is_set():
            number += 1
            name = f"{worker:02}-{number:04}.bin"
            # One worker in four keeps a slow upload running all the time.
            large = worker % 4 == 0
            content = chance.randbytes(LARGE if large else chance.choice(SIZES))
            path = self._directory / name
            path.write_bytes(content)
            client, mode = chance.choice(("curl", "lftp")), chance.choice(("explicit", "implicit"))
            if self._run(self._upload(client, mode, path, name, large), f"{client} {mode} put {name}"):
                with self._lock:
                    self.uploads[name] = hashlib.sha256(content).hexdigest()
                if number % 4 == 0 and not large:
                    self._fetch(client, mode, name, path)
            path.unlink()

    def _fetch(self, client, mode, name, path):
        if not self._run(self._download(client, mode, path, name), f"{client} {mode} get {name}"):
            return
        same = hashlib.sha256(path.read_bytes()).hexdigest() == self.uploads[name]
        with self._lock:
            self.downloads += 1
            if not same:
                self.failures.append(f"{client} {mode} get {name}: other bytes came back")

    def _run(self, command, what):
        with self._lock:
            self.running += 1
        began = time.strftime("%H:%M:%S")
        try:
            done = subprocess.run(inside(self._namespace, *command), capture_output=True, text=True, timeout=120, check=False)
            problem = None if done.returncode == 0 else f"exit {done.returncode}: {(done.stderr or done.stdout).strip()[-400:]}"
        except subprocess.TimeoutExpired:
            problem = "hung for two minutes"
        with self._lock:
            self.running -= 1
            if problem:
                self.failures.append(f"{began} {what}: {problem}")
        return problem is None

    def _upload(self, client, mode, path, name, slow):
        if client == "curl":
            limit = ["--limit-rate", str(LARGE_RATE)] if slow else []
            command, url = self._curl(mode)
            return [*command, *limit, "--upload-file", path, url + name]
        limit = [f"set net:limit-rate {LARGE_RATE}"] if slow else []
        return self._lftp(mode, *limit, f"put {path} -o {name}")

    def _download(self, client, mode, path, name):
        if client == "curl":
            command, url = self._curl(mode)
            return [*command, "--output", path, url + name]
        return self._lftp(mode, f"get {name} -o {path}")

    def _curl(self, mode):
        scheme, port = ("ftp", 21) if mode == "explicit" else ("ftps", 990)
        # No --retry: what fails counts.
        command = ["curl", "--silent", "--show-error", "--cacert", self._authority, "--user", f"device:{PASSWORD}"]
        command += ["--ssl-reqd"] if mode == "explicit" else []
        # Not by default: a hostile server could name anybody's address.
        command += ["--no-ftp-skip-pasv-ip"] if self._entry == "shared" else []
        if self._entry != "own":
            return command, f"{scheme}://{SHARED}:{port}/"
        # As DNS gives them, in any order; curl takes the next one where nobody listens.
        addresses = [own_address(ordinal) for ordinal in range(PODS)]
        random.shuffle(addresses)
        return [*command, "--resolve", f"{NAME}:{port}:{','.join(addresses)}"], f"{scheme}://{NAME}:{port}/"

    def _lftp(self, mode, *lines):
        settings = [
            f"set ssl:ca-file {self._authority}",
            "set ftp:ssl-force true",
            "set ftp:ssl-protect-data true",
            # It may connect again, as its users have it; not for ever. A pod is away for seconds.
            f"set net:max-retries {20 if self._entry == 'own' else 3}",
            "set net:reconnect-interval-base 1",
            "set net:reconnect-interval-multiplier 1",
            "set net:timeout 30",
            "set cmd:fail-exit true",
            "set xfer:clobber true",
        ]
        scheme = "ftp" if mode == "explicit" else "ftps"
        # One that keeps to one address.
        host = own_address(random.randrange(PODS)) if self._entry == "own" else SHARED
        session = [*settings, f"open -u device,{PASSWORD} {scheme}://{host}", *lines]
        return ["lftp", "--norc", "-c", "; ".join(session)]
