"""Which decisions there are about old mail, known without a request a message.

Who restores a mailbox has not got its scripts yet, or has got them only now, and asks nobody about old mail.
What was decided then still counts. One listing a day of mail tells, and less where nothing was decided.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from twinmail.filter.decision import PREFIX, DecisionError, DecisionKey, decision_key
from twinmail.sync.log import utc_now
from twinmail.sync.state_store import StateStore

# Younger mail is decided about now, by a server that has the script.
LATE = timedelta(minutes=10)
# Decisions about a day's mail are made on that day or, after an outage, somewhat later.
_FRESH_SECONDS = 60.0
_DAYS = 8


@dataclass(frozen=True)
class _Day:
    keys: frozenset[str]
    listed: float


@dataclass(frozen=True)
class _Gap:
    """Days without any decision, from *first* to before *until*."""

    first: date
    until: date
    listed: float


class DecidedDays:
    """The keys of decisions, by day of arrival."""

    def __init__(
        self,
        store: StateStore,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._clock = clock
        self._now = now
        self._lock = threading.Lock()
        self._days: dict[date, _Day] = {}
        self._gap = _Gap(date.max, date.max, 0.0)

    def has(self, ses_id: str, arrived: datetime, mailbox: str) -> bool:
        """Whether there is a decision of *mailbox* about a message that *arrived* then; of new mail, no.

        Raises:
            SourceUnavailable: transient.
        """
        if self._now() - arrived < LATE:
            return False
        day = arrived.astimezone(UTC).date()
        keys = self._keys(day)
        return bool(keys) and decision_key(ses_id, arrived, mailbox) in keys

    def _keys(self, wanted: date) -> frozenset[str]:
        # One listing for all threads that restore the same day.
        with self._lock:
            now = self._clock()
            day = self._days.pop(wanted, None)
            if day is None or now - day.listed > _FRESH_SECONDS:
                if self._gap.first <= wanted < self._gap.until and now - self._gap.listed <= _FRESH_SECONDS:
                    return frozenset()
                day = self._listed(wanted)
            self._days[wanted] = day
            while len(self._days) > _DAYS:
                del self._days[next(iter(self._days))]
            return day.keys

    def _listed(self, wanted: date) -> _Day:
        """The keys of the day *wanted*; where they end, the listing tells which days after it have none."""
        listed, prefix = self._clock(), _prefix(wanted)
        keys = set()
        following = date.max
        for key in self._store.keys(PREFIX, after=prefix):
            if not key.startswith(prefix):
                following = _day_of(key)
                break
            keys.add(key)
        self._gap = _Gap(wanted + timedelta(days=1), following, listed)
        return _Day(frozenset(keys), listed)


def _prefix(day: date) -> str:
    return f"{PREFIX}{day:%Y/%m/%d}/"


def _day_of(key: str) -> date:
    """Of the decision *key*; of another key, a day that leaves no gap before it."""
    try:
        return datetime.strptime(DecisionKey.parse(key).day, "%Y/%m/%d").date()
    except (DecisionError, ValueError):
        return date.min
