"""Takes down what Pigeonhole sends while it is asked: a mail server for one question, which sends nothing.

Pigeonhole hands an answer or a redirect to ``submission_host`` while the question waits, and takes a 250 for
"sent". Who asks, names a port of loopback that is open for this question only, so what arrives there belongs
to it (RFC 5321; no extension is offered, since none is needed).
"""

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

LOOPBACK = "127.0.0.1"
# Of an answer that is kept; a redirected message is longer, and the log has it.
MESSAGE_LIMIT = 256 * 1024
_LINE_LIMIT = 64 * 1024
_SECONDS = 20.0
# More than `sieve_max_redirects` and an answer.
_SUBMISSIONS = 16


@dataclass(frozen=True)
class Submission:
    """One message as it was handed over.

    Attributes:
        message: its first `MESSAGE_LIMIT` octets.
        whole: whether these are all.
    """

    mail_from: str
    rcpt_to: tuple[str, ...]
    message: bytes
    whole: bool


class Capture:
    """Listens on a free port of loopback from construction until `close`."""

    def __init__(self) -> None:
        self._listener = socket.create_server((LOOPBACK, 0), backlog=_SUBMISSIONS)
        self._taken: list[Submission] = []
        self._thread = threading.Thread(target=self._serve, name="capture", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._listener.getsockname()[1]
        return port

    def close(self) -> tuple[Submission, ...]:
        """Stop listening and return what was handed over, in order."""
        # A shutdown ends the accept in hand; a close alone would leave the thread in it.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(_SECONDS)
        return tuple(self._taken)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(_SECONDS)
                try:
                    with connection.makefile("rb") as lines:
                        self._session(connection, lines)
                except (OSError, ValueError):
                    # Pigeonhole says in its log that it could not send.
                    continue

    def _session(self, connection: socket.socket, lines: BinaryIO) -> None:
        def say(reply: str) -> None:
            connection.sendall(f"{reply}\r\n".encode("ascii"))

        mail_from, rcpt_to = "", list[str]()
        say("220 twinmail")
        while line := lines.readline(_LINE_LIMIT):
            verb = line[:4].upper()
            if verb == b"MAIL":
                mail_from, rcpt_to = _path(line), []
                say("250 OK")
            elif verb == b"RCPT":
                rcpt_to.append(_path(line))
                say("250 OK")
            elif verb == b"DATA":
                say("354 go on")
                message, whole = _data(lines)
                if len(self._taken) >= _SUBMISSIONS:
                    say("452 too many")
                    continue
                self._taken.append(Submission(mail_from, tuple(rcpt_to), message, whole))
                say("250 OK")
            elif verb == b"QUIT":
                say("221 bye")
                return
            elif verb in (b"EHLO", b"HELO", b"RSET", b"NOOP"):
                say("250 OK")
            else:
                say("502 not here")


def _path(line: bytes) -> str:
    """The address between the angle brackets of MAIL or RCPT; source routes are not used here."""
    return line.partition(b"<")[2].rpartition(b">")[0].decode("utf-8", "replace")


def _data(lines: BinaryIO) -> tuple[bytes, bool]:
    """Read up to the line with a dot, without the dots that hide others (RFC 5321, 4.5.2)."""
    message, size, starts = bytearray(), 0, True
    while line := lines.readline(_LINE_LIMIT):
        if starts and line == b".\r\n":
            return bytes(message), size <= MESSAGE_LIMIT
        text = line[1:] if starts and line.startswith(b".") else line
        size += len(text)
        message += text[: max(0, MESSAGE_LIMIT - len(message))]
        # A line longer than the limit comes in pieces.
        starts = line.endswith(b"\n")
    raise ValueError("the connection ended within a message")
