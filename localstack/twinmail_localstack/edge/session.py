"""SMTP sessions: aiosmtpd's protocol, with a reader that keeps every octet and a way to drain."""

import asyncio
import ssl
from typing import Any

from aiosmtpd.smtp import SMTP

from twinmail_localstack.edge.wire import DataDecoder

MESSAGE_LIMIT = 40 * 1024 * 1024
"""Octets of the largest message: SES stores 40 MB in S3 (Developer Guide, "Service quotas")."""

_CHUNK = 1 << 20
_IDLE_SECONDS = 300.0


class Sessions:
    """The open sessions of one process."""

    def __init__(self) -> None:
        self.open: set[Session] = set()
        self.draining = False

    async def drain(self, seconds: float) -> None:
        """Let transactions in hand finish, *seconds* at most; idle sessions get 421 at once."""
        self.draining = True
        for session in list(self.open):
            if not session.in_transaction:
                session.dismiss()
        deadline = asyncio.get_running_loop().time() + seconds
        # Not until all are closed: an encrypted session waits long for a client that does not answer.
        while any(session.in_transaction for session in self.open):
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.02)
        for session in list(self.open):
            session.dismiss()


class Session(SMTP):
    """One SMTP session.

    aiosmtpd's DATA refuses lines over 1,001 octets, and holds what it will refuse; `smtp_DATA` replaces it.
    """

    # The reader's buffer, which is also the longest command line that is read before it is refused.
    line_length_limit = 64 * 1024
    AuthLoginUsernameChallenge = "Username:"
    AuthLoginPasswordChallenge = "Password:"

    def __init__(
        self,
        handler: Any,
        sessions: Sessions,
        *,
        hostname: str,
        ident: str,
        tls: ssl.SSLContext | None,
        **options: Any,
    ) -> None:
        self._sessions = sessions
        super().__init__(
            handler,
            data_size_limit=MESSAGE_LIMIT,
            hostname=hostname,
            ident=ident,
            tls_context=tls,
            timeout=_IDLE_SECONDS,
            loop=asyncio.get_running_loop(),
            **options,
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the session; called again after STARTTLS."""
        super().connection_made(transport)
        self._sessions.open.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the session."""
        self._sessions.open.discard(self)
        super().connection_lost(error)

    @property
    def in_transaction(self) -> bool:
        """Whether the client is between MAIL and the answer to DATA."""
        return self.envelope is not None and self.envelope.mail_from is not None

    def dismiss(self) -> None:
        """Say good-bye and close."""
        if self.transport is not None:
            self._writer.write(b"421 4.3.2 Service is shutting down\r\n")
            self.transport.close()

    async def smtp_DATA(self, arg: str | None) -> None:
        """Receive one message and give it to the handler's ``handle_DATA``."""
        if await self.check_helo_needed() or await self.check_auth_needed("DATA"):
            return
        assert self.envelope is not None
        if not self.envelope.rcpt_tos:
            await self.push("503 5.5.1 Error: need RCPT command")
            return
        if arg:
            await self.push("501 5.5.4 Syntax: DATA")
            return
        await self.push("354 End data with <CR><LF>.<CR><LF>")
        size = await self._receive()
        if size > MESSAGE_LIMIT:
            status = f"552 5.3.4 Message is too long: {size} octets, at most {MESSAGE_LIMIT}"
        else:
            status = await self.event_handler.handle_DATA(self, self.session, self.envelope)
        self.envelope = self._create_envelope()
        await self.push(status)
        if self._sessions.draining:
            self.dismiss()

    async def _receive(self) -> int:
        """Read the envelope's content until the final dot; return its size.

        A client that hangs up cancels this.
        """
        decoder = DataDecoder(MESSAGE_LIMIT)
        while not decoder.done:
            chunk = await self._reader.read(_CHUNK)
            if not chunk:
                raise ConnectionResetError("connection closed within DATA")
            self._reset_timeout()
            decoder.feed(chunk)
        if decoder.rest:
            # The reader is empty now, so what came behind the dot is next again.
            self._reader.feed_data(decoder.rest)
        assert self.envelope is not None
        self.envelope.content = decoder.content
        return decoder.size


def offered(responses: list[str], without: tuple[str, ...] = ()) -> list[str]:
    """The lines of an EHLO answer in SES's form: the extensions but *without*, and ``250 Ok`` last."""
    hidden = ("HELP", *without)
    kept = [line for line in responses if not line[4:].startswith(hidden)]
    return [*(f"250-{line[4:]}" for line in kept), "250 Ok"]


def is_encrypted(server: Any) -> bool:
    """Whether the session went through STARTTLS."""
    return server.session is not None and server.session.ssl is not None
