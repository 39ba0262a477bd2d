"""Claims, and the chore that answers: of two servers one sends, once, whatever fails on the way."""

import contextlib
import io
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.log_simulator import DOWN, LogSimulator, StateSimulator, entry_of
from twinmail.claim import LEASE, Claim, ClaimDamaged, State, Verdict, judge, taken
from twinmail.config import Config
from twinmail.filter.decision import (
    OTHER,
    REDIRECT,
    VACATION,
    Decision,
    Outgoing,
    Placement,
    decision_key,
)
from twinmail.outgoing import MaybeSent, NotSent, Refused
from twinmail.sync.answers import LATE, LIST_SECONDS, Answers, NotAnswered
from twinmail.sync.log import Log
from twinmail.sync.source import SourceUnavailable

NOW = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
CONFIG = Config.parse(
    'region = "eu-central-1"\nstack = "twinmail"\nbucket = "example-mail"\ndomains = ["example.org"]\n'
    '[mailboxes.ann]\naddresses = ["ann@example.org"]\n'
    '[servers.primary]\nplatform = "linux/amd64"\nhost = "a.example.org"\n'
    '[servers.backup]\nplatform = "linux/amd64"\nhost = "b.example.org"\n'
)
MEMORY = "0123456789abcdef0123456789abcdef"
WRITTEN = (
    b"From: <ann@example.org>\r\nTo: <bob@example.com>\r\nSubject: Auto: x\r\n"
    b"Auto-Submitted: auto-replied (vacation)\r\n\r\nAway.\r\n"
)


class World:
    """S3, SES and the time, as both servers see them."""

    def __init__(self) -> None:
        self.store = StateSimulator()
        self.objects = LogSimulator()
        self.now = NOW
        self.sent: list[tuple[str, str, bytes]] = []
        self.faults: list[Exception] = []
        self.lock = threading.Lock()
        self.log = io.StringIO()

    def send(self, source: str, destinations: Sequence[str], data: bytes) -> str:
        with self.lock:
            if self.faults:
                fault = self.faults.pop(0)
                if isinstance(fault, MaybeSent):
                    self.sent.append((source, destinations[0], data))
                raise fault
            self.sent.append((source, destinations[0], data))
            return f"sent-{len(self.sent)}"

    def server(self, name: str) -> Answers:
        return Answers(
            CONFIG,
            self.store,
            self.objects,
            self,
            name,
            Log(self.log),
            clock=lambda: (self.now - NOW).total_seconds(),
            now=lambda: self.now,
        )

    def message(self, ses_id: str, *outgoing: Outgoing, create: bool = True) -> Callable[[Answers], None]:
        """Receive a message, decide about it, and return how a server hands it over."""
        text = (
            b"From: Bob <bob@example.com>\r\nTo: ann@example.org\r\nMessage-ID: <1@example.com>\r\n\r\nx\r\n"
        )
        entry = entry_of(ses_id, text, self.now)
        self.objects.put(entry.key, text)
        decision = Decision("ann", ses_id, (Placement("INBOX"),), outgoing, self.now, "primary", "script")
        if create:
            self.store.create(decision_key(ses_id, self.now, "ann"), decision.to_bytes())
        return lambda answers: answers.hand(entry, decision)

    def vacation(self, days: float = 7, memory: str = MEMORY) -> Outgoing:
        until = self.now + timedelta(days=days)
        return Outgoing(VACATION, "", ("bob@example.com",), WRITTEN, memory, until)

    def pass_time(self, time: timedelta) -> None:
        self.now += time


REDIRECTION = Outgoing(REDIRECT, "ann@example.org", ("away@example.com",))


@pytest.fixture
def world() -> World:
    return World()


def settle(world: World, *servers: Answers, minutes: int = 30) -> None:
    """Let an hour's turns go by; what fails is tried again."""
    for _ in range(minutes):
        for server in servers:
            with contextlib.suppress(NotAnswered):
                server.turn()
        world.pass_time(timedelta(minutes=1))


def test_one_answer_from_two_servers(world: World) -> None:
    primary, backup = world.server("primary"), world.server("backup")
    hand = world.message("m1", world.vacation())
    hand(primary)
    hand(backup)
    settle(world, primary, backup)
    assert [(source, to) for source, to, _ in world.sent] == [("ann@example.org", "bob@example.com")]
    claim = Claim.from_bytes(world.store.objects[f"state/vacation/ann/{MEMORY}.json"])
    assert (claim.state, claim.sent, claim.ses_id) == (State.SENT, "sent-1", "m1")


