"""What the compactor must come to, whatever dies or runs beside it: one contract, for moto and for LocalStack."""

import hashlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import pytest

from tests.log_contract import Crash, Store
from twinmail import layout
from twinmail.config import Config
from twinmail.layout import manifest_key, processed_key
from twinmail.manifest import Delivery, Entry
from twinmail.packs import compactor, originals, plan
from twinmail.packs.compactor import METRIC, Compactor, Done
from twinmail.packs.pack_index import PackIndex
from twinmail.production import Packs
from twinmail.reconciler.turn import METRIC as FINDINGS

NOW = datetime.now(UTC)
# A turn on the first of a month looks at everything; these look at what is young.
TURN = NOW if NOW.day > 1 else NOW + timedelta(days=1)
FIRST = (TURN + timedelta(days=31)).replace(day=1)
SOON = TURN + timedelta(days=20)
"""Of a turn in which what was written now does not wait any more with ``wait_days=1``."""
START = TURN.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=15)
"""What the tests write begins here, and ends before the turn."""

MUTATIONS = ("put_object", "put_object_tagging")


@dataclass
class Dying:
    """A client that dies before, or after, its call of a number that changes something."""

    client: Any
    number: int
    after: bool
    calls: list[str] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)
        if name not in MUTATIONS:
            return method

        def call(**options: Any) -> Any:
            with self.lock:
                self.calls.append(name)
                count = len(self.calls)
            if count >= self.number and not self.after:
                raise Crash(name)
            answer = method(**options)
            if count >= self.number:
                raise Crash(name)
            return answer

        return call


@dataclass
class Log:
    """A log of small messages, and turns of the compactor, for which a kilobyte is what else is a megabyte."""

    store: Store
    lines: list[dict[str, Any]] = field(default_factory=list)
    bodies: dict[str, bytes] = field(default_factory=dict)
    count: int = 0

    @property
    def config(self) -> Config:
        return self.store.config

    def add(self, hours: float, octets: int = 500, folder: str = "processed/", **changes: Any) -> Entry:
        """A message that was committed *hours* after the start."""
        self.count += 1
        at, ses_id = START + timedelta(hours=hours), f"pack{self.count}"
        body = (f"Subject: {self.count}\r\n\r\n" + "x" * octets).encode()
        key = processed_key(ses_id, at).replace("processed/", folder)
        entry = Entry(
            ses_id, key, len(body), hashlib.sha256(body).hexdigest(), at, "", ("a@b.c",), (Delivery("ann"),)
        )
        entry = replace(entry, **changes)
        name = manifest_key(ses_id, at)
        self.put(entry.key, body)
        self.put(name, entry.to_bytes())
        self.bodies |= {name: entry.to_bytes(), entry.key: body}
        return entry

    def put(self, key: str, body: bytes) -> None:
        self.store.s3.put_object(Bucket=self.config.bucket, Key=key, Body=body)

    def delete(self, key: str) -> None:
        self.store.s3.delete_object(Bucket=self.config.bucket, Key=key)

    def turn(self, s3: Any = None, at: datetime = TURN, wait_days: int = 92, **options: Any) -> Done:
        config = replace(self.config, packs=Packs(wait_days=wait_days))
        return Compactor(
            config, s3 or self.store.s3, at, write=lambda line: self.lines.append(json.loads(line)), **options
        ).run()

    def indexes(self) -> list[PackIndex]:
        keys = [one for one in self.store.keys(layout.PACKS) if one.endswith(".json")]
        return [PackIndex.from_bytes(self.store.body(one)) for one in keys if one != layout.PACKS_CURSOR]

    def packed(self) -> dict[str, bytes]:
        """Entries and messages by their key, as a reader gets them out of the packs; each is whole."""
        found = {}
        for index in self.indexes():
            data = self.store.body(index.key)
            assert hashlib.sha256(data).hexdigest() == index.sha256 and list(index.differences([data])) == []
            for one in (*(one.entry for one in index.entries), *index.messages()):
                found[one.key] = data[one.at : one.end]
        return found

    def tagged(self) -> set[str]:
        get = self.store.s3.get_object_tagging
        keys = [
            *self.store.keys("manifest/"),
            *self.store.keys("processed/"),
            *self.store.keys("quarantine/"),
        ]
        return {
            one
            for one in keys
            if get(Bucket=self.config.bucket, Key=one)["TagSet"] == originals.TAG["TagSet"]
        }

    def assert_packed(self, bodies: dict[str, bytes] | None = None) -> None:
        """All of *bodies* is in packs and tagged, and everything is still where it was."""
        expected = self.bodies if bodies is None else bodies
        assert self.packed() == expected
        assert self.tagged() == set(expected)
        for key, body in self.bodies.items():
            assert self.store.body(key) == body


