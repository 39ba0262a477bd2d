"""Ctrl-C during a transfer: what is on its way is completed, so that nothing of it is sent again."""

import signal
import sys
from types import FrameType


class Patience:
    """While it is entered, a first SIGINT or SIGTERM waits for `pause`, a second one ends at once."""

    def __init__(self) -> None:
        self._asked = False

    def __enter__(self) -> "Patience":
        numbers = (signal.SIGINT, signal.SIGTERM)
        self._before = {number: signal.signal(number, self._ask) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def pause(self) -> None:
        """Nothing is on its way now.

        Raises:
            KeyboardInterrupt: the user has asked for it.
        """
        if self._asked:
            raise KeyboardInterrupt

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        print("\nstopping after what is on its way; once more stops at once", file=sys.stderr, flush=True)
