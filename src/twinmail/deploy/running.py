"""What runs on a server, compared with what ``images/digests.json`` pins.

An engine knows an image by digests of manifests when it pulled it, and by the digests of its layers before
compression (diff IDs) always; Kubernetes tells the first alone. Source: Docker Engine API v1.41
(``ContainerInspect``, ``ImageInspect``); Kubernetes API v1 (``ContainerStatus.imageID``).
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twinmail.errors import PermanentError
from twinmail.oci.digests import FILE, Digests

PROJECT = "twinmail"
"""The Compose project of a server."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

Run = Callable[[Sequence[str]], bytes]
"""Runs a command where the engine is, and returns its standard output."""


class RunningError(PermanentError):
    """The engine answers what no engine should."""


@dataclass(frozen=True)
class Container:
    """A container that runs.

    Attributes:
        name: what the engine calls it; ``pod/container`` in a cluster.
        image: the last part of the repository's name: ``dovecot``.
        digests: what the engine knows the image by: of manifests, and perhaps of the config.
        diff_ids: of its layers, lowest first; None where the engine does not say.
    """

    name: str
    image: str
    digests: frozenset[str]
    diff_ids: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Difference:
    """One image that does not run as pinned.

    Attributes:
        container: None if no container runs the image.
        got: what runs; empty if nothing does, or nothing of that name is pinned.
    """

    image: str
    container: str | None
    expected: str
    got: str = ""

    def __str__(self) -> str:
        if self.container is None:
            return f"{self.image}: nothing runs it; expected {self.expected}"
        if not self.expected:
            return f"{self.container}: runs {self.image} ({self.got}), which {FILE} does not pin"
        return f"{self.container}: {self.image}: expected {self.expected}, got {self.got}"


def compare(
    containers: Iterable[Container], digests: Digests, platform: str, wanted: Sequence[str]
) -> tuple[Difference, ...]:
    """In what *containers* are not the images *wanted* as *digests* pins them for *platform*."""
    differences = []
    missing = dict.fromkeys(wanted)
    for one in sorted(containers, key=lambda one: one.name):
        pin = digests.images.get(one.image, {}).get(platform)
        if pin is None:
            differences.append(Difference(one.image, one.name, "", _known_by(one)))
            continue
        missing.pop(one.image, None)
        if not _is(one, pin):
            differences.append(Difference(one.image, one.name, pin["manifest"], _known_by(one)))
    for image in missing:
        pin = digests.images.get(image, {}).get(platform)
        differences.append(Difference(image, None, pin["manifest"] if pin else f"a pin for {platform}"))
    return tuple(differences)


def docker_containers(
    containers: Iterable[Mapping[str, Any]], images: Iterable[Mapping[str, Any]]
) -> tuple[Container, ...]:
    """Those of *containers* that run; both are what ``docker … inspect`` says."""
    by_id = {one["Id"]: one for one in images}
    found = []
    for one in containers:
        if not one["State"]["Running"]:
            continue
        image = by_id.get(one["Image"], {})
        references = [*(image.get("RepoDigests") or ()), one["Config"]["Image"]]
        digests = {digest for text in (*references, one["Image"]) for digest in _DIGEST.findall(text)}
        layers = (image.get("RootFS") or {}).get("Layers")
        name = _image_name(one["Config"]["Image"]) or next(
            filter(None, map(_image_name, [*references, *(image.get("RepoTags") or ())])), "?"
        )
        found.append(
            Container(one["Name"].lstrip("/"), name, frozenset(digests), tuple(layers) if layers else None)
        )
    return tuple(found)


def pod_containers(pods: Mapping[str, Any]) -> tuple[Container, ...]:
    """The containers that run, from what ``kubectl get pods -o json`` says."""
    found = []
    for pod in pods["items"]:
        for one in pod.get("status", {}).get("containerStatuses") or ():
            if "running" not in (one.get("state") or {}):
                continue
            # The cluster may name the image otherwise than the pod does, by a mirror for example.
            name = _image_name(one["imageID"]) or _image_name(one["image"]) or "?"
            # What was pulled by digest is known by it; what the pod asked for proves nothing then.
            told = one["imageID"] if "@" in one["imageID"] else f"{one['imageID']} {one['image']}"
            digests = frozenset(_DIGEST.findall(told))
            found.append(Container(f"{pod['metadata']['name']}/{one['name']}", name, digests))
    return tuple(found)


def read_docker(run: Run, project: str = PROJECT) -> tuple[Container, ...]:
    """The containers of the Compose *project* that run.

    Raises:
        RunningError: see there; what *run* raises.
    """
    label = f"label=com.docker.compose.project={project}"
    ids = run(["docker", "ps", "--quiet", "--no-trunc", "--filter", label]).decode().split()
    if not ids:
        return ()
    containers = _json(run(["docker", "container", "inspect", *ids]), "docker container inspect")
    names = sorted({one["Image"] for one in containers})
    images = _json(run(["docker", "image", "inspect", *names]), "docker image inspect")
    return docker_containers(containers, images)


def read_kubernetes(run: Run, context: str, namespace: str, selector: str = "") -> tuple[Container, ...]:
    """The containers that run in *namespace* of the cluster that kubectl's *context* names.

    Raises:
        RunningError: see there; what *run* raises.
    """
    argv = ["kubectl", "get", "pods", "--namespace", namespace, "--output", "json"]
    argv += [f"--context={context}"] if context else []
    argv += [f"--selector={selector}"] if selector else []
    return pod_containers(_json(run(argv), "kubectl get pods"))


def _is(container: Container, pin: Mapping[str, Any]) -> bool:
    if pin["manifest"] in container.digests:
        return container.diff_ids is None or list(container.diff_ids) == list(pin["diff_ids"])
    # Loaded, not pulled: then no manifest is known, and the layers must do.
    loaded = len(container.digests) <= 1 and container.diff_ids is not None
    return loaded and list(container.diff_ids or ()) == list(pin["diff_ids"])


def _known_by(container: Container) -> str:
    return ", ".join(sorted(container.digests)) or "an image without digest"


def _image_name(reference: str) -> str:
    """``dovecot`` of ``docker-pullable://host:5000/ann/dovecot:tag@sha256:…``; empty for a bare digest."""
    name = reference.rpartition("://")[2].partition("@")[0]
    if _DIGEST.fullmatch(name):
        return ""
    return name.rpartition("/")[2].partition(":")[0]


def _json(octets: bytes, what: str) -> Any:
    try:
        return json.loads(octets)
    except ValueError as error:
        raise RunningError(
            f"{what}: expected JSON, got {octets[:80]!r}; is that engine what it says?"
        ) from error
