"""What SES wrote above a stored message about its envelope: the last resort, when no event tells it. Pure.

SES puts these fields before what the sender sent, so the first field of a name is SES's. With several
recipients SES names none of them, so that nobody learns of the others; then those are taken whom To and Cc
name. A blind copy beside others cannot be told.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import getaddresses, parsedate_to_datetime

from twinmail.config import Config
from twinmail.errors import PermanentError
from twinmail.header_fields import fields
from twinmail.routing import route
from twinmail.ses_event import Receipt

START_BYTES = 64 * 1024
"""Octets of the message that are looked at."""

_RECEIVED = re.compile(
    r"by inbound-smtp\.\S+ with SMTP id (?P<ses_id>[A-Za-z0-9_-]+)\s?(?:for (?P<recipient>[^;]{1,400}))?;"
    r"\s{0,9}(?P<date>.{1,60})"
)
_RESULT = re.compile(r"\b(spf|dkim|dmarc)=([a-z]{1,20})")
_VERDICTS = {"pass": "PASS", "fail": "FAIL"}
_WORD = re.compile(r"[A-Z_]{1,32}")


class EnvelopeUnknown(PermanentError):
    """The stored message does not say for whom it is."""


def receipt(config: Config, ses_id: str, stored: datetime, start: bytes) -> Receipt:
    """What SES's own fields in *start* say of the message *ses_id*, stored at *stored*.

    Raises:
        EnvelopeUnknown: no mailbox can be found; a person must say whose it is.
    """
    first: dict[str, str] = {}
    named: list[str] = []
    for field in fields(start):
        first.setdefault(field.name, field.text)
        if field.name in ("to", "cc"):
            named.append(field.text[:10_000])
    received = _RECEIVED.search(first.get("received", ""))
    if received and received["ses_id"] != ses_id:
        received = None
    recipients = (
        (received["recipient"].strip(),) if received and received["recipient"] else _ours(config, named)
    )
    if not recipients:
        raise EnvelopeUnknown(
            f"{ses_id}: no event tells its envelope, and the stored message names none of our addresses; "
            f"read it with: ./inv show {ses_id} --raw"
        )
    return Receipt(
        ses_id=ses_id,
        arrived=_arrived(received["date"] if received else "", stored),
        mail_from=first.get("return-path", "").strip("<> ") if received else "",
        recipients=recipients,
        verdicts=_verdicts(first) if received else {},
    )


def _ours(config: Config, named: list[str]) -> tuple[str, ...]:
    """The addresses in the fields *named* that a mailbox here has."""
    found = [address for _, address in getaddresses(named) if address]
    return tuple(one for one in dict.fromkeys(found) if route(config, (one,)).mailboxes)


def _arrived(date: str, stored: datetime) -> datetime:
    try:
        moment = parsedate_to_datetime(date)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return stored.astimezone(UTC)


def _verdicts(first: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for name in ("spam", "virus"):
        word = _WORD.fullmatch(first.get(f"x-ses-{name}-verdict", "").strip())
        if word:
            found[name] = word[0]
    results = first.get("authentication-results", "")
    if results.startswith("amazonses.com"):
        for name, result in _RESULT.findall(results):
            # Of several signatures one that is good is enough.
            if found.get(name) != "PASS":
                found[name] = _VERDICTS.get(result, "GRAY")
    return found
