"""SES's SMTP endpoint: it takes messages of 40 MB, where the API's SendRawEmail takes 10 (SES quotas).

The password is derived from the access key that the server has anyway, so there is no second secret.
"""

import re
import smtplib
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from twinmail.outgoing import MaybeSent, NotSent, Refused
from twinmail.smtp_credentials import Credential

SECONDS = 60.0

SCAN_SECONDS = 300.0
"""For the answer to the message itself, which SES scans first; to give up early has a message sent twice.

RFC 5321 (4.5.3.2.6) asks for 10 minutes, which is what Dovecot waits for the whole of it.
"""

# ``250 Ok 0107…-000000``: SES's id of the message is the last word.
_TAKEN = re.compile(rb"(?:^|\s)([A-Za-z0-9][A-Za-z0-9_-]{15,127})\s*$")

_DOT = re.compile(rb"^\.", re.MULTILINE)
_PIECE = 1 << 18


@dataclass(frozen=True)
class SmtpSending:
    """A `Sending` (see `twinmail.outgoing`) over SMTP inside TLS.

    Attributes:
        credential: asked for each message, since keys may change.
    """

    host: str
    port: int
    tls: ssl.SSLContext
    credential: Callable[[], Credential]

    def send(self, source: str, destinations: Sequence[str], data: bytes) -> str:
        """See `Sending`."""
        try:
            client = smtplib.SMTP_SSL(self.host, self.port, timeout=SECONDS, context=self.tls)
        except (OSError, smtplib.SMTPException) as error:
            raise NotSent(f"SES: {self.host}:{self.port}: {error}; check the network") from error
        try:
            return self._send(client, source, destinations, data)
        finally:
            with suppress(OSError, smtplib.SMTPException):
                client.quit()

    def _send(self, client: smtplib.SMTP, source: str, destinations: Sequence[str], data: bytes) -> str:
        try:
            credential = self.credential()
            client.login(credential.user, credential.password)
            _check(source, *client.mail(source, [f"size={len(data)}"] if client.has_extn("size") else ()))
            for one in destinations:
                _check(source, *client.rcpt(one))
        except UnicodeEncodeError as error:
            raise Refused(f"message from {source}: SES takes addresses in ASCII only") from error
        except (OSError, smtplib.SMTPException) as error:
            raise NotSent(f"SES did not take the message from {source}: {error}") from error
        if client.sock is not None:
            client.sock.settimeout(SCAN_SECONDS)
        try:
            code, answer = _transfer(client, data)
        except smtplib.SMTPDataError as error:
            # Refused before a single octet of it was sent.
            raise _failure(source, error.smtp_code, _octets(error.smtp_error)) from error
        except (OSError, smtplib.SMTPException) as error:
            raise MaybeSent(
                f"SES: {error}; it is not known whether the message from {source} was sent"
            ) from error
        _check(source, code, answer)
        found = _TAKEN.search(answer)
        if found is None:
            raise MaybeSent(f"SES: expected its id of the message from {source}, got {answer!r}")
        return found[1].decode("ascii")


def _transfer(client: smtplib.SMTP, data: bytes) -> tuple[int, bytes]:
    """DATA, as smtplib does it but in pieces: it would hold the message in memory three times.

    Raises:
        SMTPDataError: the server wants no message.
        OSError, SMTPException: the connection broke.
    """
    code, answer = client.docmd("data")
    if code != 354:
        raise smtplib.SMTPDataError(code, answer)
    start = 0
    while start < len(data):
        # A piece starts where a line does.
        end = data.find(b"\n", start + _PIECE) + 1 or len(data)
        client.send(_DOT.sub(b"..", data[start:end]))
        start = end
    client.send(b".\r\n" if data.endswith(b"\r\n") else b"\r\n.\r\n")
    return client.getreply()


def _check(source: str, code: int, answer: bytes) -> None:
    if not 200 <= code < 300:
        raise _failure(source, code, answer)


def _failure(source: str, code: int, answer: bytes) -> NotSent | Refused:
    text = " ".join(answer.decode("utf-8", "replace").split())
    if code >= 500:
        return Refused(f"SES refused the message from {source}: {code} {text}")
    return NotSent(f"SES did not take the message from {source}: {code} {text}")


def _octets(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode()
