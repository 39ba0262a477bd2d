"""What the edge writes before a message and says about it: SES's headers, events and notifications."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmail.layout import incoming_key
from twinmail_localstack.edge import bounce, event, headers
from twinmail_localstack.edge.receipt import S3, Bounce, Lambda, Sns, Step
from twinmail_localstack.edge.reception import Reception, new_ses_id
from twinmail_localstack.edge.submission import smtp_password
from twinmail_localstack.edge.verdict import EICAR, EICAR_BASE64, GTUBE, Verdicts, judge

ARRIVED = datetime(2026, 11, 23, 3, 4, 16, 123456, tzinfo=UTC)
RECEPTION = Reception(
    ses_id="vm1p3c6jenrgbr944ldf0ljraep1ndp19hbclt01",
    arrived=ARRIVED,
    client="192.0.2.7",
    helo="mail.example.com",
    mail_from="sender@example.com",
    rcpt_to=("ann@example.org",),
    content=(
        b'From: "Doe, John" <john@example.com>\r\nTo: ann@example.org,\r\n "B, C" <c@example.net>\r\n'
        b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nReceived: by x\r\n        for y\r\n\r\nbody\r\n"
    ),
)
STEP = Step("rule", ("ann@example.org", "bcc@example.org"), Lambda("arn:f"))
NOW = ARRIVED + timedelta(milliseconds=42)


def lambda_event(content: bytes) -> dict[str, object]:
    reception = replace(RECEPTION, content=content)
    message = headers.trace(reception, Verdicts(), "eu-central-1") + content
    document = event.lambda_event(reception, Verdicts("PASS", "FAIL"), message, STEP, NOW)
    assert json.loads(json.dumps(document)) == document
    record = document["Records"][0]
    assert (record["eventSource"], record["eventVersion"]) == ("aws:ses", "1.0")
    ses: dict[str, object] = record["ses"]
    return ses


def test_ses_ids_have_the_shape_of_ses_and_fit_the_layout() -> None:
    ids = {new_ses_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch(r"[0-9a-v]{38}[08go]1", one) for one in ids)
    assert incoming_key(next(iter(ids)))


def test_trace_has_the_fields_of_ses_in_their_order() -> None:
    block = headers.trace(RECEPTION, Verdicts("PASS", "PASS"), "eu-central-1")
    assert [
        line.partition(b":")[0] for line in block.split(b"\r\n") if line and not line.startswith(b" ")
    ] == [
        b"Return-Path",
        b"Received",
        b"X-SES-Spam-Verdict",
        b"X-SES-Virus-Verdict",
        b"Received-SPF",
        b"Authentication-Results",
        b"X-SES-RECEIPT",
        b"X-SES-DKIM-SIGNATURE",
    ]
    assert block.startswith(
        b"Return-Path: <sender@example.com>\r\n"
        b"Received: from mail.example.com (unknown [192.0.2.7])\r\n"
        b" by inbound-smtp.eu-central-1.amazonaws.com with SMTP id vm1p3c6jenrgbr944ldf0ljraep1ndp19hbclt01\r\n"
        b" for ann@example.org;\r\n"
        b" Mon, 23 Nov 2026 03:04:16 +0000 (UTC)\r\n"
    )


def test_with_several_recipients_none_is_told_about_the_others() -> None:
    reception = replace(RECEPTION, rcpt_to=("ann@example.org", "secret@example.org"))
    assert b"secret" not in headers.trace(reception, Verdicts(), "eu-central-1")


@given(st.text(), st.text(), st.binary())
def test_nothing_a_client_says_adds_a_field(helo: str, sender: str, content: bytes) -> None:
    reception = replace(RECEPTION, helo=helo, mail_from=sender, content=content)
    block = headers.trace(reception, Verdicts(), "eu-central-1")
    assert len(block.split(b"\r\n")) == len(
        headers.trace(RECEPTION, Verdicts(), "eu-central-1").split(b"\r\n")
    )
    assert block.count(b"\r") == block.count(b"\n") == block.count(b"\r\n")


def test_event_tells_envelope_and_header_apart() -> None:
    ses = lambda_event(RECEPTION.content)
    mail, receipt = ses["mail"], ses["receipt"]
    assert isinstance(mail, dict)
    assert isinstance(receipt, dict)
    assert mail["messageId"] == RECEPTION.ses_id
    assert mail["source"] == "sender@example.com"
    assert mail["timestamp"] == "2026-11-23T03:04:16.123Z"
    assert mail["destination"] == ["ann@example.org", "c@example.net"]
    assert mail["headersTruncated"] is False
    assert mail["headers"][0] == {"name": "Return-Path", "value": "<sender@example.com>"}
    assert mail["headers"][-1] == {"name": "Received", "value": "by x        for y"}
    assert mail["commonHeaders"] == {
        "returnPath": "sender@example.com",
        "from": ['"Doe, John" <john@example.com>'],
        "to": ["ann@example.org", '"B, C" <c@example.net>'],
        "subject": "Grüße",
    }
    assert receipt == {
        "timestamp": "2026-11-23T03:04:16.123Z",
        "processingTimeMillis": 42,
        "recipients": ["ann@example.org", "bcc@example.org"],
        "spamVerdict": {"status": "PASS"},
        "virusVerdict": {"status": "FAIL"},
        "spfVerdict": {"status": "GRAY"},
        "dkimVerdict": {"status": "GRAY"},
        "dmarcVerdict": {"status": "GRAY"},
        "action": {"type": "Lambda", "functionArn": "arn:f", "invocationType": "Event"},
    }


def test_headers_beyond_10_kb_are_left_out_and_it_says_so() -> None:
    many = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 100) for number in range(2000))
    ses = lambda_event(b"Subject: first\r\n" + many + b"To: ann@example.org\r\n\r\nbody")
    mail = ses["mail"]
    assert isinstance(mail, dict)
    assert mail["headersTruncated"] is True
    assert mail["commonHeaders"]["subject"] == "first"
    assert "to" not in mail["commonHeaders"]
    assert len(json.dumps(mail["headers"])) < 16 * 1024
    assert all(one["value"] in ("first", "x" * 100) for one in mail["headers"][8:])


@given(st.binary(max_size=300))
def test_any_content_makes_an_event_without_its_body(content: bytes) -> None:
    lambda_event(content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\r\n",
        b"\r\nSubject: in the body\r\n",
        b" continued\r\nSubject: x\r\n\r\n",
        b"no colon\r\nSub ject: x\r\n: y\r\n\r\n",
        b"Subject: =?no-such-charset?b?////?=\r\n\r\n",
        b"Subject: =?utf-8?b?a?=\r\n\r\n",
        b'To: ((((((\r\nFrom: <<<>>>\r\nCc: ,,,"\\\r\n\r\n',
        b"Subject: \x00\xff\r\n\r\n",
        b"To: " + b"a@b.c," * 20000 + b"\r\n\r\n",
        b"X" * 100_000,
    ],
    ids=lambda content: repr(content[:20]),
)
def test_hostile_headers_make_an_event(content: bytes) -> None:
    ses = lambda_event(content)
    assert len(json.dumps(ses)) < 100_000


def test_notification_has_the_content_only_for_the_sns_action() -> None:
    message = b"Subject: x\r\n\r\n\xff"
    with_content = Step("rule", ("a@b",), Sns("arn:t", "Base64"))
    found = event.notification(RECEPTION, Verdicts(), message, with_content, NOW)
    assert found["content"] == "U3ViamVjdDogeA0KDQr/"
    assert found["receipt"]["action"] == {"type": "SNS", "topicArn": "arn:t", "encoding": "BASE64"}
    stored = Step("rule", ("a@b",), S3("bucket", "in/", "arn:t"))
    found = event.notification(RECEPTION, Verdicts(), message, stored, NOW)
    assert "content" not in found
    assert found["receipt"]["action"] == {
        "type": "S3",
        "topicArn": "arn:t",
        "bucketName": "bucket",
        "objectKeyPrefix": "in/",
        "objectKey": f"in/{RECEPTION.ses_id}",
    }


def test_verdicts_follow_the_standard_test_strings() -> None:
    assert judge(b"x" + GTUBE, scanned=True).spam == "FAIL"
    assert judge(b"x" + EICAR, scanned=True).virus == "FAIL"
    assert judge(b"x" + EICAR_BASE64, scanned=True).virus == "FAIL"
    assert judge(b"x", scanned=True) == Verdicts("PASS", "PASS", "GRAY", "GRAY", "GRAY")
    assert judge(GTUBE + EICAR, scanned=False) == Verdicts("DISABLED", "DISABLED", "GRAY", "GRAY", "GRAY")
    assert judge(b"x", scanned=True, own=True).dmarc == "PASS"


def test_smtp_password_is_derived_as_documented() -> None:
    """The example key of the Developer Guide; the value was computed with the script printed there."""
    secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    assert smtp_password(secret, "us-east-1") == "BLBM/9hSUELfq8Gw+rU1YcBjkOxGbhT2XG763xVLGWL9"


def test_sent_mail_carries_the_ids_of_ses_and_no_bcc() -> None:
    content = (
        b"Bcc: secret@example.org,\r\n more@example.org\r\nMessage-ID: <mine@x>\r\nDate: then\r\n"
        b"Subject: x\r\n\r\nBcc: in the body\r\n"
    )
    sent = headers.resent(content, "0107-1-000000", "eu-central-1", ARRIVED)
    assert sent == (
        b"Subject: x\r\n"
        b"Message-ID: <0107-1-000000@eu-central-1.amazonses.com>\r\n"
        b"Date: Mon, 23 Nov 2026 03:04:16 +0000\r\n"
        b"Feedback-ID: ::1.eu-central-1.0107-1-000000:AmazonSES\r\n"
        b"X-SES-Outgoing: 2026.11.23-127.0.0.1\r\n"
        b"\r\nBcc: in the body\r\n"
    )


@pytest.mark.parametrize("content", [b"", b"\r\nbody", b"\nbody", b"Subject: x", b"Subject: x\n\nbody"])
def test_sent_mail_keeps_its_body_whatever_the_header_is(content: bytes) -> None:
    sent = headers.resent(content, "id", "eu-central-1", ARRIVED)
    body = b"body" if content.endswith(b"body") else b""
    assert sent.endswith(b"\n" + body)
    assert headers.header_block(sent).count(b"Message-ID") == 1


def test_bounce_is_a_delivery_status_notification() -> None:
    action = Bounce("550", "5.1.1", "Mailbox does not exist", "mailer-daemon@example.org")
    report = bounce.report(RECEPTION, action, ["ann@example.org"], "eu-central-1")
    assert b'multipart/report; report-type="delivery-status"' in report
    assert b"To: sender@example.com" in report
    assert b"Final-Recipient: rfc822; ann@example.org\nAction: failed\nStatus: 5.1.1\n" in report
