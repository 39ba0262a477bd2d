"""The bucket and the table of the log in moto, empty."""

from collections.abc import Iterator
from contextlib import contextmanager

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
        yield Store(CONFIG, s3, dynamodb)
