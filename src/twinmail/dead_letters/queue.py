"""The dead-letter queue: reading it without taking anything out, and trying again what is in it.

A letter is deleted only when the function has done what it is about, which is safe to do any number of times.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from twinmail.config import Config
from twinmail.dead_letters.letter import Letter, read
from twinmail.errors import TransientError

HOLD_SECONDS = 900
"""How long nobody else sees a letter that is looked at: longer than trying some of them takes."""

_BATCH = 10
_WAIT_SECONDS = 1


class NotInvoked(TransientError):
    """The function could not be asked to try again."""


@dataclass(frozen=True)
class Held:
    """A letter, and SQS's handle of it."""

    letter: Letter
    handle: str


@dataclass(frozen=True)
class DeadLetters:
    """The queue of *config*, through boto3's SQS and Lambda clients."""

    config: Config
    sqs: Any
    function: Any

    @contextmanager
    def held(self) -> Iterator[list[Held]]:
        """All letters that are there, the oldest first.

        Nobody else sees them while the block runs; after it, those that were not removed are there again.

        Raises:
            botocore.exceptions.ClientError: SQS refused or was not available.
        """
        url = self._url()
        found: dict[str, Held] = {}
        try:
            while messages := self._receive(url):
                for one in messages:
                    letter = read(one["MessageId"], one["Body"], one.get("Attributes", {}))
                    found[letter.identity] = Held(letter, one["ReceiptHandle"])
            yield sorted(found.values(), key=lambda one: (one.letter.at is None, str(one.letter.at)))
        finally:
            self._release(url, list(found.values()))

    def retry(self, letter: Letter) -> str:
        """Let the function try *letter* again; nothing, or why it failed.

        Raises:
            NotInvoked: the function did not run.
        """
        if letter.event is None:
            return "it holds no event that could be tried again"
        try:
            answer = self.function.invoke(
                FunctionName=self.config.function, Payload=json.dumps(letter.event).encode("utf-8")
            )
            payload = answer["Payload"].read()
        except (BotoCoreError, ClientError) as error:
            raise NotInvoked(f"function {self.config.function}: {error}; try again later") from error
        if not answer.get("FunctionError"):
            return ""
        try:
            said = json.loads(payload)
            return f"{said.get('errorType', 'error')}: {said.get('errorMessage', '')}"
        except (ValueError, AttributeError):
            return f"the function failed: {payload!r:.200}"

    def remove(self, held: Held) -> None:
        """Delete the letter of *held*: what it is about is done."""
        self.sqs.delete_message(QueueUrl=self._url(), ReceiptHandle=held.handle)

    def _receive(self, url: str) -> list[Any]:
        answer = self.sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=_BATCH,
            WaitTimeSeconds=_WAIT_SECONDS,
            VisibilityTimeout=HOLD_SECONDS,
            MessageSystemAttributeNames=["All"],
        )
        return list(answer.get("Messages", ()))

    def _release(self, url: str, held: list[Held]) -> None:
        for start in range(0, len(held), _BATCH):
            # One that was removed meanwhile is refused by itself, and the others are not.
            entries = [
                {"Id": str(number), "ReceiptHandle": one.handle, "VisibilityTimeout": 0}
                for number, one in enumerate(held[start : start + _BATCH])
            ]
            self.sqs.change_message_visibility_batch(QueueUrl=url, Entries=entries)

    def _url(self) -> str:
        return str(self.sqs.get_queue_url(QueueName=self.config.dead_letter_queue)["QueueUrl"])
