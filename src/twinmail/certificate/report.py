"""What whoever keeps a certificate says of itself, for who watches it: a JSON file beside the certificate."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from twinmail import durable_file
from twinmail.certificate.place import REPORT

_VERSION = 1


@dataclass(frozen=True)
class Report:
    """How the last attempt went.

    Attributes:
        at: when this was said, ISO 8601.
        error: why the last attempt failed; empty if it did not.
        failures: attempts that failed in a row.
        next_attempt: when the next one is due, ISO 8601.
    """

    at: str
    error: str = ""
    failures: int = 0
    next_attempt: str = ""

    def save(self, folder: Path) -> None:
        """Say it in *folder*.

        Raises:
            NotWritten: transient.
        """
        text = json.dumps({"version": _VERSION, **asdict(self)}, indent=1)
        durable_file.write(folder / REPORT, f"{text}\n".encode(), mode=0o600)

    @classmethod
    def load(cls, folder: Path) -> "Report | None":
        """What was said in *folder*; None if nothing was, or nothing that is understood here."""
        try:
            document = json.loads((folder / REPORT).read_text("utf-8"))
            if document.pop("version") != _VERSION:
                return None
            return cls(**document)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
