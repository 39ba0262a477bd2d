"""The service: opens the ledger, recovers, runs push and poll until it is told to stop."""

import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from twinmail.config import Config
from twinmail.durable_file import NotWritten
from twinmail.errors import TransientError
from twinmail.ledger import Ledger, VolumeMissing
from twinmail.sync.carrier import Carrier
from twinmail.sync.chores import Chore, Chores
from twinmail.sync.decisions import Decisions
from twinmail.sync.deliveries import Deliveries
from twinmail.sync.health import Status
from twinmail.sync.lock import Locked, lock
from twinmail.sync.log import Log, utc_now
from twinmail.sync.outage import Outage
from twinmail.sync.poll import Poll
from twinmail.sync.push import Push
from twinmail.sync.quota import Quotas, quota_of
from twinmail.sync.recovery import recover
from twinmail.sync.restore import Restore
from twinmail.sync.source import Queue, Source
from twinmail.sync.steps import Checkpoint, no_checkpoint
from twinmail.sync.whereabouts import whereabouts

# Of the 5 seconds that SIGTERM allows, some are for closing.
STOP_SECONDS = 4.0
_SHOWN = 20


class NotReady(TransientError):
    """The service is still starting."""


@dataclass(frozen=True)
class Options:
    """How one syncer runs.

    Attributes:
        mail: folder of the mailboxes (``<mail>/<mailbox>/Maildir``).
        state: folder of the ledger.
        poll_seconds: from one listing to the next.
    """

    server: str
    mail: Path
    state: Path
    poll: bool = True
    poll_seconds: float = 60.0
    checkpoint: Checkpoint = no_checkpoint


