"""The log with its packed days: what is in packs is read from them, and everything else as it always was.

An object may be in a pack, or lie by itself, or both. A server that catches up reads packs in blocks that it
holds for what comes next, so a request brings hundreds of messages; one that is up to date never asks for
packs at all. Nothing is believed of a pack: what is not what its index says is read from its original.
"""

import hashlib
import heapq
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import chain

from twinmail.layout import PackKey
from twinmail.sync.log import Log, utc_now
from twinmail.sync.pack_catalog import YOUNGEST, Catalog, Member, Packs, day_of
from twinmail.sync.source import ObjectMissing, Source, SourceUnavailable

PAGE = 1000
BLOCK = 4 << 20
"""Octets that a request reads ahead."""

BLOCKS = 4
"""Blocks that are held, in all 16 MB: that of the entries, and those of the messages that they name."""

SMALL = 1 << 20
"""A larger message is streamed: it passes its server before it is compared."""

# Originals stay for 30 days and more (`expire_originals_days`): of younger entries packs know nothing more.
_NEEDLESS = timedelta(days=28)
_AGAIN = timedelta(minutes=10)
_REMEMBERED = 10_000


class PackedSource:
    """*source* and *packs* as one `twinmail.sync.source.Source`."""

    def __init__(
        self,
        source: Source,
        packs: Packs,
        log: Log,
        clock: Callable[[], datetime] = utc_now,
        block: int = BLOCK,
    ) -> None:
        self._source = source
        self._packs = packs
        self._catalog = Catalog(packs, log)
        self._clock = clock
        self._block = block
        self._lock = threading.Lock()
        self._blocks: OrderedDict[tuple[str, int], memoryview] = OrderedDict()
        # Packs that are not there, as far as those know who read old days now.
        self._absent: set[str] = set()
        # Large members that are not what their index says, and keys that no pack has.
        self._bad: set[tuple[str, str]] = set()
        self._nowhere: dict[str, datetime] = {}

    def keys_after(self, offset: str) -> Iterator[list[str]]:
        """The keys of the manifest and those of packed entries; see `twinmail.sync.source.Source`."""
        packs = self._listed(offset)
        if not packs:
            yield from self._source.keys_after(offset)
            return
        try:
            with self._catalog.reading():
                yield from self._both(offset, packs)
        finally:
            if not self._catalog.busy:
                with self._lock:
                    self._blocks.clear()
                    self._absent.clear()

    def _listed(self, offset: str) -> list[PackKey]:
        day, today = day_of(offset), self._clock().date()
        if day is not None and day > today - YOUNGEST:
            return []
        try:
            return self._catalog.listed()
        except SourceUnavailable as error:
            if day is None or day <= today - _NEEDLESS:
                raise
            self._catalog.say("packs/", str(error))
            return []

    def _both(self, offset: str, packs: list[PackKey]) -> Iterator[list[str]]:
        listed = chain.from_iterable(self._source.keys_after(offset))
        page: list[str] = []
        last = ""
        for key in heapq.merge(listed, self._catalog.keys_after(offset, packs)):
            if key == last:
                continue
            last = key
            page.append(key)
            if len(page) == PAGE:
                yield page
                page = []
        if page:
            yield page

    def read(self, key: str) -> Iterator[bytes]:
        """The octets of an object; see `twinmail.sync.source.Source`."""
        known = self._catalog.find(key)
        packed = self._packed(known) if known is not None else None
        if packed is not None:
            yield from packed
            return
        try:
            yield from self._source.read(key)
            return
        except ObjectMissing:
            found = None if known is not None else self._look_up(key)
            packed = self._packed(found) if found is not None else None
            if packed is None:
                raise
        yield from packed

    def each(self, keys: Sequence[str], most: int, take: Callable[[str, bytes], None]) -> None:
        """Many objects; see `twinmail.sync.source.Source`."""
        others = self._each_packed(keys, most, take)
        if others:
            self._source.each(others, most, take)

    def each_entry(
        self, keys: Sequence[str], most: int, take: Callable[[str, bytes, bytes | None], None]
    ) -> None:
        """Many entries, the packed ones without their messages; see `twinmail.sync.source.Source`."""
        others = self._each_packed(keys, most, lambda key, data: take(key, data, None))
        if others:
            self._source.each_entry(others, most, take)

    def _each_packed(
        self, keys: Sequence[str], most: int, take: Callable[[str, bytes], None]
    ) -> Sequence[str]:
        """Give *take* what is in packs; returns what must be read elsewhere."""
        members, others = [], []
        for key in keys:
            member = self._catalog.find(key)
            if member is None or member.range.size > SMALL:
                others.append(key)
            elif member.range.size <= most:
                members.append(member)
        for member in sorted(members, key=lambda one: (one.pack, one.range.at)):
            octets = self._small(member)
            if octets is None:
                others.append(member.range.key)
            else:
                take(member.range.key, octets)
        return others

    def _look_up(self, key: str) -> Member | None:
        """Where a packed object is whose original is gone; what was not found is not sought again at once."""
        day, now = day_of(key), self._clock()
        if day is None or day > now.date() - YOUNGEST:
            return None
        with self._lock:
            sought = self._nowhere.get(key)
        if sought is not None and now - sought < _AGAIN:
            return None
        found = self._catalog.look_up(key)
        with self._lock:
            if len(self._nowhere) >= _REMEMBERED:
                self._nowhere.clear()
            self._nowhere.pop(key, None)
            if found is None:
                self._nowhere[key] = now
        return found

    def _packed(self, member: Member) -> Iterator[bytes] | None:
        """The octets of *member*; None if the pack does not have them.

        Raises:
            SourceUnavailable: also while iterating.
            ObjectMissing: while iterating, of a large one whose octets are not what the index says.
        """
        if member.range.size <= SMALL:
            octets = self._small(member)
            return None if octets is None else iter((octets,))
        if (member.pack, member.range.key) in self._bad:
            return None
        pieces = self._large(member)
        try:
            return chain((next(pieces),), pieces)
        except ObjectMissing as error:
            self._catalog.say(member.pack, str(error))
            return None

    def _large(self, member: Member) -> Iterator[bytes]:
        digest = hashlib.sha256()
        for start in range(member.range.at, member.range.end, self._block):
            end = min(start + self._block, member.range.end)
            piece = bytes(self._packs.read_range(member.pack, start, end))
            digest.update(piece)
            yield piece
        if digest.hexdigest() != member.range.sha256:
            # Much of it was given out already; whoever asks again gets the original.
            if len(self._bad) >= _REMEMBERED:
                self._bad.clear()
            self._bad.add((member.pack, member.range.key))
            raise ObjectMissing(self._differs(member))

    def _small(self, member: Member) -> bytes | None:
        """The octets of *member*; None if the pack does not have them."""
        if member.pack in self._absent:
            return None
        try:
            octets = self._octets(member)
        except ObjectMissing as error:
            self._catalog.say(member.pack, str(error))
            if self._catalog.busy:
                self._absent.add(member.pack)
            return None
        if hashlib.sha256(octets).hexdigest() != member.range.sha256:
            self._differs(member)
            return None
        return octets

    def _differs(self, member: Member) -> str:
        problem = f"{member.pack}: {member.range.key}: its octets are not those that the index tells"
        self._catalog.say(member.pack, problem)
        return problem

    def _octets(self, member: Member) -> bytes:
        """A small member: alone, or out of the blocks around it while old days are read."""
        start, end = member.range.at, member.range.end
        if not self._catalog.busy:
            return bytes(self._packs.read_range(member.pack, start, end)) if start < end else b""
        parts = []
        with self._lock:
            for number in range(start // self._block, -(-end // self._block)):
                first = number * self._block
                block = self._blocks.get((member.pack, number))
                if block is None:
                    while len(self._blocks) >= BLOCKS:
                        self._blocks.popitem(last=False)
                    last = min(first + self._block, member.size)
                    block = self._packs.read_range(member.pack, first, last)
                    self._blocks[member.pack, number] = block
                self._blocks.move_to_end((member.pack, number))
                parts.append(block[max(start - first, 0) : end - first])
            return b"".join(parts)
