"""One form of a message for all sources, so that it is known again; pure.

The same message comes with CRLF from IMAP, with LF from a Maildir, and with quoted lines and fields of the
mail client's own bookkeeping from an mbox. What is stored has the line ends of SMTP; what identifies it has
none of these differences.
"""

import hashlib
import re

from twinmail.message import header_block

PREFIX = "import-"

# What programs write into the copy of a message to remember something about it: those that keep mboxes
# (c-client, mutt, Dovecot), Thunderbird, Evolution, Gmail's archives.
BOOKKEEPING = frozenset(
    {
        "content-length",
        "status",
        "x-account-key",
        "x-evolution",
        "x-evolution-source",
        "x-gm-thrid",
        "x-gmail-labels",
        "x-imap",
        "x-imapbase",
        "x-keywords",
        "x-mozilla-keys",
        "x-mozilla-status",
        "x-mozilla-status2",
        "x-status",
        "x-uid",
        "x-uidl",
    }
)
_BARE_LF = re.compile(rb"(?<!\r)\n")
_QUOTED = re.compile(rb"^>+From ", re.MULTILINE)
_FIELD = re.compile(rb"^([!-9;-~]+)[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*(?:\n|\Z)", re.MULTILINE)


def with_smtp_lines(message: bytes) -> bytes:
    """*message* as SMTP and IMAP have it: every line ends with CRLF (RFC 5321, section 2.3.8)."""
    return _BARE_LF.sub(b"\r\n", message)


def without_bookkeeping(message: bytes) -> bytes:
    """*message* without the fields that a program added to its copy."""
    header = header_block(message)
    if not header:
        return message
    # The block ends before the line end of its last line.
    ends = message[len(header) :]
    line_end = b"\r\n" if ends.startswith(b"\r\n") else b"\n" if ends.startswith(b"\n") else b""
    kept = _FIELD.sub(_kept, header + line_end)
    return kept + ends[len(line_end) :]


def _kept(field: "re.Match[bytes]") -> bytes:
    return b"" if field[1].decode("ascii").lower() in BOOKKEEPING else field[0]


def canonical(message: bytes) -> bytes:
    """What is equal for all copies of one message.

    Lines end with LF, ``From`` is not quoted, bookkeeping and blank lines at the end are gone. IMAP has no
    NUL; Dovecot shows 0x80 in its place.
    """
    lines = message.replace(b"\r\n", b"\n").replace(b"\0", b"\x80")
    return _QUOTED.sub(b"From ", without_bookkeeping(lines)).rstrip(b"\n")


def content_digest(message: bytes) -> bytes:
    """The digest (SHA-256) of the canonical *message*."""
    return hashlib.sha256(canonical(message)).digest()


def identity(mailbox: str, folder: str, content: bytes) -> str:
    """What stands in the place of SES's id for the message with the digest *content* in *folder*.

    The folder belongs to it: a message that the older account had in two folders is in two folders here.
    """
    digest = hashlib.sha256(b"\0".join((mailbox.encode(), folder.encode(), content)))
    return f"{PREFIX}{digest.hexdigest()[:40]}"
