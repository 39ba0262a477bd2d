"""What SNS would write to people: into the log, and to nobody.

LocalStack sends it through SES, and makes the reader's address an identity for that. SES takes that of an
address before that of its domain, so whoever reads alarms here could not send as before.
"""

import logging
from typing import Any

from localstack.runtime import hooks
from localstack.services.sns.publisher import EmailJsonTopicPublisher

LOG = logging.getLogger(__name__)


def _publish(publisher: Any, context: Any, subscriber: Any) -> None:
    text = publisher.prepare_message(context.message, subscriber, topic_attributes=context.topic_attributes)
    LOG.info("to %s: %s", subscriber["Endpoint"], text)


@hooks.on_infra_start()  # type: ignore[untyped-decorator]
def write_to_nobody() -> None:
    """Put the log in the place of SES."""
    EmailJsonTopicPublisher._publish = _publish
