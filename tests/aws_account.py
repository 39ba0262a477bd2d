"""An AWS account in LocalStack with what receipt rules act on: a bucket, functions and topics."""

import io
import json
import uuid
import zipfile
from typing import Any

import boto3
import requests

from tests.edge_process import poll

REGION = "eu-central-1"
ROLE = "arn:aws:iam::000000000000:role/edge-test"

# Answers with the disposition that the subject names, and puts the event where the test can read it.
FUNCTION = """
import json, boto3

def handler(event, context):
    ses = event["Records"][0]["ses"]
    key = "events/" + ses["mail"]["messageId"]
    boto3.client("s3").put_object(Bucket="BUCKET", Key=key, Body=json.dumps(event))
    subject = ses["mail"]["commonHeaders"].get("subject", "")
    return {"disposition": subject} if subject else None
"""


class Account:
    """An AWS account with a bucket, a function and a topic, for one test module."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.ses, self.s3, self.sns, self.sqs, self.lambda_ = map(
            self.client, ("ses", "s3", "sns", "sqs", "lambda")
        )
        self.bucket = f"edge-{uuid.uuid4().hex[:12]}"
        self.make_bucket(self.bucket)

    def client(self, service: str, key: str = "test", secret: str = "test") -> Any:
        """A client of *service*, of the account's root or of the user with *key*."""
        session = boto3.Session(aws_access_key_id=key, aws_secret_access_key=secret, region_name=REGION)
        return session.client(service, endpoint_url=self.endpoint)

    def make_bucket(self, name: str) -> None:
        self.s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})

    def make_function(self) -> str:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.writestr("index.py", FUNCTION.replace("BUCKET", self.bucket))
        arn: str = self.lambda_.create_function(
            FunctionName=f"edge-{uuid.uuid4().hex[:12]}",
            Runtime="python3.13",
            Handler="index.handler",
            Role=ROLE,
            Timeout=20,
            Code={"ZipFile": archive.getvalue()},
        )["FunctionArn"]
        self.lambda_.get_waiter("function_active_v2").wait(FunctionName=arn)
        return arn

    def make_topic(self) -> tuple[str, str]:
        """A topic and a queue that gets its raw messages."""
        name = f"edge-{uuid.uuid4().hex[:12]}"
        topic = self.sns.create_topic(Name=name)["TopicArn"]
        queue = self.sqs.create_queue(QueueName=name)["QueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]
        attributes = {"RawMessageDelivery": "true"}
        self.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes=attributes)
        return topic, queue

    def receive(self, queue: str) -> dict[str, Any]:
        """The next notification."""
        document: dict[str, Any] = json.loads(self.receive_text(queue))
        return document

    def receive_text(self, queue: str) -> str:
        """The next message, whatever it is."""

        def attempt() -> str | None:
            answer = self.sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1)
            for message in answer.get("Messages", []):
                self.sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
                return str(message["Body"])
            return None

        return poll(attempt, "notification")

    def objects(self, prefix: str, bucket: str = "") -> list[str]:
        listing = self.s3.list_objects_v2(Bucket=bucket or self.bucket, Prefix=prefix)
        return [one["Key"] for one in listing.get("Contents", [])]

    def first_key(self, prefix: str) -> str:
        """The first key under *prefix*, once there is one."""
        return poll(lambda: next(iter(self.objects(prefix)), None), f"an object under {prefix}")

    def get(self, key: str, bucket: str = "") -> bytes:
        """The object at *key*, once it is there."""
        bucket = bucket or self.bucket

        def attempt() -> bytes | None:
            try:
                body: bytes = self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            except self.s3.exceptions.NoSuchKey:
                return None
            return body

        return poll(attempt, f"s3://{bucket}/{key}")

    def store(self, prefix: str = "incoming/", **options: Any) -> dict[str, Any]:
        """An S3 action into the bucket of this account."""
        return {"S3Action": {"BucketName": self.bucket, "ObjectKeyPrefix": prefix, **options}}

    def sent(self) -> list[dict[str, Any]]:
        """What LocalStack's SES sent so far."""
        messages: list[dict[str, Any]] = requests.get(f"{self.endpoint}/_aws/ses", timeout=30).json()[
            "messages"
        ]
        return messages


def rule(name: str, recipients: list[str], actions: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    return {"Name": name, "Enabled": True, "Recipients": recipients, "Actions": actions, **options}


def bounce_to(account: Account, sender: str) -> str:
    """The message that SES sent to *sender*, once it did."""

    def attempt() -> str | None:
        return next((one["RawData"] for one in account.sent() if sender in one.get("RawData", "")), None)

    return poll(attempt, f"bounce to {sender}")
