"""Releases of the chart through the real Helm library."""

import asyncio
import pathlib

import helm_sdkpy
import yaml

from cluster_api import ClusterApi

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "causeway"
NAME = "ftp"
NAMESPACE = "files"


class Refused(Exception):
    """The chart or its schema said no; the text is Helm's."""


class Release:
    """What Helm made of one set of values."""

    def __init__(self, answer):
        self.objects = [document for document in yaml.safe_load_all(answer["manifest"]) if document]
        self.notes = _notes(answer)

    def one(self, kind, name=None):
        found = [each for each in self.objects if each["kind"] == kind and name in (None, each["metadata"]["name"])]
        assert len(found) == 1, f"{len(found)} objects {kind} {name or ''}, expected one"
        return found[0]

    def kinds(self):
        return {each["kind"] for each in self.objects}

    def configurations(self):
        """The server's configuration files by name, as text."""
        return self.one("ConfigMap", "ftp-causeway")["data"]


class Cluster:
    """A Kubernetes API in memory and Helm talking to it."""

    def __init__(self, version):
        self.api = ClusterApi(version)
        self._helm = helm_sdkpy.Configuration(namespace=NAMESPACE, kubeconfig=self.api.kubeconfig())

    def install(self, values):
        return self._run(helm_sdkpy.Install(self._helm), values)

    def upgrade(self, values):
        return self._run(helm_sdkpy.Upgrade(self._helm), values)

    def lint(self):
        return asyncio.run(helm_sdkpy.Lint(self._helm).run(str(CHART)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.api.__exit__()

    @staticmethod
    def _run(action, values):
        try:
            return Release(asyncio.run(action.run(NAME, str(CHART), values=values, wait=False, timeout=60)))
        except helm_sdkpy.HelmError as error:
            raise Refused(str(error)) from None


def preset(name):
    """The values of one `values-NAME.yaml`."""
    return yaml.safe_load((CHART / f"values-{name}.yaml").read_text())


def merged(*layers):
    """Values as Helm merges several files: the last wins, tables are merged."""
    result = {}
    for layer in layers:
        for key, value in layer.items():
            old = result.get(key)
            result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def _notes(answer):
    return (answer.get("info") or {}).get("notes") or answer.get("notes") or ""
