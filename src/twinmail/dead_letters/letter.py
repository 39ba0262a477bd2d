"""One message of the dead-letter queue, read: the event that failed, why, and when. Pure.

Lambda writes an invocation record (Lambda Developer Guide, "Capturing records of Lambda asynchronous
invocations"); notices of SES that the reconciler tried in vain for a day are moved there as they are.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from twinmail.errors import PermanentError
from twinmail.reconciler.arrivals import notice
from twinmail.reconciler.turn import is_schedule
from twinmail.sending_event import is_sns
from twinmail.sending_event import read as read_sending_event
from twinmail.ses_event import EventError, receipts


class Kind(Enum):
    """What failed."""

    MESSAGE = "message"  # a message that SES stored
    REPORT = "report"  # what became of a message that was sent
    TURN = "turn"  # a turn of the reconciler
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Letter:
    """A dead letter.

    Attributes:
        identity: SQS's id of it.
        ses_ids: the messages that it is about; empty if that cannot be told.
        error: its type and message, as the last attempt ended.
        attempts: how often it was tried; 0 if that is not known.
        at: when it was given up, UTC; None if that is not known.
        event: what the function is invoked with to try it again; None if nothing can be.
    """

    identity: str
    kind: Kind
    ses_ids: tuple[str, ...]
    error: str
    attempts: int
    at: datetime | None
    event: Mapping[str, Any] | None


_LIMIT = 1000


def read(identity: str, body: str, attributes: Mapping[str, str]) -> Letter:
    """The letter with this *body* and SQS's *attributes*; never an error, whatever is in the queue."""
    sent = _of_milliseconds(attributes.get("SentTimestamp", ""))
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        return Letter(identity, Kind.UNKNOWN, (), _short(f"no record of Lambda: {body}"), 0, sent, None)
    if "requestPayload" in document:
        return _record(identity, document, sent)
    if "notificationType" in document:
        return _notice(identity, body, sent, attributes)
    return Letter(identity, Kind.UNKNOWN, (), _short(f"no record of Lambda: {body}"), 0, sent, None)


def _record(identity: str, document: Mapping[str, Any], sent: datetime | None) -> Letter:
    context, answer = _mapping(document.get("requestContext")), _mapping(document.get("responsePayload"))
    attempts = context.get("approximateInvokeCount")
    error = ": ".join(str(one) for one in (answer.get("errorType"), answer.get("errorMessage")) if one)
    condition = str(context.get("condition") or "given up")
    event = document["requestPayload"]
    kind, ses_ids = _about(event) if isinstance(event, dict) else (Kind.UNKNOWN, ())
    return Letter(
        identity,
        kind,
        ses_ids,
        _short(error or condition),
        attempts if isinstance(attempts, int) and not isinstance(attempts, bool) else 0,
        _moment(document.get("timestamp")) or sent,
        event if isinstance(event, dict) else None,
    )


def _notice(identity: str, body: str, sent: datetime | None, attributes: Mapping[str, str]) -> Letter:
    count = attributes.get("ApproximateReceiveCount", "")
    try:
        event: dict[str, Any] | None = {"Records": [{"eventSource": "aws:ses", "ses": notice(body)}]}
    except EventError:
        event = None
    kind, ses_ids = _about(event) if event else (Kind.UNKNOWN, ())
    error = "the reconciler could not bring it into the log for a day; its reasons are in the function's log"
    return Letter(identity, kind, ses_ids, error, int(count) if count.isdecimal() else 0, sent, event)


def _about(event: Mapping[str, Any]) -> tuple[Kind, tuple[str, ...]]:
    if is_schedule(event):
        return Kind.TURN, ()
    records = event.get("Records")
    try:
        if isinstance(records, list) and records and all(is_sns(one) for one in records):
            found = (read_sending_event(one) for one in records)
            return Kind.REPORT, tuple(one.ses_id for one in found if one)
        return Kind.MESSAGE, tuple(one.ses_id for one in receipts(event))
    except PermanentError:
        return Kind.UNKNOWN, ()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _moment(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (TypeError, ValueError, OverflowError):
        return None


def _of_milliseconds(text: str) -> datetime | None:
    try:
        return datetime.fromtimestamp(int(text) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _short(text: str) -> str:
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())[:_LIMIT]
