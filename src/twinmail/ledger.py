"""The ledger: what was delivered to which mailbox, and which manifest entries are finished.

SQLite for look-ups, with a journal beside each Maildir as its durable twin. Order of writes: journal, then
SQLite; SQLite remembers how much of each journal it holds. So whichever is lost, the other rebuilds it:

- SQLite lost or damaged: every journal is read again.
- SQLite behind (a crash between the two): only the tail of the journal is read.
- A journal lost or cut short: it is written again from SQLite.

Only what both lost is unknown. The Maildirs are then searched (see ``twinmail.sync.recovery``), so that
nothing arrives twice; but a message that its user had deleted comes back.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from twinmail.durable_file import NotWritten
from twinmail.errors import TransientError
from twinmail.journal import NAME as JOURNAL
from twinmail.journal import Journal, Record
from twinmail.ledger_file import FILE, is_damage, opened
from twinmail.maildir import stem

_BATCH = 500


@dataclass(frozen=True)
class Waiting:
    """A message of *octets*, of the manifest entry *key*, that waits for room in *mailbox*."""

    key: str
    mailbox: str
    octets: int


@dataclass(frozen=True)
class Delivery:
    """A delivery to *mailbox*; *finishes* is the manifest key that it was the last delivery of, if it was."""

    mailbox: str
    record: Record
    finishes: str | None = None


@dataclass(frozen=True)
class Delivered:
    """A delivery of one message to the *folder* of *mailbox*.

    Attributes:
        at: seconds since the epoch; None if it is known from the journal or the Maildir alone.
    """

    mailbox: str
    folder: str
    name: str
    at: float | None


class LedgerClosed(NotWritten):
    """The process is ending; what was not recorded is at the next start."""


class VolumeMissing(TransientError):
    """The ledger knows deliveries, but none of their mailboxes is there."""


def _nothing(_: str) -> None:
    """The checkpoint of production."""


class Ledger:
    """The ledger in the folder *state*, with the journals under *mail*; safe to use from several threads.

    What was found damaged and repaired is told to *say*, one sentence each.

    Raises:
        NotWritten: from every method, when the disk does not take or give the data; transient.
        LedgerNewer: the file has a newer schema.
        VolumeMissing: the mail volume is most likely not mounted.
    """

    def __init__(self, state: Path, mail: Path, say: Callable[[str], None] = lambda _: None) -> None:
        self.path = state / FILE
        self.mail = mail
        self._say = say
        self._lock = threading.RLock()
        self._damaged = self._closed = False
        with self._errors():
            self._connection = opened(self.path, self._say)
        try:
            self._reconcile()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file; pending writes end first."""
        with self._lock:
            self._closed = True
            self._connection.close()

    # What was delivered

    def mailboxes(self, name: str) -> frozenset[str]:
        """The mailboxes that got the message with the base name (or stem) *name*."""
        rows = self._rows("SELECT mailbox FROM delivery WHERE stem = ?", (stem(name),))
        return frozenset(mailbox for (mailbox,) in rows)

    def delivered_of(self, stems: Iterable[str]) -> dict[str, frozenset[str]]:
        """The mailboxes that got each of the messages *stems*; those that nobody got are left out."""
        found: dict[str, frozenset[str]] = {}
        query = "SELECT stem, mailbox FROM delivery WHERE stem IN (SELECT value FROM json_each(?))"
        for name, mailbox in self._rows(query, (json.dumps(list(stems)),)):
            found[name] = found.get(name, frozenset()) | {mailbox}
        return found

    def folders(self, mailbox: str, names: Iterable[str]) -> dict[str, str]:
        """Where those of the messages *names* (stems) that *mailbox* got were delivered to, by stem."""
        query = (
            "SELECT stem, folder FROM delivery WHERE mailbox = ? AND stem IN (SELECT value FROM json_each(?))"
        )
        return dict(self._rows(query, (mailbox, json.dumps(list(names)))))

    def deliveries(self, derived: str) -> list[Delivered]:
        """Where the message went whose stem has *derived* in its middle (see `twinmail.basename`)."""
        # By the end of the stem, so all are looked at: this is for a person who asks about one message.
        query = (
            "SELECT mailbox, folder, name, at FROM delivery LEFT JOIN delivered USING(mailbox, stem) "
            "WHERE stem LIKE ? ORDER BY mailbox"
        )
        return [Delivered(*row) for row in self._rows(query, (f"%.{derived}.%",))]

    def entries(self, ses_id: str) -> dict[str, str | None]:
        """The settled manifest entries of *ses_id* by key; the reason if one is put aside."""
        # GLOB, as "_" is a letter of ids.
        return dict(self._rows("SELECT key, parked FROM entry WHERE key GLOB ?", (f"*Z-{ses_id}.json",)))

    def delivered_since(self, mailbox: str, moment: str, folder: str) -> frozenset[str]:
        """Stems of what arrived after *moment* (seconds since the epoch) and went to *folder*."""
        query = "SELECT stem FROM delivery WHERE mailbox = ? AND stem > ? AND folder = ?"
        return frozenset(one for (one,) in self._rows(query, (mailbox, moment, folder)))

    def known_mailboxes(self) -> list[str]:
        """The mailboxes that got anything, in order."""
        return [mailbox for (mailbox,) in self._rows("SELECT mailbox FROM journal ORDER BY mailbox")]

    def stems(self, mailbox: str, after: str) -> list[str]:
        """The next stems after *after* that *mailbox* got, in order; empty at the end."""
        query = "SELECT stem FROM delivery WHERE mailbox = ? AND stem > ? ORDER BY stem LIMIT 5000"
        return [one for (one,) in self._rows(query, (mailbox, after))]

    def count(self) -> int:
        """How many deliveries are known."""
        return int(self._rows("SELECT count(*) FROM delivery")[0][0])

    def record(
        self,
        mailbox: str,
        record: Record,
        finishes: str | None = None,
        checkpoint: Callable[[str], None] = _nothing,
    ) -> None:
        """Remember a delivery durably; *finishes* is the manifest key that this was the last delivery of."""
        self.record_all([Delivery(mailbox, record, finishes)], checkpoint)

    def record_all(
        self, deliveries: Sequence[Delivery], checkpoint: Callable[[str], None] = _nothing
    ) -> None:
        """Remember *deliveries* durably, all of them at once."""
        of: dict[str, list[Record]] = {}
        for one in deliveries:
            of.setdefault(one.mailbox, []).append(one.record)
        with self._transaction() as connection:
            octets = {mailbox: self._journal(mailbox).append(*records) for mailbox, records in of.items()}
            checkpoint("journaled")
            now = time.time()
            for mailbox, records in of.items():
                self._insert(connection, mailbox, records, octets[mailbox])
            connection.executemany(
                "INSERT OR IGNORE INTO delivered VALUES(?, ?, ?)",
                [(one.mailbox, stem(one.record.name), now) for one in deliveries],
            )
            self._finish(connection, [one.finishes for one in deliveries if one.finishes is not None])

    def adopt(self, mailbox: str, found: Mapping[str, Record]) -> int:
        """Remember those of *found* (by stem) that are not known, and count them."""
        with self._transaction() as connection:
            known = {
                one
                for (one,) in connection.execute("SELECT stem FROM delivery WHERE mailbox = ?", (mailbox,))
            }
            missing = [record for name, record in sorted(found.items()) if name not in known]
            if missing:
                self._insert(connection, mailbox, missing, 0)
                self._write_journal(connection, mailbox)
        return len(missing)

    def forget(self, lost: Mapping[str, Iterable[str]], keys: Iterable[str]) -> None:
        """Forget that the messages *lost* (stems, by mailbox) were delivered, and that *keys* are done."""
        with self._transaction() as connection:
            for mailbox, stems in lost.items():
                rows = [(mailbox, one) for one in stems]
                for table in ("delivery", "delivered"):
                    connection.executemany(f"DELETE FROM {table} WHERE mailbox = ? AND stem = ?", rows)
                self._write_journal(connection, mailbox)
            connection.executemany("DELETE FROM entry WHERE key = ?", [(one,) for one in keys])

    # Manifest entries

    def finish(self, key: str) -> None:
        """Remember that the entry *key* needs nothing any more."""
        with self._transaction() as connection:
            self._finish(connection, [key])

    def park(self, key: str, reason: str) -> None:
        """Put the entry *key* aside: trying again cannot help until something changes."""
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO entry VALUES(?, ?)", (key, reason))

    def parked(self) -> dict[str, str]:
        """Reason by key."""
        return dict(self._rows("SELECT key, parked FROM entry WHERE parked IS NOT NULL ORDER BY key"))

    def wait(self, key: str, octets: int, mailboxes: Iterable[str]) -> None:
        """Remember that *mailboxes*, and no others, have no room for the message of the entry *key*."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM waiting WHERE key = ?", (key,))
            connection.executemany(
                "INSERT INTO waiting VALUES(?, ?, ?)", [(key, one, octets) for one in sorted(set(mailboxes))]
            )

    def waiting(self) -> list[Waiting]:
        """What waits for room, the oldest first."""
        return [Waiting(*row) for row in self._rows("SELECT key, mailbox, octets FROM waiting ORDER BY key")]

    def finished(self, key: str) -> bool:
        """Whether the entry *key* needs nothing any more."""
        return bool(self._rows("SELECT 1 FROM entry WHERE key = ? AND parked IS NULL", (key,)))

    def settled(self, keys: Iterable[str]) -> frozenset[str]:
        """Those of *keys* that are finished, parked or waiting for room."""
        wanted = list(keys)
        found: set[str] = set()
        for start in range(0, len(wanted), _BATCH):
            part = wanted[start : start + _BATCH]
            places = ",".join("?" * len(part))
            for table in ("entry", "waiting"):
                rows = self._rows(f"SELECT key FROM {table} WHERE key IN ({places})", part)
                found.update(key for (key,) in rows)
        return frozenset(found)

    def settled_after(self, offset: str) -> int:
        """How many keys after *offset* are finished, parked or waiting for room."""
        both = "SELECT key FROM entry WHERE key > ? UNION SELECT key FROM waiting WHERE key > ?"
        return int(self._rows(f"SELECT count(*) FROM ({both})", (offset, offset))[0][0])

    @property
    def cursor(self) -> str | None:
        """The last manifest key of a listing before which nothing is unfinished."""
        rows = self._rows("SELECT value FROM state WHERE name = 'cursor'")
        return rows[0][0] if rows else None

    def move_cursor(self, key: str) -> None:
        """Set the cursor."""
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO state VALUES('cursor', ?)", (key,))

    # Repair

    def _reconcile(self) -> None:
        """Make SQLite and the journals say the same."""
        known = dict(self._rows("SELECT mailbox, octets FROM journal"))
        there = {path.parent.name for path in self.mail.glob(f"*/{JOURNAL}")}
        if known and not any((self.mail / mailbox).is_dir() for mailbox in known):
            raise VolumeMissing(
                f"{self.mail}: none of the {len(known)} mailboxes that got mail is here; mount the volume, "
                f"or remove {self.path.parent}/{FILE}* to restore all mail from the log"
            )
        for mailbox in sorted(there | set(known)):
            journal, octets = self._journal(mailbox), known.get(mailbox, 0)
            if journal.octets() < octets:
                self._rewrite(mailbox, journal)
            elif journal.octets() > octets:
                self._replay(mailbox, journal, octets)

    def _replay(self, mailbox: str, journal: Journal, octets: int) -> None:
        count = damaged = 0
        with self._transaction() as connection:
            for line in journal.lines(octets):
                if line.record is None:
                    damaged += 1
                else:
                    self._insert(connection, mailbox, [line.record], line.end)
                    count += 1
        if damaged and octets:
            # The place to go on from may itself be wrong.
            self._replay(mailbox, journal, 0)
            return
        self._say(f"{journal.path}: {count} deliveries taken into the ledger")
        if damaged:
            self._say(f"{journal.path}: {damaged} damaged lines left out; their messages may come back")
            self._rewrite(mailbox, journal)

    def _rewrite(self, mailbox: str, journal: Journal) -> None:
        if not journal.path.parent.is_dir():
            self._say(f"{journal.path.parent}: the mailbox is gone, with what was delivered to it")
            return
        got = journal.octets()
        with self._transaction() as connection:
            octets = self._write_journal(connection, mailbox)
        self._say(f"{journal.path}: had {got} octets; written again from the ledger with {octets}")

    def _write_journal(self, connection: sqlite3.Connection, mailbox: str) -> int:
        rows = connection.execute("SELECT folder, name FROM delivery WHERE mailbox = ?", (mailbox,))
        octets = self._journal(mailbox).rewrite(Record(folder, name) for folder, name in rows)
        connection.execute("INSERT OR REPLACE INTO journal VALUES(?, ?)", (mailbox, octets))
        return octets

    def _journal(self, mailbox: str) -> Journal:
        return Journal(self.mail / mailbox / JOURNAL)

    @staticmethod
    def _finish(connection: sqlite3.Connection, keys: Iterable[str]) -> None:
        rows = [(one,) for one in keys]
        connection.executemany("INSERT OR REPLACE INTO entry VALUES(?, NULL)", rows)
        connection.executemany("DELETE FROM waiting WHERE key = ?", rows)

    @staticmethod
    def _insert(connection: sqlite3.Connection, mailbox: str, records: Iterable[Record], octets: int) -> None:
        connection.executemany(
            "INSERT OR IGNORE INTO delivery VALUES(?, ?, ?, ?)",
            [(mailbox, stem(one.name), one.folder, one.name) for one in records],
        )
        connection.execute("INSERT OR REPLACE INTO journal VALUES(?, ?)", (mailbox, octets))

    def _rows(self, query: str, values: Iterable[str] = ()) -> list[tuple]:  # type: ignore[type-arg]
        with self._transaction() as connection:
            return connection.execute(query, tuple(values)).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._errors():
            if self._closed:
                raise LedgerClosed(f"{self.path}: closed, since the service ends")
            if self._damaged:
                self._connection.close()
                self._connection = opened(self.path, self._say)
                self._damaged = False
                self._reconcile()
            with self._connection as connection:
                yield connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            damaged = is_damage(error)
            if not damaged and not isinstance(error, sqlite3.OperationalError):
                raise
            self._damaged = self._damaged or damaged
            raise NotWritten(f"{self.path}: {error}; free space or mend its mode") from error
        except OSError as error:
            raise NotWritten(f"{self.path}: {error.strerror}; free space or mend its mode") from error
