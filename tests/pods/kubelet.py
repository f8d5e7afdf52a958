"""What the kubelet and the StatefulSet's controller do with a pod: start, ask whether it is ready, drain, replace."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import threading
import time

from network import inside, pod_address

POD_SCRIPT = pathlib.Path(__file__).with_name("pod.sh")


class Pod:
    """One pod of a rendered StatefulSet: the chart's files, arguments, probes and grace."""

    def __init__(self, ordinal, namespace, template, files, directory, environment):
        [self._container] = template["spec"]["containers"]
        self.ordinal = ordinal
        self.grace = template["spec"]["terminationGracePeriodSeconds"]
        self.pre_stop = self._container["lifecycle"]["preStop"]["sleep"]["seconds"]
        self._namespace = namespace
        self._name = f"ftp-causeway-{ordinal}"
        self._environment = environment
        self._directory = directory / self._name
        _write(self._directory, files)
        self._log = self._directory / "log"
        self._process = None

    def start(self, binary):
        command = inside(self._namespace, POD_SCRIPT, self._directory, binary, *self._arguments())
        with self._log.open("a") as log:
            environment = {**os.environ, **self._environment}
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, stdout=log, env=environment)

    def wait_ready(self, seconds=60):
        """The readiness probe of the chart, from outside the pod."""
        probe = self._container["readinessProbe"]["httpGet"]
        [port] = [each["containerPort"] for each in self._container["ports"] if each["name"] == probe["port"]]
        url = f"http://{pod_address(self.ordinal)}:{port}{probe['path']}"
        end = time.monotonic() + seconds
        while True:
            command = inside(self._namespace, "curl", "--silent", "--fail", "--max-time", "3", url)
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                return
            assert self._process.poll() is None, f"{self._name} ended: {self.log()[-2000:]}"
            assert time.monotonic() < end, f"{self._name} is not ready: {self.log()[-2000:]}"
            time.sleep(0.1)

    def stop(self, at_term):
        """preStop, SIGTERM, and how long the pod took; a pod that outlives its grace is a failure."""
        time.sleep(self.pre_stop)
        at_term()
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(self.grace - self.pre_stop)
        assert code == 0, f"{self._name} ended with {code}: {self.log()[-2000:]}"
        return time.monotonic() - began

    def kill(self):
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def log(self):
        return self._log.read_text() if self._log.exists() else ""

    def _arguments(self):
        """`$(NAME)` in arguments, as the kubelet replaces it."""
        return [re.sub(r"\$\(POD_NAME\)", self._name, each) for each in self._container["args"]]


class Balancer:
    """The load balancer's process and what it has been told."""

    def __init__(self, namespace, proxy, services):
        program = pathlib.Path(__file__).with_name("balancer.py")
        command = inside(namespace, "python3", program)
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._lock = threading.Lock()
        self._pods = {}
        self._ready = set()
        self._say({"proxy": proxy, "services": services})

    def add(self, ordinal):
        self._pods[str(ordinal)] = pod_address(ordinal)
        self._ready.add(ordinal)
        self._update()

    def remove(self, ordinal):
        """No new control connections; the pod's own Service keeps leading to it (publishNotReadyAddresses)."""
        self._ready.discard(ordinal)
        self._update()

    def connections(self):
        return self._update()["connections"]

    def stop(self):
        self._process.kill()
        self._process.wait()

    def _update(self):
        return self._say({"pods": self._pods, "ready": sorted(self._ready)})

    def _say(self, message):
        with self._lock:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())


def _write(directory, files):
    shutil.rmtree(directory, ignore_errors=True)
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (directory / "run").mkdir(parents=True, exist_ok=True)
