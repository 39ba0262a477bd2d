"""Looking into a mailbox over IMAPS, as its owner's mail client would."""

import imaplib
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from twinmail.errors import PermanentError, TransientError

_POLL_SECONDS = 0.05
_CONNECT_SECONDS = 30.0


class LoginRefused(PermanentError):
    """The server does not take this user and password, or its certificate is not trusted."""


class MessageNotFound(TransientError):
    """The message was not there before the deadline."""


@dataclass(frozen=True)
class Account:
    """Where and as whom to log in.

    Attributes:
        tls: trusts the server's certificate and checks its name.
    """

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    tls: ssl.SSLContext = field(repr=False)

    def __str__(self) -> str:
        return f"{self.user} at {self.host}:{self.port}"


@contextmanager
def session(account: Account, timeout: float = _CONNECT_SECONDS) -> Iterator[imaplib.IMAP4_SSL]:
    """Log in, and log out at the end; each answer may take *timeout* seconds.

    Raises:
        LoginRefused: user, password or certificate.
        OSError: no connection.
        imaplib.IMAP4.abort: the server ended the connection, or knows no accounts yet.
    """
    try:
        client = imaplib.IMAP4_SSL(account.host, account.port, ssl_context=account.tls, timeout=timeout)
    except ssl.SSLCertVerificationError as error:
        raise LoginRefused(f"{account}: the certificate is not trusted: {error.verify_message}") from error
    try:
        try:
            client.login(account.user, account.password)
        except imaplib.IMAP4.abort:
            raise
        except imaplib.IMAP4.error as error:
            # RFC 5530: the server cannot say now whether the password is right.
            if "[UNAVAILABLE]" in str(error):
                raise imaplib.IMAP4.abort(f"{account}: {error}") from error
            raise LoginRefused(f"{account}: login refused: {error}") from error
        yield client
    finally:
        with suppress(OSError, imaplib.IMAP4.error):
            client.logout()


def find_message(account: Account, message_id: str, timeout: float, folder: str = "INBOX") -> str:
    """Wait until *folder* shows the message with this Message-ID header and return its UID.

    Servers that are not up yet, or go away, are tried again.

    Raises:
        LoginRefused: trying again cannot help.
        MessageNotFound: after *timeout* seconds; the text says what was there instead.
    """
    deadline = time.monotonic() + timeout
    problem = "no answer yet"
    while True:
        try:
            with session(account, max(1.0, deadline - time.monotonic())) as client:
                while True:
                    # SELECT and not NOOP: the folder itself may appear later.
                    status, data = client.select(_quoted(folder), readonly=True)
                    problem = f"{folder}: {(data[0] or b'').decode('utf-8', 'replace')}"
                    if status == "OK":
                        _, found = client.uid("SEARCH", "HEADER", "Message-ID", _quoted(message_id))
                        uids = (found[0] or b"").split()
                        if uids:
                            return str(uids[-1].decode("ascii"))
                        problem = f"{folder} has {problem.rpartition(' ')[2]} other messages"
                    if time.monotonic() >= deadline:
                        break
                    time.sleep(_POLL_SECONDS)
        except (OSError, imaplib.IMAP4.abort) as error:
            problem = f"{type(error).__name__}: {error}"
        if time.monotonic() >= deadline:
            raise MessageNotFound(f"{account}: {message_id} not there after {timeout:.0f} s; {problem}")
        time.sleep(_POLL_SECONDS)


def greets(host: str, port: int, tls: ssl.SSLContext, timeout: float = 2) -> bool:
    """Whether an IMAP server greets inside TLS; the health check that sees what clients see."""
    try:
        client = imaplib.IMAP4_SSL(host, port, ssl_context=tls, timeout=timeout)
    except (OSError, imaplib.IMAP4.error):
        return False
    with suppress(OSError, imaplib.IMAP4.error):
        client.logout()
    return True


def _quoted(text: str) -> str:
    """An IMAP quoted string (RFC 3501 §4.3).

    Raises:
        ValueError: it would end the command.
    """
    if any(one in text for one in "\r\n\0"):
        raise ValueError(f"{text!r} cannot stand in an IMAP command")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
