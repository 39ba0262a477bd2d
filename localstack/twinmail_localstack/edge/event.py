"""What SES tells others about a message: the Lambda event and the SNS notification. Pure.

Source: SES Developer Guide, "Contents of notifications for Amazon SES email receiving" and "Sample incoming
email event". The Lambda event has neither the body nor the bucket.
"""

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from typing import Any

from twinmail_localstack.edge.headers import Field, fields, header_block
from twinmail_localstack.edge.receipt import S3, Action, AddHeader, Bounce, Ignored, Lambda, Sns, Step, Stop
from twinmail_localstack.edge.reception import Reception
from twinmail_localstack.edge.verdict import Verdicts

HEADER_LIMIT = 10 * 1024
"""Octets of header fields in an event; SES leaves out what is beyond and sets ``headersTruncated``."""

SNS_CONTENT_LIMIT = 150 * 1024
"""Octets of the largest message that an SNS action publishes; larger ones bounce."""

_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"')
_COMMENT = re.compile(r"\([^()]*\)")
_ADDRESS = re.compile(r'[^\s<>(),;:"@]+@[^\s<>(),;:"@]+')

_COMMON = {
    "return-path": "returnPath",
    "from": "from",
    "sender": "sender",
    "reply-to": "replyTo",
    "date": "date",
    "to": "to",
    "cc": "cc",
    "bcc": "bcc",
    "message-id": "messageId",
    "subject": "subject",
}
_LISTS = {"from", "to", "cc", "bcc", "replyTo"}


def timestamp(moment: datetime) -> str:
    """*moment* as SES writes it: UTC, milliseconds, Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def mail(reception: Reception, message: bytes) -> dict[str, Any]:
    """The ``mail`` object; *message* starts with the fields that SES and the rules added."""
    found, truncated = fields(header_block(message), HEADER_LIMIT)
    return {
        "timestamp": timestamp(reception.arrived),
        "source": reception.mail_from,
        "messageId": reception.ses_id,
        "destination": list(destination(found)),
        "headersTruncated": truncated,
        "headers": [{"name": one.name, "value": one.value} for one in found],
        "commonHeaders": common_headers(found),
    }


def destination(found: Sequence[Field]) -> tuple[str, ...]:
    """The addresses of To, Cc and Bcc: what the header says, which is not the envelope."""
    texts = (one.value for one in found if one.name.lower() in ("to", "cc", "bcc"))
    addresses = (address for text in texts for address in _addresses(text))
    return tuple(dict.fromkeys(addresses))


def _addresses(text: str) -> list[str]:
    return _ADDRESS.findall(_COMMENT.sub(" ", _QUOTED.sub(" ", text)))


def common_headers(found: Sequence[Field]) -> dict[str, Any]:
    """The ``commonHeaders`` object: the first field of each name, decoded (RFC 2047)."""
    common: dict[str, Any] = {}
    for one in found:
        key = _COMMON.get(one.name.lower())
        if key is None or key in common:
            continue
        if key == "returnPath":
            common[key] = one.value.strip("<>")
        elif key in _LISTS:
            common[key] = [_decoded(part) for part in _split(one.value)]
        else:
            common[key] = _decoded(one.value)
    return common


def _split(text: str) -> Iterator[str]:
    """The members of an address list: split at the commas outside of quotes, comments and brackets."""
    depth, quoted, escaped, start = 0, False, False, 0
    for position, one in enumerate(text):
        if escaped:
            escaped = False
        elif one == "\\":
            escaped = True
        elif one == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif one in "(<":
            depth += 1
        elif one in ")>":
            depth = max(0, depth - 1)
        elif one == "," and depth == 0:
            if text[start:position].strip():
                yield text[start:position].strip()
            start = position + 1
    if text[start:].strip():
        yield text[start:].strip()


def _decoded(text: str) -> str:
    if "=?" not in text:
        return text
    try:
        return str(make_header(decode_header(text)))
    except (HeaderParseError, LookupError, ValueError, AssertionError):
        # An unknown charset, octets that are not of it, or base64 that is none: the raw text stands.
        return text


def receipt(
    reception: Reception,
    verdicts: Verdicts,
    recipients: Sequence[str],
    action: Mapping[str, Any],
    now: datetime,
) -> dict[str, Any]:
    """The ``receipt`` object: the envelope that the rule matched, and the verdicts."""
    return {
        "timestamp": timestamp(reception.arrived),
        "processingTimeMillis": max(0, int((now - reception.arrived).total_seconds() * 1000)),
        "recipients": list(recipients),
        "spamVerdict": {"status": verdicts.spam},
        "virusVerdict": {"status": verdicts.virus},
        "spfVerdict": {"status": verdicts.spf},
        "dkimVerdict": {"status": verdicts.dkim},
        "dmarcVerdict": {"status": verdicts.dmarc},
        "action": dict(action),
    }


def described(action: Action, ses_id: str) -> dict[str, Any]:
    """The ``action`` object of a receipt."""
    match action:
        case S3(bucket, prefix, topic):
            body: dict[str, Any] = {
                "type": "S3",
                "topicArn": topic,
                "bucketName": bucket,
                "objectKeyPrefix": prefix or None,
                "objectKey": f"{prefix}{ses_id}",
            }
        case Lambda(function, wait, topic):
            body = {
                "type": "Lambda",
                "topicArn": topic,
                "functionArn": function,
                "invocationType": "RequestResponse" if wait else "Event",
            }
        case Sns(topic, encoding):
            body = {"type": "SNS", "topicArn": topic, "encoding": encoding.replace("-", "").upper()}
        case Stop(topic):
            body = {"type": "Stop", "topicArn": topic}
        case Bounce(code, status, message, sender, topic):
            body = {
                "type": "Bounce",
                "topicArn": topic,
                "smtpReplyCode": code,
                "statusCode": status,
                "message": message,
                "sender": sender,
            }
        case AddHeader():
            body = {"type": "AddHeader"}
        case Ignored(kind):
            body = {"type": kind.removesuffix("Action")}
    return {key: value for key, value in body.items() if value is not None}


def lambda_event(
    reception: Reception, verdicts: Verdicts, message: bytes, step: Step, now: datetime
) -> dict[str, Any]:
    """The event a function gets: one for all recipients that the rule matched."""
    action = described(step.action, reception.ses_id)
    action.pop("topicArn", None)
    ses = {
        "mail": mail(reception, message),
        "receipt": receipt(reception, verdicts, step.recipients, action, now),
    }
    return {"Records": [{"eventSource": "aws:ses", "eventVersion": "1.0", "ses": ses}]}


def notification(
    reception: Reception, verdicts: Verdicts, message: bytes, step: Step, now: datetime
) -> dict[str, Any]:
    """The notification a topic gets; with the content only from an SNS action."""
    action = described(step.action, reception.ses_id)
    body: dict[str, Any] = {
        "notificationType": "Received",
        "mail": mail(reception, message),
        "receipt": receipt(reception, verdicts, step.recipients, action, now),
    }
    if isinstance(step.action, Sns):
        if action["encoding"] == "BASE64":
            body["content"] = base64.b64encode(message).decode("ascii")
        else:
            body["content"] = message.decode("utf-8", "replace")
    return body
