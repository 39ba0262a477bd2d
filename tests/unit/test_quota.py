"""Quota by names alone: sizes, what fits, what users are told."""

import email
import email.policy
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmail.basename import base_name
from twinmail.layout import checked_ses_id
from twinmail.quota import Shortage, notice, notice_id, readable, size_of, that_fit, user_database

NOW = datetime(2026, 11, 23, 8, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "octets"),
    [
        ("1600000000.abc.twinmail,S=10,W=12", 12),
        ("1600000000.abc.twinmail,S=10,W=12:2,FS", 12),
        ("1600000000.abc.host,W=12,S=10", 12),
        ("1600000000.abc.host,S=10:2,", 10),
        ("1600000000.abc.host", None),
        ("1600000000.abc.host,S=x", None),
        ("1600000000.abc,S=1x.host", None),
        ("", None),
    ],
)
def test_size_is_what_imap_shows(name: str, octets: int | None) -> None:
    assert size_of(name) == octets


@given(
    size=st.integers(0, 1 << 40), extra=st.integers(0, 1 << 20), flags=st.sampled_from(["", ":2,", ":2,ST"])
)
def test_size_of_every_name_of_ours(size: int, extra: int, flags: str) -> None:
    assert size_of(base_name(NOW, "m1", size, size + extra) + flags) == size + extra


@given(sizes=st.lists(st.integers(0, 100)), room=st.integers(-50, 500))
def test_what_fits_is_never_more_than_the_room_and_misses_nothing(sizes: list[int], room: int) -> None:
    rows = [(str(number), octets) for number, octets in enumerate(sizes)]
    chosen = that_fit(rows, room)
    taken = sum(octets for key, octets in rows if key in chosen)
    assert taken <= max(0, room)
    assert chosen == sorted(chosen, key=int)
    left = [octets for key, octets in rows if key not in chosen]
    assert all(octets > room - taken for octets in left)


def test_large_message_does_not_hold_back_smaller_ones() -> None:
    assert that_fit([("a", 90), ("b", 10), ("c", 5)], 15) == ["b", "c"]


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (0, "0 octets"),
        (1023, "1023 octets"),
        (1024, "1 KB"),
        (3 << 20, "3.0 MB"),
        (10 << 30, "10.0 GB"),
        (1 << 60, "1048576 TB"),
    ],
)
def test_sizes_for_people(octets: int, text: str) -> None:
    assert readable(octets) == text


def test_user_database_has_a_line_for_each_mailbox() -> None:
    assert user_database({"bob": 50 << 20, "ann": 1}) == (
        b"ann::1000:1000::::userdb_quota_storage_size=1B\n"
        b"bob::1000:1000::::userdb_quota_storage_size=52428800B\n"
    )
    assert user_database({}) == b""


def test_notice_is_one_a_server_mailbox_and_day() -> None:
    day = date(2026, 11, 23)
    names = {
        notice_id("primary", "ann", day),
        notice_id("backup", "ann", day),
        notice_id("primary", "bob", day),
        notice_id("primary", "ann", date(2026, 11, 24)),
    }
    assert len(names) == 4
    assert notice_id("primary", "ann", day) == notice_id("primary", "ann", day)
    assert all(checked_ses_id(one) for one in names)


def test_notice_says_what_happened_and_what_to_do() -> None:
    shortage = Shortage("ann", 50 << 20, 50 << 20, 3, 7 << 20)
    data = notice("primary.example.org", "ann@example.org", shortage, "quota-1", NOW)
    message = email.message_from_bytes(data, policy=email.policy.default)
    assert message["To"] == "ann@example.org"
    assert message["From"].addresses[0].addr_spec == "mailer-daemon@primary.example.org"
    assert message["Subject"] == "Your mailbox is full, new mail waits"
    assert message["Message-ID"] == "<quota-1@primary.example.org>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Date"].datetime == NOW
    text = message.get_content()
    for part in (
        "50.0 MB of 50.0 MB are used",
        "3 new messages wait for room (7.0 MB)",
        "Nothing is lost",
        "empty the Trash",
    ):
        assert part in text
    assert not message.defects
    assert b"\n" not in data.replace(b"\r\n", b"")
    assert max(map(len, data.split(b"\r\n"))) <= 78


def test_one_message_waits() -> None:
    data = notice("h.example.org", "a@example.org", Shortage("a", 1, 1, 1, 300), "quota-1", NOW)
    assert b"One new message waits for room (300 octets)." in data


def test_operator_is_told_the_remedy() -> None:
    assert str(Shortage("ann", 50 << 20, 50 << 20, 3, 7 << 20)) == (
        "mailbox ann: 50.0 MB of 50.0 MB used, 3 messages of 7.0 MB wait; its user must make room, or raise "
        "mailboxes.ann.quota_bytes in twinmail.toml"
    )
