"""One turn of the compactor: past days become packs, and their originals are tagged.

It may end between any two steps, run twice at once, and run while mail comes in. So each step is repeatable,
and their order is fixed:

1. the pack is written under the name of its own digest; nobody reads it yet.
2. it is read back as it is stored, and every entry and message in it compared with its digest.
3. its index is written, once: from then on the pack counts.
4. the originals are tagged, so that a lifecycle rule may take them. Nothing is ever deleted here.
5. a mark is put beside the index: all of 4 is done.

A pack that a crash leaves without an index is written again by the next turn, or stays unused. Two turns at
once can pack an entry twice; readers take an entry once, wherever they find it.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import IO, Any

from twinmail import layout, metric
from twinmail.config import Config
from twinmail.layout import PackKey, packs_key
from twinmail.packs.originals import Broken, Originals, OutOfTime
from twinmail.packs.pack_index import PackedEntry, PackIndex, PackIndexError, Range
from twinmail.packs.plan import Candidate, Planned, plan
from twinmail.packs.shelf import PackDamaged, Shelf
from twinmail.packs.unpacked import Listed, unpacked
from twinmail.reconciler.turn import METRIC as FINDINGS
from twinmail.reconciler.turn import moment

METRIC = "CompactorPacked"

LATE = timedelta(days=35)
"""How far back each turn looks for entries that came late; older ones are found on the first of a month."""

RESERVE = timedelta(seconds=45)
"""What a turn leaves of the function's time for what it is at."""

_PIECE = 1 << 20

Write = Callable[[str], None]


@dataclass
class Done:
    """What a turn came to.

    Attributes:
        packs, entries, octets: written, or with a dry run what would be.
        waiting: entries of past days that do not fill a pack yet.
        tagged: originals.
        broken: what could not be packed, and why.
        whole: it came to its end in time.
    """

    packs: int = 0
    entries: int = 0
    octets: int = 0
    waiting: int = 0
    tagged: int = 0
    broken: list[str] = field(default_factory=list)
    whole: bool = True


