"""Tolerant reading of a message's header: metadata for the index, whatever the message looks like.

Nothing here fails because of what is inside a message. A field that cannot be decoded is kept as raw text and
named in `Metadata.unparsed`; every field is decoded on its own and within limits, because the standard
library's modern policy raises on, or takes seconds for, hostile fields.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from email import policy
from email.header import decode_header
from email.parser import BytesHeaderParser

HEADER_BYTES = 256 * 1024
"""Octets looked at for the header; the rest of a longer one is not indexed."""

SCAN_BYTES = 1024 * 1024
"""Octets looked at for attachment names."""

TEXT_LIMIT = 2000
"""Characters kept of one field."""

LIST_LIMIT = 100
"""References and attachment names kept."""

_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_MESSAGE_ID = re.compile(r"<[^<>\s]{1,500}>")
_FILE_NAME = re.compile(
    rb"""(?:^|[;\s])(?:file)?name\*?(?:0\*?)?=(?:"([^"\r\n]{1,255})"|([^\s;"]{1,255}))""", re.IGNORECASE
)
_PART_FIELD = re.compile(
    rb"^content-(?:disposition|type):[^\r\n]{0,2000}(?:\r?\n[ \t][^\r\n]{0,2000}){0,10}",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True)
class Metadata:
    """What the index says about a message; all texts are valid Unicode and bounded.

    Attributes:
        sender: the From field, decoded (not the envelope).
        recipients: the To and Cc fields, decoded.
        references: Message-IDs in References and In-Reply-To, for threads.
        attachments: file names that parts claim.
        unparsed: names of fields kept raw because they could not be decoded.
    """

    sender: str = ""
    recipients: str = ""
    subject: str = ""
    date: str = ""
    message_id: str = ""
    references: tuple[str, ...] = ()
    attachments: tuple[str, ...] = ()
    unparsed: tuple[str, ...] = field(default=())


def read_metadata(start: bytes) -> Metadata:
    """Read the metadata out of *start*, the first octets of a message (`SCAN_BYTES` are enough)."""
    unparsed: list[str] = []
    found: dict[str, str] = {}
    for name, value in _fields(header_block(start), unparsed):
        # Of a repeated field the first counts: later ones are how phishers disagree with what people see.
        found.setdefault(name, _decoded(name, value, unparsed))
    message_ids = _MESSAGE_ID.findall(found.get("message-id", ""))
    references = _MESSAGE_ID.findall(found.get("references", "") + found.get("in-reply-to", ""))
    return Metadata(
        sender=found.get("from", ""),
        recipients=_cut(", ".join(found[one] for one in ("to", "cc") if found.get(one))),
        subject=found.get("subject", ""),
        date=found.get("date", ""),
        message_id=message_ids[0] if message_ids else found.get("message-id", ""),
        references=tuple(dict.fromkeys(references[-LIST_LIMIT:])),
        attachments=tuple(dict.fromkeys(_attachments(start[:SCAN_BYTES])))[:LIST_LIMIT],
        unparsed=tuple(sorted(set(unparsed))),
    )


def header_block(start: bytes) -> bytes:
    """The header up to the blank line (RFC 5322, 2.1), or what there is of it within the limit."""
    head = start[:HEADER_BYTES]
    if head.startswith((b"\r\n", b"\n")):
        return b""
    end = _BLANK_LINE.search(head)
    return head[: end.start()] if end else head


_WANTED = frozenset({"from", "to", "cc", "subject", "date", "message-id", "references", "in-reply-to"})


def _fields(block: bytes, unparsed: list[str]) -> Iterable[tuple[str, str]]:
    try:
        items = BytesHeaderParser(policy=policy.compat32).parsebytes(block).raw_items()
        return [(name.lower(), str(value)) for name, value in items if name.lower() in _WANTED]
    except Exception:  # noqa: BLE001  any failure of the parser must only cost the metadata
        unparsed.append("header")
        return []


def _decoded(name: str, value: str, unparsed: list[str]) -> str:
    """Decode RFC 2047 words and raw 8-bit octets."""
    text = _octets_to_text(value[: 4 * TEXT_LIMIT])
    if "=?" in text:
        try:
            parts = [
                part if isinstance(part, str) else part.decode(charset or "latin-1", "replace")
                for part, charset in decode_header(text.replace("\r", "").replace("\n", ""))
            ]
            text = "".join(parts)
        except Exception:  # noqa: BLE001  unknown charsets and bad Base64 raise many types; the raw text stays
            unparsed.append(name)
    return _cut(" ".join(text.split()))


def _octets_to_text(value: str) -> str:
    """The parser keeps octets above 127 as surrogates: read them as UTF-8, else as Latin-1."""
    octets = value.encode("utf-8", "surrogateescape")
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def _cut(text: str) -> str:
    # Lone surrogates can come out of a charset; no JSON and no table takes them. NUL reads badly anywhere.
    clean = text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\N{REPLACEMENT CHARACTER}")
    return clean[:TEXT_LIMIT]


def _attachments(start: bytes) -> Iterable[str]:
    """File names in Content-Disposition and Content-Type fields; a cheap scan, not a MIME parse."""
    for part_field in _PART_FIELD.finditer(start):
        name = _FILE_NAME.search(part_field[0])
        if name:
            text = (name[1] or name[2]).decode("latin-1")
            yield _decoded("filename", text.encode("latin-1").decode("utf-8", "surrogateescape"), [])
