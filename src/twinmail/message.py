"""Tolerant reading of a message's header: metadata for the index, whatever the message looks like.

Nothing here fails because of what is inside a message. A field that cannot be decoded is kept as raw text and
named in `Metadata.unparsed`; every field is found and decoded on its own and within limits. The standard
library's parsers will not do: the modern policy raises on, or takes seconds for, hostile fields, and the old
one loses all fields below a line that is none.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from twinmail import attachments
from twinmail.field_text import OCTET_LIMIT, TEXT_LIMIT, decoded

HEADER_BYTES = 256 * 1024
"""Octets looked at for the header; the rest of a longer one is not indexed."""

SCAN_BYTES = 1024 * 1024
"""Octets looked at for attachment names."""

LIST_LIMIT = 100
"""References and attachment names kept."""

# A bare CR ends no line (RFC 5322, 2.3), and some senders put a space before the colon.
_FIELD = re.compile(
    rb"^(from|to|cc|subject|date|message-id|references|in-reply-to)[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)",
    re.IGNORECASE | re.MULTILINE,
)
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_ANGLE = re.compile(r"<([^<>]*)>")
_ADDRESS = re.compile(r"[^\s@<>,;:\x00-\x1f\x7f-\x9f\ufffd]{1,64}@[^\s@<>,;:\x00-\x1f\x7f-\x9f\ufffd]{1,253}")
_MESSAGE_ID = re.compile(r"<[^<>\s]{1,500}>")


@dataclass(frozen=True)
class Metadata:
    """What the index says about a message; all texts are valid Unicode and bounded.

    Attributes:
        sender: the From field, decoded (not the envelope).
        recipients: the To and Cc fields, decoded.
        references: Message-IDs in References and In-Reply-To, the last (nearest) ones, for threads.
        attachments: file names that parts claim.
        unparsed: what had to be kept raw: names of fields, ``header`` (no end of it within the limit),
            ``attachments``.
    """

    sender: str = ""
    recipients: str = ""
    subject: str = ""
    date: str = ""
    message_id: str = ""
    references: tuple[str, ...] = ()
    attachments: tuple[str, ...] = ()
    unparsed: tuple[str, ...] = ()


def read_metadata(start: bytes) -> Metadata:
    """Read the metadata out of *start*, the first octets of a message (`SCAN_BYTES` are enough)."""
    header = header_block(start)
    unparsed = set() if len(header) < HEADER_BYTES else {"header"}
    found = {}
    for name, octets in _fields(header).items():
        text = decoded(octets, OCTET_LIMIT if name == "references" else TEXT_LIMIT)
        found[name] = text.text
        if not text.whole:
            unparsed.add(name)
    names = []
    for attachment in attachments.names(header, start[:SCAN_BYTES]):
        names.append(attachment.text)
        if not attachment.whole:
            unparsed.add("attachments")
    identifiers = _MESSAGE_ID.findall(found.get("message-id", ""))
    references = _MESSAGE_ID.findall(found.get("references", "") + found.get("in-reply-to", ""))
    return Metadata(
        sender=found.get("from", ""),
        recipients=", ".join(found[one] for one in ("to", "cc") if found.get(one))[:TEXT_LIMIT],
        subject=found.get("subject", ""),
        date=found.get("date", ""),
        message_id=identifiers[0] if identifiers else found.get("message-id", ""),
        references=tuple(dict.fromkeys(references[-LIST_LIMIT:])),
        attachments=tuple(dict.fromkeys(names))[:LIST_LIMIT],
        unparsed=tuple(sorted(unparsed)),
    )


def from_address(start: bytes) -> str:
    """The address in the From field, in lower case; empty if there is none that can be told.

    Read from the field as it was sent: what an encoded word decodes to is a name, never an address
    (RFC 2047, section 5). Of several addresses the first counts, as mail clients show it.
    """
    field = _fields(header_block(start)).get("from", b"")[:OCTET_LIMIT].decode("utf-8", "replace")
    plain = _without_names(" ".join(field.split()))
    angle = _ANGLE.search(plain)
    address = (angle[1] if angle else plain.partition(",")[0]).strip().lower()
    return address if _ADDRESS.fullmatch(address) else ""


def _without_names(text: str) -> str:
    """*text* without its quoted strings and comments, in which any character may stand (RFC 5322, 3.2)."""
    kept: list[str] = []
    depth, quoted, escaped = 0, False, False
    for one in text:
        if escaped:
            escaped = False
        elif one == "\\" and (quoted or depth):
            escaped = True
        elif quoted:
            quoted = one != '"'
        elif one == '"' and not depth:
            quoted = True
        elif one == "(":
            depth += 1
        elif one == ")" and depth:
            depth -= 1
        elif not depth:
            kept.append(one)
    return "".join(kept)


def header_block(start: bytes) -> bytes:
    """The header up to the blank line (RFC 5322, 2.1), or what there is of it within the limit."""
    head = start[:HEADER_BYTES]
    if head.startswith((b"\r\n", b"\n")):
        return b""
    end = _BLANK_LINE.search(head)
    return head[: end.start()] if end else head


def _fields(header: bytes) -> Mapping[str, bytes]:
    """The fields of interest, raw; of a repeated one the first counts.

    Later ones are how a sender shows one thing to the index and another to people.
    """
    found: dict[str, bytes] = {}
    for field in _FIELD.finditer(header):
        found.setdefault(field[1].lower().decode("ascii"), field[2])
    return found
