"""Catching up in batches: the same outcome as message by message, whatever is not plain or goes wrong."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.log_simulator import DOWN, LogSimulator, QueueSimulator, event, moment
from tests.unit.test_sync_service import BODY, Syncer
from twinmail.durable_file import FileSystem, NotWritten
from twinmail.layout import manifest_key
from twinmail.ledger import Ledger
from twinmail.sync import outage as outage_module
from twinmail.sync.bulk import LEAST, MESSAGE_OCTETS

COUNT = LEAST * 3


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage_module, "CAP_SECONDS", 0.05)
    monkeypatch.setattr("twinmail.sync.retries.pause", lambda attempts, base, cap: 0.02)


@pytest.fixture
def syncer(tmp_path: Path) -> Iterator[Syncer]:
    syncer = Syncer(tmp_path, LogSimulator(), QueueSimulator())
    for number in range(COUNT):
        add(syncer, number)
    yield syncer
    syncer.stop()


def add(syncer: Syncer, number: int, **options: Any) -> str:
    return syncer.log.add(f"m{number}", BODY, moment(number / 1000 - 10), **options)


def names(syncer: Syncer, mailbox: str = "ann") -> set[str]:
    found = [path.name for path in syncer.files(mailbox)]
    assert len(found) == len(set(found))
    return set(found)


def no_single_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The objects that were read one by one, from now on."""
    single: list[str] = []
    before = LogSimulator.read

    def read(self: LogSimulator, key: str) -> Iterator[bytes]:
        single.append(key)
        return before(self, key)

    monkeypatch.setattr(LogSimulator, "read", read)
    return single


def test_many_entries_go_in_batches_and_each_arrives_once(
    syncer: Syncer, monkeypatch: pytest.MonkeyPatch
) -> None:
    single = no_single_reads(monkeypatch)
    syncer.start(push=False).wait(COUNT)
    assert len(names(syncer)) == COUNT and not single
    assert all(path.read_bytes() == BODY for path in syncer.files())
    assert len(syncer.said("delivered")) == COUNT and syncer.status["delivered"] == COUNT
    assert not list((syncer.mail / "ann" / "Maildir" / "tmp").iterdir())


def test_few_entries_go_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncer = Syncer(tmp_path, LogSimulator(), QueueSimulator())
    for number in range(LEAST - 1):
        add(syncer, number)
    single = no_single_reads(monkeypatch)
    syncer.start(push=False).wait(LEAST - 1)
    syncer.stop()
    assert len(single) == 2 * (LEAST - 1)


def test_what_is_not_plain_is_carried_one_by_one(syncer: Syncer) -> None:
    add(syncer, COUNT, mailboxes=("ann", "bob"))
    junk = syncer.log.add("junk", BODY, moment(-1), folder="Junk")
    large = syncer.log.add("large", bytes(MESSAGE_OCTETS + 1), moment(-1))
    twice = next(data for key, data in syncer.log.objects.items() if key.endswith("Z-m0.json"))
    syncer.log.put(manifest_key("m0", moment(-2)), twice)
    damaged = manifest_key("damaged", moment(-2))
    syncer.log.put(damaged, b"{")
    missing = add(syncer, COUNT + 1)
    body = next(key for key in syncer.log.objects if key.endswith(f"/m{COUNT + 1}.eml"))
    del syncer.log.objects[body]
    syncer.start(push=False).wait(COUNT + 3)
    assert len(names(syncer, "bob")) == 1 and junk and large
    assert any(".Junk" in str(path) for path in syncer.files())
    assert list(syncer.status["parked"]) == [damaged]
    assert list(syncer.status["retrying"]) == [missing]


def test_wrong_octets_are_never_delivered(syncer: Syncer) -> None:
    key = next(key for key in syncer.log.objects if key.endswith("/m7.eml"))
    syncer.log.objects[key] = BODY.replace(b"body", b"evil")
    syncer.start(push=False).wait(COUNT - 1)
    assert len(syncer.status["retrying"]) == 1
    syncer.log.objects[key] = BODY
    syncer.wait(COUNT)


def test_a_disk_that_refuses_the_batch_gets_it_one_by_one(
    syncer: Syncer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: FileSystem) -> None:
        raise NotWritten("disk: no")

    monkeypatch.setattr(FileSystem, "flush", refuse)
    syncer.start(push=False).wait(COUNT)
    assert len(names(syncer)) == COUNT
    assert not list((syncer.mail / "ann" / "Maildir" / "tmp").iterdir())


def test_a_ledger_that_fails_after_the_links_makes_nothing_twice(
    syncer: Syncer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, failures = Ledger.record_all, [True]

    def record_all(self: Ledger, *arguments: Any) -> None:
        if failures:
            failures.pop()
            raise NotWritten("ledger: no")
        before(self, *arguments)

    monkeypatch.setattr(Ledger, "record_all", record_all)
    syncer.start(push=False).wait(COUNT)
    # Read between the attempts: a link of the same name would then make a second one.
    for path in syncer.files():
        path.rename(path.parent.parent / "cur" / f"{path.name}:2,S")
    add(syncer, COUNT)
    syncer.wait(COUNT + 1)
    assert len(names(syncer)) == COUNT + 1


def test_a_full_mailbox_waits_and_the_others_do_not(syncer: Syncer, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(COUNT):
        syncer.log.add(f"b{number}", BODY, moment(number / 1000 - 5), ("bob",))
    monkeypatch.setattr(
        "twinmail.sync.service.quota_of",
        lambda config, mailbox: 10 * len(BODY) if mailbox == "ann" else 1 << 30,
    )
    syncer.start(push=False).wait(COUNT, "bob")
    assert len(names(syncer)) == 10
    assert len(syncer.said("waiting")) == COUNT - 10


def test_push_and_a_batch_meet_in_one_delivery(syncer: Syncer) -> None:
    for key in list(syncer.log.objects):
        if key.startswith("manifest/"):
            syncer.queue.send(event(key))
    syncer.start().wait(COUNT)
    assert len(names(syncer)) == COUNT


def test_a_bug_in_a_batch_stops_nobody(syncer: Syncer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinmail.sync.bulk.Bulk._stage", lambda self, one, body: 1 / 0)
    syncer.start(push=False).wait(COUNT)
    assert "ZeroDivisionError" in syncer.said("batch given up")[0]["error"]
    assert len(names(syncer)) == COUNT


def test_an_outage_in_a_batch_ends_with_the_outage(syncer: Syncer, monkeypatch: pytest.MonkeyPatch) -> None:
    before, failures = LogSimulator.each, [True, True]

    def each(self: LogSimulator, *arguments: Any) -> None:
        if failures:
            failures.pop()
            raise DOWN
        before(self, *arguments)

    monkeypatch.setattr(LogSimulator, "each", each)
    syncer.start(push=False).wait(COUNT)
    assert len(names(syncer)) == COUNT
