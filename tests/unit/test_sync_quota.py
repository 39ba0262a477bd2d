"""A full mailbox: mail waits in the log, comes once when there is room, and people are told."""

import io
import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.cloud import CONFIG
from tests.log_simulator import DOWN, LogSimulator, QueueSimulator, event, moment, until
from twinmail.config import Mailbox
from twinmail.ledger import Ledger, Waiting
from twinmail.manifest import Delivery
from twinmail.quota import PLACE
from twinmail.sync import quota as quota_module
from twinmail.sync.carrier import Carrier
from twinmail.sync.health import metrics
from twinmail.sync.log import Log
from twinmail.sync.outage import Outage
from twinmail.sync.outcome import Outcome
from twinmail.sync.quota import QuotaChore, Quotas, quota_of
from twinmail.sync.service import Options, Service

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
QUOTA = 100_000
SMALL = replace(
    CONFIG,
    mailboxes={
        "ann": Mailbox("ann", ("ann@example.org",), QUOTA),
        "bob": Mailbox("bob", ("bob@example.org",), 1 << 20),
    },
)


def body(octets: int) -> bytes:
    return b"Subject: hello\r\n\r\n".ljust(octets, b"x")


class World:
    """One server's syncer without its threads: what is carried is carried here and now."""

    def __init__(self, root: Path) -> None:
        self.mail, self.state = root / "mail", root / "state"
        for folder in (self.mail, self.state):
            folder.mkdir()
        self.log, self.now, self.count = LogSimulator(), NOON, 0
        self.output = io.StringIO()
        self.ledger: Ledger | None = None
        self.start()

    def start(self) -> None:
        """Start it, again if it ran."""
        self.stop()
        log = Log(self.output)
        ledger = self.ledger = Ledger(self.state, self.mail)
        self.carrier = Carrier(
            self.log,
            ledger,
            self.mail,
            SMALL.limits,
            log,
            Outage("s3", log),
            Outage("disk", log),
            quotas=Quotas(self.mail, lambda mailbox: quota_of(SMALL, mailbox)),
        )
        self.chore = QuotaChore(SMALL, "primary", self.mail, self.carrier, log, lambda: self.now)

    def stop(self) -> None:
        if self.ledger is not None:
            self.carrier.stop(10)
            self.ledger.close()
            self.ledger = None

    def send(self, octets: int, mailboxes: tuple[str, ...] = ("ann",)) -> str:
        self.count += 1
        return self.log.add(f"m{self.count}", body(octets), moment(self.count - 1000), mailboxes)

    def carry(self, key: str) -> Outcome:
        return self.carrier.carry(key, "test").result(10)

    def files(self, mailbox: str = "ann") -> list[Path]:
        """Messages from outside, without notices."""
        return sorted(
            path
            for path in (self.mail / mailbox / "Maildir").rglob("*.twinmail,*")
            if b"mailer-daemon" not in path.read_bytes()
        )

    def notices(self, mailbox: str = "ann") -> list[Path]:
        return sorted(
            path
            for path in (self.mail / mailbox / "Maildir").rglob("*.twinmail,*")
            if b"mailer-daemon" in path.read_bytes()
        )

    def said(self, name: str) -> list[dict[str, Any]]:
        return [one for one in map(json.loads, self.output.getvalue().splitlines()) if one["event"] == name]

    def waiting(self) -> list[str]:
        assert self.ledger
        return [one.key for one in self.ledger.waiting()]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.stop()


def test_message_waits_is_not_downloaded_and_comes_once_there_is_room(world: World) -> None:
    first, second = world.send(60_000), world.send(60_000)
    assert world.carry(first) is Outcome.FINISHED
    world.log.reads.clear()
    assert world.carry(second) is Outcome.WAITING
    for _ in range(3):
        world.chore.turn()
    # Its entry was read once to learn its size, and the message never.
    assert world.log.reads == [second]
    assert len(world.files()) == 1 and world.waiting() == [second]
    world.files()[0].unlink()
    world.chore.turn()
    assert len(world.files()) == 1 and world.waiting() == []
    world.chore.turn()
    assert len(world.files()) == 1
    assert world.ledger and world.ledger.finished(second)


