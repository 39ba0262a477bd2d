"""How long a search over bodies takes with the index and without it, and what the index costs.

Both are measured in one run, with the same Dovecot from the image and the same mailbox, so that the ratio
between them says something on any machine. Messages are put into ``new/`` as the syncer does.
"""

import imaplib
import os
import shutil
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import corpus
from bench.table import Table
from tests.image.dovecot import Dovecot
from twinmail.basename import base_name, virtual_size
from twinmail.errors import TransientError
from twinmail.imap import session
from twinmail.runtime.emulation import host_platform
from twinmail.runtime.interface import Runtime
from twinmail.sync.indexing import HANDSHAKE, PLACE, request

USER = "ann"
# What is searched for: a name of it, IMAP's criteria, and the text as a literal.
SEARCHES = (
    ("a word of every message", "BODY", corpus.EVERYWHERE),
    ("a part of a word, in 1 of 1,000", "BODY", "nadelöhr"),
    ("a word of one message", "BODY", corpus.ONE),
    ("a word of none", "BODY", corpus.NOWHERE),
    ("two words", f"BODY {corpus.EVERYWHERE} BODY", corpus.SOME),
    ("an address, anywhere", "TEXT", "person99@example.com"),
    ("two letters", "BODY", "en"),
)
_REPEATS = 5
_MB = 1_000_000
_ANSWER_SECONDS = 3600.0

Say = Callable[[str], None]


class IndexingFailed(TransientError):
    """The indexer gave up; its log says why."""


@dataclass(frozen=True)
class Search:
    """One search: how many messages it found, and seconds, the median of several with the index."""

    name: str
    found: int
    with_index: float
    longest: float
    without_index: float

    @property
    def ratio(self) -> float:
        """How many times as long it takes without the index."""
        return self.without_index / max(self.with_index, 0.0001)


@dataclass(frozen=True)
class Result:
    """What was measured.

    Attributes:
        octets: of all messages.
        index_seconds: to index them all, nothing else going on.
        index_octets: of the index then, and after merging its parts.
        indexer_octets: resident memory of the indexer at its highest.
        imap_octets: resident memory of an IMAP session that searched, with and without the index.
        new_seconds: the search that finds a message which came just before it and is not indexed yet.
    """

    messages: int
    octets: int
    index_seconds: float
    index_octets: int
    merged_octets: int
    indexer_octets: int
    imap_octets: int
    imap_without_octets: int
    new_seconds: float
    searches: tuple[Search, ...]

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        document = asdict(self)
        for row, search in zip(document["searches"], self.searches, strict=True):
            row["ratio"] = round(search.ratio, 1)
        return document

    def tables(self) -> tuple[Table, ...]:
        """For people."""
        rate = self.messages / self.index_seconds
        rows = tuple(
            (
                one.name,
                f"{one.found:,}",
                f"{one.with_index:.3f}",
                f"{one.longest:.3f}",
                f"{one.without_index:.1f}",
                f"{one.ratio:,.0f}",
            )
            for one in self.searches
        )
        others = (
            ("index made", f"{self.index_seconds:,.0f} s, {rate:.0f} messages a second"),
            (
                "index on disk",
                f"{self.index_octets / _MB:,.0f} MB, {self.merged_octets / _MB:,.0f} MB merged",
            ),
            ("memory of the indexer", f"{self.indexer_octets / _MB:.0f} MB"),
            (
                "memory of a session",
                f"{self.imap_octets / _MB:.0f} MB, {self.imap_without_octets / _MB:.0f} MB without the index",
            ),
            ("a message just came", f"found in {self.new_seconds:.3f} s, not indexed before"),
        )
        title = f"search over {self.messages:,} messages, {self.octets / _MB:,.0f} MB"
        heads = ("searched for", "found", "with index, s", "at most", "without", "ratio")
        return (Table(title, heads, rows), Table("the index", ("what", "figure"), others))


