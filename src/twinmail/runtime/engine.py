"""The Docker engine of this machine: the connection, and the images that it holds for us."""

import json
from typing import Any

import docker
from docker.errors import APIError, DockerException, ImageNotFound

from twinmail.runtime import archive
from twinmail.runtime.image import Image
from twinmail.runtime.interface import ImageError, RuntimeUnavailable

OTHER_WAY = "or use --runtime namespace"
KEPT = 8  # contents of one image that the engine keeps: two platforms, with and without debug layer, twice


class EngineImages:
    """Images of ours in the engine behind *client*."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def ensure(self, image: Image) -> str:
        """Make sure that the engine holds *image*, to the bit; return the engine's id of it.

        Raises:
            ImageError: the engine did not take it, or made something else of it.
        """
        held = self._inspect(image)
        if held is None:
            problem = ""
            try:
                for line in self._client.api.load_image(archive.stream(image), quiet=True):
                    problem = line.get("error", problem)
            except DockerException as error:
                problem = str(error)
            held = self._inspect(image)
            if held is None:
                raise ImageError(
                    f"{image.config.parents[2]}: the Docker engine did not take the image for "
                    f"{image.platform}: {problem or 'it holds it under another digest'}; build it again"
                )
            self._prune(image, held["Id"])
        identity = held["Id"]
        # The classic store names an image by its config, containerd's store by its manifest.
        if identity not in (image.config_digest, image.manifest_digest):
            raise ImageError(
                f"{image.name} for {image.platform}: expected the Docker engine to hold "
                f"{image.config_digest} (or its manifest {image.manifest_digest}), got {identity}"
            )
        expected = [layer.diff_id for layer in image.layers]
        layers = held["RootFS"].get("Layers", [])
        if layers != expected:
            raise ImageError(
                f"{image.name} for {image.platform}: the Docker engine holds other layers: expected diff IDs "
                f"{', '.join(expected)}, got {', '.join(layers)}; remove it: docker image rm -f {identity}"
            )
        return str(identity)

    def _inspect(self, image: Image) -> dict[str, Any] | None:
        for identity in (image.config_digest, image.manifest_digest):
            try:
                found: dict[str, Any] = self._client.api.inspect_image(identity)
            except ImageNotFound:
                continue
            return found
        return None

    def _prune(self, image: Image, wanted: str) -> None:
        """Remove the oldest contents of an image: every change of code loads another.

        Never the one that is *wanted* now: the engine may hold it since long ago, under an old time.
        """
        found = [one for one in self._client.images.list(archive.repository(image)) if one.id != wanted]
        found.sort(key=lambda one: str(one.attrs.get("Metadata", {}).get("LastTagTime")), reverse=True)
        for old in found[KEPT - 1 :]:
            try:
                self._client.images.remove(old.id)
            except APIError:
                continue  # a container uses it, or another process has just removed it


def connect() -> tuple[Any, dict[str, Any]]:
    """Return a client, and the options that this engine needs for every container.

    Raises:
        RuntimeUnavailable: no engine answers, or it does not share this machine's loopback network.
    """
    try:
        client = docker.from_env()
        information = client.info()
    except DockerException as error:
        raise RuntimeUnavailable(
            f"no Docker engine answers: {error}; "
            "install one (apt-get install docker.io) and join the group docker, " + OTHER_WAY
        ) from error
    security = json.dumps(information.get("SecurityOptions") or [])
    if not client.api.base_url.startswith("http+docker://"):
        problem = f"runs elsewhere ({client.api.base_url})"
    elif "name=rootless" in security:
        problem = "is rootless, with a loopback network of its own"
    elif "Docker Desktop" in str(information.get("OperatingSystem")):
        problem = "runs in a virtual machine (Docker Desktop)"
    else:
        return client, {"userns_mode": "host"} if "name=userns" in security else {}
    raise RuntimeUnavailable(
        f"the Docker engine {problem}, but the containers have to share this machine's loopback network: "
        f"point DOCKER_HOST to an engine on this machine, {OTHER_WAY}"
    )
