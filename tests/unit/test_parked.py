"""A message that cannot be processed as others are: delivered as it is, and parked with the reason."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.log_contract import RAW, Store
from tests.moto_store import moto_store
from twinmail.index import Index, IndexRefused
from twinmail.lookup.witnesses import Witnesses
from twinmail.manifest import Delivery, ManifestError
from twinmail.message import Metadata
from twinmail.processor import Processor
from twinmail.time_limit import TooLong, time_limit


@pytest.fixture
def store() -> Iterator[Store]:
    with moto_store() as found:
        yield found


def parked(store: Store) -> dict[str, str]:
    return {one.ses_id: one.reason for one in Index(store.dynamodb, store.config.table).parked()}


def broken(start: bytes) -> Metadata:
    raise RecursionError("too deep")


@pytest.mark.parametrize("error", [RecursionError, MemoryError, ValueError, UnicodeError, TooLong, KeyError])
def test_broken_parser_withholds_nothing(store: Store, error: type[Exception]) -> None:
    def read(start: bytes) -> Metadata:
        raise error("broken")

    receipt = store.receive(recipients=("ann@example.org", "bob@example.org"))
    outcome = store.processor(read=read).process(receipt)
    (entry,) = store.entries(receipt)
    assert entry.deliveries == (Delivery("ann"), Delivery("bob"))
    assert store.body(entry.key).endswith(RAW)
    assert f"reading it: {error.__name__}" in outcome.parked
    assert parked(store) == {receipt.ses_id: outcome.parked}
    (item,) = store.items("ann", receipt)
    assert "subject" not in item and item["mail_from"] == {"S": "a@example.com"}


def test_parser_that_never_ends_is_ended(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read(start: bytes) -> Metadata:
        while True:
            pass

    monkeypatch.setattr("twinmail.processor.READ_SECONDS", 0.05)
    receipt = store.receive()
    outcome = store.processor(read=read).process(receipt)
    assert store.entries(receipt)[0].deliveries == (Delivery("ann"),)
    assert outcome.parked == "reading it: TooLong: not done after 0.05 s"


def test_limit_leaves_the_outer_one_in_place() -> None:
    with pytest.raises(TooLong, match=r"0\.2 s"), time_limit(0.2):
        with pytest.raises(TooLong, match=r"0\.05 s"), time_limit(0.05):
            while True:
                pass
        with time_limit(5):
            pass
        while True:
            pass


def test_limit_in_another_thread_is_none() -> None:
    done: list[bool] = []

    def work() -> None:
        with time_limit(0.001):
            end = time.monotonic() + 0.02
            while time.monotonic() < end:
                pass
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]


def test_item_that_the_table_never_takes_withholds_nothing(store: Store) -> None:
    # DynamoDB takes no item above 400 KB; a parser without limits would make one.
    receipt = store.receive()
    outcome = store.processor(read=lambda start: Metadata(subject="x" * 500_000)).process(receipt)
    assert store.entries(receipt)[0].deliveries == (Delivery("ann"),)
    assert outcome.parked.startswith("indexing it: ")
    assert parked(store)[receipt.ses_id].startswith("indexing it: ")
    (item,) = store.items("ann", receipt)
    assert "subject" not in item


def test_table_that_takes_nothing_of_a_message_withholds_nothing(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise IndexRefused("no")

    monkeypatch.setattr(Index, "add", refuse)
    monkeypatch.setattr(Index, "park", refuse)
    receipt = store.receive()
    assert store.processor().process(receipt).parked == "indexing it: no; indexing it: no"
    assert store.entries(receipt)[0].deliveries == (Delivery("ann"),)


def test_table_that_is_away_for_now_is_tried_again(store: Store) -> None:
    receipt = store.receive()
    processor = store.processor()
    store.dynamodb.delete_table(TableName=store.config.table)
    with pytest.raises(store.dynamodb.exceptions.ResourceNotFoundException):
        processor.process(receipt)
    assert not store.entries(receipt)


def test_repeated_event_parks_once_and_the_first_entry_stays(store: Store) -> None:
    receipt = store.receive()
    first = store.processor(read=broken).process(receipt)
    assert store.processor().process(receipt).entry is None
    assert store.entries(receipt) == [first.entry]
    assert len(parked(store)) == 1


def test_show_says_why_a_message_is_parked(store: Store) -> None:
    receipt = store.receive()
    store.processor(read=broken).process(receipt)
    clients = {"s3": store.s3, "dynamodb": store.dynamodb}
    trail = Witnesses(store.config, lambda name: clients[name], {}).trail(receipt.ses_id)
    said = [one.what for one in trail.events if one.who == "index"]
    assert said == [
        "parked, and delivered as it is: reading it: RecursionError: too deep",
        "indexed for ann",
    ]
    assert trail.hit is not None and trail.hit.mailboxes == {"ann": "INBOX"}


class NoTable:
    """A table that takes everything, for tests that only look at S3."""

    class exceptions:
        ClientError = ManifestError

    def get_item(self, **_: object) -> dict[str, object]:
        return {}

    def put_item(self, **_: object) -> None:
        return None


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    raw=st.binary(max_size=300),
    message=st.text(max_size=200),
    error=st.sampled_from([ValueError, RuntimeError, RecursionError, MemoryError, AssertionError, OSError]),
)
def test_no_octets_and_no_error_of_the_parser_withhold_a_message(
    store: Store,
    raw: bytes,
    message: str,
    error: type[Exception],
) -> None:
    def read(start: bytes) -> Metadata:
        raise error(message)

    receipt = store.receive(raw)
    processor = Processor(store.config, store.s3, Index(NoTable(), "t"), read=read)
    outcome = processor.process(receipt)
    assert outcome.entry is not None and outcome.entry.deliveries == (Delivery("ann"),)
    assert store.body(outcome.entry.key).endswith(raw)
    assert store.body(outcome.manifest_key) == outcome.entry.to_bytes()
    assert outcome.entry.arrived < datetime.now(UTC)
