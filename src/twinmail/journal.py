"""The journal of one mailbox: an append-only list of what was delivered to it, beside its Maildir.

It is the durable twin of the ledger. A Maildir cannot tell a message that its user deleted from one that
never arrived; the journal can, so a ledger that is lost is rebuilt from it.

One line a delivery: ``<crc32 of the rest> TAB <base name> TAB <folder> LF``.
"""

import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from twinmail.durable_file import NotWritten, sync_folder

NAME = "delivered.journal"


@dataclass(frozen=True)
class Record:
    """One delivery: the *folder* of the mailbox and the base *name* in it."""

    folder: str
    name: str

    def to_bytes(self) -> bytes:
        """Encode as one line."""
        rest = f"{self.name}\t{self.folder}".encode()
        return b"%08x\t%s\n" % (zlib.crc32(rest), rest)

    @classmethod
    def from_bytes(cls, line: bytes) -> "Record | None":
        """Decode one line; None if it is damaged."""
        checksum, _, rest = line.rstrip(b"\n").partition(b"\t")
        if checksum != b"%08x" % zlib.crc32(rest) or not line.endswith(b"\n"):
            return None
        try:
            name, _, folder = rest.decode().partition("\t")
        except UnicodeDecodeError:
            return None
        return cls(folder, name)


@dataclass(frozen=True)
class Line:
    """What the journal holds up to octet *end*: a record, or None where it is damaged."""

    record: Record | None
    end: int


class Journal:
    """The journal at *path*; one writer at a time.

    Raises:
        NotWritten: from every method, when the disk does not take or give the data; transient.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def octets(self) -> int:
        """Size of the file; 0 if there is none."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise self._failure("read", error) from error

    def append(self, *records: Record) -> int:
        """Add *records* durably and return the octets of the journal then."""
        line = b"".join(one.to_bytes() for one in records)
        try:
            new = not self.path.exists()
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                before = os.fstat(descriptor).st_size
                # A torn last line (power cut) must not take these records with it.
                if before and os.pread(descriptor, 1, before - 1) != b"\n":
                    line = b"\n" + line
                try:
                    self._write(descriptor, line)
                    os.fsync(descriptor)
                except OSError:
                    with suppress(OSError):
                        os.ftruncate(descriptor, before)
                    raise
            finally:
                os.close(descriptor)
            if new:
                sync_folder(self.path.parent)
        except OSError as error:
            raise self._failure("written", error) from error
        return before + len(line)

    @staticmethod
    def _write(descriptor: int, data: bytes) -> None:
        while data:
            data = data[os.write(descriptor, data) :]

    def lines(self, start: int) -> Iterator[Line]:
        """Read from octet *start*, which must be the end of a line."""
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                end = start
                for line in file:
                    end += len(line)
                    if line != b"\n":
                        yield Line(Record.from_bytes(line), end)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._failure("read", error) from error

    def rewrite(self, records: Iterable[Record]) -> int:
        """Replace the journal by *records* and return its octets; readers see the old or the new one."""
        temporary = None
        octets = 0
        try:
            descriptor, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=f".{NAME}.")
            with os.fdopen(descriptor, "wb") as file:
                for record in records:
                    octets += file.write(record.to_bytes())
                file.flush()
                # Contents before the name, as everywhere.
                os.fsync(file.fileno())
            Path(temporary).replace(self.path)
            temporary = None
            sync_folder(self.path.parent)
        except OSError as error:
            raise self._failure("written", error) from error
        finally:
            if temporary is not None:
                with suppress(OSError):
                    Path(temporary).unlink()
        return octets

    def _failure(self, verb: str, error: OSError) -> NotWritten:
        return NotWritten(f"{self.path}: cannot be {verb}: {error.strerror}; free space or mend its mode")
