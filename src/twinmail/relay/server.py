"""The relay's SMTP: taken from Dovecot alone, checked, sent through SES, copied to Sent, and only then 250.

Dovecot has authenticated the user with the password that the user has for IMAP. It names the mailbox as the
user of SASL PLAIN; the password of that is a secret which only Dovecot and this relay know.
"""

import asyncio
import functools
import hmac
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from twinmail.config import Config
from twinmail.durable_file import NotWritten
from twinmail.outgoing import RECIPIENTS, MaybeSent, NotSent, Refused, Sending
from twinmail.relay.sender import author, may_write_as, refusal, without_blind_copies
from twinmail.relay.spool import Spool
from twinmail.sync.budget import memory_limit
from twinmail.sync.log import Log

AT_ONCE = 4
"""Messages in memory at once, at most; further clients wait for their turn."""

# What the process takes without any message, octets.
_OWN = 48 << 20

_WAIT_SECONDS = 120.0
# Base64 and a header around what may be attached.
_LINE_LIMIT = 65536
_AUTH = re.compile(r" +AUTH=\S+", re.IGNORECASE)


def at_once(message_bytes: int, memory: int | None) -> int:
    """How many messages of *message_bytes* octets have room in *memory*, with what growing them takes."""
    if memory is None:
        return AT_ONCE
    return max(1, min(AT_ONCE, (memory - _OWN) // (message_bytes + message_bytes // 8)))


class Relay:
    """aiosmtpd's handler. Its methods are what that library calls; see its documentation."""

    def __init__(self, config: Config, sending: Sending, spool: Spool, log: Log) -> None:
        self._config = config
        self._sending = sending
        self._spool = spool
        self._log = log
        places = at_once(config.limits.message_bytes, memory_limit())
        self._slots = asyncio.Semaphore(places)
        self._pool = ThreadPoolExecutor(places, "send")
        self._busy = 0

    async def drain(self, seconds: float) -> bool:
        """Wait at most *seconds* until no message is on its way, and return whether none is."""
        deadline = asyncio.get_running_loop().time() + seconds
        while self._busy and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.05)
        return self._busy == 0

    async def handle_MAIL(
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        """Take the sender if it is the user's own, when there is room for a message."""
        mailbox = session.auth_data
        if address and not may_write_as(self._config, mailbox, address):
            own = self._config.primary_address(mailbox) or "no address of its own"
            self._log.warning("refused", mailbox=mailbox, sender=address)
            return f"550 5.7.1 {address} is not an address of {mailbox}, which may send from {own}"
        try:
            await asyncio.wait_for(server.hold(self._slots), _WAIT_SECONDS)
        except TimeoutError:
            return "451 4.3.2 Too many messages are being sent; try again"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 Ok"

    async def handle_RCPT(
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        """Take any recipient, up to SES's limit."""
        if len(envelope.rcpt_tos) >= RECIPIENTS:
            return f"452 4.5.3 Too many recipients: SES takes {RECIPIENTS}"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_RSET(self, server: Any, session: Any, envelope: Any) -> str:
        """Forget the message."""
        server.free()
        return "250 2.0.0 Ok"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Send the message; 250 means that SES has it and that its copy is in Sent, or will be."""
        work = functools.partial(
            self.relay, session.auth_data, envelope.mail_from, tuple(envelope.rcpt_tos), envelope.content
        )
        self._busy += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._busy -= 1
            server.free()

    def relay(self, mailbox: str, mail_from: str, rcpt_to: tuple[str, ...], message: bytes) -> str:
        """Send *message* of *mailbox*, and return the answer for its client."""
        refused = refusal(self._config, mailbox, mail_from, message)
        if refused:
            self._log.warning("refused", mailbox=mailbox, reason=refused)
            return f"550 5.7.1 {refused}"
        try:
            # Before sending: a full disk must not be noticed when the message is gone already.
            held = self._spool.hold(message)
        except NotWritten as error:
            self._log.error("not sent", mailbox=mailbox, error=str(error))
            return "452 4.3.1 No room for the copy in Sent; try again"
        try:
            # SES wants a sender of a verified domain; a receipt has none.
            source = mail_from or author(message)
            ses_id = self._sending.send(source, rcpt_to, without_blind_copies(message))
        except Refused as error:
            return self._not_sent(held, mailbox, f"554 5.7.1 {error}", error)
        except NotSent as error:
            return self._not_sent(held, mailbox, "451 4.4.1 SES does not take mail now; try again", error)
        except MaybeSent as error:
            return self._not_sent(held, mailbox, "451 4.4.2 SES did not say whether it took it", error)
        self._log.info("sent", mailbox=mailbox, ses_id=ses_id, recipients=len(rcpt_to), size=len(message))
        try:
            self._spool.settle(self._spool.sent(held, ses_id, mailbox))
        except Exception as error:  # noqa: BLE001 - whatever it is, the message is on its way
            # The client must not send it again. The copy is tried again.
            self._log.error("no copy yet", mailbox=mailbox, ses_id=ses_id, error=str(error))
        return f"250 2.0.0 Ok {ses_id}"

    def _not_sent(self, held: Any, mailbox: str, answer: str, error: Exception) -> str:
        self._spool.drop(held)
        self._log.error("not sent", mailbox=mailbox, error=str(error))
        return answer

    async def handle_exception(self, error: Exception) -> str:
        """Answer what nobody foresaw as transient."""
        self._log.error("session failed", error=repr(error))
        return "451 4.3.0 Temporary failure"


class Session(SMTP):
    """One connection of Dovecot; it holds at most one place among the messages in memory."""

    def __init__(self, handler: Relay, secret: str, config: Config, size: int) -> None:
        self._slot: asyncio.Semaphore | None = None
        super().__init__(
            handler,
            data_size_limit=size,
            hostname="twinmail-relay",
            ident="ESMTP",
            # Loopback, and a secret that is worth nothing elsewhere.
            auth_require_tls=False,
            auth_required=True,
            auth_exclude_mechanism=["LOGIN"],
            authenticator=authenticator(secret, config),
        )
        self.line_length_limit = _LINE_LIMIT

    async def smtp_MAIL(self, arg: str) -> None:
        """Leave out AUTH=, with which Dovecot repeats who logged in (RFC 4954, 5): aiosmtpd knows it not."""
        await super().smtp_MAIL(_AUTH.sub("", arg) if arg else arg)

    async def smtp_DATA(self, arg: str) -> None:
        """Take the message in one piece: the library keeps an object a line, eight times as much memory."""
        if await self.check_helo_needed() or await self.check_auth_needed("DATA"):
            return
        assert self.envelope is not None
        if not self.envelope.rcpt_tos or arg:
            await self.push("501 Syntax: DATA" if arg else "503 Error: need RCPT command")
            return
        await self.push("354 End data with <CR><LF>.<CR><LF>")
        content = bytearray()
        # To read it is the same as with bytes, and a copy of it would be too much.
        self.envelope.content = cast(bytes, content)
        if problem := await self._receive(content):
            await self.push(problem)
            self._set_post_data_state()  # type: ignore[no-untyped-call]
            return
        status = await self._call_handler_hook("DATA")
        self._set_post_data_state()  # type: ignore[no-untyped-call]
        await self.push(status)

    async def _receive(self, content: bytearray) -> str:
        """Append what comes until the dot (RFC 5321, 4.5.2); the answer if it cannot be taken."""
        problem, octets, middle = "", 0, False
        while True:
            try:
                line = await self._reader.readuntil(b"\r\n")
            except asyncio.CancelledError:
                self._writer.close()
                raise
            except asyncio.LimitOverrunError as error:
                # Read to its end all the same: the answer comes after the dot.
                await self._reader.read(error.consumed)
                problem, middle = problem or "500 5.5.2 Line too long (RFC 5321, 4.5.3.1.6)", True
                content.clear()
                continue
            if not middle and line == b".\r\n":
                return problem
            octets += len(line)
            if self.data_size_limit and octets > self.data_size_limit:
                problem = problem or "552 5.3.4 Error: Too much mail data"
                content.clear()
            if not problem:
                content += line[1:] if line.startswith(b".") else line
            middle = False

    async def hold(self, slots: asyncio.Semaphore) -> None:
        """Take a place, unless this session has one."""
        if self._slot is None:
            await slots.acquire()
            self._slot = slots

    def free(self) -> None:
        """Give the place back."""
        if self._slot is not None:
            self._slot.release()
            self._slot = None

    def connection_lost(self, error: Exception | None) -> None:
        """The place too is free again."""
        self.free()
        super().connection_lost(error)


def authenticator(secret: str, config: Config) -> Callable[..., AuthResult]:
    """Take any mailbox as the user, with *secret* as its password."""
    expected = secret.encode()

    def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        if isinstance(data, LoginPassword) and hmac.compare_digest(data.password, expected):
            mailbox = data.login.decode("utf-8", "replace")
            if mailbox in config.mailboxes:
                return AuthResult(success=True, auth_data=mailbox)
        return AuthResult(success=False, handled=False)

    return authenticate
