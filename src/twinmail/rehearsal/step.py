"""The steps of a rehearsal, one after the other, each with what proves it and the time it took."""

import imaplib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from twinmail.errors import PermanentError, TwinmailError

Stage = TypeVar("Stage")

# What the world may do to a step; anything else is a mistake of ours, and keeps its traceback.
_FAILURES = (TwinmailError, OSError, imaplib.IMAP4.error, BotoCoreError, ClientError)

DONE, NOT_REHEARSED, FAILED = "done", "not rehearsed", "failed"


class StepFailed(PermanentError):
    """A step failed; those after it were not tried."""


@dataclass(frozen=True)
class Step(Generic[Stage]):
    """One step.

    Attributes:
        name: a word or two, unique.
        text: what it does, for who watches.
        act: does it.
        check: proves that it is done, and says what it found; raises if it is not.
        part: what can be left out together; empty for what cannot.
    """

    name: str
    text: str
    act: Callable[[Stage], None]
    check: Callable[[Stage], str]
    part: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of a step.

    Attributes:
        result: `DONE`, `NOT_REHEARSED` or `FAILED`, and after a colon what was found, or why.
    """

    name: str
    seconds: float
    result: str

    def to_json(self) -> dict[str, Any]:
        """The same as JSON can hold it."""
        return {"name": self.name, "seconds": round(self.seconds, 1), "result": self.result}


def run(
    steps: Sequence[Step[Stage]],
    stage: Stage,
    without: Sequence[str],
    say: Callable[[str], None],
    outcomes: list[Outcome],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Do *steps* on *stage* in order, and add what became of each to *outcomes*.

    Args:
        without: parts that are left out.

    Raises:
        StepFailed: the last of *outcomes* is the step that failed.
    """
    for step in steps:
        if step.part in without and step.part:
            outcomes.append(Outcome(step.name, 0.0, f"{NOT_REHEARSED}: --without {step.part}"))
            say(f"{step.name}: {outcomes[-1].result}")
            continue
        say(f"{step.name}: {step.text}")
        began = clock()
        try:
            step.act(stage)
            found = step.check(stage)
        except _FAILURES as error:
            # Exceptions of the standard library may have no text, or one that names no kind.
            told = str(error) if isinstance(error, TwinmailError) else f"{type(error).__name__}: {error}"
            outcomes.append(Outcome(step.name, clock() - began, f"{FAILED}: {told}"))
            raise StepFailed(f"step {step.name!r} ({step.text}) failed: {told}") from error
        outcomes.append(Outcome(step.name, clock() - began, f"{DONE}: {found}"))
        say(f"{step.name}: {found} ({outcomes[-1].seconds:.1f} s)")
