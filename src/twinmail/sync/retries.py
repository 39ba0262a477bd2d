"""Messages that fail for themselves: said every time, tried ever more rarely, never given up."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from twinmail.sync.log import Log
from twinmail.sync.outage import pause

# A message waits longer and longer, but never longer than this.
_CAP_SECONDS = 3600.0


@dataclass
class _Retry:
    attempts: int
    not_before: float
    error: str


class Retries:
    """When which entry may be tried again, by its key; safe to use from several threads."""

    def __init__(self, log: Log, clock: Callable[[], float]) -> None:
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._retries: dict[str, _Retry] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._retries

    @property
    def errors(self) -> dict[str, str]:
        """What each of them failed with, by key."""
        with self._lock:
            return {key: one.error for key, one in self._retries.items()}

    def due(self, key: str) -> bool:
        """Whether *key* may be tried now."""
        retry = self._retries.get(key)
        return retry is None or self._clock() >= retry.not_before

    def later(self, key: str, error: Exception, cap: float = _CAP_SECONDS) -> None:
        """*key* failed with *error*; it waits at most *cap* seconds."""
        with self._lock:
            before = self._retries.get(key)
            attempts = before.attempts + 1 if before else 1
            seconds = pause(attempts, base=1.0, cap=cap)
            text = str(error) or type(error).__name__
            self._retries[key] = _Retry(attempts, self._clock() + seconds, text)
        self._log.error("failed", key=key, error=text, attempts=attempts, retry_seconds=round(seconds, 1))

    def forget(self, key: str) -> None:
        """*key* worked."""
        with self._lock:
            self._retries.pop(key, None)
