"""Containers in the Docker engine of this machine, from the same image layouts."""

import hashlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, NotFound

from twinmail.runtime import emulation
from twinmail.runtime.engine import EngineImages, connect
from twinmail.runtime.image import Image
from twinmail.runtime.interface import (
    GID,
    UID,
    Container,
    ContainerError,
    ContainerSpec,
    ExecResult,
    Exited,
    Running,
    Runtime,
    WaitTimeout,
)
from twinmail.runtime.volume import own

STATE_LABEL = "rocks.pfeiffer.twinmail.state"
NAME_LABEL = "rocks.pfeiffer.twinmail.name"
_END_SECONDS = 10.0


class DockerRuntime(Runtime):
    """Containers labelled with the folder *state*; they run as the caller's user, or for root as 1000.

    Args:
        user: uid and gid that containers run as, if not these.

    Raises:
        RuntimeUnavailable: no engine answers, or it does not share this machine's loopback network.
    """

    name = "docker"

    def __init__(self, state: Path, user: tuple[int, int] | None = None) -> None:
        self._state = state.resolve()
        self._uid, self._gid = user or ((os.getuid(), os.getgid()) if os.getuid() else (UID, GID))
        self._client, self._options = connect()
        self._images = EngineImages(self._client)
        self._own: set[str] = set()

    def ensure_emulation(self, platform: str) -> None:
        emulation.ensure(platform)

    def prepare_volume(self, path: Path) -> None:
        own(path, self._uid, self._gid)

    def remove_leftovers(self) -> Sequence[str]:
        ended = []
        label = f"{STATE_LABEL}={self._state}"
        for found in self._client.containers.list(all=True, filters={"label": label}):
            if found.id in self._own:
                continue
            _remove(found)
            ended.append(found.labels[NAME_LABEL])
        return sorted(ended)

    def start(self, spec: ContainerSpec) -> Container:
        self.ensure_emulation(spec.platform)
        image = Image.load(spec.layout, spec.platform, spec.reference)
        argv = image.argv(spec)
        for mount in spec.mounts:
            if not mount.source.exists():
                raise ContainerError(
                    f"{spec.name}: {mount.source}, to be mounted at {mount.target}, does not exist"
                )
        loaded = self._images.ensure(image)
        self._make_way(spec.name)
        mounts = [(one.source, one.target, one.read_only) for one in spec.mounts]
        # Older runc gives it the mode of the image's folder, whatever we say; so the user owns it.
        tmpfs = f"rw,exec,nosuid,nodev,mode=1777,uid={self._uid},gid={self._gid}"
        created = None
        try:
            created = self._client.containers.create(
                loaded,
                entrypoint=list(argv),
                name=self._full_name(spec.name),
                labels={STATE_LABEL: str(self._state), NAME_LABEL: spec.name},
                platform=spec.platform,
                environment=dict(spec.environment),
                user=f"{self._uid}:{self._gid}",
                network_mode="host",
                read_only=True,
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
                tmpfs=dict.fromkeys(spec.tmpfs, tmpfs),
                mounts=[
                    docker.types.Mount(target, str(source.resolve()), type="bind", read_only=read_only)
                    for source, target, read_only in (*self._accounts(image), *mounts)
                ],
                mem_limit=spec.memory,
                log_config=docker.types.LogConfig(type="json-file"),
                **self._options,
            )
            created.start()
        except APIError as error:
            if created is not None:
                _remove(created)
            raise ContainerError(
                f"{spec.name}: cannot start {argv[0]} in the image {image.name} ({image.config_digest}): "
                f"{error.explanation or error}"
            ) from error
        self._own.add(created.id)
        return DockerContainer(self, spec.name, image.config_digest, created, self._state / "log")

    def forget(self, identity: str) -> None:
        """The container with the engine's id *identity* is gone."""
        self._own.discard(identity)

    def _full_name(self, name: str) -> str:
        """A name for the engine, whose names are shared by everybody on this machine."""
        return f"twinmail-{hashlib.sha256(str(self._state).encode()).hexdigest()[:8]}-{name}"

    def _make_way(self, name: str) -> None:
        try:
            found = self._client.containers.get(self._full_name(name))
        except NotFound:
            return
        if found.status == "running":
            raise ContainerError(
                f"{self._state}: a container {name} of this state folder runs already; "
                "stop the other ./inv first"
            )
        _remove(found)

    def _accounts(self, image: Image) -> Iterator[tuple[Path, str, bool]]:
        """Account files that give the image's user our ids, so that the files it writes are the caller's."""
        if (self._uid, self._gid) == (UID, GID):
            return
        folder = self._state / "containers"
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("passwd", "group"):
            original = image.read(f"etc/{name}")
            if original is None:
                continue
            file = folder / f"{name}-{hashlib.sha256(original).hexdigest()[:12]}"
            file.write_text(renumbered(original.decode(), self._uid, self._gid))
            file.chmod(0o644)
            yield file, f"/etc/{name}", True


