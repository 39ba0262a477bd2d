"""Which packs there are, and what is in those that are being read; an index is held while it is needed."""

import heapq
import re
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Protocol

from twinmail.layout import PACKS, LayoutError, PackKey, manifest_day
from twinmail.packs.pack_index import PackIndex, PackIndexError, Range
from twinmail.packs.plan import ENTRIES
from twinmail.sync.log import Log
from twinmail.sync.source import ObjectMissing

HELD = 2 * ENTRIES
"""Entries whose indexes are held: some tens of MB when messages are tiny, and a few MB of usual mail."""

YOUNGEST = timedelta(days=2)
"""What is younger is in no pack: only days that are over are packed, by a clock that may differ from ours."""

_DAY = re.compile(r"(?:manifest|processed|quarantine)/(\d{4})/(\d{2})/(\d{2})/")


class Packs(Protocol):
    """The packs in the bucket."""

    def keys_after(self, offset: str) -> Iterator[list[str]]:
        """Pages of the keys under ``packs/``, as `twinmail.sync.source.Source` does of the manifest."""

    def read(self, key: str) -> Iterator[bytes]:
        """The octets of an object, as `twinmail.sync.source.Source` does."""

    def read_range(self, key: str, start: int, end: int) -> memoryview:
        """The octets from *start* to before *end*; fewer if the object is shorter.

        Raises:
            SourceUnavailable.
            ObjectMissing: there is no such object.
        """


@dataclass(frozen=True)
class Opened:
    """An index that was read.

    Attributes:
        keys: of its manifest entries, in order.
        ranges: of its entries and messages, by key.
    """

    key: PackKey
    size: int
    keys: tuple[str, ...]
    ranges: Mapping[str, Range]


@dataclass(frozen=True)
class Member:
    """An object in a pack.

    Attributes:
        pack: key of the pack.
        size: octets of the pack.
    """

    pack: str
    size: int
    range: Range


def day_of(key: str) -> date | None:
    """The day in the key of an entry or a message, or in the beginning of one; None if there is none."""
    match = _DAY.match(key)
    try:
        return date(*map(int, match.groups())) if match else None
    except ValueError:
        return None


class Catalog:
    """The indexes of *packs*; what is wrong with one is said once."""

    def __init__(self, packs: Packs, log: Log, held: int = HELD) -> None:
        self._packs = packs
        self._log = log
        self._most = held
        self._lock = threading.Lock()
        self._held: OrderedDict[str, Opened] = OrderedDict()
        self._readers = 0
        self._said: set[str] = set()

    @property
    def busy(self) -> bool:
        """Whether somebody reads the log of old days, who will want what lies next to it too."""
        return self._readers > 0

    @contextmanager
    def reading(self) -> Iterator[None]:
        """While the block runs, old days are read; after the last one nothing is held."""
        with self._lock:
            self._readers += 1
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1
                if not self._readers:
                    self._held.clear()

    def say(self, subject: str, problem: str) -> None:
        """Say what is wrong with *subject*, unless that was said."""
        with self._lock:
            if subject in self._said:
                return
            self._said.add(subject)
        self._log.error("pack", error=problem, note="read from the originals; see ./inv audit")

    def find(self, key: str) -> Member | None:
        """Where the object *key* is, if the index that knows it is held."""
        with self._lock:
            for one in reversed(self._held.values()):
                if (found := one.ranges.get(key)) is not None:
                    self._held.move_to_end(one.key.pack)
                    return Member(one.key.pack, one.size, found)
        return None

    def look_up(self, key: str) -> Member | None:
        """Where the object *key* is, in the indexes of all packs that may have it.

        Raises:
            SourceUnavailable.
        """
        day = day_of(key)
        if day is None:
            return None
        # An entry is of a day in its pack. A message arrived on one of them too, or (imported) long before.
        possible = [
            one
            for one in self.listed()
            if (one.last is None or one.last >= day) and (one.first <= day or not key.startswith("manifest/"))
        ]
        for one in sorted(possible, key=lambda one: (one.first > day, abs(one.first - day))):
            opened = self._read(one)
            if opened is not None and key in opened.ranges:
                self._hold(opened)
                return Member(one.pack, opened.size, opened.ranges[key])
        return None

    def listed(self) -> list[PackKey]:
        """The packs that have an index; those whose mark is there say their last day.

        Raises:
            SourceUnavailable.
        """
        packs: list[PackKey] = []
        marks: dict[str, date | None] = {}
        for key in (one for page in self._packs.keys_after(PACKS) for one in page):
            try:
                one = PackKey.parse(key)
            except LayoutError:
                continue
            if one.kind == "json":
                packs.append(one)
            elif one.kind == "tagged":
                marks[one.pack] = one.last
        return [replace(one, last=marks.get(one.pack)) for one in packs]

    def keys_after(self, offset: str, packs: list[PackKey]) -> Iterator[str]:
        """The keys of the entries in *packs* that sort after *offset*, in order; those in two packs twice.

        Raises:
            SourceUnavailable: also while iterating.
        """
        start = day_of(offset) or date.min
        ahead = sorted(
            (one for one in packs if one.last is None or one.last >= start),
            key=lambda one: one.first,
            reverse=True,
        )
        heap: list[tuple[str, str, int, tuple[str, ...]]] = []
        while ahead or heap:
            # Whatever can have a key before the next one is open before that is given out.
            if ahead and (not heap or manifest_day(ahead[-1].first) <= heap[0][0]):
                opened = self._open(ahead.pop())
                if opened is not None and (at := bisect_right(opened.keys, offset)) < len(opened.keys):
                    heapq.heappush(heap, (opened.keys[at], opened.key.pack, at, opened.keys))
                continue
            key, pack, at, keys = heap[0]
            if at + 1 < len(keys):
                heapq.heapreplace(heap, (keys[at + 1], pack, at + 1, keys))
            else:
                heapq.heappop(heap)
            yield key

    def _open(self, key: PackKey) -> Opened | None:
        with self._lock:
            held = self._held.get(key.pack)
        opened = held or self._read(key)
        if opened is not None:
            self._hold(opened)
        return opened

    def _hold(self, opened: Opened) -> None:
        with self._lock:
            self._held[opened.key.pack] = opened
            self._held.move_to_end(opened.key.pack)
            while len(self._held) > 1 and sum(len(one.keys) for one in self._held.values()) > self._most:
                self._held.popitem(last=False)

    def _read(self, key: PackKey) -> Opened | None:
        try:
            index = PackIndex.from_bytes(b"".join(self._packs.read(key.index)))
        except (ObjectMissing, PackIndexError) as error:
            self.say(key.index, f"{key.index}: {error}")
            return None
        if index.key != key.pack:
            self.say(key.index, f"{key.index}: expected the index of {key.pack}, got that of {index.key}")
            return None
        ranges = {one.key: one.entry for one in index.entries}
        ranges |= {one.message.key: one.message for one in index.entries}
        return Opened(key, index.size, tuple(one.key for one in index.entries), ranges)
