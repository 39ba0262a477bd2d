"""One syncer at a time: a second one would remove what the first has in ``tmp/``."""

import fcntl
import os
from pathlib import Path

from twinmail.durable_file import NotWritten
from twinmail.errors import TransientError

FILE = "syncer.lock"

# Held until the process ends, however it ends.
_held: dict[Path, int] = {}


class Locked(TransientError):
    """Another syncer runs on this state folder."""


def lock(state: Path) -> None:
    """Take the lock of *state* for this process.

    Raises:
        Locked: another process has it.
        NotWritten: the folder cannot be written.
    """
    if state in _held:
        return
    path = state / FILE
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise NotWritten(
            f"{path}: cannot be written: {error.strerror}; free space or mend its mode"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise Locked(f"{path}: another syncer runs here; stop it first") from error
    _held[state] = descriptor
