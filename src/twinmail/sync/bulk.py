"""Catching up: many entries at once, for a server that has much to fetch, such as a new one.

The order of durable writes is the carrier's, only that each write is one for a whole batch: all messages into
``tmp/``, one flush of the file system, all names, a flush of each folder, the journals, the ledger. What is
not plain (a filter to ask, several mailboxes, no room, a large message, any error) is left to the carrier.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
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
"""A larger message is streamed, by the carrier; of these, a batch is held in memory."""

_BATCH = 256
_BATCH_OCTETS = 32 << 20


@dataclass(frozen=True)
class Plain:
    """A message for one mailbox, about which nobody need be asked."""

    key: str
    entry: Entry
    delivery: Delivery
    stem: str


class Bulk:
    """Carries batches of entries of *source* into the mailboxes under *mail*.

    Args:
        alone: the lock of a message, by its stem.
        told: is told each delivery that is durable.
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
        told: Callable[[str, Entry, str, Sequence[Placement]], None],
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
        entries = self._entries(keys)
        self._checkpoint("read")
        known = self._ledger.delivered_of([message_stem(one) for one in entries.values()])
        for batch in _batches(_plain(entries, known)):
            if stopping():
                break
            try:
                done |= self._deliver(batch)
            except (NotWritten, SourceUnavailable):
                break
        return frozenset(done)

    def _entries(self, keys: Sequence[str]) -> dict[str, Entry]:
        found = {}
        for key, data in self._source.read_all(keys, MESSAGE_OCTETS).items():
            entry = decode(key, data)
            if not isinstance(entry, Park):
                found[key] = entry
        return found

    def _deliver(self, batch: Sequence[Plain]) -> set[str]:
        with ExitStack() as held:
            for lock in sorted({id(one): one for one in (self._alone(x.stem) for x in batch)}.items()):
                held.enter_context(lock[1])
            # Somebody may have carried one of them meanwhile.
            known = self._ledger.delivered_of([one.stem for one in batch])
            batch = [
                one
                for one in batch
                if one.delivery.mailbox not in known.get(one.stem, frozenset())
                and not self._placing.is_linked(one.delivery.mailbox, one.stem)
                and not held.enter_context(self._quotas.claim([one.delivery], one.entry.size))
            ]
            bodies = self._source.read_all([one.entry.key for one in batch], MESSAGE_OCTETS)
            file_system = FileSystem(self._mail)
            held.callback(file_system.close)
            ready: list[tuple[Plain, Placed]] = []
            try:
                for one in batch:
                    body = bodies.pop(one.entry.key, None)
                    placements = self._place_of(one, body) if body is not None else None
                    if body is None or placements is None:
                        continue
                    staged = self._stage(one, body)
                    self._checkpoint("decided")
                    if staged is not None:
                        ready.append(
                            (one, Placed(one.delivery.mailbox, staged, one.entry, placements, one.key))
                        )
                file_system.flush()
                self._checkpoint("staged")
                self._placing.place_all([placed for _, placed in ready])
            finally:
                for one, placed in ready:
                    self._placing.maildir(one.delivery.mailbox).discard(placed.staged.path)
        for one, placed in ready:
            self._told(one.key, one.entry, one.delivery.mailbox, (placed.placement,))
        return {one.key for one, _ in ready}

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


def _plain(entries: Mapping[str, Entry], known: Mapping[str, frozenset[str]]) -> Iterator[Plain]:
    """Those of *entries* that are for one mailbox, which has not got it (see `plan`), each message once."""
    met = set()
    for key, entry in entries.items():
        todo = plan(entry, known.get(message_stem(entry), frozenset()))
        if len(todo.deliveries) == 1 and entry.size <= MESSAGE_OCTETS and todo.stem not in met:
            met.add(todo.stem)
            yield Plain(key, entry, todo.deliveries[0], todo.stem)


def _batches(wanted: Iterator[Plain]) -> Iterator[list[Plain]]:
    batch: list[Plain] = []
    octets = 0
    for one in wanted:
        if batch and (len(batch) == _BATCH or octets + one.entry.size > _BATCH_OCTETS):
            yield batch
            batch, octets = [], 0
        batch.append(one)
        octets += one.entry.size
    if batch:
        yield batch
