"""Stands in for Dovecot's LMTP: takes one message a connection and leaves in the shadow what it is told to.

For tests of what happens around the question. What Pigeonhole really answers, the image's tests ask.
"""

import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Received:
    """One message, and the envelope it came with."""

    mail_from: str
    user: str
    recipient: str
    message: bytes


@dataclass
class PigeonholeStub:
    """Listens at ``<mail>/.server/lmtp`` until `close`.

    Attributes:
        files: what a shadow holds afterwards: octets by path in it.
        replies: instead of 250, by command.
        silent: never answer.
        then: called with each message before it is answered.
    """

    mail: Path
    files: dict[str, bytes] = field(default_factory=lambda: {"Maildir/new/1.copy": b""})
    replies: dict[str, str] = field(default_factory=dict)
    silent: bool = False
    then: Callable[[Received], None] = lambda one: None
    received: list[Received] = field(default_factory=list)

    def start(self) -> "PigeonholeStub":
        folder = self.mail / ".server"
        folder.mkdir(parents=True, exist_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._bind(folder)
        self._listener.listen(64)
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def _bind(self, folder: Path) -> None:
        # A unix socket's path is short, a test's folder is not.
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            path = f"/proc/self/fd/{descriptor}/lmtp"
            with suppress(FileNotFoundError):
                (folder / "lmtp").unlink()
            self._listener.bind(path)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with suppress(FileNotFoundError):
            (self.mail / ".server" / "lmtp").unlink()

    def __enter__(self) -> "PigeonholeStub":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._session, args=(connection,), daemon=True).start()

    def _session(self, connection: socket.socket) -> None:
        with suppress(OSError, ValueError), connection, connection.makefile("rwb") as file:

            def say(verb: str, reply: str = "250 OK") -> None:
                file.write(f"{self.replies.get(verb, reply)}\r\n".encode())
                file.flush()

            if self.silent:
                file.read()
            one = Received("", "", "", b"")
            say("connect", "220 stub")
            while line := file.readline():
                words = line.decode().split()
                verb = words[0].upper()
                if verb == "MAIL":
                    one.mail_from = words[1].removeprefix("FROM:").strip("<>")
                elif verb == "RCPT":
                    one.user = words[1].removeprefix("TO:").strip("<>")
                    one.recipient = words[2].removeprefix("ORCPT=rfc822;")
                elif verb == "BDAT":
                    one.message += file.read(int(words[1]))
                    if len(words) > 2:
                        self._deliver(one)
                        verb = "LAST"
                elif verb == "QUIT":
                    say("QUIT", "221 bye")
                    return
                say(verb)

    def _deliver(self, one: Received) -> None:
        self.received.append(one)
        token = one.user.partition("@")[2].partition(".")[0]
        for name, data in self.files.items():
            path = self.mail / ".server" / "decide" / token / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self.then(one)
