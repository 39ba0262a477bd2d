"""Chores: done in turn, at once when announced, and none of them stops another."""

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.log_simulator import until
from twinmail.errors import TransientError
from twinmail.sync.chores import Chores
from twinmail.sync.log import Log


class Sweep:
    """Counts its turns, and fails while told to."""

    def __init__(self, name: str, seconds: float = 3600, prefix: str = "") -> None:
        self.name, self.seconds, self.prefix = name, seconds, prefix
        self.turns = 0
        self.fault: Exception | None = None
        self.threads: set[str] = set()

    def turn(self) -> None:
        self.turns += 1
        self.threads.add(threading.current_thread().name)
        if self.fault is not None:
            raise self.fault


@contextmanager
def doing(*chores: Sweep) -> Iterator[tuple[Chores, io.StringIO]]:
    log = io.StringIO()
    chores_ = Chores(chores, Log(log))
    stopping = threading.Event()
    thread = threading.Thread(target=chores_.run, args=(stopping,))
    thread.start()
    try:
        yield chores_, log
    finally:
        chores_.stop()
        thread.join(10)
        assert not thread.is_alive()


def events(log: io.StringIO) -> list[str]:
    return [json.loads(line)["event"] for line in log.getvalue().splitlines()]


def test_each_is_done_at_the_start_and_again() -> None:
    often, seldom = Sweep("often", 0.01), Sweep("seldom")
    with doing(often, seldom):
        until(lambda: often.turns >= 5, "five turns")
    assert seldom.turns == 1
    assert often.threads == seldom.threads, "one thread does all"


def test_an_announced_object_makes_due_whoever_waits_for_it() -> None:
    accounts, other = Sweep("accounts", prefix="state/accounts"), Sweep("other", prefix="state/sent/")
    with doing(accounts, other) as (chores, _):
        until(lambda: accounts.turns == other.turns == 1, "first turns")
        chores.poke("state/accounts.json")
        until(lambda: accounts.turns == 2, "second turn")
        chores.poke("state/nobody/waits")
    assert other.turns == 1


def test_announced_during_its_turn_it_is_done_once_more() -> None:
    class Slow(Sweep):
        entered = threading.Event()
        leave = threading.Event()

        def turn(self) -> None:
            super().turn()
            self.entered.set()
            assert self.leave.wait(10)

    slow = Slow("slow", prefix="state/")
    with doing(slow) as (chores, _):
        assert slow.entered.wait(10)
        chores.poke("state/new")
        slow.leave.set()
        until(lambda: slow.turns == 2, "a turn for what came during the first")


def test_a_failure_is_said_once_and_stops_nobody() -> None:
    bad, good = Sweep("bad", 0.01), Sweep("good", 0.01)
    bad.fault = TransientError("s3://x: connection refused")
    with doing(bad, good) as (chores, log):
        until(lambda: bad.turns >= 3 and good.turns >= 3, "turns of both")
        assert chores.status()["bad"]["error"] == "s3://x: connection refused"
        bad.fault = None
        until(lambda: "chore works again" in events(log), "its recovery")
        assert chores.status()["bad"]["error"] is None
    assert events(log) == ["chore failed", "chore works again"]


def test_a_bug_in_one_is_logged_with_its_trace_and_stops_nobody() -> None:
    bad, good = Sweep("bad", 0.01), Sweep("good", 0.01)
    bad.fault = ZeroDivisionError("division by zero")
    with doing(bad, good) as (_, log):
        until(lambda: bad.turns >= 3 and good.turns >= 3, "turns of both")
    first = json.loads(log.getvalue().splitlines()[0])
    assert "Traceback" in first["trace"]
    assert len(events(log)) == 2
