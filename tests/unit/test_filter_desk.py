"""Who decides what about which message, when nobody can, and how often."""

import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.log_simulator import DOWN, StateSimulator, entry_of
from twinmail.durable_file import NotWritten
from twinmail.filter.decision import BROKEN, JUNK, SCRIPT, Decision, Outgoing, Placement, decision_key
from twinmail.filter.lmtp import LmtpAway, LmtpRefused
from twinmail.filter.pigeonhole import Answer, Question
from twinmail.manifest import Delivery, Entry
from twinmail.sync.decisions import COMPLAINTS, PATIENCE_SECONDS, Decisions, Desk, NotDecided
from twinmail.sync.log import Log
from twinmail.sync.source import SourceUnavailable

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
INBOX = (Placement("INBOX"),)
SENT = Outgoing("redirect", "ann@example.org", ("x@example.com",))


@dataclass
class Asked:
    """Answers every question the same way, or fails.

    Attributes:
        questions: what it was asked.
        fault: raised instead.
    """

    answer: Answer = field(default_factory=lambda: Answer((Placement("Filed", "F", ("x",)),), (), ()))
    fault: Exception | None = None
    questions: list[Question] = field(default_factory=list)
    before: Callable[[], None] = lambda: None

    def ask(self, question: Question) -> Answer:
        self.questions.append(question)
        self.before()
        if self.fault is not None:
            raise self.fault
        return self.answer


@dataclass
class Memory:
    """Knows one thing about every sender."""

    says: str | None = None
    headers: list[bytes] = field(default_factory=list)

    def folder(self, mailbox: str, entry: Entry, header: bytes) -> str | None:
        self.headers.append(header)
        return self.says


class Server:
    """One of two servers that share *store*."""

    def __init__(self, root: Path, store: StateSimulator, name: str = "primary") -> None:
        self.mail = root / name
        self.home = self.mail / "ann"
        self.home.mkdir(parents=True)
        self.message = self.mail / "message"
        self.message.write_bytes(b"Subject: x\r\n\r\n" + b"x" * 200_000)
        self.asked, self.junk = Asked(), Memory()
        self.handed: list[Decision] = []
        self.seconds = 0.0
        self.now = NOW
        self.output = io.StringIO()
        desk = Desk(
            store=store,
            pigeonhole=self.asked,
            mail=self.mail,
            recipient=lambda entry, mailbox: entry.rcpt_to[0],
            server=name,
            junk=self.junk,
            hand=lambda entry, decision: self.handed.append(decision),
        )
        self.decisions = Decisions(desk, Log(self.output), lambda: self.seconds, lambda: self.now)

    def activate(self, since: datetime = NOW - timedelta(days=30)) -> None:
        (self.home / "sieve").mkdir(exist_ok=True)
        (self.home / "sieve" / "main.sieve").write_text("keep;")
        link = self.home / ".dovecot.sieve"
        link.unlink(missing_ok=True)
        link.symlink_to("sieve/main.sieve")
        os.utime(link, (since.timestamp(), since.timestamp()), follow_symlinks=False)

    def decide(self, entry: Entry, folder: str = "INBOX") -> tuple[Placement, ...]:
        return self.decisions.decide(entry, Delivery("ann", folder), self.message)

    def said(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.output.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]


@pytest.fixture
def store() -> StateSimulator:
    return StateSimulator()


@pytest.fixture
def server(tmp_path: Path, store: StateSimulator) -> Server:
    return Server(tmp_path, store)


@pytest.fixture
def other(tmp_path: Path, store: StateSimulator) -> Server:
    return Server(tmp_path, store, "backup")


def arrived(seconds: float = -1) -> Entry:
    return entry_of("m1", b"body", NOW + timedelta(seconds=seconds))


def kept(store: StateSimulator, entry: Entry) -> Decision:
    return Decision.from_bytes(store.objects[decision_key(entry.ses_id, entry.arrived, "ann")])


