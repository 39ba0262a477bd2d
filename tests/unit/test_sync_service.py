"""The whole service over a log and a queue in memory: push, poll, outages, faults."""

import io
import json
import stat
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.cloud import CONFIG
from tests.log_simulator import (
    BUCKET,
    DOWN,
    QUEUE_DOWN,
    LogSimulator,
    QueueSimulator,
    event,
    moment,
    until,
)
from twinmail.layout import manifest_key
from twinmail.ledger import Ledger
from twinmail.maildir import Maildir
from twinmail.sync import outage as outage_module
from twinmail.sync.health import Health
from twinmail.sync.log import Log
from twinmail.sync.outage import pause
from twinmail.sync.service import Options, Service

BODY = b"Subject: hello\r\n\r\nbody\r\n"


class Syncer:
    """One service on folders of its own, in a thread."""

    def __init__(self, root: Path, log: LogSimulator, queue: QueueSimulator) -> None:
        self.mail, self.state = root / "mail", root / "state"
        self.mail.mkdir()
        self.log, self.queue = log, queue
        self._output = io.StringIO()
        self._thread: threading.Thread | None = None
        self.service: Service | None = None
        self.code: int | None = None

    def start(
        self, push: bool = True, poll: bool = True, poll_seconds: float = 0.05, chores: Any = None
    ) -> "Syncer":
        options = Options("primary", self.mail, self.state, poll=poll, poll_seconds=poll_seconds)
        service = self.service = Service(
            CONFIG,
            options,
            self.log,
            self.queue if push else None,
            Log(self._output),
            chores or (lambda ledger, carrier: ()),
        )

        def run() -> None:
            self.code = service.run()

        self._thread = threading.Thread(target=run)
        self._thread.start()
        return self

    def stop(self) -> None:
        if self._thread is not None and self.service is not None:
            self.service.stop()
            self._thread.join(20)
            assert not self._thread.is_alive()
            self._thread = None

    def said(self, event_name: str = "") -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self._output.getvalue().splitlines()]
        return [line for line in lines if event_name in ("", line["event"])]

    @property
    def status(self) -> dict[str, Any]:
        assert self.service is not None
        return dict(self.service.status())

    def files(self, mailbox: str = "ann") -> list[Path]:
        return sorted((self.mail / mailbox / "Maildir").rglob("*.twinmail,*"))

    def wait(self, count: int, mailbox: str = "ann") -> None:
        until(lambda: len(self.files(mailbox)) == count and not self.status["in_flight"], f"{count} files")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage_module, "CAP_SECONDS", 0.05)
    monkeypatch.setattr("twinmail.sync.retries.pause", lambda attempts, base, cap: 0.02)


@pytest.fixture
def syncer(tmp_path: Path) -> Iterator[Syncer]:
    syncer = Syncer(tmp_path, LogSimulator(page=3), QueueSimulator())
    yield syncer
    syncer.stop()


def add(syncer: Syncer, number: int, seconds: float = -10, **options: Any) -> str:
    return syncer.log.add(f"m{number}", BODY, moment(seconds + number / 1000), **options)


@pytest.mark.parametrize("push", [True, False])
def test_each_way_works_with_the_other_off(syncer: Syncer, push: bool) -> None:
    syncer.start(push=push, poll=not push)
    for number in range(10):
        syncer.queue.send(event(add(syncer, number)))
    syncer.wait(10)
    assert {one["origin"] for one in syncer.said("delivered")} == {"push" if push else "poll"}
    if push:
        until(lambda: syncer.queue.depth == 0, "acknowledged")
    else:
        assert syncer.queue.depth == 10


def test_both_ways_at_once_deliver_once(syncer: Syncer) -> None:
    syncer.start()
    for number in range(50):
        key = add(syncer, number)
        syncer.queue.send(event(key))
        syncer.queue.send(event(key))
    syncer.wait(50)
    until(lambda: syncer.queue.depth == 0, "acknowledged")
    assert len(syncer.files()) == 50 and len(syncer.said("delivered")) == 50


def test_several_mailboxes_and_folders(syncer: Syncer) -> None:
    add(syncer, 1, mailboxes=("ann", "bob"), folder="Junk")
    syncer.start(push=False)
    syncer.wait(1, "bob")
    for mailbox in ("ann", "bob"):
        (path,) = syncer.files(mailbox)
        assert path.parent == syncer.mail / mailbox / "Maildir" / ".Junk" / "new"
        assert path.read_bytes() == BODY
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_message_that_its_user_deleted_stays_deleted(syncer: Syncer) -> None:
    for number in range(3):
        add(syncer, number)
    syncer.start(push=False)
    syncer.wait(3)
    syncer.stop()
    gone = syncer.files()[0]
    gone.unlink()
    syncer.start(push=False)
    add(syncer, 4)
    syncer.wait(3)
    syncer.stop()
    for path in syncer.state.glob("ledger.sqlite*"):
        path.unlink()
    syncer.start(push=False)
    add(syncer, 5)
    syncer.wait(4)
    assert gone not in syncer.files()


