"""What tests/cluster runs: a rolling restart of all pods under load, and a look at what the bucket holds after it."""

import functools
import hashlib
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time

import boto3
import yaml

from api import TOKEN, Relay, ServiceApi
from clients import NAME, PASSWORD, Load
from kubelet import Balancer, Pod
from network import MACHINE, PODS, SHARED, Network, inside, own_address

ROOT = pathlib.Path(__file__).resolve().parents[2]
REPLICAS = 3
# How control connections find a pod, and what the balancer does to the client's address.
WAYS = {
    # All Services have one address; pods see the balancer's. The address comes from the Services' status.
    "nat": {"entry": "oneAddress", "proxy": False, "from": "service"},
    # The same with PROXY protocol; the address comes from its header.
    "proxy": {"entry": "oneAddress", "proxy": True, "from": "proxy"},
    # Pods' Services have addresses of their own, read from their status.
    "shared": {"entry": "shared", "proxy": True, "from": "service"},
    # The same, and control connections go there too: clients find the addresses in DNS.
    "own": {"entry": "own", "proxy": True, "from": "proxy"},
    # One pod behind one Service, replaced by a Deployment: for a while there are two, and a data connection of the
    # old one's sessions reaches the new one. Such transfers fail, in words; nothing may be lost or cut.
    "single": {"entry": "single", "proxy": False, "from": "service"},
}
TRANSFERS = 300
WORKERS = 12
MINUTES = 5


def main():
    ways = sys.argv[1:] or list(WAYS)
    assert set(ways) <= set(WAYS), f"usage: tests/cluster {' '.join(f'[{way}]' for way in WAYS)}"
    for way in ways:
        with tempfile.TemporaryDirectory() as directory, Network(REPLICAS) as network:
            run(way, pathlib.Path(directory), network)


def run(way, directory, network):
    endpoint, access, secret = os.environ["CAUSEWAY_TEST_S3"].split(",")
    s3 = boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id=access, aws_secret_access_key=secret, region_name="us-east-1"
    )
    bucket = f"cluster-{way}-{random.randrange(1 << 32):08x}"
    s3.create_bucket(Bucket=bucket)
    port = int(endpoint.rsplit(":", 1)[1])
    certificates(directory)
    rendered = render(directory, values(way, bucket, f"http://{MACHINE}:{port}"))
    objects = rendered["objects"]
    environment = {"S3_ACCESS_KEY_ID": access, "S3_SECRET_ACCESS_KEY": secret}
    relay, api, balancer, pods, load = Relay(port), None, None, [], None
    try:
        api = ServiceApi(directory / "api.crt", directory / "api.key", lambda pod: address(objects, pod))
        balancer = Balancer(network.balancer, WAYS[way]["proxy"], services(objects))
        for ordinal in range(REPLICAS):
            files = pod_files(directory, objects)
            pods.append(Pod(ordinal, network.pods[ordinal], workload(objects)["spec"]["template"], files, directory, environment))
        for pod in pods[: workload(objects)["spec"]["replicas"]]:
            pod.start(os.environ["CAUSEWAY_BIN"])
        for pod in pods[: workload(objects)["spec"]["replicas"]]:
            pod.wait_ready()
            balancer.add(pod.ordinal)
        (directory / "files").mkdir()
        follow(way, rendered["notes"], objects, network.client, directory, s3, bucket)
        load = Load(network.client, directory / "files", directory / "ca.crt", WORKERS, WAYS[way]["entry"])
        replace = surge if way == "single" else rolling_restart
        stops = replace(pods, balancer, load, WAYS[way]["entry"])
        wait_until(lambda: load.done() >= TRANSFERS, "enough transfers", load)
        load.finish()
        connections = balancer.connections()
    finally:
        if load:
            load.finish()
        for pod in pods:
            pod.kill()
        for each in (balancer, api, relay):
            if each:
                each.stop()
    report(way, s3, bucket, load, stops, connections, pods)


def values(way, bucket, endpoint):
    """What a user would write."""
    proxy, entry = WAYS[way]["proxy"], WAYS[way]["entry"]
    topology = (
        {"topology": "single"}
        if entry == "single"
        else {
            "topology": "perPod",
            "replicas": REPLICAS,
            "perPod": {"entry": entry, "address": SHARED if entry == "oneAddress" else ""},
        }
    )
    return {
        **topology,
        "passive": {"ports": "50000-50299"},
        "preStopSeconds": 3,
        "config": {
            "backends": {
                "bucket": {
                    "type": "s3",
                    "bucket": bucket,
                    "endpoint": endpoint,
                    "access_key_id": {"env": "S3_ACCESS_KEY_ID"},
                    "secret_access_key": {"env": "S3_SECRET_ACCESS_KEY"},
                }
            },
            "mounts": [{"path": "/", "backend": "bucket"}],
            "timeouts": {"drain_seconds": 60},
        },
        "publicAddress": {"from": WAYS[way]["from"]},
        "proxyProtocol": {"enabled": proxy, "trustedNetworks": [PODS] if proxy else []},
        "tls": {"existingSecret": "ftp-tls"},
        "users": {"existingSecret": "ftp-users"},
        "admin": {"existingSecret": "ftp-admin"},
        "backendCredentials": {"existingSecret": "bucket-keys"},
    }


