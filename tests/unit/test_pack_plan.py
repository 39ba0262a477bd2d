"""Which entries make which pack, whatever came when: properties, and the sizes that the pages promise."""

from datetime import UTC, date, datetime, timedelta
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pack_examples import pack
from twinmail.layout import ManifestKey, PackKey, manifest_key, processed_key
from twinmail.manifest import Entry
from twinmail.packs import plan as module
from twinmail.packs.pack_index import PackIndex
from twinmail.packs.plan import LEAST, MOST, Candidate, Planned, plan
from twinmail.packs.unpacked import Listed, unpacked

START = datetime(2026, 6, 1, tzinfo=UTC)
TODAY = date(2026, 11, 23)
MB = 1 << 20


def candidate(number: int, hours: float, size: int, late: int = 0, message: int | None = None) -> Candidate:
    """One whose message has *size* octets, committed *hours* after the start and written *late* days later."""
    at = START + timedelta(hours=hours, microseconds=number)
    key = manifest_key(f"id{number}", at)
    of = number if message is None else message
    written = (at + timedelta(days=late)).date()
    return Candidate(key, b"x" * 400, written, processed_key(f"id{of}", START), size, "0" * 64)


def planned(waiting: list[Candidate], today: date = TODAY, wait_days: int = 92) -> list[Planned]:
    return list(plan(iter(sorted(waiting, key=lambda one: one.key)), today, wait_days))


candidates = st.lists(
    st.tuples(
        st.floats(0, 4300),
        st.sampled_from([1000, MB, 5 * MB, 9 * MB, 30 * MB, 60 * MB, 90 * MB]) | st.integers(0, 2 * MB),
        st.integers(0, 3),
    ),
    max_size=60,
).map(lambda rows: [candidate(number, *row) for number, row in enumerate(rows)])


@settings(max_examples=200)
@given(candidates, st.integers(1, 200))
def test_every_entry_of_a_past_day_is_planned_once_and_packs_have_their_size(
    waiting: list[Candidate], wait_days: int
) -> None:
    found = planned(waiting, wait_days=wait_days)
    keys = [one.key for each in found for one in each.entries]
    assert sorted(keys) == sorted(one.key for one in waiting if one.day < TODAY)
    for each in found:
        assert [one.key for one in each.entries] == sorted(one.key for one in each.entries)
        assert each.octets <= MOST or len(each.entries) == 1
        oldest = min(one.written for one in each.entries)
        assert each.due == (each.octets >= LEAST or TODAY - oldest >= timedelta(days=wait_days))
    assert all(each.octets >= LEAST for each in found[:-1]), "only what is left over is small"


@settings(max_examples=100)
@given(candidates, st.lists(st.integers(1, 170), max_size=4).map(sorted))
def test_turn_after_turn_nothing_is_packed_twice_or_waits_too_long(
    waiting: list[Candidate], days: list[int]
) -> None:
    packed: dict[str, date] = {}
    for today in [START.date() + timedelta(days=one) for one in days] + [TODAY]:
        log = [one for one in waiting if one.key not in packed and one.written <= today]
        for each in planned(log, today):
            if each.due:
                assert not packed.keys() & {one.key for one in each.entries}
                packed |= {one.key: today for one in each.entries}
    for one in waiting:
        assert one.key in packed or TODAY - one.written < timedelta(days=92)


def test_small_site_packs_weeks_together_and_a_large_day_is_split() -> None:
    small = [candidate(number, 6 * number, 100_000) for number in range(400)]
    found = planned(small)
    assert [each.due for each in found] == [True] * 4 + [False]
    assert {len({one.day for one in each.entries}) for each in found[:-1]} == {21}
    large = [candidate(number, number / 1000, MB) for number in range(200)]
    assert [len(each.entries) for each in planned(large)] == [63, 63, 63, 11]


def test_pack_ends_with_a_day_when_it_is_large_enough() -> None:
    found = planned([candidate(number, number, MB) for number in range(48)])
    assert [len(each.entries) for each in found] == [24, 24]


