"""The SQLite file of the ledger: its tables, and opening it whatever state it is in."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

from twinmail.errors import PermanentError

FILE = "ledger.sqlite"
SCHEMA = 1

_TABLES = """
CREATE TABLE delivery(
    mailbox TEXT NOT NULL, stem TEXT NOT NULL, folder TEXT NOT NULL, name TEXT NOT NULL,
    PRIMARY KEY(mailbox, stem)) WITHOUT ROWID;
CREATE INDEX delivery_by_stem ON delivery(stem);
CREATE TABLE entry(key TEXT PRIMARY KEY, parked TEXT) WITHOUT ROWID;
CREATE TABLE journal(mailbox TEXT PRIMARY KEY, octets INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE state(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
# Newer than the first ledgers, and of no concern to a version that does not know them. When a message was
# delivered is for people alone: it is not in the journal, and lost with this file.
_NEWER = """
CREATE TABLE IF NOT EXISTS waiting(
    key TEXT NOT NULL, mailbox TEXT NOT NULL, octets INTEGER NOT NULL, PRIMARY KEY(key, mailbox))
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS delivered(
    mailbox TEXT NOT NULL, stem TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY(mailbox, stem)) WITHOUT ROWID;
"""
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class LedgerNewer(PermanentError):
    """The ledger was written by a newer version."""


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether *error* says that the file is damaged, and not that it cannot be read or written now."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE


def opened(path: Path, say: Callable[[str], None]) -> sqlite3.Connection:
    """The ledger at *path*, new if there is none; a damaged one is put aside, and that is told to *say*.

    Raises:
        LedgerNewer: the file has a newer schema.
        sqlite3.DatabaseError, OSError: it cannot be read or written.
    """
    try:
        return _connected(path)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        reason = str(error)
    for suffix in ("", "-wal", "-shm"):
        damaged = path.with_name(FILE + suffix)
        if damaged.exists():
            damaged.replace(damaged.with_name(f"{FILE}.damaged{suffix}"))
    say(f"{path}: damaged ({reason}); kept as {FILE}.damaged, rebuilt from the journals")
    return _connected(path)


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=10, check_same_thread=False)
    try:
        # FULL: a commit is on the disk when it returns, which is what acknowledging relies on.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA:
            raise LedgerNewer(f"{path}: expected schema {SCHEMA}, got {version}; run a newer twinmail")
        (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            error = sqlite3.DatabaseError(verdict)
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error
        if version == 0:
            connection.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {SCHEMA}; COMMIT;")
        connection.executescript(_NEWER)
        path.chmod(0o600)
    except BaseException:
        connection.close()
        raise
    return connection
