"""DynamoDB without Java: moto's tables behind one lock, with expiry.

LocalStack's own provider starts DynamoDB Local, which needs a Java runtime and a download. moto implements the
same operations in memory, but reads and writes an item in separate steps, so that concurrent requests lose updates;
here every operation runs alone.
"""

import logging
import threading
import time
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from localstack.aws.api import CommonServiceException, RequestContext
from localstack.aws.api.dynamodb import DynamodbApi
from localstack.aws.api.dynamodbstreams import DynamodbstreamsApi
from localstack.aws.forwarder import ForwardingFallbackDispatcher
from localstack.services.moto import call_moto
from localstack.services.plugins import Service, ServiceLifecycleHook, aws_provider
from moto.dynamodb.models import dynamodb_backends

LOG = logging.getLogger(__name__)

LOCK = threading.RLock()
"""Held by every operation on every table."""

BATCH_WRITE_ITEMS = 25
EXPIRY_INTERVAL = 5.0
"""Seconds between two sweeps for expired items. AWS promises days."""


def check_batch(request: Mapping[str, Any]) -> None:
    """Refuse a BatchWriteItem *request* of a size that AWS refuses and moto takes.

    Raises:
        CommonServiceException: ValidationException, as from AWS.
    """
    count = sum(len(requests) for requests in (request.get("RequestItems") or {}).values())
    if not 1 <= count <= BATCH_WRITE_ITEMS:
        raise CommonServiceException(
            "ValidationException",
            f"BatchWriteItem: expected 1 to {BATCH_WRITE_ITEMS} requests in all tables together, got {count}",
            status_code=400,
        )


def expired(value: object, now: float) -> bool:
    """Whether the time-to-live *value* of an item lies before *now* (Unix seconds).

    As in AWS, an attribute that is not a number never expires.
    """
    try:
        return Decimal(str(value)) <= Decimal(now)
    except InvalidOperation:
        return False


def sweep(now: float) -> int:
    """Delete the expired items of all tables and return how many there were."""
    deleted = 0
    with LOCK:
        tables = [
            table
            for regions in dynamodb_backends.values()
            for backend in regions.values()
            for table in backend.tables.values()
        ]
        for table in tables:
            name = table.ttl.get("AttributeName")
            if table.ttl.get("TimeToLiveStatus") != "ENABLED":
                continue
            for item in table.all_items():
                attribute = item.attrs.get(name)
                if attribute is not None and attribute.type == "N" and expired(attribute.value, now):
                    table.delete_item(item.hash_key, item.range_key)
                    deleted += 1
    return deleted


class DynamoDB(DynamodbApi, ServiceLifecycleHook):
    """Implements no operation itself: all fall through to moto."""

    def __init__(self) -> None:
        self._stopping = threading.Event()

    def on_before_start(self) -> None:
        threading.Thread(target=self._expire, name="dynamodb-expiry", daemon=True).start()

    def on_before_stop(self) -> None:
        self._stopping.set()

    def _expire(self) -> None:
        while not self._stopping.wait(EXPIRY_INTERVAL):
            if deleted := sweep(time.time()):
                LOG.info("deleted %d expired items", deleted)


def _alone(context: RequestContext, request: Any) -> Any:
    if context.operation.name == "BatchWriteItem":
        check_batch(request)
    with LOCK:
        return call_moto(context)


def _dispatcher(provider: object) -> Any:
    return ForwardingFallbackDispatcher(provider, _alone)


@aws_provider(api="dynamodb", name="locked")  # type: ignore[untyped-decorator]
def dynamodb() -> Service:
    """``PROVIDER_OVERRIDE_DYNAMODB=locked``."""
    return Service.for_provider(DynamoDB(), dispatch_table_factory=_dispatcher)


@aws_provider(api="dynamodbstreams", name="locked")  # type: ignore[untyped-decorator]
def dynamodbstreams() -> Service:
    """``PROVIDER_OVERRIDE_DYNAMODBSTREAMS=locked``."""
    return Service.for_provider(DynamodbstreamsApi(), dispatch_table_factory=_dispatcher)
