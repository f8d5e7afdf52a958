"""What tests/helm runs: every check of the chart, each with a line of what it did; the first failure ends it."""

import difflib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import jsonschema
import kubernetes_validate
import yaml

import crds
import generate
import walk
from cases import BASE, CASES, _PRESET_BASE
from refusals import REFUSALS, SCHEMA_REFUSALS
from release import CHART, ROOT, Cluster, Refused, merged, preset

# Chart.yaml's kubeVersion, and the newest whose schemas there are.
OLDEST, NEWEST = "1.31", "1.37"
GOLDEN = pathlib.Path(__file__).parent / "golden"


def main():
    write = sys.argv[1:] == ["--write"]
    assert write or not sys.argv[1:], "usage: tests/helm [--write]"
    generated_files(write)
    lint()
    refusals()
    releases = {version: {name: install(version, name) for name in CASES} for version in (OLDEST, NEWEST)}
    for name, release in releases[NEWEST].items():
        golden(name, release, write)
        passive_ports_are_exposed_once(name, release)
    upgrades()
    scaling_moves_no_slice()
    admin_token_is_kept()
    configurations({**releases[NEWEST], **walked()})
    print("the chart is fine")


def generated_files(write):
    for name, content in generate.generated().items():
        path = CHART / name
        if write:
            path.write_text(content)
        assert path.exists() and path.read_text() == content, f"{path} is out of date: tests/helm --write"
    print("README.md, values.schema.json and files/config-keys.txt are up to date")


def lint():
    with Cluster(NEWEST) as cluster:
        result = cluster.lint()
    # 1 is a remark (no icon), 2 a warning, 3 an error.
    bad = [message for message in result["Messages"] if message["Severity"] > 1]
    assert not bad and not result["Errors"], result
    print("helm lint: no warning")


def refusals():
    with Cluster(NEWEST) as cluster:
        for name, (values, expected) in REFUSALS.items():
            if values is None:
                values = merged(preset("eks-nlb"), _PRESET_BASE)
            expected = [line.replace("{known}", _known_keys()) for line in expected]
            found = _lines_of(_refusal(cluster, name, values))
            assert found == expected, f"{name}:\n" + "\n".join(difflib.ndiff(expected, found))
            for line in expected:
                print(f"refused: {line}")
        for name, (values, expected) in SCHEMA_REFUSALS.items():
            text = _refusal(cluster, name, values)
            assert expected in text, f"{name}: expected {expected!r} in {text}"
            print(f"refused by the schema: {name}")


def walked():
    """Every installation that docs/kubernetes.md tells a reader to make."""
    releases = {}
    for heading, values, block in walk.installations():
        name = f"docs/kubernetes.md, {heading}"
        # A heading may have more than one.
        while name in releases:
            name += "'"
        releases[name] = install(NEWEST, name, values)
        walk.check(heading, releases[name], block)
    topologies = {_kind_of_workload(release) for release in releases.values()}
    assert topologies == {"Deployment", "StatefulSet", "DaemonSet"}, f"docs/kubernetes.md shows only {topologies}"
    users = yaml.safe_load(walk.users_file())["users"]
    assert users[0]["password_hash"].startswith("$argon2id$"), users
    return releases


def _kind_of_workload(release):
    [kind] = release.kinds() & {"Deployment", "StatefulSet", "DaemonSet"}
    return kind


def install(version, name, values=None):
    """Installs a case, or these values, and validates each object."""
    with Cluster(version) as cluster:
        release = cluster.install(values or CASES[name])
    for each in release.objects:
        where = f"{name}: {each['kind']} {each['metadata']['name']}"
        schema = crds.SCHEMAS.get((each["apiVersion"], each["kind"]))
        try:
            if schema:
                jsonschema.validate(each, schema)
            else:
                kubernetes_validate.validate(each, version, strict=True)
        except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
            raise AssertionError(f"{where} on Kubernetes {version}: {error.message}") from None
    restricted(name, release)
    print(f"{name} on Kubernetes {version}: {len(release.objects)} objects valid")
    return release


