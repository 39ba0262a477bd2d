"""Properties of the keys, the manifest entry, the base name and the routing: what all parts share."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmail.basename import base_name, virtual_size
from twinmail.config import Config
from twinmail.layout import (
    LayoutError,
    ManifestKey,
    incoming_key,
    manifest_day,
    manifest_key,
    processed_key,
)
from twinmail.manifest import Delivery, Entry, ManifestError
from twinmail.routing import route

ses_ids = st.from_regex(r"[a-z0-9]{1,64}", fullmatch=True)
moments = st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2199, 12, 31)).map(
    lambda moment: moment.replace(tzinfo=UTC)
)
addresses = st.from_regex(r"[A-Za-z0-9.+-]{1,20}@example\.(org|net)", fullmatch=True)
entries = st.builds(
    Entry,
    ses_id=ses_ids,
    key=st.text(max_size=80),
    size=st.integers(0, 1 << 40),
    sha256=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    arrived=moments,
    mail_from=st.text(max_size=40),
    rcpt_to=st.lists(st.text(max_size=40), max_size=3).map(tuple),
    deliveries=st.lists(
        st.builds(
            Delivery, mailbox=st.sampled_from(["ann", "bob"]), folder=st.sampled_from(["INBOX", "Junk"])
        ),
        max_size=3,
    ).map(tuple),
    verdicts=st.dictionaries(st.sampled_from(["spam", "virus", "spf"]), st.sampled_from(["PASS", "FAIL"])),
)

CONFIG = Config.parse(
    """
region = "eu-central-1"
stack = "twinmail"
bucket = "example-mail"
domains = ["example.org", "example.net"]
[mailboxes.ann]
addresses = ["ann@example.org", "*@example.net"]
[mailboxes.bob]
addresses = ["bob@example.org", "bob+shop@example.net"]
[aliases]
"all@example.org" = ["ann", "bob"]
[servers.primary]
platform = "linux/arm64"
host = "primary.example.org"
"""
)


@given(ses_ids, moments)
def test_manifest_key_is_read_back(ses_id: str, moment: datetime) -> None:
    key = manifest_key(ses_id, moment)
    assert ManifestKey.parse(key) == ManifestKey(moment, ses_id)
    assert key.startswith(manifest_day(moment.date()))


@given(ses_ids, moments, moments)
def test_manifest_keys_sort_by_commit_time(ses_id: str, one: datetime, other: datetime) -> None:
    if one != other:
        assert (manifest_key(ses_id, one) < manifest_key(ses_id, other)) == (one < other)


@given(moments)
def test_keys_do_not_depend_on_the_time_zone_they_are_given_in(moment: datetime) -> None:
    zone = datetime.now().astimezone().tzinfo
    assert manifest_key("a", moment) == manifest_key("a", moment.astimezone(zone))
    assert processed_key("a", moment) == processed_key("a", moment.astimezone(zone))


@pytest.mark.parametrize("ses_id", ["", "a/b", "..", ".", "a//b", "ä", "a" * 129, "a\n", "-a"])
def test_ids_that_could_leave_their_folder_are_refused(ses_id: str) -> None:
    with pytest.raises(LayoutError):
        incoming_key(ses_id)


@pytest.mark.parametrize(
    "key",
    [
        "manifest/2026/11/22/",
        "manifest/2026/13/22/101112.000000Z-a.json",
        "manifest/2026/11/22/101112Z-a.json",
        "processed/2026/11/22/a.eml",
        "manifest/2026/11/22/101112.000000Z-a.json/",
    ],
)
def test_other_keys_are_not_manifest_keys(key: str) -> None:
    with pytest.raises(LayoutError):
        ManifestKey.parse(key)


def test_naive_time_is_refused() -> None:
    with pytest.raises(LayoutError, match="naive"):
        processed_key("a", datetime(2026, 11, 22))


def test_day_prefix() -> None:
    assert manifest_day(date(2026, 1, 2)) == "manifest/2026/01/02/"


@given(entries)
def test_entry_is_read_back_and_canonical(entry: Entry) -> None:
    data = entry.to_bytes()
    assert Entry.from_bytes(data) == entry
    assert Entry.from_bytes(data).to_bytes() == data


@given(st.binary(max_size=200))
def test_damaged_entry_is_a_manifest_error(data: bytes) -> None:
    with pytest.raises(ManifestError):
        Entry.from_bytes(data)


@given(
    entries,
    st.sampled_from(["version", "size", "sha256", "arrived", "ses_id", "deliveries", "rcpt_to", "key"]),
)
def test_entry_without_a_field_is_a_manifest_error(entry: Entry, name: str) -> None:
    damaged = entry.to_bytes().replace(f'"{name}":'.encode(), b'"other":', 1)
    with pytest.raises(ManifestError):
        Entry.from_bytes(damaged)


@pytest.mark.parametrize("mailbox", ["../ann", "ann/..", "", ".ann", "Ann"])
def test_mailbox_name_that_could_leave_its_folder_is_refused(mailbox: str) -> None:
    entry = Entry("a", "k", 1, "0" * 64, datetime(2026, 1, 1, tzinfo=UTC), "", (), (Delivery(mailbox),))
    with pytest.raises(ManifestError, match="not the name of a mailbox"):
        Entry.from_bytes(entry.to_bytes())


@given(st.lists(st.binary(max_size=20) | st.sampled_from([b"\r", b"\n", b"\r\n"]), max_size=12))
def test_virtual_size_is_the_size_with_every_bare_lf_as_crlf(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    assert virtual_size(chunks) == len(whole.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))


@given(ses_ids, moments, st.integers(0, 1 << 30))
def test_base_name_is_a_safe_file_name(ses_id: str, moment: datetime, size: int) -> None:
    name = base_name(moment, ses_id, size, size)
    assert not set(name) & set("/:\0") and not name.startswith(".") and len(name) < 200
    assert name == base_name(moment + timedelta(0), ses_id, size, size)


def test_routing_takes_the_most_specific_rule() -> None:
    assert route(CONFIG, ["ANN@example.org"]).mailboxes == ("ann",)
    assert route(CONFIG, ["all@example.org", "ann@example.org"]).mailboxes == ("ann", "bob")
    assert route(CONFIG, ["bob+tag@example.org"]).mailboxes == ("bob",)
    assert route(CONFIG, ["bob+shop@example.net"]).mailboxes == ("bob",)
    assert route(CONFIG, ["bob+other@example.net"]).mailboxes == ("ann",)
    assert route(CONFIG, ["nobody@example.org"]).unknown == ("nobody@example.org",)
    assert route(CONFIG, ["all+x@example.org"]).mailboxes == ("ann", "bob")


@given(st.lists(addresses, max_size=5))
def test_every_recipient_is_routed_or_named_unknown(recipients: list[str]) -> None:
    routing = route(CONFIG, recipients)
    for recipient in recipients:
        one = route(CONFIG, [recipient])
        assert bool(one.mailboxes) != bool(one.unknown)
        assert set(one.mailboxes) <= set(routing.mailboxes)
        assert not one.unknown or recipient in routing.unknown
