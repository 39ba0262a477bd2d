"""Asynchronous invocations survive an update of their function.

LocalStack's poller of a function's old version drops what its last poll still receives, and the event comes
back only after the function's time-out and a minute. AWS delays nothing then, so neither does this.
"""

import logging
from typing import Any

from localstack.runtime import hooks
from localstack.services.lambda_.invocation import event_manager

LOG = logging.getLogger(__name__)

WAIT_SECONDS = 2
RETRY_SECONDS = 1.0


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