def test_large_message_is_alone_and_keeps_nothing_waiting() -> None:
    found = planned(
        [candidate(0, 0, MB), candidate(1, 1, 90 * MB), candidate(2, 2, 63 * MB), candidate(3, 3, MB)]
    )
    assert [[one.size // MB for one in each.entries] for each in found] == [[90], [63], [1, 1]]
    assert [each.due for each in found] == [True, True, True]
    assert not planned([candidate(0, 4000, MB), candidate(1, 4001, 90 * MB)])[-1].due


def test_late_entry_goes_with_the_next_pack_and_not_alone() -> None:
    late = candidate(0, 0, 1000, late=170)
    assert [each.due for each in planned([late])] == [False]
    found = planned([late, *(candidate(number, 4000 + number, MB) for number in range(1, 20))])
    assert [(len(each.entries), each.due) for each in found] == [(20, True)]
    assert planned([late], today=TODAY + timedelta(days=92))[0].due


def test_message_that_two_entries_name_counts_once() -> None:
    (only,) = planned([candidate(0, 0, 5 * MB), candidate(1, 1, 5 * MB, message=0)])
    assert only.octets == 5 * MB + 800


def test_pack_has_so_many_entries_at_most() -> None:
    with patch.object(module, "ENTRIES", 10):
        assert [len(each.entries) for each in planned([candidate(n, n, 1) for n in range(25)])] == [10, 10, 5]


def index(keys: list[str]) -> PackIndex:
    entries, body = {}, b"body"
    for key in keys:
        ses_id = ManifestKey.parse(key).ses_id
        entries[key] = Entry(ses_id, "processed/i.eml", 4, "0" * 64, START, "", (), ()).to_bytes()
    return pack(entries, {"processed/i.eml": body})[0]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 5)), max_size=40), st.integers(1, 5))
def test_unpacked_is_what_no_index_has(rows: list[tuple[int, int]], count: int) -> None:
    """Packs may overlap, hold an entry twice, and hold what is not listed any more."""
    keys = [candidate(number, hours, 1).key for number, (hours, _) in enumerate(rows)]
    packs = [
        index(sorted(key for key, (_, pack) in zip(keys, rows, strict=True) if pack in (number, 0)))
        for number in range(1, count + 1)
        if any(pack in (number, 0) for _, pack in rows)
    ]
    named = {PackKey.parse(one.key): one for one in packs}
    listed = [Listed(key, TODAY) for key in [*sorted(keys), "manifest/folder/"]][len(keys) // 4 :]
    read: list[PackKey] = []

    def get(key: PackKey) -> PackIndex | None:
        read.append(key)
        return named[key]

    found = [one.key for one in unpacked(listed, named, get)]
    packed = {entry.key for one in packs for entry in one.entries}
    assert found == [one.key for one in listed if one.key not in packed and not one.key.endswith("/")]
    assert len(read) == len(set(read))


def test_index_that_cannot_be_read_counts_for_nothing() -> None:
    one = index([candidate(0, 0, 1).key])
    assert list(unpacked([Listed(one.first, TODAY)], [PackKey.parse(one.key)], lambda key: None))


@pytest.mark.parametrize("cut", [0, 1, 700])
def test_differences_are_found_whatever_the_pieces(cut: int) -> None:
    entries, messages = {}, {}
    for number, body in enumerate((b"", b"second" * 100, b"third")):
        at, key = START + timedelta(hours=number), f"processed/{number}.eml"
        messages[key] = body
        entries[manifest_key(f"id{number}", at)] = Entry(
            f"id{number}", key, len(body), "0" * 64, at, "", (), ()
        ).to_bytes()
    one, data = pack(entries, messages)
    pieces = [data[:cut], b"", data[cut:]]
    assert list(one.differences(pieces)) == []
    damaged = bytearray(data)
    damaged[one.entries[1].message.at + 3] ^= 1
    found = list(one.differences([bytes(damaged[:cut]), bytes(damaged[cut:])]))
    assert [text.partition(":")[0] for text in found] == ["processed/1.eml", one.key]
    assert "octets, got" in list(one.differences([data[:-1]]))[-1]
    assert "octets, got" in list(one.differences([data, b"x"]))[-1]
    assert "octets, got" in list(one.differences([]))[-1]
