"""What the copy of a sent message in the Sent folder must look like; pure.

SES gives every message it sends a Message-ID of its own. Replies name that one, so a copy with the id that
the mail program made would never be in one thread with its replies. The copy therefore takes SES's id.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from twinmail.message import HEADER_BYTES, header_block

ORIGINAL = "X-Original-Message-ID"
"""The field that keeps the id which the mail program made."""

SENT = "Sent"
"""The folder, as Dovecot's configuration names it for clients."""

_HOST = "twinmail-sent"

_FIELD = re.compile(rb"^message-id[ \t]*:[ \t]*([^\n]*(?:\n[ \t][^\n]*)*)", re.IGNORECASE | re.MULTILINE)


def message_id(ses_id: str, region: str) -> str:
    """The Message-ID that recipients see.

    Source: SES Developer Guide, "Message header fields": SES overrides Message-ID. In us-east-1 the host is
    ``email.amazonses.com``.
    """
    return f"<{ses_id}@{'email' if region == 'us-east-1' else region}.amazonses.com>"


def base_name(written: datetime, ses_id: str, size: int, vsize: int) -> str:
    """The base name of a copy that is written here; deliveries have another host at its end.

    A function of the message, so that the copy is the same file whoever writes it.
    """
    return f"{int(written.timestamp())}.{ses_id}.{_HOST},S={size},W={vsize}"


def rewritten(message: bytes, new_id: str) -> bytes:
    """*message*, or its first octets, with *new_id* as its Message-ID; every other octet stays.

    The id that it had is kept in `ORIGINAL`. Doing it again changes nothing.
    """
    header = header_block(message[:HEADER_BYTES])
    end = b"\r\n" if b"\r\n" in header else b"\n"
    wanted = new_id.encode("ascii")
    found = _FIELD.search(header)
    if found is None:
        return b"Message-ID: " + wanted + end + message
    old = found[1].rstrip()
    if old == wanted:
        return message
    field = b"Message-ID: " + wanted + end + ORIGINAL.encode("ascii") + b": " + old
    # The line's own end, CR included, stays as it is.
    return message[: found.start()] + field + message[found.start(1) + len(old) :]


@dataclass(frozen=True)
class Copy:
    """One message in a Sent folder.

    Attributes:
        file: name of the file.
        message_id: as in its header, with brackets.
        date: its Date field.
        sender: its From field.
        flags: letters after ``:2,``, keywords included.
    """

    file: str
    message_id: str
    date: str
    sender: str
    flags: str = ""


@dataclass(frozen=True)
class Settlement:
    """What makes exactly one copy, with the right id.

    Attributes:
        keep: the copy that stays.
        rewrite: whether it still has the id of the mail program.
        remove: further copies of the same message.
        flags: what the one copy has afterwards: all that any of them had.
    """

    keep: Copy
    rewrite: bool
    remove: tuple[Copy, ...]
    flags: str


def settle(original: str, final: str, copies: Sequence[Copy]) -> Settlement | None:
    """What to do about the message that left with the id *original* and arrived with *final*.

    A copy is the same message if it has one of the two ids, and Date and From are the same too: an id is
    unique by RFC 5322 (3.6.4), but what removes mail should not rest on one field that a program made. A copy
    that its user marked as deleted is on its way out and counts for nothing.

    Returns:
        None if there is nothing to do.
    """
    present = [one for one in copies if "T" not in one.flags]
    done = [one for one in present if one.message_id == final]
    raw = [one for one in present if original and one.message_id == original != final]
    if not raw and len(done) < 2:
        return None
    keep = (done or raw)[0]
    same = [one for one in (*done, *raw) if (one.date, one.sender) == (keep.date, keep.sender)]
    remove = tuple(one for one in same if one is not keep)
    rewrite = not done
    if not rewrite and not remove:
        return None
    flags = "".join(sorted({letter for one in same for letter in one.flags}))
    return Settlement(keep, rewrite, remove, flags)
