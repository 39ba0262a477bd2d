"""A message that SES took: what LocalStack keeps of it, and tells the edge that delivers it."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Report:
    """Where a configuration set reports its *events* (``send``, ``bounce``, …; lower case)."""

    topic: str
    events: frozenset[str]


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
    reports: tuple[Report, ...]
    identities: tuple[str, ...]
    data: bytes = field(repr=False)

    @classmethod
    def read(cls, document: Mapping[str, Any], data: bytes) -> "Sent":
        """The message *data* with what `describe` told of it."""
        values = dict(document)
        values["at"] = datetime.fromisoformat(values["at"])
        values["destinations"] = tuple(values["destinations"])
        values["identities"] = tuple(values["identities"])
        values["reports"] = tuple(
            Report(one["topic"], frozenset(event.lower() for event in one["events"]))
            for one in values["reports"]
        )
        return cls(data=data, **values)

    def describe(self) -> Mapping[str, Any]:
        """All but the message itself, for JSON."""
        document = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "data"}
        document["at"] = self.at.isoformat()
        document["reports"] = [{"topic": one.topic, "events": sorted(one.events)} for one in self.reports]
        return document

    @classmethod
    def load(cls, path: Path) -> "Sent":
        """Read what `save` wrote."""
        document = json.loads(path.read_text())
        data = base64.b64decode(document.pop("data"))
        return cls.read(document, data)

    def save(self, path: Path) -> None:
        """Write it to *path*, at once or not at all."""
        temporary = path.with_suffix(".new")
        data = base64.b64encode(self.data).decode("ascii")
        temporary.write_text(json.dumps({**self.describe(), "data": data}))
        temporary.replace(path)
