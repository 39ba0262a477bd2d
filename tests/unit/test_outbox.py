"""The emulator's outbox: nothing that was taken is lost, and nobody gets what another one has in hand."""

import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from twinmail_localstack import outbox
from twinmail_localstack.outbox import Outbox
from twinmail_localstack.sent import Report, Sent


def sent(name: str) -> Sent:
    return Sent(
        ses_id=name,
        at=datetime(2026, 11, 22, 10, tzinfo=UTC),
        source="ann@example.org",
        destinations=("far@example.com",),
        account="000000000000",
        source_arn="arn",
        caller="root",
        operation="SendRawEmail",
        configuration_set="tests",
        reports=(Report("topic", frozenset({"send", "bounce"})),),
        identities=("example.org",),
        data=bytes(range(256)),
    )


def test_oldest_comes_first_and_only_once(tmp_path: Path) -> None:
    box = Outbox(tmp_path)
    box.add(sent("a"))
    box.add(sent("b"))
    assert [one.ses_id for _ in range(2) if (one := box.take(0))] == ["a", "b"]
    assert box.take(0) is None


def test_what_is_given_back_is_due_again(tmp_path: Path) -> None:
    box = Outbox(tmp_path)
    box.add(sent("a"))
    assert box.take(0)
    box.give_back("a")
    again = box.take(10)
    assert again is not None and again.ses_id == "a"


def test_what_nobody_finished_is_due_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "LEASE_SECONDS", 0.0)
    box = Outbox(tmp_path)
    box.add(sent("a"))
    assert box.take(0) and box.take(0)
    box.remove("a")
    assert box.take(0) is None and box.data("a") is None


def test_everything_outlives_the_process_until_it_is_done(tmp_path: Path) -> None:
    box = Outbox(tmp_path)
    box.add(sent("b"))
    box.add(sent("a"))
    box.take(0)
    box.remove("b")
    (tmp_path / "c.new").write_text("half of a mess")
    after = Outbox(tmp_path)
    assert after.take(0) == sent("a") and after.data("a") == bytes(range(256))
    assert after.take(0) is None


def test_whoever_waits_gets_it_at_once(tmp_path: Path) -> None:
    box = Outbox(tmp_path)
    got: list[Sent | None] = []
    waiting = threading.Thread(target=lambda: got.append(box.take(30)))
    started = time.monotonic()
    waiting.start()
    box.add(sent("a"))
    waiting.join(30)
    assert got == [sent("a")] and time.monotonic() - started < 30


def test_nobody_waits_for_a_closed_one(tmp_path: Path) -> None:
    box = Outbox(tmp_path)
    box.close()
    assert box.take(30) is None
