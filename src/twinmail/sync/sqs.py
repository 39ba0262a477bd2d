"""The queue of this server in SQS, by botocore."""

from typing import Any

from botocore.config import Config as Settings
from botocore.exceptions import BotoCoreError, ClientError

from twinmail.sync.aws import Aws
from twinmail.sync.source import Notification, QueueUnavailable

# The longest wait that SQS allows; an empty answer costs the same after 1 second.
WAIT_SECONDS = 20
# A notice that a dying process, or its unfinished call, had taken comes back this soon. One that comes back
# while its message is still on the way is harmless: the ledger knows.
_VISIBILITY_SECONDS = 30
_BATCH = 10


class SqsQueue:
    """The queue *name*."""

    def __init__(self, name: str, aws: Aws) -> None:
        self.name = name
        settings = Settings(
            connect_timeout=5,
            read_timeout=WAIT_SECONDS + 10,
            retries={"total_max_attempts": 1},
            max_pool_connections=16,
        )
        self._client = aws.client("sqs", settings)
        self._url: str | None = None

    def connect(self) -> None:
        """Find the queue; see `twinmail.sync.source.Queue`."""
        self._url = self._call("get_queue_url", QueueName=self.name)["QueueUrl"]

    def receive(self) -> list[Notification]:
        """Wait for notifications; see `twinmail.sync.source.Queue`."""
        answer = self._about(
            "receive_message",
            MaxNumberOfMessages=_BATCH,
            WaitTimeSeconds=WAIT_SECONDS,
            VisibilityTimeout=_VISIBILITY_SECONDS,
            MessageSystemAttributeNames=["ApproximateReceiveCount"],
        )
        return [
            Notification(
                one["ReceiptHandle"],
                one["Body"],
                int(one.get("Attributes", {}).get("ApproximateReceiveCount", 1)),
            )
            for one in answer.get("Messages", ())
        ]

    def acknowledge(self, notification: Notification) -> None:
        """Delete *notification*; see `twinmail.sync.source.Queue`."""
        self._about("delete_message", ReceiptHandle=notification.receipt)

    def release(self, notification: Notification, seconds: int) -> None:
        """Announce *notification* again; see `twinmail.sync.source.Queue`."""
        self._about(
            "change_message_visibility", ReceiptHandle=notification.receipt, VisibilityTimeout=seconds
        )

    def _about(self, operation: str, **arguments: object) -> Any:
        if self._url is None:
            self.connect()
        return self._call(operation, QueueUrl=self._url, **arguments)

    def _call(self, operation: str, **arguments: object) -> Any:
        try:
            return getattr(self._client, operation)(**arguments)
        except (BotoCoreError, ClientError) as error:
            # The queue may have been made again, under another URL.
            self._url = None
            raise QueueUnavailable(
                f"queue {self.name}: {error}; check the network, the queue and its permissions"
            ) from error
