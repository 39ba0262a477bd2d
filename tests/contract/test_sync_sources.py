"""What the syncer may rely on of the bucket and of the queue: in memory and in LocalStack alike."""

import io
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.localstack_process import REGION, LocalStackProcess
from tests.log_simulator import LogSimulator, QueueSimulator, entry_of, moment
from tests.packs_simulator import PacksSimulator
from twinmail.layout import MANIFEST, manifest_key
from twinmail.manifest import Entry
from twinmail.sync.aws import Aws, NoCredentials
from twinmail.sync.log import Log
from twinmail.sync.packed_source import PackedSource
from twinmail.sync.s3 import PAGE, S3Source
from twinmail.sync.s3_packs import S3Packs
from twinmail.sync.source import (
    ObjectMissing,
    Queue,
    QueueUnavailable,
    Source,
    SourceUnavailable,
    read_all,
)
from twinmail.sync.sqs import SqsQueue


class Objects(Protocol):
    """How a test fills the bucket; with the *entry* of a message that is put."""

    def put(self, key: str, data: bytes, entry: Entry | None = None) -> None: ...


@dataclass
class Bucket:
    source: Source
    objects: Objects


class RealObjects:
    def __init__(self, client: Any, bucket: str) -> None:
        self._client, self._bucket = client, bucket

    def put(self, key: str, data: bytes, entry: Entry | None = None) -> None:
        metadata = entry.to_metadata() if entry else {}
        self._client.put_object(Bucket=self._bucket, Key=key, Body=data, Metadata=metadata)


