"""A message as the edge accepted it: envelope, session and the octets that came."""

import base64
import secrets
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Reception:
    """One accepted message.

    Attributes:
        ses_id: SES message id.
        arrived: when the last octet came, UTC.
        client: IP address of the sender.
        host: name of the sender, as far as known.
        helo: what the sender called itself.
        mail_from: envelope sender; empty for the null sender.
        rcpt_to: envelope recipients, each once, as they were given.
        content: the octets of DATA.
        own: it came through our own SMTP endpoint.
    """

    ses_id: str
    arrived: datetime
    client: str
    helo: str
    mail_from: str
    rcpt_to: tuple[str, ...]
    content: bytes
    host: str = "unknown"
    own: bool = False


def new_ses_id() -> str:
    """Make an SES message id: 40 characters of ``0-9a-v``.

    SES's own ids are 192 bits in base32hex followed by a 1 (``vm1p3c6jenrgbr944ldf0ljraep1ndp19hbclt01``).
    """
    return base64.b32hexencode(secrets.token_bytes(24)).decode("ascii").lower()[:39] + "1"
