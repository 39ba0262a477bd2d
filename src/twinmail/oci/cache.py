"""The content-addressed cache of everything downloaded: ``<folder>/<sha256>``."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from twinmail.errors import TransientError

# Place of the cache below the state folder.
PLACE = Path("cache") / "sha256"


class ContentError(TransientError):
    """What arrived is not what was expected: truncated, or other bytes."""


@dataclass(frozen=True)
class Cache:
    """A folder of files named by their hex sha256; what is in it has been verified before it got there."""

    folder: Path

    def find(self, sha256: str, size: int) -> Path | None:
        """The file with this digest, or None; a file of another size (damaged disk, full disk) is dropped."""
        path = self.folder / sha256
        try:
            found = path.stat().st_size
        except FileNotFoundError:
            return None
        if found != size:
            path.unlink(missing_ok=True)
            return None
        return path

    @contextmanager
    def incoming(self, sha256: str, size: int) -> Iterator["Incoming"]:
        """Receive one file; it enters the cache at the end of the block if its size and digest are right.

        Raises:
            ContentError: they are not; nothing is left behind.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".incoming-", dir=self.folder)
        partial = Path(name)
        try:
            with os.fdopen(handle, "wb") as stream:
                file = Incoming(stream)
                yield file
            if file.size != size:
                raise ContentError(f"expected {size} octets, got {file.size}")
            if file.sha256 != sha256:
                raise ContentError(f"expected sha256:{sha256}, got sha256:{file.sha256}")
            partial.chmod(0o644)
            # No fsync: a crash can only leave a file of another size, which find() drops.
            partial.replace(self.folder / sha256)
        finally:
            partial.unlink(missing_ok=True)

    def adopt(self, path: Path, sha256: str, size: int) -> Path:
        """Copy the file at *path* into the cache and return its place there.

        Raises:
            ContentError: its size or digest is not the expected one.
        """
        with self.incoming(sha256, size) as file, path.open("rb") as source:
            while block := source.read(1 << 20):
                file.write(block)
        return self.folder / sha256


class Incoming:
    """A file on its way into the cache; digest and size are counted while it is written."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """Hex digest of what was written so far."""
        return self._digest.hexdigest()

    def write(self, block: bytes) -> None:
        """Append *block*."""
        self._stream.write(block)
        self._digest.update(block)
        self.size += len(block)

    def restart(self) -> None:
        """Forget what was written: the next source sends the file from its beginning."""
        self._stream.seek(0)
        self._stream.truncate()
        self._digest = hashlib.sha256()
        self.size = 0
