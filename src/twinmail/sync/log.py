"""The log: one JSON object a line, for people with ``jq`` and for collectors."""

import json
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import IO

_offset = timedelta()


def utc_now() -> datetime:
    """The time, aware and in UTC."""
    return datetime.now(UTC) + _offset


def step_clock(offset: timedelta) -> None:
    """Have `utc_now` be wrong by *offset*, as a machine's clock may be; only for tests of that."""
    global _offset
    _offset = offset


class Log:
    """Writes to *stream*; lines of several threads do not mix."""

    def __init__(self, stream: IO[str], clock: Callable[[], datetime] = utc_now) -> None:
        self._stream = stream
        self._clock = clock
        self._lock = threading.Lock()

    def info(self, event: str, **fields: object) -> None:
        """Say what happened."""
        self._write("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Say what somebody may want to look at."""
        self._write("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Say what somebody must look at."""
        self._write("error", event, fields)

    def each(self, event: str, several: Iterable[dict[str, object]]) -> None:
        """Say that *event* happened several times, each with its own fields."""
        self._write("info", event, *several)

    def _write(self, level: str, event: str, *several: dict[str, object]) -> None:
        head = {"time": self._clock().isoformat(timespec="milliseconds"), "level": level, "event": event}
        lines = [json.dumps({**head, **one}, ensure_ascii=False, default=str) + "\n" for one in several]
        # What came from outside may hold half a character; the log must not fail on it.
        text = "".join(lines).encode("utf-8", "backslashreplace").decode("utf-8")
        with self._lock:
            self._stream.write(text)
            self._stream.flush()
