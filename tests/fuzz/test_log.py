"""No octets in a message, no event and no damage withhold mail: errors are the documented ones, or there are none."""

import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.cloud import CONFIG
from tests.fuzz.test_message import mutated, octets
from twinmail.index import Index
from twinmail.layout import incoming_key
from twinmail.manifest import Delivery, Entry, ManifestError
from twinmail.processor import INFECTED, NO_RECIPIENT, Processor, decide
from twinmail.ses_event import EventError, Receipt

ENTRY: dict[str, Any] = {
    "version": 1,
    "ses_id": "abc",
    "key": "processed/2026/11/23/abc.eml",
    "size": 5,
    "sha256": "0" * 64,
    "arrived": "2026-11-23T14:00:00.000000+00:00",
    "mail_from": "a@example.com",
    "rcpt_to": ["ann@example.org"],
    "deliveries": [{"mailbox": "ann", "folder": "INBOX"}],
    "verdicts": {"spam": "PASS"},
}
IMPORTED: dict[str, Any] = {
    **ENTRY,
    "version": 2,
    "deliveries": [{"mailbox": "ann", "folder": "A/B", "flags": ["\\Seen"], "keywords": ["$Label1"]}],
}
RECORD: dict[str, Any] = {
    "ses": {
        "mail": {"timestamp": "2026-11-23T14:00:00.000Z", "source": "a@example.com", "messageId": "abc"},
        "receipt": {
            "recipients": ["ann@example.org", "bob@example.org"],
            "spamVerdict": {"status": "PASS"},
            "virusVerdict": {"status": "PASS"},
        },
    }
}
# What JSON can hold and others cannot, or only just.
ODD = st.sampled_from(
    [
        *(
            "0001-01-01T00:00:00+14:00",
            "9999-12-31T23:59:59-14:00",
            "2026-11-23T14:00:00",
            "\ud800",
            "",
            "\0",
        ),
        *(
            -1,
            10**400,
            True,
            None,
            1.5,
            float("nan"),
            [],
            {},
            [[]],
            [None],
            "../ann",
            "INBOX/..",
            "x" * 70_000,
        ),
    ]
)
values = ODD | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def damaged(draw: st.DrawFn, document: dict[str, Any]) -> Any:
    """*document* with something else in one place or two, at any depth."""
    copy = json.loads(json.dumps(document))
    for _ in range(draw(st.integers(1, 2))):
        node = copy
        while True:
            places = sorted(node, key=str) if isinstance(node, dict) else list(range(len(node)))
            if not places:
                break
            place = draw(st.sampled_from(places))
            if isinstance(node[place], dict | list) and draw(st.booleans()):
                node = node[place]
                continue
            if isinstance(node, dict) and draw(st.booleans()):
                del node[place]
            else:
                node[place] = draw(values)
            break
    return copy


@st.composite
def cut(draw: st.DrawFn) -> bytes:
    """The octets of an entry with a piece cut out, and something else in its place."""
    data = json.dumps(draw(st.sampled_from([ENTRY, IMPORTED]))).encode()
    start = draw(st.integers(0, len(data)))
    return data[:start] + draw(st.binary(max_size=6)) + data[start + draw(st.integers(0, 20)) :]


@settings(max_examples=400)
@given(
    damaged(ENTRY).map(lambda one: json.dumps(one).encode())
    | damaged(IMPORTED).map(lambda one: json.dumps(one).encode())
    | cut()
)
@example(json.dumps({**ENTRY, "arrived": "0001-01-01T00:00:00+14:00"}).encode())
@example(b"[" * 100_000)
@example(b'{"version":1' + b"0" * 5000 + b"}")
def test_entry_is_read_or_refused_in_words(data: bytes) -> None:
    try:
        entry = Entry.from_bytes(data)
    except ManifestError as error:
        assert str(error).startswith("manifest entry: ")
        return
    assert entry.arrived.tzinfo is UTC
    assert Entry.from_bytes(entry.to_bytes()) == entry
    for one in entry.deliveries:
        assert (
            "/" not in one.mailbox and not one.mailbox.startswith(".") and ".." not in one.folder.split("/")
        )


class Memory:
    """S3 and DynamoDB as the processor calls them, in memory; takes only what those take."""

    class exceptions:
        ClientError = ClientError

        class NoSuchKey(Exception):
            pass

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.items: dict[tuple[str, str], dict[str, Any]] = {}

    def get_object(self, Key: str, **_: Any) -> Any:
        if Key not in self.objects:
            raise self.exceptions.NoSuchKey
        stream = io.BytesIO(self.objects[Key])

        class Body:
            def iter_chunks(self, size: int) -> Any:
                return iter(lambda: stream.read(size), b"")

        return {"Body": Body()}

    def put_object(self, Key: str, Body: Any, **_: Any) -> None:
        self.objects[Key] = Body if isinstance(Body, bytes) else Body.read()

    def get_item(self, Key: Any, **_: Any) -> Any:
        found = self.items.get((Key["mailbox"]["S"], Key["position"]["S"]))
        return {"Item": found} if found else {}

    def put_item(self, Item: Any, **_: Any) -> None:
        if len(json.dumps(Item, ensure_ascii=False).encode("utf-8")) > 400 * 1024:
            raise ClientError({"Error": {"Code": "ValidationException"}}, "PutItem")
        self.items[(Item["mailbox"]["S"], Item["position"]["S"])] = Item


@settings(max_examples=300, deadline=None)
@given(octets | mutated() | st.binary(max_size=2000), damaged(RECORD) | st.just(RECORD))
@example(b"", {**RECORD, "ses": {**RECORD["ses"], "mail": {**RECORD["ses"]["mail"], "source": "x" * 10**6}}})
def test_whatever_is_stored_and_told_is_delivered(raw: bytes, record: Any) -> None:
    try:
        receipt = Receipt.of_record(record)
    except EventError as error:
        assert str(error).startswith("SES event: ")
        return
    memory = Memory()
    memory.objects[incoming_key(receipt.ses_id)] = raw
    outcome = Processor(CONFIG, memory, Index(memory, "t")).process(receipt)
    decision = decide(CONFIG, receipt)
    entry = Entry.from_bytes(memory.objects[outcome.manifest_key])
    assert entry == outcome.entry and entry.deliveries == decision.deliveries
    assert decision.withheld in ("", INFECTED, NO_RECIPIENT)
    if record is RECORD:
        assert entry.deliveries == (Delivery("ann"), Delivery("bob")) and not outcome.parked
    assert memory.objects[entry.key].endswith(raw) and len(memory.objects[entry.key]) == entry.size


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_time_that_has_no_day_in_utc_is_refused(time: str) -> None:
    with pytest.raises(ManifestError, match="arrived"):
        Entry.from_bytes(json.dumps({**ENTRY, "arrived": time}).encode())
    mail = {**RECORD["ses"]["mail"], "timestamp": time}
    with pytest.raises(EventError):
        Receipt.of_record({"ses": {**RECORD["ses"], "mail": mail}})
    assert datetime.fromisoformat(time).tzinfo is not None
