"""A decision: where one mailbox puts one message, and what it sends because of it. Pure.

It is made once, by whichever server comes first, and kept in S3 under a key that only one of them can create;
the other adopts it. A message that nothing is decided about has none, and goes where its manifest entry says.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from twinmail import versioned_json
from twinmail.errors import PermanentError
from twinmail.layout import STATE, LayoutError, checked_ses_id
from twinmail.manifest import is_keyword

VERSION = 1
PREFIX = f"{STATE}decisions/"

VACATION = "vacation"
REDIRECT = "redirect"
OTHER = "other"

SCRIPT = "script"
JUNK = "junk"
BROKEN = "broken"

# What Maildir has letters for (draft, flagged, passed, replied, seen, trashed), sorted as it wants them.
_FLAGS = re.compile(r"D?F?P?R?S?T?")
# A folder becomes a name on disk, of Dovecot's making: no separator, no dot first.
_FOLDER = re.compile(r"[^\x00-\x1f\x7f/.][^\x00-\x1f\x7f/]{0,249}")
_MAILBOX = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_KEY = re.compile(
    re.escape(PREFIX) + r"(?P<day>[0-9]{4}/[0-9]{2}/[0-9]{2})/(?P<ses_id>[^/]+)/(?P<mailbox>[^/]+)\.json"
)


class DecisionError(PermanentError):
    """The bytes are not a decision that this version understands, or the key is not one's."""


@dataclass(frozen=True)
class Placement:
    """One copy of the message.

    Attributes:
        folder: ``INBOX``, or the folder's name on disk without its first dot (Maildir++: ``Lists.python``).
        flags: Maildir's letters, sorted.
        keywords: IMAP keywords.
    """

    folder: str
    flags: str = ""
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outgoing:
    """One message that the script wants sent.

    Attributes:
        kind: `VACATION`, `REDIRECT` or `OTHER`.
        mail_from: envelope sender that Pigeonhole gave; empty for an answer.
        message: of an answer, all octets; of a redirect none, since the log has the message.
        memory: of an answer: 32 hexadecimal digits, equal for answers of which a sender gets one.
        until: of an answer: no other one with the same *memory* before, UTC.
    """

    kind: str
    mail_from: str
    rcpt_to: tuple[str, ...]
    message: bytes = b""
    memory: str = ""
    until: datetime | None = None


@dataclass(frozen=True)
class Decision:
    """What *mailbox* does with the message *ses_id*.

    Attributes:
        placements: at least one; the first is where the ledger says the message is.
        decided: when, UTC.
        server: by which server.
        reason: `SCRIPT`, `JUNK` (the user moved mail of this sender) or `BROKEN` (the script failed, or
            nobody could be asked; the message is where its manifest entry says).
        complaints: what Pigeonhole said is wrong with the script, one line each.
    """

    mailbox: str
    ses_id: str
    placements: tuple[Placement, ...]
    outgoing: tuple[Outgoing, ...]
    decided: datetime
    server: str
    reason: str
    complaints: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        """Encode as canonical JSON."""
        document = {
            "version": VERSION,
            "mailbox": self.mailbox,
            "ses_id": self.ses_id,
            "placements": [
                {"folder": one.folder, "flags": one.flags, "keywords": list(one.keywords)}
                for one in self.placements
            ],
            "outgoing": [_outgoing_document(one) for one in self.outgoing],
            "decided": _moment(self.decided),
            "server": self.server,
            "reason": self.reason,
            "complaints": list(self.complaints),
        }
        return versioned_json.write(document)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Decision":
        """Decode *data*.

        Raises:
            DecisionError: it is damaged, or of another version; the text says which field.
        """
        try:
            document = versioned_json.read(data, VERSION)
        except ValueError as error:
            raise DecisionError(f"decision: {error}") from error
        mailbox = _text(document, "mailbox", _MAILBOX)
        placements = tuple(_placement(one) for one in _list(document, "placements"))
        if not placements:
            raise DecisionError("decision: placements: expected at least one, got none")
        try:
            ses_id = checked_ses_id(_text(document, "ses_id"))
        except LayoutError as error:
            raise DecisionError(f"decision: {error}") from error
        return cls(
            mailbox=mailbox,
            ses_id=ses_id,
            placements=placements,
            outgoing=tuple(_outgoing(one) for one in _list(document, "outgoing")),
            decided=_time(document, "decided"),
            server=_text(document, "server"),
            reason=_text(document, "reason"),
            complaints=tuple(map(str, _list(document, "complaints"))),
        )


