"""IMAP on the wire, for what mail libraries hide: the order of untagged answers, QRESYNC, COMPRESS."""

import re
import socket
import ssl
import zlib
from dataclasses import dataclass

_LITERAL = re.compile(rb"\{(\d+)\}\r\n\Z")


@dataclass(frozen=True)
class Answer:
    """What came between a command and its end.

    Attributes:
        status: ``OK``, ``NO`` or ``BAD``.
        text: the rest of the tagged line, response code included.
        untagged: the untagged answers in the order of their arrival, without ``* `` and line end, literals
            in place.
    """

    status: str
    text: bytes
    untagged: tuple[bytes, ...]

    def all(self, pattern: bytes) -> list[re.Match[bytes]]:
        """The untagged answers that begin with *pattern*."""
        return [match for line in self.untagged if (match := re.match(pattern, line, re.DOTALL))]


class Session:
    """One connection; every wait ends after *timeout* seconds."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext, timeout: float = 60) -> None:
        plain = socket.create_connection((host, port), timeout=timeout)
        self._socket = tls.wrap_socket(plain, server_hostname=host)
        self._buffer = b""
        self._number = 0
        self._inflate = None
        self._deflate = None
        self.octets_received = 0
        self.greeting = self._response()

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ok(self, command: str | bytes, literal: bytes | None = None) -> Answer:
        """Do *command*, which must succeed."""
        answer = self.do(command, literal)
        assert answer.status == "OK", (command, answer)
        return answer

    def do(self, command: str | bytes, literal: bytes | None = None) -> Answer:
        """Send *command*, with a *literal* at its end if there is one, and wait for its end."""
        self._number += 1
        tag = b"t%d" % self._number
        line = command.encode() if isinstance(command, str) else command
        if literal is None:
            self._send(tag + b" " + line + b"\r\n")
        else:
            self._send(tag + b" " + line + b" {%d+}\r\n" % len(literal) + literal + b"\r\n")
        untagged = []
        while True:
            response = self._response()
            if response.startswith(b"* "):
                untagged.append(response[2:])
            else:
                assert response.startswith(tag + b" "), (command, response)
                status, _, text = response[len(tag) + 1 :].partition(b" ")
                return Answer(status.decode(), text, tuple(untagged))

    def compress(self) -> None:
        """Compress both directions from here on (RFC 4978)."""
        self.ok("COMPRESS DEFLATE")
        assert not self._buffer
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)

    def _send(self, octets: bytes) -> None:
        if self._deflate:
            octets = self._deflate.compress(octets) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        self._socket.sendall(octets)

    def _more(self) -> None:
        octets = self._socket.recv(65536)
        assert octets, f"the server ended the connection; not yet understood: {self._buffer[:200]!r}"
        self.octets_received += len(octets)
        self._buffer += self._inflate.decompress(octets) if self._inflate else octets

    def _response(self) -> bytes:
        whole = b""
        while True:
            while (end := self._buffer.find(b"\r\n")) < 0:
                self._more()
            line, self._buffer = self._buffer[: end + 2], self._buffer[end + 2 :]
            whole += line
            literal = _LITERAL.search(line)
            if not literal:
                return whole[:-2]
            size = int(literal[1])
            while len(self._buffer) < size:
                self._more()
            whole += self._buffer[:size]
            self._buffer = self._buffer[size:]
