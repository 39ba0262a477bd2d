"""The sessions and settings of this server's Dovecot, reached through a socket on the volume of the mail.

The protocol is doveadm's own (Dovecot's documentation, "Doveadm Server Protocol"): a handshake, then one
line a command, answered by a line that starts with ``+`` or ``-``. Protocol 1.0 has no multiplexing.
"""

import re
import socket
from pathlib import Path

from twinmail.errors import TransientError

SECONDS = 10.0

_PLACE = Path(".server") / "doveadm"
_USER = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_DONE = re.compile(rb"^([+-])([^\n]*)\n", re.MULTILINE)


class SessionsUnavailable(TransientError):
    """Dovecot runs but did not do what it was asked."""


class Sessions:
    """The sessions of all users whose mailboxes are in *mail*."""

    def __init__(self, mail: Path) -> None:
        self._path = mail / _PLACE

    def end(self, user: str) -> None:
        """End every session of *user*; where no Dovecot runs there is none.

        Raises:
            SessionsUnavailable: it did not answer, or refused.
        """
        if not _USER.fullmatch(user):
            raise SessionsUnavailable(f"user {user!r}: expected the name of a mailbox")
        self._ask(f"\t\tkick\t{user}\n", f"sessions of {user} stay open")

    def renew(self) -> None:
        """Have settings and certificates read again; sessions go on. A Dovecot that starts reads them anyway.

        Raises:
            SessionsUnavailable: it did not answer, or refused.
        """
        self._ask("\t\treload\n", "the certificate of before is still served")

    def _ask(self, line: str, otherwise: str) -> None:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(SECONDS)
                try:
                    connection.connect(str(self._path))
                except (FileNotFoundError, ConnectionRefusedError):
                    return
                self._answer(connection, b"VERSION\tdoveadm-server\t1\t0\n")
                self._answer(connection, line.encode("ascii"))
        except OSError as error:
            raise SessionsUnavailable(f"{self._path}: {error}; {otherwise}") from error

    def _answer(self, connection: socket.socket, line: bytes) -> None:
        connection.sendall(line)
        received = b""
        while (found := _DONE.search(received)) is None:
            octets = connection.recv(4096)
            if not octets:
                raise OSError("the connection ended without an answer")
            received += octets
        # Nobody logged in is no failure.
        if found[1] == b"-" and found[2] != b"NOTFOUND":
            raise OSError(f"refused: {found[2].decode('ascii', 'replace') or 'no reason given'}")
