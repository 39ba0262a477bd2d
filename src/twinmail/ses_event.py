"""The event with which SES invokes the Lambda (SES Developer Guide, "Lambda action": the event's contents).

It holds neither the body nor the bucket. ``mail.destination`` comes from the message's own header; only
``receipt.recipients`` is the envelope.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from twinmail.errors import PermanentError
from twinmail.layout import LayoutError, checked_ses_id

VERDICTS = ("spam", "virus", "spf", "dkim", "dmarc")


class EventError(PermanentError):
    """The event does not have the shape that SES documents."""


@dataclass(frozen=True)
class Receipt:
    """One received message, as SES announces it.

    Attributes:
        ses_id: SES message id.
        arrived: when SES accepted it, UTC, milliseconds.
        mail_from: envelope sender.
        recipients: the envelope recipients that the receipt rule matched.
        verdicts: ``PASS``, ``FAIL``, ``GRAY``, … by name.
    """

    ses_id: str
    arrived: datetime
    mail_from: str
    recipients: tuple[str, ...]
    verdicts: Mapping[str, str]

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> "Receipt":
        """Read one of the event's ``Records``.

        Raises:
            EventError: something is missing; the text says what.
        """
        try:
            mail, receipt = record["ses"]["mail"], record["ses"]["receipt"]
            arrived = datetime.fromisoformat(mail["timestamp"])
            found = cls(
                ses_id=checked_ses_id(mail["messageId"]),
                arrived=arrived.astimezone(UTC),
                mail_from=str(mail.get("source") or "").strip("<>"),
                recipients=tuple(str(one) for one in receipt["recipients"]),
                verdicts={
                    name: str(receipt[f"{name}Verdict"]["status"])
                    for name in VERDICTS
                    if f"{name}Verdict" in receipt
                },
            )
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError, LayoutError) as error:
            raise EventError(
                f"SES event: {type(error).__name__}: {error}; expected mail and receipt"
            ) from error
        if arrived.tzinfo is None:
            raise EventError(f"SES event: mail.timestamp: expected a time zone, got {mail['timestamp']!r}")
        return found


def receipts(event: Mapping[str, Any]) -> tuple[Receipt, ...]:
    """All messages of *event*.

    Raises:
        EventError: it is no SES event.
    """
    records = event.get("Records")
    if not isinstance(records, list) or not records:
        raise EventError(f"SES event: Records: expected a list with at least one, got {records!r:.80}")
    return tuple(Receipt.of_record(one) for one in records)