def measure(runtime: Runtime, layout: Path, folder: Path, messages: int, say: Say) -> Result:
    """Measure with *messages* messages in *folder*, which is emptied.

    Raises:
        TwinmailError: a container cannot be started, or indexing fails.
    """
    shutil.rmtree(folder, ignore_errors=True)
    say(f"writing {messages} messages")
    octets = _fill(folder / "mail" / USER / "Maildir", messages)
    runtime.prepare_volume(folder / "mail")

    with _serving(runtime, layout, folder, False) as server, _Memory(folder) as memory:
        say("searching without an index")
        _searched(server, *SEARCHES[-1][1:])  # the first look at the folder is no search
        slow = [_searched(server, criteria, text) for _, criteria, text in SEARCHES]
        without_octets = memory.peak["imap"]
    with _serving(runtime, layout, folder, True) as server, _Memory(folder) as memory:
        say("indexing")
        index = server.maildir(USER) / "fts-flatcurve"
        began = time.monotonic()
        _index(server)
        index_seconds = time.monotonic() - began
        index_octets = _octets(index)
        say("searching with the index")
        fast = [
            [_searched(server, criteria, text) for _ in range(_REPEATS)] for _, criteria, text in SEARCHES
        ]
        imap_octets = memory.peak["imap"]
        data = b"Subject: new\r\n\r\nnowjustarrived\r\n"
        server.store(USER, base_name(corpus.START, "new", len(data), len(data)), data)
        found, new_seconds = _searched(server, "BODY", "nowjustarrived")
        if found != 1:
            raise IndexingFailed(f"a new message: expected to find 1, found {found}")
        say("merging the index")
        server.container.exec(["/usr/bin/doveadm", "fts", "optimize", "-u", USER], timeout=_ANSWER_SECONDS)
        merged_octets = _octets(index)
        indexer_octets = memory.peak["indexer-worker"]
    searches = []
    for (name, _, _), (found, seconds), rows in zip(SEARCHES, slow, fast, strict=True):
        if {count for count, _ in rows} != {found}:
            raise IndexingFailed(f"{name}: {found} messages without the index, {rows[0][0]} with it")
        times = [one for _, one in rows]
        searches.append(Search(name, found, statistics.median(times), max(times), seconds))
    return Result(
        messages=messages,
        octets=octets,
        index_seconds=index_seconds,
        index_octets=index_octets,
        merged_octets=merged_octets,
        indexer_octets=indexer_octets,
        imap_octets=imap_octets,
        imap_without_octets=without_octets,
        new_seconds=new_seconds,
        searches=tuple(searches),
    )


def _fill(maildir: Path, messages: int) -> int:
    for part in ("cur", "new", "tmp"):
        (maildir / part).mkdir(parents=True)
    octets = 0
    for number, one in enumerate(corpus.samples(messages)):
        name = base_name(one.arrived, f"m{number}", len(one.data), virtual_size([one.data]))
        path = maildir / "new" / name
        path.write_bytes(one.data)
        os.utime(path, (one.arrived.timestamp(), one.arrived.timestamp()))
        octets += len(one.data)
    return octets


@contextmanager
def _serving(runtime: Runtime, layout: Path, folder: Path, full_text_search: bool) -> Iterator[Dovecot]:
    server = Dovecot(runtime, layout, host_platform(), folder, (USER,), full_text_search=full_text_search)
    try:
        yield server.start(f"bench-{'on' if full_text_search else 'off'}")
    finally:
        server.stop()


def _index(server: Dovecot) -> None:
    """Have the INBOX indexed, in the way the syncer does, and wait for the end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_ANSWER_SECONDS)
        connection.connect(str(server.folder / "mail" / PLACE))
        connection.sendall(HANDSHAKE + request(USER, "INBOX", 1))
        for line in connection.makefile("r", encoding="ascii"):
            state = line.split("\t")[1:2]
            if state == ["1"]:
                return
            if state == ["-1"]:
                break
    raise IndexingFailed(f"indexing failed; the end of the log:\n{server.container.logs().decode()[-2000:]}")


def _searched(server: Dovecot, criteria: str, text: str) -> tuple[int, float]:
    """Messages found, and seconds from the command to its answer, in a new session."""
    with session(server.account(USER), _ANSWER_SECONDS) as client:
        client.select("INBOX", readonly=True)
        client.literal = text.encode()  # type: ignore[assignment]
        began = time.monotonic()
        status, lines = client.uid("SEARCH", "CHARSET", "UTF-8", *criteria.split())
        seconds = time.monotonic() - began
        if status != "OK":
            raise imaplib.IMAP4.error(f"SEARCH {criteria} {text}: {lines}")
        return len(lines[0].split()), seconds


def _octets(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@dataclass
class _Memory:
    """Looks at the processes of the container with the mail of *folder*, several times a second.

    Attributes:
        peak: octets of resident memory at their highest, by name of the process.
    """

    folder: Path
    peak: dict[str, int] = field(default_factory=lambda: {"imap": 0, "indexer-worker": 0})
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "_Memory":
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(0.2):
            for process in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    name = (process / "comm").read_text().strip()
                    if name in self.peak and self._is_ours(process):
                        self.peak[name] = max(self.peak[name], _resident(process))

    def _is_ours(self, process: Path) -> bool:
        return f"{self.folder}/mail" in (process / "mountinfo").read_text()


def _resident(process: Path) -> int:
    """``VmHWM``, the highest so far (proc(5))."""
    for line in (process / "status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
