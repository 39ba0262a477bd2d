"""Log lines: one JSON object each, on standard output."""

import json
import sys
from datetime import UTC, datetime
from typing import Any


def log(event: str, **details: Any) -> None:
    """Write *event* with its *details* (which must not hold any content of a message)."""
    line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **details}
    sys.stdout.write(json.dumps(line, default=str) + "\n")
    sys.stdout.flush()