class Service:
    """The syncer of one server."""

    def __init__(
        self,
        config: Config,
        options: Options,
        source: Source,
        queue: Queue | None,
        log: Log,
        chores: Callable[[Ledger, Carrier], Sequence[Sequence[Chore]]] = lambda ledger, carrier: (),
        decisions: Decisions | None = None,
        certificate: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        self._config = config
        self._options = options
        self._source = source
        self._queue = queue
        self._log = log
        self._make_chores = chores
        self._decisions = decisions
        self._certificate = certificate
        self._chores: tuple[Chores, ...] = ()
        self._outages = {name: Outage(name, log) for name in ("s3", "sqs", "disk")}
        self._stopping = threading.Event()
        self._carrier: Carrier | None = None
        self._push: Push | None = None
        self._poll: Poll | None = None
        self._restore: Restore | None = None
        self._deliveries: Deliveries | None = None
        self._failed: str | None = None

    def stop(self) -> None:
        """Ask `run` to end; safe in a signal handler."""
        self._stopping.set()

    def run(self) -> int:
        """Run until `stop`, and return the exit code: 0, or 1 after a failure that a restart may mend.

        Raises:
            PermanentError: the ledger is of a newer version.
        """
        ledger = self._open()
        if ledger is None:
            return 0
        carrier = self._carrier = Carrier(
            self._source,
            ledger,
            self._options.mail,
            self._config.limits,
            self._log,
            self._outages["s3"],
            self._outages["disk"],
            self._options.checkpoint,
            quotas=Quotas(self._options.mail, partial(quota_of, self._config)),
            decisions=self._decisions,
        )
        self._chores = tuple(Chores(group, self._log) for group in self._make_chores(ledger, carrier))
        for chores in self._chores:
            self._start("chores", chores.run)
        if self._queue is not None:
            self._push = Push(
                self._queue,
                carrier,
                self._config.bucket,
                self._log,
                self._outages["sqs"],
                self._options.checkpoint,
                self._poke,
            )
            self._start("push", self._push.run)
        if self._options.poll:
            self._poll = Poll(self._source, carrier, self._log, self._options.poll_seconds)
            self._start("poll", self._poll.run)
        self._restore = Restore(self._source, carrier, self._options.mail, self._options.state, self._log)
        self._start("restore", self._restore.run)
        self._deliveries = Deliveries(self._source, carrier, self._options.mail)
        self._stopping.wait()
        deadline = time.monotonic() + STOP_SECONDS
        for chores in self._chores:
            chores.stop()
        ended = carrier.stop(STOP_SECONDS)
        if self._push is not None:
            ended = self._push.drain(deadline - time.monotonic()) and ended
        ledger.close()
        self._log.info("stopped", in_hand="finished" if ended else "left for the next start")
        return 1 if self._failed else 0

    def status(self) -> Status:
        """What `/status` shows."""
        carrier, poll = self._carrier, self._poll
        progress = carrier.progress if carrier else None
        shown: dict[str, Any] = {
            "server": self._options.server,
            "ready": self._ready(),
            "outages": {
                name: asdict(one.trouble) if one.trouble else None for name, one in self._outages.items()
            },
            "push": self._queue is not None,
            "poll": self._options.poll,
            "delivered": progress.delivered if progress else 0,
            "in_flight": progress.in_flight if progress else 0,
            "backlog": (progress.in_flight if progress else 0) + (poll.latest.unfinished if poll else 0),
            "retrying": dict(list(progress.retrying.items())[:_SHOWN]) if progress else {},
            "last": progress.last if progress else None,
            "chores": {name: told for one in self._chores for name, told in one.status().items()},
            "filters": dict(self._decisions.counts) if self._decisions else {},
            "broken_scripts": {one.mailbox: one.text for one in self._decisions.latest.values()}
            if self._decisions
            else {},
            "certificate": self._certificate() if self._certificate else None,
            "suspicion": poll.suspicion if poll else None,
            "parked": {},
            "full": {name: asdict(one) for name, one in carrier.quotas.shortages.items()} if carrier else {},
            "cursor": None,
            "disk": _disk(self._options.mail),
            "now": utc_now().isoformat(timespec="milliseconds"),
            "restore": self._restore.status() if self._restore else None,
        }
        if carrier:
            try:
                shown["parked"] = dict(list(carrier.ledger.parked().items())[:_SHOWN])
                shown["cursor"] = carrier.ledger.cursor
            except NotWritten as error:
                shown["ledger"] = str(error)
        return shown

    def find(self, ses_id: str) -> Mapping[str, Any]:
        """What `/messages/` shows of the message *ses_id*.

        Raises:
            NotReady: the ledger is not open yet; transient.
            LayoutError, NotWritten: see `whereabouts`.
        """
        if self._carrier is None:
            raise NotReady("the ledger is not open yet; see /status")
        found = whereabouts(self._carrier.ledger, self._options.mail, ses_id)
        retrying = self._carrier.progress.retrying.items()
        return {
            **found,
            "retrying": {key: told for key, told in retrying if key.endswith(f"Z-{ses_id}.json")},
        }

    def restore(self, request: bytes) -> None:
        """Take a request to restore.

        Raises:
            NotReady: the ledger is not open yet; transient.
            RequestRefused, NotWritten: see `Restore.submit`.
        """
        if self._restore is None:
            raise NotReady("the ledger is not open yet; see /status")
        self._restore.submit(request)

    def deliveries(self, deep: bool) -> AbstractContextManager[Iterator[bytes]]:
        """What the ledger and the Maildirs know; see `Deliveries.reading`.

        Raises:
            NotReady: the ledger is not open yet; transient.
        """
        return self._told_deliveries().reading(deep)

    def mend(self, request: bytes) -> Mapping[str, str]:
        """Mend deliveries.

        Raises:
            NotReady: the ledger is not open yet; transient.
            Refused, SourceUnavailable, NotWritten: see `Deliveries.mend`.
        """
        return self._told_deliveries().mend(request)

    def _told_deliveries(self) -> Deliveries:
        if self._deliveries is None:
            raise NotReady("the ledger is not open yet; see /status")
        return self._deliveries

    def _poke(self, key: str) -> None:
        for chores in self._chores:
            chores.poke(key)

    def _ready(self) -> bool:
        if self._stopping.is_set():
            return False
        if self._poll is not None:
            return self._poll.looked.is_set()
        return self._push is not None and self._push.connected.is_set()

    def _open(self) -> Ledger | None:
        """Open and recover, for as long as it takes; None if stopped before."""
        disk = self._outages["disk"]
        while not self._stopping.is_set():
            try:
                lock(self._options.state)
                ledger = Ledger(
                    self._options.state,
                    self._options.mail,
                    lambda note: self._log.warning("repaired", note=note),
                )
                recover(self._options.mail, ledger, self._log)
                disk.worked()
                return ledger
            except (NotWritten, VolumeMissing, Locked) as error:
                disk.failed(error)
            self._stopping.wait(disk.pause())
        return None

    def _start(self, name: str, run: Callable[[threading.Event], None]) -> None:
        def guarded() -> None:
            try:
                run(self._stopping)
            except Exception as error:  # noqa: BLE001 - a loop that ends must end the service, not sleep in it
                self._failed = f"{name}: {error}"
                self._log.error("failed", what=name, error=str(error), trace=traceback.format_exc())
                self._stopping.set()

        threading.Thread(target=guarded, name=name, daemon=True).start()


def _disk(folder: Path) -> dict[str, int] | None:
    """Octets of the file system of *folder*: free for this user, and in all; None if it cannot be asked."""
    try:
        told = os.statvfs(folder)
    except OSError:
        return None
    return {"free": told.f_bavail * told.f_frsize, "total": told.f_blocks * told.f_frsize}
