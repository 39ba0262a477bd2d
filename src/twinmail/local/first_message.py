"""The message that proves the whole path: in by SMTP, out by IMAPS on every server, with the time it took."""

import secrets
import smtplib
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

from twinmail.errors import TransientError, TwinmailError
from twinmail.imap import Account, find_message


class NotDelivered(TransientError):
    """A server did not show the message before the deadline."""


@dataclass(frozen=True)
class Delivered:
    """What became of the message.

    Attributes:
        message_id: its Message-ID header.
        milliseconds: from SMTP 250 until it could be read over IMAPS, by server.
    """

    message_id: str
    milliseconds: Mapping[str, int]


def compose(sender: str, recipient: str) -> EmailMessage:
    """A small real message with a Message-ID of its own."""
    message = EmailMessage()
    message["From"] = f"twinmail <{sender}>"
    message["To"] = recipient
    message["Subject"] = f"It works ({secrets.token_hex(3)})"
    message["Date"] = formatdate(localtime=True)
    message["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2])
    message.set_content(
        "This message came in by SMTP, was accepted by the SES edge, stored in S3, indexed by the Lambda\n"
        "function and fetched by this server on its own. The other server has it too.\n"
    )
    return message


def deliver(
    edge: tuple[str, int],
    message: EmailMessage,
    accounts: Mapping[str, Account],
    tls: ssl.SSLContext,
    timeout: float = 60,
) -> Delivered:
    """Send *message* to the edge and wait until every server in *accounts* shows it.

    Raises:
        NotDelivered: it was refused, or a server did not show it within *timeout* seconds.
    """
    message_id = str(message["Message-ID"])
    accepted = _send(edge, message, tls, timeout)
    seen: dict[str, int] = {}
    problems: dict[str, str] = {}
    watchers = [
        threading.Thread(
            target=_watch,
            args=(server, account, message_id, accepted, timeout, seen, problems),
            daemon=True,
        )
        for server, account in accounts.items()
    ]
    for watcher in watchers:
        watcher.start()
    for watcher in watchers:
        watcher.join()
    missing = [server for server in accounts if server not in seen]
    if missing:
        reasons = "; ".join(f"{server}: {problems.get(server, 'not there')}" for server in missing)
        raise NotDelivered(f"the message was accepted but not delivered within {timeout:.0f} s; {reasons}")
    return Delivered(message_id, {server: seen[server] for server in accounts})


def _send(edge: tuple[str, int], message: EmailMessage, tls: ssl.SSLContext, timeout: float) -> float:
    """Send *message* over STARTTLS; return the time (monotonic) at which the edge said 250."""
    try:
        with smtplib.SMTP(*edge, timeout=timeout) as connection:
            connection.starttls(context=tls)
            connection.send_message(message)
            return time.monotonic()
    except (OSError, smtplib.SMTPException) as error:
        raise NotDelivered(
            f"the SES edge at {edge[0]}:{edge[1]} did not accept the message: {error}"
        ) from error


def _watch(
    server: str,
    account: Account,
    message_id: str,
    accepted: float,
    timeout: float,
    seen: dict[str, int],
    problems: dict[str, str],
) -> None:
    try:
        find_message(account, message_id, timeout=timeout)
    except (TwinmailError, OSError) as error:
        problems[server] = str(error)
    else:
        seen[server] = round((time.monotonic() - accepted) * 1000)
