"""Faults of the servers: processes killed, ledgers lost, queues emptied, volumes full, clocks stepped."""

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from twinmail.errors import TransientError
from twinmail.local.state import LOOPBACK
from twinmail.local.system import LocalSystem
from twinmail.runtime.interface import Exited, WaitTimeout

_DEATH_SECONDS = 20.0
_HOUR = 3600
_SLOW_SECONDS = 0.3
_PAGE_SECONDS = 5.0
_REMOUNT_SECONDS = 5.0
_FILL_SECONDS = 10.0
_REFUSED_SECONDS = 15.0


class NotBroken(TransientError):
    """A fault could not be brought about, or healed yet."""


@dataclass
class Done:
    """A fault that is one act to begin and one to heal.

    Attributes:
        start: brings it about, and says how often it took effect by that.
        heal: ends it, and says how often it took effect meanwhile.
    """

    name: str
    start: Callable[[], int]
    heal: Callable[[], int] = lambda: 0
    happened: int = 0
    _there: bool = False

    def begin(self) -> None:
        """Bring it about; see `twinmail.chaos.fault.Fault`."""
        self._there = True
        self.happened += self.start()

    def end(self) -> None:
        """Heal it; see `twinmail.chaos.fault.Fault`."""
        if self._there:
            self.happened += self.heal()
            self._there = False


