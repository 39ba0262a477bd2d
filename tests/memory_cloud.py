"""The bucket, the table and the queue of arrivals in memory, with a clock of their own and crashes to order.

They do what `tests.log_contract` and `tests.compactor_contract` ask of S3 and DynamoDB, much faster than moto;
`tests/unit/test_memory_cloud.py` holds them to these contracts.
"""

import hashlib
import io
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import boto3
from botocore.response import StreamingBody


class Killed(BaseException):
    """The process ends here: nothing after this happens."""


@dataclass
class Death:
    """Ends a process at the effect of a number: before it, or after it.

    Attributes:
        left: effects until then; None is never.
        happened: then nothing works any more.
    """

    left: int | None = None
    happened: bool = False
    lock: Any = field(default_factory=threading.Lock)

    def at(self, number: int | None) -> None:
        """Set when it comes."""
        self.left, self.happened = number, False

    def __call__(self, _: str = "") -> None:
        with self.lock:
            if self.left is not None:
                self.left -= 1
                self.happened = self.happened or self.left <= 0
            if self.happened:
                raise Killed


def _unharmed(_: str = "") -> None:
    """The step of a process that does not die."""


@cache
def _exceptions(service: str) -> Any:
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return boto3.client(service, region_name="eu-central-1", **keys).exceptions


def _error(service: str, code: str, operation: str, status: int = 400) -> Any:
    answer = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    kind = getattr(_exceptions(service), code, None) if code == "NoSuchKey" else None
    return (kind or _exceptions(service).ClientError)(answer, operation)


