"""Version 2 of the manifest entry, to the octet: it is read for as long as there are backups."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmail.filter.decision import Placement
from twinmail.manifest import FLAGS, Delivery, Entry, ManifestError, is_keyword
from twinmail.sync.plan import placement

ENTRY = Entry(
    ses_id="import-0123",
    key="processed/2009/02/13/import-0123-00ff.eml",
    size=7,
    sha256="00ff" * 16,
    arrived=datetime(2009, 2, 13, 23, 31, 30, tzinfo=UTC),
    mail_from="",
    rcpt_to=(),
    deliveries=(Delivery("ann", "Verein e.V./Übersicht", ("\\Flagged", "\\Seen"), ("$label1", "todo")),),
    imported=True,
)
GOLDEN = (
    rb'{"arrived":"2009-02-13T23:31:30.000000+00:00","deliveries":[{"flags":["\\Flagged","\\Seen"],'
    rb'"folder":"Verein e.V./\u00dcbersicht","keywords":["$label1","todo"],"mailbox":"ann"}],'
    rb'"key":"processed/2009/02/13/import-0123-00ff.eml","mail_from":"","rcpt_to":[],"ses_id":"import-0123",'
    rb'"sha256":"00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff","size":7,"verdicts":{},'
    rb'"version":2}'
)


def test_golden() -> None:
    assert ENTRY.to_bytes() == GOLDEN
    assert Entry.from_bytes(GOLDEN) == ENTRY


def test_what_ses_received_stays_version_1() -> None:
    received = replace(ENTRY, imported=False, deliveries=(Delivery("ann", "Junk"),))
    document = json.loads(received.to_bytes())
    assert document["version"] == 1 and document["deliveries"] == [{"mailbox": "ann", "folder": "Junk"}]
    assert Entry.from_bytes(received.to_bytes()) == received


def test_version_1_never_has_a_nested_folder() -> None:
    with pytest.raises(ManifestError, match="not the name of a folder"):
        Entry.from_bytes(GOLDEN.replace(b'"version":2', b'"version":1'))


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("folder", "a//b", "not the name of a folder"),
        ("folder", "../../etc", None),  # dots are escaped on the disk
        ("folder", "a\x00b", "not the name of a folder"),
        ("flags", ["\\Deleted"], "expected flags of IMAP"),
        ("flags", "\\Seen", "expected flags of IMAP"),
        ("keywords", ["two words"], "expected keywords of IMAP"),
        ("keywords", None, "expected keywords of IMAP"),
    ],
)
def test_damaged_entry_says_what_is_wrong(name: str, value: Any, problem: str | None) -> None:
    document = json.loads(GOLDEN)
    document["deliveries"][0][name] = value
    data = json.dumps(document).encode()
    if problem is None:
        assert "/" not in placement(Entry.from_bytes(data).deliveries[0]).folder
    else:
        with pytest.raises(ManifestError, match=problem):
            Entry.from_bytes(data)


@given(
    st.sets(st.sampled_from(FLAGS)).map(sorted).map(tuple),
    st.lists(st.text("abc$_-", min_size=1).filter(is_keyword), max_size=3).map(tuple),
)
def test_entry_is_read_back(flags: tuple[str, ...], keywords: tuple[str, ...]) -> None:
    entry = replace(ENTRY, deliveries=(Delivery("ann", "INBOX", flags, keywords),))
    assert Entry.from_bytes(entry.to_bytes()) == entry


def test_placement_has_the_names_of_maildir() -> None:
    assert placement(ENTRY.deliveries[0]) == Placement(
        "Verein e%2eV%2e.&ANw-bersicht", "FS", ("$label1", "todo")
    )
    assert placement(Delivery("ann", "Sent", FLAGS)).flags == "DFRS"
