"""Which entries make which pack. Pure.

An entry whose day is over waits until, with those after it, it fills a pack. So a small site folds weeks into
one object, a large day makes several, and an entry that came into the log late goes with the next pack,
whatever its day: readers take what is listed and what is packed together, so nobody misses what still waits.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from twinmail.layout import ManifestKey

LEAST = 8 << 20
"""Octets of a pack, when enough waits: the request for it is then shared by many messages."""

MOST = 64 << 20
"""Octets of a pack, unless a single message has more."""

ENTRIES = 16384
"""Entries of a pack: an index of them stays below `LEAST`, and is read in some tens of MB of memory."""


@dataclass(frozen=True)
class Candidate:
    """An entry that is in no pack.

    Attributes:
        key: of the manifest entry.
        octets: the entry.
        written: the day on which it came into the log, which may be later than the one in its key.
        message: key of its message.
        size, sha256: of the message, as the entry says.
    """

    key: str
    octets: bytes
    written: date
    message: str
    size: int
    sha256: str

    @property
    def day(self) -> date:
        """The day in its key, UTC."""
        return ManifestKey.parse(self.key).committed.date()


@dataclass(frozen=True)
class Planned:
    """Entries for one pack, in the order of their keys.

    Attributes:
        due: whether the pack is to be written now; only the last one planned may not be.
        octets: of the pack.
    """

    entries: tuple[Candidate, ...]
    due: bool
    octets: int


class _Run:
    """The pack that grows."""

    def __init__(self) -> None:
        self.entries: list[Candidate] = []
        self.octets = 0
        self._messages: set[str] = set()

    def cost(self, one: Candidate) -> int:
        """Octets that *one* would add; a message that two entries name is there once."""
        return len(one.octets) + (0 if one.message in self._messages else one.size)

    def add(self, one: Candidate) -> None:
        self.octets += self.cost(one)
        self.entries.append(one)
        self._messages.add(one.message)

    def planned(self, due: bool) -> Planned:
        return Planned(tuple(self.entries), due, self.octets)


def plan(waiting: Iterable[Candidate], today: date, wait_days: int) -> Iterator[Planned]:
    """Packs of those of *waiting* (in the order of their keys) whose day is over, taken as they are needed.

    What does not fill a pack comes last: it is due when an entry in it was written *wait_days* ago.
    """
    run = _Run()
    for one in waiting:
        if one.day >= today:
            break
        if run.entries and one.day != run.entries[-1].day and run.octets >= LEAST:
            # Enough whole days.
            yield run.planned(due=True)
            run = _Run()
        if run.octets + run.cost(one) > MOST or len(run.entries) == ENTRIES:
            if run.octets >= LEAST or len(run.entries) == ENTRIES:
                yield run.planned(due=True)
                run = _Run()
            else:
                # Large enough by itself, and what ran so far is not: that waits for others.
                alone = _Run()
                alone.add(one)
                yield alone.planned(due=True)
                continue
        run.add(one)
    if run.entries:
        oldest = min(one.written for one in run.entries)
        due = run.octets >= LEAST or today - oldest >= timedelta(days=wait_days)
        yield run.planned(due)
