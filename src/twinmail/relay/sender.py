"""Who may write as whom, and what must not leave with a message; pure."""

import re
from email.utils import getaddresses

from twinmail.config import Config
from twinmail.message import HEADER_BYTES, header_block
from twinmail.routing import route

_FIELD = re.compile(rb"^([!-9;-~]+)[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*\n?)", re.MULTILINE)
_AUTHORS = ("from", "sender")
_BLIND = ("bcc", "resent-bcc")


def may_write_as(config: Config, mailbox: str, address: str) -> bool:
    """Whether *address* is one of *mailbox*: what is delivered to it, it may write from, tags included."""
    return mailbox in route(config, [address.lower()]).mailboxes


def refusal(config: Config, mailbox: str, mail_from: str, message: bytes) -> str:
    """Why *mailbox* may not send *message* with the envelope sender *mail_from*; empty if it may.

    Every address of From and of Sender must be its own (RFC 5322, 3.6.2), and From must be there once.
    """
    if len(header_block(bytes(message[:HEADER_BYTES]))) == HEADER_BYTES:
        # What is beyond would be looked at by nobody, and seen by all.
        return f"the header is longer than {HEADER_BYTES} octets"
    own = config.primary_address(mailbox) or "nothing: it has no address of its own"
    if mail_from and not may_write_as(config, mailbox, mail_from):
        return f"{mail_from} is not an address of {mailbox}, which may send from {own}"
    fields = _fields(message)
    if len(fields["from"]) != 1:
        return f"expected one From field, got {len(fields['from'])}"
    for name in _AUTHORS:
        for field in fields[name]:
            addresses = _addresses(field)
            if not addresses:
                return f"{name.title()}: no address can be told from it"
            for address in addresses:
                if not may_write_as(config, mailbox, address):
                    return (
                        f"{name.title()}: {address} is not an address of {mailbox}, which may send from {own}"
                    )
    return ""


def author(message: bytes) -> str:
    """The first address in From; empty if there is none."""
    return next((one for field in _fields(message)["from"] for one in _addresses(field)), "")


def without_blind_copies(message: bytes) -> bytes:
    """*message* without its Bcc fields: SES sends what it is given, and all recipients would see them.

    Every other octet stays.
    """
    header = header_block(bytes(message[:HEADER_BYTES]))
    # With the end of its last line, which belongs to the field.
    end = message.find(b"\n", len(header)) + 1 if len(header) < len(message) else len(message)
    head = message[: max(end, len(header))]
    kept = _FIELD.sub(lambda field: b"" if field[1].lower().decode() in _BLIND else field[0], head)
    # As a rule there is none; a second message in memory would be too much for a small machine.
    return message if len(kept) == len(head) else b"".join((kept, memoryview(message)[len(head) :]))


def _fields(message: bytes) -> dict[str, list[str]]:
    header = header_block(bytes(message[:HEADER_BYTES]))
    found: dict[str, list[str]] = {name: [] for name in _AUTHORS}
    for field in _FIELD.finditer(header):
        name = field[1].lower().decode("ascii")
        if name in found:
            found[name].append(" ".join(field[2].decode("utf-8", "replace").split()))
    return found


def _addresses(field: str) -> list[str]:
    return [address for _, address in getaddresses([field]) if "@" in address]
