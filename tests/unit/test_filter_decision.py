"""The decision as it is kept in S3."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmail.filter.decision import (
    SCRIPT,
    VACATION,
    Decision,
    DecisionError,
    DecisionKey,
    Outgoing,
    Placement,
    decision_key,
    is_folder,
    sorted_flags,
)
from twinmail.manifest import is_keyword

WHEN = datetime(2026, 11, 23, 1, 2, 3, 456000, tzinfo=UTC)
DECISION = Decision(
    mailbox="ann",
    ses_id="abc123",
    placements=(Placement("INBOX"), Placement("Vereine.B&APw-ro e%2eV%2e", "FS", ("$label1", "wichtig"))),
    outgoing=(Outgoing(VACATION, "", ("bob@example.com",), b"From: a\r\n\r\n\xff", "ab" * 16, WHEN),),
    decided=WHEN,
    server="primary",
    reason=SCRIPT,
    complaints=("line 1: error: what",),
)


def changed(**fields: object) -> bytes:
    return json.dumps({**json.loads(DECISION.to_bytes()), **fields}).encode()


def test_what_is_written_is_read() -> None:
    assert Decision.from_bytes(DECISION.to_bytes()) == DECISION


def test_its_form_is_canonical() -> None:
    text = (
        replace(DECISION, placements=DECISION.placements[:1], outgoing=(), complaints=()).to_bytes().decode()
    )
    assert text == (
        '{"complaints":[],"decided":"2026-11-23T01:02:03.456+00:00","mailbox":"ann","outgoing":[],'
        '"placements":[{"flags":"","folder":"INBOX","keywords":[]}],"reason":"script","server":"primary",'
        '"ses_id":"abc123","version":1}'
    )


placements = st.builds(
    Placement,
    folder=st.text(min_size=1, max_size=30).map(lambda text: text if is_folder(text) else f"x{len(text)}"),
    flags=st.text("DFPRST", max_size=6).map(sorted_flags),
    keywords=st.lists(
        st.text("!#$&'+-,./09:;<=>?@AZ[^_`az|}~", min_size=1, max_size=10).filter(is_keyword), max_size=3
    ).map(tuple),
)


@given(st.lists(placements, min_size=1, max_size=4), st.binary(max_size=200), st.text(max_size=20))
def test_anything_that_can_be_decided_can_be_kept(
    copies: list[Placement], message: bytes, sender: str
) -> None:
    decision = replace(
        DECISION,
        placements=tuple(copies),
        outgoing=(Outgoing("other", sender, (sender,), message),),
    )
    assert Decision.from_bytes(decision.to_bytes()) == decision


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "not JSON"),
        (b"[]", "expected an object, got list"),
        (changed(version=2), "expected version 1, got 2; update"),
        (changed(mailbox="../x"), "mailbox"),
        (changed(ses_id="a/b"), "SES message id 'a/b'"),
        (changed(placements=[]), "expected at least one"),
        (changed(placements=[{"folder": "../x", "flags": "", "keywords": []}]), "not the name of a folder"),
        (changed(placements=[{"folder": "A", "flags": "SF", "keywords": []}]), "flags"),
        (changed(placements=[{"folder": "A", "flags": "", "keywords": ["a\nb"]}]), "not a keyword"),
        (changed(placements=["A"]), "placements: expected objects"),
        (changed(outgoing=None), "outgoing: expected a list"),
        (changed(outgoing=[{"kind": "vacation", "rcpt_to": [1]}]), "rcpt_to: expected strings"),
        (changed(outgoing=[{"kind": "vacation", "rcpt_to": [], "message": "?"}]), "message: not base64"),
        (changed(decided="yesterday"), "decided"),
        (changed(decided="2026-11-23T00:00:00"), "expected a time zone"),
    ],
)
def test_damaged_ones_are_refused(data: bytes, problem: str) -> None:
    with pytest.raises(DecisionError, match=problem):
        Decision.from_bytes(data)


def test_its_key_has_the_day_of_arrival_in_utc() -> None:
    arrived = datetime(2026, 11, 23, 0, 30, tzinfo=timezone(timedelta(hours=1)))
    key = decision_key("abc-1_2", arrived, "a.b_c-d")
    assert key == "state/decisions/2026/11/22/abc-1_2/a.b_c-d.json"
    assert DecisionKey.parse(key) == DecisionKey("2026/11/22", "abc-1_2", "a.b_c-d")


@pytest.mark.parametrize(
    "key",
    ["", "state/decisions/2026/11/22/abc/ann", "state/decisions/2026/11/22/a b/ann.json", "state/x/ann.json"],
)
def test_other_keys_are_refused(key: str) -> None:
    with pytest.raises(DecisionError, match="key"):
        DecisionKey.parse(key)


@pytest.mark.parametrize("name", ["", ".x", "a/b", "a\0b", "a.b/../c", "x" * 251, "é" * 126])
def test_a_folder_never_leaves_its_mailbox(name: str) -> None:
    assert not is_folder(name)
