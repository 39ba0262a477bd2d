"""Asks every part of the system what it knows of one message: index, bucket, the function's log, servers.

Source of the calls: Amazon DynamoDB, S3 and CloudWatch Logs API References.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from twinmail import layout
from twinmail.config import Config
from twinmail.errors import PermanentError, TwinmailError
from twinmail.feedback import Feedback
from twinmail.index import PARKED, UNROUTED, Index
from twinmail.lookup.criteria import text
from twinmail.lookup.hits import Hit, hit
from twinmail.lookup.trail import Event, Trail
from twinmail.manifest import Entry
from twinmail.packs.archive import Archive
from twinmail.sent_record import SentRecord
from twinmail.server_page import Page

BY_SES_ID = "ses-id"
"""The index of the table by SES id (`lambda/stack.yaml`)."""

_EARLIER = timedelta(minutes=15)
_MONTH = timedelta(days=30)
_GONE = ("404", "NoSuchKey", "NotFound")


class NoMessage(PermanentError):
    """There is no such message in the bucket."""


@dataclass
class Witnesses:
    """The parts of the system of *config*.

    Args:
        client: makes the boto3 client of a service.
        pages: the ways to the servers' syncers, by name.
    """

    config: Config
    client: Callable[[str], Any]
    pages: Mapping[str, Page]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _trouble: list[str] = field(default_factory=list)
    _events: list[Event] = field(default_factory=list)

    def trail(self, ses_id: str) -> Trail:
        """All that is known of *ses_id*.

        Raises:
            LayoutError: it is no id.
        """
        self._trouble, self._events = [], []
        layout.checked_ses_id(ses_id)
        found, claimed = self._index(ses_id)
        received = self._size(layout.incoming_key(ses_id), "S3", "stored as SES received it")
        key, entry = self._entry(ses_id, claimed, received)
        stored = self._size(entry.key, "S3", "stored for IMAP") if entry else None
        in_pack = self._packed(entry.key) if entry and stored is None else None
        self._log(ses_id, entry.arrived if entry else received[0] if received else None)
        sent = not entry and not received and self._sent(ses_id)
        servers = {} if sent else {name: self._server(name, ses_id) for name in self.pages}
        if entry and key:
            self._committed(key, entry)
        return Trail(
            ses_id,
            found,
            received[1] if received else None,
            stored[1] if stored else in_pack,
            key if entry else None,
            entry,
            sent,
            servers,
            tuple(self._events),
            tuple(self._trouble),
        )

    def raw(self, ses_id: str) -> Iterator[bytes]:
        """The octets of the message as SES received it; of one that was written here, as it was stored.

        Raises:
            NoMessage: there is neither.
            botocore.exceptions.ClientError: S3 refused or was not available.
        """
        keys = [layout.incoming_key(ses_id)]
        _, claimed = self._index(ses_id)
        _, entry = self._entry(ses_id, claimed, None)
        if entry:
            keys.append(entry.key)
        s3 = self.client("s3")
        for key in keys:
            try:
                yield from s3.get_object(Bucket=self.config.bucket, Key=key)["Body"].iter_chunks(1 << 20)
            except s3.exceptions.NoSuchKey:
                packed = Archive(s3, self.config.bucket).read(key) if entry and key == entry.key else None
                if packed is None:
                    continue
                yield from packed
            return
        raise NoMessage(f"s3://{self.config.bucket}: neither {' nor '.join(keys)} is there")

    def _index(self, ses_id: str) -> tuple[Hit | None, str | None]:
        """What the index has of the message, and the manifest key that was claimed for it."""
        dynamodb = self.client("dynamodb")
        with self._asking("the index"):
            claimed = Index(dynamodb, self.config.table).claimed(ses_id)
            items = dynamodb.query(
                TableName=self.config.table,
                IndexName=BY_SES_ID,
                KeyConditionExpression="ses_id = :id",
                ExpressionAttributeValues={":id": {"S": ses_id}},
            )["Items"]
            for one in (one for one in items if text(one, "mailbox") == PARKED):
                self._events.append(
                    Event(None, "index", f"parked, and delivered as it is: {text(one, 'reason')}")
                )
            items = [one for one in items if text(one, "mailbox") != PARKED]
            if not items:
                return None, claimed
            boxes = [text(one, "mailbox") for one in items if text(one, "mailbox") != UNROUTED]
            what = f"indexed for {', '.join(boxes)}" if boxes else "indexed, for no mailbox"
            self._events.append(Event(None, "index", what))
            return hit(items), claimed
        return None, None

    def _size(self, key: str, who: str, what: str) -> tuple[datetime, int] | None:
        """When the object *key* was written, and its octets; None if it is not there."""
        with self._asking(key):
            try:
                told = self.client("s3").head_object(Bucket=self.config.bucket, Key=key)
            except ClientError as error:
                if error.response["Error"]["Code"] in _GONE:
                    return None
                raise
            self._events.append(
                Event(told["LastModified"], who, f"{what}: {key}, {told['ContentLength']:,} octets")
            )
            return told["LastModified"], told["ContentLength"]
        return None

    def _entry(
        self, ses_id: str, claimed: str | None, received: tuple[datetime, int] | None
    ) -> tuple[str | None, Entry | None]:
        """The manifest entry by the index or, where that is lost, from the days after SES stored it."""
        s3, bucket = self.client("s3"), self.config.bucket
        with self._asking("the log"):
            keys = [claimed] if claimed else []
            if received and not claimed:
                days = [layout.manifest_day((received[0] + timedelta(days=day)).date()) for day in (0, 1)]
                keys = [
                    one["Key"]
                    for day in days
                    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=day)
                    for one in page.get("Contents", ())
                    if one["Key"].endswith(f"Z-{ses_id}.json")
                ]
            for key in keys:
                try:
                    return key, Entry.from_bytes(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
                except s3.exceptions.NoSuchKey:
                    packed = Archive(s3, bucket).read(key)
                    if packed is not None:
                        return key, Entry.from_bytes(b"".join(packed))
                    self._events.append(Event(None, "index", f"claimed as {key}, which is not there yet"))
        return None, None

    def _packed(self, key: str) -> int | None:
        """Octets of the message *key* in a pack, perhaps all that is left of it; None if it is in none."""
        with self._asking("packs"):
            found = Archive(self.client("s3"), self.config.bucket).find(key)
            if found is not None:
                index, part = found
                what = f"in a pack: {index.key}, {part.size:,} octets at {part.at:,}"
                self._events.append(Event(None, "S3", what))
                return part.size
        return None

    def _committed(self, key: str, entry: Entry) -> None:
        verdicts = ", ".join(f"{name} {said}" for name, said in sorted(entry.verdicts.items()))
        accepted = f"accepted from <{entry.mail_from}> for {', '.join(entry.rcpt_to)}"
        self._events.append(Event(entry.arrived, "SES", f"{accepted}{'; ' if verdicts else ''}{verdicts}"))
        where = ", ".join(f"{one.mailbox}/{one.folder}" for one in entry.deliveries) or "nobody"
        self._events.append(Event(layout.ManifestKey.parse(key).committed, "log", f"committed for {where}"))

    def _log(self, ses_id: str, arrived: datetime | None) -> None:
        """The function's lines about the message, which its log keeps for `log_days`."""
        since = (arrived or self.now() - _MONTH) - _EARLIER
        with self._asking("the function's log"):
            pages = (
                self.client("logs")
                .get_paginator("filter_log_events")
                .paginate(
                    logGroupName=f"/aws/lambda/{self.config.stack}-processor",
                    startTime=int(since.timestamp() * 1000),
                    filterPattern=f'"{ses_id}"',
                )
            )
            for one in (one for page in pages for one in page.get("events", ())):
                said = _line(one["message"], ses_id)
                if said:
                    at = datetime.fromtimestamp(one["timestamp"] / 1000, UTC)
                    self._events.append(Event(at, "function", said))

    def _sent(self, ses_id: str) -> bool:
        """Whether SES sent the message for us; what came back of it goes to the events."""
        s3, bucket = self.client("s3"), self.config.bucket

        def keys(prefix: str, after: str = "") -> Iterator[str]:
            pages = s3.get_paginator("list_objects_v2").paginate(
                Bucket=bucket, Prefix=prefix, StartAfter=after or prefix
            )
            return (one["Key"] for page in pages for one in page.get("Contents", ()))

        def read(key: str) -> bytes:
            return bytes(s3.get_object(Bucket=bucket, Key=key)["Body"].read())

        with self._asking("records of sent mail"):
            found = next((one for one in keys(layout.SENT) if one.endswith(f"/{ses_id}.json")), None)
            if found is None:
                return False
            record = SentRecord.from_bytes(read(found))
            to = ", ".join(record.recipients)
            self._events.append(Event(record.at, "SES", f"sent from <{record.source}> to {to}"))
            first = f"{layout.FEEDBACK}{record.at:%Y/%m/%d}/"
            last = f"{layout.FEEDBACK}{record.at + _MONTH:%Y/%m/%d}/"
            for key in (one for one in keys(layout.FEEDBACK, first) if one < last):
                told = Feedback.from_bytes(read(key))
                if told.ses_id == ses_id:
                    why = next((one.diagnostic for one in told.recipients if one.diagnostic), told.category)
                    who = ", ".join(one.address for one in told.recipients)
                    self._events.append(Event(told.at, "SES", f"{told.kind} of {who}: {why}"))
            return True
        return False

    def _server(self, name: str, ses_id: str) -> Mapping[str, Any] | None:
        with self._asking(name):
            said: Mapping[str, Any] = json.loads(self.pages[name].read(f"/messages/{ses_id}"))
            for one in said["deliveries"]:
                at = datetime.fromisoformat(one["at"]) if one["at"] else None
                now = ", ".join(f"{copy['folder']} {copy['flags']}".strip() for copy in one["now"])
                what = f"delivered to {one['mailbox']}/{one['folder']}; now in {now or 'no folder'}"
                self._events.append(Event(at, name, what))
            return said
        return None

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """Whoever does not answer keeps nobody else from being asked."""
        try:
            yield
        except (BotoCoreError, ClientError, TwinmailError, OSError, ValueError, KeyError) as error:
            self._trouble.append(f"{what}: {' '.join(str(error).split())[:300]}")


def _line(message: str, ses_id: str) -> str:
    """What the function says in one line of its log, in words; empty if it is not about *ses_id*."""
    if ses_id not in message:
        return ""
    try:
        said = json.loads(message)
    except ValueError:
        return " ".join(message.split())[:300]
    if not isinstance(said, dict) or said.get("ses_id", ses_id) != ses_id:
        return ""
    words = f"{said.get('event', 'said')} in {said.get('milliseconds', '?')} ms"
    return f"{words}: {said['error']}" if said.get("error") else words
