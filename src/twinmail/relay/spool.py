"""Copies on their way into Sent folders: durable before the message leaves, written once it has left.

``<token>.new``           a message that SES may have taken or not; its client was not told that it did
``<ses-id>~<mailbox>``    a message that SES took; its copy belongs into Sent, and is tried until it is there

A ``.new`` that a crash left is dropped at the start: its client sends the message again.
"""

import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from twinmail import durable_file
from twinmail.durable_file import NotWritten, sync_folder
from twinmail.maildir import Maildir
from twinmail.sent import SENT, base_name, message_id, rewritten

PLACE = ".server/relay"

_CHUNK = 1 << 20
# What `rewritten` has to see at once: the header is within it.
_START = 256 * 1024
_SEEN = ":2,S"


class Spool:
    """The spool on the volume *mail* of a server that sends by SES in *region*."""

    def __init__(self, mail: Path, region: str) -> None:
        self._mail = mail
        self._folder = mail / PLACE
        self._region = region
        # The request's own thread and the retries meet here; one file must not be written twice at once.
        self._settling = threading.Lock()
        # Sent, but the disk did not take the new name: what it must become, by file.
        self._unmarked: dict[Path, Path] = {}

    def open(self) -> None:
        """Make the folder, and drop what a crash left undecided.

        Raises:
            NotWritten: transient.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # And what a crash left of writing one.
            for pattern in ("*.new", ".*.new.*"):
                for path in self._folder.glob(pattern):
                    path.unlink()
        except OSError as error:
            raise NotWritten(f"{self._folder}: {error.strerror}; mend its mode") from error

    def hold(self, message: bytes) -> Path:
        """Keep *message* durably before it is sent.

        Raises:
            NotWritten: transient; it must not be sent then.
        """
        path = self._folder / f"{secrets.token_hex(16)}.new"
        durable_file.write(path, message, 0o600)
        return path

    def drop(self, held: Path) -> None:
        """It was not sent."""
        with suppress(OSError):
            held.unlink()

    def sent(self, held: Path, ses_id: str, mailbox: str) -> Path:
        """SES took it as *ses_id*: from now on its copy is owed to *mailbox*.

        Raises:
            NotWritten: transient; a rename needs no space, so the disk is in trouble. `owed` tries it again.
        """
        path = self._folder / f"{ses_id}~{mailbox}"
        self._unmarked[held] = path
        self._mark(held, path)
        return path

    def _mark(self, held: Path, path: Path) -> None:
        try:
            if not path.exists():
                held.rename(path)
            sync_folder(self._folder)
        except OSError as error:
            raise NotWritten(f"{path}: {error.strerror}; check the disk") from error
        self._unmarked.pop(held, None)

    def owed(self) -> list[Path]:
        """Copies that are not in their Sent folder yet."""
        for held, path in list(self._unmarked.items()):
            with suppress(NotWritten):
                self._mark(held, path)
        return sorted(path for path in self._folder.glob("*~*") if not path.name.startswith("."))

    def settle(self, owed: Path) -> None:
        """Write the copy *owed* into Sent; again after a crash it is the same file.

        Raises:
            NotWritten: transient; it stays owed.
        """
        with self._settling:
            try:
                if owed.exists():
                    self._settle(owed)
            except OSError as error:
                raise NotWritten(f"{owed}: {error.strerror}; check the disk") from error

    def _settle(self, owed: Path) -> None:
        ses_id, _, mailbox = owed.name.partition("~")
        maildir = Maildir(self._mail / mailbox / "Maildir")
        arrived = datetime.fromtimestamp(int(owed.stat().st_mtime), UTC)
        new_id = message_id(ses_id, self._region)
        staged = maildir.stage(ses_id, _pieces(owed, new_id), arrived)
        try:
            maildir.link(staged, SENT, base_name(arrived, ses_id, staged.size, staged.vsize), _SEEN)
            maildir.settle(SENT, _SEEN)
        finally:
            maildir.discard(staged.path)
        self.drop(owed)


def _pieces(path: Path, new_id: str) -> Iterator[bytes]:
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        yield rewritten(file.read(_START), new_id)
        while chunk := file.read(_CHUNK):
            yield chunk
