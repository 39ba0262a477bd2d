"""Merging of two servers' settings: laws of the merge, and what is read from elsewhere."""

import json
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmail import mailbox_settings
from twinmail.mailbox_settings import (
    DELETED,
    HAM,
    JUNK,
    SENDERS,
    Settings,
    SettingsDamaged,
    Written,
    is_script_name,
    key,
    merge,
)

NAMES = st.sampled_from(["a", "b", "c", "Regeln für Ämter"])
REGISTERS = st.builds(
    Written,
    st.integers(0, 5),
    st.sampled_from(["backup", "primary"]),
    st.one_of(st.none(), st.sampled_from(["", "keep;\r\n", "discard;"])),
)
SETTINGS = st.builds(
    Settings,
    st.dictionaries(NAMES, REGISTERS),
    REGISTERS,
    st.dictionaries(st.sampled_from([f"s{number}@example.com" for number in range(8)]), REGISTERS),
)
EDITS = st.lists(
    st.tuples(st.sampled_from(["primary", "backup"]), NAMES, st.one_of(st.none(), st.text(max_size=5))),
    max_size=12,
)


@given(SETTINGS, SETTINGS)
def test_merge_is_commutative(one: Settings, other: Settings) -> None:
    assert merge(one, other).to_bytes() == merge(other, one).to_bytes()


@given(SETTINGS, SETTINGS, SETTINGS)
def test_merge_is_associative(one: Settings, two: Settings, three: Settings) -> None:
    assert merge(merge(one, two), three).to_bytes() == merge(one, merge(two, three)).to_bytes()


@given(SETTINGS, SETTINGS, SETTINGS)
def test_merge_is_associative_at_the_limit_of_senders(one: Settings, two: Settings, three: Settings) -> None:
    with mock.patch.object(mailbox_settings, "SENDERS", 3):
        assert merge(merge(one, two), three).to_bytes() == merge(one, merge(two, three)).to_bytes()
        assert len(merge(one, merge(two, three)).senders) <= 3


@given(SETTINGS, SETTINGS)
def test_merge_is_idempotent(one: Settings, other: Settings) -> None:
    merged = merge(one, other)
    assert merge(merged, other).to_bytes() == merged.to_bytes()
    assert merge(merged, merged).to_bytes() == merged.to_bytes()


@given(SETTINGS)
def test_what_was_written_is_read(settings: Settings) -> None:
    assert Settings.from_bytes(settings.to_bytes()) == settings


def test_edits_of_different_scripts_are_both_kept() -> None:
    base = Settings().with_script("old", "keep;", 1, "primary")
    one = base.with_script("mine", "discard;", 5, "primary").with_active("mine", 5, "primary")
    other = base.with_script("yours", "stop;", 4, "backup").with_script("old", None, 6, "backup")
    assert merge(one, other).live == {"mine": "discard;", "yours": "stop;"}
    assert merge(one, other).active_name == "mine"


def test_later_edit_of_one_script_counts() -> None:
    base = Settings().with_script("a", "keep;", 1, "primary")
    early, late = base.with_script("a", "stop;", 5, "primary"), base.with_script("a", "discard;", 6, "backup")
    assert merge(early, late).live == merge(late, early).live == {"a": "discard;"}


def test_equal_times_are_decided_by_server() -> None:
    one, other = (Settings().with_script("a", name, 5, name) for name in ("backup", "primary"))
    assert merge(one, other).live == merge(other, one).live == {"a": "primary"}


@given(EDITS)
def test_an_edit_after_another_one_counts_whatever_the_clocks_say(
    edits: list[tuple[str, str, str | None]],
) -> None:
    settings, expected = Settings(), dict[str, str | None]()
    for number, (server, name, body) in enumerate(edits):
        # The clock of the backup runs backwards.
        now = 100 + number if server == "primary" else 50 - number
        settings = merge(settings, settings.with_script(name, body, now, server))
        expected[name] = body
    assert settings.live == {name: body for name, body in expected.items() if body is not None}


