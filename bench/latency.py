"""From SMTP's 250 to what a mail client is told that waits (IMAP IDLE, RFC 2177), on both servers.

Messages come one a second, then as many at once as two connections bring. A message's time is taken apart by
what others write down: the key of its manifest entry, and the syncer's line about it.
"""

import json
import smtplib
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.table import Table
from twinmail import imap, layout
from twinmail.errors import TransientError
from twinmail.layout import ManifestKey
from twinmail.local import accounts, pki
from twinmail.local.state import LOOPBACK, State
from twinmail.local.system import LocalSystem
from twinmail.runtime.interface import Runtime

USER = "ann"
MESSAGES = 500
CONFIG = """\
region = "eu-central-1"
stack = "twinmail"
bucket = "latency-mail"
domains = ["example.org"]
operator = "ann@example.org"
[mailboxes.ann]
addresses = ["ann@example.org"]
[servers.primary]
platform = "PLATFORM"
host = "primary.example.org"
[servers.backup]
platform = "PLATFORM"
host = "backup.example.org"
"""
STAGES = ("250 to log", "log to delivered", "delivered to told", "together")
_TOKEN = b"X-Bench"
_SECONDS = 180.0

Say = Callable[[str], None]


class NotTold(TransientError):
    """A client was not told of all messages in time."""


@dataclass(frozen=True)
class Stage:
    """Milliseconds of one stage of all messages of one way of sending, on one server."""

    way: str
    server: str
    stage: str
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Result:
    """What was measured."""

    messages: int
    stages: tuple[Stage, ...]

    def to_json(self) -> dict[str, Any]:
        """One object for scripts."""
        return {"messages": self.messages, "stages": [asdict(one) for one in self.stages]}

    def tables(self) -> tuple[Table, ...]:
        """For people."""
        rows = tuple(
            (f"{one.way}, {one.server}, {one.stage}", *(f"{ms:,.0f}" for ms in (one.p50, one.p95, one.p99)))
            for one in self.stages
        )
        return (Table(f"{self.messages} messages each way, ms", ("stage", "p50", "p95", "p99"), rows),)


@dataclass
class Watcher:
    """A mail client that waits.

    Attributes:
        told: when (time.time) the mailbox was said to have that many messages, by their number.
    """

    account: imap.Account
    told: dict[int, float] = field(default_factory=dict)
    ready: threading.Event = field(default_factory=threading.Event)

    def watch(self, stopping: threading.Event) -> None:
        """Wait for news until *stopping*."""
        with imap.session(self.account, 5) as client:
            client.select("INBOX")
            client.send(b"i IDLE\r\n")
            while not stopping.is_set():
                try:
                    line = client.readline()
                except TimeoutError:
                    continue
                now = time.time()
                if line.startswith(b"+"):
                    self.ready.set()
                elif line.startswith(b"* ") and line.rstrip().endswith(b"EXISTS"):
                    count = int(line.split()[1])
                    # One answer may tell of several.
                    for number in range(max(self.told, default=0) + 1, count + 1):
                        self.told[number] = now

    def tokens(self) -> list[str]:
        """The token of each message, in the order of the mailbox."""
        with imap.session(self.account) as client:
            client.select("INBOX", readonly=True)
            answer = client.fetch("1:*", f"(BODY.PEEK[HEADER.FIELDS ({_TOKEN.decode()})])")[1]
            return [one[1].split(b":")[1].strip().decode() for one in answer if isinstance(one, tuple)]


def measure(
    folder: Path, images: State, runtime: Runtime, platform: str, say: Say, messages: int = MESSAGES
) -> Result:
    """Start both servers in *folder* and send *messages* messages each way.

    Raises:
        NotTold: transient.
    """
    stages: list[Stage] = []
    for way, pause in (("one a second", 1.0), ("at once", 0.0)):
        with _system(folder / way.replace(" ", "-"), images, runtime, platform) as system:
            say(f"{messages} messages, {way}")
            stages += _way(system, way, messages, pause)
    return Result(messages, tuple(stages))


@contextmanager
def _system(folder: Path, images: State, runtime: Runtime, platform: str) -> Iterator[LocalSystem]:
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "twinmail.toml"
    config.write_text(CONFIG.replace("PLATFORM", platform))
    state = State(root=folder / "local", images=images.images, layers=images.layers)
    system = LocalSystem(state, config, runtime, platform, ephemeral_ports=True)
    try:
        system.start()
        yield system
    finally:
        system.stop()


