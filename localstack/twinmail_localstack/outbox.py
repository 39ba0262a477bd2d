"""Messages that SES took and has not delivered yet: the SES edge fetches them from here.

Whoever sends, by SMTP or by the API, the message comes here, so delivery and its events are in one place. SES
answers 250 when it has a message safe, so each is a file before that, and outlives the process.
"""

import base64
import functools
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from twinmail_localstack import settings

LEASE_SECONDS = 20.0
"""How long a fetched message is not given out again."""


@dataclass(frozen=True)
class Destination:
    """Where a configuration set reports the *events* (``send``, ``bounce``, …) of a message."""

    topic: str
    events: tuple[str, ...]


@dataclass(frozen=True)
class Sent:
    """One message that SES took.

    Attributes:
        ses_id: SES message id, which becomes its Message-ID.
        source: envelope sender.
        caller: name of the IAM user, or "root".
        operation: ``SendSmtpEmail`` or ``SendRawEmail``.
        identities: verified domains, whose unknown recipients bounce.
    """

    ses_id: str
    at: datetime
    source: str
    destinations: tuple[str, ...]
    account: str
    source_arn: str
    caller: str
    operation: str
    configuration_set: str
    reports: tuple[Destination, ...]
    identities: tuple[str, ...]
    data: bytes = field(repr=False)

    @classmethod
    def load(cls, path: Path) -> "Sent":
        """Read what `save` wrote."""
        document = json.loads(path.read_text())
        document["at"] = datetime.fromisoformat(document["at"])
        document["data"] = base64.b64decode(document["data"])
        document["reports"] = tuple(
            Destination(one["topic"], tuple(one["events"])) for one in document["reports"]
        )
        for name in ("destinations", "identities"):
            document[name] = tuple(document[name])
        return cls(**document)

    def save(self, path: Path) -> None:
        """Write it to *path*, at once or not at all."""
        temporary = path.with_suffix(".new")
        data = base64.b64encode(self.data).decode("ascii")
        temporary.write_text(json.dumps({**self.describe(), "data": data}))
        temporary.replace(path)

    def describe(self) -> Mapping[str, Any]:
        """All but the message itself, for JSON."""
        document = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "data"}
        document["at"] = self.at.isoformat()
        document["reports"] = [{"topic": one.topic, "events": list(one.events)} for one in self.reports]
        return document


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
