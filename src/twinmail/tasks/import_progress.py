"""How an import shows how far it is: one line that changes on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twinmail.importing.report import Report
    from twinmail.importing.source import Folder

_TERMINAL = 0.2
_ELSEWHERE = 10.0


class ImportProgress:
    """Shows on standard error how far the import of *folders* is."""

    def __init__(self, folders: "Iterable[Folder]", clock: Callable[[], float] = time.monotonic) -> None:
        told = list(folders)
        self._messages = _whole(one.messages for one in told)
        self._octets = _whole(one.octets for one in told)
        self._clock = clock
        self._terminal = sys.stderr.isatty()
        self._start = self._shown = clock()

    def __enter__(self) -> "ImportProgress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal:
            self._write("\r\033[K")

    def show(self, report: "Report") -> None:
        """Say how far *report* is, not too often."""
        now = self._clock()
        if now - self._shown < (_TERMINAL if self._terminal else _ELSEWHERE):
            return
        self._shown = now
        text = self.text(report, now - self._start)
        self._write(f"\r\033[K{text[:110]}" if self._terminal else f"{text}\n")

    def text(self, report: "Report", seconds: float) -> str:
        """How far *report* is after *seconds*."""
        done, octets = report.total("messages"), report.total("octets")
        rate = done / seconds if seconds else 0.0
        of = f" of {self._messages:,}" if self._messages else ""
        here = "".join(one for one in report.folders[-1].name if one.isprintable()) if report.folders else ""
        left = self._left(done, octets, seconds)
        return f"{done:,}{of} messages, {octets / 1e6:,.0f} MB, {rate:,.0f}/s{left}, in {here}"

    def _left(self, done: int, octets: int, seconds: float) -> str:
        if self._messages and done:
            left = seconds * (self._messages - done) / done
        elif self._octets and octets:
            left = seconds * (self._octets - octets) / octets
        else:
            return ""
        minutes, rest = divmod(int(max(left, 0)), 60)
        return f", {minutes} min left" if minutes else f", {rest} s left"

    @staticmethod
    def _write(text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


def _whole(numbers: Iterable[int | None]) -> int:
    """The sum of *numbers*; 0 if one of them is not known."""
    known = list(numbers)
    return 0 if None in known else sum(one or 0 for one in known)
