"""The index of a pack: which entries and messages it holds, and where in it. Pure.

A pack is the octets of its manifest entries, in the order of their keys, and after them those of their
messages, each once, in the order in which the entries name them. Nothing is compressed and nothing lies
between, so any of it is a range of the object, and all entries together are one. The index is written last:
a pack without one counts for nothing. Both are read for ever, whatever later versions write.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from twinmail import versioned_json
from twinmail.errors import PermanentError
from twinmail.layout import PROCESSED, QUARANTINE, LayoutError, ManifestKey, PackKey, packs_key

VERSION = 1

_SHA256 = re.compile(r"[0-9a-f]{64}")


class PackIndexError(PermanentError):
    """The bytes are not the index of a pack that this version understands; the text says what, and where."""


@dataclass(frozen=True)
class Range:
    """An object inside a pack.

    Attributes:
        key: the object's own, where it was before.
        at: its first octet in the pack, from 0.
        size: octets.
        sha256: of these octets, 64 lower-case hexadecimal digits.
    """

    key: str
    at: int
    size: int
    sha256: str

    @property
    def end(self) -> int:
        """The first octet after it."""
        return self.at + self.size


@dataclass(frozen=True)
class PackedEntry:
    """A manifest entry in a pack, and its message, which entries may share."""

    entry: Range
    message: Range

    @property
    def key(self) -> str:
        """Of the manifest entry."""
        return self.entry.key


@dataclass(frozen=True)
class PackIndex:
    """The index of one pack.

    Attributes:
        key: of the pack, `twinmail.layout.packs_key`.
        size: octets of the pack.
        sha256: of the whole pack.
        entries: sorted by key, at least one.
    """

    key: str
    size: int
    sha256: str
    entries: tuple[PackedEntry, ...]

    def __post_init__(self) -> None:
        """Check everything that can be checked without the pack.

        Raises:
            PackIndexError: see there.
        """
        if not self.entries:
            raise PackIndexError(f"index of {self.key!r}: entries: expected at least one")
        _check_digest(f"index of {self.key!r}: pack", self.sha256)
        _check_keys(self.entries)
        expected = packs_key(ManifestKey.parse(self.first).committed.date(), self.sha256)
        if self.key != expected:
            raise PackIndexError(f"index of {self.key!r}: pack: key: expected {expected!r}")
        end = 0
        for one in _in_order(self.entries):
            _check_digest(one.key, one.sha256)
            if one.at != end or one.size < 0:
                raise PackIndexError(
                    f"{one.key}: expected to begin at octet {end}, got {one.size} octets at {one.at}"
                )
            end = one.end
        if end != self.size:
            raise PackIndexError(f"index of {self.key!r}: pack: expected {end} octets, got {self.size}")

    @property
    def first(self) -> str:
        """The first key of a manifest entry in it."""
        return self.entries[0].key

    @property
    def last(self) -> str:
        """The last key of a manifest entry in it."""
        return self.entries[-1].key

    @property
    def index_key(self) -> str:
        """Key of the index itself."""
        return PackKey.parse(self.key).index

    @property
    def entries_size(self) -> int:
        """Octets of all entries, which are the beginning of the pack."""
        return self.entries[-1].entry.end

    def messages(self) -> tuple[Range, ...]:
        """The messages, each once, in their order in the pack."""
        return tuple({one.message.key: one.message for one in self.entries}.values())

    def differences(self, pieces: Iterable[bytes]) -> Iterator[str]:
        """What in *pieces*, the octets of the whole pack in their order, is not what the index says.

        Nothing is held but the piece at hand. Each difference is a text: the key that is concerned, and how.
        """
        whole, size = hashlib.sha256(), 0
        ranges = _in_order(self.entries)
        current, digest, left = _next(ranges)
        for piece in pieces:
            whole.update(piece)
            size += len(piece)
            rest = memoryview(piece)
            while current is not None and len(rest) >= left:
                digest.update(rest[:left])
                rest = rest[left:]
                if digest.hexdigest() != current.sha256:
                    yield f"{current.key}: expected sha256 {current.sha256}, got {digest.hexdigest()}"
                current, digest, left = _next(ranges)
            digest.update(rest)
            left -= len(rest)
        if size != self.size:
            yield f"{self.key}: expected {self.size} octets, got {size}"
        elif whole.hexdigest() != self.sha256:
            yield f"{self.key}: expected sha256 {self.sha256}, got {whole.hexdigest()}"

    def to_bytes(self) -> bytes:
        """Encode as canonical JSON."""
        return versioned_json.write(
            {
                "version": VERSION,
                "pack": {"key": self.key, "size": self.size, "sha256": self.sha256},
                "first": self.first,
                "last": self.last,
                "entries": [
                    {**_document(one.entry), "message": _document(one.message)} for one in self.entries
                ],
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "PackIndex":
        """Decode *data*.

        Raises:
            PackIndexError: it is damaged, or of another version.
        """
        try:
            document = versioned_json.read(data, VERSION)
        except ValueError as error:
            raise PackIndexError(f"index of a pack: {error}") from error
        pack, entries = document.get("pack"), document.get("entries")
        if not isinstance(pack, dict) or not isinstance(entries, list):
            raise PackIndexError("index of a pack: expected an object 'pack' and a list 'entries'")
        where = f"index of {pack.get('key')!r:.80}"
        index = cls(
            _text(f"{where}: pack", pack, "key"),
            _number(f"{where}: pack", pack, "size"),
            _text(f"{where}: pack", pack, "sha256"),
            tuple(_packed(f"{where}: entry {number}", one) for number, one in enumerate(entries)),
        )
        for name, expected in (("first", index.first), ("last", index.last)):
            if document.get(name) != expected:
                raise PackIndexError(
                    f"{where}: {name}: expected {expected!r}, got {document.get(name)!r:.120}"
                )
        return index


def _in_order(entries: Iterable[PackedEntry]) -> Iterator[Range]:
    """All ranges in their order in the pack, each once."""
    messages: dict[str, Range] = {}
    for one in entries:
        if messages.setdefault(one.message.key, one.message) != one.message:
            raise PackIndexError(f"{one.key}: {one.message.key}: described in two ways")
        yield one.entry
    yield from messages.values()


def _next(ranges: Iterator[Range]) -> tuple[Range | None, Any, int]:
    """The range that begins, a digest for it, and how many octets of it are to come."""
    one = next(ranges, None)
    return one, hashlib.sha256(), one.size if one else 0


def _check_keys(entries: Iterable[PackedEntry]) -> None:
    before = ""
    for one in entries:
        try:
            ManifestKey.parse(one.key)
        except LayoutError as error:
            raise PackIndexError(f"index of a pack: {error}") from error
        if one.key <= before:
            raise PackIndexError(f"{one.key}: expected a key after {before}")
        before = one.key
        if not one.message.key.startswith((PROCESSED, QUARANTINE)):
            raise PackIndexError(
                f"{one.key}: message: expected one of {PROCESSED} or {QUARANTINE}, got {one.message.key!r}"
            )


def _check_digest(where: str, sha256: str) -> None:
    if not _SHA256.fullmatch(sha256):
        raise PackIndexError(f"{where}: sha256: expected 64 hexadecimal digits, got {sha256!r:.80}")


def _document(one: Range) -> dict[str, Any]:
    return {"key": one.key, "at": one.at, "size": one.size, "sha256": one.sha256}


def _packed(where: str, value: Any) -> PackedEntry:
    document = value if isinstance(value, dict) else {}
    message = document.get("message")
    if not isinstance(message, dict):
        raise PackIndexError(f"{where}: expected an object with its message, got {value!r:.80}")
    return PackedEntry(_range(where, document), _range(f"{where}: message", message))


def _range(where: str, document: Mapping[str, Any]) -> Range:
    return Range(
        _text(where, document, "key"),
        _number(where, document, "at"),
        _number(where, document, "size"),
        _text(where, document, "sha256"),
    )


def _text(where: str, document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str):
        raise PackIndexError(f"{where}: {name}: expected a string, got {value!r:.80}")
    return value


def _number(where: str, document: Mapping[str, Any], name: str) -> int:
    value = document.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise PackIndexError(f"{where}: {name}: expected a number of octets, got {value!r:.80}")
    return value
