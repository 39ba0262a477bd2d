"""DynamoDB without Java: moto's tables behind one lock, with expiry.

LocalStack's own provider starts DynamoDB Local, which needs Java and a download. moto implements the
same operations in memory, but reads and writes an item in separate steps, so that concurrent requests lose
updates; here every operation runs alone. A table that is created again after a restart has its items back.
"""

import json
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
from moto.dynamodb.models.table import Table

from twinmail_localstack import settings
from twinmail_localstack.item_records import ItemRecords, changed_items

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


def sweep(now: float, records: ItemRecords) -> int:
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
            name = table.ttl.get("AttributeName", "")
            if table.ttl.get("TimeToLiveStatus") != "ENABLED":
                continue
            for item in table.all_items():
                attribute = item.attrs.get(name)
                if attribute is not None and attribute.type == "N" and expired(attribute.value, now):
                    table.delete_item(item.hash_key, item.range_key)
                    records.save(table.table_arn, _key(table, item.to_json()["Attributes"]), None)
                    deleted += 1
    return deleted


def _key(table: Table, attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: attributes[name] for name in (table.hash_key_attr, table.range_key_attr) if name}


class DynamoDB(DynamodbApi, ServiceLifecycleHook):  # type: ignore[misc]
    """Implements no operation itself: all go to moto, one at a time, and are recorded."""

    def __init__(self, records: ItemRecords) -> None:
        self._records = records
        self._stopping = threading.Event()

    def on_before_start(self) -> None:
        """Start to sweep."""
        threading.Thread(target=self._expire, name="dynamodb-expiry", daemon=True).start()

    def on_before_stop(self) -> None:
        """Stop sweeping."""
        self._stopping.set()

    def call(self, context: RequestContext, request: Any) -> Any:
        """Run one operation."""
        operation = context.operation.name
        if operation == "BatchWriteItem":
            check_batch(request)
        backend = dynamodb_backends[context.account_id][context.region]
        with LOCK:
            doomed = backend.get_table(request["TableName"]) if operation == "DeleteTable" else None
            response = call_moto(context)
            if operation == "CreateTable":
                table = backend.get_table(request["TableName"])
                for kept in self._records.items(table.table_arn):
                    table.put_item(kept)
            elif doomed is not None:
                self._records.forget(doomed.table_arn)
            else:
                # The request as it came: the parsed one has decoded binary values.
                body = json.loads(context.request.get_data() or b"{}")
                for name, attributes in changed_items(operation, body):
                    table = backend.get_table(name)
                    key = _key(table, attributes)
                    item = backend.get_item(name, key)
                    held = item.to_json()["Attributes"] if item is not None else None
                    self._records.save(table.table_arn, key, held)
        return response

    def _expire(self) -> None:
        while not self._stopping.wait(EXPIRY_INTERVAL):
            if deleted := sweep(time.time(), self._records):
                LOG.info("deleted %d expired items", deleted)


def _streams_call(context: RequestContext, request: Any) -> Any:
    with LOCK:
        return call_moto(context)


@aws_provider(api="dynamodb", name="locked")  # type: ignore[untyped-decorator]
def dynamodb() -> Service:
    """``PROVIDER_OVERRIDE_DYNAMODB=locked``."""
    provider = DynamoDB(ItemRecords(settings.current().state / "dynamodb.sqlite"))
    return Service.for_provider(
        provider, dispatch_table_factory=lambda one: ForwardingFallbackDispatcher(one, provider.call)
    )


@aws_provider(api="dynamodbstreams", name="locked")  # type: ignore[untyped-decorator]
def dynamodbstreams() -> Service:
    """``PROVIDER_OVERRIDE_DYNAMODBSTREAMS=locked``."""
    return Service.for_provider(
        DynamodbstreamsApi(),
        dispatch_table_factory=lambda one: ForwardingFallbackDispatcher(one, _streams_call),
    )
