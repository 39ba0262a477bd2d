"""The steps of one delivery, in the order of their durable writes.

`Checkpoint` is called right after each. In production it does nothing; tests end the process there to prove
that a crash between any two steps loses nothing and delivers nothing twice.
"""

import os
import signal
import threading
import time
from collections.abc import Callable

from twinmail.errors import PermanentError

STEPS = (
    "read",  # the manifest entry is read and planned
    "staged",  # the message is in tmp/, durable, and its digest is the entry's
    "decided",  # where it goes is known, and in S3 if a filter said so
    "linked",  # it is visible in its folder (of several copies: one more is)
    "settled",  # its names are durable
    "journaled",  # the journal beside the Maildir has it
    "recorded",  # the ledger has it
    "acknowledged",  # the queue forgot the notice
)

Checkpoint = Callable[[str], None]


def no_checkpoint(step: str) -> None:
    """The checkpoint of production."""


class Crash:
    """End this process by SIGKILL at a step: the *count*-th time it is reached."""

    def __init__(self, step: str, count: int = 1) -> None:
        self.step = step
        self._left = count
        self._lock = threading.Lock()

    @classmethod
    def parse(cls, text: str) -> "Crash":
        """Read ``STEP`` or ``STEP:N``.

        Raises:
            PermanentError: there is no such step.
        """
        step, _, count = text.partition(":")
        if step not in STEPS or not (count or "1").isdigit():
            raise PermanentError(
                f"--crash-at {text}: expected STEP or STEP:N with a step of {', '.join(STEPS)}"
            )
        return cls(step, int(count or 1))

    def __call__(self, step: str) -> None:
        if step != self.step:
            return
        with self._lock:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
                # The signal may reach another thread first; nothing may happen after this step.
                signal.pause()


class Slow:
    """Pause at each durable step, as a disk does that is worn out or shared; only for tests of that."""

    _WRITES = frozenset({"staged", "settled", "journaled", "recorded"})

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __call__(self, step: str) -> None:
        if step in self._WRITES:
            time.sleep(self._seconds)
