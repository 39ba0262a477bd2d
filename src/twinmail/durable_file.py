"""Files that are whole or absent, whatever happens while they are written."""

import ctypes
import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from twinmail.errors import TransientError


class NotWritten(TransientError):
    """A file could not be written; the old one, if any, is untouched."""


def write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace the file at *path* by one with *data*, the permissions *mode* and the old one's owner.

    Readers see the old file or the new one, and after a power cut one of the two is there.

    Raises:
        NotWritten: no space, no permission, no such folder.
    """
    temporary = None
    try:
        # Made with mode 0600 by mkstemp: a secret is never readable, not even while it is written.
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            with suppress(FileNotFoundError):
                # A service that could read the old file can read the new one from its first moment.
                old = path.stat()
                if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(file.fileno(), old.st_uid, old.st_gid)
            os.fchmod(file.fileno(), mode)
            file.flush()
            # Contents before the name: a crash must never leave the new name on an empty file.
            os.fsync(file.fileno())
        Path(temporary).replace(path)
        temporary = None
        sync_folder(path.parent)
    except OSError as error:
        raise NotWritten(
            f"{path}: cannot be written: {error.strerror}; free space or mend its mode"
        ) from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                Path(temporary).unlink()


class FileSystem:
    """The file system of *folder*, to make durable at once what is written there from now on.

    It stays open between, since a failure to write is told only to who had it open before.

    Raises:
        NotWritten: it cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise NotWritten(f"{folder}: cannot be opened: {error.strerror}; mount it") from error

    def flush(self) -> None:
        """Return when all of it is durable (syncfs(2)).

        Raises:
            NotWritten: something is not.
        """
        if ctypes.CDLL(None, use_errno=True).syncfs(self._descriptor) != 0:
            reason = os.strerror(ctypes.get_errno() or errno.EIO)
            raise NotWritten(f"{self._folder}: cannot be written: {reason}; check the disk")

    def close(self) -> None:
        """Let it go."""
        os.close(self._descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names in *folder* durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
