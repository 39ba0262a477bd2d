"""One invocation: which messages are tried, what is logged, and what Lambda gets to repeat."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from twinmail.errors import PermanentError, TransientError
from twinmail.invocation import run
from twinmail.layout import SETUP_NOTIFICATION
from twinmail.processor import Outcome
from twinmail.sending_event import SendingEvent
from twinmail.ses_event import EventError, Receipt


def event(*ses_ids: str) -> dict[str, Any]:
    return {
        "Records": [
            {
                "ses": {
                    "mail": {"timestamp": "2026-11-22T10:00:00.000Z", "messageId": one},
                    "receipt": {"recipients": ["ann@example.org"]},
                }
            }
            for one in ses_ids
        ]
    }


class Log(list[dict[str, Any]]):
    def __call__(self, line: str) -> None:
        assert "\n" not in line
        self.append(json.loads(line))


def repeated(receipt: Receipt) -> Outcome:
    return Outcome(None, f"manifest/{receipt.ses_id}")


def unexpected(event: SendingEvent) -> Mapping[str, Any]:
    raise AssertionError(f"not from SNS: {event}")


def test_each_message_is_one_line() -> None:
    log = Log()
    run(event("a", "b"), repeated, unexpected, log)
    assert [(one["ses_id"], one["event"], one["manifest"]) for one in log] == [
        ("a", "repeated", "manifest/a"),
        ("b", "repeated", "manifest/b"),
    ]
    assert all(one["milliseconds"] >= 0 for one in log)


def test_setup_notification_is_no_message() -> None:
    log = Log()
    run(event(SETUP_NOTIFICATION), repeated, unexpected, log)
    assert not log


@pytest.mark.parametrize(
    ("error", "retry"), [(TransientError, True), (PermanentError, False), (OSError, True)]
)
def test_failure_is_logged_raised_and_keeps_nobody_waiting(error: type[Exception], retry: bool) -> None:
    log = Log()

    def process(receipt: Receipt) -> Outcome:
        if receipt.ses_id == "bad":
            raise error("broken\nhere")
        return repeated(receipt)

    with pytest.raises(error, match="broken"):
        run(event("bad", "good"), process, unexpected, log)
    assert [(one["ses_id"], one["event"]) for one in log] == [("bad", "failed"), ("good", "repeated")]
    assert log[0]["error"] == f"{error.__name__}: broken\nhere" and log[0]["retry"] is retry


def test_other_event_ends_in_the_dead_letter_queue() -> None:
    with pytest.raises(EventError, match="Records"):
        run({"Records": []}, repeated, unexpected, Log())
