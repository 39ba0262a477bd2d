"""The bucket and the table of the log in moto, empty."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from moto import mock_aws

from tests.cloud import CONFIG
from tests.log_contract import Store


@contextmanager
def moto_store() -> Iterator[Store]:
    """One of its own, while the block runs."""
    with mock_aws():
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        s3 = boto3.client("s3", region_name=CONFIG.region, **keys)
        s3.create_bucket(
            Bucket=CONFIG.bucket, CreateBucketConfiguration={"LocationConstraint": CONFIG.region}
        )
        dynamodb = boto3.client("dynamodb", region_name=CONFIG.region, **keys)
        dynamodb.create_table(
            TableName=CONFIG.table,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": "S"} for name in ("mailbox", "position", "ses_id")
            ],
            KeySchema=[
                {"AttributeName": "mailbox", "KeyType": "HASH"},
                {"AttributeName": "position", "KeyType": "RANGE"},
            ],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "ses-id",
                    "KeySchema": [{"AttributeName": "ses_id", "KeyType": "HASH"}],
                    "Projection": {"ProjectionType": "ALL"},
                }
            ],
        )
        # moto looks at a condition and writes in two steps; AWS does both in one.
        _one_by_one(s3, "put_object")
        _one_by_one(dynamodb, "put_item")
        yield Store(CONFIG, s3, dynamodb)


def _one_by_one(client: Any, call: str) -> None:
    """Let threads make the *call* of *client* one after the other."""
    lock, method = threading.Lock(), getattr(client, call)

    def alone(**options: Any) -> Any:
        with lock:
            return method(**options)

    setattr(client, call, alone)
