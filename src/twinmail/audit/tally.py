"""Which parts of the system know which message: a table on disk, so that memory does not grow with them.

The parts list their messages in orders of their own (by id, by day, by time of commit, by mailbox), so they
cannot be merged as they come. SQLite sorts them in a temporary file, once.
"""

import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntFlag
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from twinmail import layout


class Part(IntFlag):
    """Who knows a message."""

    STORED = 1  # incoming/
    PROCESSED = 2  # processed/ or quarantine/
    LOGGED = 4  # manifest/
    CLAIMED = 8
    INDEXED = 16


class Mark(NamedTuple):
    """One part knows one message; a tuple, because there are millions, and each is a row as it is.

    Attributes:
        key: of its manifest entry, where the part tells it.
        mailbox: that it belongs to, where the part tells it.
        sha256: of the message, where the part tells it.
    """

    ses_id: str
    part: Part
    key: str = ""
    mailbox: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Known:
    """A message, and who knows it.

    Attributes:
        key: of a manifest entry of it, or empty.
        entries: how many it has.
    """

    ses_id: str
    parts: Part
    key: str
    entries: int


class Belonging(NamedTuple):
    """Message *number* of the tally, and where it belongs."""

    number: int
    ses_id: str
    mailboxes: frozenset[str]
    sha256: str | None


_BATCH = 5000
_GATHER = (
    "CREATE TABLE known AS SELECT ses_id, max(part & 1) | max(part & 2) | max(part & 4) | max(part & 8) | "
    "max(part & 16) AS parts, max(key) AS key, count(DISTINCT nullif(key, '')) AS entries, "
    "group_concat(mailbox, ' ') AS mailboxes, max(sha256) AS sha256 "
    "FROM marks GROUP BY ses_id"
)


class Tally:
    """The table, while its block runs.

    Attributes:
        count: messages that anybody knows, after `gather`.
        database: where the tables are, for who has more of them.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.count = 0
        self._folder = tempfile.TemporaryDirectory(prefix="twinmail-audit-", dir=folder)

    def __enter__(self) -> "Tally":
        self.database = self._database = sqlite3.connect(
            Path(self._folder.name) / "tally.sqlite", isolation_level=None
        )
        # It is thrown away: nothing needs to survive a crash.
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -65536", "temp_store = FILE"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.execute(
            "CREATE TABLE marks (ses_id TEXT, part INTEGER, key TEXT, mailbox TEXT, sha256 TEXT)"
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()
        self._folder.cleanup()

    def add(self, marks: Iterable[Mark]) -> int:
        """Take in *marks*, as they come; return how many there were."""
        count, waiting = 0, iter(marks)
        while batch := list(islice(waiting, _BATCH)):
            self._database.execute("BEGIN")
            self._database.executemany("INSERT INTO marks VALUES (?, ?, ?, ?, ?)", batch)
            self._database.execute("COMMIT")
            count += len(batch)
        return count

    def gather(self) -> int:
        """Sort the marks by message, when all are there; return how many messages they are about."""
        self._database.execute(_GATHER)
        self._database.execute("DROP TABLE marks")
        (self.count,) = self._database.execute("SELECT count(*) FROM known").fetchone()
        return self.count

    def differing(self, whole: bool = True) -> Iterator[Known]:
        """Messages that some part should know and does not, or that have several entries, ordered by id.

        SES need not have stored one: imported messages and notices are written here. *whole* is whether the
        marks are of all times; else what neither SES nor the log tells of may be older than they are.
        """
        log = int(Part.PROCESSED | Part.LOGGED | Part.CLAIMED | Part.INDEXED)
        told = int(Part.STORED | Part.LOGGED)
        found = self._database.execute(
            "SELECT ses_id, parts, key, entries FROM known WHERE (parts & ? != ? OR entries > 1) "
            "AND (? OR parts & ?) ORDER BY ses_id",
            (log, log, whole, told),
        )
        for ses_id, parts, key, entries in found:
            yield Known(ses_id, Part(parts), key, entries)

    def belonging(self, until: datetime) -> Iterator[Belonging]:
        """Messages with an entry that was committed by then, and the mailboxes that they belong to."""
        last = f"{layout.MANIFEST}{until.astimezone(UTC):%Y/%m/%d/%H%M%S.%f}Z"
        found = self._database.execute(
            "SELECT rowid, ses_id, mailboxes, sha256 FROM known "
            "WHERE key != '' AND key <= ? AND mailboxes IS NOT NULL",
            (last,),
        )
        for number, ses_id, mailboxes, sha256 in found:
            yield Belonging(number, ses_id, frozenset(mailboxes.split(" ")), sha256)
