"""A ManageSieve client (RFC 5804), as small as tests need it: implicit TLS, one script at a time."""

import base64
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

_SECONDS = 30.0


class Refused(Exception):
    """The server answered NO or BYE; the text is its own."""


class ManageSieve:
    """A logged-in session, or one that is not yet (`login`)."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext) -> None:
        plain = socket.create_connection((host, port), timeout=_SECONDS)
        self._connection = tls.wrap_socket(plain, server_hostname=host)
        self._file = self._connection.makefile("rb")
        self.capabilities = self._answer()

    def close(self) -> None:
        self._file.close()
        self._connection.close()

    def login(self, user: str, password: str) -> None:
        secret = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
        self._command(f'AUTHENTICATE "PLAIN" "{secret}"')

    def put(self, name: str, script: str) -> list[str]:
        """Store *script*; what the compiler warns about is returned."""
        octets = script.encode()
        return self._command(f'PUTSCRIPT "{name}" {{{len(octets)}+}}\r\n{script}')

    def activate(self, name: str) -> None:
        self._command(f'SETACTIVE "{name}"')

    def delete(self, name: str) -> None:
        self._command(f'DELETESCRIPT "{name}"')

    def get(self, name: str) -> str:
        return "\n".join(self._command(f'GETSCRIPT "{name}"'))

    def scripts(self) -> dict[str, bool]:
        """Whether each script is the active one, by name."""
        found = {}
        for line in self._command("LISTSCRIPTS"):
            match = re.fullmatch(r'"([^"]*)"( ACTIVE)?', line)
            assert match, line
            found[match[1]] = match[2] is not None
        return found

    def _command(self, line: str) -> list[str]:
        self._connection.sendall(f"{line}\r\n".encode())
        return self._answer()

    def _answer(self) -> list[str]:
        lines: list[str] = []
        while True:
            line = self._line()
            if line.upper().startswith("OK"):
                return lines
            if line.upper().startswith(("NO", "BYE")):
                raise Refused(line)
            lines.append(line)

    def _line(self) -> str:
        """One line; a literal at its end belongs to it."""
        line = self._file.readline().decode().rstrip("\r\n")
        if not line:
            raise Refused("the connection ended")
        match = re.search(r"\{([0-9]+)\+?\}$", line)
        if match:
            line = line[: match.start()] + self._file.read(int(match[1])).decode() + self._line_rest()
        return line

    def _line_rest(self) -> str:
        return self._file.readline().decode().rstrip("\r\n")


@contextmanager
def managesieve(host: str, port: int, tls: ssl.SSLContext, user: str, password: str) -> Iterator[ManageSieve]:
    """Log in, and end the session at the end."""
    client = ManageSieve(host, port, tls)
    try:
        client.login(user, password)
        yield client
    finally:
        client.close()
