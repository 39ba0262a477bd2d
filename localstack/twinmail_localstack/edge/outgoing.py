"""What becomes of a sent message, for each of its recipients. Pure.

The addresses of SES's mailbox simulator behave as in the SES Developer Guide, "Using the mailbox simulator",
with any label (``bounce+label@``). Mail to our own domains comes back in, or bounces where nobody has the
address. For everybody else there is no Internet here: the message counts as delivered.
"""

import hashlib
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from twinmail_localstack.sent import Sent

SIMULATOR = "simulator.amazonses.com"

_SUPPRESSED = (
    "Amazon SES has suppressed sending to this address because it has a recent history of bouncing as an "
    "invalid address. For more information about how to remove an address from the suppression list, see the "
    "Amazon SES Developer Guide"
)


class Fate(Enum):
    """What happens to the message at one recipient; the value is a part of its events' ids."""

    RETURNED = "returned"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    SUPPRESSED = "suppressed"
    UNKNOWN = "unknown"
    AWAY = "away"
    COMPLAINED = "complained"


def fate(recipient: str, ours: Callable[[str], bool], domains: Sequence[str]) -> Fate:
    """What happens at *recipient*; *ours* says whether a receipt rule takes it, *domains* are verified."""
    local, _, domain = recipient.lower().rpartition("@")
    if domain == SIMULATOR:
        return _SIMULATED.get(local.partition("+")[0], Fate.UNKNOWN)
    if ours(recipient):
        return Fate.RETURNED
    return Fate.UNKNOWN if domain in domains else Fate.DELIVERED


_SIMULATED = {
    "success": Fate.DELIVERED,
    "bounce": Fate.BOUNCED,
    "ooto": Fate.AWAY,
    "complaint": Fate.COMPLAINED,
    "suppressionlist": Fate.SUPPRESSED,
}


def returned_id(ses_id: str, recipients: Sequence[str]) -> str:
    """The SES message id with which *ses_id* comes back in: the same at each attempt."""
    digest = hashlib.sha256("\0".join((ses_id, *recipients)).encode()).digest()
    return "".join("0123456789abcdefghijklmnopqrstuv"[one % 32] for one in (digest + digest)[:39]) + "1"


def feedback_id(ses_id: str, recipient: str, kind: Fate) -> str:
    """The id of a bounce or complaint, of the shape of SES's; the same at each attempt."""
    digest = hashlib.sha256(f"{ses_id}\0{recipient}\0{kind.value}".encode()).hexdigest()
    uuid = f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:32]}"
    return f"{ses_id[:16]}-{uuid}-000000"


def bounce(sent: Sent, recipient: str, kind: Fate, region: str, stamp: str) -> dict[str, Any]:
    """The ``bounce`` object of an event; *stamp* is its time as SES writes it."""
    one: dict[str, str] = {"emailAddress": recipient}
    kinds = ("Permanent", "General")
    if kind is Fate.AWAY:
        kinds = ("Transient", "General")
    elif kind is Fate.SUPPRESSED:
        kinds = ("Permanent", "Suppressed")
        one |= {"action": "failed", "status": "5.1.1", "diagnosticCode": _SUPPRESSED}
    else:
        text = (
            f"550 5.1.1 <{recipient}>: mailbox unavailable"
            if kind is Fate.UNKNOWN
            else "550 5.1.1 user unknown"
        )
        one |= {"action": "failed", "status": "5.1.1", "diagnosticCode": f"smtp; {text}"}
    return {
        "bounceType": kinds[0],
        "bounceSubType": kinds[1],
        "bouncedRecipients": [one],
        "timestamp": stamp,
        "feedbackId": feedback_id(sent.ses_id, recipient, kind),
        "reportingMTA": f"dns; a1-1.smtp-out.{region}.amazonses.com",
    }


def complaint(sent: Sent, recipient: str, stamp: str) -> dict[str, Any]:
    """The ``complaint`` object of an event."""
    return {
        "complainedRecipients": [{"emailAddress": recipient}],
        "timestamp": stamp,
        "feedbackId": feedback_id(sent.ses_id, recipient, Fate.COMPLAINED),
        "complaintSubType": None,
        "userAgent": "Amazon SES Mailbox Simulator",
        "complaintFeedbackType": "abuse",
        "arrivalDate": stamp,
    }
