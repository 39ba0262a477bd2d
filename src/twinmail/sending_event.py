"""The events with which SES says what became of a sent message, as SNS hands them to the function.

Source: SES Developer Guide, "Contents of event data that Amazon SES publishes to Amazon SNS"; Lambda
Developer Guide, "Using AWS Lambda with Amazon SNS". Pure.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parseaddr
from typing import Any

from twinmail.errors import PermanentError
from twinmail.layout import LayoutError, checked_ses_id

SNS_SOURCE = "aws:sns"

_TEXT_LIMIT = 2000
_KINDS = ("Send", "Bounce", "Complaint", "Reject")
# What SES publishes when the event destination is made: no event, and no JSON.
_GREETING = "Successfully validated SNS topic"


class SendingEventError(PermanentError):
    """An event does not have the shape that SES documents."""


@dataclass(frozen=True)
class Recipient:
    """One recipient that a bounce or a complaint is about.

    Attributes:
        status: of the delivery status notification (RFC 3463), such as 5.1.1, or empty.
        diagnostic: what the other server said, or empty.
    """

    address: str
    status: str = ""
    diagnostic: str = ""


@dataclass(frozen=True)
class SendingEvent:
    """One event about one message.

    Attributes:
        kind: ``Send``, ``Bounce``, ``Complaint`` or ``Reject``.
        ses_id: SES message id of the message.
        at: when it happened; for Send, when SES took the message.
        sent: when SES took the message.
        source: envelope sender.
        caller: name of the IAM user that sent it, or empty.
        destinations: all its recipients.
        message_id: its Message-ID as the sender wrote it, or empty.
        subject: as the sender wrote it.
        feedback_id: SES's id of a bounce or complaint, or empty.
        category: of a bounce, ``Permanent/General`` and the like; of a complaint, its type, or empty.
        recipients: whom a bounce or complaint is about.
        reason: of a Reject.
    """

    kind: str
    ses_id: str
    at: datetime
    sent: datetime
    source: str
    caller: str
    destinations: tuple[str, ...]
    message_id: str
    subject: str
    feedback_id: str = ""
    category: str = ""
    recipients: tuple[Recipient, ...] = ()
    reason: str = ""

    @property
    def permanent(self) -> bool:
        """Whether trying again cannot help."""
        return not (self.kind == "Bounce" and self.category.startswith(("Transient", "Undetermined")))


def is_sns(record: Any) -> bool:
    """Whether one of the ``Records`` of an invocation comes from SNS."""
    return isinstance(record, Mapping) and record.get("EventSource") == SNS_SOURCE


def read(record: Mapping[str, Any]) -> SendingEvent | None:
    """Read one record from SNS; None if it is no event that concerns us.

    Raises:
        SendingEventError: it has not the shape of an event.
    """
    try:
        text = record["Sns"]["Message"]
        if text.startswith(_GREETING):
            return None
        document = json.loads(text)
        # Feedback notifications of an identity, an older kind, name it otherwise.
        kind = document.get("eventType") or document.get("notificationType")
        return _read(str(kind), document) if kind in _KINDS else None
    except (
        KeyError,
        TypeError,
        ValueError,
        OverflowError,
        AttributeError,
        LayoutError,
        RecursionError,
    ) as error:
        raise SendingEventError(
            f"event about a sent message: {type(error).__name__}: {error}; expected eventType and mail"
        ) from error


def _read(kind: str, document: Mapping[str, Any]) -> SendingEvent:
    mail = document["mail"]
    details = document.get(kind.lower()) or {}
    sent = _moment(mail["timestamp"])
    people = details.get("bouncedRecipients") or details.get("complainedRecipients") or ()
    subject = (mail.get("commonHeaders") or {}).get("subject")
    category = (
        "/".join(str(details.get(one) or "Undetermined") for one in ("bounceType", "bounceSubType"))
        if kind == "Bounce"
        else _text(details.get("complaintFeedbackType"))
    )
    return SendingEvent(
        kind=kind,
        ses_id=checked_ses_id(mail["messageId"]),
        at=_moment(details["timestamp"]) if details.get("timestamp") else sent,
        sent=sent,
        source=_address(mail.get("source")),
        caller=_text(_first((mail.get("tags") or {}).get("ses:caller-identity"))),
        destinations=tuple(_text(one) for one in mail.get("destination") or ()),
        message_id=_header(mail, "message-id"),
        subject=_text(subject) if subject else _header(mail, "subject"),
        feedback_id=_text(details.get("feedbackId")),
        category=category,
        recipients=tuple(_recipient(one) for one in people),
        reason=_text(details.get("reason")),
    )


def _recipient(document: Mapping[str, Any]) -> Recipient:
    return Recipient(
        _address(document["emailAddress"]),
        _text(document.get("status")),
        _text(document.get("diagnosticCode")).removeprefix("smtp; "),
    )


def _moment(value: str) -> datetime:
    found = datetime.fromisoformat(value)
    if found.tzinfo is None:
        raise ValueError(f"expected a time zone, got {value!r}")
    return found.astimezone(UTC)


def _address(value: Any) -> str:
    """The address alone: SES may write it with a name."""
    text = _text(value)
    return parseaddr(text)[1] or text.strip("<>")


def _header(mail: Mapping[str, Any], name: str) -> str:
    """A field of the original message, which SES lists under ``headers``."""
    for one in mail.get("headers") or ():
        if isinstance(one, Mapping) and str(one.get("name")).lower() == name:
            return _text(one.get("value"))
    return ""


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


def _text(value: Any) -> str:
    """*value* as one line of bounded length, without control characters or lone surrogates."""
    text = "" if value is None else str(value)
    clean = "".join(one if one.isprintable() else " " for one in text.encode("utf-8", "replace").decode())
    return " ".join(clean.split())[:_TEXT_LIMIT]
