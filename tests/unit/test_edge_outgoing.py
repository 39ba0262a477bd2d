"""What the emulator makes of a sent message: its checks, its fate at each recipient, and SES's events."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from twinmail.layout import checked_ses_id
from twinmail.sending_event import read
from twinmail_localstack.edge.outgoing import (
    Fate,
    bounce,
    complaint,
    fate,
    feedback_id,
    returned_id,
)
from twinmail_localstack.edge.sending_event import event
from twinmail_localstack.sending import API_LIMIT, Refused, Request, check, identity_of, recipients
from twinmail_localstack.sent import Report, Sent

ARN = "arn:aws:ses:eu-central-1:000000000000:identity/"
SES_ID = "0107018f0a1b2c3d-4e5f6071-8293-a4b5-c6d7-e8f901234567-000000"
STAMP = "2026-11-22T10:00:01.000Z"

SENT = Sent(
    ses_id=SES_ID,
    at=datetime(2026, 11, 22, 10, 0, 0, 123000, UTC),
    source="ann@example.org",
    destinations=("bounce@simulator.amazonses.com", "far@example.com"),
    account="000000000000",
    source_arn=f"{ARN}example.org",
    caller="tests-smtp-ann",
    operation="SendSmtpEmail",
    configuration_set="tests",
    reports=(Report("arn:aws:sns:eu-central-1:000000000000:tests", frozenset({"send", "bounce"})),),
    identities=("example.org",),
    data=b"From: Ann <ann@example.org>\r\nTo: far@example.com\r\nMessage-ID: <mine@client>\r\nSubject: x\r\n\r\n",
)


def ours(address: str) -> bool:
    return address == "bob@example.org"


@pytest.mark.parametrize(
    ("recipient", "expected"),
    [
        ("bob@example.org", Fate.RETURNED),
        ("nobody@example.org", Fate.UNKNOWN),
        ("far@example.com", Fate.DELIVERED),
        ("success@simulator.amazonses.com", Fate.DELIVERED),
        ("bounce@simulator.amazonses.com", Fate.BOUNCED),
        ("Bounce+label@Simulator.AmazonSES.com", Fate.BOUNCED),
        ("ooto@simulator.amazonses.com", Fate.AWAY),
        ("complaint@simulator.amazonses.com", Fate.COMPLAINED),
        ("suppressionlist@simulator.amazonses.com", Fate.SUPPRESSED),
        ("whatever@simulator.amazonses.com", Fate.UNKNOWN),
    ],
)
def test_fate_of_a_recipient(recipient: str, expected: Fate) -> None:
    assert fate(recipient, ours, ("example.org",)) is expected


@pytest.mark.parametrize(
    ("kind", "category"),
    [
        (Fate.BOUNCED, "Permanent/General"),
        (Fate.UNKNOWN, "Permanent/General"),
        (Fate.SUPPRESSED, "Permanent/Suppressed"),
        (Fate.AWAY, "Transient/General"),
    ],
)
def test_production_reads_each_bounce_of_the_emulator(kind: Fate, category: str) -> None:
    document = event("Bounce", SENT, bounce(SENT, "far@example.com", kind, "eu-central-1", STAMP))
    found = read(record(document))
    assert found is not None
    assert (found.kind, found.category, found.ses_id) == ("Bounce", category, SES_ID)
    assert [one.address for one in found.recipients] == ["far@example.com"]
    assert found.feedback_id and found.message_id == "<mine@client>" and found.caller == "tests-smtp-ann"


def test_production_reads_its_complaints_and_what_was_sent() -> None:
    found = read(record(event("Complaint", SENT, complaint(SENT, "far@example.com", STAMP))))
    assert found is not None and (found.kind, found.category) == ("Complaint", "abuse")
    found = read(record(event("Send", SENT, {})))
    assert found is not None and found.kind == "Send" and found.sent == SENT.at


def record(document: dict[str, Any]) -> dict[str, Any]:
    from tests.sending_events import sns

    return sns(document)


def test_event_has_the_shape_that_ses_documents() -> None:
    mail = event("Send", SENT, {})["mail"]
    assert mail["commonHeaders"] == {
        "from": ["Ann <ann@example.org>"],
        "to": ["far@example.com"],
        "subject": "x",
        "messageId": SES_ID,
    }
    assert {"name": "Message-ID", "value": "<mine@client>"} in mail["headers"]
    assert mail["tags"]["ses:caller-identity"] == ["tests-smtp-ann"]
    assert mail["tags"]["ses:from-domain"] == ["example.org"]
    assert mail["timestamp"] == "2026-11-22T10:00:00.123Z"


def test_repetitions_have_the_same_ids_and_others_have_their_own() -> None:
    assert returned_id(SES_ID, ["a", "b"]) == returned_id(SES_ID, ["a", "b"])
    assert len({returned_id(SES_ID, ["a"]), returned_id(SES_ID, ["b"]), returned_id("x", ["a"])}) == 3
    assert len(checked_ses_id(returned_id(SES_ID, ["a"]))) == 40
    ids = {feedback_id(SES_ID, "a", Fate.BOUNCED), feedback_id(SES_ID, "a", Fate.COMPLAINED)}
    assert len(ids | {feedback_id(SES_ID, "b", Fate.BOUNCED)}) == 3


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("ann@example.org", "example.org"),
        ("ann@Example.ORG", "example.org"),
        ("ann@sub.example.org", "example.org"),
        ("one@example.com", "one@example.com"),
        ("two@example.com", None),
        ("ann@badexample.org", None),
    ],
)
def test_identity_that_covers_an_address(address: str, expected: str | None) -> None:
    assert identity_of(address, {"example.org", "one@example.com"}) == expected


REQUEST = Request("ann@example.org", ("far@example.com",), SENT.data)


def refusal(request: Request, limit: int = API_LIMIT) -> str:
    with pytest.raises(Refused) as caught:
        check(request, None, {"example.org"}, ARN, limit)
    return f"{caught.value.code}: {caught.value}"


def test_limits_of_ses() -> None:
    check(REQUEST, None, {"example.org"}, ARN, API_LIMIT)
    many = tuple(f"u{number}@example.com" for number in range(51))
    assert "exceeds 50" in refusal(replace(REQUEST, destinations=many))
    assert "'To'" in refusal(replace(REQUEST, destinations=()))
    assert refusal(REQUEST, limit=10).startswith(
        "InvalidParameterValue: Message length is more than 10 bytes"
    )


@pytest.mark.parametrize("from_", ["nobody", "", "a@b@c", "<>", "Group:;"])
def test_from_field_without_an_address_is_refused(from_: str) -> None:
    data = f"From: {from_}\r\n\r\n".encode()
    assert "Missing" in refusal(replace(REQUEST, data=data))


def test_without_recipients_the_fields_say_them() -> None:
    data = (
        b"To: A <a@x.example>, b@x.example\r\nCc: c@x.example\r\nBcc: a@x.example\r\n\r\nTo: d@x.example\r\n"
    )
    assert recipients(data) == ("a@x.example", "b@x.example", "c@x.example")
