"""One line of the doctor: how something is, and what to do if it is not as it should be."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """How something is."""

    OK = "ok"
    WARNING = "warning"
    """Works, and will not for long, or not in every case."""
    PROBLEM = "problem"
    UNKNOWN = "cannot tell"
    """Nobody answered, or it is not allowed to ask; that is neither well nor a problem."""
    ELSEWHERE = "not here"
    """There is no such thing on a local system."""


@dataclass(frozen=True)
class Finding:
    """A line.

    Attributes:
        subject: what it is about: a domain, a server, a queue.
        remedy: one command or one sentence; empty where nothing is to be done.
    """

    check: str
    subject: str
    state: State
    text: str
    remedy: str = ""

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def worst(findings: Iterable[Finding]) -> State:
    """The state that counts for all of *findings*: a problem before a doubt before a warning."""
    order = (State.PROBLEM, State.UNKNOWN, State.WARNING)
    states = {one.state for one in findings}
    return next((one for one in order if one in states), State.OK)
