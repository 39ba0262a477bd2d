"""What each part of the system knows, as streams: listings of the bucket, and a scan of the table.

Source of the calls: Amazon S3 and DynamoDB API References.
"""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from twinmail import layout
from twinmail.audit.tally import Mark, Part
from twinmail.config import Config
from twinmail.index import PARKED, UNROUTED

SLACK = timedelta(days=1)
"""How much before the period the log is read: an entry never comes before its message, but clocks differ."""

# The name of a message's object: the id, and perhaps what tells it from another object of the same message.
_OBJECT = re.compile(r".*/(?P<ses_id>[A-Za-z0-9][A-Za-z0-9_-]{0,127}?)(?:-recovered|-[0-9a-f]{16})?\.eml")
_CLAIM = "ses#"


def stored(s3: Any, config: Config, since: datetime | None, until: datetime) -> Iterator[Mark]:
    """What SES stored from *since* to *until*; all is listed, because ids are in no order of time."""
    for one in _objects(s3, config, layout.INCOMING):
        ses_id = one["Key"].removeprefix(layout.INCOMING)
        moment = one["LastModified"]
        if ses_id != layout.SETUP_NOTIFICATION and (since is None or moment >= since) and moment <= until:
            yield Mark(ses_id, Part.STORED)


def processed(s3: Any, config: Config) -> Iterator[Mark]:
    """Objects made of messages, also those that a virus verdict stopped; imported ones are of all times."""
    for prefix in (layout.PROCESSED, layout.QUARANTINE):
        for one in _objects(s3, config, prefix):
            match = _OBJECT.fullmatch(one["Key"])
            if match:
                yield Mark(match["ses_id"], Part.PROCESSED)


def logged(s3: Any, config: Config, since: datetime | None) -> Iterator[Mark]:
    """Entries that were committed since then."""
    after = layout.manifest_day((since - SLACK).date()) if since else ""
    for one in _objects(s3, config, layout.MANIFEST, after):
        try:
            key = layout.ManifestKey.parse(one["Key"])
        except layout.LayoutError:
            continue
        yield Mark(key.ses_id, Part.LOGGED, one["Key"])


def indexed(dynamodb: Any, config: Config) -> Iterator[Mark]:
    """Claims and items of the index; the table has no order of time, so it is always read whole."""
    pages = dynamodb.get_paginator("scan").paginate(
        TableName=config.table, ProjectionExpression="mailbox, ses_id, withheld, sha256"
    )
    for item in (one for page in pages for one in page["Items"]):
        mailbox = item["mailbox"]["S"]
        if mailbox.startswith(_CLAIM):
            yield Mark(mailbox.removeprefix(_CLAIM), Part.CLAIMED)
        elif "ses_id" in item and mailbox != PARKED:
            nobody = mailbox == UNROUTED or "withheld" in item
            sha256 = item["sha256"]["S"] if "sha256" in item else None
            yield Mark(item["ses_id"]["S"], Part.INDEXED, "", None if nobody else mailbox, sha256)


def _objects(s3: Any, config: Config, prefix: str, after: str = "") -> Iterator[Any]:
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket=config.bucket, Prefix=prefix, StartAfter=after or prefix
    )
    return (one for page in pages for one in page.get("Contents", ()))
