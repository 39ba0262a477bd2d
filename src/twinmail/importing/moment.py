"""When a message arrived, told by what a source has; pure.

Dates are what senders, servers and copying programs made of them, so each is believed only if it is possible.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from twinmail.header_fields import fields

_FIRST = datetime(1980, 1, 1, tzinfo=UTC)
_AHEAD = timedelta(days=2)
_LONGEST = 2000
# ``From sender Thu Jul 10 12:34:56 2014`` (RFC 4155, appendix A); some have a zone before or after the year.
FROM_LINE = re.compile(
    rb"From (?:.* )?(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? +"
    rb"(?P<month>Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +(?P<day>[0-9]{1,2}) +"
    rb"(?P<time>[0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?)(?: +(?P<zone>[+-][0-9]{4}|[A-Z]{3,4}))? +"
    rb"(?P<year>[0-9]{4})(?: +(?P<after>[+-][0-9]{4}))?[ \t]*\r?\n?"
)


def possible(moment: datetime | None, now: datetime) -> datetime | None:
    """*moment* to the second, if mail can have arrived then."""
    if moment is None or not _FIRST <= moment <= now + _AHEAD:
        return None
    return moment.replace(microsecond=0)


def first_possible(moments: Iterable[datetime | None], now: datetime) -> datetime:
    """The first of *moments* that is possible, or *now*."""
    return next(
        (found for one in moments if (found := possible(one, now)) is not None), now.replace(microsecond=0)
    )


def of_from_line(line: bytes) -> datetime | None:
    """What the ``From`` line of an mbox says; without a zone it is UTC (RFC 4155)."""
    match = FROM_LINE.match(line)
    if match is None:
        return None
    day, month, year, time = (match[one].decode("ascii") for one in ("day", "month", "year", "time"))
    zone = (match["after"] or match["zone"] or b"+0000").decode("ascii")
    return parsed(f"{day} {month} {year} {time} {zone}")


def of_header(message: bytes) -> datetime | None:
    """When the last server took *message*, by its topmost Received field; else what Date says."""
    found: dict[str, bytes] = {}
    for one in fields(message):
        if one.name in ("received", "date"):
            found.setdefault(one.name, one.value[-_LONGEST:])
    received = found.get("received", b"").rpartition(b";")[2].decode("ascii", "replace")
    return parsed(received) or parsed(found.get("date", b"").decode("ascii", "replace"))


def parsed(text: str) -> datetime | None:
    """The date of RFC 5322 (section 3.3) in *text*, aware; None if there is none."""
    try:
        moment = parsedate_to_datetime(" ".join(text.split()))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
