"""Vacation answers (RFC 5230, RFC 3834): whether one may go out, and what it looks like; pure.

Pigeonhole writes the answer and knows most of the rules. It does not know SES's verdicts, which addresses are
ours, or what SES lets through; what is known here is asked once more, because a mistake makes two machines
talk to each other. SES replaces the envelope sender by one of its own, so the null one that RFC 3834 asks for
cannot be had; what that rule is for holds all the same, since bounces go to SES and are never answered.
"""

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass

from twinmail.header_fields import Field, body, fields, join
from twinmail.message import from_address

_LIST = frozenset(
    f"list-{name}" for name in ("id", "owner", "subscribe", "post", "unsubscribe", "help", "archive")
)
_BULK = frozenset(("bulk", "junk", "list"))
# Who reads these is a program (RFC 3834, section 2; RFC 5230, section 4.6).
_MACHINE = re.compile(
    r"mailer-daemon|postmaster|listserv|majordomo|(no|do-?not)-?reply.*|owner-.*|.*-(request|owner|bounces?)",
    re.IGNORECASE,
)
_ANSWER_LEFT_OUT = frozenset(
    ("x-sieve", "message-id", "return-path", "sender", "bcc", "cc", "from", "auto-submitted", "precedence")
)


@dataclass(frozen=True)
class Answer:
    """What to send: *data* from *source* to *to*."""

    source: str
    to: str
    data: bytes


@dataclass(frozen=True)
class Silence:
    """Nothing is sent, for this *reason*."""

    reason: str


def answer(
    written: bytes, to: str, original: bytes, own: Callable[[str], bool], primary: str
) -> Answer | Silence:
    """Turn what Pigeonhole has *written* into what SES takes, or say why nobody gets it.

    *original* is the start of the message that is answered, as the log has it; *own* says whether an address
    is the user's, *primary* is the one to write from where the script names a foreign one.
    """
    reason = silence(fields(original), to, own)
    if reason:
        return Silence(reason)
    source = from_address(written)
    ours = fields(written)
    sender = next((one for one in ours if one.name == "from"), None)
    if sender is None or not own(source):
        source, sender = primary, Field("from", primary.encode())
    kept, content = _seven_bit([one for one in ours if one.name not in _ANSWER_LEFT_OUT], body(written))
    header = [
        sender,
        *kept,
        *_thread(ours, fields(original)),
        Field("auto-submitted", b"auto-replied"),
        Field("precedence", b"bulk"),
    ]
    return Answer(source, to, join(header, content))


def _seven_bit(header: list[Field], content: bytes) -> tuple[list[Field], bytes]:
    """The same in ASCII, which is what SES promises to carry ("Sending raw email", SES Developer Guide)."""
    encoding = next((one.text.lower() for one in header if one.name == "content-transfer-encoding"), "8bit")
    if content.isascii() or encoding not in ("7bit", "8bit", "binary"):
        return header, content
    if any(one.name == "content-type" and one.text.lower().startswith("multipart/") for one in header):
        # Its parts would each have to be encoded; that is its author's business.
        return header, content
    kept = [one for one in header if one.name != "content-transfer-encoding"]
    kept.append(Field("content-transfer-encoding", b"base64"))
    return kept, base64.encodebytes(content).replace(b"\n", b"\r\n")


def silence(original: tuple[Field, ...], to: str, own: Callable[[str], bool]) -> str:
    """Why a message with the fields *original* gets no answer at the address *to*; empty if it may."""
    local, at, domain = to.rpartition("@")
    if not at or not local or not domain:
        return "it has no sender to answer"
    if _MACHINE.fullmatch(local):
        return f"{local}@ is no person"
    if own(to):
        return "it comes from the user"
    for one in original:
        text = one.text.lower()
        if one.name in _LIST:
            return f"it comes from a list ({one.name})"
        if one.name == "precedence" and text in _BULK:
            return f"precedence is {text}"
        if one.name == "auto-submitted" and text.partition(";")[0].partition("(")[0].strip() != "no":
            return f"a program sent it (auto-submitted: {text})"
        if one.name == "x-auto-response-suppress" and _suppressed(text):
            return "its sender wants no automatic answer"
        if one.name == "return-path" and text == "<>":
            return "it is a bounce"
        if one.name == "content-type" and text.startswith("multipart/report"):
            return "it is a report"
    return _judged(original)


def _judged(original: tuple[Field, ...]) -> str:
    """Why SES's verdicts forbid an answer: it would go to who never wrote."""
    # Ours is above everything that a sender can write.
    told = next((one.text for one in original if one.name == "x-twinmail-verdicts"), "")
    verdicts = dict(one.split("=", 1) for one in told.split() if "=" in one)
    for name in ("spam", "virus", "dmarc"):
        if verdicts.get(name, "").upper() == "FAIL":
            return f"the {name} verdict is FAIL"
    return ""


def _suppressed(text: str) -> bool:
    return bool({"all", "oof", "autoreply"} & {one.strip() for one in text.split(",")})


def _thread(ours: tuple[Field, ...], original: tuple[Field, ...]) -> list[Field]:
    """In-Reply-To and References (RFC 5322, 3.6.4), where Pigeonhole did not write them."""
    identifier = next((one.value.strip() for one in original if one.name == "message-id"), b"")
    names = {one.name for one in ours}
    return [
        Field(name, identifier) for name in ("in-reply-to", "references") if identifier and name not in names
    ]
