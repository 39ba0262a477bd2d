"""Messages that SES took and has not delivered yet: the SES edge fetches them from here.

Whoever sends, by SMTP or by the API, the message comes here, so delivery and its events are in one place. SES
answers 250 when it has a message safe, so each is a file before that, and outlives the process.
"""

import functools
import threading
import time
from pathlib import Path

from twinmail_localstack import settings
from twinmail_localstack.sent import Sent

LEASE_SECONDS = 20.0
"""How long a fetched message is not given out again."""


class Outbox:
    """A queue with leases, kept in *folder*."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._changed = threading.Condition()
        # Ids begin with the time: the oldest first.
        self._messages = {path.stem: Sent.load(path) for path in sorted(folder.glob("*.json"))}
        self._leased: dict[str, float] = {}
        self._closed = False

    def close(self) -> None:
        """Let nobody wait any more: LocalStack stops, and would wait for those who do."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def add(self, sent: Sent) -> None:
        """Add one; it is safe when this returns."""
        sent.save(self._file(sent.ses_id))
        with self._changed:
            self._messages[sent.ses_id] = sent
            self._changed.notify()

    def take(self, seconds: float) -> Sent | None:
        """Lease the oldest that nobody has, waiting *seconds* for one."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while True:
                now = time.monotonic()
                for ses_id, sent in self._messages.items():
                    if self._leased.get(ses_id, 0.0) <= now:
                        self._leased[ses_id] = now + LEASE_SECONDS
                        return sent
                if self._closed or now >= deadline:
                    return None
                self._changed.wait(min(deadline - now, 1.0))

    def data(self, ses_id: str) -> bytes | None:
        """The message *ses_id*."""
        with self._changed:
            sent = self._messages.get(ses_id)
        return sent.data if sent else None

    def remove(self, ses_id: str) -> None:
        """It is delivered."""
        with self._changed:
            if self._messages.pop(ses_id, None) is not None:
                self._file(ses_id).unlink(missing_ok=True)
            self._leased.pop(ses_id, None)

    def give_back(self, ses_id: str) -> None:
        """It is not delivered, and due again after a second."""
        with self._changed:
            if ses_id in self._messages:
                self._leased[ses_id] = time.monotonic() + 1.0

    def _file(self, ses_id: str) -> Path:
        return self._folder / f"{ses_id}.json"


@functools.cache
def outbox() -> Outbox:
    """The one of this process."""
    return Outbox(settings.current().state / "outbox")