def test_waiting_settles_queue_and_cursor(world: World) -> None:
    key = world.send(QUOTA + 1)
    assert world.carry(key).settled
    assert world.ledger
    assert world.ledger.settled([key, "manifest/other"]) == {key}
    assert world.ledger.settled_after("manifest/") == 1
    assert not world.ledger.finished(key)


def test_the_other_mailboxes_get_it_at_once_and_once(world: World) -> None:
    world.carry(world.send(90_000))
    key = world.send(60_000, ("ann", "bob"))
    assert world.carry(key) is Outcome.WAITING
    assert len(world.files("bob")) == 1 and len(world.files("ann")) == 1
    world.chore.turn()
    world.files("ann")[0].unlink()
    world.chore.turn()
    assert len(world.files("bob")) == 1 and len(world.files("ann")) == 1
    assert world.waiting() == []


def test_quota_counts_every_folder_and_size_as_imap_shows_it(world: World) -> None:
    maildir = world.mail / "ann" / "Maildir"
    for folder in ("new", "cur", ".Trash/cur", ".Archive.2026/new"):
        (maildir / folder).mkdir(parents=True)
    (maildir / "new" / "1.a.x,S=1,W=100").write_bytes(b"")
    (maildir / "cur" / "2.b.x,S=200:2,S").write_bytes(b"")
    (maildir / ".Trash" / "cur" / "3.c.x:2,").write_bytes(b"x" * 300)
    (maildir / ".Archive.2026" / "new" / "4.d.x,W=50").write_bytes(b"")
    (maildir / "tmp").mkdir()
    (maildir / "tmp" / "5.e.x,S=9999").write_bytes(b"")
    (maildir / "fts-flatcurve" / "cur").mkdir(parents=True)
    (maildir / "fts-flatcurve" / "cur" / "index,S=9999").write_bytes(b"")
    # No folder, whatever its name begins with.
    (maildir / ".left-behind").write_bytes(b"")
    assert world.carrier.quotas.used("ann") == 650
    assert world.carrier.quotas.used("nobody") == 0


def test_folder_that_did_not_change_is_not_read_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    quotas = world.carrier.quotas
    world.carry(world.send(100))
    new = world.files()[0].parent
    os.utime(new, (1, 1))
    assert quotas.used("ann") == 100
    monkeypatch.setattr(quota_module, "_count", lambda path: pytest.fail(f"{path} was read"))
    for part in ("cur", "tmp"):
        os.utime(new.parent / part, (1, 1))
    monkeypatch.undo()
    assert quotas.used("ann") == 100
    monkeypatch.setattr(quota_module, "_count", lambda path: pytest.fail(f"{path} was read"))
    assert quotas.used("ann") == 100


