"""Senders on the Internet, who try again until they hear 250, and remember what they heard."""

import smtplib
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum

from twinmail.chaos.letters import Letter
from twinmail.send import on_the_wire

CONNECTIONS = 6
_TIMEOUT_SECONDS = 90.0
_PAUSE_SECONDS = 0.3
_OK, _GO_ON = 250, 354
_PERMANENT = 500


class Heard(Enum):
    """What a sender knows of an attempt."""

    ACCEPTED = "accepted"  # 250: from now on the message is ours
    REFUSED = "refused"  # it still is the sender's
    UNKNOWN = "unknown"  # the answer to a complete message was lost: it may be ours or not


class Rejected(Exception):
    """The server refused a message for good, which it must not."""


@dataclass(frozen=True)
class Attempt:
    """One attempt to send a message.

    Attributes:
        ses_id: SES message id, if it was accepted.
    """

    letter: Letter
    number: int
    heard: Heard
    ses_id: str = ""


class Traffic:
    """Sends messages to *host* and *port* over a few connections.

    Attributes:
        attempts: all that were made so far.
    """

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._guard = threading.Lock()
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="sender")
        self._own = threading.local()
        self._numbers: dict[int, int] = {}
        self.attempts: list[Attempt] = []

    def send(self, letters: Iterable[Letter]) -> "Batch":
        """Begin to send *letters*."""
        return Batch([self._pool.submit(self._until_accepted, one) for one in letters])

    def counts(self) -> Mapping[Heard, int]:
        """How many attempts ended how."""
        with self._guard:
            heard = [one.heard for one in self.attempts]
        return {one: heard.count(one) for one in Heard}

    def close(self) -> None:
        """Give up what is not accepted yet, and end."""
        self._stopping.set()
        self._pool.shutdown(cancel_futures=True)

    def _until_accepted(self, letter: Letter) -> None:
        while not self._stopping.is_set():
            with self._guard:
                number = self._numbers[letter.number] = self._numbers.get(letter.number, 0) + 1
            heard, ses_id = self._attempt(letter, number)
            with self._guard:
                self.attempts.append(Attempt(letter, number, heard, ses_id))
            if heard is Heard.ACCEPTED:
                return
            self._stopping.wait(_PAUSE_SECONDS)

    def _attempt(self, letter: Letter, number: int) -> tuple[Heard, str]:
        offered = False
        try:
            client = self._client()
            _expect(client.docmd("MAIL", "FROM:<sender@example.com>"), _OK)
            for recipient in letter.rcpt_to:
                _expect(client.docmd("RCPT", f"TO:<{recipient}>"), _OK)
            _expect(client.docmd("DATA"), _GO_ON)
            content = on_the_wire(letter.octets(number))
            # With the first octet of the end of data it may be accepted.
            offered = True
            client.send(content)
            code, text = client.getreply()
            if code == _OK:
                return Heard.ACCEPTED, text.decode("ascii", "replace").split()[1]
            _expect((code, text), _OK)
            raise AssertionError
        except _Refused:
            self._forget()
            return Heard.REFUSED, ""
        except (OSError, smtplib.SMTPException):
            self._forget()
            return (Heard.UNKNOWN if offered else Heard.REFUSED), ""

    def _client(self) -> smtplib.SMTP:
        client: smtplib.SMTP | None = getattr(self._own, "client", None)
        if client is None:
            client = smtplib.SMTP(*self._address, timeout=_TIMEOUT_SECONDS)
            client.ehlo("sender.example.com")
            self._own.client = client
        return client

    def _forget(self) -> None:
        client: smtplib.SMTP | None = getattr(self._own, "client", None)
        self._own.client = None
        if client is not None:
            client.close()


class Batch:
    """Messages that are being sent."""

    def __init__(self, futures: list[object]) -> None:
        self._futures = futures

    @property
    def done(self) -> bool:
        """Whether each of them was accepted.

        Raises:
            Rejected: one was refused for good.
        """
        for one in self._futures:
            if not one.done():  # type: ignore[attr-defined]
                return False
            one.result()  # type: ignore[attr-defined]
        return True


class _Refused(Exception):
    """The server said no, for now."""


def _expect(answer: tuple[int, bytes], code: int) -> None:
    if answer[0] == code:
        return
    if answer[0] >= _PERMANENT:
        raise Rejected(f"the edge answered {answer[0]} {answer[1].decode('ascii', 'replace')}")
    raise _Refused