def test_lost_ledger_and_journal_deliver_nothing_twice(syncer: Syncer) -> None:
    for number in range(3):
        add(syncer, number)
    syncer.start(push=False)
    syncer.wait(3)
    syncer.stop()
    seen = syncer.files()[0]
    seen.rename(seen.parent.parent / "cur" / f"{seen.name}:2,S")
    for path in (*syncer.state.glob("ledger.sqlite*"), *syncer.mail.glob("*/*.journal")):
        path.unlink()
    add(syncer, 4)
    syncer.start(push=False)
    syncer.wait(4)
    assert syncer.said("recovered")[-1]["deliveries"] == 3


def test_late_entry_behind_the_cursor_is_delivered(syncer: Syncer) -> None:
    add(syncer, 1, seconds=-60)
    syncer.start(push=False)
    syncer.wait(1)
    add(syncer, 2, seconds=-600)
    syncer.wait(2)


def test_entry_later_than_the_overlap_is_found_by_the_audit(syncer: Syncer) -> None:
    add(syncer, 1, seconds=-60)
    syncer.start(push=False)
    syncer.wait(1)
    until(lambda: syncer.said("audited"), "audit")
    syncer.stop()
    add(syncer, 2, seconds=-3 * 86400)
    syncer.start(push=False)
    syncer.wait(2)


def test_late_entry_that_fails_at_the_audit_is_tried_again(syncer: Syncer) -> None:
    add(syncer, 1, seconds=-60)
    syncer.start(push=False)
    syncer.wait(1)
    until(lambda: len(syncer.said("audited")) == 1, "the first audit")
    syncer.stop()
    add(syncer, 2, seconds=-3 * 86400)
    body_key = next(one for one in syncer.log.objects if one.endswith("/m2.eml"))
    body = syncer.log.objects.pop(body_key)
    syncer.start(push=False)
    until(lambda: len(syncer.said("audited")) == 2, "audit")
    syncer.log.objects[body_key] = body
    syncer.wait(2)


def test_store_away_is_said_once_and_recovers(syncer: Syncer) -> None:
    syncer.log.fault = DOWN
    syncer.start()
    syncer.queue.send(event(add(syncer, 1)))
    until(lambda: (syncer.status["outages"]["s3"] or {}).get("failures", 0) > 5, "failures")
    assert not syncer.status["ready"] and syncer.queue.depth == 1
    syncer.log.fault = None
    syncer.wait(1)
    until(lambda: syncer.queue.depth == 0, "acknowledged")
    assert [one["what"] for one in syncer.said("unavailable")] == ["s3"]
    assert [one["what"] for one in syncer.said("available")] == ["s3"]
    until(lambda: syncer.status["ready"], "ready")


def test_queue_away_is_said_once_and_does_not_stop_polling(syncer: Syncer) -> None:
    syncer.queue.fault = QUEUE_DOWN
    syncer.start()
    add(syncer, 1)
    syncer.wait(1)
    until(lambda: (syncer.status["outages"]["sqs"] or {}).get("failures", 0) > 3, "failures")
    assert syncer.status["ready"]
    syncer.queue.fault = None
    until(lambda: syncer.status["outages"]["sqs"] is None, "recovery")
    assert [one["what"] for one in syncer.said("unavailable")] == ["sqs"]


def test_wrong_octets_are_not_delivered_and_do_not_block_others(syncer: Syncer) -> None:
    bad = add(syncer, 1)
    body_key = next(key for key in syncer.log.objects if key.endswith("/m1.eml"))
    for wrong in (BODY[:-1], BODY + b"x", BODY.swapcase()):
        syncer.log.objects[body_key] = wrong
        if syncer.service is None:
            syncer.start()
            syncer.queue.send(event(bad))
            add(syncer, 2)
        failures = len(syncer.said("failed"))
        until(lambda failures=failures: len(syncer.said("failed")) > failures + 1, "retries")
        syncer.wait(1)
    assert "expected 24 octets with sha256:" in syncer.said("failed")[-1]["error"]
    assert list(syncer.status["retrying"]) == [bad] and syncer.queue.depth == 1
    assert syncer.status["backlog"] == 1
    syncer.log.objects[body_key] = BODY
    syncer.wait(2)
    assert syncer.status["retrying"] == {}


