"""Network namespaces: clients on one side, pods on the other, the load balancer between.

    clients 198.51.100.2 ── 198.51.100.10 shared, .11 .12 .13 of the pods ── balancer 10.88.0.1 ── pods 10.88.0.11 …
                                                                              └── 10.88.0.254 this machine: S3, API
"""

import os
import subprocess

CLIENT = "198.51.100.2"
SHARED = "198.51.100.10"
MACHINE = "10.88.0.254"
PODS = "10.88.0.0/24"


def own_address(ordinal):
    """Where clients reach one pod's Service."""
    return f"198.51.100.{11 + ordinal}"


def pod_address(ordinal):
    return f"10.88.0.{11 + ordinal}"


class Network:
    """Made on entry, gone on exit; names carry this process's id, so that others are not touched."""

    def __init__(self, pods):
        mark = f"cw{os.getpid()}"
        self.client, self.balancer = f"{mark}-client", f"{mark}-balancer"
        self.pods = [f"{mark}-pod{ordinal}" for ordinal in range(pods)]
        self._link = f"{mark}m"

    def __enter__(self):
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        subprocess.run(["ip", "link", "delete", self._link], capture_output=True, check=False)
        for namespace in [self.client, self.balancer, *self.pods]:
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, check=False)

    def _make(self):
        for namespace in [self.client, self.balancer, *self.pods]:
            _run("ip", "netns", "add", namespace)
            _in(namespace, "ip", "link", "set", "lo", "up")
        _in(self.balancer, "ip", "link", "add", "pods", "type", "bridge")
        _in(self.balancer, "ip", "address", "add", "10.88.0.1/24", "dev", "pods")
        _in(self.balancer, "ip", "link", "set", "pods", "up")
        for ordinal, pod in enumerate(self.pods):
            self._plug(pod, f"pod{ordinal}", f"{pod_address(ordinal)}/24")
        _run("ip", "link", "add", self._link, "type", "veth", "peer", "name", "machine", "netns", self.balancer)
        _run("ip", "address", "add", f"{MACHINE}/24", "dev", self._link)
        _run("ip", "link", "set", self._link, "up")
        _in(self.balancer, "ip", "link", "set", "machine", "master", "pods", "up")
        _run("ip", "link", "add", "outside", "netns", self.balancer, "type", "veth", "peer", "name", "eth0", "netns", self.client)
        for address in [SHARED, *map(own_address, range(len(self.pods)))]:
            _in(self.balancer, "ip", "address", "add", f"{address}/24", "dev", "outside")
        _in(self.balancer, "ip", "link", "set", "outside", "up")
        _in(self.client, "ip", "address", "add", f"{CLIENT}/24", "dev", "eth0")
        _in(self.client, "ip", "link", "set", "eth0", "up")

    def _plug(self, namespace, port, address):
        _run("ip", "link", "add", port, "netns", self.balancer, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        _in(self.balancer, "ip", "link", "set", port, "master", "pods", "up")
        _in(namespace, "ip", "address", "add", address, "dev", "eth0")
        _in(namespace, "ip", "link", "set", "eth0", "up")


def inside(namespace, *command):
    """The command as it runs in a namespace."""
    return ["ip", "netns", "exec", namespace, *map(str, command)]


def _in(namespace, *command):
    _run(*inside(namespace, *command))


def _run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
