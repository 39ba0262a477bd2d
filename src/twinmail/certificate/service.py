"""The loop that keeps one certificate: looks at what there is, does what is due, says how it went.

What is due follows from files alone, so that a stop at any moment is continued by the next start: a
certificate that was got but not installed is installed, and never asked for a second time.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Protocol

from twinmail.certificate import shelf
from twinmail.certificate.names import Request
from twinmail.certificate.pair import Pair, placeholder
from twinmail.certificate.report import Report
from twinmail.durable_file import NotWritten
from twinmail.errors import TransientError

RETRY = timedelta(minutes=10)
RETRY_CAP = timedelta(hours=12)
"""Let's Encrypt allows an account 5 failures an hour for a name ("Rate Limits", Let's Encrypt)."""

LOOK = timedelta(hours=1)
"""A clock that was set, a folder that was emptied: what is there is looked at again."""


class Step(Enum):
    """What is to be done."""

    NOTHING = "nothing"
    PLACEHOLDER = "placeholder"
    INSTALL = "install"
    OBTAIN = "obtain"


class Authority(Protocol):
    """Where certificates come from (see `twinmail.certificate.certbot`)."""

    def obtain(self, request: Request, temporary: Path) -> None:
        """Get a new certificate."""

    def latest(self) -> Pair | None:
        """The last one that was got."""

    def wanted(self) -> bool:
        """Whether a new one is wanted before its time."""


class Log(Protocol):
    """Where it says what it does (see `twinmail.sync.log`)."""

    def info(self, event: str, **fields: object) -> None:
        """Say what happened."""

    def error(self, event: str, **fields: object) -> None:
        """Say what somebody must look at."""


def due(latest: Pair | None, names: tuple[str, ...], now: datetime) -> bool:
    """Whether a new certificate must be asked for."""
    return latest is None or latest.names != frozenset(names) or now >= latest.validity.renewal


def plan(installed: Pair | None, latest: Pair | None, names: tuple[str, ...], now: datetime) -> list[Step]:
    """What is to be done, in order. Servers come first: they must have something to start with."""
    if latest is not None and now < latest.validity.not_after:
        usable = [] if installed is not None and installed.chain == latest.chain else [Step.INSTALL]
    else:
        usable = [] if installed is not None else [Step.PLACEHOLDER]
    return [*usable, *([Step.OBTAIN, Step.INSTALL] if due(latest, names, now) else [])]


def pause(failures: int, retry: timedelta = RETRY) -> timedelta:
    """How long to wait after that many failures in a row."""
    doublings = min(max(failures - 1, 0), 20)
    return min(retry * float(2**doublings), max(RETRY_CAP, retry))


@dataclass
class Service:
    """Keeps in *folder* a certificate for *request*.

    Attributes:
        retry: the pause after the first failure.
        clock: the time, aware.
    """

    request: Request
    folder: Path
    authority: Authority
    log: Log
    clock: Callable[[], datetime]
    retry: timedelta = RETRY
    failures: int = 0

    def prepare(self) -> None:
        """Make sure that servers find something to start with.

        Raises:
            NotWritten: transient.
        """
        latest, installed = self.authority.latest(), shelf.installed(self.folder)
        for step in plan(installed, latest, self.request.names, self.clock()):
            if step is Step.OBTAIN:
                return
            self._install(step, latest)

    def turn(self) -> datetime:
        """Do what is due, and return when the next turn is."""
        try:
            self.prepare()
            latest = self.authority.latest()
            if due(latest, self.request.names, self.clock()) or self.authority.wanted():
                self.log.info("asking", names=self.request.names, challenge=self.request.challenge)
                with tempfile.TemporaryDirectory() as temporary:
                    self.authority.obtain(self.request, Path(temporary))
                latest = self.authority.latest()
                if latest is None or due(latest, self.request.names, self.clock()):
                    raise TransientError("the authority's certificate is not for what was asked")
                self.prepare()
        except TransientError as error:
            return self._failed(error)
        assert latest is not None
        self.failures = 0
        following = min(latest.validity.renewal, self.clock() + LOOK)
        self._say(Report(_text(self.clock()), next_attempt=_text(latest.validity.renewal)))
        return following

    def _failed(self, error: TransientError) -> datetime:
        self.failures += 1
        following = self.clock() + pause(self.failures, self.retry)
        self.log.error(
            "no new certificate", error=str(error), failures=self.failures, next_attempt=_text(following)
        )
        self._say(Report(_text(self.clock()), str(error), self.failures, _text(following)))
        return following

    def _install(self, step: Step, latest: Pair | None) -> None:
        found = latest if step is Step.INSTALL and latest else placeholder(self.request.names, self.clock())
        shelf.install(self.folder, found)
        self.log.info(
            "installed",
            names=sorted(found.names),
            until=_text(found.validity.not_after),
            placeholder=found.placeholder,
        )

    def _say(self, report: Report) -> None:
        try:
            report.save(self.folder)
        except NotWritten as error:
            self.log.error("no report", error=str(error))


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
