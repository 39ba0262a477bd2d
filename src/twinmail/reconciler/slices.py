"""Which part of ``incoming/`` is listed when: all of it in a day, the same small part in each turn. Pure.

The ids that SES gives are random, so a listing cannot begin where the last one ended, as it can in a log.
Cut by their first two characters into as many slices as a day has turns, the whole is looked at once a day
at the cost of one listing, however old the archive is.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

TURN = timedelta(minutes=15)
"""Time from one turn to the next (`lambda/stack.yaml`)."""

COUNT = timedelta(days=1) // TURN

# What SES makes its ids of (base 32, the extended hex alphabet), in the order of a listing. Ids of other
# characters are in some slice too: the bounds only say how evenly they are cut.
_DIGITS = "0123456789abcdefghijklmnopqrstuv"


@dataclass(frozen=True)
class Slice:
    """Ids after one and up to another, in the order of their octets.

    Attributes:
        after: not itself part of it; empty is the beginning.
        last: part of it; None is the end.
    """

    after: str
    last: str | None

    def __contains__(self, ses_id: str) -> bool:
        return self.after < ses_id and (self.last is None or ses_id <= self.last)


def of_turn(at: datetime) -> Slice:
    """The slice of the turn at *at*."""
    moment = at.astimezone(UTC)
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return number((moment - midnight) // TURN)


def number(which: int) -> Slice:
    """Slice *which*, from 0 to `COUNT` - 1."""
    return Slice(_bound(which), _bound(which + 1) if which + 1 < COUNT else None)


def _bound(which: int) -> str:
    if not which:
        return ""
    place = which * len(_DIGITS) ** 2 // COUNT
    return _DIGITS[place // len(_DIGITS)] + _DIGITS[place % len(_DIGITS)]
