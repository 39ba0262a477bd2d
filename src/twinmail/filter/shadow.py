"""The shadow: an empty mail storage into which Pigeonhole delivers, and what it left there.

Its layout is that of our own Maildirs, by the same Dovecot and the same configuration; so the name of a
folder on disk is the name that it has, or will have, in the mailbox, whatever characters a script gave it.
"""

import re
import secrets
import shutil
import struct
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from twinmail.durable_file import NotWritten
from twinmail.filter.decision import Placement, is_folder, sorted_flags
from twinmail.keyword_file import from_bytes as keywords_from_bytes
from twinmail.manifest import INBOX, is_keyword

FOLDER = ".server/decide"
KEYWORDS = "dovecot-keywords"
_ERRORS = "errors.log"
_DUPLICATES = ".dovecot.lda-dupes"
# Source: src/lib-storage/mail-duplicate.c of Dovecot 2.4: a version, then records of time, two lengths, an id
# and a user. The id of a vacation answer is an MD5 digest; that of a redirect is a text.
_VERSION = 2
_RECORD = struct.Struct("=III")
_DIGEST_OCTETS = 16
_COMPLAINTS = 20
_ERROR = re.compile(r"(^|\s)error: ", re.IGNORECASE)


@dataclass(frozen=True)
class Left:
    """What Pigeonhole left in a shadow.

    Attributes:
        placements: one a copy; INBOX first, then by name.
        answered: what marks an answer as given: its digest in hexadecimal, and until when it counts.
        complaints: what it says is wrong with the script.
    """

    placements: tuple[Placement, ...]
    answered: tuple[tuple[str, datetime], ...]
    complaints: tuple[str, ...]


class Shadow:
    """An empty storage below *mail*, made now, gone after `remove`.

    Raises:
        NotWritten: the volume does not take it; transient.
    """

    def __init__(self, mail: Path) -> None:
        self.token = secrets.token_hex(8)
        self.root = mail / FOLDER / self.token
        try:
            for path in (mail / ".server", mail / FOLDER, self.root):
                path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise NotWritten(f"{self.root}: {error.strerror}; free space or mend its mode") from error

    def remove(self) -> None:
        """Remove it; what cannot be removed now is removed by `sweep`."""
        shutil.rmtree(self.root, ignore_errors=True)

    def read(self) -> Left:
        """Read what is there; a folder or keyword that no other server could take over is left out."""
        placements = []
        for folder, path in _folders(self.root / "Maildir"):
            for name in sorted(_names(path / "new") + _names(path / "cur")):
                letters = name.partition(":2,")[2]
                placements.append(Placement(folder, sorted_flags(letters), _keywords(path, letters)))
        return Left(tuple(placements), self._answered(), self._complaints())

    def _answered(self) -> tuple[tuple[str, datetime], ...]:
        with suppress(OSError):
            return duplicates((self.root / _DUPLICATES).read_bytes())
        return ()

    def _complaints(self) -> tuple[str, ...]:
        with suppress(OSError):
            text = (self.root / _ERRORS).read_text("utf-8", "replace")
            return tuple(line.strip() for line in text.splitlines() if _ERROR.search(line))[:_COMPLAINTS]
        return ()


def sweep(mail: Path) -> None:
    """Remove the shadows that a killed process left; nothing is asked meanwhile."""
    for name in _names(mail / FOLDER):
        shutil.rmtree(mail / FOLDER / name, ignore_errors=True)


def duplicates(data: bytes) -> tuple[tuple[str, datetime], ...]:
    """Read Dovecot's memory of answers: the digests, and until when each counts."""
    found = []
    if len(data) < 4 or struct.unpack_from("=I", data)[0] != _VERSION:
        return ()
    at = 4
    while at + _RECORD.size <= len(data):
        stamp, id_size, user_size = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        if id_size == _DIGEST_OCTETS and at + id_size + user_size <= len(data):
            found.append((data[at : at + id_size].hex(), datetime.fromtimestamp(stamp, UTC)))
        at += id_size + user_size
    return tuple(found)


def _folders(root: Path) -> list[tuple[str, Path]]:
    names = (name for name in _names(root) if name.startswith(".") and is_folder(name[1:]))
    return [(INBOX, root), *((name[1:], root / name) for name in sorted(names))]


def _keywords(folder: Path, letters: str) -> tuple[str, ...]:
    small = [one for one in letters if one.islower()]
    if not small:
        return ()
    try:
        known = keywords_from_bytes((folder / KEYWORDS).read_bytes())
    except OSError:
        return ()
    return tuple(known[one] for one in small if one in known and is_keyword(known[one]))


def _names(folder: Path) -> list[str]:
    with suppress(FileNotFoundError, NotADirectoryError):
        return [one.name for one in folder.iterdir()]
    return []
