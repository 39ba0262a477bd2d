"""Restoring on request: what a server lacks, of a mailbox or a period, before everything else.

A server that has nothing brings all mail from the log by itself; a request puts a part of it first, and shows
how far it is. It can also bring back what was delivered and is in no folder any more (`Request.lost`): the
ledger alone would never deliver that again. A request is kept until it is done, so a restart goes on with it.
"""

import json
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from twinmail import durable_file, versioned_json
from twinmail.durable_file import NotWritten
from twinmail.errors import PermanentError
from twinmail.layout import MANIFEST, manifest_day
from twinmail.ledger import Ledger
from twinmail.maildir import Maildir
from twinmail.manifest import Entry
from twinmail.period import EVER, Period
from twinmail.sync.bulk import MESSAGE_OCTETS
from twinmail.sync.carrier import Carrier
from twinmail.sync.log import Log
from twinmail.sync.outcome import Outcome
from twinmail.sync.plan import Park, decode, message_stem
from twinmail.sync.source import Source, SourceUnavailable, read_all

FILE = "restore.json"
ORIGIN = "restore"
VERSION = 1

PASSES = 3
"""How often what fails is tried before the request ends without it."""

# The clocks of SES and of the function may differ by less; nothing is committed before it arrived.
_EARLIER = timedelta(days=1)


class RequestRefused(PermanentError):
    """A request is no request, or another one is being done."""


@dataclass(frozen=True)
class Request:
    """What to restore: everything that is not narrowed.

    Attributes:
        mailbox: of this one alone; empty for all.
        period: of arrival.
        lost: also what was delivered and is in no folder: deleted by its user, or by an accident.
    """

    mailbox: str = ""
    period: Period = EVER
    lost: bool = False

    @property
    def narrow(self) -> bool:
        """Whether entries must be read to know if they are meant."""
        return bool(self.mailbox or self.period.since or self.period.until or self.lost)

    def means(self, entry: Entry) -> bool:
        """Whether the message of *entry* is meant."""
        named = not self.mailbox or any(one.mailbox == self.mailbox for one in entry.deliveries)
        return named and entry.arrived in self.period

    def to_bytes(self) -> bytes:
        """Encode as JSON."""
        since, until = self.period.since, self.period.until
        document = {
            "version": VERSION,
            "mailbox": self.mailbox,
            "since": since.isoformat() if since else None,
            "until": until.isoformat() if until else None,
            "lost": self.lost,
        }
        return versioned_json.write(document)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Request":
        """Decode *data*.

        Raises:
            RequestRefused: it is damaged, or of another version.
        """
        try:
            told = versioned_json.read(data, VERSION)
            since, until = (
                datetime.fromisoformat(told[name]) if told[name] else None for name in ("since", "until")
            )
            if any(one is not None and one.tzinfo is None for one in (since, until)):
                raise ValueError("a time without a zone")
            return cls(str(told["mailbox"]), Period(since, until), bool(told["lost"]))
        except (ValueError, KeyError, TypeError) as error:
            raise RequestRefused(f"request to restore: {error}") from error


@dataclass(frozen=True)
class Progress:
    """How far a request is.

    Attributes:
        state: ``waiting``, ``running`` or ``done``.
        entries: of the log that are to be looked at.
        looked: of these, those that were.
        restored: entries that were carried.
        left: entries that failed, or have no room.
        trouble: why it does not go on at the moment.
    """

    state: str
    request: Mapping[str, Any]
    entries: int = 0
    looked: int = 0
    restored: int = 0
    left: int = 0
    seconds: float = 0.0
    trouble: str = ""


