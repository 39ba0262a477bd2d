"""Events about sent messages as SES publishes them, and as SNS hands them to the function."""

import json
from typing import Any

# After the examples in the SES Developer Guide, "Examples of event data that Amazon SES publishes to SNS".
SES_ID = "0107018f0a1b2c3d-4e5f6071-8293-a4b5-c6d7-e8f901234567-000000"


def mail(**more: Any) -> dict[str, Any]:
    return {
        "timestamp": "2026-11-22T10:00:00.123Z",
        "source": "ann@example.org",
        "sourceArn": "arn:aws:ses:eu-central-1:123456789012:identity/example.org",
        "sendingAccountId": "123456789012",
        "messageId": SES_ID,
        "destination": ["far@example.com", "bob@example.org"],
        "headersTruncated": False,
        "headers": [
            {"name": "From", "value": "Ann <ann@example.org>"},
            {"name": "Message-ID", "value": "<mine@client.example.org>"},
            {"name": "Subject", "value": "=?utf-8?q?Gr=C3=BC=C3=9Fe?="},
        ],
        "commonHeaders": {"from": ["Ann <ann@example.org>"], "messageId": SES_ID, "subject": "Grüße"},
        "tags": {"ses:configuration-set": ["tests"], "ses:caller-identity": ["tests-smtp-ann"]},
        **more,
    }


def event(kind: str, details: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"eventType": kind, kind.lower(): details or {}, "mail": mail(**more)}


def bounce(
    kind: str = "Permanent",
    subtype: str = "General",
    recipients: tuple[dict[str, str], ...] = (
        {
            "emailAddress": "far@example.com",
            "action": "failed",
            "status": "5.1.1",
            "diagnosticCode": "smtp; 550 5.1.1 user unknown",
        },
    ),
    feedback_id: str = "0107018f0a1b2c3e-11111111-2222-3333-4444-555555555555-000000",
    **more: Any,
) -> dict[str, Any]:
    details = {
        "bounceType": kind,
        "bounceSubType": subtype,
        "bouncedRecipients": list(recipients),
        "timestamp": "2026-11-22T10:00:05.500Z",
        "feedbackId": feedback_id,
        "reportingMTA": "dns; a1-1.smtp-out.eu-central-1.amazonses.com",
    }
    return event("Bounce", details, **more)


def complaint(**more: Any) -> dict[str, Any]:
    details = {
        "complainedRecipients": [{"emailAddress": "far@example.com"}],
        "timestamp": "2026-11-22T11:00:00.000Z",
        "feedbackId": "0107018f0a1b2c3f-11111111-2222-3333-4444-555555555555-000000",
        "userAgent": "Provider FBL",
        "complaintFeedbackType": "abuse",
    }
    return event("Complaint", details, **more)


def sns(document: Any) -> dict[str, Any]:
    """A record of an invocation by SNS; *document* may be a text that is no JSON."""
    message = document if isinstance(document, str) else json.dumps(document)
    return {
        "EventSource": "aws:sns",
        "EventVersion": "1.0",
        "EventSubscriptionArn": "arn:aws:sns:eu-central-1:123456789012:tests-outgoing:0a1b2c3d",
        "Sns": {
            "Type": "Notification",
            "MessageId": "d1e2f3",
            "TopicArn": "arn:aws:sns:eu-central-1:123456789012:tests-outgoing",
            "Subject": "Amazon SES Email Event Notification",
            "Message": message,
            "Timestamp": "2026-11-22T10:00:06.000Z",
        },
    }
