"""The inbound MX: refuses what no receipt rule wants, accepts the rest."""

import functools
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from twinmail_localstack.edge.acceptance import UNAVAILABLE, Acceptance, NotAccepted
from twinmail_localstack.edge.log import log
from twinmail_localstack.edge.reception import Reception, new_ses_id
from twinmail_localstack.edge.rules import Rules
from twinmail_localstack.edge.session import Session, Sessions, is_encrypted, offered

RECIPIENT_LIMIT = 100
NULL_SENDER = "<>"


class Inbound:
    """aiosmtpd's handler for mail from the Internet."""

    def __init__(self, rules: Rules, acceptance: Acceptance) -> None:
        self._rules = rules
        self._acceptance = acceptance

    async def handle_EHLO(
        self, server: Any, session: Any, envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        """Offer what SES offers: SIZE, 8BITMIME and STARTTLS; no AUTH, no SMTPUTF8."""
        session.host_name = hostname
        return offered(responses, without=("AUTH",))

    async def handle_MAIL(
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        """Take any sender."""
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 Ok"

    async def handle_RCPT(
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        """Take a recipient that an enabled rule matches.

        A rule with ``TlsPolicy: Require`` refuses the recipient before STARTTLS even if another rule that
        does not require it matches too: the message would reach the first rule in the clear.
        """
        if len(envelope.rcpt_tos) >= RECIPIENT_LIMIT:
            return f"452 4.5.3 Too many recipients: at most {RECIPIENT_LIMIT}"
        try:
            rule_set = await self._rules.current()
        except UNAVAILABLE as error:
            log("rules unavailable", error=str(error))
            return "451 4.3.0 Temporary service failure"
        if not rule_set.rules:
            # A LocalStack that was started anew has none until the stack is deployed: nobody is unknown yet.
            log("rules unavailable", error="no receipt rule set is active")
            return "451 4.3.0 Temporary service failure"
        rules = rule_set.matching(address)
        if not rules:
            log("recipient refused", recipient=address)
            return f"550 5.1.1 <{address}>: mailbox unavailable"
        if any(rule.require_tls for rule in rules) and not is_encrypted(server):
            return "530 5.7.0 Must issue a STARTTLS command first"
        envelope.rcpt_tos.append(address)
        return "250 Ok"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Answer 250 with the SES message id once the message is safe."""
        reception = Reception(
            ses_id=new_ses_id(),
            arrived=datetime.now(UTC),
            client=session.peer[0],
            helo=session.host_name,
            mail_from="" if envelope.mail_from == NULL_SENDER else envelope.mail_from,
            rcpt_to=tuple(dict.fromkeys(envelope.rcpt_tos)),
            content=envelope.content,
        )
        try:
            await self._acceptance.accept(reception)
        except NotAccepted as error:
            log("not accepted", ses_id=reception.ses_id, error=str(error))
            return "451 4.3.0 Temporary service failure"
        log(
            "accepted",
            ses_id=reception.ses_id,
            recipients=len(reception.rcpt_to),
            octets=len(reception.content),
            encrypted=is_encrypted(server),
            milliseconds=int((datetime.now(UTC) - reception.arrived).total_seconds() * 1000),
        )
        return f"250 Ok {reception.ses_id}"

    async def handle_exception(self, error: Exception) -> str:
        """Answer what nobody foresaw as transient: the sender keeps the message."""
        log("session failed", error=repr(error))
        return "451 4.3.0 Temporary service failure"


def session_factory(
    handler: Inbound, sessions: Sessions, tls: ssl.SSLContext, region: str
) -> Callable[[], Session]:
    """A protocol factory for ``loop.create_server``."""
    return functools.partial(
        Session,
        handler,
        sessions,
        hostname=f"inbound-smtp.{region}.amazonaws.com",
        ident="ESMTP Amazon SES",
        tls=tls,
        auth_exclude_mechanism=("LOGIN", "PLAIN"),
    )
