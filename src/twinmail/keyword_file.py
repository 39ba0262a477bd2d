"""Dovecot's list of a Maildir folder's keywords: ``dovecot-keywords``, one ``<number> <keyword>`` a line.

In a file's name a keyword is a small letter, ``a`` for number 0. The letters differ from folder to folder, so
a message with keywords can be put into a folder only by who knows that folder's list, and may add to it.

Locking is Dovecot's: whoever changes the list holds ``dovecot-uidlist.lock`` in the same folder. Source:
``maildir-keywords.c`` and ``maildir-uidlist.c`` of Dovecot 2.4.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from twinmail import dotlock
from twinmail.durable_file import NotWritten

NAME = "dovecot-keywords"
LOCK = "dovecot-uidlist.lock"
LIMIT = 26
_NEW = f"{NAME}.lock"
_STALE_SECONDS = 120.0


def from_bytes(data: bytes) -> dict[str, str]:
    """The keywords by letter; damaged lines count for nothing."""
    found: dict[str, str] = {}
    for line in data.decode("utf-8", "replace").split("\n"):
        number, _, keyword = line.partition(" ")
        if number.isascii() and number.isdigit() and int(number) < LIMIT and keyword:
            found.setdefault(_letter(int(number)), keyword)
    return found


def to_bytes(keywords: Mapping[str, str]) -> bytes:
    """What `from_bytes` reads."""
    return "".join(f"{ord(one) - ord('a')} {keywords[one]}\n" for one in sorted(keywords)).encode()


def with_added(keywords: Mapping[str, str], wanted: Sequence[str]) -> dict[str, str]:
    """*keywords* and those of *wanted* that are missing, as far as there are letters; case is ignored."""
    result = dict(keywords)
    known = {one.lower() for one in result.values()}
    free = (one for one in map(_letter, range(LIMIT)) if one not in keywords)
    for keyword in wanted:
        if keyword.lower() not in known:
            letter = next(free, None)
            if letter is None:
                break
            result[letter] = keyword
            known.add(keyword.lower())
    return result


def letters_of(keywords: Mapping[str, str], wanted: Sequence[str]) -> str:
    """The letters of *wanted*, sorted; one that has no letter is left out."""
    lowered = {one.lower() for one in wanted}
    return "".join(sorted(letter for letter, keyword in keywords.items() if keyword.lower() in lowered))


def ensure(folder: Path, wanted: Sequence[str], clock: Callable[[], float] = time.monotonic) -> str:
    """Make sure that the Maildir folder *folder* knows the keywords *wanted*, and return their letters.

    A folder with 26 other keywords takes no more, and the message goes without.

    Raises:
        FolderLocked: transient.
        NotWritten: transient.
    """
    try:
        known = _read(folder)
        if with_added(known, wanted) != known:
            with dotlock.held(folder / LOCK, _STALE_SECONDS, clock):
                known = with_added(_read(folder), wanted)
                # Dovecot makes its new list at this very name, under the lock that we hold.
                dotlock.replace(folder / NAME, to_bytes(known), folder / _NEW, later=True)
    except OSError as error:
        raise NotWritten(f"{folder / NAME}: {error.strerror}; free space or mend its mode") from error
    return letters_of(known, wanted)


def release(folder: Path) -> bool:
    """Remove what a killed process of ours left beside the list of *folder*, and return whether it did.

    Raises:
        NotWritten: transient.
    """
    try:
        return dotlock.release(folder / LOCK, folder / _NEW)
    except OSError as error:
        raise NotWritten(f"{folder / LOCK}: {error.strerror}; mend its mode") from error


def _letter(number: int) -> str:
    return chr(ord("a") + number)


def _read(folder: Path) -> dict[str, str]:
    try:
        return from_bytes((folder / NAME).read_bytes())
    except FileNotFoundError:
        return {}
