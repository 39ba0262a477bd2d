"""The whole way of a message, with a death at every effect: once in each of its mailboxes, on each server.

The function, the reconciler, the compactor and the syncers of two servers are the production's, over a cloud
in memory. Events and notices are lost, repeated and out of order; each process dies before or after any of
its effects, and goes on later. When everything has come to rest, a model says what is in each mailbox.
"""

import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.cloud import CONFIG
from tests.log_simulator import QueueSimulator, event
from tests.memory_cloud import Death, Killed, MemoryArrivals, MemoryS3, MemoryTable
from tests.reconciler_contract import fields_of_ses, notice
from twinmail import layout
from twinmail.config import Limits
from twinmail.index import Index
from twinmail.layout import MANIFEST, PACKS, ManifestKey
from twinmail.ledger import Ledger
from twinmail.ledger_file import FILE
from twinmail.maildir import Maildir, stem
from twinmail.packs import plan
from twinmail.packs.archive import Archive
from twinmail.packs.compactor import Compactor
from twinmail.packs.originals import TAG
from twinmail.processor import STEPS, ClaimBusy, Processor
from twinmail.production import Packs
from twinmail.reconciler import slices
from twinmail.reconciler.arrivals import Arrivals
from twinmail.reconciler.turn import GRACE, Turn
from twinmail.ses_event import Receipt
from twinmail.sync import notice as sync_notice
from twinmail.sync import poll as poll_module
from twinmail.sync import recovery
from twinmail.sync.carrier import Carrier
from twinmail.sync.log import Log
from twinmail.sync.outage import Outage
from twinmail.sync.packed_source import PackedSource
from twinmail.sync.poll import Poll
from twinmail.sync.push import Push
from twinmail.sync.source import Notification, ObjectMissing, SourceUnavailable

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
MAILBOXES = ("ann", "bob")
SERVERS = (0, 1)
# About as many effects as one message has, before and after each.
DEATH = st.sampled_from([None, *range(1, 13)])
CONFIGURED = replace(CONFIG, packs=Packs(wait_days=1))
OLD = timedelta(days=31)
"""Age of originals that a lifecycle rule may take when they are in a pack."""


class Bucket:
    """The bucket as a syncer reads it, under *prefix*; *fails* says whether this read does."""

    def __init__(self, s3: MemoryS3, prefix: str, fails: Callable[[], bool]) -> None:
        self._s3, self._prefix, self._fails = s3, prefix, fails

    def keys_after(self, offset: str) -> Iterator[list[str]]:
        keys = sorted(key for key in self._s3.objects if key.startswith(self._prefix) and key > offset)
        for start in range(0, len(keys), 2):
            self._ask()
            yield keys[start : start + 2]

    def read(self, key: str) -> Iterator[bytes]:
        yield bytes(self.read_range(key, 0, sys.maxsize))

    def read_range(self, key: str, start: int, end: int) -> memoryview:
        self._ask()
        if key not in self._s3.objects:
            raise ObjectMissing(f"{key}: there is no such object")
        return memoryview(self._s3.objects[key].data)[start:end]

    def read_all(self, keys: Sequence[str], most: int) -> dict[str, bytes]:
        self._ask()
        there = {key: self._s3.objects[key].data for key in keys if key in self._s3.objects}
        return {key: data for key, data in there.items() if len(data) <= most}

    def _ask(self) -> None:
        if self._fails():
            raise SourceUnavailable("connection refused")


class Inline:
    """A pool that does everything at once in the thread of who asks, so that a death ends all of it."""

    def submit(self, work: Callable[..., None], *given: Any) -> "Future[None]":
        work(*given)
        return Future()

    def shutdown(self, wait: bool) -> None:
        """Nothing runs."""


class CarefulQueue(QueueSimulator):
    """Looks whether what is acknowledged is settled."""

    settled: Callable[[Sequence[str]], bool]

    def acknowledge(self, notification: Notification) -> None:
        told = sync_notice.read(notification.body, CONFIG.bucket)
        assert self.settled(told.keys), "acknowledged before the ledger has it"
        super().acknowledge(notification)

    def reappear(self) -> None:
        """What a dead process had received is shown again."""
        for one in list(self._taken.values()):
            self.release(one, 0)

    @property
    def visible(self) -> bool:
        return bool(self._visible)


