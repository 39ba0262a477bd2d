"""The two services the syncer reads from, as it sees them; one contract test runs against every one."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from twinmail.errors import TransientError


class SourceUnavailable(TransientError):
    """The store does not answer, or not with what was asked for."""


class QueueUnavailable(TransientError):
    """The queue does not answer."""


class ObjectMissing(TransientError):
    """The store answers, but the object is not there (any more, or yet)."""


class Source(Protocol):
    """The bucket."""

    def keys_after(self, offset: str) -> Iterator[list[str]]:
        """Pages of the manifest keys that sort after *offset*, in order.

        Raises:
            SourceUnavailable: also while iterating.
        """

    def read(self, key: str) -> Iterator[bytes]:
        """The octets of the object *key*, in pieces.

        Raises:
            SourceUnavailable: also while iterating.
            ObjectMissing: there is no such object.
        """

    def each(self, keys: Sequence[str], most: int, take: Callable[[str, bytes], None]) -> None:
        """Give *take* the objects *keys*, without those that are absent or have more than *most* octets.

        Many are read at a time and held in memory; *take* is called here, in no order, and what it raises
        ends this.

        Raises:
            SourceUnavailable.
        """

    def each_entry(
        self, keys: Sequence[str], most: int, take: Callable[[str, bytes, bytes | None], None]
    ) -> None:
        """Give *take* the manifest entries *keys*, each with its message where one request brings both.

        As `each` otherwise; a message may be None for any reason, and is then read by its own key.

        Raises:
            SourceUnavailable.
        """


def read_all(source: Source, keys: Sequence[str], most: int) -> dict[str, bytes]:
    """The objects that `Source.each` gives, by key.

    Raises:
        SourceUnavailable.
    """
    found: dict[str, bytes] = {}
    source.each(keys, most, found.__setitem__)
    return found


@dataclass(frozen=True)
class Notification:
    """A message of the queue.

    Attributes:
        receipt: what to acknowledge it by.
        attempt: how many times it was received, this time included.
    """

    receipt: str
    body: str
    attempt: int = 1


class Queue(Protocol):
    """The queue of this server."""

    def connect(self) -> None:
        """Find the queue.

        Raises:
            QueueUnavailable: also when it does not exist.
        """

    def receive(self) -> list[Notification]:
        """Wait for notifications, at most one long poll.

        Raises:
            QueueUnavailable.
        """

    def acknowledge(self, notification: Notification) -> None:
        """Forget *notification*.

        Raises:
            QueueUnavailable.
        """

    def release(self, notification: Notification, seconds: int) -> None:
        """Announce *notification* again after *seconds*.

        Raises:
            QueueUnavailable.
        """
