"""Carries messages: manifest entry in, files in Maildirs and rows in the ledger out.

A key may come from the queue and from a listing at once; it is carried once, and both get the same future.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from twinmail.config import Limits
from twinmail.dotlock import FolderLocked
from twinmail.durable_file import NotWritten
from twinmail.errors import TransientError
from twinmail.filter.decision import Placement
from twinmail.ledger import Ledger
from twinmail.maildir import Maildir, Staged
from twinmail.manifest import Delivery, Entry
from twinmail.sync.budget import Budget, fitting, memory_limit
from twinmail.sync.bulk import LEAST, Bulk
from twinmail.sync.cursor import committed
from twinmail.sync.decisions import RETRY_CAP_SECONDS, Decisions, NotDecided
from twinmail.sync.log import Log, utc_now
from twinmail.sync.outage import Outage
from twinmail.sync.outcome import Outcome, Progress
from twinmail.sync.placing import Placed, Placing
from twinmail.sync.plan import Deliver, Park, decode, message_stem, placement, plan
from twinmail.sync.quota import Quotas
from twinmail.sync.retries import Retries
from twinmail.sync.source import ObjectMissing, Source, SourceUnavailable
from twinmail.sync.steps import Checkpoint, no_checkpoint

# An entry is a few kilobytes; 40 recipients with long addresses included.
_ENTRY_OCTETS = 1 << 20


class DigestMismatch(TransientError):
    """The octets of a message are not those that its manifest entry tells."""


class Carrier:
    """Carries the entries of *source* into the mailboxes under *mail*."""

    def __init__(
        self,
        source: Source,
        ledger: Ledger,
        mail: Path,
        limits: Limits,
        log: Log,
        store: Outage,
        disk: Outage,
        checkpoint: Checkpoint = no_checkpoint,
        clock: Callable[[], float] = time.monotonic,
        quotas: Quotas | None = None,
        decisions: Decisions | None = None,
    ) -> None:
        self.ledger = ledger
        # Told each folder that got a message, after it did.
        self.arrived: Callable[[str, str], None] = lambda mailbox, folder: None
        self.quotas = quotas or Quotas(mail, lambda mailbox: limits.quota_bytes)
        self.store = store
        self.disk = disk
        self._source = source
        self.decisions = decisions
        self._log = log
        self._checkpoint = checkpoint
        self._clock = clock
        self._budget = Budget(fitting(limits.download_bytes, memory_limit()))
        self._pool = ThreadPoolExecutor(limits.parallel_downloads, thread_name_prefix="carry")
        self._lock = threading.Lock()
        self._flying: dict[str, Future[Outcome]] = {}
        self._busy = tuple(threading.Lock() for _ in range(256))
        self._mail = mail
        self._placing = Placing(mail, ledger, checkpoint)
        self._retries = Retries(log, clock)
        self._stopping = threading.Event()
        self._delivered = 0
        self._last: dict[str, object] | None = None

    def carry(self, key: str, origin: str) -> Future[Outcome]:
        """Carry the entry *key*, announced by *origin*; the future never fails."""
        with self._lock:
            flying = self._flying.get(key)
            if flying is None and self._stopping.is_set():
                flying = Future()
                flying.set_result(Outcome.STOPPED)
            elif flying is None:
                flying = self._flying[key] = Future()
                self._pool.submit(self._run, key, origin, flying)
        return flying

    def carry_all(self, keys: Sequence[str], origin: str) -> "dict[str, Future[Outcome]]":
        """As `carry`, for many entries: what is plain goes in batches, while the caller waits."""
        if len(keys) < LEAST:
            return {key: self.carry(key, origin) for key in keys}
        with self._lock:
            new = [one for one in keys if one not in self._flying and one not in self._retries]
            taken: dict[str, Future[Outcome]] = {one: Future() for one in new}
            self._flying |= taken
        done: frozenset[str] = frozenset()
        try:
            done = self._bulk(origin).carry(new, self._stopping.is_set)
        except Exception as error:  # noqa: BLE001 - whatever it is, each entry meets it again below, alone
            self._log.warning("batch given up", error=f"{type(error).__name__}: {error}", entries=len(new))
        for key, future in taken.items():
            if key in done:
                with self._lock:
                    del self._flying[key]
                future.set_result(Outcome.FINISHED)
            else:
                self._submit(key, origin, future)
        return {**taken, **{key: self.carry(key, origin) for key in keys if key not in taken}}

    def _bulk(self, origin: str) -> Bulk:
        def told(several: Sequence[Placed]) -> None:
            self._say([_told(one.finishes, one.entry, one.mailbox, one.placement, origin) for one in several])

        return Bulk(
            self._source,
            self.ledger,
            self._mail,
            self._placing,
            self.quotas,
            self.decisions,
            self._alone,
            told,
            self._checkpoint,
        )

    def _submit(self, key: str, origin: str, future: "Future[Outcome]") -> None:
        with self._lock:
            if not self._stopping.is_set():
                self._pool.submit(self._run, key, origin, future)
                return
            del self._flying[key]
        future.set_result(Outcome.STOPPED)

    def stop(self, seconds: float) -> bool:
        """Start nothing new, give what is in hand *seconds* to end, and return whether it did."""
        with self._lock:
            self._stopping.set()
        self._pool.shutdown(wait=False)
        deadline = self._clock() + seconds
        with self._lock:
            flying = list(self._flying.values())
        for future in flying:
            try:
                future.result(max(0.0, deadline - self._clock()))
            except TimeoutError:
                return False
        return True

    @property
    def progress(self) -> Progress:
        """Figures for the status page."""
        with self._lock:
            return Progress(self._delivered, len(self._flying), self._retries.errors, self._last)

    def _run(self, key: str, origin: str, future: "Future[Outcome]") -> None:
        try:
            outcome = self._attempt(key, origin)
        except Exception as error:  # noqa: BLE001 - a bug met by one message must not stop the others
            self._retries.later(key, error)
            outcome = Outcome.FAILED
        with self._lock:
            del self._flying[key]
        future.set_result(outcome)

    def _attempt(self, key: str, origin: str) -> Outcome:
        if self._stopping.is_set():
            return Outcome.STOPPED
        if not self._retries.due(key):
            return Outcome.FAILED
        try:
            outcome = self._carry(key, origin)
        except NotWritten as error:
            self.disk.failed(error)
            return Outcome.FAILED
        except SourceUnavailable as error:
            self.store.failed(error)
            return Outcome.FAILED
        except (NotDecided, FolderLocked) as error:
            self._retries.later(key, error, RETRY_CAP_SECONDS)
            return Outcome.FAILED
        except (DigestMismatch, ObjectMissing) as error:
            self._retries.later(key, error)
            return Outcome.FAILED
        self._retries.forget(key)
        return outcome

    def _carry(self, key: str, origin: str) -> Outcome:
        # What is parked comes here again only to be tried again.
        if self.ledger.finished(key):
            return Outcome.FINISHED
        if committed(key) is None:
            return self._park(key, Park(f"key {key!r}: not the key of a manifest entry"))
        entry = decode(key, self._read_entry(key))
        if isinstance(entry, Park):
            return self._park(key, entry)
        self._checkpoint("read")
        with self._alone(message_stem(entry)):
            todo = plan(entry, self.ledger.mailboxes(message_stem(entry)))
            # Before anything is downloaded. What is linked already is there, and only has to be recorded.
            new = [one for one in todo.deliveries if not self._placing.is_linked(one.mailbox, todo.stem)]
            with self.quotas.claim(new, entry.size) as full:
                todo = replace(todo, deliveries=tuple(one for one in todo.deliveries if one not in full))
                if todo.deliveries:
                    self._deliver(key, todo, origin, None if full else key)
            if full:
                return self._wait(key, entry, full)
            if not todo.deliveries:
                self.ledger.finish(key)
        # The disk may be full again for the next one; for now it takes what it is given.
        self.disk.worked()
        return Outcome.FINISHED

    def _wait(self, key: str, entry: Entry, full: Sequence[Delivery]) -> Outcome:
        mailboxes = [one.mailbox for one in full]
        self.ledger.wait(key, entry.size, mailboxes)
        self.disk.worked()
        self._log.warning("waiting", key=key, mailboxes=mailboxes, size=entry.size, note="no room in them")
        return Outcome.WAITING

    def _alone(self, name: str) -> threading.Lock:
        """Two entries of one message (its manifest was written twice) must not be carried at once."""
        return self._busy[hash(name) % len(self._busy)]

    def _read_entry(self, key: str) -> bytes:
        data = bytearray()
        for piece in self._source.read(key):
            data += piece
            if len(data) > _ENTRY_OCTETS:
                # Too large to be an entry: decoding will say so.
                break
        self.store.worked()
        return bytes(data)

    def _park(self, key: str, park: Park) -> Outcome:
        self.ledger.park(key, park.reason)
        self._log.error("parked", key=key, error=park.reason, note="tried again at the next start and audit")
        return Outcome.PARKED

    def _deliver(self, key: str, todo: Deliver, origin: str, finishes: str | None) -> None:
        entry = todo.entry
        known = [one for one in todo.deliveries if self._placing.is_linked(one.mailbox, todo.stem)]
        for one in known:
            self._placing.finish(one.mailbox, todo.stem, None)
        missing = [one for one in todo.deliveries if one not in known]
        if not missing:
            if finishes is not None:
                self.ledger.finish(finishes)
            return
        first = self._placing.maildir(missing[0].mailbox)
        with self._budget.spend(entry.size):
            start = self._clock()
            staged = self._stage(first, entry, todo.stem)
            download = self._clock() - start
            try:
                for one in missing:
                    started = self._clock()
                    placements = self._decide(entry, one, staged)
                    last = finishes if one is missing[-1] else None
                    self._placing.place(one.mailbox, staged, entry, placements, last)
                    told = _told(key, entry, one.mailbox, placements[0], origin)
                    told |= {
                        "download_ms": round(download * 1000, 1),
                        "delivery_ms": round((self._clock() - started) * 1000, 1),
                    }
                    self._say([told], placements)
            finally:
                first.discard(staged.path)

    def _decide(self, entry: Entry, one: Delivery, staged: Staged) -> tuple[Placement, ...]:
        if entry.imported:
            placements: tuple[Placement, ...] = (placement(one),)
        elif self.decisions is None:
            placements = (Placement(one.folder),)
        else:
            placements = self.decisions.decide(entry, one, staged.path)
        self._checkpoint("decided")
        return placements

    def _stage(self, maildir: Maildir, entry: Entry, name: str) -> Staged:
        """Download the message into ``tmp/`` and compare it with its entry."""

        def pieces() -> Iterator[bytes]:
            size = 0
            for piece in self._source.read(entry.key):
                size += len(piece)
                if size > entry.size:
                    raise DigestMismatch(f"{entry.key}: expected {entry.size} octets, got more")
                yield piece

        staged = maildir.stage(name, pieces(), entry.arrived)
        if (staged.size, staged.sha256) != (entry.size, entry.sha256):
            maildir.discard(staged.path)
            raise DigestMismatch(
                f"{entry.key}: expected {entry.size} octets with sha256:{entry.sha256}, "
                f"got {staged.size} with sha256:{staged.sha256}; not delivered, will be fetched again"
            )
        self.store.worked()
        self._checkpoint("staged")
        return staged

    def _say(self, several: Sequence[dict[str, object]], placements: Sequence[Placement] = ()) -> None:
        """Tell of deliveries; *placements* if one has several places."""
        if not several:
            return
        self._log.each("delivered", several)
        folders = {(str(one["mailbox"]), str(one["folder"])) for one in several}
        folders |= {(str(one["mailbox"]), place.folder) for one in several for place in placements}
        for mailbox, folder in sorted(folders):
            self.arrived(mailbox, folder)
        now = utc_now().isoformat(timespec="milliseconds")
        with self._lock:
            self._delivered += len(several)
            self._last = {"at": now, **several[-1]}


def _told(key: str, entry: Entry, mailbox: str, placement: Placement, origin: str) -> dict[str, object]:
    now = utc_now()
    age = now - (committed(key) or now)
    return {
        "ses_id": entry.ses_id,
        "mailbox": mailbox,
        "folder": placement.folder,
        "size": entry.size,
        "origin": origin,
        "manifest_age_ms": round(age.total_seconds() * 1000),
    }
