"""The names of a message's attachments: a cheap, bounded scan, not a MIME parse.

Deep nesting, broken boundaries and 40 MB bodies make MIME parsers slow or raise. The index only wants names,
and those stand in the header lines after a delimiter line, wherever in the tree the part is.
"""

import re
from collections.abc import Iterator
from itertools import islice
from urllib.parse import unquote_to_bytes

from twinmail.field_text import Text, charset_text, decoded

PART_LIMIT = 500
"""Parts looked at."""

NAME_LIMIT = 255
"""Characters kept of a name."""

_FIELD_LIMIT = 2000

# A delimiter line (RFC 2046, 5.1.1), then the header lines of the part.
_PART = re.compile(rb"^--[^\r\n]{1,200}\r?\n((?:[^\r\n]{1,2000}\r?\n){1,50})", re.MULTILINE)
_FIELD = re.compile(
    rb"^content-(disposition|type)[ \t]*:([^\r\n]*(?:\r?\n[ \t][^\r\n]*)*)", re.IGNORECASE | re.MULTILINE
)
# RFC 2231: name*, name*0, name*0*, …
_PARAMETER = re.compile(
    rb""";\s{0,20}(filename|name)(?:\*([0-9]{1,2}))?(\*?)\s{0,20}=\s{0,20}"""
    rb"""(?:"((?:[^"\\]|\\.){0,1000})(?:"|\s{0,20}\Z)|([^\s;"]{1,1000}))""",
    re.IGNORECASE | re.DOTALL,
)


def names(header: bytes, start: bytes) -> Iterator[Text]:
    """Names in *header* (of the message) and in the headers of parts within *start*, in their order."""
    for block in [header, *(one[1] for one in islice(_PART.finditer(start), PART_LIMIT))]:
        found: dict[bytes, Text] = {}
        for field in _FIELD.finditer(block):
            name = _parameter(field[2][:_FIELD_LIMIT])
            if name and name.text:
                found.setdefault(field[1].lower(), name)
        # Both fields may name the part; the one in Content-Disposition is newer and wins.
        name = found.get(b"disposition") or found.get(b"type")
        if name:
            yield name


def _parameter(value: bytes) -> Text | None:
    """The file name among the parameters of a field."""
    plain: dict[bytes, bytes] = {}
    pieces: dict[bytes, dict[int, tuple[bytes, bool]]] = {}
    for one in _PARAMETER.finditer(value):
        name, number, extended = one[1].lower(), one[2], bool(one[3])
        octets = re.sub(rb"\\(.)", rb"\1", one[4], flags=re.DOTALL) if one[4] is not None else one[5]
        if number is None and not extended:
            plain.setdefault(name, octets)
        else:
            pieces.setdefault(name, {}).setdefault(int(number or 0), (octets, extended))
    for name in (b"filename", b"name"):
        if name in pieces:
            return _joined(pieces[name])
        if name in plain:
            return decoded(plain[name], NAME_LIMIT)
    return None


def _joined(pieces: dict[int, tuple[bytes, bool]]) -> Text:
    """A name in pieces; the first may begin with ``charset'language'``."""
    ordered = [pieces[number] for number in sorted(pieces)]
    charset = b""
    first, extended = ordered[0]
    if extended and first.count(b"'") >= 2:
        charset, _, first = first.split(b"'", 2)
        ordered[0] = (first, True)
    octets = b"".join(unquote_to_bytes(one) if encoded else one for one, encoded in ordered)
    text = charset_text(octets, charset.decode("latin-1")) if charset else None
    if text is None:
        found = decoded(octets, NAME_LIMIT)
        return Text(found.text, found.whole and not charset)
    found = decoded(text.text.encode("utf-8", "replace"), NAME_LIMIT)
    return Text(found.text, found.whole and text.whole)
