"""Quota under anything that may happen: no message is lost, none arrives twice, and none goes over the quota."""

import tempfile
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.cloud import CONFIG
from tests.log_simulator import DOWN, LogSimulator
from twinmail.config import Limits, Mailbox
from twinmail.ledger import Ledger
from twinmail.maildir import stem
from twinmail.sync.carrier import Carrier
from twinmail.sync.cursor import OVERLAP
from twinmail.sync.log import Log
from twinmail.sync.outage import Outage
from twinmail.sync.poll import Poll
from twinmail.sync.quota import QuotaChore, Quotas
from twinmail.sync.recovery import recover

START = datetime(2026, 11, 22, tzinfo=UTC)
MAILBOXES = ("ann", "bob")
CONFIGURED = replace(CONFIG, mailboxes={name: Mailbox(name, (f"{name}@example.org",)) for name in MAILBOXES})


class QuotaMachine(RuleBasedStateMachine):
    """Messages, deletions, changed quotas, restarts and lost ledgers, in any order."""

    @initialize()
    def fresh(self) -> None:
        self._closing = ExitStack()
        root = Path(self._closing.enter_context(tempfile.TemporaryDirectory()))
        self.mail, self.state = root / "mail", root / "state"
        for folder in (self.mail, self.state):
            folder.mkdir()
        self.log = LogSimulator(page=4)
        self.number = 0
        self.quotas = dict.fromkeys(MAILBOXES, 3000)
        self.arrived: dict[str, list[str]] = {name: [] for name in MAILBOXES}
        self.expected = dict.fromkeys(MAILBOXES, 0)
        self.ledger: Ledger | None = None
        self.start()

    def teardown(self) -> None:
        if not hasattr(self, "ledger"):
            return
        # Everybody makes room until nothing waits: then everything arrived, once.
        for _ in range(self.number + 1):
            for mailbox in MAILBOXES:
                self.delete(mailbox, 100)
            self.turn()
        for mailbox in MAILBOXES:
            self.collect(mailbox)
            assert len(self.arrived[mailbox]) == self.expected[mailbox]
            assert len(set(self.arrived[mailbox])) == self.expected[mailbox]
        assert self.ledger and self.ledger.waiting() == []
        self.stop()
        self._closing.close()

    def start(self) -> None:
        log = Log(StringIO())
        ledger = self.ledger = Ledger(self.state, self.mail)
        recover(self.mail, ledger, log)
        store, disk = Outage("s3", log), Outage("disk", log)
        self.carrier = Carrier(
            self.log,
            ledger,
            self.mail,
            Limits(parallel_downloads=4),
            log,
            store,
            disk,
            quotas=Quotas(self.mail, self.quotas.__getitem__),
        )
        self.poll = Poll(self.log, self.carrier, log, 60, clock=lambda: START + timedelta(days=10))
        self.chore = QuotaChore(CONFIGURED, "primary", self.mail, self.carrier, log)

    def stop(self) -> None:
        assert self.ledger
        self.carrier.stop(10)
        self.ledger.close()

    def files(self, mailbox: str) -> list[Path]:
        found = (self.mail / mailbox / "Maildir").rglob("*.twinmail,*")
        return sorted(path for path in found if b"mailer-daemon" not in path.read_bytes())

    def collect(self, mailbox: str) -> None:
        """Remember what is there: it may be deleted next."""
        known = set(self.arrived[mailbox])
        self.arrived[mailbox] += [
            name for path in self.files(mailbox) if (name := stem(path.name)) not in known
        ]

    @rule(size=st.integers(20, 3000), mailboxes=st.sampled_from([("ann",), ("bob",), MAILBOXES]))
    def message_comes(self, size: int, mailboxes: tuple[str, ...]) -> None:
        self.number += 1
        # Further apart than listings overlap: only what waits is ever looked at again.
        committed = START + self.number * 2 * OVERLAP
        self.log.add(f"m{self.number}", b"Subject: x\n\n".ljust(size, b"x"), committed, mailboxes)
        for mailbox in mailboxes:
            self.expected[mailbox] += 1
        self.turn()

    @rule()
    def turn(self) -> None:
        assert self.poll.turn()
        self.chore.turn()

    @rule(mailbox=st.sampled_from(MAILBOXES), count=st.integers(1, 3))
    def delete(self, mailbox: str, count: int) -> None:
        """A user deletes messages, and the notices with them."""
        self.collect(mailbox)
        for path in self.files(mailbox)[:count]:
            path.unlink()
        for path in (self.mail / mailbox / "Maildir").rglob("*.twinmail,*"):
            if b"mailer-daemon" in path.read_bytes():
                path.unlink()

    @rule(mailbox=st.sampled_from(MAILBOXES), quota=st.sampled_from([3000, 5000, 9000]))
    def quota_changes(self, mailbox: str, quota: int) -> None:
        self.quotas[mailbox] = quota

    @rule(lose=st.booleans())
    def restart(self, lose: bool) -> None:
        for mailbox in MAILBOXES:
            self.collect(mailbox)
        self.stop()
        for path in self.state.glob("ledger.sqlite*") if lose else ():
            path.unlink()
        self.start()

    @rule()
    def store_goes_away_for_a_turn(self) -> None:
        self.log.fault = DOWN
        self.chore.turn()
        self.log.fault = None
        self.carrier.store.worked()

    @invariant()
    def at_most_the_highest_quota_and_a_notice(self) -> None:
        for mailbox in MAILBOXES if hasattr(self, "ledger") else ():
            assert sum(path.stat().st_size for path in self.files(mailbox)) <= 9000


TestQuota = QuotaMachine.TestCase
TestQuota.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
