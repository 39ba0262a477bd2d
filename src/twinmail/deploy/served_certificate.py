"""The certificate that a server really shows to mail clients."""

import socket
import ssl
from datetime import datetime

from cryptography import x509

IMAPS = 993
_SECONDS = 5.0


def ends(host: str, port: int = IMAPS, name: str = "") -> datetime:
    """When the certificate at *host* and *port* ends; it is asked for *name* (default: *host*).

    Whether it is to be trusted is not looked at: one that has ended is not one that is missing.

    Raises:
        OSError: there is no answer, or no TLS.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((host, port), timeout=_SECONDS) as connection,
        context.wrap_socket(connection, server_hostname=name or host) as session,
    ):
        shown = session.getpeercert(binary_form=True)
    if shown is None:
        raise OSError(f"{host}:{port}: shows no certificate")
    return x509.load_der_x509_certificate(shown).not_valid_after_utc
