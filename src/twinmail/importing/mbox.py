"""Reads mboxes: mboxo, mboxrd, Thunderbird's, with LF or CRLF, of any size.

A message begins at a ``From`` line with a date, first in the file or after a blank line (RFC 4155). In each
message one ``>`` is taken off quoted ``From`` lines, as mboxrd wants it.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import IO

from twinmail.header_fields import fields
from twinmail.importing import moment
from twinmail.importing.canonical import with_smtp_lines, without_bookkeeping
from twinmail.importing.source import Item, Mail, Passed, Trouble
from twinmail.manifest import FLAGS

_PIECE = 1 << 16
_QUOTED = re.compile(rb"^>(>*From )", re.MULTILINE)
_LETTERS = {"R": "\\Seen", "A": "\\Answered", "F": "\\Flagged", "T": "\\Draft"}
# X-Mozilla-Status, a number of four hexadecimal digits (nsMsgMessageFlags.idl).
_MOZILLA = {0x1: "\\Seen", 0x2: "\\Answered", 0x4: "\\Flagged"}
_MOZILLA_EXPUNGED = 0x8
_MOZILLA_FORWARDED = 0x1000
_TELL = ("status", "x-status", "x-mozilla-status")
# What c-client puts into an mbox as its first message, and no client shows.
_INTERNAL = b"DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA"

Open = Callable[[], AbstractContextManager[IO[bytes]]]


def is_mbox(start: bytes) -> bool:
    """Whether a file that begins with *start*, or the line *start*, is an mbox's."""
    line = start.partition(b"\n")[0]
    return moment.FROM_LINE.fullmatch(line) is not None or line.rstrip() == b"From -"


def read(
    name: str, opened: Open, limit: int, fallback: datetime, now: datetime | None = None
) -> Iterator[Item]:
    """The messages of the mbox that *opened* opens, called *name*; none may have more than *limit* octets.

    *fallback* is when those arrived that do not say it.

    Raises:
        OSError: it cannot be read.
    """
    today = now or datetime.now(UTC)
    with opened() as file:
        for number, (line, message, size) in enumerate(_split(file, limit), 1):
            place = f"{name}: message {number}"
            if not line:
                if message.strip() or size:
                    yield Trouble(f"{name}: before the first message", "not a message: no From line")
            elif size > limit:
                yield Trouble(place, f"expected at most {limit} octets, got {size}")
            elif not message.strip():
                yield Trouble(place, "empty")
            elif (found := _mail(place, line, message, fallback, today)) is not None:
                yield found


def _split(file: IO[bytes], limit: int) -> Iterator[tuple[bytes, bytes, int]]:
    """From line, message and its size; of a message above *limit* only the size is right."""
    start, kept, size = b"", bytearray(), 0
    after_blank, line_start = True, True
    while line := file.readline(_PIECE):
        if line_start and after_blank and is_mbox(line):
            if start or size:
                yield start, _trimmed(kept), size
            start, kept, size = line, bytearray(), 0
        else:
            size += len(line)
            if size <= limit + 2:
                kept += line
        after_blank = line_start and line in (b"\n", b"\r\n")
        line_start = line.endswith(b"\n")
    if start or size:
        yield start, _trimmed(kept), size


def _trimmed(message: bytearray) -> bytes:
    """*message* without the blank line that separates it from the next one."""
    for end in (b"\r\n\r\n", b"\n\n"):
        if message.endswith(end):
            return bytes(message[: -len(end) // 2])
    return bytes(message)


def _mail(place: str, line: bytes, message: bytes, fallback: datetime, now: datetime) -> Item | None:
    flags, keywords, deleted = set(), set(), False
    told = internal = False
    for one in fields(message):
        text = one.text
        told = told or one.name in _TELL
        if one.name in ("status", "x-status"):
            flags |= {_LETTERS[letter] for letter in text if letter in _LETTERS}
            deleted = deleted or "D" in text
        elif one.name == "x-mozilla-status" and re.fullmatch("[0-9a-fA-F]{1,8}", text):
            bits = int(text, 16)
            flags |= {flag for bit, flag in _MOZILLA.items() if bits & bit}
            keywords |= {"$Forwarded"} if bits & _MOZILLA_FORWARDED else set()
            deleted = deleted or bool(bits & _MOZILLA_EXPUNGED)
        elif one.name in ("x-keywords", "x-mozilla-keys"):
            keywords |= set(text.split())
        elif one.name == "subject" and one.value.strip().startswith(_INTERNAL):
            internal = True
    if internal:
        return None
    if deleted:
        return Passed(place)
    if not told:
        # Nothing was kept of it: old mail is not new.
        flags.add("\\Seen")
    plain = with_smtp_lines(_QUOTED.sub(rb"\1", without_bookkeeping(message)))
    arrived = moment.first_possible((moment.of_from_line(line), moment.of_header(plain), fallback), now)
    return Mail(place, plain, arrived, frozenset(flags) & set(FLAGS), frozenset(keywords))
