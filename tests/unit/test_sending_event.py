"""Events about sent messages: what is read of them, and what is refused."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.cloud import CONFIG
from tests.sending_events import SES_ID, bounce, complaint, event, sns
from twinmail.sending_event import Recipient, SendingEventError, is_sns, read
from twinmail.sent_record import SentRecord, SentRecordError, record


def found(document: Any) -> Any:
    return read(sns(document))


def test_send_tells_the_sender_and_both_ids() -> None:
    sent = found(event("Send"))
    assert (sent.kind, sent.ses_id, sent.message_id) == ("Send", SES_ID, "<mine@client.example.org>")
    assert sent.at == sent.sent == datetime(2026, 11, 22, 10, 0, 0, 123000, UTC)
    assert (sent.source, sent.caller, sent.subject) == ("ann@example.org", "tests-smtp-ann", "Grüße")
    assert sent.destinations == ("far@example.com", "bob@example.org")


def test_bounce_tells_whom_and_why() -> None:
    one = found(bounce())
    assert (one.kind, one.category, one.permanent) == ("Bounce", "Permanent/General", True)
    assert one.recipients == (Recipient("far@example.com", "5.1.1", "550 5.1.1 user unknown"),)
    assert one.at == datetime(2026, 11, 22, 10, 0, 5, 500000, UTC)
    assert not found(bounce("Transient", "MailboxFull")).permanent
    assert not found(bounce("Undetermined", "Undetermined")).permanent


def test_bounce_may_say_nothing_but_the_address() -> None:
    one = found(bounce("Transient", "General", ({"emailAddress": "Far Away <far@example.com>"},)))
    assert one.recipients == (Recipient("far@example.com"),)


def test_complaint_is_one() -> None:
    one = found(complaint())
    assert (one.kind, one.category, one.permanent) == ("Complaint", "abuse", True)
    assert one.recipients == (Recipient("far@example.com"),)


def test_older_notifications_of_an_identity_are_read_too() -> None:
    document = bounce()
    document["notificationType"] = document.pop("eventType")
    del document["mail"]["tags"]
    one = found(document)
    assert (one.kind, one.caller) == ("Bounce", "")


def test_source_may_have_a_name() -> None:
    assert found(event("Send", source="Ann Example <ann@example.org>")).source == "ann@example.org"


@pytest.mark.parametrize("kind", ["Delivery", "Open", "Click", "DeliveryDelay", "Subscription"])
def test_other_events_do_not_concern_us(kind: str) -> None:
    assert found(event(kind)) is None


def test_greeting_of_a_new_destination_is_no_event() -> None:
    assert found("Successfully validated SNS topic for Amazon SES event publishing.") is None


@pytest.mark.parametrize(
    "document",
    [
        "",
        "nonsense",
        "[]",
        "null",
        '"text"',
        "[" * 100_000,
        json.dumps({"eventType": "Send"}),
        json.dumps(event("Send", messageId="../../etc")),
        json.dumps(event("Send", timestamp="yesterday")),
        json.dumps(event("Send", timestamp="2026-11-22T10:00:00")),
        json.dumps(bounce(recipients=({},))),
        json.dumps(event("Send", tags=7)),
    ],
)
def test_what_is_no_event_is_refused(document: str) -> None:
    with pytest.raises(SendingEventError, match="event about a sent message: "):
        found(document)


@pytest.mark.parametrize("record", [{}, {"Sns": None}, {"Sns": {"Message": 1}}])
def test_record_without_a_message_is_refused(record: dict[str, Any]) -> None:
    with pytest.raises(SendingEventError):
        read(record)


def test_texts_are_one_line_of_bounded_length_whatever_they_hold() -> None:
    hostile = "a\r\nBcc: x@example.com\x00\ud800" + "b" * 100_000
    one = found(event("Send", commonHeaders={"subject": hostile}))
    assert "\n" not in one.subject and "\r" not in one.subject and "\x00" not in one.subject
    assert len(one.subject) <= 2000
    one.subject.encode("utf-8")


def test_missing_parts_are_empty() -> None:
    sent = found(event("Send", headers=None, commonHeaders=None, tags=None, destination=None, source=None))
    assert (sent.message_id, sent.subject, sent.caller, sent.destinations, sent.source) == (
        "",
        "",
        "",
        (),
        "",
    )


def test_records_of_sns_are_told_from_those_of_ses() -> None:
    assert is_sns(sns({})) and not is_sns({"eventSource": "aws:ses"}) and not is_sns(None)


def test_record_of_a_sent_message_survives_its_encoding() -> None:
    kept = record(CONFIG, found(event("Send")))
    assert SentRecord.from_bytes(kept.to_bytes()) == kept
    assert kept.key == f"state/sent/2026/11/22/{SES_ID}.json"
    assert (kept.mailbox, kept.mailboxes) == ("ann", ("ann",))


@pytest.mark.parametrize(
    ("caller", "source", "expected"),
    [
        ("tests-smtp-bob", "ann@example.org", ("bob",)),
        ("tests-smtp-webmail", "bob@example.org", ("bob",)),
        ("root", "bob+tag@example.org", ("bob",)),
        ("", "whoever@example.net", ("ann",)),
        ("", "nobody@example.com", ()),
        ("tests-smtp-", "", ()),
    ],
)
def test_mailbox_is_that_of_the_credential_else_of_the_address(
    caller: str, source: str, expected: tuple[str, ...]
) -> None:
    kept = record(CONFIG, found(event("Send", source=source, tags={"ses:caller-identity": [caller]})))
    assert kept.mailboxes == expected and kept.mailbox == (expected[0] if expected else "")


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"version":2}', b'{"version":1,"at":"x"}'])
def test_damaged_record_is_refused(data: bytes) -> None:
    with pytest.raises(SentRecordError):
        SentRecord.from_bytes(data)
