"""As much of a Kubernetes API server as kubectl needs to deploy: objects in memory, and a pod that runs.

No admission, no scheduling, no merging of field managers: what is applied is what is stored. Source: Kubernetes API
reference v1.32 (discovery, server-side apply, list and watch).
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

_KINDS = {
    "v1": {
        "namespaces": ("Namespace", False),
        "configmaps": ("ConfigMap", True),
        "secrets": ("Secret", True),
        "services": ("Service", True),
        "pods": ("Pod", True),
        "persistentvolumeclaims": ("PersistentVolumeClaim", True),
    },
    "apps/v1": {"deployments": ("Deployment", True)},
    "policy/v1": {"poddisruptionbudgets": ("PodDisruptionBudget", True)},
    "networking.k8s.io/v1": {"networkpolicies": ("NetworkPolicy", True)},
}
_VERBS = ["create", "delete", "get", "list", "patch", "watch"]
_OBJECT = re.compile(
    r"/(?:api/(?P<core>v1)|apis/(?P<group>[^/]+/v1))(?:/namespaces/(?P<namespace>[^/]+)(?=/))?"
    r"/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?"
)


class ApiServer:
    """What the cluster holds.

    Attributes:
        objects: by version, plural and name.
        wrote: how many changes were made, dry runs aside.
        waiting: reason why the pod's containers do not start; None if they do.
        other: a digest that runs instead of the one asked for.
    """

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.wrote = 0
        self.waiting: str | None = None
        self.other: str | None = None
        self.changed = threading.Condition()

    def apply(self, key: tuple[str, str, str], document: dict[str, Any], dry: bool) -> dict[str, Any]:
        """Store *document*, and let a deployment have its pod."""
        known = self.objects.get(key)
        kept = {field: value for field, value in (known or {}).items() if field != "status"}
        if kept and _bare(kept) == _bare(document):
            return known or {}
        document["metadata"] |= {"uid": "-".join(key[1:]), "resourceVersion": str(self.wrote + 1)}
        document["metadata"] |= {"generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
        if dry:
            return document
        self.wrote += 1
        self.objects[key] = document
        if document["kind"] == "Deployment":
            self._run(document)
        return document

    def _run(self, deployment: dict[str, Any]) -> None:
        ready = 0 if self.waiting else 1
        deployment["status"] = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1}
        deployment["status"] |= {"availableReplicas": ready, "readyReplicas": ready}
        statuses = []
        for box in deployment["spec"]["template"]["spec"]["containers"]:
            image = box["image"]
            if self.other and "dovecot" in image:
                image = f"{image.partition('@')[0]}@{self.other}"
            running: dict[str, Any] = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
            state = (
                {"waiting": {"reason": self.waiting, "message": "no such image"}} if self.waiting else running
            )
            statuses.append(
                {
                    "name": box["name"],
                    "image": box["image"],
                    "imageID": image,
                    "ready": ready == 1,
                    "state": state,
                }
            )
        metadata = {"name": "twinmail-0", "namespace": deployment["metadata"]["namespace"]}
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        self.objects["v1", "pods", "twinmail-0"] = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**metadata, "labels": labels},
            "status": {"phase": "Running", "containerStatuses": statuses},
        }

    def names(self, plural: str) -> set[str]:
        """Names of all objects of one kind."""
        return {name for _, kind, name in self.objects if kind == plural}


@contextmanager
def serve(folder: Path) -> Iterator[tuple[ApiServer, Path]]:
    """An API server on loopback, and a kubeconfig with the context ``tests`` that leads to it."""
    state = ApiServer()

    class Handler(_Handler):
        cluster = state

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    kubeconfig = folder / "kubeconfig"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "tests", "context": {"cluster": "c", "user": "u"}}],
    }
    kubeconfig.write_text(yaml.safe_dump(document))
    try:
        yield state, kubeconfig
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    cluster: ApiServer

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        if (found := _discovery(url.path)) is not None:
            self._send(200, found)
            return
        match = _OBJECT.fullmatch(url.path)
        if match is None:
            self._missing(url.path)
            return
        version, plural = match["core"] or match["group"], match["plural"]
        if match["name"]:
            one = self.cluster.objects.get((version, plural, match["name"]))
            self._send(200, one) if one else self._missing(match["name"], plural)
            return
        if "watch" in query:
            self._watch()
            return
        selector = dict(
            one.split("=", 1) for one in filter(None, query.get("labelSelector", [""])[0].split(","))
        )
        fields = dict(
            one.split("=", 1) for one in filter(None, query.get("fieldSelector", [""])[0].split(","))
        )
        items = [
            one
            for (group, kind, name), one in self.cluster.objects.items()
            if (group, kind) == (version, plural)
            and selector.items() <= one["metadata"].get("labels", {}).items()
            and name == fields.get("metadata.name", name)
        ]
        kind = _KINDS[version][plural][0]
        metadata = {"resourceVersion": str(self.cluster.wrote + 1)}
        self._send(200, {"apiVersion": version, "kind": f"{kind}List", "metadata": metadata, "items": items})

    def do_PATCH(self) -> None:
        match = _OBJECT.fullmatch(urlsplit(self.path).path)
        assert match and self.headers["Content-Type"] == "application/apply-patch+yaml", self.path
        body = yaml.safe_load(self.rfile.read(int(self.headers["Content-Length"])))
        dry = "dryRun=All" in self.path
        namespace = match["namespace"]
        if namespace and ("v1", "namespaces", namespace) not in self.cluster.objects:
            self._missing(namespace, "namespaces")
            return
        key = (match["core"] or match["group"], match["plural"], match["name"])
        self._send(200, self.cluster.apply(key, body, dry))

    def do_DELETE(self) -> None:
        match = _OBJECT.fullmatch(urlsplit(self.path).path)
        assert match
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        key = (match["core"] or match["group"], match["plural"], match["name"])
        self.cluster.wrote += 1
        if self.cluster.objects.pop(key, None) is None:
            self._missing(match["name"], match["plural"])
        else:
            self._send(200, {"apiVersion": "v1", "kind": "Status", "status": "Success"})

    def _watch(self) -> None:
        """Nothing more happens: what is there was listed."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()

    def _missing(self, name: str, plural: str = "") -> None:
        status = {
            "apiVersion": "v1",
            "kind": "Status",
            "status": "Failure",
            "code": 404,
            "reason": "NotFound",
        }
        self._send(404, {**status, "message": f'{plural} "{name}" not found', "details": {"name": name}})

    def _send(self, code: int, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


def _bare(document: dict[str, Any]) -> dict[str, Any]:
    """*document* without what the server adds."""
    added = ("uid", "resourceVersion", "generation", "creationTimestamp")
    metadata = {name: value for name, value in document["metadata"].items() if name not in added}
    return {**document, "metadata": metadata}


def _discovery(path: str) -> Any:
    """What the server says of itself, or None."""
    if path == "/version":
        return {"major": "1", "minor": "32", "gitVersion": "v1.32.0"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        groups = []
        for version in _KINDS:
            if "/" in version:
                entry = {"groupVersion": version, "version": "v1"}
                name = version.partition("/")[0]
                groups.append({"name": name, "versions": [entry], "preferredVersion": entry})
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    if path == "/openapi/v3":
        paths = {_root(version): {"serverRelativeURL": f"/openapi/v3/{_root(version)}"} for version in _KINDS}
        return {"paths": paths}
    for version, kinds in _KINDS.items():
        if path == f"/{_root(version)}":
            resources = [
                {"name": plural, "kind": kind, "namespaced": namespaced, "singularName": "", "verbs": _VERBS}
                for plural, (kind, namespaced) in kinds.items()
            ]
            return {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
        if path == f"/openapi/v3/{_root(version)}":
            return _openapi(version)
    return None


def _root(version: str) -> str:
    return f"apis/{version}" if "/" in version else f"api/{version}"


def _openapi(version: str) -> Any:
    """That objects can be validated by the server: what kubectl looks for before it leaves that to it."""
    group = version.rpartition("/")[0]
    parameters = [{"name": name, "in": "query"} for name in ("fieldValidation", "dryRun")]
    paths = {
        f"/{_root(version)}/{plural}/{{name}}": {
            "patch": {
                "parameters": parameters,
                "x-kubernetes-group-version-kind": {"group": group, "version": "v1", "kind": kind},
                "responses": {},
            }
        }
        for plural, (kind, _) in _KINDS[version].items()
    }
    return {"openapi": "3.0.0", "info": {"title": "tests", "version": "v1"}, "paths": paths}