def render(directory, chosen):
    path = directory / "values.json"
    path.write_text(json.dumps(chosen))
    command = [ROOT / "tests/.helm/bin/python", ROOT / "tests/chart/render.py", path]
    environment = {**os.environ, "HELM_DRIVER": "memory"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def follow(way, notes, objects, namespace, directory, s3, bucket):
    """The commands in the chart's notes, word for word but for what the reader has to fill in."""
    service = re.search(r"HOST=\$\(kubectl .* get service (\S+) ", notes)[1]
    pod = None if service == "ftp-causeway" else int(service.rsplit("-", 1)[1])
    authority = directory / "ca.crt"
    names = []
    for number, line in enumerate(re.findall(r"^ {3}((?:curl|lftp) .*)$", notes, re.MULTILINE)):
        path = directory / f"note-{number}"
        path.write_bytes(os.urandom(1000))
        separator, extra = (":", f" --cacert {authority}") if line.startswith("curl") else (",", "")
        line = line.replace("-e '", f"-e 'set ssl:ca-file {authority}; ").replace("curl", f"curl{extra}")
        line = line.replace("USER", f"device{separator}{PASSWORD}").replace("FILE", str(path))
        command = inside(namespace, "sh", "-c", f"HOST={address(objects, pod)}; cd {directory}; {line}")
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        key = f"device/{path.name}"
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == path.read_bytes(), f"{line}: other bytes"
        s3.delete_object(Bucket=bucket, Key=key)
        names.append(line.split()[0])
    assert names == ["curl", "lftp"] * 2, notes
    print(f"{way}: the four commands of the chart's notes uploaded their files")


def one(objects, kind):
    [found] = [each for each in objects if each["kind"] == kind]
    return found


def workload(objects):
    [found] = [each for each in objects if each["kind"] in {"Deployment", "StatefulSet"}]
    return found


def services(objects):
    """Every port of every load balancer, as the Services say; target names are looked up in the pod."""
    container = workload(objects)["spec"]["template"]["spec"]["containers"][0]
    named = {each["name"]: each["containerPort"] for each in container["ports"]}
    found = []
    for service in objects:
        if service["kind"] != "Service" or service["spec"].get("type") != "LoadBalancer":
            continue
        name = service["spec"]["selector"].get("statefulset.kubernetes.io/pod-name")
        pod = int(name.rsplit("-", 1)[1]) if name else None
        for port in service["spec"]["ports"]:
            target = named.get(port["targetPort"], port["targetPort"])
            kind = "data" if port["name"].startswith("data-") else "control"
            found.append({"address": address(objects, pod), "port": port["port"], "target": target, "pod": pod, "kind": kind})
    return found


def address(objects, pod):
    """What a cloud gives to the Service of a pod, or to the one for all (`None`)."""
    name = "ftp-causeway" if pod is None else f"ftp-causeway-{pod}"
    [service] = [each for each in objects if each["kind"] == "Service" and each["metadata"]["name"] == name]
    asked = service["spec"].get("loadBalancerIP")
    return asked or (SHARED if pod is None else own_address(pod))


def certificates(directory):
    """An authority, a certificate for the load balancer's addresses and one for the API."""
    openssl = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    ca = ["-keyout", directory / "ca.key", "-out", directory / "ca.crt", "-subj", "/CN=cluster authority"]
    subprocess.run([*openssl, *ca], check=True, capture_output=True)
    addresses = ",".join(f"IP:{each}" for each in [SHARED, *map(own_address, range(REPLICAS))]) + f",DNS:{NAME}"
    for name, names in (("tls", addresses), ("api", "DNS:kubernetes.default.svc")):
        leaf = ["-keyout", directory / f"{name}.key", "-out", directory / f"{name}.crt", "-subj", f"/CN={name}"]
        leaf += ["-CA", directory / "ca.crt", "-CAkey", directory / "ca.key", "-addext", f"subjectAltName={names}"]
        leaf += ["-addext", "basicConstraints=critical,CA:FALSE"]
        subprocess.run([*openssl, *leaf], check=True, capture_output=True)


def pod_files(directory, objects):
    """Where the chart mounts its volumes, and the files in them."""
    command = [os.environ["CAUSEWAY_BIN"], "hash-password"]
    done = subprocess.run(command, input=PASSWORD + "\n", capture_output=True, text=True, check=True)
    users = {"users": [{"name": "device", "password_hash": done.stdout.strip()}]}
    [config] = [each for each in objects if each["kind"] == "ConfigMap"]
    account = "run/secrets/kubernetes.io/serviceaccount"
    return {
        **{f"etc/causeway/config/{name}": text for name, text in config["data"].items()},
        "etc/causeway/tls/tls.crt": (directory / "tls.crt").read_text(),
        "etc/causeway/tls/tls.key": (directory / "tls.key").read_text(),
        "etc/causeway/users/users.yaml": yaml.safe_dump(users),
        "etc/causeway/admin/token": "0123456789abcdef0123456789abcdef",
        "etc/hosts": f"127.0.0.1 localhost\n{MACHINE} kubernetes.default.svc\n",
        f"{account}/token": TOKEN,
        f"{account}/namespace": "files",
        f"{account}/ca.crt": (directory / "ca.crt").read_text(),
    }


def rolling_restart(pods, balancer, load, entry):
    """As the StatefulSet does it: from the last to the first, the next only when the one before is ready."""
    stops = []
    for pod in reversed(pods):
        done = load.done()
        wait_until(lambda done=done: load.done() >= done + 20, "transfers before the restart", load)
        leave = functools.partial(balancer.remove, pod.ordinal)
        if entry != "own":
            leave()
        # The only pod behind its address is reached until it stops to listen.
        seconds = pod.stop(leave)
        stops.append((pod.ordinal, load.running, seconds))
        pod.start(os.environ["CAUSEWAY_BIN"])
        pod.wait_ready()
        balancer.add(pod.ordinal)
    return stops


def surge(pods, balancer, load, _):
    """As the Deployment does it, twice: the new pod is ready before the old one goes."""
    stops = []
    for old, new in zip(pods, pods[1:]):
        done = load.done()
        wait_until(lambda done=done: load.done() >= done + 60, "transfers before the update", load)
        new.start(os.environ["CAUSEWAY_BIN"])
        new.wait_ready()
        balancer.add(new.ordinal)
        running = load.running
        balancer.remove(old.ordinal)
        stops.append((old.ordinal, running, old.stop(lambda: None)))
    return stops


def wait_until(condition, what, load):
    end = time.monotonic() + MINUTES * 60
    while not condition():
        assert time.monotonic() < end, f"no {what} within {MINUTES} minutes: {load.failures}"
        time.sleep(0.1)


def report(way, s3, bucket, load, stops, connections, pods):
    stored = {}
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    for each in (entry for page in pages for entry in page.get("Contents", [])):
        stored[each["Key"].removeprefix("device/")] = each["Key"]
    lost = [name for name in load.uploads if name not in stored]
    differing = [name for name, digest in load.uploads.items() if name in stored and digest != _digest(s3, bucket, stored[name])]
    # The empty name is the home directory itself.
    strange = [name for name in stored if name and name not in load.uploads]
    left = s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    for ordinal, running, seconds in stops:
        print(f"{way}: pod {ordinal} replaced with {running} transfers running, gone {seconds:.1f} s after SIGTERM, exit 0")
    for ordinal, counts in sorted(connections.items()):
        print(f"{way}: pod {ordinal} had {counts['control']} control and {counts['data']} data connections")
    for failure in load.failures:
        print(f"{way}: FAILED: {failure}")
    total = len(load.uploads) + load.downloads
    print(
        f"{way}: {total} transfers ({len(load.uploads)} up, {load.downloads} down) by curl and lftp: {len(load.failures)} failed, "
        f"{len(lost)} lost, {len(differing)} truncated or different, {len(strange)} unconfirmed, {len(left)} open multipart uploads"
    )
    failed = [] if way == "single" else load.failures
    problems = [*failed, *lost, *differing, *strange, *left]
    if problems:
        for pod in pods:
            print(f"--- pod {pod.ordinal} ---\n{pod.log()[-3000:]}")
    assert total >= TRANSFERS and not problems, f"{way}: {problems[:5]}"
    assert all(connections[str(pod.ordinal)]["data"] > 0 for pod in pods), "a pod had no transfer"


def _digest(s3, bucket, key):
    return hashlib.sha256(s3.get_object(Bucket=bucket, Key=key)["Body"].read()).hexdigest()


if __name__ == "__main__":
    # Namespaces and pods go, whichever way this ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except AssertionError as failure:
        sys.exit(f"FAILED: {failure}")
