"""Dovecot's list of subscribed folders: ``subscriptions`` in the Maildir, one a line, levels between tabs.

Many clients show only these, so a folder that a filter made would hide its mail from them. Source:
``src/lib-storage/list/subscription-file.c`` of Dovecot 2.4 (version 2 of the form). Names are those on the
disk, where Maildir++ has "." between levels.
"""

import time
from collections.abc import Callable
from pathlib import Path

from twinmail import dotlock
from twinmail.durable_file import NotWritten
from twinmail.maildir import STAGING

NAME = "subscriptions"
HEADER = b"V\t2\n\n"
_LOCK = "subscriptions.lock"
_STALE_SECONDS = 30.0


def with_added(data: bytes, folder: str) -> bytes:
    """The list *data* with *folder* (its name on disk, without the first dot) in it."""
    body = data.removeprefix(HEADER)
    if not data.startswith(HEADER) and data:
        # Version 1 has the same names with "." between levels.
        body = data.replace(b".", b"\t")
    line = folder.replace(".", "\t").encode()
    if line in body.split(b"\n"):
        return data
    if body and not body.endswith(b"\n"):
        body += b"\n"
    return HEADER + body + line + b"\n"


def add(maildir: Path, folder: str, clock: Callable[[], float] = time.monotonic) -> None:
    """Subscribe the user of *maildir*, which is prepared, to *folder*.

    Raises:
        FolderLocked: transient.
        NotWritten: transient.
    """
    path = maildir / NAME
    try:
        if with_added(_read(path), folder) == _read(path):
            return
        with dotlock.held(maildir / _LOCK, _STALE_SECONDS, clock):
            # In tmp/: whatever begins with a dot beside the list could be taken for a folder.
            temporary = maildir / "tmp" / f"{NAME}{STAGING}"
            dotlock.replace(path, with_added(_read(path), folder), temporary)
    except OSError as error:
        raise NotWritten(f"{path}: {error.strerror}; free space or mend its mode") from error


def release(maildir: Path) -> bool:
    """Remove the lock that a killed process of ours left on the list of *maildir*; whether there was one.

    Raises:
        NotWritten: transient.
    """
    path = maildir / _LOCK
    try:
        return dotlock.release(path)
    except OSError as error:
        raise NotWritten(f"{path}: {error.strerror}; mend its mode") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