@pytest.fixture
def cloud(localstack: LocalStackProcess, monkeypatch: pytest.MonkeyPatch) -> LocalStackProcess:
    """The environment that a container gets: the standard variables of the SDKs."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", localstack.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    return localstack


@pytest.fixture(params=["memory", "localstack", "memory with packs", "localstack with packs"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    packed, log = "packs" in request.param, Log(io.StringIO())
    if request.param.startswith("memory"):
        simulator = LogSimulator(page=PAGE)
        packs = PacksSimulator(simulator)
        source = PackedSource(simulator, packs, log, clock=later) if packed else simulator
        return Bucket(source, simulator)
    cloud: LocalStackProcess = request.getfixturevalue("cloud")
    client, name = cloud.client("s3"), f"sync-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    plain, objects = S3Source(name, Aws(REGION)), RealObjects(client, name)
    if not packed:
        return Bucket(plain, objects)
    return Bucket(PackedSource(plain, S3Packs(name, Aws(REGION)), log, clock=later), objects)


def later() -> datetime:
    """A time at which what the tests write is old."""
    return moment() + timedelta(days=60)


def key(number: int) -> str:
    return f"manifest/2026/11/22/{number:06}.000000Z-a.json"


def listed(source: Source, offset: str) -> list[str]:
    return [one for page in source.keys_after(offset) for one in page]


class TestSource:
    def test_empty_log(self, bucket: Bucket) -> None:
        assert listed(bucket.source, MANIFEST) == []

    def test_keys_after_an_offset_in_order(self, bucket: Bucket) -> None:
        for number in (3, 1, 2):
            bucket.objects.put(key(number), b"")
        bucket.objects.put("processed/2026/11/22/a.eml", b"")
        bucket.objects.put("state/x", b"")
        assert listed(bucket.source, MANIFEST) == [key(1), key(2), key(3)]
        assert listed(bucket.source, key(1)) == [key(2), key(3)]
        assert listed(bucket.source, key(1)[:-20]) == [key(1), key(2), key(3)]
        assert listed(bucket.source, "manifest/2026/11/22/") == [key(1), key(2), key(3)]
        assert listed(bucket.source, "manifest/2026/11/23/") == []

    def test_more_than_one_page(self, bucket: Bucket) -> None:
        keys = [key(number) for number in range(PAGE + 5)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda one: bucket.objects.put(one, b""), reversed(keys)))
        pages = list(bucket.source.keys_after(MANIFEST))
        assert [one for page in pages for one in page] == keys
        assert max(map(len, pages)) <= PAGE

    @pytest.mark.parametrize(
        "odd", ["manifest//x", "manifest/2026/../x", "manifest/2026/./x", "manifest/ä b+%c"]
    )
    def test_odd_keys_do_not_hide_the_others(self, bucket: Bucket, odd: str) -> None:
        for number in (1, 2):
            bucket.objects.put(key(number), b"")
        bucket.objects.put(odd, b"")
        assert listed(bucket.source, MANIFEST) == sorted([odd, key(1), key(2)])

    @pytest.mark.parametrize("size", [0, 1, 100_000, 3 * (1 << 20) + 7])
    def test_octets_of_an_object(self, bucket: Bucket, size: int) -> None:
        data = bytes(range(256)) * (size // 256) + bytes(size % 256)
        bucket.objects.put("processed/2026/11/22/a.eml", data)
        assert b"".join(bucket.source.read("processed/2026/11/22/a.eml")) == data

    def test_many_objects_at_a_time(self, bucket: Bucket) -> None:
        wanted = {f"processed/2026/11/22/{number}.eml": b"%d" % number for number in range(150)}
        wanted["processed/2026/11/22/empty.eml"] = b""
        for one, data in wanted.items():
            bucket.objects.put(one, data)
        bucket.objects.put("processed/2026/11/22/large.eml", bytes(1001))
        others = ["processed/2026/11/22/large.eml", "processed/2026/11/22/absent.eml", "processed//odd.eml"]
        assert read_all(bucket.source, [*wanted, *others], 1000) == wanted
        assert read_all(bucket.source, [], 1000) == {}

    def test_entries_are_those_of_the_manifest_whether_their_message_comes_with_them_or_not(
        self, bucket: Bucket
    ) -> None:
        day = datetime(2026, 11, 22, 12, tzinfo=UTC)
        wanted, messages = {}, {}
        for number in range(10):
            body = b"message %d" % number
            at = day + timedelta(minutes=number)
            # The last ones arrived on the day before, so their messages are elsewhere.
            entry = entry_of(f"id{number}", body, at - timedelta(days=number > 7))
            key = manifest_key(entry.ses_id, at)
            bucket.objects.put(entry.key, body, entry)
            bucket.objects.put(key, entry.to_bytes())
            wanted[key], messages[key] = entry.to_bytes(), body
        # As an older version wrote it, damaged, and of another attempt, which decided otherwise.
        bare, damaged, other = list(wanted)[:3]
        bucket.objects.put("processed/2026/11/22/id0.eml", messages[bare])
        wanted[damaged] = b"{"
        wanted[other] = replace(Entry.from_bytes(wanted[other]), deliveries=()).to_bytes()
        for key in (damaged, other):
            bucket.objects.put(key, wanted[key])
        taken: dict[str, tuple[bytes, bytes | None]] = {}
        keys = listed(bucket.source, MANIFEST)
        assert keys == list(wanted)
        bucket.source.each_entry(
            [*keys, manifest_key("absent", day)], 1000, lambda *told: taken.update({told[0]: told[1:]})
        )
        assert {key: entry for key, (entry, _) in taken.items()} == wanted
        assert all(body in (None, messages[key]) for key, (_, body) in taken.items())
        if isinstance(bucket.source, S3Source):
            together = {key for key, (_, body) in taken.items() if body is not None}
            assert together == set(keys[3:8])

    @pytest.mark.parametrize("absent", ["processed/2026/11/22/b.eml", "manifest/none"])
    def test_missing_object(self, bucket: Bucket, absent: str) -> None:
        with pytest.raises(ObjectMissing, match=rf"{absent}: there is no such object"):
            b"".join(bucket.source.read(absent))


def test_ranges_of_a_pack(cloud: LocalStackProcess) -> None:
    """What is beyond the end of the object is no outage: then the pack is short."""
    client, name = cloud.client("s3"), f"sync-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    client.put_object(Bucket=name, Key="packs/x", Body=bytes(range(100)))
    packs = S3Packs(name, Aws(REGION))
    for start, end in ((0, 100), (10, 20), (90, 200), (99, 100), (100, 110), (150, 200)):
        assert bytes(packs.read_range("packs/x", start, end)) == bytes(range(100))[start:end]
    with pytest.raises(ObjectMissing, match="packs/y: there is no such object"):
        packs.read_range("packs/y", 0, 10)
    assert [one for page in packs.keys_after("packs/") for one in page] == ["packs/x"]
    with pytest.raises(SourceUnavailable, match="NoSuchBucket"):
        S3Packs("none", Aws(REGION)).read_range("packs/x", 0, 10)


def test_missing_bucket_is_an_outage_and_over_when_it_is_there(cloud: LocalStackProcess) -> None:
    name = f"sync-{uuid.uuid4().hex[:12]}"
    source = S3Source(name, Aws(REGION))
    with pytest.raises(SourceUnavailable, match="NoSuchBucket"):
        listed(source, MANIFEST)
    with pytest.raises(SourceUnavailable, match="NoSuchBucket"):
        list(source.read(key(1)))
    client = cloud.client("s3")
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    assert listed(source, MANIFEST) == []


def test_key_that_the_library_refuses_is_about_that_object_only(cloud: LocalStackProcess) -> None:
    with pytest.raises(ObjectMissing, match="cannot be read"):
        list(S3Source("any", Aws(REGION)).read("processed//a"))


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    source = S3Source("any", Aws(REGION))
    with pytest.raises(SourceUnavailable, match=r"^s3://any: .*check the network"):
        listed(source, MANIFEST)
    with pytest.raises(SourceUnavailable):
        list(source.read(key(1)))
    with pytest.raises(QueueUnavailable, match=r"^queue any: .*check the network"):
        SqsQueue("any", Aws(REGION)).receive()


def test_no_credentials_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(NoCredentials, match="no AWS credentials; set AWS_ACCESS_KEY_ID"):
        S3Source("any", Aws(REGION))


@dataclass
class Letterbox:
    queue: Queue
    send: Any


@pytest.fixture(params=["memory", "localstack"])
def letterbox(request: pytest.FixtureRequest) -> Iterator[Letterbox]:
    if request.param == "memory":
        simulator = QueueSimulator()
        yield Letterbox(simulator, simulator.send)
        return
    cloud: LocalStackProcess = request.getfixturevalue("cloud")
    client, name = cloud.client("sqs"), f"sync-{uuid.uuid4().hex[:12]}"
    url = client.create_queue(QueueName=name)["QueueUrl"]
    yield Letterbox(
        SqsQueue(name, Aws(REGION)), lambda body: client.send_message(QueueUrl=url, MessageBody=body)
    )
    client.delete_queue(QueueUrl=url)


class TestQueue:
    def test_sent_is_received_and_acknowledged_is_gone(self, letterbox: Letterbox) -> None:
        letterbox.queue.connect()
        letterbox.send("one")
        (first,) = letterbox.queue.receive()
        assert (first.body, first.attempt) == ("one", 1)
        letterbox.queue.acknowledge(first)
        letterbox.send("two")
        assert [one.body for one in letterbox.queue.receive()] == ["two"]

    def test_released_is_received_again(self, letterbox: Letterbox) -> None:
        letterbox.send("one")
        (first,) = letterbox.queue.receive()
        letterbox.queue.release(first, 0)
        (second,) = letterbox.queue.receive()
        assert (second.body, second.attempt) == ("one", 2)

    def test_received_is_not_received_at_once_again(self, letterbox: Letterbox) -> None:
        letterbox.send("one")
        assert [one.body for one in letterbox.queue.receive()] == ["one"]
        letterbox.send("two")
        assert [one.body for one in letterbox.queue.receive()] == ["two"]


def test_queue_made_again_is_found_again(cloud: LocalStackProcess) -> None:
    client, name = cloud.client("sqs"), f"sync-{uuid.uuid4().hex[:12]}"
    queue = SqsQueue(name, Aws(REGION))
    with pytest.raises(QueueUnavailable, match=f"queue {name}: "):
        queue.connect()
    url = client.create_queue(QueueName=name)["QueueUrl"]
    client.send_message(QueueUrl=url, MessageBody="one")
    assert [one.body for one in queue.receive()] == ["one"]
    client.delete_queue(QueueUrl=url)
    with pytest.raises(QueueUnavailable):
        queue.receive()
    url = client.create_queue(QueueName=name)["QueueUrl"]
    client.send_message(QueueUrl=url, MessageBody="two")
    assert [one.body for one in queue.receive()] == ["two"]
    client.delete_queue(QueueUrl=url)


def test_manifest_keys_are_keys_that_the_library_takes() -> None:
    assert "//" not in manifest_key("a", moment())
