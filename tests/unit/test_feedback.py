"""Notices: what the sender of a message that came back reads, and that a program can read it too."""

import email
import email.policy
from email.message import EmailMessage
from typing import Any

import pytest

from tests.cloud import CONFIG
from tests.sending_events import SES_ID, bounce, complaint, event, sns
from twinmail.feedback import Feedback, FeedbackError, feedback, notice
from twinmail.sending_event import read


def made(document: dict[str, Any]) -> tuple[Feedback, EmailMessage, bytes]:
    one = read(sns(document))
    assert one is not None
    found = feedback(one, ("ann",))
    octets = notice(CONFIG, one, found)
    parsed = email.message_from_bytes(octets, policy=email.policy.default)
    assert isinstance(parsed, EmailMessage)
    assert not parsed.defects
    return found, parsed, octets


def text_of(parsed: EmailMessage) -> str:
    part = parsed.get_body(("plain",))
    assert part is not None
    content: str = part.get_content()
    return content


def test_notice_of_a_bounce_says_what_to_whom_why_and_what_to_do() -> None:
    _, parsed, octets = made(bounce())
    assert parsed["Subject"] == "Not delivered: Grüße"
    assert parsed["From"].addresses[0].addr_spec == "MAILER-DAEMON@example.org"
    assert parsed["To"] == "ann@example.org"
    assert parsed["Auto-Submitted"] == "auto-replied"
    text = text_of(parsed)
    for words in (
        "far@example.com",
        "Grüße",
        "22 Nov 2026 10:00 UTC, from ann@example.org",
        "There is no such address.",
        "550 5.1.1 user unknown",
        "send the message again",
    ):
        assert words in text
    assert octets.isascii() and b"\n" not in octets.replace(b"\r\n", b"")
    assert max(map(len, octets.split(b"\r\n"))) < 998


def test_notice_threads_with_the_copy_in_sent_under_either_id() -> None:
    _, parsed, _ = made(bounce())
    assert parsed["In-Reply-To"] == "<mine@client.example.org>"
    assert parsed["References"].split() == [
        "<mine@client.example.org>",
        f"<{SES_ID}@eu-central-1.amazonses.com>",
    ]
    _, parsed, _ = made(bounce(headers=[]))
    assert parsed["In-Reply-To"] == f"<{SES_ID}@eu-central-1.amazonses.com>"


def test_bounce_is_a_delivery_status_notification_for_programs() -> None:
    _, parsed, _ = made(bounce())
    assert parsed.get_content_type() == "multipart/report"
    assert parsed.get_param("report-type") == "delivery-status"
    status = next(one for one in parsed.walk() if one.get_content_type() == "message/delivery-status")
    whole, recipient = status.get_payload()  # type: ignore[misc]
    assert whole["Reporting-MTA"] == "dns; email-smtp.eu-central-1.amazonaws.com"
    assert recipient["Final-Recipient"] == "rfc822; far@example.com"
    assert recipient["Status"] == "5.1.1"
    assert recipient["Diagnostic-Code"] == "smtp; 550 5.1.1 user unknown"


def test_complaint_is_an_abuse_report() -> None:
    found, parsed, octets = made(complaint())
    assert parsed["Subject"] == "Marked as spam: Grüße"
    assert parsed.get_param("report-type") == "feedback-report"
    assert b"Feedback-Type: abuse\r\n" in octets
    assert b"Original-Rcpt-To: far@example.com\r\n" in octets
    assert "Do not write to this address again" in text_of(parsed)
    assert found.id.startswith("complaint-")


@pytest.mark.parametrize(
    ("document", "headline", "words"),
    [
        (bounce("Transient", "MailboxFull"), "Maybe not delivered", "mailbox is full"),
        (bounce("Permanent", "Suppressed"), "Not delivered", "not even tried"),
        (bounce("Permanent", "OnAccountSuppressionList"), "Not delivered", "not even tried"),
        (bounce("Permanent", "NoEmail"), "Not delivered", "no such address"),
        (bounce("Transient", "MessageTooLarge"), "Maybe not delivered", "too large"),
        (bounce("Transient", "ContentRejected"), "Maybe not delivered", "does not accept what is in it"),
        (
            bounce("Transient", "General", ({"emailAddress": "far@example.com"},)),
            "Maybe not delivered",
            "automatic answer",
        ),
        (
            bounce("Permanent", "General", ({"emailAddress": "f@example.com", "status": "5.7.26"},)),
            "Not delivered",
            "by its rules",
        ),
        (
            bounce("Permanent", "General", ({"emailAddress": "f@example.com", "status": "5.9.9"},)),
            "Not delivered",
            "refused it",
        ),
        (event("Reject", {"reason": "Bad content"}), "Not sent", "virus"),
    ],
)
def test_reason_is_in_plain_words(document: dict[str, Any], headline: str, words: str) -> None:
    _, parsed, _ = made(document)
    assert str(parsed["Subject"]).startswith(f"{headline}: ")
    assert words in text_of(parsed)


def test_repetition_of_an_event_gives_the_same_octets_and_name() -> None:
    first, second = made(bounce()), made(bounce())
    assert first[0] == second[0] and first[2] == second[2]


def test_each_bounce_of_a_message_has_a_name_of_its_own_also_without_an_id() -> None:
    names = {made(bounce(feedback_id=one))[0].id for one in ("0107018f-1-000000", "0107018f-2-000000", "")}
    other = ({"emailAddress": "other@example.com"},)
    names |= {made(bounce(feedback_id="", recipients=other))[0].id, made(complaint())[0].id}
    assert len(names) == 5


def test_name_tells_what_counts_for_ses() -> None:
    assert made(bounce())[0].key.startswith("state/feedback/2026/11/22/bounce-permanent-")
    assert made(bounce("Transient"))[0].key.startswith("state/feedback/2026/11/22/bounce-transient-")
    assert made(event("Reject"))[0].key.startswith("state/feedback/2026/11/22/reject-")


def test_hostile_texts_stay_texts() -> None:
    hostile = "x\r\n\r\n--=_boundary\r\nBcc: evil@example.com"
    recipients = (
        {"emailAddress": f"a@b.example\r\nX: {hostile}", "status": hostile, "diagnosticCode": hostile},
    )
    _, parsed, octets = made(
        bounce(
            recipients=recipients,
            source=f"ann@example.org\r\nBcc: {hostile}",
            commonHeaders={"subject": hostile},
            headers=[{"name": "Message-ID", "value": f"<a>{hostile}"}],
        )
    )
    assert parsed["Bcc"] is None and parsed["X"] is None
    assert parsed["Subject"] == "Not delivered: x --=_boundary Bcc: evil@example.com"
    assert b"\r\nBcc:" not in octets and b"\r\nX:" not in octets
    assert len(list(parsed.iter_parts())) == 3


def test_thousand_recipients_are_shown_in_part() -> None:
    many = tuple({"emailAddress": f"u{number}@example.com"} for number in range(1000))
    found, _, octets = made(bounce(recipients=many))
    assert len(found.recipients) == 50 and len(octets) < 20_000


def test_record_survives_its_encoding() -> None:
    found, _, _ = made(bounce())
    assert Feedback.from_bytes(found.to_bytes()) == found
    for data in (b"", b"[]", b"{}", b'{"version":2}', b'{"version":1}'):
        with pytest.raises(FeedbackError):
            Feedback.from_bytes(data)
