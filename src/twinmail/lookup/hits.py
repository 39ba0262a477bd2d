"""Messages that the index knows: pages of DynamoDB, merged into one stream, the newest first.

Each mailbox is one partition, and its items are in order of arrival, so a period is a key condition. The
streams of several mailboxes are merged page by page; memory does not grow with what is found.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from twinmail.config import Config
from twinmail.index import UNROUTED, position_from
from twinmail.lookup.criteria import Criteria, text, texts
from twinmail.period import Period

Item = Mapping[str, Any]


@dataclass(frozen=True)
class Hit:
    """A message.

    Attributes:
        arrived: when SES accepted it, UTC.
        mailboxes: folder by mailbox, as it was delivered; without a mailbox, nobody got it.
        withheld: why nobody got it.
    """

    ses_id: str
    arrived: datetime
    sender: str
    recipients: str
    subject: str
    date: str
    message_id: str
    size: int
    attachments: tuple[str, ...]
    verdicts: Mapping[str, str]
    mailboxes: Mapping[str, str]
    withheld: str
    key: str


def search(dynamodb: Any, config: Config, mailbox: str, period: Period, criteria: Criteria) -> Iterator[Hit]:
    """What *criteria* holds for, of *period* and *mailbox* (empty: all of *config*, and what no mailbox got).

    Raises:
        botocore.exceptions.ClientError: DynamoDB refused or was not available.
    """
    partitions = (mailbox,) if mailbox else (*config.mailboxes, UNROUTED)
    streams = [items(dynamodb, config.table, one, period) for one in partitions]
    merged = heapq.merge(*streams, key=_position, reverse=True)
    # The position holds the SES id: the items of one message, which several mailboxes got, are neighbours.
    for _, group in groupby(merged, key=_position):
        found = list(group)
        if any(criteria.match(one) for one in found):
            yield hit(found)


def items(dynamodb: Any, table: str, partition: str, period: Period) -> Iterator[Item]:
    """The items of *partition* in *period*, the newest first; each page is asked for when it is needed."""
    condition, values = "mailbox = :mailbox", {":mailbox": {"S": partition}}
    names = {}
    bounds = ((">=", ":since", period.since), ("<", ":until", period.until))
    given = [(sign, name, moment) for sign, name, moment in bounds if moment is not None]
    if len(given) == len(bounds):
        # A key condition takes one comparison of the sort key. Both ends belong to BETWEEN, but no position
        # is equal to a time alone: the SES id follows.
        condition += " AND #position BETWEEN :since AND :until"
    elif given:
        condition += f" AND #position {given[0][0]} {given[0][1]}"
    if given:
        names = {"ExpressionAttributeNames": {"#position": "position"}}
    values |= {name: {"S": position_from(moment)} for _, name, moment in given}
    pages = dynamodb.get_paginator("query").paginate(
        TableName=table,
        KeyConditionExpression=condition,
        ExpressionAttributeValues=values,
        ScanIndexForward=False,
        **names,
    )
    for page in pages:
        yield from page["Items"]


def hit(found: Iterable[Item]) -> Hit:
    """The message that the items *found* are of."""
    every = list(found)
    first = every[0]
    return Hit(
        ses_id=text(first, "ses_id"),
        arrived=datetime.fromisoformat(text(first, "arrived")),
        sender=text(first, "from") or text(first, "mail_from"),
        recipients=text(first, "to") or text(first, "rcpt_to"),
        subject=text(first, "subject"),
        date=text(first, "date"),
        message_id=text(first, "message_id"),
        size=int(first["size"]["N"]),
        attachments=tuple(texts(first, "attachments")),
        verdicts={name: str(one["S"]) for name, one in first.get("verdicts", {}).get("M", {}).items()},
        mailboxes={
            text(one, "mailbox"): text(one, "folder")
            for one in every
            if not text(one, "mailbox").startswith("#") and not text(one, "withheld")
        },
        withheld=text(first, "withheld"),
        key=text(first, "key"),
    )


def _position(item: Item) -> str:
    return text(item, "position")
