"""podman as a cluster of one pod: ``kube play`` of rendered documents, with a storage of its own."""

import base64
import copy
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

# Kinds that podman can run; it has no use for the others.
_KINDS = ("ConfigMap", "Secret", "PersistentVolumeClaim", "Deployment")

_SETTINGS = """
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
"""


class Podman:
    """podman with everything it keeps below *folder*."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._settings = folder / "containers.conf"
        self._settings.write_text(_SETTINGS)
        self._file = folder / "play.yaml"
        self._podman = ["podman", "--root", str(folder / "root"), "--runroot", str(folder / "run")]

    def run(self, *arguments: str) -> str:
        """What ``podman *arguments*`` prints."""
        argv = [*self._podman, *arguments]
        environment = {**os.environ, "CONTAINERS_CONF": str(self._settings)}
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"podman {arguments[0]}: {done.stderr}"
        return str(done.stdout)

    def play(self, documents: Sequence[Mapping[str, Any]]) -> None:
        """Run *documents*; volumes of an earlier play are used again."""
        known = set(self.run("volume", "ls", "--format={{.Name}}").split())
        decoded = [_decoded(one) for one in copy.deepcopy(documents) if one["kind"] in _KINDS]
        data = {one["metadata"]["name"]: one["data"] for one in decoded if one["kind"] == "ConfigMap"}
        wanted = [
            _pod(one, data, self.folder) if one["kind"] == "Deployment" else one
            for one in decoded
            # podman 4.3 fails at a claim that is met already.
            if not (one["kind"] == "PersistentVolumeClaim" and one["metadata"]["name"] in known)
        ]
        self._file.write_text(yaml.safe_dump_all(wanted))
        self._file.chmod(0o600)
        # The pod reaches LocalStack on this machine's loopback, where nothing else listens for it.
        self.run("play", "kube", "--network=host", "--tls-verify=false", str(self._file))

    def end(self, volumes: bool = False) -> None:
        """End the pod, and forget what it was given; with *volumes* its mail too."""
        self.run("pod", "rm", "--all", "--force", "--time=20")
        kept = set() if volumes else {"twinmail-mail", "twinmail-state"}
        for name in self.run("volume", "ls", "--format={{.Name}}").split():
            if name not in kept:
                self.run("volume", "rm", name)

    def containers(self) -> dict[str, Any]:
        """What ``podman inspect`` says of each container, by its name in the pod."""
        ids = self.run("ps", "--all", "--quiet", "--no-trunc").split()
        found = json.loads(self.run("inspect", *ids)) if ids else []
        return {one["Name"].removeprefix("twinmail-"): one for one in found if not one["IsInfra"]}

    def logs(self) -> str:
        """The last lines of all containers."""
        lines = []
        for name in self.containers():
            argv = [*self._podman, "logs", "--tail=30", f"twinmail-{name}"]
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            lines.append(f"{name}:\n{done.stdout}{done.stderr}")
        return "\n".join(lines)

    def close(self) -> None:
        """Remove everything."""
        self.end(volumes=True)
        self.run("rmi", "--all", "--force")
        subprocess.run(["umount", str(self.folder / "root" / "overlay")], capture_output=True, check=False)


def _decoded(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """*document*, or the ConfigMap of a Secret: with podman 4.3 the files of Secrets stay encoded."""
    if document["kind"] != "Secret":
        return document
    data = {name: base64.b64decode(value).decode() for name, value in document["data"].items()}
    return {**document, "kind": "ConfigMap", "data": data}


def _pod(
    deployment: Mapping[str, Any], data: Mapping[str, Mapping[str, str]], folder: Path
) -> dict[str, Any]:
    """The pod of *deployment* as podman 4.3 can play it.

    A deployment's init containers would be started again and again. Ports are left out: on the network of this
    machine there is nothing to map. A single file of a volume, which podman cannot mount, comes from *folder*.
    """
    template = deployment["spec"]["template"]
    spec = {**template["spec"], "restartPolicy": "OnFailure"}
    boxes = [{key: value for key, value in one.items() if key != "ports"} for one in spec["containers"]]
    single = {
        mount["name"]: mount.pop("subPath")
        for one in boxes
        for mount in one["volumeMounts"]
        if "subPath" in mount
    }
    volumes = []
    for one in spec["volumes"]:
        name = one["name"]
        source = one.get("secret", {}).get("secretName") or one.get("configMap", {}).get("name")
        if name in single:
            path = folder / single[name]
            path.write_text(data[source][single[name]])
            volumes.append({"name": name, "hostPath": {"path": str(path), "type": "File"}})
        elif "secret" in one:
            volumes.append({"name": name, "configMap": {"name": source, "optional": False}})
        else:
            volumes.append(one)
    metadata = {"name": deployment["metadata"]["name"], "labels": template["metadata"]["labels"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {**spec, "containers": boxes, "volumes": volumes},
    }
