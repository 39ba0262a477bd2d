"""What the DNS says of a record set, beside what it must say."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """How a record set is."""

    RIGHT = "right"
    MISSING = "missing"
    WRONG = "wrong"
    UNANSWERED = "unanswered"
    """Nobody said; that is not missing."""


@dataclass(frozen=True)
class Finding:
    """One line of the check.

    Attributes:
        name: owner, without the last dot.
        type: of the records.
        expected: values as `twinmail.dns.record_set.canonical` has them; empty where none may be.
        got: the values that matter here; none if it is missing or was not answered.
        purpose: who asks for the record.
        remedy: what to do; empty if it is right.
        note: what else is worth knowing, such as an old answer in a cache.
    """

    name: str
    type: str
    state: State
    expected: tuple[str, ...]
    got: tuple[str, ...]
    purpose: str
    remedy: str = ""
    note: str = ""

    @property
    def right(self) -> bool:
        """Whether there is nothing to do."""
        return self.state is State.RIGHT

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)
