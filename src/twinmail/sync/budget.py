"""A bound on the octets in flight."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Budget:
    """At most *limit* octets at once; a single larger piece goes alone. First come, first served."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._turn = threading.Lock()
        self._changed = threading.Condition()

    @contextmanager
    def spend(self, octets: int) -> Iterator[None]:
        """Wait until there is room for *octets*, and hold it for the block."""
        # Only the first in the queue looks for room, so that small ones do not starve a large one.
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self._used == 0 or self._used + octets <= self._limit)
            self._used += octets
        try:
            yield
        finally:
            with self._changed:
                self._used -= octets
                self._changed.notify_all()