class Restore:
    """Does one request at a time, with *carrier*; what is asked for is kept in the folder *state*."""

    def __init__(self, source: Source, carrier: Carrier, mail: Path, state: Path, log: Log) -> None:
        self._source = source
        self._carrier = carrier
        self._ledger: Ledger = carrier.ledger
        self._mail = mail
        self._path = state / FILE
        self._log = log
        self._changed = threading.Condition()
        self._progress: Progress | None = None

    def submit(self, data: bytes) -> None:
        """Take the request *data*; the same one as the running one changes nothing.

        Raises:
            RequestRefused: it is damaged, or another one is being done.
            NotWritten: transient.
        """
        request = Request.from_bytes(data)
        with self._changed:
            now = self._progress
            if now is not None and now.state != "done":
                if now.request == _told(request):
                    return
                raise RequestRefused(
                    f"another request is being done: {json.dumps(now.request)}; wait for its end"
                )
            durable_file.write(self._path, request.to_bytes(), mode=0o600)
            self._progress = Progress("waiting", _told(request))
            self._changed.notify_all()

    def status(self) -> Mapping[str, Any] | None:
        """The last request; None if there was none since the start."""
        with self._changed:
            return asdict(self._progress) if self._progress else None

    def run(self, stopping: threading.Event) -> None:
        """Do requests until *stopping*."""
        while not stopping.is_set():
            try:
                request = Request.from_bytes(self._path.read_bytes())
            except FileNotFoundError:
                with self._changed:
                    self._changed.wait(1.0)
                continue
            except RequestRefused as error:
                self._log.error("request to restore given up", error=str(error))
                self._path.unlink(missing_ok=True)
                continue
            if self._do(request, stopping):
                self._path.unlink(missing_ok=True)
                self._tell(state="done")
                self._log.info("restored", **(self.status() or {}))

    def _do(self, request: Request, stopping: threading.Event) -> bool:
        """Whether it came to an end; an outage is waited for."""
        begun, passes = time.monotonic(), 0
        with self._changed:
            self._progress = Progress("running", _told(request))
        while not stopping.is_set():
            try:
                self._tell(looked=0, left=0, trouble="", entries=self._count(request))
                self._pass(request, stopping, begun)
                passes += 1
                if not self._left or passes == PASSES:
                    return not stopping.is_set()
            except (SourceUnavailable, NotWritten) as error:
                self._tell(trouble=str(error))
            stopping.wait(max(self._carrier.store.pause(), self._carrier.disk.pause(), 0.1))
        return False

    @property
    def _left(self) -> int:
        return self._progress.left if self._progress else 0

    def _count(self, request: Request) -> int:
        return sum(len(page) for page in self._source.keys_after(_after(request)))

    def _pass(self, request: Request, stopping: threading.Event, begun: float) -> None:
        present: dict[str, frozenset[str]] = {}
        looked = restored = left = 0
        before = self._progress.restored if self._progress else 0
        for page in self._source.keys_after(_after(request)):
            wanted = self._wanted(request, [one for one in page if not one.endswith("/")], present)
            outcomes = [one.result() for one in self._carrier.carry_all(wanted, ORIGIN).values()]
            looked += len(page)
            restored += outcomes.count(Outcome.FINISHED)
            left += len(outcomes) - outcomes.count(Outcome.FINISHED)
            seconds = round(time.monotonic() - begun, 1)
            self._tell(looked=looked, restored=before + restored, left=left, seconds=seconds)
            if stopping.is_set():
                return

    def _wanted(
        self, request: Request, page: Sequence[str], present: dict[str, frozenset[str]]
    ) -> Sequence[str]:
        settled = self._ledger.settled(page)
        open_ = [one for one in page if one not in settled]
        if not request.narrow:
            return open_
        read = read_all(self._source, page if request.lost else open_, MESSAGE_OCTETS)
        entries = {
            key: entry for key, data in read.items() if not isinstance(entry := decode(key, data), Park)
        }
        meant = {key: entry for key, entry in entries.items() if request.means(entry)}
        again = self._forget(request, meant, settled, present) if request.lost else ()
        return [key for key in meant if key not in settled or key in again]

    def _forget(
        self,
        request: Request,
        meant: Mapping[str, Entry],
        settled: Collection[str],
        present: dict[str, frozenset[str]],
    ) -> Collection[str]:
        """Forget the deliveries of *meant* that are in no folder, and return the entries they belong to."""
        known = self._ledger.delivered_of([message_stem(one) for one in meant.values()])
        lost: dict[str, set[str]] = {}
        again = set()
        for key, entry in meant.items():
            name = message_stem(entry)
            for mailbox in known.get(name, frozenset()):
                if request.mailbox not in ("", mailbox):
                    continue
                if mailbox not in present:
                    present[mailbox] = Maildir(self._mail / mailbox / "Maildir").stems()
                if name not in present[mailbox] and key in settled:
                    lost.setdefault(mailbox, set()).add(name)
                    again.add(key)
        self._ledger.forget(lost, again)
        return again

    def _tell(self, **changes: Any) -> None:
        with self._changed:
            if self._progress is not None:
                self._progress = replace(self._progress, **changes)


def _told(request: Request) -> Mapping[str, Any]:
    told: Mapping[str, Any] = json.loads(request.to_bytes())
    return told


def _after(request: Request) -> str:
    """The key after which to list: entries are committed after their message arrived."""
    since = request.period.since
    return manifest_day((since - _EARLIER).date()) if since else MANIFEST
