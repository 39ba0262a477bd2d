"""Sends what scripts decided to send, once although two servers hold the decision.

A decision arrives here by hand, from the delivery on this server; twice an hour the decisions of the last
days are listed too, so that none is forgotten that was made just before a crash. Mail never waits for any of
this.
"""

import hashlib
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from twinmail import redirect, vacation
from twinmail.claim import Claim, ClaimDamaged, State, Verdict, judge, taken
from twinmail.config import Config
from twinmail.errors import TransientError, TwinmailError
from twinmail.filter.decision import (
    PREFIX,
    REDIRECT,
    VACATION,
    Decision,
    DecisionError,
    DecisionKey,
    Outgoing,
)
from twinmail.layout import PROCESSED, STATE
from twinmail.manifest import Entry
from twinmail.message import HEADER_BYTES
from twinmail.outgoing import MESSAGE_BYTES, MaybeSent, NotSent, Refused, Sending
from twinmail.routing import route
from twinmail.sync.log import Log, utc_now
from twinmail.sync.outage import pause
from twinmail.sync.source import Source
from twinmail.sync.state_store import Conflict, StateStore
from twinmail.vacation import Answer, Silence

TURN_SECONDS = 1.0
LIST_SECONDS = 1800.0

LATE = timedelta(days=2)
"""Older decisions send nothing any more: an answer to old mail would only surprise."""

DEFAULT_PERIOD = timedelta(days=7)
_RETRY_CAP_SECONDS = 300.0


class NotAnswered(TransientError):
    """Some answers or redirected messages wait to be sent."""


class _Later(TransientError):
    """Another server has the claim."""


@dataclass
class _Task:
    """A decision of which something is still to be sent."""

    key: DecisionKey
    decision: Decision
    open: set[int] = field(default_factory=set)
    attempts: int = 0
    not_before: float = 0.0


