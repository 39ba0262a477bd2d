"""How a build or a lock shows what it does: one line that changes on a terminal, plain lines elsewhere."""

import sys
import threading
import time

# A log without a terminal gets a line so often at most, seconds.
_INTERVAL = 5.0


class Display:
    """Shows transfers and steps on standard error; may be called from several threads.

    Args:
        verb: what happens to the files.
    """

    def __init__(self, verb: str = "downloading") -> None:
        self._verb = verb
        self._lock = threading.Lock()
        self._terminal = sys.stderr.isatty()
        self._total = self._done = self._files = 0
        self._shown = 0.0
        self._steps: dict[str, str] = {}

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal:
            self._write("\r\033[K")

    def start(self, files: int, octets: int) -> None:
        """Transfers begin."""
        with self._lock:
            self._files += files
            self._total += octets
            if not self._terminal:
                self._write(f"{self._verb} {files} files, {octets / 1e6:.0f} MB\n")
                self._shown = time.monotonic()

    def advance(self, name: str, octets: int) -> None:
        """More of *name* has arrived."""
        with self._lock:
            self._done += octets
            now = time.monotonic()
            if now - self._shown < (0.1 if self._terminal else _INTERVAL) and self._done < self._total:
                return
            self._shown = now
            text = f"{self._verb} {self._files} files: {self._done / 1e6:.0f} of {self._total / 1e6:.0f} MB"
            self._write(f"\r\033[K{text}" if self._terminal else f"{text}\n")

    def step(self, image: str, platform: str, text: str) -> None:
        """*image* is being worked on."""
        with self._lock:
            line = f"{image} {platform}: {text}"
            if self._terminal:
                self._steps[platform] = line
                self._write("\r\033[K" + "   ".join(self._steps[one] for one in sorted(self._steps))[:110])
            else:
                self._write(f"{line}\n")

    def warn(self, text: str) -> None:
        """Something that must not be overlooked."""
        with self._lock:
            self._write(f"{chr(13)}\033[Kwarning: {text}\n" if self._terminal else f"warning: {text}\n")

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
