"""Deliveries, users, crashes and losses in any order: one copy, and what was deleted stays deleted."""

import tempfile
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.log_simulator import LogSimulator
from twinmail.config import Limits
from twinmail.ledger import Ledger
from twinmail.ledger_file import FILE
from twinmail.maildir import Maildir, stem
from twinmail.sync.carrier import Carrier
from twinmail.sync.log import Log
from twinmail.sync.outage import Outage
from twinmail.sync.poll import Poll
from twinmail.sync.recovery import recover
from twinmail.sync.steps import STEPS

START = datetime(2026, 11, 22, 12, tzinfo=UTC)
MAILBOXES = ("ann", "bob")


class Killed(BaseException):
    """The process ends here: nothing after this happens."""


class Crash:
    """Ends a delivery at a step, by an exception that only a carrier that is thrown away meets."""

    def __init__(self) -> None:
        self.step: str | None = None
        self.happened = False

    def __call__(self, step: str) -> None:
        if self.step == step or self.happened:
            self.happened = True
            raise Killed


class Delivery(RuleBasedStateMachine):
    """The syncer's delivery against a model: which mailbox got which message, and what its user did."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        root = Path(self._folder.name)
        self.mail, self.state = root / "mail", root / "state"
        self.mail.mkdir()
        self.state.mkdir()
        self.log = LogSimulator(page=2)
        self.number = 0
        self.deleted: set[tuple[str, str]] = set()
        self.expected: dict[str, int] = dict.fromkeys(MAILBOXES, 0)

    def teardown(self) -> None:
        self._folder.cleanup()

    def files(self, mailbox: str) -> list[Path]:
        root = self.mail / mailbox / "Maildir"
        return sorted(path for path in root.rglob("*.twinmail,*") if path.parent.name in ("new", "cur"))

    def move(self, path: Path, folder: str, flags: str) -> None:
        """What Dovecot does when a user reads, flags or moves a message."""
        root = next(one for one in path.parents if one.name == "Maildir")
        target = root / folder / "cur"
        target.mkdir(parents=True, exist_ok=True)
        path.rename(target / f"{path.name.partition(':')[0]}:2,{flags}")

    def run(self, crash: Crash) -> None:
        """One life of the syncer: from its start through a listing and an audit, or to the crash."""
        ledger = Ledger(self.state, self.mail)
        log = Log(StringIO())
        discard = Maildir.discard

        def discard_unless_killed(maildir: Maildir, path: Path) -> None:
            # A process that is killed does not tidy up.
            if not crash.happened:
                discard(maildir, path)

        try:
            with mock.patch.object(Maildir, "discard", discard_unless_killed):
                recover(self.mail, ledger, log)
                store, disk = Outage("s3", log), Outage("disk", log)
                limits = Limits(parallel_downloads=1)
                carrier = Carrier(self.log, ledger, self.mail, limits, log, store, disk, crash)
                for key in sorted(one for one in self.log.objects if one.startswith("manifest/")):
                    # In this thread, so that a crash ends the life at once, as a kill does.
                    carrier._carry(key, "fuzz")
                poll = Poll(self.log, carrier, log, 60, clock=lambda: START + timedelta(hours=1))
                assert poll.turn()
                carrier.stop(10)
        except Killed:
            pass
        finally:
            ledger.close()

    @rule(
        mailboxes=st.sampled_from([("ann",), ("bob",), MAILBOXES]), folder=st.sampled_from(["INBOX", "Junk"])
    )
    def message_arrives(self, mailboxes: tuple[str, ...], folder: str) -> None:
        self.number += 1
        committed = START + timedelta(seconds=self.number)
        self.log.add(f"m{self.number}", f"Subject: {self.number}\n\n".encode(), committed, mailboxes, folder)
        for mailbox in mailboxes:
            self.expected[mailbox] += 1

    @rule(step=st.sampled_from(STEPS[:-1]), read=st.booleans())
    def syncer_is_killed(self, step: str, read: bool) -> None:
        crash = Crash()
        crash.step = step
        self.run(crash)
        for mailbox in MAILBOXES if read else ():
            for path in self.files(mailbox):
                self.move(path, "", "S")

    @rule()
    def syncer_runs(self) -> None:
        self.run(Crash())
        for mailbox in MAILBOXES:
            gone = len([one for one in self.deleted if one[0] == mailbox])
            assert len(self.files(mailbox)) == self.expected[mailbox] - gone, mailbox
            assert not list((self.mail / mailbox / "Maildir" / "tmp").glob("*"))

    @rule(data=st.data(), flags=st.sampled_from(["", "S", "RS"]), folder=st.sampled_from(["", ".Archive"]))
    def user_moves(self, data: st.DataObject, flags: str, folder: str) -> None:
        files = [path for mailbox in MAILBOXES for path in self.files(mailbox)]
        if files:
            self.move(data.draw(st.sampled_from(files)), folder, flags)

    @rule(data=st.data())
    def user_deletes(self, data: st.DataObject) -> None:
        # After a run that ended well: between link and journal a deletion cannot be known (see the ADR).
        self.syncer_runs()
        files = [path for mailbox in MAILBOXES for path in self.files(mailbox)]
        if files:
            path = data.draw(st.sampled_from(files))
            mailbox = next(one.parent.name for one in path.parents if one.name == "Maildir")
            path.unlink()
            self.deleted.add((mailbox, stem(path.name)))

    @rule()
    def ledger_is_lost(self) -> None:
        for path in self.state.glob(f"{FILE}*"):
            path.unlink()

    @rule(octets=st.binary(min_size=1, max_size=40), place=st.floats(0, 1))
    def ledger_is_damaged(self, octets: bytes, place: float) -> None:
        path = self.state / FILE
        if path.exists() and path.stat().st_size > 4096:
            for other in self.state.glob(f"{FILE}-*"):
                other.unlink()
            with path.open("r+b") as file:
                file.write(octets if place < 0.5 else b"SQLite format 3\0" + bytes(4000))

    @precondition(lambda self: (self.state / FILE).exists())
    @rule(mailbox=st.sampled_from(MAILBOXES), keep=st.floats(0, 1))
    def journal_is_cut(self, mailbox: str, keep: float) -> None:
        # One of the two twins is lost, never both: a ledger that was just lost is rebuilt before.
        self.run(Crash())
        path = self.mail / mailbox / "delivered.journal"
        if path.exists():
            data = path.read_bytes()
            path.write_bytes(data[: int(len(data) * keep)])
            # The ledger must be there to write it again; that is the next start.
            self.run(Crash())

    @invariant()
    def never_two_copies(self) -> None:
        for mailbox in MAILBOXES:
            stems = [stem(path.name) for path in self.files(mailbox)]
            assert len(stems) == len(set(stems))
            assert not {(mailbox, one) for one in stems} & self.deleted


TestDelivery = Delivery.TestCase
TestDelivery.settings = settings(
    max_examples=150, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
