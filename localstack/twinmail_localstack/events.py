"""Asynchronous invocations survive an update of their function, and are retried as AWS does it.

LocalStack's poller of a function's old version drops what its last poll still receives, and the event comes
back only after the function's time-out and a minute. AWS delays nothing then, so neither does this.

What is throttled is tried again after one second, two, four, and so on up to five minutes, for six hours
(Lambda guide, "How Lambda handles errors and retries with asynchronous invocation"). LocalStack forgets how
often it tried, and comes back each second.
"""

import logging
from typing import Any

from localstack.runtime import hooks
from localstack.services.lambda_.invocation import event_manager

LOG = logging.getLogger(__name__)

WAIT_SECONDS = 2
RETRY_SECONDS = 1.0
LONGEST_SECONDS = 300


def run(poller: Any, *_: object) -> None:
    """Hand events to the pool until the poller is stopped; give back what arrives after that."""
    version = poller.version_manager.function_version
    client = event_manager.get_sqs_client(version, client_config=event_manager.CLIENT_CONFIG)
    stopped = poller._shutdown_event
    while not stopped.is_set():
        try:
            answer = client.receive_message(
                QueueUrl=poller.event_queue_url,
                WaitTimeSeconds=WAIT_SECONDS,
                MaxNumberOfMessages=10,
                VisibilityTimeout=version.config.timeout + 60,
            )
            for message in answer.get("Messages") or ():
                if not _handed_over(poller, message):
                    # A copy for the next poller: the client of this queue cannot release a message.
                    queue = poller.event_queue_url
                    client.send_message(QueueUrl=queue, MessageBody=message["Body"])
                    client.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        except Exception:
            LOG.exception("cannot poll the events of %s", version.qualified_arn)
            stopped.wait(RETRY_SECONDS)


def _handed_over(poller: Any, message: Any) -> bool:
    if poller._shutdown_event.is_set():
        return False
    try:
        poller.invoker_pool.submit(poller.handle_message, message)
    except RuntimeError:  # stopped just now
        return False
    return True


@hooks.on_infra_start()  # type: ignore[untyped-decorator]
def keep_events() -> None:
    """Replace LocalStack's loop."""
    event_manager.Poller.run = run


@hooks.on_infra_start()  # type: ignore[untyped-decorator]
def wait_longer_each_time() -> None:
    """Count the attempts that were throttled."""
    event_manager.Poller.process_throttles_and_system_errors = again


def again(poller: Any, event: Any, error: Exception) -> Any:
    """Put *event* back after an *error* that is not the function's, without counting an attempt of it."""
    seconds = min(2**event.exception_retries, LONGEST_SECONDS)
    event.exception_retries += 1
    event_manager.get_sqs_client(poller.version_manager.function_version).send_message(
        QueueUrl=poller.event_queue_url, MessageBody=event.encode(), DelaySeconds=seconds
    )
    throttled = isinstance(error, event_manager.TooManyRequestsException)
    status = event_manager.FunctionStatus
    return status.throttle_error if throttled else status.system_error