class DockerContainer(Container):
    """A container of the engine."""

    def __init__(self, runtime: DockerRuntime, name: str, digest: str, container: Any, logs: Path) -> None:
        self.name = name
        self.image_digest = digest
        self._runtime = runtime
        self._container = container
        self._log = logs / f"{name}.log"
        self._ended: Exited | None = None

    def status(self) -> Running | Exited:
        if self._ended is not None:
            return self._ended
        try:
            self._container.reload()
        except NotFound:  # somebody else removed it
            return Exited(128 + signal.SIGKILL)
        state = self._container.attrs["State"]
        return Running() if state["Running"] else Exited(state["ExitCode"])

    def logs(self) -> bytes:
        if self._ended is not None:
            return self._log.read_bytes()
        try:
            text: bytes = self._container.logs()
        except NotFound:
            return b""
        return text

    def exec(self, argv: Sequence[str], timeout: float = 60) -> ExecResult:
        if isinstance(self.status(), Exited):
            raise ContainerError(f"{self.name}: cannot run {argv[0]}: the container has ended")
        results: list[ExecResult | APIError] = []

        def run() -> None:
            try:
                code, output = self._container.exec_run(list(argv))
            except APIError as error:
                results.append(error)
            else:
                results.append(ExecResult(code, output))

        # The engine's call has no time limit of its own.
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(timeout)
        if not results:
            raise WaitTimeout(f"{self.name}: {argv[0]} did not end within {timeout:g} s")
        result = results[0]
        if isinstance(result, APIError):
            raise ContainerError(f"{self.name}: exec: {argv[0]}: {result.explanation or result}") from result
        # Engines differ in how they say that there is no such program: by a status or only by this text.
        if result.code in (126, 127, 128) and result.output.startswith(b"OCI runtime exec failed"):
            text = result.output.decode(errors="replace").strip()
            raise ContainerError(f"{self.name}: exec: cannot start: {argv[0]}: {text}")
        return result

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self._ended is not None:
            return
        try:
            self._container.kill(signal=int(number))
        except APIError as error:
            if error.status_code not in (404, 409):  # gone, or not running
                raise ContainerError(
                    f"{self.name}: cannot send {number.name}: {error.explanation}"
                ) from error

    def wait(self, timeout: float) -> Exited:
        deadline = time.monotonic() + timeout
        while True:
            status = self.status()
            if isinstance(status, Exited):
                return status
            if time.monotonic() > deadline:
                raise WaitTimeout(f"{self.name} still runs after {timeout:g} s")
            time.sleep(0.02)

    def stop(self, timeout: float = 10) -> Exited:
        if self._ended is not None:
            return self._ended
        self.kill(signal.SIGTERM)
        try:
            ended = self.wait(timeout)
        except WaitTimeout:
            self.kill(signal.SIGKILL)
            ended = self.wait(_END_SECONDS)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._log.write_bytes(self.logs())
        _remove(self._container)
        self._runtime.forget(self._container.id)
        self._ended = ended
        return ended


def renumbered(accounts: str, uid: int, gid: int) -> str:
    """The lines of a passwd or group file with 1000 replaced: the third field, and in passwd the fourth."""
    lines = []
    for line in accounts.splitlines():
        fields = line.split(":")
        if len(fields) == 7 and fields[2] == str(UID):
            fields[2:4] = [str(uid), str(gid)]
        elif len(fields) == 4 and fields[2] == str(GID):
            fields[2] = str(gid)
        lines.append(":".join(fields))
    return "".join(f"{line}\n" for line in lines)


def _remove(container: Any) -> None:
    try:
        container.remove(force=True, v=True)
    except NotFound:
        return
    except APIError as error:
        if error.status_code != 409:  # its removal is under way already
            raise ContainerError(f"{container.name}: cannot be removed: {error.explanation}") from error
