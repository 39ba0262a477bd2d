"""Ends work that takes too long, in the thread that runs it."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twinmail.errors import PermanentError


class TooLong(PermanentError):
    """The work was ended: the same input takes as long the next time."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `TooLong` in the block when it has run for *seconds*.

    Only in the main thread, which is where Lambda runs a function; others can take no signal, and are not
    limited. Regular expressions look for signals too, so the limit ends one that backtracks.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def expired(*_: Any) -> None:
        raise TooLong(f"not done after {seconds:g} s")

    handler = signal.signal(signal.SIGALRM, expired)
    started = time.monotonic()
    delay, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if delay:
            # Somebody else's limit goes on as if this one had not been.
            rest = max(delay - (time.monotonic() - started), 0.001)
            signal.setitimer(signal.ITIMER_REAL, rest, interval)