def test_deleted_script_is_not_in_use() -> None:
    one = Settings().with_script("a", "keep;", 1, "primary").with_active("a", 1, "primary")
    assert one.active_name == "a"
    assert merge(one, one.with_script("a", None, 2, "backup")).active_name == ""
    assert one.with_active("", 2, "primary").active_name == ""


def test_senders_ignore_case_and_are_forgotten() -> None:
    settings = Settings().with_sender("Ann@Example.COM", JUNK, 1, "primary")
    assert settings.sender("ann@example.com") == JUNK
    settings = settings.with_sender("ann@example.com", HAM, 1, "backup")
    assert settings.sender("ANN@example.com") == HAM
    assert settings.with_sender("ann@example.com", "", 2, "backup").sender("ann@example.com") == ""


def test_senders_moved_last_are_kept() -> None:
    settings = Settings()
    for number in range(SENDERS + 2):
        settings = settings.with_sender(f"s{number}@example.com", JUNK, number, "primary")
    assert len(settings.senders) == SENDERS
    assert settings.sender("s0@example.com") == ""
    assert settings.sender(f"s{SENDERS + 1}@example.com") == JUNK


def test_old_deletions_are_pruned_and_scripts_never() -> None:
    settings = Settings({f"live{number}": Written(0, "primary", "keep;") for number in range(5)})
    for number in range(DELETED + 3):
        settings = settings.with_script(f"gone{number}", None, number, "primary")
    pruned = settings.pruned()
    assert pruned.live == settings.live
    assert len(pruned.scripts) == DELETED + 5
    assert "gone0" not in pruned.scripts


def test_canonical_form_is_the_same_for_all_orders() -> None:
    one = Settings().with_script("a", "1", 1, "p").with_script("b", "2", 1, "p")
    other = Settings().with_script("b", "2", 1, "p").with_script("a", "1", 1, "p")
    assert one.to_bytes() == other.to_bytes()
    assert key("ann") == "state/mailboxes/ann/settings.json"


GOOD = json.loads(Settings().with_script("a", "keep;", 1, "primary").to_bytes())


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"version": 2}, "settings: expected version 1, got 2; update"),
        ({"scripts": []}, "settings: scripts: expected an object, got []"),
        ({"scripts": {"a": 1}}, "settings: scripts.a: expected at, by and value, got 1"),
        ({"scripts": {"../a": GOOD["active"]}}, "settings: scripts: '../a' is not the name of a script"),
        ({"active": {"at": -1, "by": "p", "value": None}}, "settings: active: expected at, by and value"),
        (
            {"active": {"at": 1, "by": "p", "value": "\ud800"}},
            "settings: active: expected at, by and value",
        ),
        ({"senders": None}, "settings: senders: expected an object, got None"),
    ],
)
def test_damaged_document_is_named(changes: dict[str, object], text: str) -> None:
    with pytest.raises(SettingsDamaged) as caught:
        Settings.from_bytes(json.dumps({**GOOD, **changes}).encode())
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"{}", b"[" * 100_000])
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(SettingsDamaged, match=r"^settings: "):
        Settings.from_bytes(data)


def test_too_large_is_refused_before_it_is_read() -> None:
    with (
        mock.patch.object(mailbox_settings, "DOCUMENT_BYTES", 10),
        pytest.raises(SettingsDamaged, match="at most 10 octets"),
    ):
        Settings.from_bytes(b"{" + b" " * 20)


@pytest.mark.parametrize(
    "name", ["a", "roundcube", "Regeln für Ämter", ".hidden", "..", "a.sieve", "x" * 240]
)
def test_names_that_pigeonhole_takes(name: str) -> None:
    assert is_script_name(name)


@pytest.mark.parametrize("name", ["", "a/b", "a\nb", "a\0", "a\x7f", "\x85", "\u2028", "x" * 241, "\udc80"])
def test_names_that_no_file_can_have(name: str) -> None:
    assert not is_script_name(name)
