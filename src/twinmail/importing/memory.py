"""What this machine remembers of older accounts, so that the next run need not fetch a message to know it.

Only that: the digest of each message by where it is there. Whether it was imported, the log alone says, so
this file may be lost, old, or of another bucket; then more is fetched, and nothing is imported twice.
"""

import sqlite3
from contextlib import suppress
from pathlib import Path

from twinmail.errors import TransientError

_TABLE = (
    "CREATE TABLE IF NOT EXISTS content(source TEXT, folder TEXT, mark TEXT, digest BLOB NOT NULL, "
    "PRIMARY KEY(source, folder, mark)) WITHOUT ROWID"
)
_SCHEMA = 1
_UNSAVED = 200


class MemoryUnwritable(TransientError):
    """The file cannot be made."""


class Memory:
    """The file at *path*, which need not exist.

    Raises:
        MemoryUnwritable: neither read nor made.
    """

    def __init__(self, path: Path) -> None:
        self._unsaved = 0
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                self._connection = _opened(path)
            except sqlite3.DatabaseError:
                # Damaged, or of another version: it only saves time.
                for suffix in ("", "-journal", "-wal", "-shm"):
                    with suppress(FileNotFoundError):
                        path.with_name(path.name + suffix).unlink()
                self._connection = _opened(path)
            path.chmod(0o600)
        except (OSError, sqlite3.Error) as error:
            raise MemoryUnwritable(f"{path}: {error}; free space or mend its mode") from error

    def content(self, source: str, folder: str, mark: str) -> bytes | None:
        """The digest of the message *mark* in *folder* of *source*; None if it was never fetched."""
        row = self._connection.execute(
            "SELECT digest FROM content WHERE source = ? AND folder = ? AND mark = ?", (source, folder, mark)
        ).fetchone()
        return bytes(row[0]) if row else None

    def remember(self, source: str, folder: str, mark: str, digest: bytes) -> None:
        """Keep the *digest* of a message."""
        self._connection.execute(
            "INSERT OR REPLACE INTO content VALUES(?, ?, ?, ?)", (source, folder, mark, digest)
        )
        self._unsaved += 1
        if self._unsaved >= _UNSAVED:
            self.save()

    def save(self) -> None:
        """Write what was remembered."""
        self._connection.commit()
        self._unsaved = 0

    def close(self) -> None:
        """Save and close."""
        with suppress(sqlite3.Error):
            self.save()
        self._connection.close()


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=10)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, _SCHEMA):
            raise sqlite3.DatabaseError(f"schema {version}")
        connection.execute(_TABLE)
        connection.execute(f"PRAGMA user_version = {_SCHEMA}")
        connection.commit()
    except BaseException:
        connection.close()
        raise
    return connection
