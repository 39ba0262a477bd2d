"""The fields of a message's header as octets, in order: to look at, leave out and put back; pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from twinmail.message import header_block

# A bare CR ends no line (RFC 5322, 2.3), and some senders put a space before the colon.
_FIELD = re.compile(rb"^([!-9;-~]+)[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)", re.MULTILINE)


@dataclass(frozen=True)
class Field:
    """One field.

    Attributes:
        name: in lower case.
        value: the octets after the colon, with line ends inside but none at the end.
    """

    name: str
    value: bytes

    @property
    def text(self) -> str:
        """The value on one line, for comparisons."""
        return " ".join(self.value.decode("utf-8", "replace").split())

    @property
    def octets(self) -> bytes:
        """The field as it can stand in a header, with its line end."""
        name = "-".join(part.capitalize() for part in self.name.split("-"))
        lines = self.value.replace(b"\r\n", b"\n").strip(b" \t\r\n").replace(b"\r", b" ")
        return name.encode() + b": " + lines.replace(b"\n", b"\r\n") + b"\r\n"


def fields(start: bytes) -> tuple[Field, ...]:
    """The fields in the header of the message that begins with *start*; lines that are none are left out."""
    return tuple(
        Field(one[1].decode("ascii").lower(), one[2].rstrip(b"\r\n"))
        for one in _FIELD.finditer(header_block(start))
    )


def body(message: bytes) -> bytes:
    """What follows the header of the whole *message*."""
    block = header_block(message)
    rest = message[len(block) :]
    if not block:
        return re.sub(rb"\A\r?\n", b"", rest, count=1)
    return re.sub(rb"\A\r?\n\r?\n", b"", rest, count=1)


def join(header: Iterable[Field], content: bytes) -> bytes:
    """A message of these fields."""
    return b"".join(one.octets for one in header) + b"\r\n" + content
