"""Poll: listing the log finds whatever push did not announce, and everything after a loss."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime

from twinmail.durable_file import NotWritten
from twinmail.sync.carrier import Carrier
from twinmail.sync.cursor import advance, audit_after, start_after
from twinmail.sync.log import Log, utc_now
from twinmail.sync.source import Source, SourceUnavailable

ORIGIN = "poll"


@dataclass(frozen=True)
class Listing:
    """What one listing found.

    Attributes:
        listed: keys.
        carried: of these, those that were not settled before.
        unfinished: of these, those that are not settled now.
        complete: whether the listing got to its end.
    """

    listed: int = 0
    carried: int = 0
    unfinished: int = 0
    complete: bool = False


class Poll:
    """Lists *source* every *seconds*, and audits whole days at the start and once a day.

    Attributes:
        looked: set once a listing got to its end.
        suspicion: why the listing cannot be trusted, or None.
        latest: the last listing.
    """

    def __init__(
        self,
        source: Source,
        carrier: Carrier,
        log: Log,
        seconds: float,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.looked = threading.Event()
        self.suspicion: str | None = None
        self.latest = Listing()
        self._source = source
        self._carrier = carrier
        self._log = log
        self._seconds = seconds
        self._clock = clock
        self._audited: date | None = None
        # Found by an audit and failed: too old for the listing from the cursor to find them again.
        self._late: set[str] = set()

    def run(self, stopping: threading.Event) -> None:
        """List until *stopping*."""
        while not stopping.is_set():
            whole = self.turn()
            # A listing that an outage cut short is repeated when the outage may be over.
            pause = max(self._carrier.store.pause(), self._carrier.disk.pause())
            stopping.wait(self._seconds if whole else min(pause, self._seconds))

    def turn(self) -> bool:
        """List what is due, and return whether all of it got to its end."""
        try:
            listing = self.advance()
            _, self._late = self._carry(Listing(), sorted(self._late), frozenset())
            if listing.complete and self._audited != self._clock().date():
                listing = self.audit()
        except SourceUnavailable as error:
            self._carrier.store.failed(error)
            return False
        except NotWritten as error:
            self._carrier.disk.failed(error)
            return False
        if listing.complete:
            self.looked.set()
        return listing.complete

    def advance(self) -> Listing:
        """List from the cursor to the end, and move the cursor.

        Raises:
            SourceUnavailable.
            NotWritten: the ledger cannot be read or written.
        """
        ledger = self._carrier.ledger
        cursor = before = ledger.cursor
        listing = Listing()
        for keys in self._source.keys_after(start_after(before, self._clock())):
            self._carrier.store.worked()
            held = listing.unfinished > 0
            listing, left = self._carry(listing, keys, ledger.settled(keys))
            moved = cursor if held else advance(cursor, keys, left)
            if moved is not None and moved != cursor:
                ledger.move_cursor(moved)
                cursor = moved
            if self._carrier.store.down or self._carrier.disk.down:
                return self._keep(listing)
        if before is not None:
            # The entry at the cursor is within the overlap, so an empty listing means that it is gone.
            self._suspect(listing.listed == 0, f"the log lists nothing up to {before}, which was there")
        return self._keep(replace(listing, complete=True))

    def audit(self) -> Listing:
        """Compare whole days with the ledger, and try again what is parked.

        Raises:
            SourceUnavailable.
            NotWritten: the ledger cannot be read or written.
        """
        today = self._clock().date()
        ledger = self._carrier.ledger
        offset = audit_after(self._clock())
        expected, met = ledger.settled_after(offset), 0
        parked = frozenset(ledger.parked())
        listing, late = self._carry(Listing(), sorted(parked), frozenset())
        for keys in self._source.keys_after(offset):
            self._carrier.store.worked()
            settled = ledger.settled(keys)
            met += len(settled)
            listing, left = self._carry(listing, keys, settled)
            late |= left
            if self._carrier.store.down or self._carrier.disk.down:
                return listing
        self._suspect(met == 0 and expected > 0, f"the log lists nothing after {offset}")
        if 0 < met < expected:
            self._log.warning(
                "entries gone", after=offset, count=expected - met, note="nothing is deleted here"
            )
        self._late |= late
        self._audited = today
        self._log.info("audited", after=offset, entries=listing.listed, carried=listing.carried)
        return replace(listing, complete=True)

    def _carry(self, listing: Listing, keys: list[str], settled: frozenset[str]) -> tuple[Listing, set[str]]:
        """Have those of *keys* carried that are not *settled*; also returns what is unfinished after it."""
        # A console makes "folders": empty objects whose key ends with a slash.
        wanted = [key for key in keys if key not in settled and not key.endswith("/")]
        futures = self._carrier.carry_all(wanted, ORIGIN)
        left = {key for key, future in futures.items() if not future.result().settled}
        return (
            replace(
                listing,
                listed=listing.listed + len(keys),
                carried=listing.carried + len(wanted),
                unfinished=listing.unfinished + len(left),
            ),
            left,
        )

    def _keep(self, listing: Listing) -> Listing:
        self.latest = listing
        return listing

    def _suspect(self, suspicious: bool, reason: str) -> None:
        """Say it once when the log looks empty although it was not; nothing else changes."""
        if not suspicious:
            if self.suspicion:
                self._log.info("log is back", suspicion=self.suspicion)
            self.suspicion = None
        elif self.suspicion is None:
            count = self._carrier.ledger.count()
            self.suspicion = (
                f"{reason}, and {count} deliveries were made from it; check the bucket and its prefix"
            )
            self._log.error("log is empty", suspicion=self.suspicion, note="mail here is kept; push goes on")
