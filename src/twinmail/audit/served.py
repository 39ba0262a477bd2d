"""What a server's ledger and Maildirs know, beside what the log says: tables on disk.

A server tells what it knows while mail goes on, and files move while they are listed. So what differs is only
a suspicion; the server is asked a second time, and only what differs in the same way then is a finding.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from twinmail.audit.finding import Finding, Kind
from twinmail.basename import derived as derived_part
from twinmail.delivery_lines import Aside, Filed, Line, LinesCut, Recorded, decode, derived_of
from twinmail.layout import LayoutError, ManifestKey

WANTED = "wanted"
"""The table of `Wanted`."""

_BATCH = 5000
_REMEMBERED = 100_000
"""Suspects that are held in memory; of more, the server is heard as a whole again."""

# What a row says. Each is counted in bits of its own, so that one sum tells how often all of them were said.
_WANTED, _RECORDED, _WAITS, _CHANGED, _FILED = (1 << (10 * place) for place in range(5))
_MOST = (1 << 10) - 1

_GROUPED = (
    "SELECT derived, mailbox, max(number) AS number, sum(part) AS parts, group_concat(folder) AS folders, "
    "max(note) AS note, coalesce(min(sha256) != max(sha256), 0) AS other "
    "FROM {table} GROUP BY derived, mailbox"
)
_FILES = f"(parts / {_FILED})"
# Without a row of the ledger it was not delivered, or the ledger forgot it. A row without a file is normal.
_DIFFERS = (
    f"parts & {_MOST} AND (other OR {_FILES} > 1 OR parts & {_MOST * _CHANGED} "
    f"OR NOT parts & {_MOST * _RECORDED})"
)

_Row = tuple[str, str, int, int | None, int | None, str | None, str | None]


class Wanted(NamedTuple):
    """*mailbox* should get a message: by what is made of its id, and its number in the tally.

    Attributes:
        sha256: of the message; None if nobody told it.
    """

    derived: str
    mailbox: str
    number: int
    sha256: str | None = None


class Suspect(NamedTuple):
    """What may differ about one message in one mailbox, as a row of the table tells it."""

    derived: str
    mailbox: str
    number: int
    parts: int
    folders: str | None
    note: str | None
    other: int

    def times(self, part: int) -> int:
        """How often *part* was said."""
        return self.parts // part & _MOST

    @property
    def twice(self) -> bool:
        """Whether two files are in one folder; those of copies that a user made are in several."""
        folders = (self.folders or "").split(",")
        return len(folders) > len(set(folders))


@dataclass
class Figures:
    """What is no discrepancy, of one server.

    Attributes:
        recorded: deliveries in the ledger.
        absent: deliveries without a file: deleted by their users, most likely.
        own: what the ledger knows and the log does not: copies of what users sent, and notices.
    """

    recorded: int = 0
    absent: int = 0
    own: int = 0


@dataclass
class Served:
    """The tables about *server* in the file of *database*, which the tally has open.

    Attributes:
        aside: why the server put an entry aside, by what is made of the message's id.
    """

    database: sqlite3.Connection
    server: str
    number: int
    figures: Figures = field(default_factory=Figures)
    aside: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._table = f"served_{self.number}"
        self._suspects: set[str] | None = None
        self._create()

    def take(self, stream: Iterable[bytes]) -> None:
        """Take in what the server says (`twinmail.delivery_lines`).

        Raises:
            LinesCut, Unreachable: it does not say all of it.
        """
        self.aside.clear()
        try:
            fill(self.database, self._table, self._rows(decode(stream, self._suspects)))
        except IndexError as error:
            raise LinesCut("deliveries: a message with a name that is none of ours") from error

    def _rows(self, lines: Iterable[Line]) -> Iterator[_Row]:
        for one in lines:
            if isinstance(one, Recorded):
                yield derived_of(one.stem), one.mailbox, _RECORDED, None, None, None, None
            elif isinstance(one, Filed):
                part, note = _FILED, None
                if one.octets != one.named:
                    part |= _CHANGED
                    note = f"{one.stem}: {one.octets} octets, expected {one.named}"
                elif one.sha256:
                    # The name is needed should the digest be another one.
                    note = f"{one.stem}: sha256 {one.sha256}"
                yield derived_of(one.stem), one.mailbox, part, None, one.folder, note, one.sha256 or None
            elif (derived := _derived(one.key)) is None:
                continue
            elif isinstance(one, Aside):
                self.aside[derived] = one.reason
            else:
                yield derived, one.mailbox, _WAITS, None, None, None, None

    def _differing(self) -> Iterator[Suspect]:
        found = self.database.execute(
            f"SELECT * FROM ({_GROUPED.format(table=self._table)}) WHERE {_DIFFERS} ORDER BY number, mailbox"
        )
        for row in found:
            yield Suspect(*row)

    def suspect(self) -> bool:
        """Whether anything differs from the table `WANTED`; if so, `take` again, and then ask `confirmed`."""
        self.database.execute(
            f"INSERT INTO {self._table} "
            f"SELECT derived, mailbox, {_WANTED}, number, NULL, NULL, sha256 FROM {WANTED}"
        )
        grouped = f"grouped_{self.number}"
        self.database.execute(
            f"CREATE TABLE {grouped} AS SELECT * FROM ({_GROUPED.format(table=self._table)}) "
            f"WHERE NOT parts & {_MOST} OR {_FILES} != 1 OR {_DIFFERS}"
        )
        absent = f"parts & {_MOST * _RECORDED} AND NOT {_FILES}"
        own = f"parts & {_MOST * _RECORDED} AND NOT parts & {_MOST}"
        self.figures.absent, self.figures.own = self.database.execute(
            f"SELECT coalesce(sum({absent}), 0), coalesce(sum({own}), 0) FROM {grouped}"
        ).fetchone()
        (self.figures.recorded,) = self.database.execute(
            f"SELECT coalesce(sum(part = {_RECORDED}), 0) FROM {self._table}"
        ).fetchone()
        self.database.execute(f"DELETE FROM {grouped} WHERE NOT ({_DIFFERS})")
        self.database.execute(f"CREATE TABLE first_{self.number} (derived TEXT, mailbox TEXT, kind TEXT)")
        rows = (
            (one.derived, one.mailbox, kind.value)
            for one in map(Suspect._make, self.database.execute(f"SELECT * FROM {grouped}"))
            for kind in self._kinds(one)
        )
        count = fill(self.database, f"first_{self.number}", rows)
        self.database.execute(
            f"CREATE INDEX of_{self.number} ON first_{self.number} (derived, mailbox, kind)"
        )
        if count:
            self._forget(grouped, count)
        return bool(count)

    def _forget(self, grouped: str, count: int) -> None:
        """Forget what the server said, and all that nobody suspects."""
        if count <= _REMEMBERED:
            suspects = self.database.execute(f"SELECT DISTINCT derived FROM first_{self.number}")
            self._suspects = {derived for (derived,) in suspects}
        self.database.execute(f"DROP TABLE {self._table}")
        self._create()
        self.database.execute(
            f"INSERT INTO {self._table} SELECT derived, mailbox, {_WANTED}, number, NULL, NULL, sha256 "
            f"FROM {grouped} JOIN {WANTED} USING (derived, mailbox, number)"
        )

    def confirmed(self) -> Iterator[Finding]:
        """Findings: what differs now in the same way as when `suspect` was asked."""
        for one in self._differing():
            for kind in self._kinds(one):
                known = self.database.execute(
                    f"SELECT 1 FROM first_{self.number} WHERE derived = ? AND mailbox = ? AND kind = ?",
                    (one.derived, one.mailbox, kind.value),
                ).fetchone()
                if known:
                    yield self._finding(one, kind)

    def _kinds(self, one: Suspect) -> Sequence[Kind]:
        found = []
        if not one.times(_RECORDED):
            if one.times(_FILED):
                found.append(Kind.NOT_RECORDED)
            elif one.times(_WAITS):
                found.append(Kind.NO_ROOM)
            else:
                found.append(Kind.PUT_ASIDE if one.derived in self.aside else Kind.NOT_DELIVERED)
        if one.twice:
            found.append(Kind.TWICE)
        if one.times(_CHANGED) or one.other:
            found.append(Kind.CHANGED)
        return found

    def _finding(self, one: Suspect, kind: Kind) -> Finding:
        ses_id, key = self.database.execute(
            "SELECT ses_id, key FROM known WHERE rowid = ?", (one.number,)
        ).fetchone()
        detail = key
        if kind is Kind.PUT_ASIDE:
            detail = f"{key}: {self.aside[one.derived]}"
        elif kind is Kind.CHANGED:
            detail = f"{key}: {one.note}" + (", which is not that of the log" if one.other else "")
        return Finding(ses_id, kind, detail, self.server, one.mailbox)

    def _create(self) -> None:
        self.database.execute(
            f"CREATE TABLE {self._table} (derived TEXT, mailbox TEXT, part INTEGER, number INTEGER, "
            "folder INTEGER, note TEXT, sha256 TEXT)"
        )


def want(database: sqlite3.Connection, rows: Iterable[Wanted]) -> None:
    """Make the table `WANTED` of what the log says."""
    database.execute(f"CREATE TABLE {WANTED} (derived TEXT, mailbox TEXT, number INTEGER, sha256 TEXT)")
    fill(database, WANTED, rows)


def fill(database: sqlite3.Connection, table: str, rows: Iterable[Sequence[object]]) -> int:
    """Add *rows* to *table*, as they come, and count them."""
    waiting, count = iter(rows), 0
    while batch := list(islice(waiting, _BATCH)):
        database.execute("BEGIN")
        database.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(batch[0]))})", batch)
        database.execute("COMMIT")
        count += len(batch)
    return count


def _derived(key: str) -> str | None:
    try:
        return derived_part(ManifestKey.parse(key).ses_id)
    except LayoutError:
        return None
