"""One invocation of the Lambda function: every message of its event, and one line of JSON about each."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from twinmail.errors import PermanentError
from twinmail.layout import SETUP_NOTIFICATION
from twinmail.processor import Outcome
from twinmail.ses_event import Receipt, receipts

Process = Callable[[Receipt], Outcome]
Write = Callable[[str], None]


def run(event: Mapping[str, Any], process: Process, write: Write) -> None:
    """Process the messages of *event*; one that fails does not keep the others from being tried.

    Raises:
        Exception: the first failure, after all were tried. Lambda then repeats the whole event, twice, which
            is safe, and at last puts it into the dead-letter queue: nothing that SES accepted is dropped,
            also not an event that can never work.
    """
    failures: list[Exception] = []
    for receipt in receipts(event):
        if receipt.ses_id == SETUP_NOTIFICATION:
            continue
        started = time.monotonic()
        try:
            line = _done(process(receipt))
        except Exception as error:  # noqa: BLE001  whatever it is, it is logged with its message and raised below
            failures.append(error)
            line = {
                "event": "failed",
                "error": f"{type(error).__name__}: {error}",
                "retry": not isinstance(error, PermanentError),
            }
        milliseconds = round((time.monotonic() - started) * 1000)
        write(json.dumps({"ses_id": receipt.ses_id, "milliseconds": milliseconds, **line}))
    if failures:
        raise failures[0]


def _done(outcome: Outcome) -> Mapping[str, Any]:
    entry = outcome.entry
    if entry is None:
        return {"event": "repeated", "manifest": outcome.manifest_key}
    return {
        "event": "committed",
        "manifest": outcome.manifest_key,
        "key": entry.key,
        "size": entry.size,
        "deliveries": [f"{one.mailbox}/{one.folder}" for one in entry.deliveries],
        "unknown": list(outcome.unknown),
    }
