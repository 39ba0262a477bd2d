"""What the edge asks LocalStack beside AWS's own operations; see `twinmail_localstack.smtp_endpoint`."""

import base64
import http.client
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from twinmail_localstack.sent import Sent

_SECONDS = 30.0


class Unreachable(Exception):
    """LocalStack did not answer, or not as expected."""


class NotSent(Exception):
    """SES refused a message.

    Attributes:
        code: the API's name of the error.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class LocalStack:
    """LocalStack at the URL *endpoint*; blocking, to be called in a thread."""

    endpoint: str

    def may_log_in(self, user: str, password: str) -> bool:
        """Whether *user* is an active access key, and *password* its SMTP password.

        Raises:
            Unreachable.
        """
        body = json.dumps({"user": user, "password": password}).encode()
        return self._ask("POST", "/_twinmail/smtp/login", (204, 403), body)[0] == 204

    def send(self, user: str, root: bool, source: str, destinations: Sequence[str], data: bytes) -> str:
        """Send as *user*, and return SES's message id.

        Raises:
            NotSent: it is refused.
            Unreachable.
        """
        envelope = {"user": user, "root": root, "source": source, "destinations": list(destinations)}
        header = base64.b64encode(json.dumps(envelope).encode()).decode("ascii")
        status, answer = self._ask(
            "POST", "/_twinmail/smtp/messages", (200, 400), data, {"X-Twinmail-Envelope": header}
        )
        document = json.loads(answer)
        if status == 400:
            raise NotSent(document["code"], document["text"])
        return str(document["id"])

    def next_message(self) -> Sent | None:
        """The next message to deliver; None after some seconds without one.

        Raises:
            Unreachable.
        """
        status, answer = self._ask("GET", "/_twinmail/outbox", (200, 204))
        if status == 204:
            return None
        document: dict[str, Any] = json.loads(answer)
        _, data = self._ask("GET", f"/_twinmail/outbox/{document['ses_id']}", (200,))
        return Sent.read(document, data)

    def done(self, ses_id: str, again: bool) -> None:
        """Remove the message *ses_id* from the outbox, or give it back.

        Raises:
            Unreachable.
        """
        self._ask("DELETE", f"/_twinmail/outbox/{ses_id}{'?again' if again else ''}", (204,))

    def _ask(
        self,
        method: str,
        path: str,
        expected: Sequence[int],
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        parts = urlsplit(self.endpoint)
        connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=_SECONDS)
        try:
            named = {"Content-Type": "application/octet-stream", **(headers or {})}
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{method} {path}: {error}") from error
        finally:
            connection.close()
        if answer.status not in expected:
            raise Unreachable(f"{method} {path}: expected {expected}, got {answer.status}")
        return answer.status, content
