"""Where a listing starts, and how far it moves the cursor."""

from datetime import UTC, datetime, timedelta

import pytest

from twinmail.layout import MANIFEST, manifest_key
from twinmail.sync.cursor import AUDIT_DAYS, advance, audit_after, start_after

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


def key(minutes: float, ses_id: str = "a") -> str:
    return manifest_key(ses_id, NOW + timedelta(minutes=minutes))


def test_without_a_cursor_everything_is_listed() -> None:
    assert start_after(None, NOW) == MANIFEST


def test_listing_starts_an_overlap_before_the_cursor() -> None:
    start = start_after(key(-60), NOW)
    assert key(-75.001) < start < key(-75) < key(-60)


def test_overlap_reaches_over_midnight() -> None:
    midnight = datetime(2026, 11, 22, 0, 5, tzinfo=UTC)
    start = start_after(manifest_key("a", midnight), NOW)
    assert start == "manifest/2026/11/21/235000.000000"


def test_cursor_of_a_clock_that_was_ahead_counts_as_now() -> None:
    assert start_after(key(60 * 24 * 365), NOW) == start_after(key(0), NOW)


@pytest.mark.parametrize("cursor", ["manifest/0001/01/01/000000.000000Z-a.json", "junk", ""])
def test_cursor_that_cannot_be_reckoned_with_lists_everything(cursor: str) -> None:
    assert start_after(cursor, NOW) == MANIFEST


def test_cursor_stops_before_an_unfinished_entry() -> None:
    listed = [key(1), key(2), key(3)]
    assert advance(None, listed, set()) == key(3)
    assert advance(None, listed, {key(2)}) == key(1)
    assert advance(None, listed, {key(1)}) is None


def test_cursor_never_goes_back() -> None:
    assert advance(key(5), [key(1)], set()) == key(5)
    assert advance(key(5), [], set()) == key(5)


def test_odd_keys_do_not_move_the_cursor() -> None:
    assert advance(key(1), [key(1), "manifest/zzz"], set()) == key(1)


def test_audit_covers_whole_days() -> None:
    start = audit_after(NOW)
    assert start == "manifest/2026/11/07/"
    assert AUDIT_DAYS == 16
    assert manifest_key("a", datetime(2026, 11, 7, tzinfo=UTC)) > start