def test_folder_that_just_changed_is_read_again_although_its_time_is_the_same(world: World) -> None:
    world.carry(world.send(100))
    path = world.files()[0]
    quotas = world.carrier.quotas
    assert quotas.used("ann") == 100
    times = path.parent.stat()
    path.unlink()
    os.utime(path.parent, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert quotas.used("ann") == 0


def test_many_messages_at_once_do_not_take_the_same_room(world: World) -> None:
    quotas = world.carrier.quotas
    everybody_holds = threading.Barrier(64)

    def claim(_: int) -> bool:
        with quotas.claim([Delivery("ann")], QUOTA // 10) as full:
            # Nothing is on the disk yet.
            everybody_holds.wait(20)
            return not full

    with ThreadPoolExecutor(64) as pool:
        assert list(pool.map(claim, range(64))).count(True) == 10


def test_only_who_has_no_room_is_refused(world: World) -> None:
    both = (Delivery("ann"), Delivery("bob"))
    with world.carrier.quotas.claim(both, QUOTA + 1) as full:
        assert full == (Delivery("ann"),)


def test_what_was_not_delivered_in_the_end_is_room_again(world: World) -> None:
    quotas = world.carrier.quotas
    for _ in range(3):
        with quotas.claim([Delivery("ann")], QUOTA) as full:
            assert full == ()


def test_usage_is_counted_once_and_then_summed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Path] = []
    original = quota_module._Mailbox.look

    def counted(self: Any) -> int:
        looks.append(self.root)
        return original(self)

    monkeypatch.setattr(quota_module._Mailbox, "look", counted)
    quotas = Quotas(tmp_path, lambda mailbox: QUOTA, clock=lambda: 0.0)
    for _ in range(10):
        with quotas.claim([Delivery("ann")], QUOTA // 10) as full:
            assert not full
    assert len(looks) == 1


def test_restart_keeps_what_waits(world: World) -> None:
    world.carry(world.send(90_000))
    key = world.send(60_000)
    world.carry(key)
    world.start()
    assert world.waiting() == [key]
    world.files()[0].unlink()
    world.chore.turn()
    assert len(world.files()) == 1 and world.waiting() == []


def test_lost_ledger_meets_it_again_in_the_log(world: World) -> None:
    first, second = world.send(90_000), world.send(60_000)
    for key in (first, second):
        world.carry(key)
    world.stop()
    for path in world.state.glob("ledger.sqlite*"):
        path.unlink()
    world.start()
    assert world.waiting() == []
    # Without a cursor the listing starts at the beginning.
    assert [world.carry(key) for key in (first, second)] == [Outcome.FINISHED, Outcome.WAITING]
    world.files()[0].unlink()
    world.chore.turn()
    assert len(world.files()) == 1


def test_store_away_is_not_asked_and_nothing_is_lost(world: World) -> None:
    world.carry(world.send(90_000))
    key = world.send(60_000)
    world.carry(key)
    world.files()[0].unlink()
    world.log.fault = DOWN
    world.chore.turn()
    assert world.waiting() == [key]
    reads = len(world.log.reads)
    world.chore.turn()
    assert len(world.log.reads) == reads
    world.log.fault = None
    world.carrier.store.worked()
    world.chore.turn()
    assert len(world.files()) == 1


def test_user_is_told_once_a_day_and_not_after_a_restart(world: World) -> None:
    world.carry(world.send(90_000))
    for _ in range(3):
        world.carry(world.send(60_000))
    world.chore.turn()
    world.chore.turn()
    (path,) = world.notices()
    assert path.parent == world.mail / "ann" / "Maildir" / "new"
    assert b"3 new messages wait" in path.read_bytes()
    assert b"To: <ann@example.org>" in path.read_bytes()
    # Deleted by its user, and the process started again: not before tomorrow.
    path.unlink()
    world.start()
    world.chore.turn()
    assert world.notices() == []
    world.now += timedelta(days=1)
    world.chore.turn()
    world.chore.turn()
    assert len(world.notices()) == 1
    assert world.notices("bob") == []


def test_notice_interrupted_before_the_ledger_is_not_put_there_twice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.carry(world.send(90_000))
    world.carry(world.send(60_000))
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "record", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            world.chore.turn()
    (path,) = world.notices()
    path.rename(path.parent.parent / "cur" / f"{path.name}:2,S")
    world.chore.turn()
    assert len(world.notices()) == 1


def test_operator_is_told_once_and_when_it_is_over(world: World) -> None:
    world.carry(world.send(90_000))
    world.carry(world.send(60_000))
    world.chore.turn()
    world.chore.turn()
    (line,) = world.said("mailbox full")
    assert line["mailbox"] == "ann" and "quota_bytes in twinmail.toml" in line["error"]
    shortage = world.carrier.quotas.shortages["ann"]
    assert (shortage.waiting, shortage.octets, shortage.quota) == (1, 60_000, QUOTA)
    for path in world.files():
        path.unlink()
    for path in world.notices():
        path.unlink()
    world.chore.turn()
    assert [one["mailbox"] for one in world.said("mailbox has room")] == ["ann"]
    assert world.carrier.quotas.shortages == {}


def test_raised_quota_lets_it_in(world: World) -> None:
    world.carry(world.send(90_000))
    world.carry(world.send(60_000))
    world.carrier.quotas.quota_of = lambda mailbox: 2 * QUOTA
    world.chore.turn()
    assert len(world.files()) == 2


def test_dovecot_is_told_the_quotas_also_when_they_change(world: World) -> None:
    world.chore.turn()
    path = world.mail / PLACE
    assert b"ann::1000:1000::::userdb_quota_storage_size=100000B\n" in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.stat().st_mtime_ns
    world.chore.turn()
    assert path.stat().st_mtime_ns == before
    world.carrier.quotas.quota_of = lambda mailbox: 5
    world.chore.turn()
    assert b"bob::1000:1000::::userdb_quota_storage_size=5B\n" in path.read_bytes()


def test_mailbox_that_left_the_configuration_has_the_common_quota() -> None:
    assert quota_of(SMALL, "carol") == SMALL.limits.quota_bytes
    assert quota_of(SMALL, "ann") == QUOTA


def test_ledger_lists_what_waits_in_order_and_only_who_waits(world: World) -> None:
    assert world.ledger
    world.ledger.wait("manifest/b", 2, ["ann", "bob", "ann"])
    world.ledger.wait("manifest/a", 1, ["bob"])
    world.ledger.wait("manifest/b", 2, ["bob"])
    assert world.ledger.waiting() == [Waiting("manifest/a", "bob", 1), Waiting("manifest/b", "bob", 2)]
    world.ledger.finish("manifest/a")
    assert world.ledger.waiting() == [Waiting("manifest/b", "bob", 2)]


def test_ledger_of_a_version_without_waiting_is_used(world: World) -> None:
    assert world.ledger
    world.ledger._connection.execute("DROP TABLE waiting")
    world.start()
    assert world.waiting() == []


def test_service_acknowledges_goes_on_and_shows_it(tmp_path: Path) -> None:
    log, queue = LogSimulator(), QueueSimulator()
    mail, output = tmp_path / "mail", io.StringIO()
    mail.mkdir()
    lines = Log(output)

    def chores(ledger: Ledger, carrier: Carrier) -> list[list[QuotaChore]]:
        chore = QuotaChore(SMALL, "primary", mail, carrier, lines)
        chore.seconds = 0.05
        return [[chore]]

    options = Options("primary", mail, tmp_path / "state", poll_seconds=0.05)
    service = Service(SMALL, options, log, queue, lines, chores)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(service.run)
        try:
            keys = [log.add(f"m{number}", body(70_000), moment(number - 60)) for number in range(3)]
            for key in keys:
                queue.send(event(key))
            until(lambda: service.status()["full"].get("ann", {}).get("waiting") == 2, "two wait")
            until(lambda: queue.depth == 0, "acknowledged")
            until(lambda: service.status()["cursor"] == keys[-1], "the cursor went on")
            status = service.status()
            assert status["full"]["ann"]["quota"] == QUOTA and status["parked"] == {}
            assert 'twinmail_syncer_full_mailbox_waiting{mailbox="ann"} 2' in metrics(status)
            assert "twinmail_syncer_full_mailboxes 1" in metrics(status)
            for left in (1, 0):
                for path in (mail / "ann" / "Maildir").rglob("*.twinmail,*"):
                    path.unlink()
                until(
                    lambda left=left: service.status()["full"].get("ann", {}).get("waiting", 0) == left,
                    f"{left} wait",
                )
            assert "twinmail_syncer_full_mailboxes 0" in metrics(service.status())
        finally:
            service.stop()
            running.result(20)