def test_missing_message_is_retried(syncer: Syncer) -> None:
    key = add(syncer, 1)
    body_key = next(one for one in syncer.log.objects if one.endswith("/m1.eml"))
    del syncer.log.objects[body_key]
    syncer.start(push=False)
    until(lambda: syncer.said("failed"), "failure")
    assert "there is no such object" in syncer.status["retrying"].get(key, "there is no such object")
    syncer.log.objects[body_key] = BODY
    syncer.wait(1)


def test_unreadable_entry_is_parked_and_tried_again_at_the_next_start(syncer: Syncer) -> None:
    key = manifest_key("m1", moment(-20))
    syncer.log.put(key, b'{"version": 3}')
    syncer.log.put("manifest/2026/odd", b"")
    syncer.log.put("manifest/2026/11/", b"")
    add(syncer, 2)
    syncer.start()
    syncer.queue.send(event(key))
    syncer.wait(1)
    until(lambda: syncer.queue.depth == 0, "a parked entry is acknowledged")
    until(lambda: set(syncer.status["parked"]) == {key, "manifest/2026/odd"}, "parked")
    assert "expected version 1 or 2, got 3; update" in syncer.status["parked"][key]
    syncer.stop()
    del syncer.log.objects[key]
    good = syncer.log.add("m1", BODY, moment(-19))
    syncer.log.put(key, syncer.log.objects.pop(good))
    syncer.start(push=False)
    syncer.wait(2)