class Server:
    """One server: its disk, its queue, and its syncer while that lives."""

    def __init__(self, root: Path, s3: MemoryS3, now: Callable[[], datetime]) -> None:
        self.mail, self.state = root / "mail", root / "state"
        self.mail.mkdir(parents=True)
        self.state.mkdir()
        self.queue = CarefulQueue()
        self.queue.settled = lambda keys: self.ledger().settled(keys) == frozenset(keys)
        self.death = Death()
        self.alive = False
        self.told: list[str] = []
        self.deleted: set[tuple[str, str]] = set()
        self._outage = 0
        self._s3, self._now = s3, now
        self._life: tuple[Ledger, Poll, Push] | None = None

    def ledger(self) -> Ledger:
        assert self._life is not None
        return self._life[0]

    def fails(self) -> bool:
        """Whether this read does: the next that are to fail."""
        self._outage -= 1
        return self._outage == 0

    def do(self, work: Callable[[Poll, Push], None], death: int | None, outage: int = 0) -> None:
        """Start the syncer if it is dead, and have it *work* until it dies."""
        self.death.at(death)
        discard = Maildir.discard

        def discard_unless_killed(maildir: Maildir, path: Path) -> None:
            # A process that is killed does not tidy up.
            if not self.death.happened:
                discard(maildir, path)

        try:
            with mock.patch.object(Maildir, "discard", discard_unless_killed):
                self._outage = 0
                _, poll, push = self._life or self._start()
                self._outage = outage
                work(poll, push)
        except Killed:
            self.kill()
        finally:
            self.death.at(None)
            self._outage = 0

    def kill(self) -> None:
        """The process ends."""
        if self._life is not None:
            self._life[0].close()
        self._life = None
        self.queue.reappear()

    def _start(self) -> tuple[Ledger, Poll, Push]:
        log = Log(StringIO(), clock=self._now)
        ledger = Ledger(self.state, self.mail)
        recovery.recover(self.mail, ledger, log)
        source = PackedSource(
            Bucket(self._s3, MANIFEST, self.fails), Bucket(self._s3, PACKS, self.fails), log, clock=self._now
        )
        outages = [Outage(name, log) for name in ("s3", "disk", "sqs")]
        limits = Limits(parallel_downloads=1)
        carrier = Carrier(
            source, ledger, self.mail, limits, log, outages[0], outages[1], self.death, clock=self._seconds
        )
        carrier._pool = Inline()  # type: ignore[assignment]
        carrier._lock = threading.RLock()  # type: ignore[assignment]
        poll = Poll(source, carrier, log, 60, clock=self._now)
        push = Push(self.queue, carrier, CONFIG.bucket, log, outages[2], self.death)
        self._life = (ledger, poll, push)
        return self._life

    def _seconds(self) -> float:
        return self._now().timestamp()

    def files(self, mailbox: str) -> list[Path]:
        root = self.mail / mailbox / "Maildir"
        return sorted(path for path in root.rglob("*.twinmail,*") if path.parent.name in ("new", "cur"))