class Answers:
    """The `Chore` that sends; `hand` takes decisions from any thread."""

    name = "answers"
    prefix = ""
    seconds = TURN_SECONDS

    def __init__(
        self,
        config: Config,
        store: StateStore,
        source: Source,
        sending: Sending,
        server: str,
        log: Log,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._config = config
        self._store = store
        self._source = source
        self._sending = sending
        self._server = server
        self._log = log
        self._clock = clock
        self._now = now
        self._lock = threading.Lock()
        self._handed: dict[str, Decision] = {}
        self._tasks: dict[str, _Task] = {}
        self._done: dict[str, None] = {}
        self._unsent: set[str] = set()
        self._listed = float("-inf")

    def hand(self, entry: Entry, decision: Decision) -> None:
        """Take *decision*, about the message of *entry*, as soon as it is durable."""
        if decision.outgoing:
            key = DecisionKey(f"{entry.arrived:%Y/%m/%d}", decision.ses_id, decision.mailbox)
            with self._lock:
                self._handed[str(key)] = decision

    def turn(self) -> None:
        """See `Chore`.

        Raises:
            NotAnswered: something waits.
            SourceUnavailable.
        """
        with self._lock:
            handed, self._handed = self._handed, {}
        for key, decision in handed.items():
            self._take(key, decision)
        if self._clock() - self._listed >= LIST_SECONDS:
            self._list()
            self._listed = self._clock()
        troubles = []
        for key, task in list(self._tasks.items()):
            if task.not_before > self._clock():
                continue
            if self._now() - task.decision.decided >= LATE:
                self._log.warning("not answered", **_about(task), reason="it could not be sent for days")
                task.open.clear()
            for number in sorted(task.open):
                try:
                    self._send(task, task.decision.outgoing[number])
                    task.open.discard(number)
                except _Later:
                    task.not_before = self._clock() + pause(6, base=1.0, cap=60.0)
                except TwinmailError as error:
                    task.attempts += 1
                    task.not_before = self._clock() + pause(task.attempts, base=1.0, cap=_RETRY_CAP_SECONDS)
                    troubles.append(f"{key}: {error}")
            if not task.open:
                del self._tasks[key]
                self._done[key] = None
        if troubles:
            raise NotAnswered("; ".join(troubles))

    def _take(self, key: str, decision: Decision) -> None:
        if key in self._tasks or key in self._done:
            return
        sent = {number for number, one in enumerate(decision.outgoing) if one.kind in (VACATION, REDIRECT)}
        if sent and self._now() - decision.decided < LATE:
            self._tasks[key] = _Task(DecisionKey.parse(key), decision, sent)
        else:
            self._done[key] = None

    def _list(self) -> None:
        """Find the decisions that nobody handed over."""
        today = self._now()
        days = {f"{today - timedelta(days=age):%Y/%m/%d}" for age in range(LATE.days + 1)}
        self._done = {key: None for key in self._done if key.removeprefix(PREFIX)[:10] in days}
        for day in sorted(days):
            for key in self._store.keys(f"{PREFIX}{day}/"):
                if key in self._tasks or key in self._done:
                    continue
                stored = self._store.get(key)
                try:
                    DecisionKey.parse(key)
                    self._take(key, Decision.from_bytes(stored.data if stored else b""))
                except DecisionError as error:
                    self._done[key] = None
                    self._log.warning("decision unreadable", key=key, error=str(error))

    def _send(self, task: _Task, outgoing: Outgoing) -> None:
        """Claim, send, and say so; returns when nothing is left to do."""
        again = outgoing.kind == REDIRECT
        key = _claim_key(task.key, outgoing)
        stored = self._store.get(key)
        claim = self._claim(key, stored.data) if stored else None
        ses_id, now = task.key.ses_id, self._now()
        verdict = judge(claim, ses_id, self._server, now, again=again, unsent=key in self._unsent)
        if verdict is Verdict.DONE:
            return
        if verdict is Verdict.WAIT:
            raise _Later(f"{key}: another server has it")
        ready = self._ready(task, outgoing)
        if isinstance(ready, Silence):
            self._log.info("not answered", kind=outgoing.kind, **_about(task), reason=ready.reason)
            return
        until = outgoing.until or now + DEFAULT_PERIOD
        mine = taken(claim, ses_id, self._server, now, until)
        try:
            data = mine.to_bytes()
            etag = self._store.replace(key, data, stored.etag) if stored else self._store.create(key, data)
        except Conflict as conflict:
            raise _Later(f"{key}: another server was faster") from conflict
        self._claimed(task, outgoing, key, etag, mine, ready)

    def _claimed(
        self, task: _Task, outgoing: Outgoing, key: str, etag: str, mine: Claim, ready: Answer
    ) -> None:
        try:
            sent = self._sending.send(ready.source, (ready.to,), ready.data)
        except NotSent:
            self._unsent.add(key)
            # So that another server may go on if this one does not.
            with suppress(TwinmailError):
                self._store.replace(key, mine.now(State.CLAIMED, self._now()).to_bytes(), etag)
            raise
        except MaybeSent as error:
            self._unsent.discard(key)
            if outgoing.kind == REDIRECT:
                raise
            self._log.warning("maybe answered", **_about(task), error=str(error), note="not tried again")
            return
        except Refused as error:
            mine = mine.now(State.REFUSED, self._now())
            self._log.warning("not answered", kind=outgoing.kind, **_about(task), reason=str(error))
        else:
            mine = mine.now(State.SENT, self._now(), sent)
            self._log.info("sent", kind=outgoing.kind, **_about(task), sent=sent)
        self._unsent.discard(key)
        # What cannot be noted now stays "sending", which stops the others too.
        with suppress(TwinmailError):
            self._store.replace(key, mine.to_bytes(), etag)

    def _ready(self, task: _Task, outgoing: Outgoing) -> Answer | Silence:
        """What SES gets."""
        mailbox = task.key.mailbox
        if mailbox not in self._config.mailboxes or not outgoing.rcpt_to:
            return Silence("nobody to write from, or to")
        primary = self._primary(mailbox, outgoing)
        to = outgoing.rcpt_to[0]
        key = f"{PROCESSED}{task.key.day}/{task.key.ses_id}.eml"

        def own(address: str) -> bool:
            return "@" in address and mailbox in route(self._config, [address]).mailboxes

        if outgoing.kind == VACATION:
            start = self._read(key, HEADER_BYTES)
            return vacation.answer(outgoing.message, to, start, own, primary)
        return redirect.redirected(self._read(key, MESSAGE_BYTES + 1), to, own, primary)

    def _primary(self, mailbox: str, outgoing: Outgoing) -> str:
        """The user's own address; with catch-alls alone, the one that was written to."""
        primary = self._config.primary_address(mailbox)
        if primary is not None:
            return primary
        return outgoing.mail_from or f"{mailbox}@{self._config.catch_all_domains_of(mailbox)[0]}"

    def _read(self, key: str, octets: int) -> bytes:
        data = bytearray()
        for piece in self._source.read(key):
            data += piece
            if len(data) >= octets:
                break
        return bytes(data[:octets])

    def _claim(self, key: str, data: bytes) -> Claim:
        try:
            return Claim.from_bytes(data)
        except ClaimDamaged as error:
            raise ClaimDamaged(
                f"{key}: {error}; nothing is sent about it until the object is removed"
            ) from error


def _claim_key(key: DecisionKey, outgoing: Outgoing) -> str:
    if outgoing.kind == VACATION:
        memory = outgoing.memory or _digest(*outgoing.rcpt_to, outgoing.message.decode("latin-1"))
        return f"{STATE}vacation/{key.mailbox}/{memory}.json"
    return f"{STATE}redirected/{key.day}/{key.ses_id}/{key.mailbox}-{_digest(*outgoing.rcpt_to)}.json"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _about(task: _Task) -> dict[str, str]:
    return {"mailbox": task.key.mailbox, "ses_id": task.key.ses_id}
