"""A configuration that follows its file: who has which addresses changes while a service runs.

Mailboxes and aliases are read again when the file has changed. Everything else (names in AWS, servers,
limits) stays as it was at the start: a service cannot change its bucket under way.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from twinmail.config import Config
from twinmail.errors import ConfigError

# How often the file is looked at, at most; a look is one system call.
SECONDS = 1.0

_Value = TypeVar("_Value")


def follow(path: Path, say: Callable[[str], None]) -> Config:
    """The configuration at *path*, with mailboxes and aliases that follow it.

    A file that has become wrong or is gone changes nothing; *say* is told so once.

    Raises:
        ConfigError: it is wrong now.
    """
    file = _File(path, say)
    return replace(
        file.current(),
        mailboxes=_Followed(lambda: file.current().mailboxes),
        aliases=_Followed(lambda: file.current().aliases),
    )


class _File:
    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self._path = path
        self._say = say
        self._lock = threading.Lock()
        self._looked = time.monotonic()
        self._stamp = self._stamp_now()
        self._config = Config.load(path)

    def current(self) -> Config:
        with self._lock:
            now = time.monotonic()
            if now - self._looked >= SECONDS:
                self._looked = now
                self._look()
            return self._config

    def _look(self) -> None:
        stamp = self._stamp_now()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._config = Config.load(self._path)
        except ConfigError as error:
            self._say(f"{error}\n  going on with the configuration of before")

    def _stamp_now(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


class _Followed(Mapping[str, _Value]):
    """What *current* returns, at each use."""

    def __init__(self, current: Callable[[], Mapping[str, _Value]]) -> None:
        self._current = current

    def __getitem__(self, key: str) -> _Value:
        return self._current()[key]

    def __iter__(self) -> Iterator[str]:
        # Of one moment: a change meanwhile ends no loop.
        return iter(tuple(self._current()))

    def __len__(self) -> int:
        return len(self._current())
