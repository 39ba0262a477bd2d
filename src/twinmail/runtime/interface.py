"""What every container runtime offers, whatever is behind it.

Every container runs as the image's user with a read-only root file system, without capabilities, and in
the host's network, so that the same loopback addresses work with every runtime.
"""

import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from twinmail.errors import PermanentError, TransientError

UID = 1000  # every image runs as this user and group, named twinmail
GID = 1000


class RuntimeUnavailable(PermanentError):
    """This machine cannot run containers this way; the text names the ways out."""


class ImageError(PermanentError):
    """The image layout is damaged, lacks the platform, or is not what the engine holds."""


class ContainerError(PermanentError):
    """A container could not be started, or a command could not be started inside it."""


class WaitTimeout(TransientError):
    """The container was still running when the deadline passed."""


@dataclass(frozen=True)
class Mount:
    """A file or folder of the host, seen at the absolute path *target* in the container."""

    source: Path
    target: str
    read_only: bool = False


@dataclass(frozen=True)
class ContainerSpec:
    """What to run, and with what.

    Attributes:
        name: unique among the containers of one state folder; lower-case letters, digits and ``-``.
        layout: folder of the OCI image layout.
        platform: ``linux/amd64`` or ``linux/arm64``.
        command: appended to the entrypoint; None takes the image's ``Cmd``.
        entrypoint: replaces the image's ``Entrypoint`` (and then its ``Cmd`` does not apply either).
        environment: added to the image's ``Env``, and stronger.
        mounts: in order, so that one may lie inside an earlier one.
        tmpfs: absolute paths of empty in-memory folders that the container's user can write to.
        memory: limit in octets where the runtime can set one; None for no limit. Namespaces set none.
        reference: the layout's ``org.opencontainers.image.ref.name`` to run; None for the first image.
    """

    name: str
    layout: Path
    platform: str
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    tmpfs: tuple[str, ...] = ("/run", "/tmp")
    memory: int | None = None
    reference: str | None = None


@dataclass(frozen=True)
class Running:
    """The container's first process is alive."""


@dataclass(frozen=True)
class Exited:
    """The container ended with *code*: its exit status, or 128 + the number of the signal that killed it."""

    code: int


@dataclass(frozen=True)
class ExecResult:
    """How a command inside a container ended, with its standard output and error, each in its own order."""

    code: int
    output: bytes


class Container(ABC):
    """One started container. It is removed by `stop`; its log stays readable."""

    name: str
    image_digest: str
    """Digest of the image's config (``sha256:…``), as built and as run."""

    @abstractmethod
    def status(self) -> Running | Exited:
        """Whether it runs, or how it ended."""

    @abstractmethod
    def logs(self) -> bytes:
        """Everything it wrote to standard output and error so far, each in its own order."""

    @abstractmethod
    def exec(self, argv: Sequence[str], timeout: float = 60) -> ExecResult:
        """Run *argv* inside, as the same user and with the same environment, for at most *timeout* seconds.

        Raises:
            ContainerError: the container does not run.
            WaitTimeout: the command did not end in time.
        """

    @abstractmethod
    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the container's first process; nothing happens if it has ended.

        SIGKILL ends every process of the container.
        """

    @abstractmethod
    def wait(self, timeout: float) -> Exited:
        """Wait at most *timeout* seconds for its end.

        Raises:
            WaitTimeout: it still runs.
        """

    @abstractmethod
    def stop(self, timeout: float = 10) -> Exited:
        """SIGTERM, after *timeout* seconds SIGKILL; then remove it. Repeating it changes nothing."""


class Runtime(ABC):
    """Starts containers that belong to one state folder."""

    name: str
    """``docker`` or ``namespace``."""

    @abstractmethod
    def ensure_emulation(self, platform: str) -> None:
        """Make sure programs of *platform* can run on this machine.

        Raises:
            RuntimeUnavailable: they cannot; the text names the package to install.
        """

    @abstractmethod
    def prepare_volume(self, path: Path) -> None:
        """Create the folder *path* if missing, and make it readable and writable for container users.

        To be called for each writable mount before `start`; files in it keep their contents.
        """

    @abstractmethod
    def remove_leftovers(self) -> Sequence[str]:
        """End and remove containers that a killed run of this state folder left; return their names."""

    @abstractmethod
    def start(self, spec: ContainerSpec) -> Container:
        """Start a container and return without waiting for it to be ready.

        Raises:
            ImageError: the layout cannot be used.
            ContainerError: it could not be started.
            RuntimeUnavailable: this machine cannot run it.
        """
