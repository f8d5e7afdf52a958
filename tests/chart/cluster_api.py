"""A Kubernetes API in memory: enough of it for Helm to install and upgrade a release.

Knows discovery, create, get, list, patch and delete. Keeps what it is sent, runs nothing.
"""

import datetime
import http.server
import json
import re
import threading
import urllib.parse
import uuid

# group/version -> (plural, kind)
RESOURCES = {
    "v1": [
        ("configmaps", "ConfigMap"),
        ("pods", "Pod"),
        ("secrets", "Secret"),
        ("serviceaccounts", "ServiceAccount"),
        ("services", "Service"),
    ],
    "apps/v1": [("daemonsets", "DaemonSet"), ("deployments", "Deployment"), ("statefulsets", "StatefulSet")],
    "autoscaling/v2": [("horizontalpodautoscalers", "HorizontalPodAutoscaler")],
    "cert-manager.io/v1": [("certificates", "Certificate")],
    "monitoring.coreos.com/v1": [
        ("podmonitors", "PodMonitor"),
        ("prometheusrules", "PrometheusRule"),
        ("servicemonitors", "ServiceMonitor"),
    ],
    "networking.k8s.io/v1": [("networkpolicies", "NetworkPolicy")],
    "policy/v1": [("poddisruptionbudgets", "PodDisruptionBudget")],
    "rbac.authorization.k8s.io/v1": [("rolebindings", "RoleBinding"), ("roles", "Role")],
}
PLURALS = {plural for resources in RESOURCES.values() for plural, _ in resources}
VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]


class ClusterApi:
    """Serves on a free loopback port until it is closed; `objects` maps paths to what was stored there."""

    def __init__(self, version):
        self.objects = {}
        handler = type("Handler", (_Handler,), {"objects": self.objects, "version": version})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def kubeconfig(self):
        port = self._server.server_address[1]
        # Helm's binding tells content from a file name by block style.
        return "\n".join(
            [
                "apiVersion: v1",
                "kind: Config",
                f'clusters: [{{name: a, cluster: {{server: "http://127.0.0.1:{port}"}}}}]',
                "users: [{name: a, user: {}}]",
                "contexts: [{name: a, context: {cluster: a, user: a}}]",
                "current-context: a",
            ]
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    objects: dict
    version: str

    def log_message(self, *_):
        pass

    def do_GET(self):
        path, found = self._path(), None
        if (found := self._discovery(path)) or (found := self.objects.get(path)):
            self._answer(200, found)
        elif path.rsplit("/", 1)[-1] in PLURALS:
            self._answer(200, self._list(path))
        else:
            self._not_found(path)

    def do_POST(self):
        body = self._body()
        self._store(f"{self._path()}/{body['metadata']['name']}", body, 201)

    def do_PUT(self):
        self._store(self._path(), self._body(), 200)

    def do_PATCH(self):
        path = self._path()
        known = path in self.objects
        self._store(path, _merge(self.objects.get(path, {}), self._body()), 200 if known else 201)

    def do_DELETE(self):
        self._body()
        self._answer(200, self.objects.pop(self._path(), {"kind": "Status"}))

    def _path(self):
        return urllib.parse.urlparse(self.path).path

    def _body(self):
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")

    def _answer(self, code, content):
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _not_found(self, path):
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound"}
        self._answer(404, {**status, "message": f"{path} not found", "code": 404})

    def _store(self, path, content, code):
        metadata = content.setdefault("metadata", {})
        metadata.setdefault("uid", str(uuid.uuid4()))
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        metadata.setdefault("creationTimestamp", now)
        metadata["resourceVersion"] = "1"
        self.objects[path] = content
        self._answer(code, content)

    def _list(self, path):
        query = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)
        wanted = dict(pair.split("=", 1) for pair in query.get("labelSelector", [""])[0].split(",") if "=" in pair)
        items = [
            content
            for name, content in self.objects.items()
            if name.startswith(path + "/") and wanted.items() <= content["metadata"].get("labels", {}).items()
        ]
        kind = next(kind for group in RESOURCES.values() for plural, kind in group if path.endswith("/" + plural))
        version = items[0]["apiVersion"] if items else "v1"
        return {"kind": f"{kind}List", "apiVersion": version, "metadata": {"resourceVersion": "1"}, "items": items}

    def _discovery(self, path):
        if path == "/version":
            major, minor = self.version.split(".")
            return {"major": major, "minor": minor, "gitVersion": f"v{self.version}.0", "platform": "linux/amd64"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            groups = [_group(version) for version in RESOURCES if "/" in version]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        match = re.fullmatch(r"/api/(v1)|/apis/(.+/v[^/]+)", path)
        version = match and (match[1] or match[2])
        if version not in RESOURCES:
            return None
        resources = [
            {"name": plural, "singularName": kind.lower(), "namespaced": True, "kind": kind, "verbs": VERBS}
            for plural, kind in RESOURCES[version]
        ]
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}


def _group(group_version):
    name, version = group_version.split("/")
    entry = {"groupVersion": group_version, "version": version}
    return {"name": name, "versions": [entry], "preferredVersion": entry}


def _merge(old, new):
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(old.get(key), dict):
            _merge(old[key], value)
        elif value is None:
            old.pop(key, None)
        else:
            old[key] = value
    return old
