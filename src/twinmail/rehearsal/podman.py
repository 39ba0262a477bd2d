"""podman as a cluster of one pod: ``kube play`` of rendered documents, with a storage of its own."""

import base64
import copy
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from twinmail.rehearsal import child

# Kinds that podman can run; it has no use for the others.
_KINDS = ("ConfigMap", "Secret", "PersistentVolumeClaim", "Deployment")
_RUN = Path("/run")
_KEPT = ("twinmail-mail", "twinmail-state")

_SETTINGS = """
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
"""


class Podman:
    """podman with everything it keeps below *folder*, which may be there from before."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._settings = folder / "containers.conf"
        self._settings.write_text(_SETTINGS)
        self._file = folder / "play.yaml"
        # At most 50 characters, for the sockets in it; and in /run nobody but root makes names.
        self._run = _RUN / f"twinmail-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
        self._podman = ["podman", "--root", str(folder / "root"), "--runroot", str(self._run)]

    def run(self, *arguments: str) -> str:
        """What ``podman *arguments*`` prints.

        Raises:
            ProgramFailed: see there.
        """
        settings = ["env", f"CONTAINERS_CONF={self._settings}"]
        told = child.run([*settings, *self._podman, *arguments], name=f"podman {' '.join(arguments[:2])}")
        return told.decode(errors="replace")

    def play(self, documents: Sequence[Mapping[str, Any]]) -> None:
        """Run *documents*; volumes of an earlier play are used again.

        Raises:
            ProgramFailed: see there.
        """
        known = set(self.run("volume", "ls", "--format={{.Name}}").split())
        decoded = [_decoded(one) for one in copy.deepcopy(documents) if one["kind"] in _KINDS]
        data = {one["metadata"]["name"]: one["data"] for one in decoded if one["kind"] == "ConfigMap"}
        wanted = [
            _pod(one, data, self.folder) if one["kind"] == "Deployment" else one
            for one in decoded
            # podman 4.3 fails at a claim that is met already.
            if not (one["kind"] == "PersistentVolumeClaim" and one["metadata"]["name"] in known)
        ]
        with os.fdopen(os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
            yaml.safe_dump_all(wanted, stream)
        # The pod reaches LocalStack on this machine's loopback, where nothing else listens for it.
        self.run("play", "kube", "--network=host", "--tls-verify=false", str(self._file))

    def end(self, volumes: bool = False, seconds: int = 20) -> None:
        """End the pod, and forget what it was given; with *volumes* its mail too.

        Args:
            seconds: that it has to end by itself.

        Raises:
            ProgramFailed: see there.
        """
        self.run("pod", "rm", "--all", "--force", f"--time={seconds}")
        for name in self.run("volume", "ls", "--format={{.Name}}").split():
            if volumes or name not in _KEPT:
                self.run("volume", "rm", name)

    def containers(self) -> dict[str, Any]:
        """What ``podman inspect`` says of each container, by its name in the pod.

        Raises:
            ProgramFailed: see there.
        """
        ids = self.run("ps", "--all", "--quiet", "--no-trunc").split()
        found = json.loads(self.run("inspect", *ids)) if ids else []
        return {one["Name"].removeprefix("twinmail-"): one for one in found if not one["IsInfra"]}

    def logs(self) -> str:
        """The last lines of all containers."""
        lines = []
        for name in self.containers():
            argv = [*self._podman, "logs", "--tail=15", f"twinmail-{name}"]
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            lines.append(f"{name}:\n{done.stdout}{done.stderr}")
        return "\n".join(lines)

    def close(self) -> None:
        """Remove everything.

        Raises:
            ProgramFailed: see there.
        """
        try:
            self.end(volumes=True, seconds=0)
            self.run("rmi", "--all", "--force")
        finally:
            # A mount of podman's own, in the way of who removes the folder.
            overlay = str(self.folder / "root" / "overlay")
            subprocess.run(["umount", overlay], capture_output=True, check=False, start_new_session=True)
            shutil.rmtree(self._run, ignore_errors=True)


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

    A deployment's init containers would be started again and again. Ports are left out: on the network of
    this machine there is nothing to map. A single file of a volume, which podman cannot mount, comes from
    *folder*.
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
