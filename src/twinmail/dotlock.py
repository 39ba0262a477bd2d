"""Dovecot's dotlocks: ``<file>.lock``, made with O_EXCL, held while a file beside it is replaced.

Source: ``src/lib/file-dotlock.c`` of Dovecot 2.4. A lock that nobody touches for longer than the file's
stale time belongs to a process that died, and may be taken.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from twinmail.durable_file import sync_folder
from twinmail.errors import TransientError

_WAIT_SECONDS = 10.0
_LOOK_SECONDS = 0.02
# Where Dovecot writes the machine's name, so that it never takes our process number for one of its own.
_HOLDER = "twinmail-syncer"


class FolderLocked(TransientError):
    """Dovecot works on the folder for too long."""


@contextmanager
def held(path: Path, stale_seconds: float, clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
    """Hold the lock file *path*.

    Raises:
        FolderLocked: somebody else holds it for too long; transient.
        OSError: it cannot be made.
    """
    deadline = clock() + _WAIT_SECONDS
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            break
        except FileExistsError:
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > stale_seconds:
                    path.unlink()
                    continue
        if clock() > deadline:
            raise FolderLocked(f"{path}: held for more than {_WAIT_SECONDS:.0f} s; tried again later")
        time.sleep(_LOOK_SECONDS)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(f"{os.getpid()}:{_HOLDER}".encode())
        yield
    finally:
        with suppress(FileNotFoundError):
            path.unlink()


def release(path: Path, *beside: Path) -> bool:
    """Remove the lock file *path* if a killed process of ours left it, and return whether it did.

    The files *beside* it, which are written only by who holds it, go before.

    Only for a start, before anything is delivered: no other process of ours runs then.

    Raises:
        OSError: it cannot be read or removed.
    """
    try:
        if not path.read_bytes().endswith(f":{_HOLDER}".encode()):
            return False
        for one in beside:
            one.unlink(missing_ok=True)
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def replace(path: Path, data: bytes, temporary: Path, later: bool = False) -> None:
    """Replace the file *path* by *data*, written to *temporary* first; the caller holds its lock.

    With *later* its time grows by a whole second at least: Dovecot reads some files again only then.

    Raises:
        OSError: the old file is untouched.
    """
    with suppress(FileNotFoundError):
        temporary.unlink()
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if later:
                with suppress(FileNotFoundError):
                    seconds = max(int(path.stat().st_mtime) + 1, int(time.time()))
                    os.utime(file.fileno(), (seconds, seconds))
            # Contents before the name, as everywhere.
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)