def _way(system: LocalSystem, way: str, messages: int, pause: float) -> Iterator[Stage]:
    password, tls = accounts.passwords(system.state)[USER], pki.client_context(system.ca)
    watchers = {
        name: Watcher(imap.Account(LOOPBACK, system.ports[f"{name}-imaps"], USER, password, tls))
        for name in system.config.servers
    }
    stopping = threading.Event()
    threads = [threading.Thread(target=one.watch, args=(stopping,), daemon=True) for one in watchers.values()]
    for thread in threads:
        thread.start()
    try:
        for name, one in watchers.items():
            if not one.ready.wait(30):
                raise NotTold(f"{name}: the client does not idle after 30 s")
        accepted = _send(system.ports["edge"], messages, pause)
        _wait(watchers, messages)
    finally:
        stopping.set()
        for thread in threads:
            thread.join(10)
    ids = {ses_id: token for token, (_, ses_id) in accepted.items()}
    logged = {ids[ses_id]: at for ses_id, at in _logged(system) if ses_id in ids}
    for name, one in watchers.items():
        delivered = _delivered(system, name, ids)
        spans = [
            _spans(accepted[token][0], logged[token], delivered[token], one.told[number])
            for number, token in enumerate(one.tokens(), 1)
        ]
        for stage, values in zip(STAGES, zip(*spans, strict=True), strict=True):
            yield Stage(way, name, stage, *_percentiles(values))


def _spans(accepted: float, logged: float, delivered: float, told: float) -> tuple[float, ...]:
    return (logged - accepted, delivered - logged, told - delivered, told - accepted)


def _percentiles(seconds: Sequence[float]) -> tuple[float, float, float]:
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return (cuts[49] * 1000, cuts[94] * 1000, cuts[98] * 1000)


def _send(port: int, messages: int, pause: float) -> dict[str, tuple[float, str]]:
    """Send; when each was accepted, and its SES message id, by token."""
    began = time.monotonic()

    def some(numbers: Sequence[int]) -> dict[str, tuple[float, str]]:
        done = {}
        with smtplib.SMTP(LOOPBACK, port, timeout=60) as client:
            for number in numbers:
                if pause:
                    time.sleep(max(0.0, began + number * pause - time.monotonic()))
                token = f"t{number:06}"
                client.ehlo_or_helo_if_needed()
                client.mail("sender@example.com")
                client.rcpt(f"{USER}@example.org")
                _, answer = client.data(f"{_TOKEN.decode()}: {token}\r\nSubject: {number}\r\n\r\nHello\r\n")
                done[token] = (time.time(), answer.decode().split()[1])
        return done

    parts = [range(messages)] if pause else [range(0, messages, 2), range(1, messages, 2)]
    with ThreadPoolExecutor(len(parts)) as pool:
        return {token: one for done in pool.map(some, parts) for token, one in done.items()}


def _wait(watchers: Mapping[str, Watcher], messages: int) -> None:
    deadline = time.monotonic() + _SECONDS
    while any(len(one.told) < messages for one in watchers.values()):
        if time.monotonic() > deadline:
            counts = ", ".join(f"{name} {len(one.told)}" for name, one in watchers.items())
            raise NotTold(f"of {messages} messages clients were told of: {counts}")
        time.sleep(0.05)


def _logged(system: LocalSystem) -> Iterator[tuple[str, float]]:
    pages = system.session().client("s3").get_paginator("list_objects_v2")
    for page in pages.paginate(Bucket=system.config.bucket, Prefix=layout.MANIFEST):
        for one in page.get("Contents", ()):
            key = ManifestKey.parse(one["Key"])
            yield key.ses_id, key.committed.timestamp()


def _delivered(system: LocalSystem, server: str, ids: Mapping[str, str]) -> dict[str, float]:
    """When the syncer of *server* said that it delivered each message of *ids*, by token."""
    deadline = time.monotonic() + _SECONDS
    while True:
        found = {}
        for line in system.containers[f"{server}-syncer"].logs().splitlines():
            if b'"event": "delivered"' in line:
                told = json.loads(line)
                found[ids.get(told["ses_id"], "")] = datetime.fromisoformat(told["time"]).timestamp()
        # The line is written after the message is there: a client may have been told before.
        if set(ids.values()) <= found.keys():
            return found
        if time.monotonic() > deadline:
            raise NotTold(f"{server}: {len(found)} of {len(ids)} messages are in its log")
        time.sleep(0.05)