def restricted(name, release):
    """The restricted Pod Security Standard, except the network of the node where that is the point."""
    pod = next(each for each in release.objects if each["kind"] in {"Deployment", "StatefulSet", "DaemonSet"})
    spec = pod["spec"]["template"]["spec"]
    assert spec.get("hostNetwork", False) == (pod["kind"] == "DaemonSet"), name
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] > 0, name
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
    [container] = [each for each in spec["containers"] if each["name"] == "causeway"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }, name
    volumes = {kind for volume in spec["volumes"] for kind in volume} - {"name"}
    assert volumes <= {"configMap", "secret", "emptyDir", "projected"}, f"{name}: {volumes}"
    # A token of the API only where it is used.
    reads = "service" in yaml.safe_dump(_passive(release)[0]["address"])
    assert spec["automountServiceAccountToken"] == reads == ("Role" in release.kinds()), name


def golden(name, release, write):
    path = GOLDEN / f"{name}.yaml"
    text = yaml.safe_dump_all(map(_short, release.objects), sort_keys=True, width=110)
    text += "---\n# NOTES.txt\n" + "".join(f"# {line}".rstrip() + "\n" for line in release.notes.splitlines())
    if write:
        path.write_text(text)
    assert path.exists(), f"{path} is missing: tests/helm --write"
    expected = path.read_text()
    if text != expected:
        sys.exit(
            "\n".join(difflib.unified_diff(expected.splitlines(), text.splitlines(), str(path), "rendered", lineterm=""))
            + "\nif that is meant: tests/helm --write"
        )


def passive_ports_are_exposed_once(name, release):
    """Each port that a pod may name in a reply leads to this pod, through one Service, and to no other."""
    services = [each for each in release.objects if each["kind"] == "Service"]
    exposed = {}
    for service in services:
        for port in service["spec"]["ports"]:
            if port["name"].startswith("data-"):
                assert port["port"] == port["targetPort"] not in exposed, f"{name}: {port}"
                exposed[port["port"]] = service["metadata"]["name"]
    named = {}
    for file, text in release.configurations().items():
        for listener in yaml.safe_load(text)["listeners"]:
            first, last = map(int, listener["passive"]["ports"].split("-"))
            for port in range(first, last + 1):
                assert port not in named, f"{name}: {port} is in two slices"
                named[port] = file.removesuffix(".yaml")
    if "DaemonSet" in release.kinds():
        assert not exposed
        return
    assert set(named) == set(exposed), f"{name}: {set(named) ^ set(exposed)} named or exposed only"
    if "StatefulSet" in release.kinds():
        assert named == exposed, f"{name}: a port leads to another pod"
        for service in services:
            if any(port["name"].startswith("data-") for port in service["spec"]["ports"]):
                pod = service["spec"]["selector"]["statefulset.kubernetes.io/pod-name"]
                assert pod == service["metadata"]["name"] and service["spec"]["publishNotReadyAddresses"], name


def upgrades():
    """From every case to every next one that keeps the topology: what a user changes later."""
    pairs = [(old, new) for old in CASES for new in CASES if old != new and _topology(old) == _topology(new)]
    seen = set()
    for old, new in pairs:
        if old in seen:
            continue
        seen.add(old)
        with Cluster(NEWEST) as cluster:
            cluster.install(CASES[old])
            wanted = cluster.upgrade(CASES[new])
            stored = {
                (each["kind"], each["metadata"]["name"])
                for each in cluster.api.objects.values()
                if not each.get("type", "").startswith("helm.sh/release")
            }
        assert stored == {(each["kind"], each["metadata"]["name"]) for each in wanted.objects}, f"{old} to {new}"
        print(f"upgraded: {old} to {new}, nothing left over")


def scaling_moves_no_slice():
    """With `perPod.slices`, the pods that stay keep their ports and their Services: nothing of theirs is cut."""

    def of_pods(release):
        services = {each["metadata"]["name"]: each["spec"] for each in release.objects if each["kind"] == "Service"}
        return {
            name.removesuffix(".yaml"): (text, services[name.removesuffix(".yaml")])
            for name, text in release.configurations().items()
        }

    for slices, same in ((5, True), (0, False)):
        values = merged(BASE, {"topology": "perPod", "perPod": {"slices": slices}})
        with Cluster(NEWEST) as cluster:
            two = of_pods(cluster.install({**values, "replicas": 2}))
            upgraded = cluster.upgrade({**values, "replicas": 5})
            five = of_pods(upgraded)
        assert len(two) == 2 and len(five) == 5, (list(two), list(five))
        assert ("5 pods instead of 2: the passive ports" in upgraded.notes) != same, upgraded.notes
        assert all((five[name] == each) == same for name, each in two.items()), f"perPod.slices {slices}"
    print("from two to five pods, with five slices: the first two keep their ports")


