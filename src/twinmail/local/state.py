"""The state folder: everything that a local run leaves on the disk, and nothing outside of it."""

import fcntl
import json
import socket
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from twinmail.config import Config
from twinmail.errors import PermanentError

LOOPBACK = "127.0.0.1"

# Well-known where the kernel has them free, so that a mail client can be set up once.
PREFERRED = {
    "localstack": 4566,
    "edge": 2525,
    "submission": 2587,
    "submissions": 2465,
    "primary-imaps": 10993,
    "primary-health": 10080,
    "primary-sieve": 14190,
    "primary-submission": 10465,
    "primary-relay": 10025,
    "primary-webmail": 10443,
    "backup-imaps": 11993,
    "backup-health": 11080,
    "backup-sieve": 15190,
    "backup-submission": 11465,
    "backup-relay": 11025,
    "backup-webmail": 8443,
}


# What listens on a mail server, each on a port of its own.
USES = ("imaps", "health", "sieve", "submission", "relay", "webmail")


@dataclass(frozen=True)
class State:
    """Folders of one local system.

    Attributes:
        root: the folder that `--fresh` empties.
        images: OCI layouts by image name.
        layers: unpacked image layers.
    """

    root: Path
    images: Path
    layers: Path

    @classmethod
    def of_checkout(cls, checkout: Path, root: Path | None = None) -> "State":
        """The state of ``./inv up`` in *checkout*, or of another system in *root* with the same images."""
        folder = checkout / ".twinmail"
        return cls(root=root or folder / "local", images=folder / "images", layers=folder / "layers")

    def server(self, name: str) -> Path:
        """Everything that belongs to the mail server *name*."""
        return self.root / name

    def maildirs(self, server: str) -> Path:
        """The volume with the Maildirs of *server*."""
        return self.server(server) / "mail"

    def ledger(self, server: str) -> Path:
        """The volume with the ledger of *server*."""
        return self.server(server) / "state"

    def settings(self, server: str) -> Path:
        """The folder that *server* sees as /etc/twinmail."""
        return self.server(server) / "etc"

    @property
    def localstack(self) -> Path:
        """The volume of LocalStack."""
        return self.root / "localstack"

    @property
    def tls(self) -> Path:
        """The local certification authority and its certificates."""
        return self.root / "tls"

    @property
    def description(self) -> Path:
        """What runs now and where: a JSON object for tools and scripts."""
        return self.root / "system.json"


@dataclass(frozen=True)
class Ports:
    """TCP ports on loopback, by service (see `PREFERRED`)."""

    by_service: dict[str, int]

    def __getitem__(self, service: str) -> int:
        return self.by_service[service]


def choose_ports(config: Config, remembered: dict[str, int], ephemeral: bool = False) -> Ports:
    """Find a free port for every service: the one of the last run, else the preferred one, else any.

    With *ephemeral* only the kernel chooses, so that test systems never meet.
    """
    services = ["localstack", "edge", "submission", "submissions"]
    services += [f"{server}-{use}" for server in config.servers for use in USES]
    chosen: dict[str, int] = {}
    for service in services:
        wishes = [] if ephemeral else [remembered.get(service, 0), PREFERRED.get(service, 0)]
        chosen[service] = next(
            (port for port in wishes if port and port not in chosen.values() and _is_free(port)), 0
        ) or _any_port(set(chosen.values()))
    return Ports(chosen)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _any_port(taken: set[int]) -> int:
    while True:
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            port: int = probe.getsockname()[1]
        if port not in taken:
            return port


@dataclass(frozen=True)
class Description:
    """What ``system.json`` says while the system runs.

    Attributes:
        pid: the process that supervises it.
        endpoint: URL of LocalStack.
        edge: address of the SES edge.
        submission: address of the SES SMTP endpoint.
        servers: IMAPS address of each server.
        ca: file with the certificate of the local authority.
        config: the configuration file it was started with.
    """

    pid: int
    runtime: str
    endpoint: str
    region: str
    edge: dict[str, str | int]
    submission: dict[str, str | int]
    servers: dict[str, dict[str, str | int]]
    ca: str
    ports: dict[str, int] = field(default_factory=dict)
    config: str = ""

    def save(self, state: State) -> None:
        """Write it atomically."""
        temporary = state.description.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(self), indent=2) + "\n")
        temporary.replace(state.description)

    @classmethod
    def load(cls, state: State) -> "Description | None":
        """Read it; None if there was no run yet, or the file is damaged (it is only a convenience)."""
        try:
            return cls(**json.loads(state.description.read_text()))
        except (OSError, ValueError, TypeError):
            return None


def running(state: State) -> Description:
    """Return the description of the system that runs in *state*.

    Raises:
        PermanentError: none runs.
    """
    description = Description.load(state)
    lock = Claim(state)
    if description is None or lock.take():
        lock.release()
        raise PermanentError("no system runs here; start one with: ./inv up")
    return description


class Claim:
    """The right to run a system in a state folder: one process at a time, gone with the process."""

    def __init__(self, state: State) -> None:
        # Beside the folder, not in it: starting fresh removes the folder.
        self._path = state.root.with_name(f"{state.root.name}.lock")
        self._file: IO[str] | None = None

    def take(self) -> bool:
        """Take it if it is free."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return False
        self._file = file
        return True

    def release(self) -> None:
        """Give it back; does nothing if it is not ours."""
        if self._file is not None:
            self._file.close()
            self._file = None
