"""The searchable index: one DynamoDB table, items by mailbox in order of arrival.

Key schema: ``mailbox`` (partition) and ``position`` (sort: ``<arrival time>#<ses-id>``), and an index by
``ses_id``. Beside the items of mailboxes there is one *claim* a message: partition ``ses#<ses-id>``. Whoever
puts it first fixes the name of the manifest entry for all retries and concurrent duplicates. A message that
could not be read or indexed is *parked*: delivered, and remembered with the reason in a partition of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ParamValidationError

from twinmail.errors import PermanentError
from twinmail.field_text import TEXT_LIMIT
from twinmail.manifest import Delivery, Entry
from twinmail.message import Metadata

CLAIM = "claim"
UNROUTED = "#unrouted"
"""Partition of messages that no mailbox gets; no mailbox can have this name."""

PARKED = "#parked"
"""Partition of messages that were delivered without being read or indexed; no mailbox's name either."""

_CONFLICT = "ConditionalCheckFailedException"
_REFUSED = ("ValidationException", "ItemCollectionSizeLimitExceededException", "SerializationException")
_NEW = "attribute_not_exists(mailbox)"


class IndexRefused(PermanentError):
    """The table never takes this item."""


@dataclass(frozen=True)
class Parked:
    """A message that was delivered as it is, because something about it could not be processed.

    Attributes:
        arrived: when SES accepted it, UTC.
        reason: what failed, and how.
    """

    ses_id: str
    arrived: datetime
    reason: str


@dataclass(frozen=True)
class Index:
    """The table *name*, through a boto3 DynamoDB *client*."""

    client: Any
    name: str

    def claimed(self, ses_id: str) -> str | None:
        """The manifest key that was fixed for *ses_id*; None if there is none yet."""
        answer = self.client.get_item(TableName=self.name, Key=_claim_key(ses_id), ConsistentRead=True)
        item = answer.get("Item")
        return str(item["manifest"]["S"]) if item else None

    def claim(self, ses_id: str, manifest_key: str) -> str:
        """Fix *manifest_key* for *ses_id*, unless another one is; return the one that is."""
        item = {**_claim_key(ses_id), "manifest": {"S": manifest_key}}
        if self._put(item, _NEW):
            return manifest_key
        return self.claimed(ses_id) or manifest_key

    def renew(self, ses_id: str, old: str, new: str) -> str:
        """Replace the claim *old* by *new*, unless somebody else did; return the one that is."""
        item = {**_claim_key(ses_id), "manifest": {"S": new}}
        if self._put(item, "manifest = :old", {":old": {"S": old}}):
            return new
        return self.claimed(ses_id) or old

    def add(self, entry: Entry, placements: Sequence[Delivery], metadata: Metadata, reason: str) -> None:
        """Add the items of *entry*; those that exist stay as they are, so a replay changes nothing.

        Raises:
            IndexRefused: DynamoDB never takes one of them.
        """
        for item in items(entry, placements, metadata, reason):
            self._put(item, _NEW)

    def park(self, parked: Parked) -> None:
        """Remember a message that was not processed as others are; the first reason stays.

        Raises:
            IndexRefused: DynamoDB never takes it.
        """
        item = {
            "mailbox": {"S": PARKED},
            "position": {"S": position(parked.arrived, parked.ses_id)},
            "ses_id": {"S": parked.ses_id},
            "arrived": {"S": parked.arrived.astimezone(UTC).isoformat(timespec="milliseconds")},
            "reason": {"S": _bounded(parked.reason) or "not known"},
        }
        self._put(item, _NEW)

    def parked(self) -> Iterator[Parked]:
        """What was parked, the newest first."""
        pages = self.client.get_paginator("query").paginate(
            TableName=self.name,
            KeyConditionExpression="mailbox = :parked",
            ExpressionAttributeValues={":parked": {"S": PARKED}},
            ScanIndexForward=False,
        )
        for item in (one for page in pages for one in page["Items"]):
            arrived = datetime.fromisoformat(item["arrived"]["S"])
            yield Parked(str(item["ses_id"]["S"]), arrived, str(item["reason"]["S"]))

    def _put(self, item: Mapping[str, Any], condition: str, values: Mapping[str, Any] | None = None) -> bool:
        """Put *item* if *condition* holds; say whether it did."""
        named = {"ExpressionAttributeValues": values} if values else {}
        try:
            self.client.put_item(TableName=self.name, Item=item, ConditionExpression=condition, **named)
        except self.client.exceptions.ClientError as error:
            code = error.response["Error"]["Code"]
            if code in _REFUSED:
                raise IndexRefused(f"table {self.name}: {error}") from error
            if code != _CONFLICT:
                raise
            return False
        except (ParamValidationError, UnicodeError) as error:
            # The SDK itself refuses what cannot be sent.
            raise IndexRefused(f"table {self.name}: {type(error).__name__}: {error}") from error
        return True


def _claim_key(ses_id: str) -> dict[str, Any]:
    return {"mailbox": {"S": f"ses#{ses_id}"}, "position": {"S": CLAIM}}


def _bounded(text: str) -> str:
    """What an envelope says, as DynamoDB takes it: bounded, no lone surrogate (JSON can hold one)."""
    return text.encode("utf-8", "replace").decode("utf-8")[:TEXT_LIMIT]


def position(arrived: datetime, ses_id: str) -> str:
    """Sort key: messages in order of arrival, equal times apart by id."""
    return f"{position_from(arrived)}#{ses_id}"


def position_from(arrived: datetime) -> str:
    """What sorts before the keys of all messages that arrived at *arrived* or later, after the others."""
    return f"{arrived.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def items(
    entry: Entry, placements: Sequence[Delivery], metadata: Metadata, reason: str
) -> Sequence[Mapping[str, Any]]:
    """The items of *entry*, in DynamoDB's attribute notation: one for each of *placements*.

    *reason* says why nobody sees the message, if so. All texts are bounded, so an item stays below DynamoDB's
    400 KB whatever the message holds.
    """
    texts = {
        "ses_id": entry.ses_id,
        "key": entry.key,
        "sha256": entry.sha256,
        "mail_from": _bounded(entry.mail_from),
        "from": metadata.sender,
        "to": metadata.recipients,
        "subject": metadata.subject,
        "date": metadata.date,
        "message_id": metadata.message_id,
        "arrived": entry.arrived.astimezone(UTC).isoformat(timespec="milliseconds"),
        "withheld": reason,
    }
    lists = {
        "references": metadata.references,
        "attachments": metadata.attachments,
        "unparsed": metadata.unparsed,
    }
    shared: dict[str, Any] = {name: {"S": text} for name, text in texts.items() if text}
    shared |= {name: {"L": [{"S": one} for one in many]} for name, many in lists.items() if many}
    shared["size"] = {"N": str(entry.size)}
    shared["verdicts"] = {"M": {name: {"S": verdict} for name, verdict in entry.verdicts.items()}}
    shared["position"] = {"S": position(entry.arrived, entry.ses_id)}
    # Only where no mailbox reads it: an item for a mailbox must not name who else got the message (Bcc).
    recipients = {"rcpt_to": {"S": _bounded(", ".join(entry.rcpt_to))}}
    return [
        {
            **shared,
            **(recipients if one.mailbox == UNROUTED else {}),
            "mailbox": {"S": one.mailbox},
            "folder": {"S": one.folder},
        }
        for one in placements
    ]