def test_one_answer_from_two_servers_at_the_same_moment() -> None:
    for number in range(30):
        world = World()
        servers = [world.server(name) for name in ("primary", "backup")]
        hand = world.message(f"m{number}", world.vacation())
        ready = threading.Barrier(2)

        def run(server: Answers, ready: threading.Barrier = ready) -> None:
            ready.wait()
            server.turn()

        for server in servers:
            hand(server)
        threads = [threading.Thread(target=run, args=(server,)) for server in servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        settle(world, *servers)
        assert len(world.sent) == 1


def test_one_answer_a_sender_in_the_period_whichever_server_decides(world: World) -> None:
    primary, backup = world.server("primary"), world.server("backup")
    for number, server in enumerate([primary, backup, primary, backup]):
        world.message(f"m{number}", world.vacation())(server)
        settle(world, primary, backup)
    assert len(world.sent) == 1
    world.pass_time(timedelta(days=7))
    world.message("later", world.vacation())(backup)
    settle(world, primary, backup)
    assert len(world.sent) == 2


def test_another_sender_or_handle_is_another_answer(world: World) -> None:
    primary = world.server("primary")
    world.message("m1", world.vacation())(primary)
    world.message("m2", world.vacation(memory="f" * 32))(primary)
    settle(world, primary)
    assert len(world.sent) == 2


def test_server_that_comes_late_answers_nothing_again(world: World) -> None:
    """Its claim was overwritten by a later message's, and the period is over."""
    primary, backup = world.server("primary"), world.server("backup")
    first = world.message("m1", world.vacation(days=0))
    first(primary)
    settle(world, primary)
    world.message("m2", world.vacation(days=0))(primary)
    settle(world, primary)
    assert len(world.sent) == 2
    first(backup)
    settle(world, backup)
    assert len(world.sent) == 2


def test_decision_that_nobody_handed_over_is_found(world: World) -> None:
    primary = world.server("primary")
    settle(world, primary, minutes=1)
    world.message("m1", world.vacation())
    settle(world, primary, minutes=5)
    assert not world.sent
    world.pass_time(timedelta(seconds=LIST_SECONDS))
    settle(world, primary, minutes=2)
    assert len(world.sent) == 1


def test_old_decisions_are_not_answered(world: World) -> None:
    hand = world.message("m1", world.vacation(), REDIRECTION)
    world.pass_time(LATE)
    primary = world.server("primary")
    hand(primary)
    settle(world, primary)
    assert not world.sent


@pytest.mark.parametrize("outgoing", [VACATION, REDIRECT])
def test_ses_that_is_away_is_asked_again(world: World, outgoing: str) -> None:
    primary, backup = world.server("primary"), world.server("backup")
    hand = world.message("m1", world.vacation() if outgoing == VACATION else REDIRECTION)
    world.faults = [NotSent("SES: throttled")] * 3
    hand(primary)
    hand(backup)
    with pytest.raises(NotAnswered, match=r"state/decisions/.*/m1/ann\.json: SES: throttled"):
        primary.turn()
    settle(world, primary, backup)
    assert len(world.sent) == 1


def test_ses_and_s3_away_at_once(world: World) -> None:
    primary = world.server("primary")
    world.message("m1", world.vacation())(primary)
    settle(world, primary, minutes=0)
    put_back = world.store.replace
    world.faults = [NotSent("SES: down")]
    world.store.replace = lambda *_: (_ for _ in ()).throw(DOWN)  # type: ignore[method-assign]
    with pytest.raises(NotAnswered):
        primary.turn()
    world.store.replace = put_back  # type: ignore[method-assign]
    settle(world, primary)
    assert len(world.sent) == 1


def test_answer_whose_fate_is_unknown_is_not_sent_again(world: World) -> None:
    primary, backup = world.server("primary"), world.server("backup")
    hand = world.message("m1", world.vacation())
    world.faults = [MaybeSent("SES: read timed out")]
    hand(primary)
    hand(backup)
    settle(world, primary, backup, minutes=60)
    assert len(world.sent) == 1
    assert "maybe answered" in world.log.getvalue()


def test_redirect_whose_fate_is_unknown_is_sent_again(world: World) -> None:
    primary, backup = world.server("primary"), world.server("backup")
    hand = world.message("m1", REDIRECTION)
    world.faults = [MaybeSent("SES: read timed out")]
    hand(primary)
    hand(backup)
    settle(world, primary, backup, minutes=60)
    assert len(world.sent) == 2
    assert {to for _, to, _ in world.sent} == {"away@example.com"}


@pytest.mark.parametrize("outgoing", [VACATION, REDIRECT])
def test_what_ses_refuses_is_not_tried_again(world: World, outgoing: str) -> None:
    primary, backup = world.server("primary"), world.server("backup")
    hand = world.message("m1", world.vacation() if outgoing == VACATION else REDIRECTION)
    world.faults = [Refused("SES refused: not verified")]
    hand(primary)
    hand(backup)
    settle(world, primary, backup)
    assert not world.sent
    assert not world.faults
    assert "not verified" in world.log.getvalue()


class Died(BaseException):
    """The process ends here."""


@pytest.mark.parametrize(("outgoing", "expected"), [(VACATION, 0), (REDIRECT, 1)])
def test_server_that_dies_while_it_sends(world: World, outgoing: str, expected: int) -> None:
    hand = world.message("m1", world.vacation() if outgoing == VACATION else REDIRECTION)
    primary, backup = world.server("primary"), world.server("backup")
    hand(primary)
    hand(backup)
    world.faults = [Died()]  # type: ignore[list-item]
    with pytest.raises(Died):
        primary.turn()
    settle(world, backup, minutes=60)
    assert len(world.sent) == expected


def test_other_server_goes_on_where_ses_did_not_answer_the_first(world: World) -> None:
    hand = world.message("m1", world.vacation())
    primary, backup = world.server("primary"), world.server("backup")
    hand(primary)
    hand(backup)
    world.faults = [NotSent("SES: down")]
    with pytest.raises(NotAnswered):
        primary.turn()
    # The primary is gone for good.
    settle(world, backup, minutes=5)
    assert not world.sent
    settle(world, backup, minutes=30)
    assert len(world.sent) == 1


def test_two_redirects_and_an_answer_of_one_message(world: World) -> None:
    primary, backup = world.server("primary"), world.server("backup")
    other = replace(REDIRECTION, rcpt_to=("second@example.com",))
    hand = world.message("m1", REDIRECTION, other, world.vacation(), Outgoing(OTHER, "", ("x@example.com",)))
    world.faults = [NotSent("SES: throttled")]
    hand(primary)
    hand(backup)
    settle(world, primary, backup)
    assert sorted(to for _, to, _ in world.sent) == [
        "away@example.com",
        "bob@example.com",
        "second@example.com",
    ]


def test_s3_away_is_an_outage_and_nothing_is_lost(world: World) -> None:
    primary = world.server("primary")
    world.message("m1", world.vacation())(primary)
    world.store.fault = DOWN
    with pytest.raises(SourceUnavailable):
        primary.turn()
    world.store.fault = None
    settle(world, primary)
    assert len(world.sent) == 1


def test_damaged_claim_sends_nothing(world: World) -> None:
    primary = world.server("primary")
    world.store.put(f"state/vacation/ann/{MEMORY}.json", b"{")
    world.message("m1", world.vacation())(primary)
    with pytest.raises(NotAnswered, match=r"claim: damaged.*until the object is removed"):
        primary.turn()
    assert not world.sent
    world.store.delete(f"state/vacation/ann/{MEMORY}.json")
    settle(world, primary)
    assert len(world.sent) == 1


def test_damaged_decision_is_left_out(world: World) -> None:
    world.store.create(decision_key("m0", world.now, "ann"), b"{")
    world.message("m1", world.vacation())
    primary = world.server("primary")
    settle(world, primary)
    assert len(world.sent) == 1


def test_mailbox_that_is_gone_sends_nothing(world: World) -> None:
    primary = world.server("primary")
    decision = Decision("zoe", "m1", (Placement("INBOX"),), (world.vacation(),), NOW, "primary", "script")
    primary.hand(entry_of("m1", b"", NOW), decision)
    settle(world, primary)
    assert not world.sent


STATES = st.builds(
    Claim,
    st.sampled_from(["m1", "m2"]),
    st.sampled_from(["primary", "backup"]),
    st.sampled_from([NOW, NOW - LEASE]),
    st.sampled_from(list(State)),
    st.sampled_from([NOW, NOW + timedelta(days=1)]),
    before=st.sampled_from([(), ("m1",), ("m2",)]),
)


@given(STATES)
def test_claim_is_read_as_it_was_written(claim: Claim) -> None:
    assert Claim.from_bytes(claim.to_bytes()) == claim


@given(STATES, st.booleans())
def test_never_do_both_servers_take_a_claim_that_is_not_over(claim: Claim, again: bool) -> None:
    if claim.ses_id == "m1" and claim.at == NOW:
        other = "backup" if claim.server == "primary" else "primary"
        assert judge(claim, "m1", other, NOW, again=again, unsent=False) is not Verdict.TAKE


@given(STATES)
def test_a_message_that_was_answered_is_never_answered_again(claim: Claim) -> None:
    if "m1" in claim.before and claim.ses_id != "m1":
        assert judge(claim, "m1", "primary", NOW + timedelta(days=99), again=False) is Verdict.DONE


def test_taking_remembers_who_was_answered_before() -> None:
    claim = taken(None, "m0", "primary", NOW, NOW)
    for number in range(1, 30):
        claim = taken(claim, f"m{number}", "primary", NOW, NOW)
    assert len(claim.before) == 20
    assert claim.before[-1] == "m28"
    assert taken(claim, "m29", "backup", NOW, NOW).before == claim.before


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"version":2}', b'{"version":1,"ses_id":1}', b"[" * 9999]
)
def test_damaged_claims_are_named(data: bytes) -> None:
    with pytest.raises(ClaimDamaged, match=r"^claim: "):
        Claim.from_bytes(data)
