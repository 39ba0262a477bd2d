"""The manifest: one entry a message, written last, so that an entry means the message is complete.

An entry is a JSON object in canonical form (sorted keys, no spaces): the same message gives the same bytes
whichever of several concurrent writers wrote it.

Version 1 is what SES received. Version 2 is what was imported from an older account: it says more about each
delivery (any folder, flags, keywords), and nobody is asked about it (no filter, no answer). A server that
knows version 1 only puts such an entry aside, says so, and takes it after its update. Both are read for ever.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from twinmail.errors import PermanentError
from twinmail.folder_name import is_folder_name
from twinmail.layout import LayoutError, checked_ses_id

VERSION = 1
IMPORTED = 2

INBOX = "INBOX"
JUNK = "Junk"

METADATA = "entry"
"""Name of the metadata of a message's object that holds its entry, as it is in the manifest."""

# All metadata of an object, names and values (Amazon S3 User Guide, Working with object metadata).
_METADATA_OCTETS = 2048

_SHA256 = re.compile(r"[0-9a-f]{64}")
# A mailbox and a folder become names on disk: no separator, no dot first, nothing that needs quoting.
_MAILBOX = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _-]{0,63}")
# An IMAP keyword is an atom (RFC 9051, section 9); Dovecot keeps one a line.
_KEYWORD = re.compile(r"[^\x00-\x20\x7f-\U0010ffff(){%*\"\\\]]{1,255}")

FLAGS = ("\\Answered", "\\Draft", "\\Flagged", "\\Seen")
"""System flags that an imported message can have (RFC 9051, section 2.3.2), sorted."""


class ManifestError(PermanentError):
    """The bytes are not a manifest entry that this version understands."""


