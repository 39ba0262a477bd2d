"""How carrying an entry ended, and how far all of it is."""

from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """How carrying an entry ended."""

    FINISHED = "finished"
    PARKED = "parked"
    WAITING = "waiting"  # a mailbox has no room: the ledger knows, and it is tried again when there is some
    FAILED = "failed"  # may work later: the service, the disk or this message is in trouble
    STOPPED = "stopped"

    @property
    def settled(self) -> bool:
        """Whether the entry needs nothing any more, and the ledger durably says so."""
        return self in (Outcome.FINISHED, Outcome.PARKED, Outcome.WAITING)


@dataclass(frozen=True)
class Progress:
    """Figures for the status page.

    Attributes:
        delivered: deliveries since the start of the process.
        in_flight: entries being carried or waiting for it.
        retrying: error by key of the messages that failed for themselves.
        last: what is known of the delivery that ended last.
    """

    delivered: int
    in_flight: int
    retrying: dict[str, str]
    last: dict[str, object] | None
