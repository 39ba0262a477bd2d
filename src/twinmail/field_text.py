"""Readable text out of the octets of one header field, whatever they are.

RFC 5322 wants ASCII, RFC 2047 adds encoded words and RFC 6532 UTF-8; real mail has everything else too. The
standard library's decoders raise on, or take seconds for, hostile fields, so this reads word by word: what
cannot be decoded stays as it was written, and the result says so.
"""

import binascii
import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass

OCTET_LIMIT = 16 * 1024
"""Octets of a field that are looked at."""

TEXT_LIMIT = 2000
"""Characters of a field that are kept."""

_WORD = re.compile(r"=\?([\w.:+-]{1,64})(?:\*[\w-]{0,32})?\?([bBqQ])\?([^?\r\n]*)\?=", re.ASCII)
# C0 and C1 controls: no reader wants them, and a terminal would obey them.
_CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")


@dataclass(frozen=True)
class Text:
    """What a field says: valid Unicode, bounded, white space folded.

    Attributes:
        whole: every octet of it could be decoded.
    """

    text: str
    whole: bool


def decoded(octets: bytes, limit: int = TEXT_LIMIT) -> Text:
    """Decode the value of one field."""
    plain, whole = _octets_to_text(octets[:OCTET_LIMIT])
    parts = []
    for text, good in _words(" ".join(plain.split())):
        parts.append(text)
        whole = whole and good
    joined = "".join(parts)
    # A charset can give lone surrogates (UTF-7 does); neither JSON nor a table takes them.
    clean = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", joined.encode("utf-8", "replace").decode("utf-8"))
    return Text(" ".join(clean.split())[:limit], whole and clean == joined)


def charset_text(octets: bytes, charset: str) -> Text | None:
    """*octets* in *charset*, what does not fit replaced; None if there is no such charset."""
    try:
        return Text(octets.decode(charset), True)
    except UnicodeDecodeError:
        return Text(octets.decode(charset, "replace"), False)
    except Exception:  # noqa: BLE001  codecs raise many types for names that are none
        return None


def _octets_to_text(octets: bytes) -> tuple[str, bool]:
    """UTF-8 if it is; else each octet is the Latin-1 character, so that nothing is lost."""
    try:
        # Not final: the limit may have cut a character.
        return codecs.getincrementaldecoder("utf-8")().decode(octets), True
    except UnicodeDecodeError:
        return octets.decode("latin-1"), False


@dataclass
class _Run:
    """Adjacent encoded words of one charset: a character may begin in one and end in the next.

    *raw* is how they were written, with the white space before them that counts only if they are none.
    """

    charset: str
    octets: bytes
    raw: str

    def text(self) -> tuple[str, bool]:
        found = charset_text(self.octets, self.charset)
        return (found.text, found.whole) if found else (self.raw, False)


def _words(text: str) -> Iterator[tuple[str, bool]]:
    """The pieces of *text*, encoded words decoded (RFC 2047, 6.2: white space between two is no text)."""
    run: _Run | None = None
    end = 0
    for word in _WORD.finditer(text):
        between = text[end : word.start()]
        end = word.end()
        octets = _word_octets(word[2], word[3])
        if run and (between.strip() or octets is None or run.charset != word[1].lower()):
            yield run.text()
            run, gap = None, between if not between.strip() and octets is not None else ""
        else:
            gap = between if run else ""
        if between and not gap:
            yield between, True
        if octets is None:
            yield word[0], False
        elif run:
            run.octets += octets
            run.raw += gap + word[0]
        else:
            run = _Run(word[1].lower(), octets, gap + word[0])
    if run:
        yield run.text()
    yield text[end:], True


def _word_octets(encoding: str, payload: str) -> bytes | None:
    octets = payload.encode("utf-8")
    if encoding in "qQ":
        return binascii.a2b_qp(octets, header=True)
    try:
        return binascii.a2b_base64(octets + b"=" * (-len(octets) % 4))
    except binascii.Error:
        return None