class Mail(RuleBasedStateMachine):
    """Everything between SES and the mailboxes, against a model."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self._patches = [
            mock.patch.object(plan, "LEAST", 4 << 10),
            # A process dies here, never the machine: what the kernel has stays.
            mock.patch("os.fsync", lambda descriptor: None),
        ]
        for one in self._patches:
            one.start()
        self.time = START
        self.death = Death()
        self.s3 = MemoryS3(self.now, self.death)
        self.table = MemoryTable(self.death)
        self.arrivals = MemoryArrivals(self.now, self.death)
        self.servers = [Server(Path(self._folder.name) / str(one), self.s3, self.now) for one in SERVERS]
        self.messages: dict[str, Receipt] = {}
        self.events: list[Receipt] = []
        self.announced: set[str] = set()

    def now(self) -> datetime:
        # No two calls at the same time: a clock has microseconds.
        self.time += timedelta(microseconds=1)
        return self.time

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self.all_comes_to_rest()
        finally:
            for server in self.servers:
                server.kill()
            for one in self._patches:
                one.stop()
            self._folder.cleanup()

    @contextmanager
    def dying(self, death: int | None) -> Iterator[None]:
        """Something in the cloud runs in the block, and dies at the effect number *death*."""
        self.death.at(death)
        try:
            yield
        except (Killed, ClaimBusy):
            pass
        finally:
            self.death.at(None)
            self.announce()

    def announce(self) -> None:
        """S3 tells both queues of each new entry; which notice comes when, and whether, rules say."""
        for key in sorted(self.s3.objects):
            if key.startswith(MANIFEST) and key not in self.announced:
                self.announced.add(key)
                for server in self.servers:
                    server.told.append(event(key))

    def processor(self, checkpoint: Callable[[str], None] = lambda step: None) -> Processor:
        return Processor(CONFIGURED, self.s3, Index(self.table, CONFIG.table), self.now, checkpoint)

    # The cloud

    @initialize(whom=st.lists(st.sampled_from([("ann",), ("bob",), MAILBOXES]), min_size=2, max_size=4))
    def mail_is_there(self, whom: list[tuple[str, ...]]) -> None:
        for one in whom:
            self.mail_comes(one, 5000)

    @rule(whom=st.sampled_from([("ann",), ("bob",), MAILBOXES]), size=st.sampled_from([10, 5000]))
    def mail_comes(self, whom: tuple[str, ...], size: int) -> None:
        number = len(self.messages)
        ses_id = f"{'0123456789abcdefghijklmnopqrstuv'[number * 7 % 32]}x{number}"
        addresses = tuple(f"{one}@example.org" for one in whom)
        receipt = Receipt(ses_id, self.now(), "a@example.com", addresses, {"spam": "PASS", "virus": "PASS"})
        named = fields_of_ses(ses_id, addresses[0] if len(addresses) == 1 else "")
        raw = named + f"To: {', '.join(addresses)}\r\nSubject: {ses_id}\r\n\r\n{'x' * size}".encode()
        self.s3.put_object(Key=layout.incoming_key(ses_id), Body=raw)
        self.messages[ses_id] = receipt
        self.events.append(receipt)
        self.arrivals.send(notice(receipt), self.now() + GRACE)

    @precondition(lambda self: self.events)
    @rule(
        data=st.data(),
        death=DEATH,
        again=st.booleans(),
        meanwhile=st.sampled_from([None, None, *STEPS]),
        seconds=st.sampled_from([0, 100]),
    )
    def event_comes(
        self, data: st.DataObject, death: int | None, again: bool, meanwhile: str | None, seconds: int
    ) -> None:
        """The function runs; *meanwhile* another attempt does, from its beginning to its end."""
        receipt = data.draw(st.sampled_from(self.events))

        def checkpoint(step: str) -> None:
            if step == meanwhile:
                with self.dying(None):
                    self.processor().process(receipt)
                self.time += timedelta(seconds=seconds)

        with self.dying(death):
            self.processor(checkpoint).process(receipt)
        if not again:
            self.events.remove(receipt)

    @precondition(lambda self: self.events)
    @rule(data=st.data(), step=st.sampled_from(["claimed", "indexed"]), whom=st.sampled_from(MAILBOXES))
    def entry_comes_late(self, data: st.DataObject, step: str, whom: str) -> None:
        """An attempt dies when the name of its entry is fixed; servers see later ones before its retry."""
        receipt = data.draw(st.sampled_from(self.events))

        def checkpoint(reached: str) -> None:
            if reached == step:
                raise Killed

        with self.dying(None):
            self.processor(checkpoint).process(receipt)
        self.time += timedelta(minutes=4)
        self.mail_comes((whom,), 10)
        with self.dying(None):
            self.processor().process(self.events[-1])
        for which in SERVERS:
            self.server_polls(which, None, 0)
        self.time += timedelta(minutes=4)
        with self.dying(None):
            self.processor().process(receipt)
        self.events.remove(receipt)

    @precondition(lambda self: self.events)
    @rule(data=st.data(), both=st.booleans())
    def event_is_lost(self, data: st.DataObject, both: bool) -> None:
        lost = data.draw(st.sampled_from(self.events))
        self.events.remove(lost)
        for handle, (_, body) in list(self.arrivals.waiting.items()):
            if both and f'"{lost.ses_id}"' in body:
                del self.arrivals.waiting[handle]

    @rule(death=DEATH)
    def reconciler_runs(self, death: int | None) -> None:
        self.arrivals.release()
        with self.dying(death):
            self.turn()

    def turn(self) -> None:
        Turn(
            self.processor(), Arrivals(self.arrivals, "arrivals"), self.time, lambda: True, lambda line: None
        ).run()

    @rule(death=DEATH)
    def compactor_runs(self, death: int | None) -> None:
        with self.dying(death):
            assert Compactor(CONFIGURED, self.s3, self.time).run().broken == []

    @rule(seconds=st.sampled_from([1, 60, 301, 540, 700, 800, 4000]))
    def time_passes(self, seconds: int) -> None:
        self.time += timedelta(seconds=seconds)

    @rule()
    def day_passes(self) -> None:
        """With the turns of the reconciler, so that all that was stored is looked at."""
        self.time += GRACE + timedelta(minutes=1)
        for _ in range(slices.COUNT):
            self.arrivals.release()
            self.turn()
            self.time += slices.TURN
        self.announce()

    @rule()
    def month_passes(self) -> None:
        """No event is kept so long; what was packed and is old goes."""
        self.day_passes()
        self.events.clear()
        self.time += OLD
        for key, one in list(self.s3.objects.items()):
            if list(one.tags) == TAG["TagSet"] and self.time - one.modified >= OLD:
                self.s3.delete_object(Key=key)

    # The servers

    @precondition(lambda self: any(one.told for one in self.servers))
    @rule(data=st.data(), which=st.sampled_from(SERVERS), death=DEATH, again=st.booleans())
    def notice_comes(self, data: st.DataObject, which: int, death: int | None, again: bool) -> None:
        server = self.servers[which]
        if server.told:
            body = data.draw(st.sampled_from(server.told))
            server.queue.send(body)
            if not again:
                server.told.remove(body)
        if server.queue.visible:
            server.do(lambda poll, push: push.turn(threading.Event()), death)

    @precondition(lambda self: any(one.told for one in self.servers))
    @rule(which=st.sampled_from(SERVERS))
    def notices_are_lost(self, which: int) -> None:
        self.servers[which].told.clear()

    @rule(which=st.sampled_from(SERVERS), death=DEATH, outage=st.integers(0, 12))
    def server_polls(self, which: int, death: int | None, outage: int) -> None:
        self.servers[which].do(lambda poll, push: (poll.turn(), None)[1], death, outage)

    @rule(which=st.sampled_from(SERVERS))
    def server_is_killed(self, which: int) -> None:
        self.servers[which].kill()

    @rule(which=st.sampled_from(SERVERS))
    def ledger_is_lost(self, which: int) -> None:
        server = self.servers[which]
        server.kill()
        for path in server.state.glob(f"{FILE}*"):
            path.unlink()

    @rule(which=st.sampled_from(SERVERS))
    def user_reads(self, which: int) -> None:
        for path in (one for mailbox in MAILBOXES for one in self.servers[which].files(mailbox)):
            if path.parent.name == "new":
                path.rename(path.parent.parent / "cur" / f"{path.name}:2,S")

    @rule(data=st.data(), which=st.sampled_from(SERVERS))
    def user_deletes(self, data: st.DataObject, which: int) -> None:
        server = self.servers[which]
        # After a run that ended well: between link and journal a deletion cannot be known (see the ADR).
        server.do(lambda poll, push: (poll.turn(), None)[1], None)
        files = [(mailbox, path) for mailbox in MAILBOXES for path in server.files(mailbox)]
        if files:
            mailbox, path = data.draw(st.sampled_from(files))
            server.deleted.add((mailbox, subject(path)))
            path.unlink()

    # What must hold

    @invariant()
    def never_twice(self) -> None:
        for server in self.servers:
            for mailbox in MAILBOXES:
                stems = [stem(path.name) for path in server.files(mailbox)]
                assert len(stems) == len(set(stems)), f"twice in {mailbox}"

    @invariant()
    def one_entry_a_message(self) -> None:
        keys = {one for one in self.s3.objects if one.startswith(MANIFEST)}
        ids = [ManifestKey.parse(one).ses_id for one in keys]
        assert len(ids) == len(set(ids)), "two entries of a message"

    def logged(self) -> list[str]:
        archive = Archive(self.s3, CONFIG.bucket)
        return sorted({one for one in self.s3.objects if one.startswith(MANIFEST)} | set(archive.keys()))

    def all_comes_to_rest(self) -> None:
        self.day_passes()
        logged = self.logged()
        assert sorted(ManifestKey.parse(one).ses_id for one in logged) == sorted(self.messages)
        for server in self.servers:
            # Before any whole day is compared: the cursor alone passes nothing over.
            server.do(lambda poll, push: (poll.advance(), None)[1], None)
            assert server.ledger().settled(logged) == frozenset(logged), "passed over by the cursor"
        self.time += timedelta(days=1)
        for server in self.servers:
            server.do(lambda poll, push: (poll.turn(), None)[1], None)
            for mailbox in MAILBOXES:
                wanted = {
                    one.ses_id for one in self.messages.values() if f"{mailbox}@example.org" in one.recipients
                } - {ses_id for box, ses_id in server.deleted if box == mailbox}
                got = Counter(subject(path) for path in server.files(mailbox))
                assert got == Counter(wanted), mailbox
                assert not list((server.mail / mailbox / "Maildir" / "tmp").glob("*"))


def subject(path: Path) -> str:
    """The SES id in the message at *path*."""
    return path.read_bytes().partition(b"Subject: ")[2].partition(b"\r\n")[0].decode()


PROFILE = settings(
    max_examples=120,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def test_every_message_is_once_in_each_of_its_mailboxes() -> None:
    run_state_machine_as_test(Mail, settings=PROFILE)


def no_search(mail: Path, ledger: Ledger, log: Log) -> None:
    """As `recovery.recover`, and adopts nothing."""
    with mock.patch.object(Maildir, "scan", lambda maildir: {}):
        RECOVER(mail, ledger, log)


def acknowledge_first(push: Push, notification: Notification) -> None:
    push._queue.acknowledge(notification)
    ACCEPT(push, notification)


def recorded_first(carrier: Carrier, key: str, origin: str) -> Any:
    carrier.ledger.finish(key)
    carrier._checkpoint("recorded")
    with mock.patch.object(Ledger, "finished", lambda ledger, key: False):
        return CARRY(carrier, key, origin)


def claim_anew(index: Index, ses_id: str, manifest_key: str) -> str:
    index.client.rows.pop((f"ses#{ses_id}", "claim"), None)
    return CLAIM(index, ses_id, manifest_key)


RECOVER, ACCEPT, CARRY, CLAIM = recovery.recover, Push._accept, Carrier._carry, Index.claim

MUTATIONS = {
    "a start does not search the Maildir": (recovery, "recover", no_search),
    "a notice is acknowledged before the ledger": (Push, "_accept", acknowledge_first),
    "an entry is finished before its message is there": (Carrier, "_carry", recorded_first),
    "a claim does not hold": (Index, "claim", claim_anew),
    "listings do not overlap": (poll_module, "start_after", lambda before, now: before or MANIFEST),
    "packs are not read": (PackedSource, "_listed", lambda source, offset: []),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_machine_finds(name: str) -> None:
    """What the machine is worth: each of these bugs is found."""
    target, attribute, bug = MUTATIONS[name]
    with mock.patch.object(target, attribute, bug), pytest.raises(AssertionError):
        run_state_machine_as_test(
            Mail,
            settings=settings(PROFILE, phases=[Phase.generate], report_multiple_bugs=False, max_examples=600),
        )
