"""What a server says of itself, over whatever way leads to it: the syncer's pages are on its own loopback."""

import http.client
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from twinmail.errors import TransientError

SECONDS = 5.0
STREAM_SECONDS = 120.0
"""The longest silence within a stream."""


class Unreachable(TransientError):
    """A server's page could not be read; the text says where and why."""


class Page(Protocol):
    """A way to the pages of one server's syncer (`twinmail.sync.health`).

    Attributes:
        where: for messages.
    """

    @property
    def where(self) -> str: ...

    def read(self, path: str, request: bytes | None = None) -> bytes:
        """The octets of the page at *path*, or of the answer to *request*, which is posted there.

        Raises:
            Unreachable: also if the request is refused; the text says why.
        """

    def lines(self, path: str) -> Iterator[bytes]:
        """The lines of the page at *path*, as they come; a page may be larger than memory.

        Raises:
            Unreachable: also while iterating.
        """


@dataclass(frozen=True)
class LocalPage:
    """The pages at *where*, ``HOST:PORT``, which this machine reaches."""

    where: str

    def read(self, path: str, request: bytes | None = None) -> bytes:
        """See `Page`."""
        connection = http.client.HTTPConnection(self.where, timeout=SECONDS)
        try:
            connection.request("GET" if request is None else "POST", path, request)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status not in (200, 202):
                said = " ".join(body.decode("utf-8", "replace").split())[:300]
                raise Unreachable(f"{self.where}{path}: expected 200, got {answer.status}: {said}")
            return body
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{self.where}: {error}") from error
        finally:
            connection.close()

    def lines(self, path: str) -> Iterator[bytes]:
        """See `Page`."""
        connection = http.client.HTTPConnection(self.where, timeout=STREAM_SECONDS)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            if answer.status != http.client.OK:
                said = " ".join(answer.read().decode("utf-8", "replace").split())[:300]
                raise Unreachable(f"{self.where}{path}: expected 200, got {answer.status}: {said}")
            yield from answer
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{self.where}: {error}") from error
        finally:
            connection.close()
