"""What packs hold, for tools: an entry or a message may be in a pack, or lie by itself, or both."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from twinmail.layout import MANIFEST, LayoutError, PackKey
from twinmail.packs.pack_index import PackIndex, PackIndexError, Range
from twinmail.packs.shelf import PIECE, PackDamaged, Shelf


def _unheard(problem: str) -> None:
    """Who does not ask what is wrong with packs misses what only those have; ``./inv audit`` tells."""


@dataclass(frozen=True)
class Archive:
    """The packs in *bucket*, through a boto3 S3 client."""

    s3: Any
    bucket: str

    def packs(self) -> list[PackKey]:
        """The packs that count, in the order of their first days; those that are marked say their last."""
        packs, marks = [], {}
        for one in Shelf(self.s3, self.bucket).every_key():
            if one.kind == "json":
                packs.append(one)
            elif one.last is not None:
                marks[one.pack] = one.last
        return sorted(
            (replace(one, last=marks.get(one.pack)) for one in packs), key=lambda one: (one.first, one.digits)
        )

    def indexes(
        self, since: date | None = None, broken: Callable[[str], None] = _unheard
    ) -> Iterator[PackIndex]:
        """The indexes of packs that may have entries since then; *broken* hears of damaged ones."""
        for one in self.packs():
            if since is not None and one.last is not None and one.last < since:
                continue
            if (index := self._index(one, broken)) is not None:
                yield index

    def keys(self, since: date | None = None) -> Iterator[str]:
        """The keys of all packed entries since then; one that is in two packs twice."""
        for index in self.indexes(since):
            yield from (one.key for one in index.entries if since is None or _day(one.key) >= since)

    def find(self, key: str) -> tuple[PackIndex, Range] | None:
        """Where the entry or the message *key* is: sought first where its day is."""
        try:
            day = _day(key)
        except LayoutError:
            return None
        packs = [one for one in self.packs() if not key.startswith(MANIFEST) or one.first <= day]
        for one in sorted(packs, key=lambda one: (not _spans(one, day), abs(one.first - day))):
            if (index := self._index(one, _unheard)) is None:
                continue
            for packed in index.entries:
                for part in (packed.entry, packed.message):
                    if part.key == key:
                        return index, part
        return None

    def read(self, key: str) -> Iterator[bytes] | None:
        """The octets of the entry or the message *key*; None if no pack has it.

        Raises:
            PackDamaged: at the end, if they are not what the index says.
        """
        found = self.find(key)
        return None if found is None else self._pieces(*found)

    def _pieces(self, index: PackIndex, part: Range) -> Iterator[bytes]:
        digest = hashlib.sha256()
        if part.size:
            answer = self.s3.get_object(
                Bucket=self.bucket, Key=index.key, Range=f"bytes={part.at}-{part.end - 1}"
            )
            for piece in answer["Body"].iter_chunks(PIECE):
                digest.update(piece)
                yield piece
        if digest.hexdigest() != part.sha256:
            raise PackDamaged(f"{index.key}: {part.key}: expected sha256 {part.sha256}, got another")

    def _index(self, key: PackKey, broken: Callable[[str], None]) -> PackIndex | None:
        try:
            return Shelf(self.s3, self.bucket).index(key)
        except PackIndexError as error:
            broken(str(error))
            return None


def _spans(pack: PackKey, day: date) -> bool:
    return pack.first <= day and (pack.last is None or pack.last >= day)


def _day(key: str) -> date:
    """The day in the key of an entry or a message."""
    try:
        year, month, day = map(int, key.split("/")[1:4])
        return date(year, month, day)
    except ValueError as error:
        raise LayoutError(f"key {key!r}: expected a day in it") from error
