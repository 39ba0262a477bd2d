"""What a server says of its deliveries, one line each: its syncer writes them, `./inv audit` reads them.

Fields are separated by tabs; a first letter says what a line tells. The last line tells how many were before
it, so that a stream which was cut short is not taken for a whole one.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from twinmail.errors import TransientError

PATH = "/deliveries"
DEEP = f"{PATH}?deep=1"
"""The same with the digest of each file."""

VERSION = 1
KEYS = 100
"""Entries that a server is asked to mend at once, at most."""

_HEAD = f"twinmail deliveries {VERSION}"


class LinesCut(TransientError):
    """What a server says of its deliveries is not whole, or not in this form."""


class Recorded(NamedTuple):
    """The ledger knows that *mailbox* got the message *stem*."""

    mailbox: str
    stem: str


class Filed(NamedTuple):
    """A file of the message *stem* in a folder of *mailbox*.

    Attributes:
        folder: a number of the folder within the mailbox.
        octets: of the file.
        named: octets by the name of the file.
        sha256: of the file; empty if that was not asked for.
    """

    mailbox: str
    stem: str
    folder: int
    octets: int
    named: int
    sha256: str = ""


class Waits(NamedTuple):
    """The message of the entry *key* waits for room in *mailbox*."""

    mailbox: str
    key: str


class Aside(NamedTuple):
    """The entry *key* was put aside for this *reason*."""

    key: str
    reason: str


Line = Recorded | Filed | Waits | Aside


def derived_of(stem: str) -> str:
    """The part of *stem* that is made of the SES id (`twinmail.basename`).

    Raises:
        IndexError: it is no name of ours.
    """
    return stem.split(".", 2)[1]


def encode(lines: Iterable[Line]) -> Iterator[bytes]:
    """The stream of *lines*."""
    yield f"{_HEAD}\n".encode()
    count = 0
    for one in lines:
        count += 1
        if isinstance(one, Recorded):
            yield f"L\t{one.mailbox}\t{one.stem}\n".encode()
        elif isinstance(one, Filed):
            facts = f"{one.folder}\t{one.octets}\t{one.named}\t{one.sha256}"
            yield f"F\t{one.mailbox}\t{one.stem}\t{facts}\n".encode()
        elif isinstance(one, Waits):
            yield f"W\t{one.mailbox}\t{one.key}\n".encode()
        else:
            yield f"P\t{one.key}\t{' '.join(one.reason.split())[:300]}\n".encode()
    yield f".\t{count}\n".encode()


def failure(text: str) -> bytes:
    """What ends a stream that cannot go on, and why."""
    return f"!\t{' '.join(text.split())}\n".encode()


def decode(stream: Iterable[bytes], only: Collection[str] | None = None) -> Iterator[Line]:
    """The lines of *stream*; of deliveries and files those alone whose `derived_of` is in *only*, if given.

    Raises:
        LinesCut: at its end, so nothing that came before may be relied on.
    """
    lines = iter(stream)
    head = next(lines, b"").decode("utf-8", "replace").rstrip("\n")
    if not head:
        raise LinesCut("deliveries: the connection ended after 0 lines; ask again")
    if head != _HEAD:
        raise LinesCut(f"deliveries: expected {_HEAD!r}, got {head[:80]!r}; update the server or this")
    count = 0
    for octets in lines:
        fields = octets.decode("utf-8", "replace").rstrip("\n").split("\t")
        kind = fields[0]
        try:
            # These come by the million, so they come first.
            if kind in ("L", "F"):
                if only is None or derived_of(fields[2]) in only:
                    yield Recorded(fields[1], fields[2]) if kind == "L" else _filed(*fields[1:])
            elif kind == "W":
                yield Waits(*fields[1:])
            elif kind == "P":
                yield Aside(*fields[1:])
            elif kind == "." and int(fields[1]) == count:
                return
            else:
                said = " ".join(fields[1:]) or kind
                raise LinesCut(f"deliveries, after {count:,} lines: {said[:300]!r}")
        except (ValueError, IndexError, TypeError) as error:
            raise LinesCut(f"deliveries, line {count + 2}: not of the form of a {kind[:1]!r} line") from error
        count += 1
    raise LinesCut(f"deliveries: the connection ended after {count:,} lines; ask again")


def _filed(mailbox: str, stem: str, folder: str, octets: str, named: str, sha256: str) -> Filed:
    return Filed(mailbox, stem, int(folder), int(octets), int(named), sha256)
