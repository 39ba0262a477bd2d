"""The SES SMTP endpoint: STARTTLS, AUTH, then SendRawEmail; mail for our own domains comes back in."""

import asyncio
import base64
import functools
import hashlib
import hmac
import ssl
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from datetime import UTC, datetime
from typing import Any

from aiosmtpd.smtp import AuthResult, LoginPassword
from botocore.exceptions import ClientError

from twinmail_localstack.edge.acceptance import UNAVAILABLE, Acceptance, NotAccepted
from twinmail_localstack.edge.headers import resent
from twinmail_localstack.edge.log import log
from twinmail_localstack.edge.reception import Reception, new_ses_id
from twinmail_localstack.edge.rules import Rules
from twinmail_localstack.edge.session import Session, Sessions, offered

RECIPIENT_LIMIT = 50

_REJECTED = ("MessageRejected", "InvalidParameterValue", "MailFromDomainNotVerifiedException")


def smtp_password(secret_key: str, region: str) -> str:
    """Derive the SMTP password of an IAM secret key (version 4).

    Source: SES Developer Guide, "Obtaining Amazon SES SMTP credentials".
    """
    key = f"AWS4{secret_key}".encode()
    for part in ("11111111", region, "ses", "aws4_request", "SendRawEmail"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return base64.b64encode(b"\x04" + key).decode("ascii")


class Submission:
    """aiosmtpd's handler for mail from our own clients."""

    def __init__(
        self, ses: Any, rules: Rules, acceptance: Acceptance, executor: Executor, region: str
    ) -> None:
        self._ses = ses
        self._rules = rules
        self._acceptance = acceptance
        self._executor = executor
        self._region = region

    async def handle_EHLO(
        self, server: Any, session: Any, envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        """Offer what SES offers."""
        session.host_name = hostname
        return offered(responses)

    async def handle_MAIL(
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        """Take the sender; SendRawEmail decides whether it may send."""
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 Ok"

    async def handle_RCPT(
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        """Take any recipient, up to SES's limit."""
        if len(envelope.rcpt_tos) >= RECIPIENT_LIMIT:
            return f"452 4.5.3 Too many recipients: at most {RECIPIENT_LIMIT}"
        envelope.rcpt_tos.append(address)
        return "250 Ok"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Send the message; answer with SES's id of it."""
        recipients = tuple(dict.fromkeys(envelope.rcpt_tos))
        loop = asyncio.get_running_loop()
        send = functools.partial(
            self._ses.send_raw_email,
            Source=envelope.mail_from,
            Destinations=list(recipients),
            RawMessage={"Data": envelope.content},
        )
        try:
            message_id: str = (await loop.run_in_executor(self._executor, send))["MessageId"]
            await self._return(message_id, recipients, envelope.content)
        except ClientError as error:
            details = error.response["Error"]
            log("not sent", error=str(error))
            if details["Code"] in _REJECTED:
                return f"554 Message rejected: {' '.join(details['Message'].split())}"
            return "451 Temporary service failure"
        except (*UNAVAILABLE, NotAccepted) as error:
            log("not sent", error=str(error))
            return "451 Temporary service failure"
        log("sent", message_id=message_id, recipients=len(recipients))
        return f"250 Ok {message_id}"

    async def _return(self, message_id: str, recipients: tuple[str, ...], content: bytes) -> None:
        """Take the message in again for the recipients that our own rules match."""
        rules = await self._rules.current()
        own = tuple(one for one in recipients if rules.matching(one))
        if not own:
            return
        now = datetime.now(UTC)
        host = f"a1-1.smtp-out.{self._region}.amazonses.com"
        await self._acceptance.accept(
            Reception(
                ses_id=new_ses_id(),
                arrived=now,
                client="127.0.0.1",
                host=host,
                helo=host,
                # SES sends with an address of its own, so that bounces come to it.
                mail_from=f"{message_id}@{self._region}.amazonses.com",
                rcpt_to=own,
                content=resent(content, message_id, self._region, now),
                own=True,
            )
        )

    async def handle_exception(self, error: Exception) -> str:
        """Answer what nobody foresaw as transient."""
        log("session failed", error=repr(error))
        return "451 Temporary service failure"


def authenticator(keys: Mapping[str, str], region: str) -> Callable[..., AuthResult]:
    """Check a user name (access key id) and SMTP password against *keys* (secret keys by access key id)."""
    passwords = {name: smtp_password(secret, region).encode("ascii") for name, secret in keys.items()}

    def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        if isinstance(data, LoginPassword):
            expected = passwords.get(data.login.decode("utf-8", "replace"), b"")
            if expected and hmac.compare_digest(expected, data.password):
                return AuthResult(success=True, message="235 Authentication successful.", auth_data=data)
        return AuthResult(success=False, handled=False, message="535 Authentication Credentials Invalid")

    return authenticate


def session_factory(
    handler: Submission, sessions: Sessions, tls: ssl.SSLContext, region: str, keys: Mapping[str, str]
) -> Callable[[], Session]:
    """A protocol factory for ``loop.create_server``."""
    return functools.partial(
        Session,
        handler,
        sessions,
        hostname="email-smtp.amazonaws.com",
        ident="ESMTP SimpleEmailService",
        tls=tls,
        require_starttls=True,
        auth_required=True,
        authenticator=authenticator(keys, region),
    )
