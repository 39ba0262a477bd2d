"""What a server takes when nothing happens: memory of each of its containers, with one user logged in.

Proportional set size (``smaps_rollup``, proc_pid_smaps(5)): a page that several processes share is counted
once in all, so that the sum is what the machine lacks. Resident set sizes are told too, as others tell those.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.table import Table
from tests.image.webmail_client import WebmailClient
from twinmail import imap
from twinmail.local import accounts, pki
from twinmail.local.state import LOOPBACK, State
from twinmail.local.system import LocalSystem
from twinmail.runtime.namespace import NamespaceRuntime

SERVER, USER = "backup", "ann"
CONFIG = """\
region = "eu-central-1"
stack = "twinmail"
bucket = "idle-mail"
domains = ["example.org"]
operator = "ann@example.org"
[mailboxes.ann]
addresses = ["ann@example.org"]
[servers.backup]
platform = "PLATFORM"
host = "backup.example.org"
webmail = true
submission = true
"""
SETTLE_SECONDS = 60.0
_MB = 1_000_000

Say = Callable[[str], None]


@dataclass(frozen=True)
class Memory:
    """Octets of some processes.

    Attributes:
        own: proportional set size.
        resident: resident set size, of all together; shared pages count for each.
    """

    own: int
    resident: int
    processes: int


@dataclass(frozen=True)
class Result:
    """By container of the server."""

    containers: Mapping[str, Memory]

    def to_json(self) -> dict[str, Any]:
        """One object for scripts; MB are millions of octets."""
        mb = {name: round(one.own / _MB, 1) for name, one in self.containers.items()}
        stack = round(sum(one.own for one in self.containers.values()) / _MB, 1)
        return {
            "rss_mb": {"syncer": round(self._syncer.resident / _MB, 1), "backup_stack": stack},
            "pss_mb": mb,
            "resident_mb": {name: round(one.resident / _MB, 1) for name, one in self.containers.items()},
        }

    @property
    def _syncer(self) -> Memory:
        return self.containers["syncer"]

    def tables(self) -> tuple[Table, ...]:
        """For people."""
        everything = [*self.containers.items(), ("together", _sum(self.containers.values()))]
        rows = tuple(
            (name, str(one.processes), f"{one.own / _MB:.1f}", f"{one.resident / _MB:.1f}")
            for name, one in everything
        )
        return (
            Table("a server with one user logged in", ("container", "processes", "MB", "resident"), rows),
        )


def measure(folder: Path, images: State, platform: str, say: Say, seconds: float = SETTLE_SECONDS) -> Result:
    """Start a server in *folder*, log somebody in by IMAP and webmail, wait *seconds*, and look."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "twinmail.toml"
    config.write_text(CONFIG.replace("PLATFORM", platform))
    state = State(root=folder / "local", images=images.images, layers=images.layers)
    runtime = NamespaceRuntime(state.root, state.layers)
    system = LocalSystem(state, config, runtime, platform, ephemeral_ports=True)
    try:
        say("starting the server")
        system.start()
        password = accounts.passwords(state)[USER]
        account = imap.Account(
            LOOPBACK, system.ports[f"{SERVER}-imaps"], USER, password, pki.client_context(system.ca)
        )
        with imap.session(account) as client:
            client.select("INBOX")
            WebmailClient(system.ports[f"{SERVER}-webmail"], system.ca, LOOPBACK).log_in(USER, password)
            say(f"idle for {seconds:.0f} s")
            # Not a wait for something: the time itself is what is measured.
            time.sleep(seconds)
            return Result(
                {
                    name.removeprefix(f"{SERVER}-"): memory(container._keeper.container_pid)  # type: ignore[attr-defined]
                    for name, container in system.containers.items()
                    if name.startswith(f"{SERVER}-")
                }
            )
    finally:
        system.stop()
        runtime.remove_leftovers()


def memory(first: int) -> Memory:
    """Of all processes in the container whose first process is *first*."""
    return _sum(_of_process(one) for one in _together(first))


def _sum(found: Any) -> Memory:
    parts = list(found)
    return Memory(
        sum(one.own for one in parts), sum(one.resident for one in parts), sum(one.processes for one in parts)
    )


def _together(first: int) -> Iterator[int]:
    """Processes that see the same files as *first*: those of its container."""
    room = _room(first)
    for path in Path("/proc").iterdir():
        if path.name.isdecimal() and room is not None and _room(int(path.name)) == room:
            yield int(path.name)


def _room(pid: int) -> str | None:
    try:
        return str(Path(f"/proc/{pid}/ns/mnt").readlink())
    except OSError:
        return None


def _of_process(pid: int) -> Memory:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return Memory(0, 0, 0)
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines[1:]}
    return Memory(sizes.get("Pss", 0), sizes.get("Rss", 0), 1)
