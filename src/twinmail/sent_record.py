"""What is kept of a sent message: the id that SES gave it beside the one it had. JSON in canonical form.

The servers need it to find the copy in the Sent folder of the mailbox, whatever program wrote it there.
"""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from twinmail import layout, versioned_json
from twinmail.config import Config
from twinmail.errors import PermanentError
from twinmail.routing import route
from twinmail.sending_event import SendingEvent

VERSION = 1


class SentRecordError(PermanentError):
    """The bytes are not a record that this version understands."""


@dataclass(frozen=True)
class SentRecord:
    """One sent message.

    Attributes:
        ses_id: SES message id; the recipient sees ``<ses_id@region.amazonses.com>``.
        message_id: Message-ID as the sender wrote it, with brackets, or empty.
        source: envelope sender.
        mailbox: who sent it, or empty if that is not known.
        mailboxes: all who may have: several members of an alias.
        recipients: envelope recipients.
        at: when SES took it, UTC.
    """

    ses_id: str
    message_id: str
    source: str
    mailbox: str
    mailboxes: tuple[str, ...]
    recipients: tuple[str, ...]
    at: datetime

    @property
    def key(self) -> str:
        """Object key."""
        return layout.sent_key(self.ses_id, self.at)

    def to_bytes(self) -> bytes:
        """Encode."""
        at = self.at.astimezone(UTC).isoformat(timespec="microseconds")
        document = {**asdict(self), "version": VERSION, "at": at}
        return versioned_json.write(document)

    @classmethod
    def from_bytes(cls, data: bytes) -> "SentRecord":
        """Decode *data*.

        Raises:
            SentRecordError: it is damaged, or of another version.
        """
        try:
            document = versioned_json.read(data, VERSION)
            at = datetime.fromisoformat(document["at"])
            if at.tzinfo is None:
                raise ValueError(f"at: expected a time zone, got {document['at']!r}")
            return cls(
                ses_id=layout.checked_ses_id(document["ses_id"]),
                message_id=str(document["message_id"]),
                source=str(document["source"]),
                mailbox=str(document["mailbox"]),
                mailboxes=tuple(str(one) for one in document["mailboxes"]),
                recipients=tuple(str(one) for one in document["recipients"]),
                at=at.astimezone(UTC),
            )
        except (KeyError, TypeError, ValueError, layout.LayoutError) as error:
            raise SentRecordError(f"record of a sent message: {type(error).__name__}: {error}") from error


def record(config: Config, event: SendingEvent) -> SentRecord:
    """The record of what a Send *event* announces."""
    found = senders(config, event)
    return SentRecord(
        ses_id=event.ses_id,
        message_id=event.message_id,
        source=event.source,
        mailbox=found[0] if found else "",
        mailboxes=found,
        recipients=event.destinations,
        at=event.sent,
    )


def senders(config: Config, event: SendingEvent) -> tuple[str, ...]:
    """The mailboxes that sent the message of *event*: by its credential, else by its envelope sender."""
    own = config.smtp_mailbox(event.caller)
    return (own,) if own else route(config, [event.source]).mailboxes
