"""Hands one message to Dovecot by LMTP (RFC 2033) over a unix socket, and says how that ended."""

import contextlib
import os
import smtplib
from collections.abc import Iterable
from pathlib import Path

from twinmail.errors import PermanentError, TransientError

# A unix socket's path has at most 107 octets, so a long one is reached through its open folder.
_PATH_LIMIT = 107
_ADDRESS_LIMIT = 320


class LmtpAway(TransientError):
    """Nobody answers, or not now."""


class LmtpRefused(PermanentError):
    """Dovecot does not take this message, and will not."""


def hand_over(
    path: Path, seconds: float, mail_from: str, user: str, recipient: str, chunks: Iterable[bytes]
) -> None:
    """Deliver *chunks* to *user* over the socket at *path*.

    The octets go as they are, bare line feeds included (BDAT, RFC 3030).

    Args:
        seconds: for each answer.
        mail_from: envelope sender; one that LMTP cannot express counts as empty.
        user: the recipient for Dovecot.
        recipient: the recipient for scripts (ORCPT, RFC 3461).

    Raises:
        LmtpAway: transient.
        LmtpRefused.
    """
    try:
        with _connected(path, seconds) as lmtp:
            _expect(lmtp.ehlo(), "LHLO")
            code, reply = lmtp.mail(_address(mail_from))
            if code >= 500:
                lmtp.rset()
                code, reply = lmtp.mail("")
            _expect((code, reply), "MAIL")
            _expect(lmtp.rcpt(user, [f"ORCPT=rfc822;{xtext(recipient)}"]), "RCPT")
            for chunk in chunks:
                if chunk:
                    _expect(_bdat(lmtp, chunk), "BDAT")
            _expect(_bdat(lmtp, b"", " LAST"), "BDAT LAST")
            with contextlib.suppress(smtplib.SMTPException, OSError):
                lmtp.quit()
    except (smtplib.SMTPException, OSError) as error:
        raise LmtpAway(f"{path}: {str(error) or type(error).__name__}; is Dovecot running?") from error


@contextlib.contextmanager
def _connected(path: Path, seconds: float):  # type: ignore[no-untyped-def]
    folder = None
    name = str(path)
    if len(os.fsencode(name)) > _PATH_LIMIT:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        name = f"/proc/self/fd/{folder}/{path.name}"
    try:
        lmtp = smtplib.LMTP(name, local_hostname="twinmail", timeout=seconds)
    finally:
        if folder is not None:
            os.close(folder)
    try:
        yield lmtp
    finally:
        lmtp.close()


def _bdat(lmtp: smtplib.LMTP, chunk: bytes, last: str = "") -> tuple[int, bytes]:
    lmtp.putcmd(f"BDAT {len(chunk)}{last}")
    if chunk:
        lmtp.send(chunk)
    return lmtp.getreply()


def _expect(answer: tuple[int, bytes], what: str) -> None:
    code, reply = answer
    if 200 <= code < 300:
        return
    text = f"LMTP {what}: {code} {reply.decode('utf-8', 'replace')}"
    if code >= 500:
        raise LmtpRefused(text)
    raise LmtpAway(text)


def _address(address: str) -> str:
    """*address* if it can stand in a command, else the empty one."""
    fits = (
        address.isascii() and address.isprintable() and " " not in address and len(address) <= _ADDRESS_LIMIT
    )
    return address if fits and not set(address) & set("<>") else ""


def xtext(address: str) -> str:
    """*address* as RFC 3461 (section 4) writes it in a parameter."""
    return "".join(
        chr(one) if 33 <= one <= 126 and one not in b"+=" else f"+{one:02X}" for one in address.encode()
    )
