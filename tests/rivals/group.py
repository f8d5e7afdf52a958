"""A control group for one server: CPU time and memory of all its processes, also of those that have ended."""

import os
import pathlib
import signal
import threading
import time

ROOT = pathlib.Path("/sys/fs/cgroup")
# Version 2 is one tree, version 1 has one per controller.
UNIFIED = (ROOT / "cgroup.controllers").exists()


class Group:
    def __init__(self, name):
        places = [ROOT] if UNIFIED else [ROOT / "cpuacct", ROOT / "memory"]
        self._directories = [place / f"compare-{os.getpid()}-{name}" for place in places]
        for directory in self._directories:
            directory.mkdir()
        self._over = threading.Event()
        self._peak = 0
        self._watch = threading.Thread(target=self._sample)
        self._watch.start()

    def command(self, command):
        """The command as it runs in the group."""
        enter = "".join(f"echo $$ > {directory}/cgroup.procs; " for directory in self._directories)
        return ["sh", "-c", f'{enter} exec "$@"', "sh", *map(str, command)]

    def cpu(self):
        """Seconds of all processes, in user and in system mode."""
        if UNIFIED:
            return _field(self._directories[0] / "cpu.stat", "usage_usec") / 1e6
        return int((self._directories[0] / "cpuacct.usage").read_text()) / 1e9

    def peak(self):
        """Most anonymous memory at once since the last call, in MiB: no page cache, shared pages once."""
        peak, self._peak = self._peak, 0
        return peak / (1 << 20)

    def stop(self):
        """Ends all its processes: asked first, killed after five seconds."""
        end = time.monotonic() + 5
        sent = signal.SIGTERM
        while processes := self._processes():
            for process in processes:
                try:
                    os.kill(process, sent)
                except ProcessLookupError:
                    pass
            time.sleep(0.1)
            if time.monotonic() > end:
                sent = signal.SIGKILL
        self._over.set()
        self._watch.join()
        for directory in self._directories:
            directory.rmdir()

    def _processes(self):
        return [int(line) for line in (self._directories[0] / "cgroup.procs").read_text().split()]

    def _sample(self):
        path, name = self._directories[-1] / "memory.stat", "anon" if UNIFIED else "total_rss"
        while not self._over.wait(0.05):
            self._peak = max(self._peak, _field(path, name))


def _field(path, name):
    for line in path.read_text().splitlines():
        key, value = line.split()
        if key == name:
            return int(value)
    raise AssertionError(f"{path} has no {name}")
