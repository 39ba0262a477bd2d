"""Chores: what a server does besides carrying messages, each now and then and when the log announces it.

Each group of them has one thread, which does them one after the other: they need no locks among themselves,
and a slow one holds back neither mail nor another group.
"""

import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from twinmail.errors import TwinmailError
from twinmail.sync.log import Log


class Chore(Protocol):
    """One of them.

    Attributes:
        name: for the log and the status page.
        seconds: from the end of one turn to the next.
        prefix: a new object whose key starts with it makes a turn due at once; empty for none.
    """

    name: str
    seconds: float
    prefix: str

    def turn(self) -> None:
        """Do what is due.

        Raises:
            TwinmailError: said once while it stays the same, and tried again at the next turn.
        """


@dataclass
class _Plan:
    chore: Chore
    due: float
    error: str = ""
    turns: int = 0


class Chores:
    """Does *chores* until it is told to stop."""

    def __init__(
        self, chores: Sequence[Chore], log: Log, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._clock = clock
        self._plans = tuple(_Plan(one, clock()) for one in chores)
        self._changed = threading.Condition()
        self._stopped = False

    def run(self, stopping: threading.Event) -> None:
        """Do them until `stop`, or until *stopping* is seen."""
        while not stopping.is_set():
            with self._changed:
                seconds = self._pause()
                if seconds > 0 and not self._stopped:
                    self._changed.wait(min(seconds, 1.0))
                if self._stopped:
                    return
            for plan in self._plans:
                if plan.due <= self._clock() and not stopping.is_set():
                    self._turn(plan)

    def stop(self) -> None:
        """Let `run` end after the turn in hand."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def poke(self, key: str) -> None:
        """Make the chores due that wait for the new object *key*."""
        with self._changed:
            for plan in self._plans:
                if plan.chore.prefix and key.startswith(plan.chore.prefix):
                    plan.due = self._clock()
            self._changed.notify_all()

    def status(self) -> dict[str, dict[str, object]]:
        """By name: how often it was done, and its error if the last turn failed."""
        return {one.chore.name: {"turns": one.turns, "error": one.error or None} for one in self._plans}

    def _pause(self) -> float:
        return min((one.due for one in self._plans), default=self._clock() + 1.0) - self._clock()

    def _turn(self, plan: _Plan) -> None:
        # Before the turn: what is announced while it runs makes another one due.
        plan.due = float("inf")
        error = ""
        try:
            plan.chore.turn()
        except TwinmailError as known:
            error = str(known)
        except Exception as unknown:  # noqa: BLE001 - a bug in one chore must not stop the others, nor mail
            error = f"{type(unknown).__name__}: {unknown}"
            if error != plan.error:
                self._log.error("chore failed", chore=plan.chore.name, trace=traceback.format_exc())
        if error and error != plan.error:
            self._log.error("chore failed", chore=plan.chore.name, error=error, note="tried again")
        elif plan.error and not error:
            self._log.info("chore works again", chore=plan.chore.name)
        plan.error, plan.turns = error, plan.turns + 1
        with self._changed:
            plan.due = min(plan.due, self._clock() + plan.chore.seconds)