@dataclass(frozen=True)
class DecisionKey:
    """What the key of a decision says; *day* is the day the message arrived (``YYYY/MM/DD``, UTC)."""

    day: str
    ses_id: str
    mailbox: str

    @classmethod
    def parse(cls, key: str) -> "DecisionKey":
        """Read *key*.

        Raises:
            DecisionError: it is not the key of a decision.
        """
        match = _KEY.fullmatch(key)
        if match is None or not _MAILBOX.fullmatch(match["mailbox"]):
            raise DecisionError(f"key {key!r}: expected {PREFIX}YYYY/MM/DD/<ses-id>/<mailbox>.json")
        try:
            return cls(match["day"], checked_ses_id(match["ses_id"]), match["mailbox"])
        except LayoutError as error:
            raise DecisionError(f"key {key!r}: {error}") from error

    def __str__(self) -> str:
        return f"{PREFIX}{self.day}/{self.ses_id}/{self.mailbox}.json"


def decision_key(ses_id: str, arrived: datetime, mailbox: str) -> str:
    """The key of the decision of *mailbox* about a message."""
    return str(DecisionKey(f"{arrived.astimezone(UTC):%Y/%m/%d}", checked_ses_id(ses_id), mailbox))


def is_folder(name: str) -> bool:
    """Whether *name* can be a `Placement.folder`."""
    return _FOLDER.fullmatch(name) is not None and len(name.encode()) <= 250


def sorted_flags(letters: str) -> str:
    """Those of *letters* that Maildir knows, each once, in its order."""
    return "".join(one for one in "DFPRST" if one in letters)


def _moment(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="milliseconds")


def _outgoing_document(one: Outgoing) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "mail_from": one.mail_from,
        "rcpt_to": list(one.rcpt_to),
        "message": base64.b64encode(one.message).decode("ascii"),
        "memory": one.memory,
        "until": _moment(one.until) if one.until else None,
    }


def _outgoing(value: Any) -> Outgoing:
    document = _object(value, "outgoing")
    rcpt_to = _list(document, "rcpt_to")
    if not all(isinstance(one, str) for one in rcpt_to):
        raise DecisionError(f"decision: rcpt_to: expected strings, got {rcpt_to!r}")
    try:
        message = base64.b64decode(_text(document, "message"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise DecisionError(f"decision: message: not base64 ({error})") from error
    return Outgoing(
        kind=_text(document, "kind"),
        mail_from=_text(document, "mail_from"),
        rcpt_to=tuple(rcpt_to),
        message=message,
        memory=_text(document, "memory"),
        until=None if document.get("until") is None else _time(document, "until"),
    )


def _placement(value: Any) -> Placement:
    document = _object(value, "placements")
    keywords = _list(document, "keywords")
    for one in keywords:
        if not isinstance(one, str) or not is_keyword(one):
            raise DecisionError(f"decision: keywords: not a keyword: {one!r}")
    folder = _text(document, "folder")
    if not is_folder(folder):
        raise DecisionError(f"decision: folder: not the name of a folder on disk: {folder!r}")
    return Placement(folder, _text(document, "flags", _FLAGS), tuple(keywords))


def _object(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise DecisionError(f"decision: {name}: expected objects, got {value!r}")
    return value


def _list(document: Mapping[str, Any], name: str) -> list[Any]:
    value = document.get(name)
    if not isinstance(value, list):
        raise DecisionError(f"decision: {name}: expected a list, got {value!r}")
    return value


def _text(document: Mapping[str, Any], name: str, form: re.Pattern[str] | None = None) -> str:
    value = document.get(name)
    if not isinstance(value, str) or (form is not None and not form.fullmatch(value)):
        raise DecisionError(f"decision: {name}: expected a string of its form, got {value!r}")
    return value


def _time(document: Mapping[str, Any], name: str) -> datetime:
    try:
        moment = datetime.fromisoformat(_text(document, name))
    except ValueError as error:
        raise DecisionError(f"decision: {name}: {error}") from error
    if moment.tzinfo is None:
        raise DecisionError(f"decision: {name}: expected a time zone, got {moment.isoformat()}")
    return moment.astimezone(UTC)
