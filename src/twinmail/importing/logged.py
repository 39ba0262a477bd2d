"""What the log has already: imported messages by identity, and what SES received for the mailbox.

An identity counts as imported only if the manifest has an entry of it, which is written last; nothing that is
kept on this machine is believed without.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from twinmail.header_fields import body, fields
from twinmail.importing.canonical import PREFIX, canonical
from twinmail.layout import MANIFEST
from twinmail.message import HEADER_BYTES, read_metadata
from twinmail.packs.archive import Archive

_ENTRY = re.compile(re.escape(MANIFEST) + r"[0-9/]{10}/[0-9.]+Z-(" + re.escape(PREFIX) + r"[0-9a-f]+)\.json")
# What makes two copies the same message to a person, however they travelled.
_TELLING = ("date", "from", "subject", "message-id")


def imported(s3: Any, bucket: str) -> set[str]:
    """The identities of all messages that were imported, from the names of manifest entries, packed ones too.

    A thousand names a request, so that 100,000 messages cost 100 requests.
    """
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=MANIFEST)
    listed = (one["Key"] for page in pages for one in page.get("Contents", ()))
    keys = chain(listed, Archive(s3, bucket).keys())
    return {match[1] for key in keys if (match := _ENTRY.fullmatch(key))}


@dataclass(frozen=True)
class Received:
    """What SES received for one mailbox.

    Attributes:
        keys: keys of the messages' objects by Message-ID.
    """

    s3: Any
    bucket: str
    keys: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, s3: Any, bucket: str, dynamodb: Any, table: str, mailbox: str) -> "Received":
        """Look into the index *table*: one query for all messages of *mailbox*."""
        found: dict[str, tuple[str, ...]] = {}
        for item in _items(dynamodb, table, mailbox):
            name = item.get("message_id", {}).get("S", "")
            if name and not item["ses_id"]["S"].startswith(PREFIX):
                found[name] = (*found.get(name, ()), item["key"]["S"])
        return cls(s3, bucket, found)

    def has(self, message: bytes) -> bool:
        """Whether SES received *message*: the same Message-ID, sender, subject and date, and the same body.

        Other fields may differ: each server on the way writes its own.
        """
        name = read_metadata(message[:HEADER_BYTES]).message_id
        keys = self.keys.get(name, ()) if name else ()
        return any(same(message, self._read(key)) for key in keys)

    def _read(self, key: str) -> bytes:
        try:
            data: bytes = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        except self.s3.exceptions.NoSuchKey:
            packed = Archive(self.s3, self.bucket).read(key)
            return b"" if packed is None else b"".join(packed)
        return data


def same(one: bytes, other: bytes) -> bool:
    """Whether two copies are the same message to a person."""
    return _told(one) == _told(other) and _content(one) == _content(other)


def _told(message: bytes) -> tuple[tuple[str, str], ...]:
    found = {one.name: one.text for one in reversed(fields(message)) if one.name in _TELLING}
    return tuple(sorted(found.items()))


def _content(message: bytes) -> bytes:
    return canonical(b"\n" + body(message))


def _items(dynamodb: Any, table: str, mailbox: str) -> Iterator[Mapping[str, Any]]:
    pages = dynamodb.get_paginator("query").paginate(
        TableName=table,
        KeyConditionExpression="mailbox = :mailbox",
        ProjectionExpression="message_id, ses_id, #key",
        ExpressionAttributeNames={"#key": "key"},
        ExpressionAttributeValues={":mailbox": {"S": mailbox}},
    )
    for page in pages:
        yield from page["Items"]
