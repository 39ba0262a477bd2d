"""The SES SMTP endpoint: TLS, AUTH with the access keys of IAM, then sending as the user they belong to.

Answers are worded as SES words them (SES Developer Guide, "SMTP response codes returned by Amazon SES").
"""

import asyncio
import functools
import hmac
import ssl
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from aiosmtpd.smtp import AuthResult, LoginPassword

from twinmail.smtp_credentials import smtp_password
from twinmail_localstack.edge.localstack import LocalStack, NotSent, Unreachable
from twinmail_localstack.edge.log import log
from twinmail_localstack.edge.session import Session, Sessions, offered

RECIPIENT_LIMIT = 50

_SENDER_MISSING = "501 Invalid MAIL FROM address provided"
_BUSY = "451 Temporary service failure"
_INVALID = "535 Authentication Credentials Invalid"
_WORDS = {
    "AccessDenied": "Access denied",
    "MessageRejected": "Message rejected",
}


class Submission:
    """aiosmtpd's handler for mail from our own clients."""

    def __init__(self, localstack: LocalStack, executor: Executor, root: str) -> None:
        self._localstack = localstack
        self._executor = executor
        self._root = root

    async def handle_EHLO(
        self, server: Any, session: Any, envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        """Offer what SES offers."""
        session.host_name = hostname
        return offered(responses)

    async def handle_MAIL(
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        """Take the sender; whether it may send is decided with the message."""
        if "@" not in address:
            return _SENDER_MISSING
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
        user = session.auth_data.login.decode("utf-8", "replace")
        send = functools.partial(
            self._localstack.send,
            user,
            user == self._root,
            envelope.mail_from,
            recipients,
            envelope.content,
        )
        try:
            message_id = await asyncio.get_running_loop().run_in_executor(self._executor, send)
        except NotSent as error:
            log("not sent", user=user, error=str(error))
            return f"554 {_WORDS.get(error.code, 'Transaction failed')}: {' '.join(str(error).split())}"
        except Unreachable as error:
            log("not sent", user=user, error=str(error))
            return _BUSY
        log("sent", message_id=message_id, user=user, recipients=len(recipients))
        return f"250 Ok {message_id}"

    async def handle_exception(self, error: Exception) -> str:
        """Answer what nobody foresaw as transient."""
        log("session failed", error=repr(error))
        return _BUSY


class SubmissionSession(Session):
    """A session whose AUTH asks LocalStack, without holding up the other sessions."""

    def __init__(
        self,
        *arguments: Any,
        localstack: LocalStack,
        executor: Executor,
        root: tuple[str, str],
        region: str,
        **options: Any,
    ) -> None:
        self._localstack = localstack
        self._executor = executor
        self._root = (root[0], smtp_password(root[1], region)) if root[0] else None
        super().__init__(*arguments, authenticator=_accept_for_now, **options)

    async def auth_PLAIN(self, server: Any, args: list[str]) -> AuthResult:
        """AUTH PLAIN."""
        return await self._checked(await super().auth_PLAIN(server, args))

    async def auth_LOGIN(self, server: Any, args: list[str]) -> AuthResult:
        """AUTH LOGIN."""
        return await self._checked(await super().auth_LOGIN(server, args))

    async def _checked(self, result: AuthResult) -> AuthResult:
        """Check what the client said; what was no pair of credentials has been answered already."""
        given = result.auth_data
        if not result.success or not isinstance(given, LoginPassword):
            return result
        user, password = (one.decode("utf-8", "replace") for one in given)
        if self._root and user == self._root[0]:
            right = hmac.compare_digest(self._root[1].encode(), password.encode())
        else:
            loop = asyncio.get_running_loop()
            check = functools.partial(self._localstack.may_log_in, user, password)
            try:
                right = await loop.run_in_executor(self._executor, check)
            except Unreachable as error:
                log("login not checked", error=str(error))
                return AuthResult(success=False, handled=False, message=_BUSY)
        if not right:
            log("login refused", user=user)
            return AuthResult(success=False, handled=False, message=_INVALID)
        return AuthResult(success=True, message="235 Authentication successful.", auth_data=given)


def _accept_for_now(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    """aiosmtpd asks without waiting; `SubmissionSession` then decides."""
    return AuthResult(success=True, auth_data=data)


def session_factory(
    handler: Submission,
    sessions: Sessions,
    tls: ssl.SSLContext,
    region: str,
    localstack: LocalStack,
    executor: Executor,
    root: tuple[str, str],
    wrapped: bool = False,
) -> Callable[[], Session]:
    """A protocol factory for ``loop.create_server``; *wrapped*: in TLS from the first octet."""
    return functools.partial(
        SubmissionSession,
        handler,
        sessions,
        hostname="email-smtp.amazonaws.com",
        ident="ESMTP SimpleEmailService",
        tls=None if wrapped else tls,  # create_server has it then
        require_starttls=not wrapped,
        auth_required=True,
        auth_require_tls=not wrapped,
        localstack=localstack,
        executor=executor,
        root=root,
        region=region,
    )
