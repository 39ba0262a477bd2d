"""The second witness of each message: SES tells a queue of it, beside invoking the function.

The queue holds each notice back for some minutes, so that whatever comes out of it is due, and keeps it for
14 days, however long the function is away. A notice says the same as the event of the function (SES
Developer Guide, "Contents of notifications for Amazon SES email receiving").
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from twinmail.ses_event import EventError, Receipt

_BATCH = 10
_WAIT_SECONDS = 1


@dataclass(frozen=True)
class Arrival:
    """A notice in the queue.

    Attributes:
        handle: for `Arrivals.done`.
        body: as SES wrote it.
    """

    handle: str
    body: str

    def receipt(self) -> Receipt | None:
        """The message; None if it is not about one (SES greets a new topic).

        Raises:
            EventError: it has not the shape of a notice.
        """
        document = notice(self.body)
        return Receipt.of_record({"ses": document}) if document else None


def notice(body: str) -> Mapping[str, Any] | None:
    """The document in the *body* of a notice; None if it is not about a message.

    Raises:
        EventError: it is no notice.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        if body.startswith("Successfully validated SNS topic"):
            return None
        raise EventError(f"notice of SES: not JSON ({error}); got {body!r:.80}") from error
    if not isinstance(document, dict):
        raise EventError(f"notice of SES: expected an object, got {body!r:.80}")
    return document


@dataclass(frozen=True)
class Arrivals:
    """The queue *name*, through a boto3 SQS client."""

    sqs: Any
    name: str

    def due(self) -> Iterator[Arrival]:
        """Each notice that is due, once; those that are not `done` come again in a later turn."""
        while True:
            answer = self.sqs.receive_message(
                QueueUrl=self._url, MaxNumberOfMessages=_BATCH, WaitTimeSeconds=_WAIT_SECONDS
            )
            if not answer.get("Messages"):
                return
            for one in answer["Messages"]:
                yield Arrival(one["ReceiptHandle"], one["Body"])

    def done(self, arrival: Arrival) -> None:
        """Forget *arrival*: its message is in the log."""
        self.sqs.delete_message(QueueUrl=self._url, ReceiptHandle=arrival.handle)

    @cached_property
    def _url(self) -> str:
        return str(self.sqs.get_queue_url(QueueName=self.name)["QueueUrl"])
