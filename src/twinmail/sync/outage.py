"""Something that is needed and not there now: said once, retried with growing pauses, and said when over."""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from twinmail.sync.log import Log, utc_now

BASE_SECONDS = 0.5
CAP_SECONDS = 30.0
# One failure may be about one object; so many in a row are about the service.
DOWN_AFTER = 8


def pause(
    attempt: int,
    base: float,
    cap: float,
    chance: Callable[[], float] = random.random,
) -> float:
    """Seconds before attempt number *attempt* + 1: capped exponential, with full jitter.

    Full jitter spreads the clients of a service that comes back
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """
    return chance() * min(cap, base * 2.0 ** min(attempt, 32))


@dataclass(frozen=True)
class Trouble:
    """An outage as it is now: its latest *error*, when it began, and the failures so far."""

    error: str
    since: datetime
    failures: int


class Outage:
    """The state of one needed thing (``s3``, ``sqs``, ``disk``), told by all threads that use it."""

    def __init__(self, name: str, log: Log) -> None:
        self.name = name
        self._log = log
        self._lock = threading.Lock()
        self._trouble: Trouble | None = None

    @property
    def trouble(self) -> Trouble | None:
        """The outage, if there is one."""
        return self._trouble

    @property
    def down(self) -> bool:
        """Whether it failed so often in a row that trying more messages is pointless now."""
        trouble = self._trouble
        return trouble is not None and trouble.failures >= DOWN_AFTER

    def failed(self, error: Exception) -> None:
        """It failed; the first time in a row is said."""
        with self._lock:
            before = self._trouble
            since = before.since if before else utc_now()
            self._trouble = Trouble(str(error), since, before.failures + 1 if before else 1)
        if before is None:
            self._log.error("unavailable", what=self.name, error=str(error), note="retried until it is back")

    def worked(self) -> None:
        """It worked; the first time after an outage is said."""
        if self._trouble is None:
            return
        with self._lock:
            trouble, self._trouble = self._trouble, None
        if trouble is not None:
            seconds = round((utc_now() - trouble.since).total_seconds(), 3)
            self._log.info("available", what=self.name, seconds=seconds, failures=trouble.failures)

    def pause(self) -> float:
        """Seconds to wait before the next attempt; 0 without an outage."""
        trouble = self._trouble
        return pause(trouble.failures, BASE_SECONDS, CAP_SECONDS) if trouble else 0.0
