"""The log and the queue of one server in memory, behind the syncer's own interfaces, with faults to order."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import quote_plus

from twinmail.layout import MANIFEST, manifest_key, processed_key
from twinmail.manifest import INBOX, Delivery, Entry, ManifestError
from twinmail.sync.source import Notification, ObjectMissing, QueueUnavailable, SourceUnavailable
from twinmail.sync.state_store import Conflict, Stored

BUCKET = "tests-example-mail"


def entry_of(
    ses_id: str,
    body: bytes,
    arrived: datetime,
    mailboxes: tuple[str, ...] = ("ann",),
    folder: str = INBOX,
) -> Entry:
    """The manifest entry of a message with *body*."""
    return Entry(
        ses_id=ses_id,
        key=processed_key(ses_id, arrived),
        size=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
        arrived=arrived,
        mail_from="sender@example.com",
        rcpt_to=tuple(f"{one}@example.org" for one in mailboxes),
        deliveries=tuple(Delivery(one, folder) for one in mailboxes),
    )


def event(*keys: str, bucket: str = BUCKET) -> str:
    """What S3 tells about new objects."""
    return json.dumps(
        {
            "Records": [
                {
                    "eventSource": "aws:s3",
                    "eventName": "ObjectCreated:Put",
                    "s3": {"bucket": {"name": bucket}, "object": {"key": quote_plus(key, safe="/")}},
                }
                for key in keys
            ]
        }
    )


class LogSimulator:
    """A `Source` in memory.

    Attributes:
        objects: octets by key.
        fault: raised by every call while it is set.
        reads: the keys read, in order; not the messages that came with their entries.
        together: entries bring their messages.
    """

    def __init__(self, page: int = 1000) -> None:
        self.objects: dict[str, bytes] = {}
        self.fault: Exception | None = None
        self.reads: list[str] = []
        self.together = True
        self._page = page

    def put(self, key: str, data: bytes, entry: Entry | None = None) -> None:
        self.objects[key] = data

    def add(
        self,
        ses_id: str,
        body: bytes,
        committed: datetime,
        mailboxes: tuple[str, ...] = ("ann",),
        folder: str = INBOX,
    ) -> str:
        """Store a message and its entry, and return the key of the entry."""
        entry = entry_of(ses_id, body, committed - timedelta(seconds=1), mailboxes, folder)
        key = manifest_key(ses_id, committed)
        self.put(entry.key, body)
        self.put(key, entry.to_bytes())
        return key

    def keys_after(self, offset: str) -> Iterator[list[str]]:
        self._fail()
        keys = sorted(key for key in self.objects if key.startswith(MANIFEST) and key > offset)
        for start in range(0, len(keys), self._page):
            self._fail()
            yield keys[start : start + self._page]

    def read(self, key: str) -> Iterator[bytes]:
        self._fail()
        self.reads.append(key)
        if key not in self.objects:
            raise ObjectMissing(f"s3://{BUCKET}/{key}: there is no such object")
        data = self.objects[key]
        for start in range(0, len(data), 4096):
            yield data[start : start + 4096]

    def each(self, keys: Sequence[str], most: int, take: Callable[[str, bytes], None]) -> None:
        self._fail()
        self.reads += keys
        for key in keys:
            if len(self.objects.get(key, bytes(most + 1))) <= most:
                take(key, self.objects[key])

    def each_entry(
        self, keys: Sequence[str], most: int, take: Callable[[str, bytes, bytes | None], None]
    ) -> None:
        def with_message(key: str, entry: bytes) -> None:
            try:
                message = self.objects.get(Entry.from_bytes(entry).key)
            except ManifestError:
                message = None
            together = self.together and message is not None and len(message) <= most
            take(key, entry, message if together else None)

        self.each(keys, most, with_message)

    def _fail(self) -> None:
        if self.fault is not None:
            raise self.fault


class StateSimulator:
    """A `StateStore` in memory.

    Attributes:
        objects: octets by key.
        fault: raised by every call while it is set.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.fault: Exception | None = None
        self._etags: dict[str, str] = {}
        self._count = 0
        self._lock = threading.Lock()

    def get(self, key: str) -> Stored | None:
        self._fail()
        with self._lock:
            return Stored(self.objects[key], self._etags[key]) if key in self.objects else None

    def create(self, key: str, data: bytes) -> str:
        self._fail()
        with self._lock:
            if key in self.objects:
                raise Conflict(f"s3://{BUCKET}/{key}: exists")
            return self._put(key, data)

    def replace(self, key: str, data: bytes, etag: str) -> str:
        self._fail()
        with self._lock:
            if self._etags.get(key) != etag:
                raise Conflict(f"s3://{BUCKET}/{key}: expected version {etag}, got another")
            return self._put(key, data)

    def put(self, key: str, data: bytes) -> str:
        """Write whatever is there: what tests and the tools do."""
        with self._lock:
            return self._put(key, data)

    def keys(self, prefix: str, after: str = "") -> Iterator[str]:
        self._fail()
        with self._lock:
            found = sorted(key for key in self.objects if key.startswith(prefix) and key > after)
        yield from found

    def versions(self, prefix: str) -> Iterator[tuple[str, str]]:
        self._fail()
        with self._lock:
            found = sorted((key, etag) for key, etag in self._etags.items() if key.startswith(prefix))
        yield from found

    def delete(self, key: str) -> None:
        """Remove *key*: what an operator may do."""
        with self._lock:
            del self.objects[key], self._etags[key]

    def _put(self, key: str, data: bytes) -> str:
        self._count += 1
        self.objects[key] = data
        self._etags[key] = f'"{self._count}"'
        return self._etags[key]

    def _fail(self) -> None:
        if self.fault is not None:
            raise self.fault


class QueueSimulator:
    """A `Queue` in memory: what is received is invisible until released or acknowledged."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self._changed = threading.Condition()
        self._visible: list[Notification] = []
        self._taken: dict[str, Notification] = {}
        self._count = 0

    def send(self, body: str) -> None:
        with self._changed:
            self._count += 1
            self._visible.append(Notification(str(self._count), body, 1))
            self._changed.notify_all()

    @property
    def depth(self) -> int:
        """Notifications that are not acknowledged."""
        with self._changed:
            return len(self._visible) + len(self._taken)

    def connect(self) -> None:
        self._fail()

    def receive(self) -> list[Notification]:
        self._fail()
        with self._changed:
            # A long poll, made short so that tests stop fast.
            self._changed.wait_for(lambda: bool(self._visible), timeout=0.05)
            received, self._visible = self._visible[:10], self._visible[10:]
            self._taken.update({one.receipt: one for one in received})
            return received

    def acknowledge(self, notification: Notification) -> None:
        self._fail()
        with self._changed:
            self._taken.pop(notification.receipt, None)

    def release(self, notification: Notification, seconds: int) -> None:
        self._fail()
        with self._changed:
            one = self._taken.pop(notification.receipt)
            self._visible.append(Notification(one.receipt, one.body, one.attempt + 1))

    def _fail(self) -> None:
        if self.fault is not None:
            raise self.fault


DOWN = SourceUnavailable(f"s3://{BUCKET}: connection refused; check the network")
QUEUE_DOWN = QueueUnavailable("queue tests-primary: connection refused; check the network")


def moment(seconds: float = 0) -> datetime:
    """Now, moved by *seconds*."""
    return datetime.now(UTC) + timedelta(seconds=seconds)


def until(condition: object, what: str, seconds: float = 30) -> None:
    """Wait until *condition* () is true."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not in {seconds} s: {what}"
        time.sleep(0.01)
