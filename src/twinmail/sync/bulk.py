"""Catching up: many entries at once, for a server that has much to fetch, such as a new one.

The order of durable writes is the carrier's, only that each write is one for a whole batch: all messages into
``tmp/``, one flush of the file system, all names, a flush of each folder, the journals, the ledger. While a
batch is made durable, the next one is read. What is not plain (a filter to ask, several mailboxes, no room, a
large message, any error) is left to the carrier.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from twinmail.durable_file import FileSystem, NotWritten
from twinmail.filter.decision import Placement
from twinmail.ledger import Ledger
from twinmail.maildir import Staged
from twinmail.manifest import Delivery, Entry
from twinmail.sync.decisions import HEADER_OCTETS, Decisions
from twinmail.sync.placing import Placed, Placing
from twinmail.sync.plan import Park, decode, message_stem, placement, plan
from twinmail.sync.quota import Quotas
from twinmail.sync.source import Source, SourceUnavailable
from twinmail.sync.steps import Checkpoint

LEAST = 64
"""Entries below which a batch is not worth it."""

MESSAGE_OCTETS = 1 << 20
"""A larger message is streamed, by the carrier; of these, as many are in memory as are read at a time."""

_BATCH = 256
_PART_OCTETS = 16 << 20
_AHEAD = 1
"""Batches that are read while one is made durable; two were no faster, and hold one more in memory."""


@dataclass(frozen=True)
class Plain:
    """A message for one mailbox, about which nobody need be asked."""

    key: str
    entry: Entry
    delivery: Delivery
    stem: str


@dataclass(frozen=True)
class _Batch:
    """Messages for which there is room, and those of them that are in ``tmp/``; not yet durable."""

    messages: list[Plain] = field(default_factory=list)
    ready: list[tuple[Plain, Placed]] = field(default_factory=list)


class Bulk:
    """Carries batches of entries of *source* into the mailboxes under *mail*.

    Args:
        alone: the lock of a message, by its stem.
        told: is told the deliveries that are durable.
    """

    def __init__(
        self,
        source: Source,
        ledger: Ledger,
        mail: Path,
        placing: Placing,
        quotas: Quotas,
        decisions: Decisions | None,
        alone: Callable[[str], threading.Lock],
        told: Callable[[Sequence[Placed]], None],
        checkpoint: Checkpoint,
    ) -> None:
        self._source = source
        self._ledger = ledger
        self._mail = mail
        self._placing = placing
        self._quotas = quotas
        self._decisions = decisions
        self._alone = alone
        self._told = told
        self._checkpoint = checkpoint

    def carry(self, keys: Sequence[str], stopping: Callable[[], bool]) -> frozenset[str]:
        """Carry those of *keys* that are plain, and return them; each of them is finished.

        Whatever goes wrong is met by the carrier again, who knows what to do about it.
        """
        done: set[str] = set()
        parts = iter([keys[at : at + _BATCH] for at in range(0, len(keys), _BATCH)])
        with (
            closing(FileSystem(self._mail)) as file_system,
            ThreadPoolExecutor(_AHEAD, thread_name_prefix="read-ahead") as ahead,
        ):
            reading: deque[Future[_Batch]] = deque()
            try:
                while not stopping():
                    reading.extend(
                        ahead.submit(self._read, one) for one in islice(parts, _AHEAD + 1 - len(reading))
                    )
                    if not reading:
                        break
                    done |= self._deliver(reading.popleft().result(), file_system)
            except (NotWritten, SourceUnavailable):
                pass
            finally:
                for one in reading:
                    self._give_up(one)
        return frozenset(done)

    def _read(self, keys: Sequence[str]) -> _Batch:
        """The plain ones of *keys* that have room, in ``tmp/``.

        Raises:
            SourceUnavailable: nothing of them is in ``tmp/`` then, nor is room held for them; as for others.
            NotWritten.
        """
        entries, bodies = self._entries(keys)
        self._checkpoint("read")
        stems = {key: message_stem(entry) for key, entry in entries.items()}
        known = self._ledger.delivered_of(stems.values())
        batch = _Batch()
        try:
            for one in _plain(entries, stems, known):
                if self._quotas.hold(one.delivery.mailbox, one.entry.size):
                    batch.messages.append(one)
            alone: dict[str, Plain] = {}
            for one in batch.messages:
                body = bodies.pop(one.key, None)
                if body is None:
                    alone[one.entry.key] = one
                else:
                    self._take(one, body, batch)
            bodies.clear()

            def take(key: str, body: bytes) -> None:
                self._take(alone[key], body, batch)

            for part in _parts(alone.values()):
                self._source.each([one.entry.key for one in part], MESSAGE_OCTETS, take)
        except BaseException:
            self._let_go(batch)
            raise
        return batch

    def _entries(self, keys: Sequence[str]) -> tuple[dict[str, Entry], dict[str, bytes]]:
        """The entries *keys*, in this order, and those of their messages that came with them."""
        read: dict[str, bytes] = {}
        bodies: dict[str, bytes] = {}

        def take(key: str, data: bytes, body: bytes | None) -> None:
            read[key] = data
            if body is not None:
                bodies[key] = body

        self._source.each_entry(keys, MESSAGE_OCTETS, take)
        decoded = {key: decode(key, read[key]) for key in keys if key in read}
        return {key: entry for key, entry in decoded.items() if not isinstance(entry, Park)}, bodies

    def _take(self, one: Plain, body: bytes, batch: _Batch) -> None:
        place = self._place_of(one, body)
        staged = self._stage(one, body) if place is not None else None
        if place is not None and staged is not None:
            batch.ready.append((one, Placed(one.delivery.mailbox, staged, one.entry, place, one.key)))
        self._checkpoint("decided")

    def _deliver(self, batch: _Batch, file_system: FileSystem) -> set[str]:
        """Place what is ready, durably, and return its keys."""
        try:
            file_system.flush()
            self._checkpoint("staged")
            with ExitStack() as held:
                # In one order, so that two who need several never wait for each other.
                for lock in sorted({self._alone(one.stem) for one in batch.messages}, key=id):
                    held.enter_context(lock)
                # Somebody may have carried one of them meanwhile.
                known = self._ledger.delivered_of([one.stem for one, _ in batch.ready])
                placed = [
                    placed
                    # In the order of the log: that is the order in which clients list them.
                    for one, placed in sorted(batch.ready, key=lambda x: x[0].key)
                    if placed.mailbox not in known.get(one.stem, frozenset())
                    and not self._placing.is_linked(placed.mailbox, one.stem)
                ]
                self._placing.place_all(placed)
        finally:
            self._let_go(batch)
        self._told(placed)
        return {one.finishes for one in placed}

    def _give_up(self, reading: "Future[_Batch]") -> None:
        # What it failed with is met again by whoever carries them one by one.
        with suppress(Exception):
            self._let_go(reading.result())

    def _let_go(self, batch: _Batch) -> None:
        """Remove what is in ``tmp/``; what was placed has another name by now."""
        for one, placed in batch.ready:
            self._placing.maildir(one.delivery.mailbox).discard(placed.staged.path)
        for one in batch.messages:
            self._quotas.let_go(one.delivery.mailbox, one.entry.size)

    def _place_of(self, one: Plain, body: bytes) -> Placement | None:
        if one.entry.imported:
            return placement(one.delivery)
        if self._decisions is None:
            return Placement(one.delivery.folder)
        return self._decisions.plain(one.entry, one.delivery, body[:HEADER_OCTETS])

    def _stage(self, one: Plain, body: bytes) -> Staged | None:
        maildir, entry = self._placing.maildir(one.delivery.mailbox), one.entry
        staged = maildir.stage(one.stem, (body,), entry.arrived, durable=False)
        if (staged.size, staged.sha256) != (entry.size, entry.sha256):
            maildir.discard(staged.path)
            return None
        return staged


def _plain(
    entries: Mapping[str, Entry], stems: Mapping[str, str], known: Mapping[str, frozenset[str]]
) -> Iterator[Plain]:
    """Those of *entries* that are for one mailbox, which has not got it (see `plan`), each message once."""
    met = set()
    for key, entry in entries.items():
        stem = stems[key]
        todo = plan(entry, known.get(stem, frozenset()))
        if len(todo.deliveries) == 1 and entry.size <= MESSAGE_OCTETS and stem not in met:
            met.add(stem)
            yield Plain(key, entry, todo.deliveries[0], stem)


def _parts(wanted: Iterable[Plain]) -> Iterator[list[Plain]]:
    """*wanted* in parts that may be in memory."""
    part: list[Plain] = []
    octets = 0
    for one in wanted:
        if part and octets + one.entry.size > _PART_OCTETS:
            yield part
            part, octets = [], 0
        part.append(one)
        octets += one.entry.size
    if part:
        yield part
