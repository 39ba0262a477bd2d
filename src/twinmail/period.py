"""A span of time as a person gives it on the command line: ``--since`` and ``--until``. Pure.

A day is a whole one, also as an end; times are UTC unless they say another zone (RFC 3339).
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from twinmail.errors import PermanentError

FORMS = "a day (2026-11-23), a time (2026-11-23T10:00Z) or an age (90m, 12h, 7d, 4w)"

_AGE = re.compile(r"([0-9]{1,6})([mhdw])")
_UNIT = {
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}


class PeriodError(PermanentError):
    """The text is no point in time, or the end is before the start."""


@dataclass(frozen=True)
class Period:
    """From *since* up to, and without, *until*; None is an open end."""

    since: datetime | None = None
    until: datetime | None = None

    @classmethod
    def parse(cls, since: str, until: str, now: datetime) -> "Period":
        """Read both ends; empty is open.

        Raises:
            PeriodError: see there; the text says which option.
        """
        found = cls(_moment("--since", since, now), _moment("--until", until, now, end=True))
        if found.since and found.until and found.since >= found.until:
            raise PeriodError(f"--until {until}: expected a time after --since {since}")
        return found

    def __contains__(self, moment: datetime) -> bool:
        after = self.since is None or self.since <= moment
        return after and (self.until is None or moment < self.until)


EVER = Period()


def _moment(option: str, text: str, now: datetime, *, end: bool = False) -> datetime | None:
    if not text:
        return None
    try:
        if age := _AGE.fullmatch(text):
            return now - int(age[1]) * _UNIT[age[2]]
        if len(text) == len("2026-11-23"):
            day = date.fromisoformat(text) + timedelta(days=int(end))
            return datetime.combine(day, time(), UTC)
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise PeriodError(f"{option} {text}: expected {FORMS}") from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