@dataclass(frozen=True)
class Delivery:
    """One mailbox that gets the message.

    Attributes:
        folder: ``INBOX``, ``Junk``, …; of an imported message any, as IMAP names it (``Verein/Kasse 2019``).
        flags: some of `FLAGS`, sorted; only of an imported message.
        keywords: IMAP keywords, sorted; only of an imported message.
    """

    mailbox: str
    folder: str = INBOX
    flags: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """One message in the log.

    Attributes:
        ses_id: SES message id.
        key: object key of the message for IMAP.
        size: octets of that object.
        sha256: its digest, 64 lower-case hexadecimal digits.
        arrived: when SES accepted the message, UTC; of an imported one, when the older account got it.
        mail_from: envelope sender (RFC 5321), empty for a bounce.
        rcpt_to: envelope recipients of this domain, as matched by the receipt rule.
        deliveries: where it goes; empty for a message nobody should see.
        verdicts: SES's verdicts by name (``spam``, ``virus``, ``spf``, ``dkim``, ``dmarc``).
        imported: it came from an older account (version 2).
    """

    ses_id: str
    key: str
    size: int
    sha256: str
    arrived: datetime
    mail_from: str
    rcpt_to: tuple[str, ...]
    deliveries: tuple[Delivery, ...]
    verdicts: Mapping[str, str] = field(default_factory=dict)
    imported: bool = False

    def to_bytes(self) -> bytes:
        """Encode as canonical JSON (UTF-8)."""
        document = {
            "version": IMPORTED if self.imported else VERSION,
            "ses_id": self.ses_id,
            "key": self.key,
            "size": self.size,
            "sha256": self.sha256,
            "arrived": self.arrived.astimezone(UTC).isoformat(timespec="microseconds"),
            "mail_from": self.mail_from,
            "rcpt_to": list(self.rcpt_to),
            "deliveries": [_delivery_document(one, self.imported) for one in self.deliveries],
            "verdicts": dict(self.verdicts),
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")

    def to_metadata(self) -> dict[str, str]:
        """The metadata of the message's object: the entry, if there is room for it.

        The manifest alone says that a message is complete, and what its entry is. But who has seen in the
        manifest's listing which octets an entry has can take them from here, with the message itself.
        """
        told = self.to_bytes().decode("ascii")
        return {METADATA: told} if len(METADATA) + len(told) <= _METADATA_OCTETS else {}

    @classmethod
    def from_bytes(cls, data: bytes) -> "Entry":
        """Decode *data*.

        Raises:
            ManifestError: it is damaged, or of another version; the text says which field.
        """
        try:
            document = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ManifestError(f"manifest entry: not JSON ({error})") from error
        if not isinstance(document, dict):
            raise ManifestError(f"manifest entry: expected an object, got {type(document).__name__}")
        version = document.get("version")
        if version not in (VERSION, IMPORTED) or isinstance(version, bool):
            raise ManifestError(
                f"manifest entry: expected version {VERSION} or {IMPORTED}, got {version!r}; update"
            )
        return _entry(document, version == IMPORTED)


def is_keyword(name: str) -> bool:
    """Whether *name* can be a keyword of a message."""
    return _KEYWORD.fullmatch(name) is not None


def _delivery_document(one: Delivery, imported: bool) -> dict[str, Any]:
    document: dict[str, Any] = {"mailbox": one.mailbox, "folder": one.folder}
    if imported:
        document |= {"flags": list(one.flags), "keywords": list(one.keywords)}
    return document


def _entry(document: Mapping[str, Any], imported: bool) -> Entry:
    def text(name: str) -> str:
        value = document.get(name)
        if not isinstance(value, str):
            raise ManifestError(f"manifest entry: {name}: expected a string, got {value!r}")
        return value

    size = document.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ManifestError(f"manifest entry: size: expected a number of octets, got {size!r}")
    if not _SHA256.fullmatch(text("sha256")):
        raise ManifestError(f"manifest entry: sha256: expected 64 hexadecimal digits, got {text('sha256')!r}")
    try:
        arrived = datetime.fromisoformat(text("arrived"))
        ses_id = checked_ses_id(text("ses_id"))
    except (ValueError, LayoutError) as error:
        raise ManifestError(f"manifest entry: {error}") from error
    if arrived.tzinfo is None:
        raise ManifestError(f"manifest entry: arrived: expected a time zone, got {text('arrived')!r}")
    try:
        arrived = arrived.astimezone(UTC)
    except OverflowError as error:
        raise ManifestError(f"manifest entry: arrived: no day in UTC: {text('arrived')!r}") from error
    rcpt_to = document.get("rcpt_to")
    if not isinstance(rcpt_to, list) or not all(isinstance(one, str) for one in rcpt_to):
        raise ManifestError(f"manifest entry: rcpt_to: expected a list of strings, got {rcpt_to!r}")
    verdicts = document.get("verdicts")
    if not isinstance(verdicts, dict) or not all(isinstance(one, str) for one in verdicts.values()):
        raise ManifestError(f"manifest entry: verdicts: expected strings by name, got {verdicts!r}")
    return Entry(
        ses_id=ses_id,
        key=text("key"),
        size=size,
        sha256=text("sha256"),
        arrived=arrived,
        mail_from=text("mail_from"),
        rcpt_to=tuple(rcpt_to),
        deliveries=_deliveries(document.get("deliveries"), imported),
        verdicts=verdicts,
        imported=imported,
    )


def _deliveries(value: Any, imported: bool) -> tuple[Delivery, ...]:
    if not isinstance(value, list):
        raise ManifestError(f"manifest entry: deliveries: expected a list, got {value!r}")
    deliveries = []
    for item in value:
        document = item if isinstance(item, dict) else {}
        mailbox, folder = document.get("mailbox"), document.get("folder")
        if not isinstance(mailbox, str) or not _MAILBOX.fullmatch(mailbox):
            raise ManifestError(f"manifest entry: deliveries: not the name of a mailbox: {mailbox!r}")
        if not isinstance(folder, str) or not (
            is_folder_name(folder) if imported else _FOLDER.fullmatch(folder)
        ):
            raise ManifestError(f"manifest entry: deliveries: not the name of a folder: {folder!r}")
        flags: tuple[str, ...] = ()
        keywords: tuple[str, ...] = ()
        if imported:
            flags = _words(document, "flags", lambda one: one in FLAGS)
            keywords = _words(document, "keywords", is_keyword)
        deliveries.append(Delivery(mailbox, folder, flags, keywords))
    return tuple(deliveries)


def _words(document: Mapping[str, Any], name: str, allowed: Callable[[str], bool]) -> tuple[str, ...]:
    value = document.get(name)
    if not isinstance(value, list) or not all(isinstance(one, str) and allowed(one) for one in value):
        raise ManifestError(f"manifest entry: deliveries: {name}: expected {name} of IMAP, got {value!r}")
    return tuple(value)