@dataclass
class Compactor:
    """Packs the log of *config*, through a boto3 S3 client.

    Args:
        at: what counts as now: entries of earlier days are packed.
        in_time: whether there is time for more.
        write: takes a line for the log.
        dry: only say what would be written.
    """

    config: Config
    s3: Any
    at: datetime
    in_time: Callable[[], bool] = lambda: True
    write: Write = lambda line: None
    dry: bool = False
    done: Done = field(default_factory=Done)

    def run(self) -> Done:
        """Finish what earlier turns began, then pack what is due, and report.

        Raises:
            botocore.exceptions.ClientError: S3 refuses, or is not to be had.
        """
        try:
            self._turn()
        except OutOfTime:
            self.done.whole = False
        finally:
            self._report()
        return self.done

    def _turn(self) -> None:
        today, packs, marks = self.at.astimezone(UTC).date(), [], {}
        for one in self._shelf.every_key():
            if one.kind == "json":
                packs.append(one)
            elif one.last is not None:
                marks[one.pack] = one.last
        if not self.dry:
            for one in packs:
                if one.pack not in marks and (index := self._index(one)):
                    self._tag(index)
        start = self._start(today)
        # Of the others the last entry is before the listing.
        relevant = [one for one in packs if marks.get(one.pack, today) >= start]
        waiting = self._originals.candidates(
            unpacked(self._listed(start, today), relevant, self._index), self._broken
        )
        cursor = today
        for planned in plan(waiting, today, self.config.packs.wait_days):
            if not planned.due:
                self.done.waiting = len(planned.entries)
            if not planned.due or not self._pack(planned):
                cursor = min(cursor, planned.entries[0].day)
        if not self.dry:
            self._shelf.move_cursor(cursor)

    def _start(self, today: date) -> date:
        """From which day on this turn looks."""
        cursor = self._shelf.cursor()
        if cursor is None or today.day == 1:
            return date.min
        return min(cursor, today - LATE)

    def _listed(self, start: date, today: date) -> Iterator[Listed]:
        after = layout.manifest_day(start) if start > date.min else layout.MANIFEST
        pages = self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=self.config.bucket, Prefix=layout.MANIFEST, StartAfter=after
        )
        for one in (one for page in pages for one in page.get("Contents", ())):
            if one["Key"] >= layout.manifest_day(today):
                return
            yield Listed(one["Key"], one["LastModified"].astimezone(UTC).date())

    def _pack(self, planned: Planned) -> bool:
        """Make the pack *planned*, and say whether that is done; what is broken is left out."""
        if self.dry:
            self._count(len(planned.entries), planned.octets)
            return True
        with tempfile.TemporaryFile() as messages, tempfile.TemporaryFile() as pack:
            entries = self._copied(planned.entries, messages)
            if not entries:
                return True
            index = _written(entries, messages, pack)
            try:
                if self._index(PackKey.parse(index.key)) is None:
                    self._shelf.put(index, pack)
                self._shelf.commit(index)
            except PackDamaged as error:
                # The originals stay as they are, and other days need not wait.
                self._broken(Broken(str(error)))
                return False
        self._count(len(index.entries), index.size)
        self.write(json.dumps({"event": "pack", "pack": index.key, "entries": len(index.entries)}))
        self._tag(index)
        return True

    def _copied(self, wanted: Sequence[Candidate], messages: IO[bytes]) -> list[Candidate]:
        """Those of *wanted* whose messages are what they say; these are in *messages* then, in order."""
        copied: dict[str, str] = {}
        for one, failure in self._originals.copy(wanted, messages):
            if failure is None:
                copied[one.message] = one.sha256
            else:
                self._broken(failure)
        for one in wanted:
            if copied.get(one.message, one.sha256) != one.sha256:
                self._broken(Broken(f"{one.key}: {one.message}: another entry says another sha256 of it"))
        return [one for one in wanted if copied.get(one.message) == one.sha256]

    def _tag(self, index: PackIndex) -> None:
        """Tag the originals of a pack that counts."""
        if not self._shelf.has_whole(index):
            self._broken(Broken(f"{index.key}: expected {index.size} octets; its originals are not tagged"))
            return
        self.done.tagged += self._originals.tag(index)
        self._shelf.mark(index)

    def _index(self, key: PackKey) -> PackIndex | None:
        try:
            return self._shelf.index(key)
        except PackIndexError as error:
            self._broken(Broken(str(error)))
            return None

    def _broken(self, failure: Broken) -> None:
        if str(failure) not in self.done.broken:
            self.done.broken.append(str(failure))
            self.write(json.dumps({"event": "not packed", "error": str(failure)}))

    def _count(self, entries: int, octets: int) -> None:
        self.done.packs += 1
        self.done.entries += entries
        self.done.octets += octets

    def _report(self) -> None:
        now, stack = datetime.now(UTC), self.config.stack
        broken = len(self.done.broken)
        said = {
            "event": "packed",
            "packs": self.done.packs,
            "octets": self.done.octets,
            "waiting": self.done.waiting,
            "tagged": self.done.tagged,
            "broken": broken,
            "whole": self.done.whole,
        }
        self.write(metric.line(METRIC, self.done.entries, stack, now, said))
        if broken:
            # The alarm is that of the reconciler: mail that should be there is not.
            self.write(metric.line(FINDINGS, broken, stack, now, {"event": "findings of the compactor"}))

    @property
    def _shelf(self) -> Shelf:
        return Shelf(self.s3, self.config.bucket)

    @property
    def _originals(self) -> Originals:
        return Originals(self.s3, self.config.bucket, self.in_time)


def _written(entries: Sequence[Candidate], messages: IO[bytes], pack: IO[bytes]) -> PackIndex:
    """Write the pack of *entries* and their *messages*, and return its index."""
    at = 0
    ranges: dict[str, Range] = {}
    whole = hashlib.sha256()
    for one in entries:
        ranges[one.key] = Range(one.key, at, len(one.octets), hashlib.sha256(one.octets).hexdigest())
        at += len(one.octets)
        whole.update(one.octets)
        pack.write(one.octets)
    for one in entries:
        if one.message not in ranges:
            ranges[one.message] = Range(one.message, at, one.size, one.sha256)
            at += one.size
    messages.seek(0)
    while piece := messages.read(_PIECE):
        whole.update(piece)
        pack.write(piece)
    sha256 = whole.hexdigest()
    return PackIndex(
        packs_key(entries[0].day, sha256),
        at,
        sha256,
        tuple(PackedEntry(ranges[one.key], ranges[one.message]) for one in entries),
    )


def start(
    event: Mapping[str, Any], left: Callable[[], int], config: Config, s3: Any, write: Write
) -> Done | None:
    """The turn that *event* of the schedule is for, if `config` has packs at all.

    *left* says how many milliseconds the function has.

    Raises:
        NoSchedule: the event has no time.
        botocore.exceptions.ClientError: see `Compactor.run`.
    """
    at = moment(event)
    if not config.packs.enabled:
        return None
    return Compactor(config, s3, at, lambda: timedelta(milliseconds=left()) > RESERVE, write).run()
