"""The SES edge as a process of its own, and a client that sends exactly the octets it is given."""

import contextlib
import json
import os
import signal
import smtplib
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from twinmail.send import on_the_wire

LOCALSTACK = Path(__file__).parents[1] / "localstack"
DEADLINE = 30.0

Found = TypeVar("Found")


class EdgeProcess:
    """``python -m twinmail_localstack.edge``, talking to the LocalStack at *endpoint*.

    Attributes:
        log: the log lines so far.
    """

    def __init__(self, endpoint: str, arguments: Sequence[str] = ()) -> None:
        environment = {
            **os.environ,
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "PYTHONPATH": f"{LOCALSTACK}:{LOCALSTACK.with_name('src')}",
        }
        listen = [
            *("--listen", "127.0.0.1:0"),
            *("--submission", "127.0.0.1:0"),
            *("--submissions", "127.0.0.1:0"),
        ]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "twinmail_localstack.edge", *listen, *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.log: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        ready = self.wait_for("ready")
        self.inbound = _address(ready["listen"])
        self.submission = _address(ready["submission"])
        self.submissions = _address(ready["submissions"])

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.log.append(json.loads(line))

    def wait_for(self, event: str, **details: Any) -> dict[str, Any]:
        """The first log line of *event* with these *details*."""
        return poll(
            lambda: next(
                (one for one in self.log if one["event"] == event and details.items() <= one.items()), None
            ),
            f"log line {event} {details}",
        )

    def terminate(self) -> None:
        """Ask it to stop."""
        self._process.send_signal(signal.SIGTERM)

    def ended(self) -> int:
        """Wait for its end; return the exit code."""
        code = self._process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        return code

    def stop(self) -> None:
        """Stop it, whatever it does."""
        self._process.terminate()
        try:
            self._process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(DEADLINE)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


@contextlib.contextmanager
def running_edge(endpoint: str, arguments: Sequence[str] = ()) -> Iterator[EdgeProcess]:
    """An edge that is stopped at the end."""
    edge = EdgeProcess(endpoint, arguments)
    try:
        yield edge
    finally:
        edge.stop()


def poll(attempt: Callable[[], Found | None], what: str) -> Found:
    """Try until something comes of it."""
    deadline = time.monotonic() + DEADLINE
    while True:
        result = attempt()
        if result is not None:
            return result
        assert time.monotonic() < deadline, f"{what}: not within {DEADLINE} s"
        time.sleep(0.02)


class Client(smtplib.SMTP):
    """smtplib, with DATA that mends nothing."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(*address, local_hostname="client.example.com", timeout=DEADLINE)
        self.ehlo()

    def encrypt(self) -> None:
        """STARTTLS with any certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.starttls(context=context)
        self.ehlo()

    def transaction(
        self, content: bytes, recipients: Sequence[str], sender: str = "sender@example.com"
    ) -> tuple[int, str]:
        """Send *content* to *recipients*, who must all be accepted; return the final answer."""
        assert self.docmd("MAIL", f"FROM:<{sender}>")[0] == 250
        for recipient in recipients:
            code, text = self.docmd("RCPT", f"TO:<{recipient}>")
            assert code == 250, (recipient, code, text)
        assert self.docmd("DATA")[0] == 354
        whole = content if content.endswith(b"\r\n") or not content else content + b"\r\n"
        self.send(on_the_wire(whole))
        code, answer = self.getreply()
        return code, answer.decode()

    def accepted(self, content: bytes, recipients: Sequence[str], sender: str = "sender@example.com") -> str:
        """Send *content*; return its SES message id."""
        code, answer = self.transaction(content, recipients, sender)
        assert code == 250, (code, answer)
        return answer.split()[1]