def admin_token_is_kept():
    values = {key: value for key, value in BASE.items() if key != "admin"}
    with Cluster(NEWEST) as cluster:
        before = cluster.install(values).one("Secret", "ftp-causeway-admin")["data"]["token"]
        after = cluster.upgrade(values).one("Secret", "ftp-causeway-admin")["data"]["token"]
    assert before == after and len(before) > 40, "an upgrade changed the admin token"
    print("the admin token survives an upgrade")


def configurations(releases):
    """The server itself accepts every configuration that the chart makes."""
    binary = os.environ["CAUSEWAY_BIN"]
    assert pathlib.Path(binary).exists(), f"{binary} is missing: build it or set CAUSEWAY_BIN"
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        _secrets(directory)
        count = 0
        for name, release in releases.items():
            for file, text in release.configurations().items():
                path = directory / file
                path.write_text(text.replace("/etc/causeway/", f"{directory}/"))
                environment = {**os.environ, "HOST_IP": "192.0.2.1"}
                command = [binary, "check", "--offline", "--config", path]
                done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
                assert done.returncode == 0, f"{name}, {file}:\n{done.stderr}\n{text}"
                count += 1
    print(f"causeway check: {count} configurations accepted")


def _secrets(directory):
    for name in "tls", "users", "admin":
        (directory / name).mkdir()
    key, certificate = directory / "tls" / "tls.key", directory / "tls" / "tls.crt"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=ftp.example.com", "-addext", "subjectAltName=DNS:ftp.example.com"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    hash_ = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$Pd3HvDQnBWDB1sZDh+ylFw2ztwB6Lga31mp9Cuy0HAo"
    (directory / "users" / "users.yaml").write_text(json.dumps({"users": [{"name": "device", "password_hash": hash_}]}))
    (directory / "admin" / "token").write_text("0123456789abcdef0123456789abcdef")


def _passive(release):
    text = next(iter(release.configurations().values()))
    return [listener["passive"] for listener in yaml.safe_load(text)["listeners"]]


def _topology(name):
    return CASES[name].get("topology", "single")


def _known_keys():
    return ", ".join((CHART / "files" / "config-keys.txt").read_text().split())


def _refusal(cluster, name, values):
    try:
        cluster.install(values)
    except Refused as refused:
        return str(refused)
    raise AssertionError(f"{name}: installed, expected a refusal")


def _lines_of(text):
    _, found, list_ = text.partition("causeway cannot work like this:\n")
    assert found, f"not a refusal of the chart: {text}"
    return [line.removeprefix("- ") for line in list_.splitlines() if line.startswith("- ")]


def _short(document):
    """Runs of passive ports as one line, files that stand in the chart by their size."""
    document = json.loads(json.dumps(document))
    ports = document.get("spec", {}).get("ports") if document["kind"] == "Service" else None
    if ports:
        data = [port for port in ports if port["name"].startswith("data-")]
        if data:
            rest = [port for port in ports if port not in data]
            first, last = data[0]["port"], data[-1]["port"]
            assert [port["port"] for port in data] == list(range(first, last + 1))
            document["spec"]["ports"] = [*rest, f"one port each, named data-PORT: {first}-{last}"]
    if document["metadata"]["name"].endswith("-dashboard"):
        document["data"] = {key: "the content of files/dashboard.json" for key in document["data"]}
    elif document["kind"] == "ConfigMap":
        document["data"] = {key: yaml.safe_load(value) for key, value in document["data"].items()}
    elif document["kind"] == "PrometheusRule":
        document["spec"] = "the content of files/alerts.yaml"
    elif document["kind"] in {"Deployment", "StatefulSet", "DaemonSet"}:
        document["spec"]["template"]["metadata"]["annotations"]["checksum/config"] = "SHA-256 of the ConfigMap"
    return document


if __name__ == "__main__":
    try:
        main()
    except AssertionError as failure:
        sys.exit(f"FAILED: {failure}")
