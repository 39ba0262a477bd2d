"""What an import did, or would do, counted by folder."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any


class State(Enum):
    """What became of one message."""

    IMPORTED = "imported"  # it is in the log now; of a plan: it would be
    KNOWN = "known"  # it was imported before, or is in the same folder twice
    RECEIVED = "received"  # SES received it for the mailbox
    ELSEWHERE = "elsewhere"  # it is in another folder of the account, and this one shows all
    DELETED = "deleted"  # it is marked as deleted there


@dataclass
class Counts:
    """One folder.

    Attributes:
        name: in the older account.
        target: here.
        octets: of the messages that were read.
        new_octets: of those that were imported.
    """

    name: str
    target: str
    messages: int = 0
    octets: int = 0
    imported: int = 0
    new_octets: int = 0
    known: int = 0
    received: int = 0
    elsewhere: int = 0
    deleted: int = 0
    failed: int = 0

    def add(self, state: State, octets: int = 0) -> None:
        """Count a message."""
        self.messages += 1
        self.octets += octets
        setattr(self, state.value, getattr(self, state.value) + 1)
        if state is State.IMPORTED:
            self.new_octets += octets


@dataclass(frozen=True)
class Failure:
    """A message that was not imported."""

    place: str
    reason: str


@dataclass
class Report:
    """The whole import into *mailbox*."""

    mailbox: str
    source: str
    folders: list[Counts] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def folder(self, name: str, target: str) -> Counts:
        """Begin a folder."""
        counts = Counts(name, target)
        self.folders.append(counts)
        return counts

    def fail(self, counts: Counts, place: str, reason: str) -> None:
        """Count a message that was not imported."""
        counts.messages += 1
        counts.failed += 1
        self.failures.append(Failure(place, reason))

    def total(self, name: str) -> int:
        """The sum of *name* over all folders."""
        return sum(getattr(one, name) for one in self.folders)

    def document(self) -> dict[str, Any]:
        """For scripts."""
        names = ("messages", "octets", "imported", "new_octets", *_REST)
        return {
            "mailbox": self.mailbox,
            "source": self.source,
            **{name: self.total(name) for name in names},
            "folders": [asdict(one) for one in self.folders],
            "failures": [asdict(one) for one in self.failures],
        }


_REST = ("known", "received", "elsewhere", "deleted", "failed")


def lines(report: Report, new: str) -> Iterable[str]:
    """A table for people; *new* heads the column of what is imported."""
    rows = [one for one in report.folders if one.messages]
    width = max([len(_names(one)) for one in rows] + [6])
    yield f"{'folder':<{width}}  messages        MB  {new:>9}  other"
    for one in rows:
        yield _line(_names(one), one, width)
    if len(rows) != 1:
        whole = Counts("total", "total")
        for name in ("messages", "octets", "imported", *_REST):
            setattr(whole, name, report.total(name))
        yield _line("total", whole, width)


def _names(one: Counts) -> str:
    return printable(one.name if one.name == one.target else f"{one.name} → {one.target}")


def printable(text: str) -> str:
    """*text*, which another server or a file chose, without what a terminal would obey."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def _line(name: str, one: Counts, width: int) -> str:
    rest = ", ".join(f"{getattr(one, word):,} {_WORDS[word]}" for word in _REST if getattr(one, word))
    return (
        f"{name:<{width}}  {one.messages:>8,}  {one.octets / 1e6:>8,.1f}  {one.imported:>9,}  {rest}".rstrip()
    )


_WORDS = {
    "known": "there before",
    "received": "received by SES",
    "elsewhere": "in another folder",
    "deleted": "deleted there",
    "failed": "failed",
}
