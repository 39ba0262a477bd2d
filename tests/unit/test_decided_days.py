"""Decisions about old mail are found with few listings, wherever they are."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from tests.log_simulator import StateSimulator
from twinmail.filter.decision import decision_key
from twinmail.sync.decided_days import DecidedDays

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


class Store(StateSimulator):
    """Counts listings."""

    listings = 0

    def keys(self, prefix: str, after: str = "") -> Iterator[str]:
        self.listings += 1
        yield from super().keys(prefix, after)


class Clock:
    """Seconds that stand still until they are told to go."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def days_ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def test_days_without_decisions_take_one_listing() -> None:
    store = Store()
    days = DecidedDays(store, Clock(), lambda: NOW)
    assert not any(days.has(f"m{one}", days_ago(one), "ann") for one in range(300, 0, -1))
    assert store.listings == 1


def test_what_was_decided_is_found_between_days_without() -> None:
    store = Store()
    decided = {f"m{one}": days_ago(one) for one in (250, 100, 99, 1)}
    for ses_id, arrived in decided.items():
        store.create(decision_key(ses_id, arrived, "ann"), b"")
    store.create("state/decisions/odd", b"")
    days = DecidedDays(store, Clock(), lambda: NOW)
    asked = {f"m{one}": days_ago(one) for one in range(300, 0, -1)}
    assert {one for one, arrived in asked.items() if days.has(one, arrived, "ann")} == decided.keys()
    assert not days.has("m99", days_ago(99), "bob")
    assert store.listings <= 12


def test_a_decision_that_is_made_later_is_found_within_a_minute() -> None:
    store, clock = Store(), Clock()
    days = DecidedDays(store, clock, lambda: NOW)
    assert not days.has("m9", days_ago(9), "ann") and not days.has("m8", days_ago(8), "ann")
    store.create(decision_key("m8", days_ago(8), "ann"), b"")
    clock.seconds = 61.0
    assert days.has("m8", days_ago(8), "ann")