def test_a_listing_that_outlasts_the_service_is_no_failure(
    syncer: Syncer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, stopped = threading.Event(), threading.Event()
    pages = LogSimulator.keys_after

    def slow(self: LogSimulator, offset: str) -> Iterator[list[str]]:
        asked.set()
        assert stopped.wait(60)
        yield from pages(self, offset)

    add(syncer, 1)
    monkeypatch.setattr(LogSimulator, "keys_after", slow)
    syncer.start(push=False)
    assert asked.wait(60) and syncer.service is not None
    close = Ledger.close

    def closed(self: Ledger) -> None:
        close(self)
        stopped.set()
        # The listing ends while the service still does: its thread is what is looked at.
        until(lambda: not any(one.name == "poll" for one in threading.enumerate()), "the poll ended")

    monkeypatch.setattr(Ledger, "close", closed)
    syncer.stop()
    assert syncer.code == 0 and not syncer.said("failed")


def test_two_entries_of_one_message_make_one_copy(syncer: Syncer) -> None:
    first = add(syncer, 1)
    second = manifest_key("m1", moment(-5))
    syncer.log.put(second, syncer.log.objects[first])
    syncer.start(push=False)
    until(lambda: syncer.status["cursor"] == second, "both finished")
    assert len(syncer.files()) == 1


def test_junk_in_the_queue_is_said_and_removed(syncer: Syncer) -> None:
    syncer.start(poll=False)
    for body in ("junk", event("processed/x"), json.dumps({"Event": "s3:TestEvent"})):
        syncer.queue.send(body)
    until(lambda: syncer.queue.depth == 0, "removed")
    assert len(syncer.said("junk")) == 2


def test_log_that_looks_empty_is_said_and_nothing_is_deleted(syncer: Syncer) -> None:
    add(syncer, 1)
    syncer.start()
    syncer.wait(1)
    until(lambda: syncer.said("audited"), "audit")
    kept, syncer.log.objects = syncer.log.objects, {}
    until(lambda: syncer.status["suspicion"], "suspicion")
    assert "1 deliveries were made from it; check the bucket" in syncer.status["suspicion"]
    other = LogSimulator().add("m9", BODY, moment())
    assert other and len(syncer.files()) == 1 and len(syncer.said("log is empty")) == 1
    syncer.log.objects = kept
    syncer.queue.send(event(add(syncer, 2)))
    syncer.wait(2)
    until(lambda: syncer.status["suspicion"] is None, "cleared")


def test_disk_failure_acknowledges_nothing_and_recovers(
    syncer: Syncer, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = Path.hardlink_to
    broken = threading.Event()
    broken.set()

    def failing(self: Path, target: Path) -> None:
        if broken.is_set():
            raise OSError(28, "No space left on device")
        link(self, target)

    monkeypatch.setattr(Path, "hardlink_to", failing)
    syncer.start()
    syncer.queue.send(event(add(syncer, 1)))
    until(lambda: (syncer.status["outages"]["disk"] or {}).get("failures", 0) > 2, "failures")
    assert syncer.files() == [] and syncer.queue.depth == 1
    broken.clear()
    syncer.wait(1)
    until(lambda: syncer.queue.depth == 0 and syncer.status["outages"]["disk"] is None, "recovery")
    assert [one["what"] for one in syncer.said("unavailable")] == ["disk"]
    assert "No space left on device; free space" in syncer.said("unavailable")[0]["error"]


def test_ledger_failing_after_the_link_does_not_link_again(
    syncer: Syncer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from twinmail.durable_file import NotWritten
    from twinmail.ledger import Ledger

    record, failures = Ledger.record, [NotWritten("ledger.sqlite: disk I/O error; check the disk")]

    def failing(self: Ledger, *arguments: Any) -> None:
        if failures:
            # Its user reads and deletes the message while the ledger cannot be written.
            syncer.files()[0].unlink()
            raise failures.pop()
        record(self, *arguments)

    monkeypatch.setattr(Ledger, "record", failing)
    key = add(syncer, 1)
    syncer.start(push=False)
    until(lambda: syncer.status["cursor"] == key, "finished")
    assert syncer.files() == []


def test_leftovers_are_removed_at_the_start(syncer: Syncer) -> None:
    maildir = Maildir(syncer.mail / "ann" / "Maildir")
    leftover = maildir.stage("1795342272.x.twinmail", [BODY], moment())
    add(syncer, 1)
    syncer.start(push=False)
    syncer.wait(1)
    assert not leftover.path.exists()


def test_only_one_syncer_runs_on_a_state_folder(syncer: Syncer) -> None:
    import fcntl

    syncer.state.mkdir()
    with (syncer.state / "syncer.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        syncer.start(push=False)
        until(lambda: syncer.said("unavailable"), "refusal")
        assert "another syncer runs here; stop it first" in syncer.said("unavailable")[0]["error"]
    add(syncer, 1)
    syncer.wait(1)


def test_health(syncer: Syncer) -> None:
    syncer.log.fault = DOWN
    syncer.start(push=False)
    assert syncer.service is not None
    health = Health("127.0.0.1", 0, syncer.service.status)

    def get(path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{health.port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    try:
        assert get("/healthz") == (200, "ok\n")
        assert get("/readyz") == (503, "not ready\n")
        assert get("/elsewhere")[0] == 404
        add(syncer, 1)
        syncer.log.fault = None
        syncer.wait(1)
        until(lambda: get("/readyz") == (200, "ready\n"), "ready")
        status = json.loads(get("/status")[1])
        assert status["last"]["ses_id"] == "m1" and status["delivered"] == 1 and status["server"] == "primary"
        assert "twinmail_syncer_delivered_total 1\n" in get("/metrics")[1]
        assert 'twinmail_syncer_outage{what="disk"} 0\n' in get("/metrics")[1]
    finally:
        health.close()


def test_delivered_line_has_the_timings(syncer: Syncer) -> None:
    add(syncer, 1)
    syncer.start(push=False)
    syncer.wait(1)
    (line,) = syncer.said("delivered")
    assert line["ses_id"] == "m1" and line["mailbox"] == "ann" and line["folder"] == "INBOX"
    assert line["manifest_age_ms"] >= 9000
    assert {"download_ms", "delivery_ms", "size", "time", "level"} <= set(line)


def test_pauses_grow_to_a_cap_with_full_jitter() -> None:
    assert [pause(number, 1, 8, lambda: 1.0) for number in range(5)] == [1, 2, 4, 8, 8]
    assert pause(10_000, 1, 8, lambda: 0.5) == 4
    assert all(0 <= pause(3, 1, 100) <= 8 for _ in range(100))


def test_bucket_of_the_simulator_is_the_configured_one() -> None:
    assert CONFIG.bucket == BUCKET
    assert timedelta(seconds=Options("x", Path(), Path()).poll_seconds) == timedelta(minutes=1)


def test_a_group_of_chores_that_hangs_holds_back_no_other(syncer: Syncer) -> None:
    class Hanging:
        name, seconds, prefix = "hanging", 0.01, "state/"
        entered, leave = threading.Event(), threading.Event()

        def turn(self) -> None:
            self.entered.set()
            assert self.leave.wait(30)

    class Urgent:
        name, seconds, prefix = "urgent", 3600.0, "state/accounts"
        turns = 0

        def turn(self) -> None:
            self.turns += 1

    hanging, urgent = Hanging(), Urgent()
    syncer.start(chores=lambda ledger, carrier: [[urgent], [hanging]])
    assert hanging.entered.wait(10)
    syncer.queue.send(event("state/accounts.json"))
    until(lambda: urgent.turns == 2, "the turn that was announced")
    until(lambda: set(syncer.status["chores"]) == {"urgent", "hanging"}, "both in the status")
    hanging.leave.set()