class TestNothingToDecide:
    def test_without_a_script_nobody_is_asked_and_nothing_is_kept(
        self, server: Server, store: StateSimulator
    ) -> None:
        store.fault = DOWN
        assert server.decide(arrived()) == INBOX
        assert server.decide(arrived(), "Junk") == (Placement("Junk"),)
        assert server.asked.questions == [] and server.handed == [] and store.objects == {}

    def test_a_link_that_leads_nowhere_is_no_script(self, server: Server) -> None:
        server.activate()
        (server.home / "sieve" / "main.sieve").unlink()
        assert server.decide(arrived()) == INBOX

    def test_a_script_does_not_act_on_mail_from_before_it(self, server: Server) -> None:
        server.activate(NOW)
        assert server.decide(arrived(-2 * 3600)) == INBOX
        assert server.asked.questions == []
        # The clocks of SES and of this machine differ.
        assert server.decide(arrived(-60)) == server.asked.answer.placements

    def test_an_opinion_that_changes_nothing_is_no_decision(
        self, server: Server, store: StateSimulator
    ) -> None:
        server.junk.says = "INBOX"
        assert server.decide(arrived()) == INBOX and store.objects == {}
        assert len(server.junk.headers[0]) == 64 * 1024


class TestDeciding:
    def test_the_script_decides_and_all_is_kept(self, server: Server, store: StateSimulator) -> None:
        server.activate()
        server.asked.answer = replace(server.asked.answer, outgoing=(SENT,))
        entry = arrived()
        assert server.decide(entry) == server.asked.answer.placements
        (question,) = server.asked.questions
        assert question == Question("ann", "INBOX", "sender@example.com", "ann@example.org", server.message)
        decision = kept(store, entry)
        assert decision == Decision(
            "ann", "m1", server.asked.answer.placements, (SENT,), NOW, "primary", SCRIPT
        )
        assert server.handed == [decision]
        assert server.decisions.counts == {"asked": 1}

    def test_the_other_server_adopts(self, server: Server, other: Server) -> None:
        server.activate()
        other.activate()
        other.asked.fault = AssertionError("asked")
        entry = arrived()
        assert server.decide(entry) == other.decide(entry)
        assert other.handed == server.handed and other.decisions.counts == {"adopted": 1}

    def test_both_at_once_do_the_same(self, server: Server, other: Server) -> None:
        for one in (server, other):
            one.activate()
        other.asked.answer = Answer((Placement("Elsewhere"),), (), ())
        entry = arrived()
        # The other one is asked after this one has looked, and before it writes.
        server.asked.before = lambda: None if other.asked.questions else other.decide(entry) and None
        assert server.decide(entry) == (Placement("Elsewhere"),)
        assert [one.server for one in server.handed] == ["backup"]

    def test_after_a_loss_of_everything_local_the_decision_is_the_same(
        self, server: Server, tmp_path: Path, store: StateSimulator
    ) -> None:
        server.activate()
        entry = arrived()
        first = server.decide(entry)
        rebuilt = Server(tmp_path / "rebuilt", store)
        rebuilt.activate(NOW + timedelta(days=400))
        rebuilt.now = NOW + timedelta(days=401)
        assert rebuilt.decide(entry) == first and rebuilt.asked.questions == []

    def test_old_mail_is_looked_up_by_the_day(
        self, server: Server, other: Server, store: StateSimulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A server that is restored before its scripts are still does what was decided."""
        server.activate()
        entry = arrived()
        server.decide(entry)
        listed: list[str] = []
        keys = store.keys

        def counting(prefix: str, after: str = "") -> Any:
            listed.append(after)
            return keys(prefix, after)

        monkeypatch.setattr(store, "keys", counting)
        other.now = NOW + timedelta(days=3)
        assert other.decide(entry) == server.asked.answer.placements
        for number in range(50):
            assert other.decide(entry_of(f"plain{number}", b"", NOW)) == INBOX
        assert listed == ["state/decisions/2026/11/23/"]

    def test_a_mailbox_that_knows_the_sender(
        self, server: Server, other: Server, store: StateSimulator
    ) -> None:
        server.junk.says = "Junk"
        entry = arrived()
        assert server.decide(entry) == (Placement("Junk"),)
        assert kept(store, entry).reason == JUNK
        # The other one learns of the sender a moment later, or earlier: what is decided counts.
        other.junk.says = "Junk"
        assert other.decide(entry) == (Placement("Junk"),) and other.decisions.counts == {"adopted": 1}

    def test_a_script_is_told_what_is_known_of_the_sender(self, server: Server) -> None:
        server.activate()
        server.junk.says = "INBOX"
        server.decide(arrived(), "Junk")
        assert server.asked.questions[0].folder == "INBOX"


class TestTrouble:
    def test_nobody_answers_for_a_while(self, server: Server, store: StateSimulator) -> None:
        server.activate()
        server.asked.fault = LmtpAway("nobody")
        for seconds in (0.0, 60.0, PATIENCE_SECONDS - 1):
            server.seconds = seconds
            with pytest.raises(NotDecided, match="nobody"):
                server.decide(arrived())
        assert store.objects == {}
        server.asked.fault = None
        assert server.decide(arrived()) == server.asked.answer.placements

    def test_nobody_answers_for_long(self, server: Server, store: StateSimulator) -> None:
        server.activate()
        server.asked.fault = LmtpAway("nobody")
        with pytest.raises(NotDecided):
            server.decide(arrived())
        server.seconds = PATIENCE_SECONDS
        entry = arrived()
        assert server.decide(entry) == INBOX
        assert kept(store, entry).reason == BROKEN
        assert server.decisions.counts == {"unfiltered": 1} and server.said("not filtered")
        # The next message waits for itself.
        with pytest.raises(NotDecided):
            server.decide(entry_of("m2", b"", NOW))

    def test_a_message_that_is_refused_is_delivered_at_once(
        self, server: Server, store: StateSimulator
    ) -> None:
        server.activate()
        server.asked.fault = LmtpRefused("552 too large")
        entry = arrived()
        assert server.decide(entry, "Junk") == (Placement("Junk"),)
        assert kept(store, entry).reason == BROKEN and server.said("not filtered")[0]["mailbox"] == "ann"

    def test_a_broken_script_is_told_once_and_written_down(
        self, server: Server, store: StateSimulator
    ) -> None:
        server.activate()
        server.asked.answer = Answer(INBOX, (), ("line 1: error: what",))
        for number in range(3):
            assert server.decide(entry_of(f"m{number}", b"", NOW)) == INBOX
        assert len(server.said("script broken")) == 1
        assert server.decisions.counts == {"asked": 3, "broken": 3}
        assert server.decisions.latest["ann"].text == "line 1: error: what"
        assert "line 1: error: what" in (server.home / COMPLAINTS).read_text()
        server.asked.answer = Answer(INBOX, (), ())
        server.decide(entry_of("m9", b"", NOW))
        assert server.decisions.latest == {}

    def test_s3_is_away(self, server: Server, store: StateSimulator) -> None:
        server.activate()
        store.fault = DOWN
        with pytest.raises(SourceUnavailable):
            server.decide(arrived())

    @pytest.mark.parametrize("data", [b"damaged", b'{"version":2}'])
    def test_a_decision_that_cannot_be_read_holds_nothing_up(
        self, server: Server, store: StateSimulator, data: bytes
    ) -> None:
        server.activate()
        entry = arrived()
        store.put(decision_key(entry.ses_id, entry.arrived, "ann"), data)
        assert server.decide(entry) == server.asked.answer.placements
        assert server.said("decision unreadable")

    def test_a_full_disk_is_not_the_scripts_fault(self, server: Server) -> None:
        server.activate()
        server.asked.fault = NotWritten("disk full")
        with pytest.raises(NotWritten):
            server.decide(arrived())
        server.message.unlink()
        with pytest.raises(NotWritten, match="cannot be read"):
            server.decide(arrived())
