"""Any interleaving of late entries is delivered exactly once."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from twinmail.layout import manifest_key
from twinmail.sync.cursor import AUDIT_DAYS, OVERLAP, advance, audit_after, start_after

START = datetime(2026, 11, 22, 12, tzinfo=UTC)
minutes = st.floats(0, 10_000, allow_nan=False).map(lambda value: timedelta(minutes=value))


class Syncer:
    """The listing of the syncer over a log that is a mapping from key to the time it became visible."""

    def __init__(self) -> None:
        self.cursor: str | None = None
        self.ledger: set[str] = set()
        self.delivered: list[str] = []

    def list(
        self, log: dict[str, datetime], now: datetime, failing: set[str], after: str | None = None
    ) -> None:
        start = start_after(self.cursor, now) if after is None else after
        listed = sorted(key for key, visible in log.items() if visible <= now and key > start)
        for key in listed:
            if key not in self.ledger and key not in failing:
                self.delivered.append(key)
                self.ledger.add(key)
        if after is None:
            self.cursor = advance(self.cursor, listed, {key for key in listed if key not in self.ledger})


def log_of(entries: list[tuple[timedelta, timedelta]]) -> dict[str, datetime]:
    """Committed and late by so much, after `START`."""
    return {
        manifest_key(f"m{number}", START + committed): START + committed + late
        for number, (committed, late) in enumerate(entries)
    }


@given(
    st.lists(st.tuples(minutes, st.floats(0, 1).map(lambda part: OVERLAP * part)), max_size=30),
    st.lists(minutes, max_size=15),
)
def test_entries_late_by_less_than_the_overlap(
    entries: list[tuple[timedelta, timedelta]], listings: list[timedelta]
) -> None:
    log, syncer = log_of(entries), Syncer()
    for at in sorted(listings):
        syncer.list(log, START + at, set())
    syncer.list(log, START + timedelta(days=30), set())
    assert sorted(syncer.delivered) == sorted(log)


@given(
    st.lists(st.tuples(minutes, st.floats(0, 1).map(lambda part: OVERLAP * part)), max_size=20),
    st.lists(st.tuples(minutes, st.sets(st.integers(0, 19))), max_size=15),
    st.lists(st.integers(0, 19), max_size=20),
)
def test_entries_that_fail_for_a_while_and_entries_that_push_brings_first(
    entries: list[tuple[timedelta, timedelta]],
    listings: list[tuple[timedelta, set[int]]],
    pushed: list[int],
) -> None:
    log, syncer = log_of(entries), Syncer()
    keys = sorted(log)
    for at, failing in sorted(listings, key=lambda one: one[0]):
        now = START + at
        for number in pushed[:3]:
            if number < len(keys) and log[keys[number]] <= now and keys[number] not in syncer.ledger:
                syncer.delivered.append(keys[number])
                syncer.ledger.add(keys[number])
        syncer.list(log, now, {keys[number] for number in failing if number < len(keys)})
    syncer.list(log, START + timedelta(days=30), set())
    assert sorted(syncer.delivered) == sorted(log)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(minutes, st.floats(0, 1).map(lambda part: timedelta(days=AUDIT_DAYS - 2) * part)),
        max_size=20,
    )
)
def test_entries_late_by_days_are_found_by_the_daily_audit(
    entries: list[tuple[timedelta, timedelta]],
) -> None:
    log, syncer = log_of(entries), Syncer()
    end = START + timedelta(days=AUDIT_DAYS + 10)
    now = START
    while now < end:
        syncer.list(log, now, set())
        syncer.list(log, now, set(), after=audit_after(now))
        now += timedelta(days=1)
    assert sorted(syncer.delivered) == sorted(log)


@given(st.lists(minutes, min_size=1, max_size=10), st.floats(0, 5000))
def test_no_entry_is_hidden_by_a_clock_that_was_ahead(times: list[timedelta], ahead: float) -> None:
    log, syncer = log_of([(one, timedelta()) for one in times]), Syncer()
    wrong = manifest_key("wrong", START + timedelta(days=ahead))
    log[wrong] = START
    syncer.list(log, START, set())
    for at in sorted(times):
        syncer.list(log, START + at, set())
    assert sorted(syncer.delivered) == sorted(log)
