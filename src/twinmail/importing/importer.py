"""Brings the messages of a source into the log: several at once, in bounded memory, none twice."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from botocore.exceptions import BotoCoreError, ClientError

from twinmail.errors import TransientError
from twinmail.importing.canonical import content_digest, identity, with_smtp_lines
from twinmail.importing.logged import Received
from twinmail.importing.memory import Memory
from twinmail.importing.report import Counts, Report, State
from twinmail.importing.source import Folder, Mail, Passed, Source, Trouble
from twinmail.manifest import Delivery, is_keyword
from twinmail.processor import CLAIM_LIFE, ClaimBusy, Processor

PARALLEL = 16
_IN_FLIGHT_OCTETS = 64 << 20
_IN_FLIGHT = 256
_BUSY_SECONDS = 5.0
_KEYWORDS = 50
# What its user wrote. SES received a copy of what was sent to oneself, and that is another message.
_OWN = ("Sent", "Drafts")


class LogAway(TransientError):
    """The log does not take messages now; what was imported stays."""


@dataclass(frozen=True)
class Log:
    """The log as an import into *mailbox* sees it.

    Attributes:
        processor: writes it; None to write nothing and only count.
        imported: identities that it has; what is imported is added.
        received: what SES received for the mailbox.
    """

    mailbox: str
    processor: Processor | None
    imported: set[str]
    received: Received


@dataclass(frozen=True)
class _Done:
    state: State
    identity: str
    content: bytes


@dataclass(frozen=True)
class _Flying:
    mail: Mail
    folder: Folder
    counts: Counts
    future: "Future[_Done]"


class Importer:
    """Imports *source* into *log*.

    *pause* is called between messages, and may raise: what has begun is then ended, and no more. *shown* is
    told the report at each message.
    """

    def __init__(
        self,
        log: Log,
        source: Source,
        memory: Memory,
        pause: Callable[[], None] = lambda: None,
        shown: Callable[[Report], None] = lambda report: None,
        parallel: int = PARALLEL,
    ) -> None:
        self.report = Report(log.mailbox, source.name)
        self._log = log
        self._source = source
        self._memory = memory
        self._pause = pause
        self._shown = shown
        self._parallel = parallel
        self._stopping = threading.Event()
        # Digests of what is in the folders that were read, for the folder that shows all.
        self._contents: set[bytes] = set()
        self._flying: deque[_Flying] = deque()
        self._octets = 0

    def run(self, targets: Mapping[Folder, str]) -> Report:
        """Import the folders *targets* in this order.

        Raises:
            SourceBroken, SourceAway, LogAway: what was imported until then stays, and is in `report`.
        """
        pool = ThreadPoolExecutor(self._parallel, thread_name_prefix="import")
        try:
            for folder, target in targets.items():
                counts = self.report.folder(str(folder), target)
                survey = self._source.survey(folder) if self._log.processor is None else None
                if survey is None:
                    self._folder(pool, folder, counts)
                else:
                    self._count(folder, counts, survey)
        finally:
            self._stopping.set()
            pool.shutdown(cancel_futures=True)
            self._settle()
        return self.report

    def _count(self, folder: Folder, counts: Counts, survey: Sequence[tuple[str, int]]) -> None:
        for mark, octets in survey:
            known = self._is_known(folder, counts.target, mark)
            counts.add(State.KNOWN if known else State.IMPORTED, octets)
        self._shown(self.report)

    def _folder(self, pool: ThreadPoolExecutor, folder: Folder, counts: Counts) -> None:
        items = self._source.read(folder, lambda one, mark: self._is_known(one, counts.target, mark))
        for item in items:
            self._pause()
            if isinstance(item, Trouble):
                self.report.fail(counts, item.place, item.reason)
            elif isinstance(item, Passed):
                self._pass(folder, counts, item)
            else:
                self._make_room(len(item.message))
                future = pool.submit(self._bring, item, folder, counts.target)
                self._flying.append(_Flying(item, folder, counts, future))
                self._octets += len(item.message)
            self._shown(self.report)
        # Before the next folder, which may show these messages again.
        while self._flying:
            self._pause()
            self._land()

    def _pass(self, folder: Folder, counts: Counts, item: Passed) -> None:
        counts.add(State.KNOWN if item.mark else State.DELETED)
        content = self._memory.content(self._source.name, folder.key, item.mark) if item.mark else None
        if content is not None:
            self._contents.add(content)

    def _is_known(self, folder: Folder, target: str, mark: str) -> bool:
        """Whether an earlier run fetched the message *mark*, and the log has it."""
        content = self._memory.content(self._source.name, folder.key, mark)
        return content is not None and identity(self._log.mailbox, target, content) in self._log.imported

    def _make_room(self, octets: int) -> None:
        while self._flying and (self._octets + octets > _IN_FLIGHT_OCTETS or len(self._flying) >= _IN_FLIGHT):
            self._land()

    def _land(self) -> None:
        """Wait for the message that left first, and count it."""
        flying = self._flying.popleft()
        self._octets -= len(flying.mail.message)
        try:
            done = flying.future.result()
        except (BotoCoreError, ClientError, ClaimBusy) as error:
            raise LogAway(
                f"{flying.mail.place}: {error}; what was imported stays: run the same command again"
            ) from error
        state = done.state
        if state is State.IMPORTED and done.identity in self._log.imported:
            # Twice in this folder; of two at once, both may have thought to be the first.
            state = State.KNOWN
        if state is State.IMPORTED:
            self._log.imported.add(done.identity)
        self._contents.add(done.content)
        if flying.mail.mark:
            self._memory.remember(self._source.name, flying.folder.key, flying.mail.mark, done.content)
        flying.counts.add(state, len(flying.mail.message))
        self._shown(self.report)

    def _settle(self) -> None:
        """At an end before its time: count what was brought all the same."""
        while self._flying:
            if self._flying[0].future.cancelled() or self._flying[0].future.exception() is not None:
                self._flying.popleft()
            else:
                self._land()
        self._memory.save()

    def _bring(self, mail: Mail, folder: Folder, target: str) -> _Done:
        """Bring one message into the log, unless it is there; in a thread of the pool."""
        content = content_digest(mail.message)
        name = identity(self._log.mailbox, target, content)
        if folder.role == "all" and content in self._contents:
            return _Done(State.ELSEWHERE, name, content)
        if name in self._log.imported:
            return _Done(State.KNOWN, name, content)
        if target not in _OWN and self._log.received.has(mail.message):
            return _Done(State.RECEIVED, name, content)
        if self._log.processor is None:
            return _Done(State.IMPORTED, name, content)
        keywords = sorted(filter(is_keyword, mail.keywords))[:_KEYWORDS]
        delivery = Delivery(self._log.mailbox, target, tuple(sorted(mail.flags)), tuple(keywords))
        written = self._write(self._log.processor, name, mail, delivery)
        return _Done(State.IMPORTED if written else State.KNOWN, name, content)

    def _write(self, processor: Processor, name: str, mail: Mail, delivery: Delivery) -> bool:
        message = with_smtp_lines(mail.message)
        deadline = time.monotonic() + 2 * CLAIM_LIFE.total_seconds()
        while True:
            try:
                return processor.add_imported(name, mail.arrived, delivery, message).entry is not None
            except ClaimBusy:
                # A run that was killed minutes ago left it; it can be taken over soon.
                if time.monotonic() > deadline or self._stopping.wait(_BUSY_SECONDS):
                    raise
