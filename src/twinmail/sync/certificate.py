"""The chore that watches this server's certificate, whoever keeps it: a container or a cluster.

A new one is served at once: nginx reads it at each connection, and Dovecot is told. Whether it is served is
not believed but looked at. A person is told when it does not last.
"""

import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from pathlib import Path
from typing import Any

from twinmail.certificate.place import CERTIFICATE
from twinmail.certificate.report import Report
from twinmail.certificate.validity import Unreadable, Validity, leaf, read
from twinmail.errors import TransientError, TwinmailError
from twinmail.outgoing import Sending
from twinmail.sync.log import Log, utc_now

SECONDS = 5.0

AGAIN = timedelta(days=1)
"""Between two messages about the same trouble."""
PLACEHOLDER = timedelta(days=1)
"""How long a server may wait for its first certificate until somebody is told."""

_HANDSHAKE_SECONDS = 5.0


class CertificateTrouble(TransientError):
    """Clients refuse this server's certificate, or soon will."""


@dataclass(frozen=True)
class Operator:
    """Whom to tell, and from which address."""

    address: str
    source: str
    sending: Sending


@dataclass
class CertificateChore:
    """Watches the certificate in *folder*; Dovecot serves it at *imaps*, and *renew* makes it read it again.

    Attributes:
        imaps: host and port; None if nobody listens.
        operator: who is told by mail; None for nobody.
    """

    server: str
    folder: Path
    imaps: tuple[str, int] | None
    renew: Callable[[], None]
    operator: Operator | None
    log: Log
    clock: Callable[[], datetime] = utc_now
    name: str = field(default="certificate", init=False)
    seconds: float = field(default=SECONDS, init=False)
    prefix: str = field(default="", init=False)
    _served: bytes = field(default=b"", init=False)
    _validity: Validity | None = field(default=None, init=False)
    _problem: str = field(default="no certificate was looked at yet", init=False)
    _told: datetime | None = field(default=None, init=False)

    def turn(self) -> None:
        """See `Chore`.

        Raises:
            CertificateTrouble: there is none, it is not served, or it does not last.
            SessionsUnavailable: Dovecot could not be told.
        """
        try:
            pem = (self.folder / CERTIFICATE).read_bytes()
            self._validity, found = read(pem), leaf(pem)
        except OSError as error:
            self._problem = f"{self.folder / CERTIFICATE}: cannot be read: {error.strerror}"
            raise CertificateTrouble(self._problem) from error
        except Unreadable as error:
            self._problem = f"{self.folder / CERTIFICATE}: {error}"
            raise CertificateTrouble(self._problem) from error
        self._problem = problem(self._validity, Report.load(self.folder), self.clock())
        self._tell()
        if found != self._served:
            self._serve(found)
        if self._problem:
            raise CertificateTrouble(self._problem)

    def status(self) -> Mapping[str, Any]:
        """For the status page: until when, whether it is a placeholder, what is wrong."""
        validity, report = self._validity, Report.load(self.folder)
        left = (validity.not_after - self.clock()) / timedelta(days=1) if validity else None
        return {
            "not_after": validity.not_after.isoformat() if validity else None,
            "days_left": None if left is None else round(left, 2),
            "placeholder": validity.self_signed if validity else None,
            "renewal_error": (report.error or None) if report else None,
            "next_attempt": (report.next_attempt or None) if report else None,
            "problem": self._problem or None,
        }

    def _serve(self, found: bytes) -> None:
        """Let Dovecot serve *found*; nothing is done if it does."""
        if self.imaps is None:
            return
        served = serves(self.imaps)
        if served is None:
            # It is not there; when it starts, it reads what is there then.
            return
        if served != found:
            self.renew()
            served = serves(self.imaps)
        if served == found:
            self._served = found
            self.log.info(
                "certificate served",
                server=self.server,
                until=str(self._validity and self._validity.not_after),
            )

    def _tell(self) -> None:
        """Write to the operator, once a day while it lasts."""
        now = self.clock()
        if not self._problem:
            self._told = None
        if not self._problem or self.operator is None or (self._told and now - self._told < AGAIN):
            return
        validity = self._validity
        if validity and validity.self_signed and now - validity.not_before < PLACEHOLDER:
            return
        message = notice(self.server, self._problem, self.operator, now)
        self._told = now
        try:
            self.operator.sending.send(self.operator.source, [self.operator.address], message)
        except TwinmailError as error:
            # Not before tomorrow: a message about each attempt would help nobody.
            self.log.error("operator not told", problem=self._problem, error=str(error))
            return
        self.log.warning("operator told", problem=self._problem)


def problem(validity: Validity, report: Report | None, now: datetime) -> str:
    """What is wrong with a certificate at *now*, in words; empty if nothing is."""
    why = f"; last attempt: {report.error}" if report and report.error else ""
    if validity.self_signed:
        return f"a placeholder, which clients refuse, until there is a certificate{why}"
    if now >= validity.not_after:
        return f"expired on {validity.not_after:%Y-%m-%d %H:%M} UTC{why}"
    if now >= validity.alarm:
        left = (validity.not_after - now) / timedelta(days=1)
        return f"expires in {left:.1f} days, on {validity.not_after:%Y-%m-%d %H:%M} UTC{why}"
    return ""


def serves(address: tuple[str, int]) -> bytes | None:
    """The certificate (DER) that is served at *address*; None if nobody answers."""
    # Only looked at, so that a wrong one can be replaced: nothing is said or believed.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        suppress(OSError),
        socket.create_connection(address, _HANDSHAKE_SECONDS) as plain,
        context.wrap_socket(plain) as inside,
    ):
        return inside.getpeercert(binary_form=True)
    return None


def notice(server: str, text: str, operator: Operator, now: datetime) -> bytes:
    """The message to the operator."""
    message = EmailMessage()
    message["From"] = operator.source
    message["To"] = operator.address
    message["Subject"] = f"twinmail: certificate of {server}: {text.partition(';')[0]}"
    message["Date"] = format_datetime(now)
    message["Message-ID"] = make_msgid(domain=operator.source.rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(
        f"The certificate of the server {server}: {text}.\n\n"
        "What to do is in docs/certificates.md. This is said once a day until it is mended.\n"
    )
    return message.as_bytes()
