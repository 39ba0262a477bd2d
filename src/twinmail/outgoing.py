"""Sends messages through SES: one call, and errors that say whether the message may be on its way.

The envelope sender that others see is not *source*: SES sends with an address of its own below its or the
domain's MAIL FROM domain, so that bounces come to it, and reports them as events. *source*, and every address
in From, must be of a verified identity (SES Developer Guide, "Verified identities").
"""

from collections.abc import Sequence
from typing import Any, Protocol

from botocore.config import Config as Settings
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)

from twinmail.errors import PermanentError, TransientError

SETTINGS = Settings(
    connect_timeout=5,
    read_timeout=60,
    # One attempt: a repeated one could send the message twice, and only the caller knows whether it may.
    retries={"total_max_attempts": 1},
)

MESSAGE_BYTES = 10 * 1024 * 1024
"""Octets of the largest message that SendRawEmail takes (SES API Reference, "SendRawEmail")."""

RECIPIENTS = 50
"""Recipients of one call."""

_REFUSED = frozenset(
    (
        "MessageRejected",
        "InvalidParameterValue",
        "MailFromDomainNotVerified",
        "MailFromDomainNotVerifiedException",
    )
)
_BEFORE = (ConnectTimeoutError, EndpointConnectionError, NoCredentialsError, PartialCredentialsError)


class NotSent(TransientError):
    """SES did not take the message; it may later."""


class MaybeSent(TransientError):
    """Nobody knows whether SES took the message: the answer did not come."""


class Refused(PermanentError):
    """SES does not take this message."""


class Sending(Protocol):
    """Whoever sends."""

    def send(self, source: str, destinations: Sequence[str], data: bytes) -> str:
        """Send *data* from *source* to *destinations*, and return SES's id of it.

        Raises:
            NotSent: transient.
            MaybeSent: transient, but a second attempt may be a second message.
            Refused: permanent.
        """


class SesSending:
    """SES by *client*, a botocore client of ``ses`` with `SETTINGS`."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def send(self, source: str, destinations: Sequence[str], data: bytes) -> str:
        """See `Sending`."""
        if len(data) > MESSAGE_BYTES:
            raise Refused(f"message from {source}: expected at most {MESSAGE_BYTES} octets, got {len(data)}")
        if not 0 < len(destinations) <= RECIPIENTS:
            raise Refused(
                f"message from {source}: expected 1 to {RECIPIENTS} recipients, got {len(destinations)}"
            )
        try:
            answer = self._client.send_raw_email(
                Source=source, Destinations=list(destinations), RawMessage={"Data": data}
            )
        except ClientError as error:
            raise _answered(source, error) from error
        except ParamValidationError as error:
            raise Refused(f"message from {source}: {error}") from error
        except _BEFORE as error:
            raise NotSent(f"SES: {error}; check the network and the credentials") from error
        except (BotoCoreError, OSError) as error:
            raise MaybeSent(
                f"SES: {error}; it is not known whether the message from {source} was sent"
            ) from error
        message_id: str = answer["MessageId"]
        return message_id


def _answered(source: str, error: ClientError) -> NotSent | MaybeSent | Refused:
    """What the answer *error* means."""
    details = error.response.get("Error", {})
    code = str(details.get("Code", ""))
    text = " ".join(str(details.get("Message", "")).split())
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _REFUSED:
        return Refused(f"SES refused the message from {source}: {code}: {text}")
    if status >= 500 and code not in ("ServiceUnavailable", "Throttling", "ThrottlingException"):
        return MaybeSent(f"SES: {code}: {text}; it is not known whether the message from {source} was sent")
    # Throttled, paused, not permitted: all of it can be mended without touching the message.
    return NotSent(f"SES did not send the message from {source}: {code}: {text}; check quota and permissions")
