"""Uploads that have begun, kept over the end of the process: where a registry wants the rest of a blob."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twinmail import durable_file


class UploadSessions:
    """Locations by blob, in *file*; use it within `open_sessions`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            found = json.loads(file.read_bytes())
            self._locations = {str(key): str(value) for key, value in found.items()}
        except (OSError, ValueError, AttributeError):
            # Nothing is lost but the beginning of a blob: it is sent anew.
            self._locations = {}

    def get(self, key: str) -> str | None:
        """The location of the upload of *key*, if one has begun."""
        return self._locations.get(key)

    def put(self, key: str, location: str) -> None:
        """The upload of *key* goes on at *location*."""
        self._locations[key] = location
        self._save()

    def drop(self, key: str) -> None:
        """The upload of *key* is complete or lost."""
        if self._locations.pop(key, None) is not None:
            self._save()

    def _save(self) -> None:
        # A location may let whoever knows it write to the registry.
        durable_file.write(self._file, json.dumps(self._locations).encode(), mode=0o600)


@contextmanager
def open_sessions(folder: Path) -> Iterator[UploadSessions]:
    """The sessions kept in *folder*, for one process at a time: two would write over each other's uploads."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "uploads.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield UploadSessions(folder / "uploads.json")