@dataclass(frozen=True)
class Object:
    """An object of the bucket."""

    data: bytes
    modified: datetime
    tags: tuple[Any, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def etag(self) -> str:
        """As S3 gives it to what is put in one piece."""
        return f'"{hashlib.md5(self.data).hexdigest()}"'


class MemoryS3:
    """A bucket behind the calls of boto3's client that the cloud side makes."""

    def __init__(
        self, now: Callable[[], datetime] = lambda: datetime.now(UTC), step: Any = _unharmed
    ) -> None:
        self.objects: dict[str, Object] = {}
        self.exceptions = _exceptions("s3")
        self._now, self._step = now, step

    def put_object(
        self,
        *,
        Key: str,
        Body: Any,
        IfNoneMatch: str = "",
        Metadata: Mapping[str, str] | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        data = Body if isinstance(Body, bytes) else bytes(Body.read())
        self._step()
        if IfNoneMatch and Key in self.objects:
            raise _error("s3", "PreconditionFailed", "PutObject", 412)
        self.objects[Key] = Object(data, self._now(), metadata=dict(Metadata or {}))
        self._step()
        return {}

    def get_object(self, *, Key: str, Range: str = "", **_: Any) -> dict[str, Any]:
        one = self._object(Key, "NoSuchKey")
        data = one.data
        if Range:
            first, last = Range.removeprefix("bytes=").split("-")
            data = data[int(first) : int(last) + 1]
        return {"Body": StreamingBody(io.BytesIO(data), len(data)), "LastModified": one.modified}

    def head_object(self, *, Key: str, **_: Any) -> dict[str, Any]:
        one = self._object(Key, "404")
        return {"ContentLength": len(one.data), "LastModified": one.modified, "Metadata": dict(one.metadata)}

    def delete_object(self, *, Key: str, **_: Any) -> dict[str, Any]:
        self.objects.pop(Key, None)
        return {}

    def put_object_tagging(self, *, Key: str, Tagging: Mapping[str, Any], **_: Any) -> dict[str, Any]:
        self._step()
        one = self._object(Key, "NoSuchKey")
        self.objects[Key] = replace(one, tags=tuple(Tagging["TagSet"]))
        self._step()
        return {}

    def get_object_tagging(self, *, Key: str, **_: Any) -> dict[str, Any]:
        return {"TagSet": list(self._object(Key, "NoSuchKey").tags)}

    def delete_object_tagging(self, *, Key: str, **_: Any) -> dict[str, Any]:
        one = self._object(Key, "NoSuchKey")
        self.objects[Key] = replace(one, tags=())
        return {}

    def list_objects_v2(self, *, Prefix: str = "", StartAfter: str = "", **options: Any) -> dict[str, Any]:
        keys = sorted(one for one in list(self.objects) if one.startswith(Prefix) and one > StartAfter)
        found = [
            {
                "Key": key,
                "LastModified": self.objects[key].modified,
                "Size": len(self.objects[key].data),
                "ETag": self.objects[key].etag,
            }
            for key in keys[: options.get("MaxKeys", 1000)]
        ]
        return {"Contents": found} if found else {}

    def get_paginator(self, name: str) -> "MemoryS3":
        assert name == "list_objects_v2"
        return self

    def paginate(self, *, StartAfter: str = "", **options: Any) -> Iterator[dict[str, Any]]:
        while True:
            page = self.list_objects_v2(StartAfter=StartAfter, **options)
            yield page
            if len(page.get("Contents", ())) < 1000:
                return
            StartAfter = page["Contents"][-1]["Key"]

    def _object(self, key: str, code: str) -> Object:
        if key not in self.objects:
            raise _error("s3", code, "GetObject", 404)
        return self.objects[key]


class MemoryTable:
    """A table behind the calls of boto3's client for DynamoDB that the index makes."""

    def __init__(self, step: Any = _unharmed) -> None:
        self.rows: dict[tuple[str, str], dict[str, Any]] = {}
        self.exceptions = _exceptions("dynamodb")
        self._lock = threading.Lock()
        self._step = step

    def get_item(self, *, Key: Mapping[str, Any], **_: Any) -> dict[str, Any]:
        row = self.rows.get(_name(Key))
        return {"Item": dict(row)} if row else {}

    def put_item(
        self, *, Item: Mapping[str, Any], ConditionExpression: str, **options: Any
    ) -> dict[str, Any]:
        self._step()
        with self._lock:
            row = self.rows.get(_name(Item))
            if ConditionExpression == "attribute_not_exists(mailbox)":
                holds = row is None
            else:
                assert ConditionExpression == "manifest = :old"
                old = options["ExpressionAttributeValues"][":old"]
                holds = row is not None and row["manifest"] == old
            if not holds:
                raise _error("dynamodb", "ConditionalCheckFailedException", "PutItem")
            self.rows[_name(Item)] = dict(Item)
        self._step()
        return {}

    def query(self, *, ExpressionAttributeValues: Mapping[str, Any], **options: Any) -> dict[str, Any]:
        """Of a mailbox, of an id, or of both."""
        said = ExpressionAttributeValues
        asked = f"{options['KeyConditionExpression']} {options.get('FilterExpression', '')}".split()
        wanted = {name: said[value] for name, value in zip(asked[::3], asked[2::3], strict=True)}
        return {
            "Items": [
                one
                for one in self.rows.values()
                if all(one.get(name) == value for name, value in wanted.items())
            ]
        }


def _name(item: Mapping[str, Any]) -> tuple[str, str]:
    return item["mailbox"]["S"], item["position"]["S"]


class MemoryArrivals:
    """The queue of arrivals: what is received stays until it is deleted, and is not shown until `release`."""

    def __init__(self, now: Callable[[], datetime], step: Any) -> None:
        self.waiting: dict[str, tuple[datetime, str]] = {}
        self._taken: set[str] = set()
        self._now, self._step = now, step
        self._count = 0

    def send(self, body: str, due: datetime) -> str:
        """Hold *body* back until *due*; return its handle."""
        self._count += 1
        self.waiting[str(self._count)] = (due, body)
        return str(self._count)

    def release(self) -> None:
        """The time-out passes after which the queue shows again what it handed out."""
        self._taken.clear()

    def get_queue_url(self, **_: Any) -> dict[str, Any]:
        return {"QueueUrl": "memory"}

    def receive_message(self, **_: Any) -> dict[str, Any]:
        due = [
            handle
            for handle, (moment, _) in self.waiting.items()
            if moment <= self._now() and handle not in self._taken
        ]
        self._taken.update(due[:10])
        return {"Messages": [{"ReceiptHandle": one, "Body": self.waiting[one][1]} for one in due[:10]]}

    def delete_message(self, *, ReceiptHandle: str, **_: Any) -> dict[str, Any]:
        self._step()
        self.waiting.pop(ReceiptHandle, None)
        self._step()
        return {}
