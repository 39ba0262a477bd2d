"""Performing one action of a receipt rule: the only module with effects on the account."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from twinmail_localstack.edge import bounce, event
from twinmail_localstack.edge.clients import Clients
from twinmail_localstack.edge.headers import added, trace
from twinmail_localstack.edge.log import log
from twinmail_localstack.edge.receipt import (
    S3,
    AddHeader,
    Bounce,
    Disposition,
    Ignored,
    Lambda,
    Sns,
    Step,
    Stop,
)
from twinmail_localstack.edge.reception import Reception
from twinmail_localstack.edge.verdict import Verdicts


class ActionError(Exception):
    """An action cannot be performed as it is configured."""


@dataclass(frozen=True)
class Message:
    """A message on its way through the rules.

    Attributes:
        extra: fields that AddHeader actions added so far.
    """

    reception: Reception
    verdicts: Verdicts
    region: str
    extra: tuple[tuple[str, str], ...] = ()

    @property
    def octets(self) -> bytes:
        """What is stored: SES's fields, the added ones, and the content exactly as it came."""
        return trace(self.reception, self.verdicts, self.region) + added(self.extra) + self.reception.content

    @property
    def head(self) -> bytes:
        """The beginning of `octets`, enough for an event."""
        content = self.reception.content[: event.HEADER_LIMIT + 1]
        return trace(self.reception, self.verdicts, self.region) + added(self.extra) + content


@dataclass(frozen=True)
class Outcome:
    """What an action came to: the message for the next one, and whether to go on."""

    message: Message
    disposition: Disposition = Disposition.CONTINUE
    stored: bool = False


class Actions:
    """Performs actions with the AWS SDK; blocking, to be called in a thread."""

    def __init__(
        self, clients: Clients, region: str, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._clients = clients
        self._region = region
        self._now = now

    def perform(self, message: Message, step: Step) -> Outcome:
        """Perform the action of *step*; of an S3 action, `announce` is the second half.

        Raises:
            ActionError: it is not possible as configured.
            botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError: the service said no.
        """
        match step.action:
            case S3() as action:
                self._store(message, action)
                return Outcome(message, stored=True)
            case Lambda() as action:
                disposition = self._invoke(message, step, action)
                self._notify(message, step, action.topic)
                return Outcome(message, disposition)
            case Sns() as action:
                self._publish(message, step, action)
            case Stop(topic):
                self._notify(message, step, topic)
                return Outcome(message, Disposition.STOP_RULE_SET)
            case Bounce() as action:
                self._bounce(message, step, action)
                self._notify(message, step, action.topic)
            case AddHeader(name, value):
                return Outcome(replace(message, extra=(*message.extra, (name, value))))
            case Ignored(kind):
                log("action ignored", ses_id=message.reception.ses_id, rule=step.rule, kind=kind)
        return Outcome(message)

    def announce(self, message: Message, step: Step) -> Outcome:
        """Tell the topic of an S3 action that the message is stored.

        Raises:
            botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError: the service said no.
        """
        if isinstance(step.action, S3):
            self._notify(message, step, step.action.topic)
        return Outcome(message)

    def withdraw(self, message: Message, step: Step) -> None:
        """Remove the object that the S3 action of *step* may have stored.

        Raises:
            botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError: the service said no.
        """
        if isinstance(step.action, S3):
            # Where there is no bucket, there is no object.
            with contextlib.suppress(self._clients.s3.exceptions.NoSuchBucket):
                key = f"{step.action.prefix}{message.reception.ses_id}"
                self._clients.s3.delete_object(Bucket=step.action.bucket, Key=key)

    def _store(self, message: Message, action: S3) -> None:
        if action.kms_key:
            # SES would encrypt with the S3 encryption client; storing it in the clear would be a surprise.
            raise ActionError("S3 action: KmsKeyArn (client-side encryption) is not emulated; remove it")
        key = f"{action.prefix}{message.reception.ses_id}"
        self._clients.s3.put_object(Bucket=action.bucket, Key=key, Body=message.octets)

    def _invoke(self, message: Message, step: Step, action: Lambda) -> Disposition:
        document = event.lambda_event(message.reception, message.verdicts, message.head, step, self._now())
        answer = self._clients.lambda_.invoke(
            FunctionName=action.function,
            InvocationType="RequestResponse" if action.wait else "Event",
            Payload=json.dumps(document).encode("ascii"),
        )
        if not action.wait:
            return Disposition.CONTINUE
        payload = answer["Payload"].read()
        if answer.get("FunctionError"):
            # As with any answer that is no disposition, the mail flow goes on.
            log("function failed", ses_id=message.reception.ses_id, function=action.function)
            return Disposition.CONTINUE
        return Disposition.of(_json(payload))

    def _publish(self, message: Message, step: Step, action: Sns) -> None:
        octets = message.octets
        if len(octets) > event.SNS_CONTENT_LIMIT:
            text = f"The message is larger than {event.SNS_CONTENT_LIMIT} octets."
            self._bounce(message, step, Bounce("552", "5.3.4", text, f"mailer-daemon@{self._host}"))
            return
        document = event.notification(message.reception, message.verdicts, octets, step, self._now())
        self._send(action.topic, document)

    def _notify(self, message: Message, step: Step, topic: str | None) -> None:
        if topic:
            document = event.notification(
                message.reception, message.verdicts, message.head, step, self._now()
            )
            self._send(topic, document)

    def _send(self, topic: str, document: dict[str, Any]) -> None:
        text = json.dumps(document)
        self._clients.sns.publish(
            TopicArn=topic, Message=text, Subject="Amazon SES Email Receipt Notification"
        )

    def _bounce(self, message: Message, step: Step, action: Bounce) -> None:
        sender = message.reception.mail_from
        if not sender:
            # A bounce is never bounced (RFC 5321, 4.5.5).
            log("not bounced", ses_id=message.reception.ses_id, reason="null sender")
            return
        octets = bounce.report(message.reception, action, step.recipients, self._region)
        self._clients.ses.send_raw_email(
            Source=action.sender, Destinations=[sender], RawMessage={"Data": octets}
        )

    @property
    def _host(self) -> str:
        return f"inbound-smtp.{self._region}.amazonaws.com"


def _json(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return None
