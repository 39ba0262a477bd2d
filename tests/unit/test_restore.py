"""Restoring on request: what is meant comes, once, and what a user deleted only when that is asked for."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.log_simulator import DOWN, LogSimulator, QueueSimulator, moment, until
from tests.unit.test_sync_service import BODY, Syncer
from twinmail.period import Period
from twinmail.server_page import LocalPage, Unreachable
from twinmail.sync import outage as outage_module
from twinmail.sync.health import Health
from twinmail.sync.restore import FILE, Request, RequestRefused
from twinmail.tasks.restore import line

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage_module, "CAP_SECONDS", 0.05)
    monkeypatch.setattr("twinmail.sync.retries.pause", lambda attempts, base, cap: 0.02)


@pytest.fixture
def syncer(tmp_path: Path) -> Iterator[Syncer]:
    """A server that delivered everything: three days with five messages of Ann and five of Bob."""
    syncer = Syncer(tmp_path, LogSimulator(), QueueSimulator())
    for day in range(3):
        for number in range(5):
            at = moment(-10 + number) - day * DAY
            syncer.log.add(f"a{day}{number}", BODY, at)
            syncer.log.add(f"b{day}{number}", BODY, at, ("bob",))
    syncer.start(push=False).wait(15)
    syncer.wait(15, "bob")
    yield syncer
    syncer.stop()


def restored(syncer: Syncer, request: Request) -> dict[str, Any]:
    """The end of *request*."""
    service = syncer.service
    assert service is not None
    until(
        lambda: service.status()["restore"] is None or service.status()["restore"]["state"] == "done", "idle"
    )
    service.restore(request.to_bytes())
    until(lambda: service.status()["restore"]["state"] == "done", "restored")
    return dict(service.status()["restore"])


def remove(syncer: Syncer, mailbox: str = "ann") -> None:
    for path in syncer.files(mailbox):
        path.unlink()


def test_what_is_there_is_not_delivered_again(syncer: Syncer) -> None:
    assert restored(syncer, Request(lost=True)) | {"seconds": 0} == {
        "state": "done",
        "request": json.loads(Request(lost=True).to_bytes()),
        "entries": 30,
        "looked": 30,
        "restored": 0,
        "left": 0,
        "seconds": 0,
        "trouble": "",
    }
    assert len(syncer.files()) == 15


def test_what_was_deleted_stays_deleted_unless_it_is_asked_for(syncer: Syncer) -> None:
    remove(syncer)
    assert restored(syncer, Request())["restored"] == 0 and not syncer.files()
    assert restored(syncer, Request(lost=True))["restored"] == 15 and len(syncer.files()) == 15
    remove(syncer)
    syncer.stop()
    # The journal forgot them too, and knows them again: a ledger made of it delivers none a third time.
    for path in syncer.state.glob("ledger.sqlite*"):
        path.unlink()
    syncer.start(push=False)
    until(lambda: syncer.status["ready"], "listed")
    assert not syncer.files()


def test_a_mailbox_and_a_period_narrow_it(syncer: Syncer) -> None:
    remove(syncer)
    remove(syncer, "bob")
    yesterday = Period(moment(-60) - DAY, moment(60) - DAY)
    assert restored(syncer, Request("ann", yesterday, lost=True))["restored"] == 5
    assert len(syncer.files()) == 5 and not syncer.files("bob")
    assert restored(syncer, Request("bob", lost=True))["restored"] == 15
    assert len(syncer.files()) == 5


def test_a_message_under_another_name_is_there(syncer: Syncer) -> None:
    folder = syncer.mail / "ann" / "Maildir" / ".Archive"
    (folder / "cur").mkdir(parents=True)
    path = syncer.files()[0]
    path.rename(folder / "cur" / "1700000000.M1.host:2,S")
    (folder / "dovecot-uidlist").write_text(f"3 V1 N2 G0123\n1 G{path.name} :1700000000.M1.host\n")
    assert restored(syncer, Request(lost=True))["restored"] == 0


def test_a_request_outlives_the_process(syncer: Syncer) -> None:
    remove(syncer)
    syncer.stop()
    (syncer.state / FILE).write_bytes(Request("ann", lost=True).to_bytes())
    syncer.start(push=False).wait(15)
    until(lambda: not (syncer.state / FILE).exists(), "forgotten")


def test_an_outage_is_waited_for(syncer: Syncer) -> None:
    remove(syncer)
    syncer.log.fault = DOWN
    service = syncer.service
    assert service is not None
    service.restore(Request(lost=True).to_bytes())
    until(lambda: service.status()["restore"]["trouble"], "told")
    syncer.log.fault = None
    syncer.wait(15)
    until(lambda: service.status()["restore"]["state"] == "done", "done")


def test_what_cannot_be_restored_is_counted_and_ends_it(syncer: Syncer) -> None:
    remove(syncer)
    del syncer.log.objects[next(one for one in syncer.log.objects if one.endswith("/a00.eml"))]
    assert restored(syncer, Request("ann", lost=True)) | {"seconds": 0, "restored": 0} == {
        "state": "done",
        "request": json.loads(Request("ann", lost=True).to_bytes()),
        "entries": 30,
        "looked": 30,
        "restored": 0,
        "left": 1,
        "seconds": 0,
        "trouble": "",
    }
    assert len(syncer.files()) == 14


@pytest.mark.parametrize("data", [b"", b"{", b'{"version": 2}', b'{"version":1,"mailbox":"","since":"x"}'])
def test_what_is_no_request_is_refused(syncer: Syncer, data: bytes) -> None:
    assert syncer.service is not None
    with pytest.raises(RequestRefused, match="request to restore"):
        syncer.service.restore(data)


def test_requests_are_posted_to_the_page(syncer: Syncer) -> None:
    service = syncer.service
    assert service is not None
    health = Health("127.0.0.1", 0, service.status, service.find, service.restore)
    try:
        page = LocalPage(f"127.0.0.1:{health.port}")
        assert page.read("/restore", Request("ann").to_bytes()) == b"accepted\n"
        with pytest.raises(Unreachable, match="409: request to restore: not JSON"):
            page.read("/restore", b"{")
        with pytest.raises(Unreachable, match="413"):
            page.read("/restore", bytes(100_000))
        with pytest.raises(Unreachable, match="404"):
            page.read("/status", b"{}")
        where = json.loads(page.read("/messages/a00"))
        assert where["deliveries"][0]["folder"] == "INBOX" and where["deliveries"][0]["now"]
        with pytest.raises(Unreachable, match="404"):
            page.read("/messages/a%20b")
    finally:
        health.close()


def test_progress_tells_rate_and_time_left() -> None:
    told = {"looked": 2000, "entries": 10_000, "seconds": 4.0, "restored": 1900, "trouble": ""}
    assert line(told) == "2,000 of 10,000 entries, 1,900 restored, 500 a second, 0:00:16 left"
    assert line({**told, "trouble": "S3 is away"}).endswith("waits: S3 is away")
    assert line({**told, "seconds": 0.0}) == "2,000 of 10,000 entries, 1,900 restored"


def test_a_request_is_what_was_written() -> None:
    at = datetime(2026, 11, 23, tzinfo=UTC)
    for request in (Request(), Request("ann", Period(at, None), lost=True), Request("", Period(None, at))):
        assert Request.from_bytes(request.to_bytes()) == request
