"""Importing into the log: once, in whatever order sources come, and whatever happens in between."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from moto import mock_aws

from tests.cloud import CONFIG
from tests.log_contract import Crash, Store, crash_at
from twinmail.importing import folder_map, logged
from twinmail.importing.importer import Importer, Log, LogAway
from twinmail.importing.memory import Memory
from twinmail.importing.report import Report, lines
from twinmail.importing.source import Folder, Item, Known, Mail, Passed, Trouble
from twinmail.manifest import Delivery, Entry
from twinmail.processor import CLAIM_USE, STEPS, Processor

OLD = datetime(2009, 2, 13, 23, 31, 30, tzinfo=UTC)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        s3 = boto3.client("s3", region_name=CONFIG.region)
        where = {"LocationConstraint": CONFIG.region}
        s3.create_bucket(Bucket=CONFIG.bucket, CreateBucketConfiguration=where)
        dynamodb = boto3.client("dynamodb", region_name=CONFIG.region)
        dynamodb.create_table(
            TableName=CONFIG.table,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": one, "AttributeType": "S"} for one in ("mailbox", "position")
            ],
            KeySchema=[
                {"AttributeName": "mailbox", "KeyType": "HASH"},
                {"AttributeName": "position", "KeyType": "RANGE"},
            ],
        )
        yield Store(CONFIG, s3, dynamodb)


def message(subject: str, extra: str = "") -> bytes:
    return f"{extra}Message-ID: <{subject}@example.com>\nFrom: a@example.com\nSubject: {subject}\n\nbody\n".encode()


def mail(subject: str, number: int = 1, **more: Any) -> Mail:
    content = more.pop("content", message(subject))
    return Mail(
        f"UID {number}", content, OLD, frozenset({"\\Seen"}), frozenset({"todo", "two words"}), f"1:{number}"
    )


@dataclass
class Account:
    """A source in memory; *read_marks* says what was really read."""

    contents: Mapping[Folder, Sequence[Item]]
    name: str = "imap://ann@old.example.com:993"
    read_marks: list[str] = field(default_factory=list)

    def folders(self) -> Sequence[Folder]:
        return list(self.contents)

    def read(self, folder: Folder, known: Known) -> Iterator[Item]:
        for one in self.contents[folder]:
            if isinstance(one, Mail) and known(folder, one.mark):
                yield Passed(one.place, one.mark)
                continue
            self.read_marks.append(one.place)
            yield one

    def survey(self, folder: Folder) -> Sequence[tuple[str, int]] | None:
        return [(one.mark, len(one.message)) for one in self.contents[folder] if isinstance(one, Mail)]


def run(
    store: Store,
    account: Account,
    path: Path,
    processor: Processor | None = None,
    plan: bool = False,
    **more: Any,
) -> Report:
    received = logged.Received.of(store.s3, CONFIG.bucket, store.dynamodb, CONFIG.table, "ann")
    imported = logged.imported(store.s3, CONFIG.bucket)
    log = Log("ann", None if plan else processor or store.processor(), imported, received)
    with closing(Memory(path)) as memory:
        return Importer(log, account, memory, **more).run(folder_map.plan(account.folders()))


def entries(store: Store) -> list[Entry]:
    return [Entry.from_bytes(store.body(key)) for key in store.keys("manifest/")]


INBOX, SENT, ALL = (
    Folder(("INBOX",), key="INBOX"),
    Folder(("Sent Items",), key="s"),
    Folder(("All",), "all", key="a"),
)


def test_message_is_in_the_log_as_it_was(store: Store, tmp_path: Path) -> None:
    report = run(store, Account({SENT: [mail("one")]}), tmp_path / "m")
    (entry,) = entries(store)
    assert entry.imported and entry.arrived == OLD
    assert entry.deliveries == (Delivery("ann", "Sent", ("\\Seen",), ("todo",)),)
    assert store.body(entry.key) == message("one").replace(b"\n", b"\r\n")
    assert entry.key.startswith("processed/2009/02/13/import-") and entry.sha256[:16] in entry.key
    assert report.total("imported") == 1 and not report.failures
    answer = store.dynamodb.query(
        TableName=CONFIG.table,
        KeyConditionExpression="mailbox = :m",
        ExpressionAttributeValues={":m": {"S": "ann"}},
    )
    (item,) = answer["Items"]
    assert (item["folder"], item["subject"]) == ({"S": "Sent"}, {"S": "one"})
    assert "Sent Items → Sent" in "\n".join(lines(report, "imported"))


@pytest.mark.parametrize("forget", [False, True])
def test_second_run_adds_nothing(store: Store, tmp_path: Path, forget: bool) -> None:
    contents: dict[Folder, list[Item]] = {INBOX: [mail(f"m{one}", one) for one in range(5)]}
    run(store, Account(contents), tmp_path / "m")
    before = store.keys("")
    if forget:
        (tmp_path / "m").write_bytes(b"rubbish")
    again = Account(contents)
    report = run(store, again, tmp_path / "m")
    assert store.keys("") == before
    assert (report.total("known"), report.total("imported")) == (5, 0)
    assert len(again.read_marks) == (5 if forget else 0), "what is remembered is not fetched again"


def test_memory_of_another_bucket_is_not_believed(store: Store, tmp_path: Path) -> None:
    account = Account({INBOX: [mail("one")]})
    run(store, account, tmp_path / "m")
    for key in store.keys("manifest/"):
        store.s3.delete_object(Bucket=CONFIG.bucket, Key=key)
    store.dynamodb.delete_item(
        TableName=CONFIG.table,
        Key={
            "mailbox": {"S": f"ses#{key.rpartition('Z-')[2].removesuffix('.json')}"},
            "position": {"S": "claim"},
        },
    )
    assert run(store, account, tmp_path / "m").total("imported") == 1


def test_same_message_twice_is_there_once_a_folder(store: Store, tmp_path: Path) -> None:
    twice = [mail("one", number) for number in range(8)]
    report = run(store, Account({INBOX: twice, SENT: twice[:1]}), tmp_path / "m")
    assert sorted(one.deliveries[0].folder for one in entries(store)) == ["INBOX", "Sent"]
    assert (report.total("imported"), report.total("known")) == (2, 7)


def test_folder_of_all_mail_adds_what_is_nowhere_else(store: Store, tmp_path: Path) -> None:
    account = Account(
        {ALL: [mail("one", 7), mail("archived", 8)], INBOX: [mail("one")], SENT: [mail("sent", 2)]}
    )
    for _ in range(2):
        run(store, account, tmp_path / "m")
        found = {one.deliveries[0].folder: store.body(one.key) for one in entries(store)}
        assert sorted(found) == ["Archive", "INBOX", "Sent"] and b"archived" in found["Archive"]


@pytest.mark.parametrize("step", STEPS)
def test_killed_between_any_two_writes(store: Store, tmp_path: Path, step: str) -> None:
    account = Account({INBOX: [mail("one")]})
    with pytest.raises(Crash):
        run(store, account, tmp_path / "m", store.processor(checkpoint=crash_at(step)))
    # The other source has other octets, which do not make it another message.
    other = Account({INBOX: [mail("one", content=b"Status: RO\n" + message("one"))]}, "old.mbox")
    report = run(store, other, tmp_path / "n")
    (entry,) = entries(store)
    assert len(store.body(entry.key)) == entry.size
    assert report.total("imported") == (0 if step == "committed" else 1)


def test_claim_of_a_killed_run_is_waited_for(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = Account({INBOX: [mail("one")]})
    early = datetime.now(UTC) - CLAIM_USE - timedelta(seconds=1)
    with pytest.raises(Crash):
        run(
            store, account, tmp_path / "m", store.processor(now=lambda: early, checkpoint=crash_at("claimed"))
        )
    monkeypatch.setattr("twinmail.importing.importer._BUSY_SECONDS", 0.01)
    clock = iter(datetime.now(UTC) + timedelta(minutes=one) for one in range(99))
    report = run(store, account, tmp_path / "m", store.processor(now=lambda: next(clock)))
    assert report.total("imported") == 1 and len(entries(store)) == 1


def test_two_imports_at_once_make_one_entry(store: Store, tmp_path: Path) -> None:
    barrier = threading.Barrier(2)

    def meet(step: str) -> None:
        if step == "claimed":
            barrier.wait(30)

    reports: list[Report] = []

    def one(number: int) -> None:
        content = b"Status: RO\n" * number + message("one")
        account = Account({INBOX: [mail("one", content=content)]})
        reports.append(run(store, account, tmp_path / str(number), store.processor(checkpoint=meet)))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    (entry,) = entries(store)
    assert len(store.body(entry.key)) == entry.size
    assert sorted(one.total("imported") for one in reports) == [0, 1]


def test_received_message_is_not_imported_again(store: Store, tmp_path: Path) -> None:
    raw = message("live", "Received: from new.example.com\n").replace(b"\n", b"\r\n")
    store.processor().process(store.receive(raw))
    old = mail("live", content=message("live", "Received: from old.example.com\n"))
    forged = mail("live", 2, content=message("live") + b"something else\n")
    report = run(store, Account({INBOX: [old, forged], SENT: [old]}), tmp_path / "m")
    counts = {one.target: (one.imported, one.received) for one in report.folders}
    assert counts == {"INBOX": (1, 1), "Sent": (1, 0)}, "a sent message is another one than what came back"


def test_plan_writes_nothing(store: Store, tmp_path: Path) -> None:
    account = Account({INBOX: [mail("one"), mail("two", 2)]})
    run(store, Account({INBOX: [mail("one")]}), tmp_path / "m")
    before = store.keys("")
    report = run(store, account, tmp_path / "m", plan=True)
    assert (report.total("imported"), report.total("known")) == (1, 1)
    assert store.keys("") == before and not account.read_marks


def test_bad_messages_are_named_and_the_rest_goes_on(store: Store, tmp_path: Path) -> None:
    items: list[Item] = [
        mail("one"),
        Trouble("INBOX: UID 2", "empty"),
        Passed("INBOX: UID 3"),
        mail("four", 4),
    ]
    document = run(store, Account({INBOX: items}), tmp_path / "m").document()
    assert {one: document[one] for one in ("messages", "imported", "failed", "deleted")} == {
        "messages": 4,
        "imported": 2,
        "failed": 1,
        "deleted": 1,
    }
    assert document["failures"] == [{"place": "INBOX: UID 2", "reason": "empty"}]


def test_interrupted_run_counts_what_is_in_the_log(store: Store, tmp_path: Path) -> None:
    account = Account({INBOX: [mail(f"m{one}", one) for one in range(40)]})
    calls = iter(range(100))

    def pause() -> None:
        if next(calls) == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(store, account, tmp_path / "m", pause=pause, parallel=2)
    before = len(entries(store))
    assert before <= 20
    report = run(store, account, tmp_path / "m")
    assert report.total("imported") == 40 - before and len(entries(store)) == 40


def test_log_that_goes_away_ends_the_import_with_what_to_do(store: Store, tmp_path: Path) -> None:
    def fail(step: str) -> None:
        raise EndpointConnectionError(endpoint_url="https://s3")

    with pytest.raises(LogAway, match=r"UID 1: .*run the same command again"):
        run(store, Account({INBOX: [mail("one")]}), tmp_path / "m", store.processor(checkpoint=fail))
