"""What is decided about a manifest entry."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.log_simulator import entry_of
from twinmail.layout import manifest_key
from twinmail.manifest import Delivery
from twinmail.sync.plan import Park, decode, message_stem, plan

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
ENTRY = entry_of("abc", b"A: b\r\n\r\n", NOW, ("ann", "bob"))
KEY = manifest_key("abc", NOW)


def test_entry_is_decoded() -> None:
    assert decode(KEY, ENTRY.to_bytes()) == ENTRY


@pytest.mark.parametrize(
    ("key", "data", "reason"),
    [
        (KEY, b"{", "not JSON"),
        (
            KEY,
            ENTRY.to_bytes().replace(b'"version":1', b'"version":3'),
            "expected version 1 or 2, got 3; update",
        ),
        ("manifest/x", ENTRY.to_bytes(), "expected manifest/YYYY/MM/DD"),
        (manifest_key("other", NOW), ENTRY.to_bytes(), "expected 'other' as in its key, got 'abc'"),
        (KEY, replace(ENTRY, key="incoming/abc").to_bytes(), "expected an object under processed/"),
        (KEY, replace(ENTRY, key="processed//abc").to_bytes(), "expected an object under processed/"),
        (KEY, replace(ENTRY, key="processed/../abc").to_bytes(), "expected an object under processed/"),
    ],
)
def test_entry_that_cannot_be_carried_is_parked(key: str, data: bytes, reason: str) -> None:
    parked = decode(key, data)
    assert isinstance(parked, Park) and reason in parked.reason


def test_entry_that_nobody_gets_may_be_anywhere() -> None:
    withheld = replace(ENTRY, key="quarantine/2026/11/22/abc.eml", deliveries=())
    assert decode(KEY, withheld.to_bytes()) == withheld
    assert plan(withheld, ()).deliveries == ()


def test_only_mailboxes_without_the_message_get_it() -> None:
    assert plan(ENTRY, ()).deliveries == ENTRY.deliveries
    assert plan(ENTRY, {"ann"}).deliveries == (Delivery("bob"),)
    assert plan(ENTRY, {"ann", "bob", "carol"}).deliveries == ()


def test_mailbox_gets_a_message_once_in_the_folder_named_first() -> None:
    twice = replace(ENTRY, deliveries=(Delivery("ann", "Junk"), Delivery("ann"), Delivery("bob")))
    assert plan(twice, ()).deliveries == (Delivery("ann", "Junk"), Delivery("bob"))


def test_stem_does_not_depend_on_sizes() -> None:
    assert message_stem(ENTRY) == message_stem(replace(ENTRY, size=99))
    assert plan(ENTRY, ()).stem == message_stem(ENTRY)
