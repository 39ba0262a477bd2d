"""Reads folders of Maildirs: flags in names, Dovecot's keywords, dates."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from twinmail import keyword_file
from twinmail.folder_name import imap_name, modified_utf7
from twinmail.importing import moment
from twinmail.importing.source import Item, Mail, Passed, Trouble

PARTS = ("cur", "new", "tmp")
# ":" cannot be in a name on some file systems; programs use one of the others there.
_INFO = re.compile(r"[:;!,]2,(?P<letters>[A-Za-z]*)$")
_EPOCH = re.compile(r"([0-9]{9,11})[.,_]")
_FLAGS = {"D": "\\Draft", "F": "\\Flagged", "R": "\\Answered", "S": "\\Seen"}
_ESCAPED = re.compile(r"%(2e|25|2f|7e)")


def is_maildir(folder: Path) -> bool:
    """Whether *folder* holds messages as a Maildir does."""
    return (folder / "cur").is_dir() and (folder / "new").is_dir()


def levels(name: str) -> tuple[str, ...]:
    """The levels of the Maildir++ folder *name*; servers of the Courier kind have all of them below INBOX."""
    found = tuple(plain(one) for one in name.split(".") if one)
    return found[1:] if len(found) > 1 and found[0] == "INBOX" else found


def plain(level: str) -> str:
    """The name of a folder that is *level* on the disk, as UTF-8 or in modified UTF-7."""
    return imap_name(level) if _ESCAPED.search(level) else modified_utf7(level)


def files(folder: Path) -> list[Path]:
    """The messages of one *folder*, by name and so by arrival.

    Raises:
        OSError: it cannot be read.
    """
    found = [
        path
        for part in ("cur", "new")
        for path in (folder / part).iterdir()
        if not path.name.startswith(".") and path.is_file()
    ]
    return sorted(found, key=lambda path: path.name)


def read(folder: Path, limit: int, now: datetime | None = None) -> Iterator[Item]:
    """The messages of one *folder*; none may have more than *limit* octets.

    Raises:
        OSError: the folder cannot be read.
    """
    today = now or datetime.now(UTC)
    keywords = _keywords(folder)
    for path in files(folder):
        info = _INFO.search(path.name)
        letters = info["letters"] if info else ""
        if "T" in letters:
            yield Passed(str(path))
            continue
        try:
            status = path.stat()
            message = path.read_bytes() if status.st_size <= limit else b""
        except OSError as error:
            yield Trouble(str(path), f"cannot be read: {error.strerror}")
            continue
        if not message:
            size = status.st_size
            yield Trouble(str(path), f"expected at most {limit} octets, got {size}" if size else "empty")
            continue
        words = {keywords[one] for one in letters if one in keywords}
        yield Mail(
            str(path),
            message,
            moment.first_possible((_arrived(path, status.st_mtime), moment.of_header(message)), today),
            frozenset(_FLAGS[one] for one in letters if one in _FLAGS),
            frozenset(words | {"$Forwarded"} if "P" in letters else words),
        )


def _arrived(path: Path, changed: float) -> datetime | None:
    """When the file came: its time, or that in its name if the file was copied without its time.

    A server keeps the date of a message in the file's time, and names what a client stored after the later
    moment of storing. A copy that lost its time is newer than its name. So the earlier one is right.
    """
    named = _EPOCH.match(path.name)
    seconds = min(changed, float(named[1])) if named else changed
    try:
        return datetime.fromtimestamp(int(seconds), UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _keywords(folder: Path) -> dict[str, str]:
    try:
        return keyword_file.from_bytes((folder / keyword_file.NAME).read_bytes())
    except OSError:
        return {}
