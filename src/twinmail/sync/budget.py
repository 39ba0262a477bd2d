"""A bound on the octets in flight, which follows the memory that there is."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CONTROL_GROUP = Path("/sys/fs/cgroup")
# Version 2 of control groups, and 1, as a container sees its own (cgroups(7)).
_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")


def memory_limit(root: Path = _CONTROL_GROUP) -> int | None:
    """Octets of memory that this container may take; None if nobody says."""
    for name in _LIMITS:
        try:
            text = (root / name).read_text().strip()
        except OSError:
            continue
        # Version 1 says "no limit" as a number that no machine has; it does no harm.
        return int(text) if text.isdecimal() else None
    return None


def fitting(configured: int, memory: int | None) -> int:
    """Octets that may be in flight in *memory*: half of it, and at most what is *configured*."""
    return configured if memory is None else min(configured, memory // 2)


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
