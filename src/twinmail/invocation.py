"""One invocation of the Lambda function: everything in its event, and one line of JSON about each.

SES invokes it with messages that came in, SNS with what became of messages that went out.
"""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from twinmail.errors import PermanentError
from twinmail.layout import SETUP_NOTIFICATION
from twinmail.processor import Outcome
from twinmail.sending_event import SendingEvent, is_sns, read
from twinmail.ses_event import Receipt, receipts

Process = Callable[[Receipt], Outcome]
Report = Callable[[SendingEvent], Mapping[str, Any]]
Write = Callable[[str], None]


def run(event: Mapping[str, Any], process: Process, report: Report, write: Write) -> None:
    """Process what is in *event*; one that fails does not keep the others from being tried.

    Raises:
        Exception: the first failure, after all were tried. Lambda then repeats the whole event, twice, which
            is safe, and at last puts it into the dead-letter queue: nothing that SES accepted is dropped,
            also not an event that can never work.
    """
    records = event.get("Records")
    if isinstance(records, list) and records and all(is_sns(one) for one in records):
        work = [_outgoing(one, report) for one in records]
    else:
        work = [_incoming(one, process) for one in receipts(event) if one.ses_id != SETUP_NOTIFICATION]
    failures: list[Exception] = []
    for about, act in work:
        started = time.monotonic()
        try:
            line = act()
        except Exception as error:  # noqa: BLE001  whatever it is, it is logged with its message and raised below
            failures.append(error)
            line = {
                "event": "failed",
                "error": f"{type(error).__name__}: {error}",
                "retry": not isinstance(error, PermanentError),
            }
        milliseconds = round((time.monotonic() - started) * 1000)
        write(json.dumps({**about, "milliseconds": milliseconds, **line}))
    if failures:
        raise failures[0]


Work = tuple[Mapping[str, Any], Callable[[], Mapping[str, Any]]]
"""What it is about, for the log, and what to do."""


def _incoming(receipt: Receipt, process: Process) -> Work:
    return {"ses_id": receipt.ses_id}, lambda: _done(process(receipt))


def _outgoing(record: Mapping[str, Any], report: Report) -> Work:
    about: dict[str, Any] = {}

    def act() -> Mapping[str, Any]:
        event = read(record)
        if event is None:
            return {"event": "ignored"}
        about["ses_id"] = event.ses_id
        return report(event)

    return about, act


def _done(outcome: Outcome) -> Mapping[str, Any]:
    entry = outcome.entry
    if entry is None:
        return {"event": "repeated", "manifest": outcome.manifest_key}
    parked = {"parked": outcome.parked} if outcome.parked else {}
    return {
        "event": "committed",
        "manifest": outcome.manifest_key,
        "key": entry.key,
        "size": entry.size,
        "deliveries": [f"{one.mailbox}/{one.folder}" for one in entry.deliveries],
        "unknown": list(outcome.unknown),
        **parked,
    }
