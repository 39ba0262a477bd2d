"""The events that SES publishes about a sent message. Pure.

Source: SES Developer Guide, "Contents of event data that Amazon SES publishes to Amazon SNS".
"""

from collections.abc import Mapping
from typing import Any

from twinmail_localstack.edge.event import HEADER_LIMIT, common_headers, timestamp
from twinmail_localstack.edge.headers import fields, header_block
from twinmail_localstack.sent import Sent

SUBJECT = "Amazon SES Email Event Notification"


def event(kind: str, sent: Sent, details: Mapping[str, Any]) -> dict[str, Any]:
    """The event *kind* (``Send``, ``Bounce``, …), whose *details* stand under its name in lower case."""
    return {"eventType": kind, kind[:1].lower() + kind[1:]: dict(details), "mail": mail(sent)}


def mail(sent: Sent) -> dict[str, Any]:
    """The ``mail`` object.

    The fields are those of the original: a Message-ID among them is the one of the sender. The one that SES
    gives is ``messageId``, here and in ``commonHeaders``.
    """
    found, truncated = fields(header_block(sent.data), HEADER_LIMIT)
    common = common_headers(found)
    kept = {name: common[name] for name in ("from", "date", "to", "cc", "bcc", "subject") if name in common}
    domain = sent.source.rpartition("@")[2]
    return {
        "timestamp": timestamp(sent.at),
        "source": sent.source,
        "sourceArn": sent.source_arn,
        "sendingAccountId": sent.account,
        "messageId": sent.ses_id,
        "destination": list(sent.destinations),
        "headersTruncated": truncated,
        "headers": [{"name": one.name, "value": one.value} for one in found],
        "commonHeaders": {**kept, "messageId": sent.ses_id},
        "tags": {
            "ses:operation": [sent.operation],
            "ses:configuration-set": [sent.configuration_set],
            "ses:source-ip": ["127.0.0.1"],
            "ses:from-domain": [domain],
            "ses:caller-identity": [sent.caller],
        },
    }
