"""The log with packed days reads as the log did before: all of it, in order, and in few requests."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from tests.log_simulator import DOWN, LogSimulator, QueueSimulator, moment
from tests.packs_simulator import PacksSimulator
from tests.unit.test_sync_service import Syncer
from twinmail.layout import MANIFEST, PACKS, manifest_day
from twinmail.manifest import Entry
from twinmail.sync import pack_catalog, packed_source
from twinmail.sync.bulk import MESSAGE_OCTETS
from twinmail.sync.log import Log
from twinmail.sync.packed_source import PAGE, PackedSource
from twinmail.sync.source import ObjectMissing, SourceUnavailable, read_all

DAY = 86_400.0
OLD = -60 * DAY


@dataclass
class Bucket:
    """A log, its packs, and what a syncer reads of both."""

    log: LogSimulator = field(default_factory=LogSimulator)
    output: io.StringIO = field(default_factory=io.StringIO)

    def __post_init__(self) -> None:
        self.packs = PacksSimulator(self.log)
        self.source = PackedSource(self.log, self.packs, Log(self.output))
        self.bodies: dict[str, bytes] = {}

    def add(self, number: int, seconds: float = OLD, octets: int = 40, **options: Any) -> str:
        body = b"Subject: %d\r\n\r\n" % number + bytes(octets)
        key = self.log.add(f"m{number}", body, moment(seconds + number * 60), **options)
        self.bodies[key] = body
        return key

    def fill(self, count: int, **options: Any) -> list[str]:
        return [self.add(number, **options) for number in range(count)]

    def listed(self, offset: str = MANIFEST) -> list[str]:
        return [key for page in self.source.keys_after(offset) for key in page]

    def read(self, key: str) -> bytes:
        return b"".join(self.source.read(key))

    def caught_up(self) -> tuple[list[str], dict[str, bytes]]:
        """All keys, and the message of each, read as `twinmail.sync.bulk` does."""
        keys, found = [], {}
        for page in self.source.keys_after(MANIFEST):
            assert len(page) <= PAGE
            keys += page
            entries = read_all(self.source, page, MESSAGE_OCTETS)
            named = {key: Entry.from_bytes(data).key for key, data in entries.items()}
            messages = read_all(self.source, [*named.values()], MESSAGE_OCTETS)
            found |= {key: messages[one] for key, one in named.items() if one in messages}
        return keys, found

    def said(self) -> list[str]:
        return [json.loads(line)["error"] for line in self.output.getvalue().splitlines()]


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.mark.parametrize("originals", [True, False])
def test_packed_days_are_read_in_few_requests(bucket: Bucket, originals: bool) -> None:
    """At most 0.05 requests a message; measured without listings of the manifest, 0.001 each."""
    keys = bucket.fill(3000, octets=200)
    bucket.packs.fold_all(each=1000, originals=originals)
    bucket.log.reads.clear()
    assert bucket.caught_up() == (keys, bucket.bodies)
    assert len(bucket.packs.requests) == 7, "a listing, three indexes, three packs"
    assert not bucket.log.reads and not bucket.said()


def test_packs_of_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = Bucket()
    bucket.source = PackedSource(bucket.log, bucket.packs, Log(bucket.output), block=1000)
    keys = bucket.fill(20, octets=300)
    (index,) = bucket.packs.fold_all()
    assert bucket.caught_up() == (keys, bucket.bodies)
    # Entries and messages: each block is read once, as the first is the last of the entries again.
    assert len(bucket.packs.requests) <= 2 + index.size // 1000 + 2


def test_union_of_what_is_listed_and_what_is_packed(bucket: Bucket) -> None:
    """Packs that overlap, entries in two packs, late ones, originals that are there and that are gone."""
    keys = bucket.fill(60)
    bucket.packs.fold(keys[0:30:2], originals=True)
    bucket.packs.fold(keys[10:40:5], originals=True)
    bucket.packs.fold(keys[1:50:7])
    recent = bucket.add(1000, seconds=-70_000)
    assert bucket.listed() == [*keys, recent]
    for number in (0, 17, 59):
        assert bucket.listed(keys[number]) == [*keys[number + 1 :], recent]
    assert bucket.caught_up() == ([*keys, recent], bucket.bodies)


def test_marks_save_reading_what_is_older(bucket: Bucket) -> None:
    keys = [*bucket.fill(5), *(bucket.add(number, seconds=-20 * DAY) for number in (5, 6))]
    first, _ = bucket.packs.fold(keys[:5]), bucket.packs.fold(keys[5:])
    last = first.last[len(MANIFEST) :][:10].replace("/", "")
    bucket.log.put(f"{first.key.removesuffix('pack')}tagged-{last}", b"")
    assert bucket.listed(manifest_day(moment(-30 * DAY).date())) == keys[5:]
    assert first.index_key not in bucket.packs.requests


def test_usual_listing_asks_for_no_pack(bucket: Bucket) -> None:
    bucket.fill(5)
    bucket.packs.fold_all()
    new = bucket.add(1, seconds=-3600)
    assert bucket.listed(manifest_day(moment(-DAY).date())) == [new]
    assert b"".join(bucket.source.read(new)) and not bucket.packs.requests


def test_nothing_is_held_when_everybody_has_read(bucket: Bucket) -> None:
    keys = bucket.fill(5)
    bucket.packs.fold_all()
    pages = bucket.source.keys_after(MANIFEST)
    next(pages)
    other = bucket.source.keys_after(MANIFEST)
    next(other)
    list(pages)
    assert bucket.read(keys[0]) and bucket.source._blocks
    other.close()  # type: ignore[attr-defined]
    assert not bucket.source._blocks and bucket.source._catalog.find(keys[0]) is None


def test_indexes_held_are_bounded(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.source._catalog = pack_catalog.Catalog(bucket.packs, Log(bucket.output), held=10)
    keys = bucket.fill(100)
    bucket.packs.fold_all(each=5)
    for page in bucket.source.keys_after(MANIFEST):
        assert len(page) == 100 and len(bucket.source._catalog._held) <= 2
        # What no index held knows is found all the same.
        assert [bucket.read(key) != b"" for key in page] == [True] * len(keys)


@pytest.mark.parametrize("octets", [10, packed_source.SMALL + 1])
def test_single_read_finds_what_is_only_packed(bucket: Bucket, octets: int) -> None:
    key = bucket.add(1, octets=octets)
    name = Entry.from_bytes(bucket.log.objects[key]).key
    bucket.packs.fold([key])
    assert Entry.from_bytes(bucket.read(key)).key == name
    assert bucket.read(name) == bucket.bodies[key]
    assert bucket.packs.requests.count(PACKS) == 1, "the index of the entry knows its message"


def test_message_is_found_without_its_entry(bucket: Bucket) -> None:
    """Lifecycle rules end entries and messages each at its time."""
    keys = bucket.fill(30)
    name = Entry.from_bytes(bucket.log.objects[keys[-1]]).key
    bucket.packs.fold_all(each=10)
    assert bucket.read(name) == bucket.bodies[keys[-1]]


def test_what_is_nowhere_is_not_sought_again_at_once(bucket: Bucket) -> None:
    bucket.fill(5)
    bucket.packs.fold_all()
    gone = bucket.add(50)
    young = bucket.add(51, seconds=-7200)
    for key in (gone, gone, young, "manifest/odd", "state/x"):
        bucket.log.objects.pop(key, None)
        with pytest.raises(ObjectMissing):
            bucket.read(key)
    assert bucket.packs.requests.count(PACKS) == 1


def absent(bucket: Bucket, pack: str, key: str) -> None:
    del bucket.log.objects[pack]


def short(bucket: Bucket, pack: str, key: str) -> None:
    bucket.log.objects[pack] = bucket.log.objects[pack][: len(bucket.log.objects[pack]) // 2]


def other(bucket: Bucket, pack: str, key: str) -> None:
    bucket.log.objects[pack] = bytes(len(bucket.log.objects[pack]))


def index_damaged(bucket: Bucket, pack: str, key: str) -> None:
    bucket.log.objects[f"{pack.removesuffix('pack')}json"] = b'{"version": 1}'


@pytest.mark.parametrize("octets", [40, packed_source.SMALL + 1])
@pytest.mark.parametrize("harm", [absent, short, other, index_damaged])
def test_what_is_wrong_with_a_pack_is_read_from_the_originals_and_said_once(
    tmp_path: Path, harm: Any, octets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinmail.sync.retries.pause", lambda attempts, base, cap: 0.02)
    bucket = Bucket()
    keys = bucket.fill(3 if octets > 40 else 80, octets=octets)
    (index,) = bucket.packs.fold_all(originals=True)
    harm(bucket, index.key, keys[0])
    assert_arrives(tmp_path, bucket)
    assert len(bucket.said()) == 1 and index.key.removesuffix("pack") in bucket.said()[0]
    assert bucket.packs.requests.count(index.key) <= 8, "not for each message"


def assert_arrives(root: Path, bucket: Bucket) -> None:
    syncer = Syncer(root, cast(Any, bucket.source), QueueSimulator())
    try:
        syncer.start(push=False).wait(len(bucket.bodies))
        assert sorted(one.read_bytes() for one in syncer.files()) == sorted(bucket.bodies.values())
    finally:
        syncer.stop()


def test_everything_arrives_from_packs_alone(tmp_path: Path) -> None:
    """Plain ones in batches, the others one by one: large, for several mailboxes, or few."""
    bucket = Bucket()
    bucket.fill(150)
    bucket.add(200, mailboxes=("ann", "bob"))
    bucket.add(201, octets=packed_source.SMALL * 2)
    bucket.add(202, seconds=-3600)
    old = sorted(key for key in bucket.log.objects if key.startswith(MANIFEST))[:-1]
    bucket.packs.fold(old)
    assert_arrives(tmp_path, bucket)
    assert not bucket.said()
    # What is large passes alone.
    assert len(bucket.packs.requests) <= 0.05 * 150


def test_damaged_member_without_its_original_is_missed_and_the_others_are_not(bucket: Bucket) -> None:
    keys = bucket.fill(10)
    (index,) = bucket.packs.fold_all()
    octets = bytearray(bucket.log.objects[index.key])
    octets[-1] ^= 1
    bucket.log.objects[index.key] = bytes(octets)
    assert bucket.caught_up() == (keys, {key: bucket.bodies[key] for key in keys[:-1]})
    with pytest.raises(ObjectMissing, match="there is no such object"):
        bucket.read(index.entries[-1].message.key)
    assert len(bucket.said()) == 1


@pytest.fixture
def refused(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """Packs may not be listed, as with a stack that is older than its servers."""

    def keys_after(offset: str) -> Iterator[list[str]]:
        raise SourceUnavailable("access denied")

    monkeypatch.setattr(bucket.packs, "keys_after", keys_after)
    yield bucket


def test_packs_that_may_not_be_listed(refused: Bucket) -> None:
    """What can only be packed must not be passed over; the daily audit needs no packs."""
    new = refused.add(1, seconds=-3 * DAY)
    assert refused.listed(manifest_day(moment(-15 * DAY).date())) == [new]
    assert refused.listed(manifest_day(moment(-15 * DAY).date())) == [new]
    assert refused.said() == ["access denied"]
    with pytest.raises(SourceUnavailable, match="access denied"):
        refused.listed()


def test_outage_is_no_damage(bucket: Bucket) -> None:
    keys = bucket.fill(5)
    bucket.packs.fold_all()
    pages = bucket.source.keys_after(MANIFEST)
    next(pages)
    bucket.log.fault = DOWN
    with pytest.raises(SourceUnavailable):
        read_all(bucket.source, keys, MESSAGE_OCTETS)
    with pytest.raises(SourceUnavailable):
        bucket.read(keys[0])
    bucket.log.fault = None
    assert bucket.read(keys[0]) and not bucket.said()
