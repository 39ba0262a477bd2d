"""The index of a pack: what is written is what is read, and nothing that is wrong is read."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pack_examples import pack
from twinmail.layout import LayoutError, PackKey, manifest_key, packs_key, processed_key
from twinmail.manifest import Delivery, Entry
from twinmail.packs.pack_index import PackIndex, PackIndexError

START = datetime(2026, 11, 1, tzinfo=UTC)


def example(bodies: list[bytes], shared: bool = False) -> tuple[PackIndex, bytes]:
    """A pack of one message each hour; *shared*: the last entry names the message of the first too."""
    entries, messages = {}, {}
    for number, body in enumerate(bodies):
        at = START + timedelta(hours=number)
        key = processed_key(f"id{number}", at)
        if shared and number == len(bodies) - 1:
            key, body = processed_key("id0", START), bodies[0]
        messages[key] = body
        entry = Entry(
            f"id{number}", key, len(body), sha256(body).hexdigest(), at, "", ("a@b",), (Delivery("ann"),)
        )
        entries[manifest_key(f"id{number}", at)] = entry.to_bytes()
    return pack(entries, messages)


INDEX, DATA = example([b"one", b"", b"three"])


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=50), min_size=1, max_size=30), st.booleans())
def test_what_is_written_is_what_is_read(bodies: list[bytes], shared: bool) -> None:
    index, data = example(bodies, shared)
    assert PackIndex.from_bytes(index.to_bytes()) == index
    assert index.size == len(data) and sha256(data).hexdigest() == index.sha256
    for one in index.entries:
        entry = Entry.from_bytes(data[one.entry.at : one.entry.end])
        assert one.message.key == entry.key and one.message.sha256 == entry.sha256
        assert sha256(data[one.message.at : one.message.end]).hexdigest() == entry.sha256
    assert index.entries_size == sum(one.entry.size for one in index.entries)
    assert len(index.messages()) == len({one.message.key for one in index.entries})


def test_index_is_beside_its_pack_and_named_by_its_digest() -> None:
    assert INDEX.key == f"packs/2026/11/01/{INDEX.sha256[:16]}.pack"
    assert INDEX.index_key == f"packs/2026/11/01/{INDEX.sha256[:16]}.json"
    assert (INDEX.first, INDEX.last) == (manifest_key("id0", START), INDEX.entries[2].key)


def test_keys_of_packs_are_told_apart() -> None:
    pack_key = PackKey.parse(INDEX.key)
    assert pack_key == PackKey(date(2026, 11, 1), INDEX.sha256[:16], "pack")
    assert PackKey.parse(pack_key.index).kind == "json"
    mark = PackKey.parse(pack_key.mark(date(2026, 12, 3)))
    assert (mark.kind, mark.last, mark.pack) == ("tagged", date(2026, 12, 3), INDEX.key)
    for odd in ("packs/cursor.json", "packs/2026/11/31/0123456789abcdef.pack", f"{INDEX.key}/"):
        with pytest.raises(LayoutError):
            PackKey.parse(odd)


Damage = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda it: it.update(version=2), "expected version 1, got 2; update"),
        (lambda it: it.update(entries=[]), "expected at least one"),
        (lambda it: it.update(entries={}), "a list 'entries'"),
        (lambda it: it.update(first=it["last"]), "first: expected"),
        (lambda it: it["pack"].update(size=it["pack"]["size"] + 1), "octets, got"),
        (lambda it: it["pack"].update(sha256="0" * 64), "pack: key: expected"),
        (lambda it: it["pack"].update(key="packs/x.pack"), "pack: key: expected"),
        (lambda it: it["entries"].reverse(), "expected a key after"),
        (lambda it: it["entries"].insert(1, it["entries"][0]), "expected a key after"),
        (lambda it: it["entries"].pop(1), "expected to begin at octet"),
        (lambda it: it["entries"][1].update(at=0), "id1.json: expected to begin at octet"),
        (lambda it: it["entries"][1]["message"].update(at=5), "id1.eml: expected to begin at octet"),
        (lambda it: it["entries"][1]["message"].update(size=-1), "entry 1: message: size: expected a number"),
        (lambda it: it["entries"][1]["message"].update(size=True), "entry 1: message: size: expected a num"),
        (lambda it: it["entries"][1].update(sha256="A" * 64), "id1.json: sha256: expected 64"),
        (lambda it: it["entries"][1].update(key=7), "entry 1: key: expected a string, got 7"),
        (lambda it: it["entries"][0].update(key="manifest/x.json"), "expected manifest/YYYY"),
        (lambda it: it["entries"][1].pop("message"), "entry 1: expected an object with its message"),
        (lambda it: it["entries"].append("x"), "entry 3: expected an object with its message"),
        (lambda it: it["entries"][1]["message"].update(key="state/x"), "message: expected one of"),
    ],
)
def test_damaged_index_says_what_and_where(damage: Damage, text: str) -> None:
    document = json.loads(INDEX.to_bytes())
    damage(document)
    with pytest.raises(PackIndexError) as caught:
        PackIndex.from_bytes(json.dumps(document).encode())
    assert text in str(caught.value)


def test_message_is_described_in_one_way() -> None:
    index, _ = example([b"one", b"two", b"one"], shared=True)
    other = replace(index.entries[2].message, sha256="0" * 64)
    entries = (*index.entries[:2], replace(index.entries[2], message=other))
    with pytest.raises(PackIndexError, match="described in two ways"):
        replace(index, entries=entries)


@settings(max_examples=100)
@given(
    st.binary(max_size=60)
    | st.integers(0, len(INDEX.to_bytes()) - 1).map(lambda cut: INDEX.to_bytes()[:cut])
    | st.tuples(st.integers(0, len(INDEX.to_bytes()) - 1), st.binary(min_size=1, max_size=3)).map(
        lambda it: INDEX.to_bytes()[: it[0]] + it[1] + INDEX.to_bytes()[it[0] + len(it[1]) :]
    )
)
def test_any_octets_are_an_index_or_an_error(data: bytes) -> None:
    try:
        index = PackIndex.from_bytes(data)
    except PackIndexError:
        return
    assert index.entries and index.key == packs_key(START.date(), index.sha256)