@dataclass
class Servers:
    """What the faults do to the servers of *system*.

    Attributes:
        volumes: small file systems that hold the Maildirs of a server, by its name.
    """

    system: LocalSystem
    volumes: dict[str, Path] = field(default_factory=dict)

    def faults(self) -> Iterator[Done]:
        """Every fault of the servers, of the edge, and of LocalStack as a whole."""
        yield Done("edge-killed", lambda: self._kill("edge"), lambda: self._again("edge"))
        yield Done("localstack-restarted", self._restart_localstack)
        for server in self.system.config.servers:
            yield from self._of(server)
        for server in self.volumes:
            yield Done(f"volume-full-{server}", partial(self._fill, server), partial(self._empty, server))
            yield Done(
                f"volume-read-only-{server}",
                partial(self._remount, server, "ro"),
                partial(self._writable, server),
            )

    def _of(self, server: str) -> Iterator[Done]:
        for what in ("syncer", "dovecot"):
            name = f"{server}-{what}"
            yield Done(f"{what}-killed-{server}", partial(self._kill, name), partial(self._again, name))
        again = partial(self._syncer, server)
        yield Done(f"queue-purged-{server}", partial(self._purge, server))
        yield Done(f"ledger-deleted-{server}", partial(again, self._delete_ledger))
        yield Done(f"ledger-corrupted-{server}", partial(again, self._corrupt_ledger))
        for word, seconds in (("ahead", _HOUR), ("behind", -_HOUR)):
            stepped = partial(again, _nothing, "--clock-offset", str(seconds))
            yield Done(f"clock-{word}-{server}", stepped, partial(self._again, f"{server}-syncer"))
        slow = partial(again, _nothing, "--slow", str(_SLOW_SECONDS))
        yield Done(f"volume-slow-{server}", slow, partial(self._again, f"{server}-syncer"))

    def _syncer(self, server: str, before: Callable[[str], None], *options: str) -> int:
        """Kill the syncer of *server*, do what is *before* its next start, and start it with *options*."""
        happened = self._kill(f"{server}-syncer")
        self.system.stop_container(f"{server}-syncer")
        before(server)
        self.system.start_syncer(server, *options)
        return happened

    # Processes

    def _kill(self, name: str) -> int:
        """SIGKILL the container *name*, and count whether that ended it."""
        container = self.system.containers.get(name)
        if container is None or isinstance(container.status(), Exited):
            return 0
        container.kill()
        try:
            ended = container.wait(_DEATH_SECONDS)
        except WaitTimeout as error:
            raise NotBroken(f"{name}: still there {_DEATH_SECONDS:.0f} s after SIGKILL") from error
        return int(ended.code == 128 + signal.SIGKILL)

    def _again(self, name: str) -> int:
        """Start the container *name* again; it is waited for at the end of all."""
        server, _, service = name.rpartition("-")
        self._kill(name)
        self.system.stop_container(name)
        if service == "dovecot":
            self.system.start_dovecot(server)
        elif service == "syncer":
            self.system.start_syncer(server)
        else:
            self.system.restart(name)
        return 0

    def _restart_localstack(self) -> int:
        # Told to end it saves what it holds, as S3 and DynamoDB always have; killed it would forget mail.
        self.system.restart("localstack")
        return 1

    # What a server has

    def _purge(self, server: str) -> int:
        sqs = self.system.session().client("sqs")
        url = sqs.get_queue_url(QueueName=self.system.config.queue(server))["QueueUrl"]
        sqs.purge_queue(QueueUrl=url)
        return 1

    def _delete_ledger(self, server: str) -> None:
        for path in self._ledger(server):
            path.unlink()

    def _corrupt_ledger(self, server: str) -> None:
        for path in self._ledger(server):
            with path.open("r+b") as file:
                size = file.seek(0, os.SEEK_END)
                # The first page too: SQLite notices at once, and not when it happens to read the other.
                for start in range(0, size, 4096):
                    file.seek(start)
                    file.write(os.urandom(min(512, size - start)))

    def _ledger(self, server: str) -> Sequence[Path]:
        return sorted(self.system.state.ledger(server).glob("*.sqlite*"))

    # The volume

    def _fill(self, server: str) -> int:
        volume, size = self.volumes[server], 0
        deadline = time.monotonic() + _FILL_SECONDS
        try:
            with _filler(volume).open("wb") as file:
                # Mail that comes between question and answer takes room, and then nothing is given at all.
                while octets := _free(volume):
                    if time.monotonic() > deadline:
                        raise NotBroken(
                            f"{volume}: not full after {_FILL_SECONDS:.0f} s: {octets} octets free"
                        )
                    with suppress(OSError):
                        os.posix_fallocate(file.fileno(), size, octets)
                        size += octets
        except OSError as error:
            raise NotBroken(f"{volume}: {error.strerror}") from error
        return 0

    def _empty(self, server: str) -> int:
        refused = self._refused(server)
        try:
            _filler(self.volumes[server]).unlink(missing_ok=True)
        except OSError as error:
            raise NotBroken(f"{self.volumes[server]}: {error.strerror}") from error
        return refused

    def _remount(self, server: str, mode: str) -> int:
        command = ["mount", "-o", f"remount,{mode}", str(self.volumes[server])]
        deadline = time.monotonic() + _REMOUNT_SECONDS
        while (done := subprocess.run(command, capture_output=True, text=True, check=False)).returncode:
            # Somebody writes just now: a kernel makes no file system read-only under him.
            if time.monotonic() > deadline:
                raise NotBroken(f"{' '.join(command)}: {done.stderr.strip()}")
            time.sleep(0.01)
        return 0

    def _writable(self, server: str) -> int:
        refused = self._refused(server)
        self._remount(server, "rw")
        return refused

    def _refused(self, server: str) -> int:
        """Whether the disk of *server* refused mail; waited for, as mail comes a while after it was sent."""
        deadline = time.monotonic() + _REFUSED_SECONDS
        while not (refused := self._disk_in_trouble(server)) and time.monotonic() < deadline:
            time.sleep(0.2)
        return refused

    def _disk_in_trouble(self, server: str) -> int:
        """Whether the syncer of *server* says that its disk refuses to take mail."""
        url = f"http://{LOOPBACK}:{self.system.ports[f'{server}-health']}/status"
        try:
            with urllib.request.urlopen(url, timeout=_PAGE_SECONDS) as answer:
                return int(json.loads(answer.read())["outages"]["disk"] is not None)
        except (OSError, urllib.error.URLError, ValueError):
            return 0


def _nothing(server: str) -> None:
    """The ledger stays as it is."""


def _free(volume: Path) -> int:
    """Octets that a user may still write to *volume*."""
    found = os.statvfs(volume)
    return found.f_bavail * found.f_frsize


def _filler(volume: Path) -> Path:
    return volume / ".filler"
