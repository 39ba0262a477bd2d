"""What becomes of each message in each mailbox, decided once for all servers.

Where nothing is to be decided (no active script, nothing known about the sender) nothing is asked, and the
manifest entry says where the message goes. Everything else is a decision in S3: whoever comes first creates
it, the others adopt it, also years later when a mailbox is restored from the log.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from twinmail import durable_file
from twinmail.durable_file import NotWritten
from twinmail.errors import TransientError
from twinmail.filter.complaint import Complaint
from twinmail.filter.decision import BROKEN, JUNK, SCRIPT, Decision, DecisionError, Placement, decision_key
from twinmail.filter.lmtp import LmtpAway, LmtpRefused
from twinmail.filter.pigeonhole import Answer, Question
from twinmail.manifest import Delivery, Entry
from twinmail.sync.decided_days import DecidedDays
from twinmail.sync.log import Log, utc_now
from twinmail.sync.state_store import Conflict, StateStore

ACTIVE = ".dovecot.sieve"
COMPLAINTS = ".dovecot.sieve.log"
# A script acts on mail that arrives after it was made active, by the clocks of two machines. Older mail met
# here was delivered by the other server long ago, or is being restored: filtered and answered then, or never.
GRACE = timedelta(hours=1)
# While Dovecot starts again, a message waits; then it is delivered without being filtered.
PATIENCE_SECONDS = 120.0
RETRY_CAP_SECONDS = 5.0
# What a list of known senders is looked up by.
HEADER_OCTETS = 64 * 1024


class NotDecided(TransientError):
    """Nobody answered yet; asked again within seconds."""


class Asked(Protocol):
    """Who knows what scripts do: `twinmail.filter.pigeonhole.Pigeonhole`."""

    def ask(self, question: Question) -> Answer:
        """Ask.

        Raises:
            LmtpAway: transient.
            LmtpRefused.
            NotWritten: transient.
        """


class JunkMemory(Protocol):
    """What users did with mail of the same sender before."""

    def folder(self, mailbox: str, entry: Entry, header: bytes) -> str | None:
        """Junk, INBOX, or None if nothing is known; fast, and never raises."""


class Hand(Protocol):
    """Who gets a decision as soon as it is durable; fast, and never raises."""

    def __call__(self, entry: Entry, decision: Decision) -> None:
        """Take *decision*."""


@dataclass(frozen=True)
class Desk:
    """With what decisions are made.

    Attributes:
        mail: folder of the mailboxes.
        recipient: the envelope recipient of an entry that is a given mailbox.
        server: the name of this server.
    """

    store: StateStore
    pigeonhole: Asked
    mail: Path
    recipient: Callable[[Entry, str], str]
    server: str
    junk: JunkMemory | None = None
    hand: Hand | None = None


class Decisions:
    """Decides, at *desk*; safe to use from several threads."""

    def __init__(
        self,
        desk: Desk,
        log: Log,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._desk = desk
        self._log = log
        self._clock = clock
        self._now = now
        self._days = DecidedDays(desk.store, clock, now)
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._waiting: dict[str, float] = {}
        self._latest: dict[str, Complaint] = {}

    @property
    def counts(self) -> Mapping[str, int]:
        """How often since the start: asked, adopted, broken (a script), unfiltered (nobody answered)."""
        with self._lock:
            return dict(self._counts)

    @property
    def latest(self) -> Mapping[str, Complaint]:
        """By mailbox: what Pigeonhole last said is wrong with its script."""
        with self._lock:
            return dict(self._latest)

    def decide(self, entry: Entry, delivery: Delivery, message: Path) -> tuple[Placement, ...]:
        """Where the mailbox of *delivery* puts the message of *entry*, which is in the file *message*.

        Raises:
            NotDecided: nobody answered yet; transient.
            SourceUnavailable: S3 does not answer; transient.
            NotWritten: the disk is in trouble; transient.
        """
        folder = self._folder(entry, delivery, message)
        asks = is_active(self._desk.mail / delivery.mailbox, entry.arrived)
        plain = (Placement(delivery.folder),)
        if not asks and folder == delivery.folder and not self._decided(entry, delivery):
            return plain
        key = decision_key(entry.ses_id, entry.arrived, delivery.mailbox)
        decision = self._adopted(key)
        if decision is None:
            if asks:
                decision = self._ask(key, entry, delivery, folder, message)
            elif folder != delivery.folder:
                decision = self._decision(entry, delivery, (Placement(folder),), JUNK)
            else:
                return plain
            decision = self._created(key, decision)
        self._complain(decision)
        if self._desk.hand is not None:
            self._desk.hand(entry, decision)
        return decision.placements

    def plain(self, entry: Entry, delivery: Delivery, header: bytes) -> Placement | None:
        """Where the message of *entry*, which begins with *header*, goes; None if that is to be decided.

        Raises:
            SourceUnavailable: S3 does not answer; transient.
        """
        junk, own = self._desk.junk, delivery.folder
        if junk is not None and (junk.folder(delivery.mailbox, entry, header) or own) != own:
            return None
        if is_active(self._desk.mail / delivery.mailbox, entry.arrived):
            return None
        return None if self._decided(entry, delivery) else Placement(own)

    def _decided(self, entry: Entry, delivery: Delivery) -> bool:
        return self._days.has(entry.ses_id, entry.arrived, delivery.mailbox)

    def _folder(self, entry: Entry, delivery: Delivery, message: Path) -> str:
        if self._desk.junk is None:
            return delivery.folder
        try:
            with message.open("rb") as file:
                header = file.read(HEADER_OCTETS)
        except OSError as error:
            raise NotWritten(f"{message}: cannot be read: {error.strerror}; check the disk") from error
        return self._desk.junk.folder(delivery.mailbox, entry, header) or delivery.folder

    def _adopted(self, key: str) -> Decision | None:
        stored = self._desk.store.get(key)
        if stored is None:
            return None
        try:
            decision = Decision.from_bytes(stored.data)
        except DecisionError as error:
            # Of a newer version, or damaged: the next message must not wait for it.
            self._log.error("decision unreadable", key=key, error=str(error))
            return None
        self._count("adopted")
        return decision

    def _created(self, key: str, decision: Decision) -> Decision:
        try:
            self._desk.store.create(key, decision.to_bytes())
        except Conflict:
            return self._adopted(key) or decision
        return decision

    def _ask(self, key: str, entry: Entry, delivery: Delivery, folder: str, message: Path) -> Decision:
        mailbox = delivery.mailbox
        recipient = self._desk.recipient(entry, mailbox)
        try:
            answer = self._desk.pigeonhole.ask(Question(mailbox, folder, entry.mail_from, recipient, message))
        except LmtpAway as error:
            with self._lock:
                waited = self._clock() - self._waiting.setdefault(key, self._clock())
            if waited < PATIENCE_SECONDS:
                raise NotDecided(str(error)) from error
            return self._unfiltered(key, entry, delivery, folder, error)
        except LmtpRefused as error:
            return self._unfiltered(key, entry, delivery, folder, error)
        self._waited(key)
        self._count("asked")
        reason = BROKEN if answer.complaints else SCRIPT
        return self._decision(entry, delivery, answer.placements, reason, answer)

    def _unfiltered(
        self, key: str, entry: Entry, delivery: Delivery, folder: str, error: Exception
    ) -> Decision:
        self._waited(key)
        self._count("unfiltered")
        self._log.error("not filtered", ses_id=entry.ses_id, mailbox=delivery.mailbox, error=str(error))
        return self._decision(entry, delivery, (Placement(folder),), BROKEN)

    def _waited(self, key: str) -> None:
        with self._lock:
            self._waiting.pop(key, None)

    def _complain(self, decision: Decision) -> None:
        """Remember what is wrong with a script, or that nothing is any more."""
        mailbox, text = decision.mailbox, "\n".join(decision.complaints)
        if text:
            self._count("broken")
        elif decision.reason != SCRIPT:
            return
        with self._lock:
            before = self._latest.pop(mailbox, None)
            if text:
                self._latest[mailbox] = Complaint(mailbox, text, decision.decided.date())
        if not text or (before is not None and text == before.text):
            return
        self._log.warning(
            "script broken", mailbox=mailbox, error=text, note="its mail is delivered all the same"
        )
        try:
            # Where Pigeonhole itself would write it.
            stamp = f"{decision.decided:%Y-%m-%d %H:%M:%S} UTC\n"
            durable_file.write(
                self._desk.mail / mailbox / COMPLAINTS, f"{stamp}{text}\n".encode(), mode=0o600
            )
        except NotWritten as error:
            self._log.warning("not written", error=str(error))

    def _decision(
        self,
        entry: Entry,
        delivery: Delivery,
        placements: tuple[Placement, ...],
        reason: str,
        answer: Answer | None = None,
    ) -> Decision:
        return Decision(
            mailbox=delivery.mailbox,
            ses_id=entry.ses_id,
            placements=placements,
            outgoing=answer.outgoing if answer else (),
            decided=self._now(),
            server=self._desk.server,
            reason=reason,
            complaints=answer.complaints if answer else (),
        )

    def _count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1


def is_active(home: Path, arrived: datetime) -> bool:
    """Whether the mailbox at *home* has an active script that acts on mail that *arrived* then."""
    link = f"{home}/{ACTIVE}"
    try:
        # The time of the link is when the script became active; the script itself may be edited later.
        since = os.lstat(link).st_mtime
        return Path(link).exists() and arrived >= datetime.fromtimestamp(since, UTC) - GRACE
    except (OSError, OverflowError, ValueError):
        return False
