"""What is done about an event of a sent message: kept, and told to its sender.

Events repeat, come in any order, and any attempt may die between two writes. Every write is create-once under
a name that follows from the event; the record of feedback is last, so it means that the sender was told.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twinmail.config import Config
from twinmail.feedback import Feedback, feedback, notice
from twinmail.processor import Processor
from twinmail.sending_event import SendingEvent
from twinmail.sent_record import record, senders


@dataclass(frozen=True)
class SendingReport:
    """Acts on events with a boto3 S3 client and what brings messages into the log."""

    config: Config
    s3: Any
    processor: Processor

    def report(self, event: SendingEvent) -> Mapping[str, Any]:
        """Do what *event* asks for, and return what to log.

        Raises:
            ClaimBusy: transient.
            botocore.exceptions.ClientError: a service refused or was not available; the caller's retry helps.
        """
        if event.kind == "Send":
            kept = record(self.config, event)
            created = self._create(kept.key, kept.to_bytes())
            return {"event": "sent" if created else "repeated", "key": kept.key, "mailbox": kept.mailbox}
        mailboxes = senders(self.config, event)
        found = feedback(event, mailboxes)
        if mailboxes:
            self.processor.add(
                f"feedback-{found.id}", event.at, event.source, mailboxes, self._notice(event, found)
            )
        created = self._create(found.key, found.to_bytes())
        return {"event": found.kind if created else "repeated", "key": found.key, "told": list(mailboxes)}

    def _notice(self, event: SendingEvent, found: Feedback) -> bytes:
        return notice(self.config, event, found)

    def _create(self, key: str, data: bytes) -> bool:
        """Write *key* unless it exists; say whether it did not."""
        try:
            self.s3.put_object(
                Bucket=self.config.bucket,
                Key=key,
                Body=data,
                ContentType="application/json",
                IfNoneMatch="*",
            )
        except self.s3.exceptions.ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 412:
                raise
            return False
        return True
