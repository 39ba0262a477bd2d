"""The reconciler's turns in a chaos run: in the middle of the faults, and at the end."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.config import Config as Settings
from botocore.exceptions import BotoCoreError, ClientError

from twinmail import layout
from twinmail.config import Config
from twinmail.layout import ManifestKey

Say = Callable[[str], None]

# While faults come and go: sooner than every quarter of an hour, so that turns meet the live path often.
_EVERY_SECONDS = 30.0
_LOOK_SECONDS = 5.0
_TURN_MOST_SECONDS = 900
# Far longer than a call of the function takes.
_STILL_SECONDS = 20.0
_LOOKS = 12
# Of the reconciler's listing, which sees a part of the bucket in each turn.
_TURNS_OF_A_DAY = 96
_QUARTER = timedelta(minutes=15)
_WAITING = tuple(f"ApproximateNumberOfMessages{what}" for what in ("", "NotVisible", "Delayed"))


class Reconciler:
    """Starts the reconciler of the system that *config* describes, through clients of *session* (boto3)."""

    def __init__(self, session: Any, config: Config, say: Say) -> None:
        # A turn may take as long as the function may, and asking again would start another one.
        patient = Settings(read_timeout=_TURN_MOST_SECONDS, retries={"total_max_attempts": 1})
        self._lambda = session.client("lambda", config=patient)
        self._s3 = session.client("s3")
        self._sqs = session.client("sqs")
        self._config = config
        self._say = say

    @contextmanager
    def scheduled(self) -> Iterator[None]:
        """Turns beside what the caller does; what a fault does to one of them, the next one mends."""
        ending = threading.Event()

        def turns() -> None:
            while not ending.wait(_EVERY_SECONDS):
                try:
                    self._turn(datetime.now(UTC))
                except (BotoCoreError, ClientError) as error:
                    self._say(f"a turn of the reconciler met a fault: {error}")

        thread = threading.Thread(target=turns, name="reconciler", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join()

    def bring(self, accepted: set[str]) -> None:
        """Have every message of *accepted* (SES ids) in the log, if turns of a whole day can do that."""
        # The function has a backlog when more came than this machine can work off.
        self._until_still(lambda: len(accepted - self.in_log()))
        # What waits in the queue of arrivals first; then, once, the whole bucket as in a day of turns.
        for times in (*(1 for _ in range(_LOOKS)), _TURNS_OF_A_DAY, 1):
            left = accepted - self.in_log()
            if not left:
                break
            self._say(f"drain: {len(left)} messages are not in the log yet")
            # From one moment on: a clock read anew for each would skip a part when a quarter of an hour ends.
            now = datetime.now(UTC)
            for number in range(times):
                self._turn(now + number * _QUARTER)
            time.sleep(_LOOK_SECONDS)

    def in_log(self) -> set[str]:
        """SES ids of the manifest."""
        pages = self._s3.get_paginator("list_objects_v2")
        return {
            ManifestKey.parse(one["Key"]).ses_id
            for page in pages.paginate(Bucket=self._config.bucket, Prefix=layout.MANIFEST)
            for one in page.get("Contents", ())
        }

    def quiet(self) -> bool:
        """Whether no queue has anything, after one more turn for notices that come late."""
        sqs, config = self._sqs, self._config
        for queue in (config.arrivals_queue, *(config.queue(server) for server in config.servers)):
            url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
            told = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(_WAITING))["Attributes"]
            if any(int(told[one]) for one in _WAITING):
                if queue == config.arrivals_queue:
                    self._turn(datetime.now(UTC))
                return False
        return True

    def _turn(self, at: datetime) -> None:
        """A turn of the reconciler, as its schedule starts one."""
        event = {
            "source": "aws.events",
            "detail-type": "Scheduled Event",
            "time": at.isoformat(),
            "detail": {},
        }
        self._lambda.invoke(FunctionName=self._config.function, Payload=json.dumps(event).encode())

    def _until_still(self, left: Callable[[], int]) -> None:
        """Wait until *left* is 0, or has not become less for a while."""
        least, since = left(), time.monotonic()
        while least and time.monotonic() - since < _STILL_SECONDS:
            time.sleep(_LOOK_SECONDS)
            now = left()
            if now < least:
                least, since = now, time.monotonic()
                self._say(f"drain: {now} messages are not in the log yet, and become less")