@contextmanager
def empty_log(store: Store) -> Iterator[Log]:
    """The log of *store*, empty before the block and after it."""

    def clear() -> None:
        for prefix in ("processed/", "quarantine/", "manifest/", layout.PACKS):
            for key in store.keys(prefix):
                store.s3.delete_object(Bucket=store.config.bucket, Key=key)

    clear()
    yield Log(store)
    clear()


class CompactorContract:
    """Subclasses provide the fixture ``store``."""

    @pytest.fixture(autouse=True)
    def sizes(self) -> Iterator[None]:
        with patch.object(plan, "LEAST", 8 << 10), patch.object(plan, "MOST", 64 << 10):
            yield

    @pytest.fixture
    def log(self, store: Store) -> Iterator[Log]:
        with empty_log(store) as log:
            yield log

    def test_past_days_are_packed_and_tagged_and_stay(self, log: Log) -> None:
        for number in range(12):
            log.add(6 * number, folder="quarantine/" if number == 3 else "processed/")
        log.add(80, octets=9 << 10)
        before = log.store.keys("")
        done = log.turn()
        assert (done.entries, done.waiting, done.tagged, done.broken, done.whole) == (13, 0, 26, [], True)
        assert done.packs == len(log.indexes()) == 2
        assert done.octets == sum(one.size for one in log.indexes())
        log.assert_packed()
        assert set(before) <= set(log.store.keys(""))
        (said,) = [one for one in log.lines if METRIC in one]
        assert said[METRIC] == 13 and said["waiting"] == 0 and said["broken"] == 0
        assert not [one for one in log.lines if FINDINGS in one]

    def test_next_turn_writes_nothing_but_the_cursor(self, log: Log) -> None:
        for number in range(12):
            log.add(number, octets=1000)
        log.turn()
        client = Dying(log.store.s3, 2, after=True)
        done = log.turn(client)
        assert (done.packs, done.tagged, client.calls) == (0, 0, ["put_object"])

    def test_today_and_what_does_not_fill_a_pack_wait(self, log: Log) -> None:
        now = datetime.now(UTC)
        # It came into the log now, whatever its name says.
        log.add(-24 * 100)
        log.add((now - START).total_seconds() / 3600, octets=5000)
        assert log.turn(at=now).waiting == 1
        assert log.turn(at=now + timedelta(days=91)).waiting == 2
        assert log.indexes() == [] and log.tagged() == set()
        assert log.turn(at=now + timedelta(days=92)).entries == 2
        log.assert_packed()

    def test_late_entry_of_a_packed_day_goes_into_a_later_pack(self, log: Log) -> None:
        for number in range(12):
            log.add(number, octets=1000)
        log.turn()
        late = log.add(3.5)
        assert log.turn().waiting == 1
        for number in range(12):
            log.add(48 + number, octets=1000)
        assert log.turn(at=TURN + timedelta(days=1)).entries == 13
        assert any(len(one.entries) == 13 and one.entries[0].message.key == late.key for one in log.indexes())
        log.assert_packed()

    def test_late_entry_before_the_cursor_is_found_on_the_first_of_a_month(self, log: Log) -> None:
        for number in range(12):
            log.add(number, octets=1000)
        log.turn()
        late = log.add(-24 * 40, octets=9 << 10)
        assert log.turn().packs == 0
        assert log.turn(at=FIRST).packs == 1
        assert late.key in log.packed()

    def test_large_messages_are_streamed(self, log: Log) -> None:
        log.add(0, octets=3 << 20)
        log.add(1)
        log.add(2, octets=(2 << 20) + 7)
        assert log.turn(at=SOON, wait_days=1).packs == 3
        log.assert_packed()

    def test_two_entries_of_one_message_share_it(self, log: Log) -> None:
        first = log.add(0, octets=9 << 10)
        name = manifest_key(first.ses_id, START + timedelta(hours=5))
        log.put(name, first.to_bytes())
        log.bodies[name] = first.to_bytes()
        log.turn()
        (index,) = log.indexes()
        assert len(index.entries) == 2 and len(index.messages()) == 1
        log.assert_packed()

    @pytest.mark.parametrize("after", [False, True])
    def test_crash_at_every_effect(self, log: Log, after: bool) -> None:
        """Whatever dies when: what has an index is whole, what is tagged has an index; the next turn ends it."""
        for number in range(4):
            log.add(24 * number, octets=5000)
        everything = dict(log.bodies)
        number = 0
        crashed = set()
        while True:
            number += 1
            for key in log.store.keys(layout.PACKS):
                log.delete(key)
            for key in log.tagged():
                log.store.s3.delete_object_tagging(Bucket=log.config.bucket, Key=key)
            client = Dying(log.store.s3, number, after)
            try:
                log.turn(client)
            except Crash:
                crashed.add(client.calls[number - 1])
            else:
                break
            packed, tagged = log.packed(), log.tagged()
            assert tagged <= set(packed)
            assert packed.items() <= everything.items()
            log.turn()
            log.assert_packed()
        assert crashed == set(MUTATIONS) and number > 10

    def test_pack_without_an_index_counts_for_nothing(self, log: Log) -> None:
        for number in range(4):
            log.add(number, octets=3000)
        with pytest.raises(Crash):
            log.turn(Dying(log.store.s3, 1, after=True))
        (key,) = log.store.keys(layout.PACKS)
        log.put(key, b"cut off")
        log.turn()
        log.assert_packed()

    def test_pack_that_is_not_stored_as_it_was_written_gets_no_index(self, log: Log) -> None:
        for number in range(4):
            log.add(number, octets=3000)

        class Lying(Dying):
            def __getattr__(self, name: str) -> Any:
                def put(**options: Any) -> Any:
                    if options["Key"].endswith(".pack"):
                        body = bytearray(options["Body"].read())
                        body[5000] ^= 1
                        options["Body"] = bytes(body)
                    return self.client.put_object(**options)

                return put if name == "put_object" else getattr(self.client, name)

        done = log.turn(Lying(log.store.s3, 0, after=False))
        assert "read back" in done.broken[0] and "expected sha256" in done.broken[0]
        assert log.indexes() == [] and log.tagged() == set() and done.packs == 0
        log.turn()
        log.assert_packed()

    def test_missing_or_damaged_message_is_left_out_and_reported(self, log: Log) -> None:
        kept = [log.add(number, octets=3000) for number in range(4)]
        missing, damaged, cut = (log.add(number, octets=3000) for number in (10, 11, 12))
        large = log.add(13, octets=2 << 20)
        log.delete(missing.key)
        log.put(damaged.key, b"y" * damaged.size)
        log.put(cut.key, b"y")
        log.put(large.key, b"y" * (large.size + 5))
        day = layout.manifest_day(START.date())
        log.put(f"{day}120000.000000Z-noentry.json", b"{")
        log.put(day, b"")
        log.put(f"{day}130000.000000Z-another.json", log.add(20).to_bytes())
        for number in range(4):
            kept.append(log.add(100 + number, octets=3000))
        done = log.turn(at=SOON, wait_days=1)
        assert len(done.broken) == 6
        for text in (missing.key, damaged.key, cut.key, large.key, "noentry.json: manifest", "ses_id"):
            assert any(text in one for one in done.broken), text
        packed = log.packed()
        assert {one.key for one in kept} < set(packed)
        assert not {missing.key, damaged.key, cut.key, large.key} & set(packed)
        assert log.tagged() == set(packed)
        (finding,) = [one for one in log.lines if FINDINGS in one]
        assert finding[FINDINGS] == 6
        # What was mended is packed.
        log.put(damaged.key, log.bodies[damaged.key])
        log.turn(at=FIRST, wait_days=1)
        assert log.packed()[damaged.key] == log.bodies[damaged.key]

    def test_damaged_index_counts_for_nothing_and_blocks_nothing(self, log: Log) -> None:
        for number in range(4):
            log.add(number, octets=3000)
        log.turn()
        (index,) = log.indexes()
        log.put(index.index_key, b"{}")
        for number in range(4):
            log.add(48 + number, octets=3000)
        done = log.turn(at=FIRST)
        assert done.packs == 1 and any(index.index_key in one for one in done.broken)

    def test_originals_of_a_pack_that_is_gone_are_not_tagged(self, log: Log) -> None:
        for number in range(4):
            log.add(number, octets=3000)
        with pytest.raises(Crash):
            log.turn(Dying(log.store.s3, 2, after=True))
        (index,) = log.indexes()
        log.delete(index.key)
        done = log.turn()
        assert index.key in done.broken[0] and log.tagged() == set()

    def test_originals_that_the_lifecycle_rule_took_are_no_finding(self, log: Log) -> None:
        for number in range(12):
            log.add(number, octets=1000)
        with pytest.raises(Crash):
            log.turn(Dying(log.store.s3, 5, after=True))
        for key in list(log.bodies)[:6]:
            log.delete(key)
        done = log.turn(at=FIRST)
        assert (done.broken, done.packs, done.tagged) == ([], 0, 18)
        assert log.packed() == log.bodies

    def test_two_compactors_and_a_writer_at_once(self, log: Log) -> None:
        for number in range(30):
            log.add(2 * number, octets=2000)
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set() and log.count < 60:
                log.add(2 * log.count % 59 + 0.5, octets=2000)

        with ThreadPoolExecutor(3) as pool:
            writer = pool.submit(write)
            turns = [pool.submit(log.turn) for _ in range(2)]
            for one in turns:
                assert one.result().broken == []
            stop.set()
            writer.result()
        log.turn(at=FIRST, wait_days=1)
        log.assert_packed()

    def test_turn_that_has_no_time_left_goes_on_in_the_next(self, log: Log) -> None:
        for number in range(30):
            log.add(number, octets=3000)
        turns = 0
        while True:
            left = iter(range(70))
            done = log.turn(in_time=lambda left=left: next(left, None) is not None)
            turns += 1
            assert turns < 10
            if done.whole:
                break
        assert turns > 1
        log.turn(at=FIRST, wait_days=1)
        log.assert_packed()

    def test_dry_run_only_says_what_would_be(self, log: Log) -> None:
        for number in range(12):
            log.add(24 * number, octets=3000)
        before = log.store.keys("")
        said = log.turn(dry=True)
        assert log.store.keys("") == before and log.tagged() == set()
        done = log.turn()
        assert (said.packs, said.entries, said.octets) == (done.packs, done.entries, done.octets)

    def test_schedule_starts_a_turn_unless_packs_are_off(self, log: Log) -> None:
        for number in range(4):
            log.add(number, octets=3000)
        event = {"source": "aws.events", "detail-type": "Scheduled Event", "time": TURN.isoformat()}
        off = replace(log.config, packs=Packs(enabled=False))
        assert compactor.start(event, lambda: 900_000, off, log.store.s3, lambda line: None) is None
        late = compactor.start(event, lambda: 1000, log.config, log.store.s3, lambda line: None)
        assert late is not None and not late.whole
        done = compactor.start(event, lambda: 900_000, log.config, log.store.s3, lambda line: None)
        assert done is not None and done.packs == 1
        log.assert_packed()
